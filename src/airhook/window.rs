//! How much may be on its way, and how fast it goes out.
//!
//! A window in bytes, inside Airhook's own limits (255 packets, 255 messages), of the usual kind:
//! it doubles each round trip until something speaks against it, then grows by a packet each
//! round trip, and is cut at most once a round trip (RFC 5681, RFC 9002). What differs is what a
//! loss means. Airhook reports every loss, so the window need not guess whether there was one;
//! it asks why. Where a queue overflows, packets have waited in it, and round trips are longer
//! than the shortest ones seen lately: then the window is cut as CUBIC cuts it (RFC 9438, 4.6).
//! Where they are not, the loss is taken for the network's own, and costs only half of the share
//! that was lost: a queue too short to be noticed still makes everybody give way, and a network
//! that loses a fifth of all packets by chance is still used. (Copa and BBR tell the two apart by
//! delay, too. They also steer by it, which goes wrong here where packets overtake each other: those
//! that are held until their turn make every round trip look long.)
//!
//! A train of packets longer than a first flight is spread over the round trip.

use std::time::Duration;

use crate::time::Time;

/// What windows are counted in: the largest packet, in bytes.
const PACKET: u32 = 1450;
/// The first flight, in bytes. 16 packets are 23 kB; RFC 9002, 7.2, has ten, of 2013.
const FIRST: u32 = 16 * PACKET;
/// The least window (RFC 9002, 7.2).
const LEAST: u32 = 2 * PACKET;
/// The largest: twice what 255 packets may hold never binds.
const MOST: u32 = 512 * PACKET;
/// So much may go out at once.
const BURST: u32 = FIRST;
/// How long the shortest round trip counts, once or twice (10 s in BBR and Copa).
const MEMORY: Duration = Duration::from_secs(10);
/// A round trip this much above the shortest shows that packets wait in a queue, but
const WAITING: Duration = Duration::from_millis(2);
/// this share of the shortest, at least.
const WAITING_SHARE: u32 = 8;

/// A loss of more than half says something only if it is of this many bytes.
const SOME: u32 = 8 * PACKET;
/// Of so many round trips in a row the shortest shows how it is at present: single ones are long
/// for other reasons, too.
const RECENT: usize = 3;

/// What became of packets that the other side has observed, or known to have missed, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// What arrived.
    pub passed: u32,
    /// What did not.
    pub lost: u32,
}

/// The congestion window of one connection.
#[derive(Debug)]
pub struct Window {
    size: u32,
    /// Below this it doubles each round trip.
    threshold: u32,
    /// The shortest round trip of this period and of the one before, in microseconds; 0: none.
    shortest: [u32; 2],
    /// When this period began.
    since: Time,
    /// The newest round trips, in microseconds; 0: none.
    recent: [u32; RECENT],
    /// The round ends when the other side has observed this packet.
    end: u16,
    /// What has become of this round's packets.
    round: Settled,
    /// The window was cut in this round.
    cut: bool,
    /// It kept something back in this round.
    limited: bool,
    /// How long the other side may sit on an acknowledgement, in microseconds.
    ack_delay: u32,
    /// What has gone out so far would be through at this time, at the pace.
    paced: Time,
}

impl Window {
    /// The window of a connection on which nothing is known, at packet `next`.
    pub fn new(next: u16, now: Time) -> Self {
        Window {
            size: FIRST,
            threshold: MOST,
            shortest: [0; 2],
            since: now,
            recent: [0; RECENT],
            end: next,
            round: Settled::default(),
            cut: false,
            limited: false,
            ack_delay: 0,
            paced: Time::ZERO,
        }
    }

    /// How many bytes may be on their way.
    pub fn size(&self) -> usize {
        self.size as usize
    }

    /// Whether it is like a new one, so that nothing is lost if it is forgotten.
    pub fn is_usual(&self) -> bool {
        self.size == FIRST && self.threshold == MOST
    }

    /// Whether a packet may go when `in_flight` bytes are on their way.
    pub fn has_room(&self, in_flight: usize) -> bool {
        in_flight + PACKET as usize <= self.size()
    }

    /// There was more to send than it let out.
    pub fn note_limited(&mut self) {
        self.limited = true;
    }

