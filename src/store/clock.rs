//! By which clock values age: a node's own, which keeps time through restarts and never goes
//! back.
//!
//! It starts as the time of day, and runs as the core's clock does. Where the time of day gets
//! ahead of it at one go (the host slept, somebody set its clock), the gap counts as time that
//! passed, but no more than half of a value's life: a clock that is set wrong does not take
//! everything away. Where it is put back, nothing happens. So values live for their time while
//! the node runs, less what was credited, whatever the time of day does.
//!
//! What was credited wrongly shows when the time of day is put right: the clock is then ahead of
//! it. Until that has caught up, only so much less is credited, or a host that starts with a wrong
//! time of day again and again would take everything away bit by bit.
//!
//! A restart is such a gap, too. What is more than half of a value's life then is in doubt:
//! the node may have been away for so long, or the time of day may be wrong. The values that
//! were there before count as so much older when they are given out, that is, they are
//! hidden where they would have expired; but they are deleted only when they have by the
//! node's own clock. When the time of day is put back, they are there again.

use std::time::Duration;

use crate::time::{Time, UnixTime};

/// By so many seconds the two clocks may come apart before that counts: they are read in whole
/// seconds, and no two run alike.
const SLACK: i64 = 2;

/// The clock by which a node's values age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueClock {
    /// By how many seconds it is ahead of the core's.
    ahead: i64,
    /// By how many the time of day was, when that was last looked at.
    wall: i64,
    /// How many seconds are in doubt, and for what: values stored in runs before this one.
    doubt: i64,
    doubted: i64,
    /// Until this second on the core's clock less than half of a life may be credited, by so
    /// many seconds as are left until then: many jumps count as one.
    spent_until: i64,
}

/// What a file keeps of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavedClock {
    /// What the clock showed.
    pub clock: UnixTime,
    /// What time of day it was then.
    pub wall: UnixTime,
    /// How many seconds were in doubt, ...
    pub doubt: i64,
    /// ... for values stored in runs before this one.
    pub doubted: i64,
}

/// What the clock shows, for a look at values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The time by the node's clock.
    pub now: UnixTime,
    doubt: i64,
    doubted: i64,
}

impl From<UnixTime> for Moment {
    /// A moment without doubt.
    fn from(now: UnixTime) -> Self {
        Moment { now, doubt: 0, doubted: 0 }
    }
}

impl Moment {
    /// When a value that was stored in this run, and is to be deleted at `expires`, expires for
    /// those who ask: sooner, when it is in doubt.
    pub fn end(&self, run: i64, expires: UnixTime) -> UnixTime {
        UnixTime(if run < self.doubted { expires.0.saturating_sub(self.doubt) } else { expires.0 })
    }

    /// When a value was stored, for those who ask: as much sooner as it expires sooner.
    pub fn stored(&self, run: i64, expires: UnixTime, time: UnixTime) -> UnixTime {
        let doubt = expires.0.saturating_sub(self.end(run, expires).0);
        UnixTime(time.0.saturating_sub(doubt))
    }
}

impl ValueClock {
    /// One that starts now, at this time of day.
    pub fn new(now: Time, wall: UnixTime) -> Self {
        let ahead = wall.0.saturating_sub(second(now));
        ValueClock { ahead, wall: ahead, doubt: 0, doubted: 0, spent_until: 0 }
    }

    /// One that goes on in the run of this number. `newest`: when a value was last stored, which
    /// may be later than the clock was last saved.
    pub fn resume(
        saved: SavedClock,
        newest: UnixTime,
        run: i64,
        (now, wall): (Time, UnixTime),
        lifetime: Duration,
    ) -> Self {
        let gap = wall.0.saturating_sub(saved.wall.0);
        let credit = gap.clamp(0, left(lifetime, saved.clock.0.saturating_sub(saved.wall.0)));
        let clock = saved.clock.0.saturating_add(credit).max(newest.0);
        let in_doubt = gap.max(0).saturating_sub(credit);
        ValueClock {
            ahead: clock.saturating_sub(second(now)),
            wall: wall.0.saturating_sub(second(now)),
            doubt: saved.doubt.saturating_add(in_doubt).saturating_add(gap.min(0)).max(0),
            doubted: if in_doubt > 0 { run } else { saved.doubted },
            spent_until: second(now).saturating_add(credit),
        }
    }

    /// Takes the time of day into account, and says what the clock shows. `is_empty`: there is
    /// nothing yet that it has dated, so that it may as well be set.
    pub fn look(&mut self, now: Time, wall: UnixTime, lifetime: Duration, is_empty: bool) -> Moment {
        let wall_now = wall.0.saturating_sub(second(now));
        let jump = wall_now.saturating_sub(self.wall);
        if jump.saturating_abs() > SLACK {
            self.wall = wall_now;
            if is_empty {
                *self = ValueClock::new(now, wall);
            } else if jump < 0 {
                self.doubt = self.doubt.saturating_add(jump).max(0);
            } else {
                self.credit(now, jump, lifetime);
            }
        }
        self.at(now)
    }

    fn credit(&mut self, now: Time, jump: i64, lifetime: Duration) {
        let behind = self.wall.saturating_sub(self.ahead);
        let spent_until = self.spent_until.max(second(now));
        let spent = spent_until.saturating_sub(second(now));
        let left = left(lifetime, spent.max(jump.saturating_sub(behind)));
        let credit = jump.min(behind).min(left).max(0);
        self.ahead = self.ahead.saturating_add(credit);
        self.spent_until = spent_until.saturating_add(credit);
    }

    /// What it shows, as far as it knows.
    pub fn at(&self, now: Time) -> Moment {
        let now = UnixTime(self.ahead.saturating_add(second(now)));
        Moment { now, doubt: self.doubt, doubted: self.doubted }
    }

    /// What is to be saved of it.
    pub fn save(&self, now: Time, wall: UnixTime) -> SavedClock {
        SavedClock { clock: self.at(now).now, wall, doubt: self.doubt, doubted: self.doubted }
    }
}

fn second(now: Time) -> i64 {
    i64::try_from(now.as_micros() / 1_000_000).unwrap_or(i64::MAX)
}

/// How much of half a life is left to be credited.
fn left(lifetime: Duration, spent: i64) -> i64 {
    half(lifetime).saturating_sub(spent.max(0)).max(0)
}

fn half(lifetime: Duration) -> i64 {
    i64::try_from(lifetime.as_secs() / 2).unwrap_or(i64::MAX)
}
