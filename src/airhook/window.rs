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
//! Two more things keep the shortest round trip true. Where none as short has been seen for ten
//! seconds, next to nothing is sent for two rounds, so that a queue that everybody keeps full
//! empties and shows (as in BBR). And where the queue stays although the window was cut several
//! times, others fill it: then only losses count, until it empties.
//!
//! A train of packets longer than a first flight is spread over the round trip, as far as timers are
//! exact enough for that.

use std::time::Duration;

use crate::time::Time;

/// What windows are counted in: the largest packet, in bytes.
const PACKET: u32 = 1450;
/// The first flight, in bytes. 16 packets are 23 kB; RFC 9002, 7.2, has ten, of 2013.
const FIRST: u32 = 16 * PACKET;
/// A whole message of KRPC, of up to 64 kB, with what frames it: a Python peer of 2003 acknowledges
/// nothing before it has something to say itself, or only two seconds later.
const WHOLE: u32 = 48 * PACKET;
/// The least window (RFC 9002, 7.2).
const LEAST: u32 = 2 * PACKET;
/// The largest: twice what 255 packets may hold never binds.
const MOST: u32 = 512 * PACKET;
/// A longer round trip is taken for this long, as everywhere.
const LONGEST: Duration = Duration::from_secs(60);
/// So much may go out at once, when the window doubles no more.
const BURST: u32 = 8 * PACKET;
/// Timers are late by so much, in microseconds, and what could have gone out meanwhile goes out then.
/// Else a path on which a burst takes less time than that would be idle most of the time.
const LATE: u64 = 1024;
/// When no round trip has been as short as the shortest for this long (10 s in BBR and Copa),
const STALE: Duration = Duration::from_secs(10);
/// where this share more is the same,
const SAME_SHARE: u32 = 32;
/// next to nothing is sent for as many rounds: one until what was on its way is through, and one
/// to measure. Connections that share a queue see the round trip fall together, and so come to
/// do this together, which empties it.
const DRAIN_ROUNDS: u8 = 2;
/// What is sent meanwhile.
const DRAINED: u32 = 4 * PACKET;
/// A round trip this much above the shortest shows that packets wait in a queue, but
const WAITING: Duration = Duration::from_millis(2);
/// this share of the shortest, at least.
const WAITING_SHARE: u32 = 8;
/// In a smaller window than this no packet may be one that is acknowledged at once.
const PROMPT: u32 = 7 * PACKET;
/// What is kept of the window, in percent, where a queue has formed (CUBIC: RFC 9438, 4.6): all who
/// do that together empty it, and so see how short round trips are without it.
const CONGESTED: u32 = 70;
/// Where packets get lost and none is seen to wait, half of the share that was lost is given up,
/// and no less than this share of the window.
const UNLUCKY_SHARE: u32 = 20;
/// For so many rounds the window grows in spite of such losses.
const EARLY_ROUNDS: u8 = 3;
/// After so many rounds in a row with a queue it is others that fill it.
const PATIENT_ROUNDS: u8 = 5;
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
    /// The shortest round trip, in microseconds; 0: none.
    shortest: u32,
    /// When one was last as short as that.
    fresh: Time,
    /// For how many more rounds next to nothing is sent.
    draining: u8,
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
    /// The shortest round trip in this round, in microseconds; 0: none.
    standing: u32,
    /// How many rounds there have been.
    rounds: u8,
    /// In how many of them, the last ones in a row, packets waited in a queue all the time.
    queued: u8,
    /// How much round trips vary, in microseconds.
    variation: u32,
    /// How long the other side may sit on an acknowledgement, in microseconds.
    ack_delay: u32,
    /// What has gone out so far would be through at this time, at the pace.
    paced: Time,
}

impl Window {
    /// The window of a connection whose next packet will be `next`. `trip`: the round trip, as far
    /// as it is known from before anything was sent that could have made a queue.
    pub fn new(next: u16, trip: Option<Duration>, now: Time) -> Self {
        let trip = trip.unwrap_or_default().min(LONGEST).as_micros() as u32;
        Window {
            size: FIRST,
            threshold: MOST,
            // It may have been a lucky one.
            shortest: trip + trip / WAITING_SHARE,
            fresh: now,
            draining: 0,
            recent: [0; RECENT],
            end: next,
            round: Settled::default(),
            cut: false,
            limited: false,
            standing: 0,
            rounds: 0,
            queued: 0,
            variation: 0,
            ack_delay: 0,
            paced: Time::ZERO,
        }
    }

    /// How many bytes may be on their way.
    pub fn size(&self) -> usize {
        let size = if self.draining > 0 { self.size.min(DRAINED) } else { self.size };
        size as usize
    }

    /// Whether it is like a new one, so that nothing is lost if it is forgotten.
    pub fn is_usual(&self) -> bool {
        matches!(self.size, FIRST | WHOLE) && self.threshold == MOST
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
        let burst = if self.size < self.threshold { FIRST } else { BURST };
        if let Some(burst) = self.span(burst, round_trip) {
            // What was not used up to now is not saved up, beyond a burst.
            let earliest = Time::from_micros(now.as_micros().saturating_sub(burst.max(LATE)));
            let span = self.span(bytes as u32, round_trip).unwrap_or(0);
            self.paced = self.paced.max(earliest) + Duration::from_micros(span);
        }
    }

    /// When the next packet may go, if not now.
    pub fn waits_until(&self, now: Time) -> Option<Time> {
        // A timer waits for longer than a very short round trip takes: nothing is spread over that.
        let spread = self.shortest == 0 || u64::from(self.shortest) > LATE;
        (spread && self.paced > now).then_some(self.paced)
    }

