//! What happens to a datagram between two hosts.

use std::time::Duration;

use rand::Rng;

use crate::random::Random;
use crate::time::Time;

/// How long a datagram is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Latency {
    /// Always as long.
    Constant(Duration),
    /// Anything between the two, both included, with the same chance.
    Uniform(Duration, Duration),
}

/// The conditions under which datagrams travel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conditions {
    /// How long they are under way.
    pub latency: Latency,
    /// How many in a million are lost.
    pub loss: u32,
}

impl Default for Conditions {
    fn default() -> Self {
        Conditions { latency: Latency::Constant(Duration::from_millis(40)), loss: 0 }
    }
}

impl Conditions {
    /// When a datagram that is sent now arrives; `None`: never.
    pub(super) fn arrival(&self, now: Time, rng: &mut Random) -> Option<Time> {
        if below(rng, 1_000_000) < u64::from(self.loss) {
            return None;
        }
        let under_way = match self.latency {
            Latency::Constant(latency) => latency,
            Latency::Uniform(least, most) => {
                let span = most.saturating_sub(least).as_micros() as u64;
                least + Duration::from_micros(below(rng, span + 1))
            }
        };
        Some(now + under_way)
    }
}

/// A number below `end`, each with the same chance, or nearly: the high half of a product.
pub(super) fn below(rng: &mut Random, end: u64) -> u64 {
    ((u128::from(rng.next_u64()) * u128::from(end)) >> 64) as u64
}
