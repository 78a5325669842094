//! The one place where the time is read.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::time::{Time, UnixTime};

/// The machine's clocks: a steady one, counted from when this was made, and the
/// time of day.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start: Instant,
}

// Everything below the drivers is told the time and never reads it.
#[allow(clippy::disallowed_methods)]
impl Clock {
    /// A clock that stands at [`Time::ZERO`] now.
    pub fn start() -> Self {
        Clock { start: Instant::now() }
    }

    /// What time it is, rounded down to the microsecond.
    pub fn now(&self) -> Time {
        let micros = self.start.elapsed().as_micros();
        Time::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    /// The time of day. Before 1970 counts as 1970.
    pub fn unix(&self) -> UnixTime {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixTime(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
    }

    /// `at` as the standard library counts time; `None` when it is too far away
    /// for that.
    pub fn instant(&self, at: Time) -> Option<Instant> {
        self.start.checked_add(Duration::from_micros(at.as_micros()))
    }
}

/// As the standard library counts time. Where that does not reach so far, it is 1970.
impl From<UnixTime> for SystemTime {
    fn from(at: UnixTime) -> Self {
        let span = Duration::from_secs(at.0.unsigned_abs());
        let at = if at.0 < 0 { UNIX_EPOCH.checked_sub(span) } else { UNIX_EPOCH.checked_add(span) };
        at.unwrap_or(UNIX_EPOCH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_day_is_one_of_the_standard_library() {
        let minute = Duration::from_secs(60);
        assert_eq!(SystemTime::from(UnixTime(60)), UNIX_EPOCH + minute);
        assert_eq!(SystemTime::from(UnixTime(-60)), UNIX_EPOCH - minute);
        let _ = [i64::MIN, i64::MAX].map(|at| SystemTime::from(UnixTime(at)));
    }
}
