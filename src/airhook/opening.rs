//! Sessions that need not be kept: the id in an answer to a stranger is a keyed hash, so that
//! whoever shows it later was there when we sent it.
//!
//! What SYN cookies are to TCP (RFC 4987, 3.6), with 31 bits instead of 32 less the options.

use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rand::Rng;

use crate::airhook::connection::usual_session;
use crate::time::Time;

/// An id is good for this long and, since it is not known when in a period it was given, for
/// the next such span. An opening is repeated for some ten seconds.
const PERIOD: Duration = Duration::from_secs(15);

/// What an answer was an answer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    pub kind: Kind,
    /// What was answered left out what the implementations of 2003 do. What its sender says next
    /// may not show that.
    pub original: bool,
}

/// What kind of answer it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// To an opening: a bare packet with the number 0, whether or not the opening was taken in.
    Bare,
    /// To what was meant for an earlier life of ours. It was answered with our session alone, and
    /// its sender may have changed his since.
    Alone,
}

/// All addresses are of one of so many groups, whose ids are outdated together.
const GROUPS: usize = 256;

/// Makes ids, and knows them again.
#[derive(Debug)]
pub struct Openings {
    secret: [u64; 2],
    /// How often the ids of each group were outdated, if any were.
    outdated: Option<Box<[u8; GROUPS]>>,
}

impl Openings {
    /// With a secret of its own.
    pub fn new(rng: &mut impl Rng) -> Self {
        Openings { secret: [rng.next_u64(), rng.next_u64()], outdated: None }
    }

    /// The session for an answer to `addr` at `now`. `theirs` is the session that it showed; it
    /// makes no difference to [`Kind::Alone`]. Not 0, and below 2³¹.
    pub fn session(&self, answer: Answer, addr: SocketAddr, theirs: u32, now: Time) -> u32 {
        self.session_of(answer, addr, theirs, period(now))
    }

    /// The answer to `addr` whose session `shown` is, if there was such a one lately, and `addr`
    /// has the session `theirs` now.
    pub fn find(&self, addr: SocketAddr, theirs: u32, shown: u32, now: Time) -> Option<Answer> {
        let present = period(now);
        let mut all = [Kind::Bare, Kind::Alone]
            .into_iter()
            .flat_map(|kind| [false, true].map(|original| Answer { kind, original }));
        all.find(|&answer| {
            [present, present.wrapping_sub(1)]
                .into_iter()
                .any(|period| self.session_of(answer, addr, theirs, period) == shown)
        })
    }

    /// No id that was given to `addr` is good any more, nor those of a few others: a connection
    /// in such a session is over, and what it said must not be taken for the words of another.
    pub fn outdate(&mut self, addr: SocketAddr) {
        let group = self.group(addr);
        let times = &mut self.outdated.get_or_insert_with(|| Box::new([0; GROUPS]))[group];
        *times = times.wrapping_add(1);
    }

    fn group(&self, addr: SocketAddr) -> usize {
        self.hasher(addr).finish() as usize % GROUPS
    }

    fn hasher(&self, addr: SocketAddr) -> DefaultHasher {
        let mut hasher = DefaultHasher::new();
        self.secret.iter().for_each(|&word| hasher.write_u64(word));
        match addr.ip() {
            IpAddr::V4(ip) => hasher.write(&ip.octets()),
            IpAddr::V6(ip) => hasher.write(&ip.octets()),
        }
        hasher.write_u16(addr.port());
        hasher
    }

    fn session_of(&self, answer: Answer, addr: SocketAddr, theirs: u32, period: u64) -> u32 {
        let mut hasher = self.hasher(addr);
        hasher.write_u64(period);
        hasher.write_u8(self.outdated.as_ref().map_or(0, |times| times[self.group(addr)]));
        hasher.write(&[answer.kind as u8, answer.original.into()]);
        hasher.write_u32(if answer.kind == Kind::Alone { 0 } else { theirs });
        usual_session(hasher.finish() as u32)
    }
}

/// The number of the period that `now` is in.
fn period(now: Time) -> u64 {
    now.as_micros() / PERIOD.as_micros() as u64
}