    /// A packet that carries messages goes out.
    pub fn sent(&mut self, bytes: usize, round_trip: Option<Duration>, now: Time) {
        if let Some(burst) = self.span(BURST, round_trip) {
            // What was not used up to now is not saved up, beyond a burst.
            let earliest = Time::from_micros(now.as_micros().saturating_sub(burst));
            let span = self.span(bytes as u32, round_trip).unwrap_or(0);
            self.paced = self.paced.max(earliest) + Duration::from_micros(span);
        }
    }

    /// When the next packet may go, if not now.
    pub fn waits_until(&self, now: Time) -> Option<Time> {
        (self.paced > now).then_some(self.paced)
    }

    /// How long so many bytes take at the pace, in microseconds: a little faster than a window
    /// each round trip, so that it is the window that limits (RFC 9002, 7.7), and at twice that
    /// while it doubles.
    fn span(&self, bytes: u32, round_trip: Option<Duration>) -> Option<u64> {
        let round_trip = round_trip?.as_micros() as u64;
        let quarters = if self.size < self.threshold { 8 } else { 5 };
        Some(round_trip * u64::from(bytes) * 4 / (u64::from(self.size) * quarters))
    }

    /// A packet took so long to be acknowledged.
    pub fn measured(&mut self, sample: Duration, now: Time) {
        let sample = u32::try_from(sample.as_micros()).unwrap_or(u32::MAX).max(1);
        if now.since(self.since) >= MEMORY {
            self.since = now;
            self.shortest = [0, self.shortest[0]];
        }
        self.shortest[0] = shorter(self.shortest[0], sample);
        self.recent.rotate_right(1);
        self.recent[0] = sample;
    }

    /// The other side has observed packet `observed` of ours, the next of which will be `next`.
    /// It may sit on an acknowledgement for `ack_delay`.
    pub fn observed(&mut self, settled: Settled, observed: u16, next: u16, ack_delay: Duration) {
        self.ack_delay = ack_delay.as_micros() as u32;
        self.round.passed += settled.passed;
        self.round.lost += settled.lost;
        if settled.lost > 0 && !self.cut && self.is_queueing() {
            self.cut();
        }
        if self.limited && !self.cut {
            self.grow(settled.passed);
        }
        if observed.wrapping_sub(self.end) < 0x8000 {
            self.end_round(next);
        }
    }

    fn grow(&mut self, passed: u32) {
        let more = if self.size < self.threshold {
            if self.is_queueing() {
                // As HyStart++ does (RFC 9406): before the queue overflows.
                self.threshold = self.size;
            }
            passed
        } else {
            (u64::from(PACKET) * u64::from(passed) / u64::from(self.size)) as u32
        };
        self.size = (self.size + more).min(MOST);
    }

    /// There is congestion.
    fn cut(&mut self) {
        self.size = (self.size / 10 * 7).max(LEAST);
        self.threshold = self.size;
        self.cut = true;
    }

    fn end_round(&mut self, next: u16) {
        let Settled { passed, lost } = self.round;
        let all = passed + lost;
        if !self.cut && lost > 0 {
            if all >= SOME && lost > all / 2 {
                // It does not matter why.
                self.cut();
            } else {
                let less = u64::from(self.size) * u64::from(lost) / (2 * u64::from(all));
                self.size = (self.size - less as u32).max(LEAST);
            }
        }
        self.end = next;
        self.round = Settled::default();
        self.cut = false;
        self.limited = false;
    }

    /// Whether packets wait in a queue at present.
    fn is_queueing(&self) -> bool {
        let shortest = shorter(self.shortest[0], self.shortest[1]);
        let recent = self.recent.iter().copied().fold(0, shorter);
        recent > shortest + self.ack_delay + (shortest / WAITING_SHARE).max(WAITING.as_micros() as u32)
    }

    /// Nothing has been heard through several probes: what was known of the path may not hold.
    pub fn collapse(&mut self) {
        if self.size > LEAST {
            self.threshold = (self.size / 2).max(LEAST);
            self.size = LEAST;
        }
    }

    /// Nothing was sent for `idle`, while an answer takes `patience`: what was known is worth
    /// half as much each time (RFC 2861).
    pub fn rest(&mut self, idle: Duration, patience: Duration) {
        let times = idle.as_micros() / patience.as_micros().max(1);
        if times > 0 && self.size > FIRST {
            self.threshold = self.threshold.max(self.size / 4 * 3);
            self.size = (self.size >> times.min(31)).max(FIRST);
        }
    }
}

/// The shorter of two spans, of which 0 is none.
fn shorter(a: u32, b: u32) -> u32 {
    if a == 0 || (b != 0 && b < a) { b } else { a }
}
