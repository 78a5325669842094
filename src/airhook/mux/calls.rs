//! Calls that wait for answers over the connections.

use std::net::SocketAddr;

use super::Mux;
use crate::airhook::channel::Channel;
use crate::context::{Context, Key};
use crate::error::CallError;

/// No call.
const NONE: Key = Key::new(u32::MAX, 0);

/// Calls that wait for an answer from one peer, in their order. Most often that is one.
#[derive(Debug)]
#[expect(clippy::box_collection)]
pub(super) struct Calls {
    first: Key,
    more: Option<Box<Vec<Key>>>,
}

impl Default for Calls {
    fn default() -> Self {
        Calls { first: NONE, more: None }
    }
}

impl Calls {
    fn is_empty(&self) -> bool {
        self.first == NONE
    }

    fn push(&mut self, call: Key) {
        if self.is_empty() {
            self.first = call;
        } else {
            self.more.get_or_insert_default().push(call);
        }
    }

    fn remove(&mut self, call: Key) {
        if let Some(more) = &mut self.more {
            more.retain(|&waiting| waiting != call);
        }
        if self.first == call {
            self.first = match &mut self.more {
                Some(more) if !more.is_empty() => more.remove(0),
                _ => NONE,
            };
        }
        self.more.take_if(|more| more.is_empty());
    }
}

impl IntoIterator for Calls {
    type Item = Key;
    type IntoIter = std::iter::Chain<std::option::IntoIter<Key>, std::vec::IntoIter<Key>>;

    fn into_iter(self) -> Self::IntoIter {
        let first = (!self.is_empty()).then_some(self.first);
        first.into_iter().chain(self.more.map_or_else(Vec::new, |more| *more))
    }
}

/// After so many calls in a row without an answer a peer of 2003 gets a new session.
const MAX_DOUBTS: u8 = 2;

impl<C: Channel> Mux<C> {
    /// Whether a call to this address waits for its answer.
    pub fn is_expecting(&self, addr: &SocketAddr) -> bool {
        self.place_of(addr).is_some_and(|index| {
            self.entries.get(index as usize).is_some_and(|entry| !entry.calls.is_empty())
        })
    }

    /// A call to this peer waits for its answer; it fails with the session.
    pub fn expect(&mut self, ctx: &mut Context<'_>, key: Key, call: Key) {
        if let Some(entry) = self.get_mut(key) {
            entry.calls.push(call);
            entry.connection.set_expecting(true, ctx);
            self.arm(ctx, key);
        }
    }

    /// The call waits no longer.
    pub fn expect_no_more(&mut self, ctx: &mut Context<'_>, key: Key, call: Key) {
        if let Some(entry) = self.get_mut(key) {
            entry.calls.remove(call);
            if entry.calls.is_empty() {
                entry.connection.set_expecting(false, ctx);
            }
        }
    }

    /// A call that never went out: [`poll_failed`](Self::poll_failed) tells of it.
    pub fn fail(&mut self, call: Key, why: CallError) {
        self.failed.push((call, why));
    }

    /// A call that was lost with its connection or session, or was [failed](Self::fail), and
    /// why. Drain after every input.
    pub fn poll_failed(&mut self) -> Option<(Key, CallError)> {
        self.failed.pop()
    }

    /// A call over this connection has gone unanswered. A Python peer of 2003 whose
    /// stream has broken may acknowledge everything and answer nothing: a new session
    /// heals it.
    pub fn doubt(&mut self, ctx: &mut Context<'_>, key: Key) {
        if let Some(entry) = self.get_mut(key)
            && entry.connection.is_proven()
            && entry.connection.is_original()
        {
            entry.doubts += 1;
            if entry.doubts >= MAX_DOUBTS {
                self.renew(ctx, key);
            }
        }
    }
}
