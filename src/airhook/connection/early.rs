//! Packets that come ahead of their turn.
//!
//! Airhook loses what is overtaken: once a packet is accepted, those before it cannot be. So one
//! that comes early waits for them a moment, whole and unacknowledged. How long depends on how
//! late packets come that were overtaken, as far as that has been seen; where it never happens,
//! each gap is a loss, and waiting only delays the report.

use std::time::Duration;

use super::parts::Trouble;
use super::{Carrier, Connection, Verdict};
use crate::airhook::packet::Packet;
use crate::context::Context;
use crate::time::Time;

/// So many packets wait at the most. With the longest wait that bounds what is kept for all
/// connections together, by what the line brings meanwhile.
const MAX_HELD: usize = 64;
/// The longest wait, however long round trips are.
const LONGEST: Duration = Duration::from_millis(250);
/// The shortest wait is this part of a round trip: packets that overtake each other at all do so
/// within it often enough to show that it is too short. (RFC 8985, 7.1, begins with a quarter.)
const SHORTEST_SHARE: u32 = 16;
/// The wait is so many times what overtaken packets come late, as for any other variation
/// (RFC 6298, K).
const TIMES: u32 = 4;
/// How many of the packets before the newest are remembered.
const REMEMBERED: u16 = 64;

/// Packets that wait for those before them, in order.
#[derive(Debug, Default)]
pub(super) struct Early(Vec<Held>);

#[derive(Debug)]
struct Held {
    sequence: u16,
    came: Time,
    datagram: Box<[u8]>,
}

impl Early {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// When the one that has waited longest came.
    fn oldest(&self) -> Option<Time> {
        self.0.iter().map(|held| held.came).min()
    }
}

/// What a connection has seen of packets that overtake each other.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Overtaken {
    /// How late they come, in microseconds, of late.
    late: u32,
    /// Which of those before the newest accepted packet were given up: bit 0 is for the one just
    /// before it.
    skipped: u64,
}

impl Overtaken {
    /// The next accepted packet is `ahead` of the newest before it.
    pub(super) fn step(&mut self, ahead: u16) {
        if ahead == 0 || ahead > REMEMBERED {
            self.skipped = if ahead == 0 { self.skipped } else { u64::MAX };
            return;
        }
        // Those between were given up.
        let given_up = (1u64 << (ahead - 1)) - 1;
        self.skipped = self.skipped.unbounded_shl(u32::from(ahead)) | given_up;
    }

    /// One that comes so late has come.
    fn note(&mut self, late: Duration) {
        let late = u32::try_from(late.as_micros()).unwrap_or(u32::MAX);
        self.late = self.late.max(late);
    }

    /// One was waited for in vain.
    fn note_loss(&mut self) {
        // RFC 6298, 2.3: alpha.
        self.late -= self.late / 8;
    }
}

impl Connection {
    /// How long a packet waits for those before it.
    fn hold_time(&self, ctx: &Context<'_>) -> Duration {
        let trip = self.round_trip.smoothed().unwrap_or(ctx.config.initial_probe / 4);
        let late = self.trouble.as_ref().map_or(0, |trouble| trouble.overtaken.late);
        let late = Duration::from_micros(u64::from(late)) * TIMES;
        late.max(trip / SHORTEST_SHARE).min(trip / 2).min(LONGEST)
    }

    /// The next accepted packet is `ahead` of the newest before it.
    pub(super) fn step_over(&mut self, ahead: u16) {
        if ahead > 1 {
            self.trouble.get_or_insert_default();
        }
        if let Some(trouble) = &mut self.trouble {
            trouble.overtaken.step(ahead);
        }
    }

    /// When the packet that has waited longest came.
    fn oldest_early(&self) -> Option<Time> {
        self.trouble.as_ref()?.early_packets.oldest()
    }

    /// Keeps a packet that came ahead of its turn; false if it is to be taken at once.
    pub(super) fn hold_early(&mut self, sequence: u16, datagram: &[u8], ctx: &Context<'_>) -> bool {
        let newest = self.newest;
        let early = &mut self.trouble.get_or_insert_default().early_packets.0;
        let ahead = |sequence: u16| sequence.wrapping_sub(newest);
        let Err(place) = early.binary_search_by_key(&ahead(sequence), |held| ahead(held.sequence)) else {
            // It has come twice.
            return true;
        };
        if early.len() >= MAX_HELD {
            return false;
        }
        early.insert(place, Held { sequence, came: ctx.now, datagram: datagram.into() });
        self.arm_release(ctx);
        true
    }

    /// Packets have been taken up to the newest: takes those that were waiting for them, and
    /// those that have waited for long enough. `arrived`: the newest has just come.
    pub(super) fn release(&mut self, arrived: bool, ctx: &mut Context<'_>, carrier: &mut impl Carrier) {
        let Some(oldest) = self.oldest_early() else {
            return;
        };
        if arrived && let Some(trouble) = &mut self.trouble {
            trouble.overtaken.note(ctx.now.since(oldest));
        }
        while let Some(trouble) = &mut self.trouble {
            let Some(first) = trouble.early_packets.0.first() else {
                trouble.early_packets = Early::default();
                break;
            };
            let ahead = first.sequence.wrapping_sub(self.newest);
            if ahead != 1 && (1..0x8000).contains(&ahead) {
                let wait = self.hold_time(ctx);
                let Some(trouble) = &mut self.trouble else { break };
                if trouble.early_packets.oldest().is_none_or(|came| came + wait > ctx.now) {
                    break;
                }
                trouble.overtaken.note_loss();
            }
            let Some(trouble) = &mut self.trouble else { break };
            let held = trouble.early_packets.0.remove(0);
            // One that another has overtaken in turn is stale.
            if ahead < 0x8000
                && let Ok(packet) = Packet::parse(&held.datagram)
            {
                self.take(&packet, true, ctx, carrier);
            }
        }
        self.arm_release(ctx);
    }

    fn arm_release(&mut self, ctx: &Context<'_>) {
        let at = self.oldest_early().map(|came| (came + self.hold_time(ctx)).max(ctx.now));
        if let Some(trouble) = &mut self.trouble {
            trouble.release_at = at;
        }
    }

    /// A packet that is not ahead of the newest. If it was given up, it ought to have been waited
    /// for longer.
    pub(super) fn note_stale(&mut self, sequence: u16, ctx: &Context<'_>) -> Verdict {
        let back = self.newest.wrapping_sub(sequence);
        if (1..=REMEMBERED).contains(&back) {
            let (bit, wait) = (1u64 << (back - 1), self.hold_time(ctx));
            if let Some(Trouble { overtaken, .. }) = self.trouble.as_deref_mut()
                && overtaken.skipped & bit != 0
            {
                overtaken.skipped &= !bit;
                overtaken.note(wait);
            }
        }
        Verdict::Stale
    }
}