    /// How long so many bytes take at the pace, in microseconds: a little faster than a window
    /// each round trip, so that it is the window that limits (RFC 9002, 7.7), and at twice that
    /// while it doubles.
    fn span(&self, bytes: u32, round_trip: Option<Duration>) -> Option<u64> {
        let round_trip = round_trip?.as_micros() as u64;
        let quarters = if self.size < self.threshold { 8 } else { 5 };
        Some(round_trip * u64::from(bytes) * 4 / (u64::from(self.size) * quarters))
    }

    /// A packet took so long to be acknowledged, and that varies so much.
    pub fn measured(&mut self, sample: Duration, variation: Duration, now: Time) {
        self.variation = variation.min(LONGEST).as_micros() as u32;
        let sample = sample.min(LONGEST).as_micros().max(1) as u32;
        self.standing = shorter(self.standing, sample);
        self.recent.rotate_right(1);
        self.recent[0] = sample;
        // The middle one of three, so that a single lucky packet does not make all others look late.
        let mut sorted = self.recent;
        sorted.sort_unstable();
        let [least, usual, _] = sorted;
        if least > 0 {
            self.shortest = shorter(self.shortest, usual);
            if usual - self.shortest <= self.shortest / SAME_SHARE {
                self.fresh = now;
            }
        }
    }

    /// The other side has observed packet `observed` of ours, the next of which will be `next`.
    /// It may sit on an acknowledgement for `ack_delay`.
    pub fn observed(&mut self, settled: Settled, observed: u16, next: u16, ack_delay: Duration, now: Time) {
        self.ack_delay = ack_delay.as_micros() as u32;
        self.round.passed += settled.passed;
        self.round.lost += settled.lost;
        let queueing = self.is_queueing(self.recent.iter().copied().fold(0, shorter));
        if self.draining == 0 && !self.cut {
            if settled.lost > 0 && (queueing || self.is_crowded()) {
                self.cut(CONGESTED);
            } else if self.limited && (!queueing || self.is_crowded()) {
                self.grow(settled.passed);
            }
        }
        if observed.wrapping_sub(self.end) < 0x8000 {
            self.end_round(next, now);
        }
    }

    fn grow(&mut self, passed: u32) {
        let more = if self.size < self.threshold {
            passed
        } else {
            // Where others fill the queue, so that it is not emptied by giving way, half as fast.
            let step = if self.is_crowded() { PACKET / 2 } else { PACKET };
            (u64::from(step) * u64::from(passed) / u64::from(self.size)) as u32
        };
        self.size = (self.size + more).min(MOST);
    }

    /// Keeps so many percent.
    fn cut(&mut self, kept: u32) {
        self.size = (self.size / 100 * kept).max(LEAST);
        self.threshold = self.size;
        self.cut = true;
    }

    fn end_round(&mut self, next: u16, now: Time) {
        let Settled { passed, lost } = self.round;
        let all = passed + lost;
        let queueing = self.is_queueing(self.standing);
        self.rounds = self.rounds.saturating_add(1);
        self.queued = if queueing { self.queued.saturating_add(1) } else { 0 };
        if self.draining > 0 {
            self.draining -= 1;
            if self.draining == 0 {
                self.shortest = if self.standing == 0 { self.shortest } else { self.standing };
                self.fresh = now;
                self.queued = 0;
            }
        } else if now.since(self.fresh) >= STALE && self.limited {
            self.draining = DRAIN_ROUNDS;
        } else if self.cut {
            // Once is enough.
        } else if queueing && !self.is_crowded() || lost > all / 2 && all >= SOME {
            self.cut(CONGESTED);
        } else if lost > 0 && (self.size >= self.threshold || self.rounds > EARLY_ROUNDS) {
            let share = u64::from(self.size) * u64::from(lost) / (2 * u64::from(all));
            self.size = (self.size - (share as u32).max(self.size / UNLUCKY_SHARE)).max(LEAST);
            self.threshold = self.threshold.min(self.size);
        }
        self.end = next;
        self.round = Settled::default();
        self.standing = 0;
        self.cut = false;
        self.limited = false;
    }

    /// Whether a round trip is so long that packets wait in a queue.
    fn is_queueing(&self, trip: u32) -> bool {
        let wait = (self.shortest / WAITING_SHARE).max(WAITING.as_micros() as u32);
        // What goes out a few packets at a time is acknowledged late, and later where one is
        // waited for that was lost.
        let late = if self.size < PROMPT { self.ack_delay + self.shortest / 16 } else { 0 };
        self.shortest > 0 && trip > self.shortest + late + wait + self.variation
    }

    /// Whether the queue stays although we have given way several times: others fill it, and who
    /// goes on giving way gets nothing.
    fn is_crowded(&self) -> bool {
        self.queued > PATIENT_ROUNDS
    }

    /// Nothing has been heard through several probes: what was known of the path may not hold.
    pub fn collapse(&mut self) {
        if self.size > LEAST {
            self.threshold = (self.size / 2).max(LEAST);
            self.size = LEAST;
        }
    }

    /// The other side is one of 2003, which tells what it has missed only seconds later: less than
    /// a whole message each time would never be done.
    pub fn be_patient(&mut self) {
        self.size = self.size.max(WHOLE);
    }

    /// Nothing was sent for `idle`, while an answer takes `patience`: what was known is worth
    /// half as much each time (RFC 2861).
    ///
    /// Packet `next` goes out now, and nothing is on its way.
    pub fn rest(&mut self, idle: Duration, patience: Duration, next: u16) {
        if self.end.wrapping_sub(next) < 0x8000 {
            // So many packets without messages have gone out that the end of the round seems to lie
            // ahead again.
            self.end = next;
        }
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
