//! A flow of another kind to share a line with: packets of 1,450 bytes under NewReno as RFC 9002 has
//! it, with always more to send. Not paced, as most of TCP is not.

use std::collections::BTreeMap;
use std::time::Duration;

use khashmir::time::Time;

use super::network::{Path, To, add};

/// Bytes of a packet, and of an acknowledgement.
const SIZE: u64 = 1450;
const ACKNOWLEDGEMENT: usize = 40;
/// RFC 9002, 7.2.
const INITIAL: u64 = 10 * SIZE;
const LEAST: u64 = 2 * SIZE;
/// RFC 9002, 6.1.1.
const PACKET_THRESHOLD: u64 = 3;
/// RFC 9002, 6.1.2.
const GRANULARITY: Duration = Duration::from_millis(1);
/// How long an acknowledgement waits for a second packet (RFC 9000, 18.2).
const ACK_DELAY: Duration = Duration::from_millis(25);
/// RFC 9002, 6.2.2.
const INITIAL_ROUND_TRIP: Duration = Duration::from_millis(333);
/// After so many probes in a row everything is taken to be lost (about RFC 9002, 7.6).
const PERSISTENT: u32 = 3;

/// A flow: its sender and its receiver.
pub struct Reno {
    there: Path,
    back: Path,
    /// When the sender begins, until it has.
    start: Option<Time>,
    window: u64,
    threshold: u64,
    next: u64,
    in_flight: BTreeMap<u64, Time>,
    largest: u64,
    /// How many arrivals are acknowledged.
    known: usize,
    smoothed: Option<Duration>,
    variation: Duration,
    /// When the window was last cut.
    recovery: Option<Time>,
    probes: u32,
    /// A packet goes out whatever the window says.
    probe: bool,
    lost_at: Option<Time>,
    probe_at: Option<Time>,
    /// What came to the receiver, in that order. An acknowledgement says how many those are, as one
    /// with all its ranges does.
    arrivals: Vec<u64>,
    unacknowledged: u32,
    acknowledge_at: Option<Time>,
    acknowledge: bool,
    /// Bytes that came, by interval.
    pub reads: Vec<u64>,
}

impl Reno {
    pub fn new(start: Time, there: Path, back: Path) -> Self {
        Reno {
            there,
            back,
            start: Some(start),
            window: INITIAL,
            threshold: u64::MAX,
            next: 0,
            in_flight: BTreeMap::new(),
            largest: 0,
            known: 0,
            smoothed: None,
            variation: Duration::ZERO,
            recovery: None,
            probes: 0,
            probe: false,
            lost_at: None,
            probe_at: None,
            arrivals: Vec::new(),
            unacknowledged: 0,
            acknowledge_at: None,
            acknowledge: false,
            reads: Vec::new(),
        }
    }

    /// When something is due.
    pub fn deadline(&self) -> Option<Time> {
        [self.start, self.lost_at, self.probe_at, self.acknowledge_at].into_iter().flatten().min()
    }

    /// Does what is due.
    pub fn wake(&mut self, now: Time) {
        self.start.take_if(|at| *at <= now);
        if self.acknowledge_at.take_if(|at| *at <= now).is_some() {
            self.acknowledge = true;
        }
        if self.lost_at.take_if(|at| *at <= now).is_some() {
            self.find_losses(now);
        }
        if self.probe_at.take_if(|at| *at <= now).is_some() {
            self.probes += 1;
            self.probe = true;
            if self.probes >= PERSISTENT {
                self.window = LEAST;
                self.in_flight.clear();
            }
        }
    }

    /// A packet has come to the receiver.
    pub fn arrived(&mut self, now: Time, datagram: &[u8]) {
        let number = number(datagram);
        add(&mut self.reads, now, SIZE);
        let in_order = self.arrivals.last().map_or(0, |last| last + 1) == number;
        self.arrivals.push(number);
        self.unacknowledged += 1;
        if !in_order || self.unacknowledged >= 2 {
            self.acknowledge = true;
        } else if self.acknowledge_at.is_none() {
            self.acknowledge_at = Some(now + ACK_DELAY);
        }
    }

