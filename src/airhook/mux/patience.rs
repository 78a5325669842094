//! How long peers take to answer, and what waits until they have.

use std::time::Duration;

use super::Mux;
use crate::airhook::channel::Channel;
use crate::airhook::round_trip::RoundTrip;
use crate::config::Config;
use crate::context::{Context, Key};
use crate::time::Time;

impl<C: Channel> Mux<C> {
    /// The round trip to this peer, as far as it was measured; how long its answer may take
    /// before the request is repeated; and what round trip is usual for all peers.
    pub fn round_trip(&self, key: Key, config: &Config) -> (RoundTrip, Duration, RoundTrip) {
        match self.get(key) {
            Some(entry) => (entry.connection.round_trip(), entry.connection.patience(config), self.usual),
            None => (RoundTrip::default(), config.initial_probe, self.usual),
        }
    }

    /// Whether this peer has shown that it is there since `began`, and owes nothing but
    /// what it was asked for.
    pub fn is_responsive(&self, key: Key, began: Time) -> bool {
        self.get(key).is_some_and(|entry| {
            entry.link.active > began && entry.connection.is_proven() && !entry.connection.is_silent()
        })
    }

    /// Whether a part of a message has come from this peer, and the rest has not.
    pub fn is_receiving(&self, key: Key) -> bool {
        self.get(key).is_some_and(|entry| entry.channel.waiting() > 0)
    }

    /// A peer has answered a call: its round trip is what is usual, a little.
    pub fn note_answer(&mut self, key: Key) {
        // Measured on packets that are told apart, even when they were repeated (Karn).
        if let Some(measured) = self.get(key).and_then(|entry| entry.connection.round_trip().smoothed()) {
            self.usual.measure(measured);
        }
    }

    /// What is queued for this peer goes out only when it has shown that it receives what
    /// we send.
    pub fn hold(&mut self, ctx: &mut Context<'_>, key: Key) {
        if let Some(entry) = self.get_mut(key) {
            entry.connection.hold(ctx);
            self.queue_if_ready(key);
            self.arm(ctx, key);
        }
    }
}
