//! What only some connections have, each in a box of its own, so that one at rest is small.

use super::early::{Early, Overtaken};
use super::{Candidate, Connection};
use crate::airhook::flight::{Flight, Numbers};
use crate::time::Time;

/// A time at which something is due, or none, in 8 bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline(Time);

impl Deadline {
    /// The end of time, which no clock shows.
    pub(super) const NONE: Deadline = Deadline(Time::from_micros(u64::MAX));

    pub(super) fn get(self) -> Option<Time> {
        (self.0 != Self::NONE.0).then_some(self.0)
    }

    /// Not after this.
    pub(super) fn bring_forward(&mut self, at: Time) {
        self.0 = self.0.min(at);
    }

    /// Whether it has come, and is none from now on.
    pub(super) fn take_past(&mut self, now: Time) -> bool {
        let is_past = self.get().is_some_and(|at| at <= now);
        if is_past {
            *self = Self::NONE;
        }
        is_past
    }
}

/// What there is only while something is under way, or due.
#[derive(Debug, Default)]
pub(super) struct Busy {
    pub(super) flight: Option<Flight>,
    pub(super) probe_at: Option<Time>,
    /// When what waits to be sent in turn may go.
    pub(super) send_at: Option<Time>,
    /// When the other side's silence began to count, if it is silent.
    pub(super) silent_since: Time,
    /// What goes out next asks whether the other side is there, whatever the window says.
    pub(super) probing: bool,
    /// What our next packet reports missing goes out once more.
    pub(super) say_again: bool,
}

/// What there is only where packets are lost or overtake each other, or others speak in the
/// peer's name.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// Of the messages that are settled: those that were lost.
    pub(super) lost: Numbers,
    pub(super) overtaken: Overtaken,
    pub(super) early_packets: Early,
    /// When packets that came early have waited for long enough.
    pub(super) release_at: Option<Time>,
    pub(super) candidate: Option<Candidate>,
    /// The first of our packets after the other side could take messages: it bore the
    /// other side's session. Messages sent before that are settled by nothing older.
    pub(super) early_until: Option<u16>,
    /// How many messages those are.
    pub(super) early: u8,
}

impl Busy {
    fn is_over(&self) -> bool {
        self.flight.is_none()
            && self.probe_at.is_none()
            && self.send_at.is_none()
            && !self.probing
            && !self.say_again
    }
}

impl Trouble {
    fn is_over(&self) -> bool {
        self.lost == Numbers::default()
            && self.overtaken == Overtaken::default()
            && self.early_packets.is_empty()
            && self.release_at.is_none()
            && self.candidate.is_none()
            && self.early_until.is_none()
    }
}

impl Connection {
    /// What is in the air, if anything is.
    pub(super) fn flight(&self) -> Option<&Flight> {
        self.busy.as_ref()?.flight.as_ref()
    }

    /// The same, a new one if there is none.
    pub(super) fn make_flight(&mut self) -> &mut Flight {
        self.busy.get_or_insert_default().flight.get_or_insert_default()
    }

    /// The other side is to be asked after what is due.
    pub(super) fn probe_at(&self) -> Option<Time> {
        self.busy.as_ref()?.probe_at
    }

    /// What waits to be sent in turn may go then.
    pub(super) fn send_at(&self) -> Option<Time> {
        self.busy.as_ref()?.send_at
    }

    /// What goes out next asks whether the other side is there.
    pub(super) fn is_probing(&self) -> bool {
        self.busy.as_ref().is_some_and(|busy| busy.probing)
    }

    /// Lets go of what holds nothing any more.
    pub(super) fn tidy(&mut self) {
        if self.silent == 0 {
            self.busy.take_if(|busy| busy.is_over());
        }
        self.trouble.take_if(|trouble| trouble.is_over());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_are_small() {
        assert!(size_of::<Busy>() <= 176, "{}", size_of::<Busy>());
        assert!(size_of::<Trouble>() <= 112, "{}", size_of::<Trouble>());
    }
}