    /// An acknowledgement has come to the sender.
    pub fn acknowledged(&mut self, now: Time, datagram: &[u8]) {
        let known = number(datagram) as usize;
        let mut newest = None;
        for number in self.arrivals[self.known.min(known)..known].iter().copied() {
            let Some(sent) = self.in_flight.remove(&number) else { continue };
            newest = newest.max(Some((number, sent)));
            if self.recovery.is_none_or(|recovery| sent > recovery) {
                self.window += if self.window < self.threshold { SIZE } else { SIZE * SIZE / self.window };
            }
        }
        self.known = self.known.max(known);
        let Some((number, sent)) = newest else { return };
        self.probes = 0;
        self.largest = self.largest.max(number);
        self.measure(now.since(sent));
        self.find_losses(now);
        self.arm(now);
    }

    /// RFC 9002, 5.3.
    fn measure(&mut self, sample: Duration) {
        match self.smoothed {
            None => {
                self.smoothed = Some(sample);
                self.variation = sample / 2;
            }
            Some(smoothed) => {
                self.variation = (self.variation * 3 + smoothed.abs_diff(sample)) / 4;
                self.smoothed = Some((smoothed * 7 + sample) / 8);
            }
        }
    }

    /// RFC 9002, 6.1 and 7.3.2.
    fn find_losses(&mut self, now: Time) {
        let Some(smoothed) = self.smoothed else { return };
        let patience = (smoothed * 9 / 8).max(GRANULARITY);
        self.lost_at = None;
        let mut lost = Vec::new();
        for (&number, &sent) in self.in_flight.range(..self.largest) {
            if number + PACKET_THRESHOLD <= self.largest || sent + patience <= now {
                lost.push((number, sent));
            } else {
                self.lost_at = Some(self.lost_at.map_or(sent + patience, |at| at.min(sent + patience)));
            }
        }
        for (number, sent) in lost {
            self.in_flight.remove(&number);
            if self.recovery.is_none_or(|recovery| sent > recovery) {
                self.recovery = Some(now);
                self.window = (self.window / 2).max(LEAST);
                self.threshold = self.window;
            }
        }
    }

    fn arm(&mut self, now: Time) {
        let wait = match self.smoothed {
            Some(smoothed) => smoothed + (self.variation * 4).max(GRANULARITY) + ACK_DELAY,
            None => INITIAL_ROUND_TRIP * 3,
        };
        self.probe_at = (!self.in_flight.is_empty()).then(|| now + wait * (1 << self.probes.min(10)));
    }

    /// Puts the next datagram into `datagram`, if there is one, and says which way it goes and to whom.
    pub fn transmit(&mut self, now: Time, flow: usize, datagram: &mut Vec<u8>) -> Option<(Path, To)> {
        datagram.clear();
        if std::mem::take(&mut self.acknowledge) {
            self.acknowledge_at = None;
            self.unacknowledged = 0;
            datagram.extend_from_slice(&(self.arrivals.len() as u64).to_be_bytes());
            datagram.resize(ACKNOWLEDGEMENT, 0);
            return Some((self.back, To::Sender(flow)));
        }
        let room = (self.in_flight.len() as u64 + 1) * SIZE <= self.window;
        if self.start.is_some() || !(room || self.probe) {
            return None;
        }
        self.probe = false;
        datagram.extend_from_slice(&self.next.to_be_bytes());
        datagram.resize(SIZE as usize, 0);
        self.in_flight.insert(self.next, now);
        self.next += 1;
        self.arm(now);
        Some((self.there, To::Receiver(flow)))
    }
}

fn number(datagram: &[u8]) -> u64 {
    u64::from_be_bytes(*datagram.first_chunk().expect("a number"))
}
