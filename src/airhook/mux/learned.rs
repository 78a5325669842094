//! Round trips of peers whose connections are forgotten, for when they are met again.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::net::SocketAddr;
use std::time::Duration;

use super::Keyed;
use crate::airhook::round_trip::RoundTrip;
use crate::time::Time;

/// How many are remembered.
const MOST: usize = 128;
/// For how long, in seconds: routes change.
const SPAN: u32 = 60 * 60;

/// A bounded memory, 16 bytes for each address.
#[derive(Debug, Default)]
pub struct LearnedTrips(VecDeque<LearnedTrip>);

#[derive(Clone, Copy, Debug)]
struct LearnedTrip {
    /// A short name of the address. Where two have the same, repetitions of an opening to one
    /// of them come too early or too late.
    name: u32,
    /// When it was learned, in seconds.
    since: u32,
    trip: RoundTrip,
}

impl LearnedTrips {
    /// The connection to this address is forgotten.
    pub fn note(&mut self, hasher: &Keyed, addr: &SocketAddr, trip: RoundTrip, now: Time) {
        if trip.smoothed().is_none() {
            return;
        }
        let (name, since) = (name(hasher, addr), seconds(now));
        self.0.retain(|learned| learned.name != name && since - learned.since.min(since) < SPAN);
        if self.0.len() >= MOST {
            self.0.pop_front();
        }
        self.0.push_back(LearnedTrip { name, since, trip });
    }

    /// How long the answer to an opening to this address may take, if that is known.
    pub fn patience(&self, hasher: &Keyed, addr: &SocketAddr, now: Time) -> Option<Duration> {
        if self.0.is_empty() {
            return None;
        }
        let (name, now) = (name(hasher, addr), seconds(now));
        let learned = self.0.iter().find(|learned| learned.name == name)?;
        // However long it is.
        let patience = learned.trip.opening(Duration::MAX);
        (now - learned.since.min(now) < SPAN).then_some(patience)
    }
}

fn name(hasher: &Keyed, addr: &SocketAddr) -> u32 {
    hasher.hash_one(addr) as u32
}

/// Seconds on the core's clock, for 136 years.
fn seconds(now: Time) -> u32 {
    u32::try_from(now.as_micros() / 1_000_000).unwrap_or(u32::MAX)
}
