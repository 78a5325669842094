//! What lies between ends: paths that lose, delay and reorder, and lines of limited speed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use khashmir::airhook::packet::Packet;
use khashmir::time::Time;

use super::end::{End, Program};
use super::reno::Reno;

/// What UDP and IPv4 put in front of each datagram.
pub const HEADERS: usize = 28;

/// Numbers from a seed (SplitMix64), for what the network does.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Dice(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of 0 to `limit` - 1.
    pub fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }
}

/// What becomes of datagrams in one direction.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// Chance of loss, in millionths.
    pub loss: u64,
    /// One way, in microseconds.
    pub delay: u64,
    /// So much more or less, evenly, in microseconds: datagrams overtake each other.
    pub jitter: u64,
    /// Datagrams with more bytes than this in them are lost.
    pub largest: usize,
    /// Which pipe they go through first.
    pub pipe: Option<usize>,
}

impl Path {
    /// Without loss.
    pub fn new(delay: Duration) -> Self {
        let delay = delay.as_micros() as u64;
        Path { loss: 0, delay, jitter: 0, largest: usize::MAX, pipe: None }
    }

    /// With so many percent of loss.
    pub fn percent(self, loss: u64) -> Self {
        Path { loss: loss * 10_000, ..self }
    }

    pub fn jitter(self, jitter: Duration) -> Self {
        Path { jitter: jitter.as_micros() as u64, ..self }
    }

    /// Through a pipe first.
    pub fn through(self, pipe: usize) -> Self {
        Path { pipe: Some(pipe), ..self }
    }
}

/// A line of limited speed with a queue before it that drops what does not fit.
pub struct Pipe {
    /// Bits a second.
    rate: u64,
    /// Bytes that may wait, the datagram on the line among them.
    queue: u64,
    /// When all that was taken is through, in nanoseconds.
    free: u64,
    /// Datagrams that came, and those of them that were dropped, by [`INTERVAL`].
    pub came: Vec<u64>,
    pub dropped: Vec<u64>,
    /// Bytes that went through.
    pub bytes: u64,
    /// The most that waited.
    pub most: u64,
    /// Of all datagrams, bytes × nanoseconds in the queue.
    waited: u128,
}

/// Figures are kept for each so many seconds.
pub const INTERVAL: Duration = Duration::from_secs(5);

/// Adds to what is counted by intervals.
pub fn add(counts: &mut Vec<u64>, now: Time, count: u64) {
    let at = (now.as_micros() / INTERVAL.as_micros() as u64) as usize;
    if counts.len() <= at {
        counts.resize(at + 1, 0);
    }
    counts[at] += count;
}

impl Pipe {
    pub fn new(rate: u64, queue: u64) -> Self {
        let (came, dropped) = (Vec::new(), Vec::new());
        Pipe { rate, queue, free: 0, came, dropped, bytes: 0, most: 0, waited: 0 }
    }

    /// When a datagram that comes now is through, if there is room for it.
    fn take(&mut self, now: Time, bytes: usize) -> Option<Time> {
        let size = (bytes + HEADERS) as u64;
        // Nanoseconds that a byte takes, × 1,000.
        let each = 8_000_000_000_000 / self.rate;
        let at = now.as_micros() * 1000;
        let waiting = self.free.saturating_sub(at) * 1000 / each;
        let fits = waiting + size <= self.queue;
        add(&mut self.came, now, 1);
        add(&mut self.dropped, now, u64::from(!fits));
        if !fits {
            return None;
        }
        self.most = self.most.max(waiting + size);
        self.free = self.free.max(at) + size * each / 1000;
        self.bytes += size;
        self.waited += u128::from(size) * u128::from(self.free - at);
        Some(Time::from_micros(self.free.div_ceil(1000)))
    }

    /// Bytes that waited on average over so long.
    pub fn mean(&self, span: Duration) -> u64 {
        (self.waited / span.as_nanos()) as u64
    }

    /// How much of the line was used until `now`, in thousandths.
    pub fn used(&self, now: Time) -> u64 {
        let all = now.as_micros();
        let ahead = (self.free / 1000).saturating_sub(all);
        (self.bytes * 8_000_000 / (self.rate / 1000)).saturating_sub(ahead * 1000) / all.max(1)
    }
}

/// Whom a datagram is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum To {
    End(usize),
    /// The sender or receiver of a competing flow.
    Sender(usize),
    Receiver(usize),
}

/// A datagram under way, by its arrival.
type UnderWay = Reverse<(Time, u64, To, Vec<u8>)>;

/// All the ends, and what is under way.
pub struct Network {
    pub now: Time,
    pub ends: Vec<End>,
    /// Flows of another kind.
    pub flows: Vec<Reno>,
    pub pipes: Vec<Pipe>,
    /// When nothing gets through: from, until.
    pub outage: Option<(Time, Time)>,
    dice: Dice,
    under_way: BinaryHeap<UnderWay>,
    serial: u64,
    spare: Vec<Vec<u8>>,
    seed: u64,
    /// Prints each datagram.
    pub trace: bool,
}

impl Network {
    pub fn new(seed: u64) -> Self {
        Network {
            now: Time::ZERO,
            ends: Vec::new(),
            flows: Vec::new(),
            pipes: Vec::new(),
            outage: None,
            dice: Dice::new(seed ^ 0x6e65_7477_6f72_6b00),
            under_way: BinaryHeap::new(),
            serial: 0,
            spare: Vec::new(),
            seed,
            trace: false,
        }
    }

    pub fn dice(&mut self) -> &mut Dice {
        &mut self.dice
    }

    /// Two ends that talk to each other, of which the first begins at `at`: the first one's number.
    pub fn pair(&mut self, at: Time, programs: [Program; 2], paths: [Path; 2]) -> usize {
        let first = self.ends.len();
        for (side, (program, path)) in programs.into_iter().zip(paths).enumerate() {
            self.ends.push(End::new(self.seed, first + side, first + 1 - side, program, path));
        }
        self.ends[first].idle_until = Some(at);
        self.ends[first].deadline = Some(at);
        first
    }

    /// Runs until `done`; false when that has not come about by `end`.
    pub fn run(&mut self, end: Time, mut done: impl FnMut(&[End]) -> bool) -> bool {
        while !done(&self.ends) {
            if !self.step(end) {
                self.now = end;
                return done(&self.ends);
            }
        }
        true
    }

    /// Lets the next thing happen; false when nothing will by `end`.
    fn step(&mut self, end: Time) -> bool {
        let arrival = self.under_way.peek().map(|Reverse((at, ..))| *at);
        let timers = self.ends.iter().map(|end| end.deadline);
        let timer = timers.chain(self.flows.iter().map(Reno::deadline)).flatten().min();
        let Some(next) = [arrival, timer].into_iter().flatten().min().filter(|&next| next <= end) else {
            return false;
        };
        self.now = self.now.max(next);
        let now = self.now;
        if arrival == Some(next) {
            let Some(Reverse((_, _, to, datagram))) = self.under_way.pop() else { return false };
            match to {
                To::End(number) => {
                    self.ends[number].deliver(now, &datagram);
                    self.settle(number);
                }
                To::Sender(flow) => {
                    self.flows[flow].acknowledged(now, &datagram);
                    self.settle_flow(flow);
                }
                To::Receiver(flow) => {
                    self.flows[flow].arrived(now, &datagram);
                    self.settle_flow(flow);
                }
            }
            self.spare.push(datagram);
            return true;
        }
        for number in 0..self.ends.len() {
            if self.ends[number].deadline.is_some_and(|at| at <= now) {
                self.ends[number].wake(now);
                self.settle(number);
            }
        }
        for flow in 0..self.flows.len() {
            if self.flows[flow].deadline().is_some_and(|at| at <= now) {
                self.flows[flow].wake(now);
                self.settle_flow(flow);
            }
        }
        true
    }

    /// After something happened at an end: its program goes on, and what it has to say goes out.
    fn settle(&mut self, number: usize) {
        let now = self.now;
        if self.ends[number].has_failed() {
            // All that was under way is lost; the programs take up where they stand.
            let peer = self.ends[number].peer;
            self.ends[number].written = self.ends[peer].read;
            self.ends[peer].written = self.ends[number].read;
        }
        self.ends[number].go_on(now);
        for round in 0.. {
            assert!(round < 10_000, "it does not stop speaking");
            let mut datagram = self.spare.pop().unwrap_or_default();
            let end = &mut self.ends[number];
            if !end.transmit(now, &mut datagram) {
                self.spare.push(datagram);
                break;
            }
            let (path, peer) = (end.path, end.peer);
            end.packets += 1;
            let packet = Packet::parse(&datagram).expect("what we send can be read");
            end.carried += packet.messages.iter().map(|message| message.len() as u64 - 2).sum::<u64>();
            self.send(path, To::End(peer), datagram);
        }
        self.ends[number].look_ahead(now);
    }

    fn settle_flow(&mut self, flow: usize) {
        loop {
            let mut datagram = self.spare.pop().unwrap_or_default();
            let Some((path, to)) = self.flows[flow].transmit(self.now, flow, &mut datagram) else {
                self.spare.push(datagram);
                return;
            };
            self.send(path, to, datagram);
        }
    }

    /// Puts a datagram on its way.
    fn send(&mut self, path: Path, to: To, datagram: Vec<u8>) {
        let arrival = self.pass(path, datagram.len());
        if self.trace {
            print(self.now, to, &datagram, arrival);
        }
        match arrival {
            Ok(at) => {
                self.serial += 1;
                self.under_way.push(Reverse((at, self.serial, to, datagram)));
            }
            Err(_) => self.spare.push(datagram),
        }
    }

    /// When a datagram that is sent now arrives, or why it does not.
    fn pass(&mut self, path: Path, bytes: usize) -> Result<Time, &'static str> {
        let now = self.now;
        if self.outage.is_some_and(|(from, until)| (from..until).contains(&now)) {
            return Err("OUT");
        }
        if bytes > path.largest {
            return Err("TOO LARGE");
        }
        let through = match path.pipe {
            Some(pipe) => self.pipes[pipe].take(now, bytes).ok_or("FULL")?,
            None => now,
        };
        if path.loss > 0 && self.dice.below(1_000_000) < path.loss {
            return Err("LOST");
        }
        let delay = match path.jitter {
            0 => path.delay,
            jitter => path.delay - jitter + self.dice.below(2 * jitter + 1),
        };
        Ok(through + Duration::from_micros(delay))
    }
}

/// One line about a datagram: when, which way (the receiver's number), how large; what is in it; when it
/// arrives, or why it does not.
fn print(now: Time, to: To, datagram: &[u8], arrival: Result<Time, &'static str>) {
    let millis = |at: Time| format!("{}.{:03}", at.as_micros() / 1000, at.as_micros() % 1000);
    let arrival = match arrival {
        Ok(at) => format!("at {}", millis(at)),
        Err(why) => why.to_owned(),
    };
    let (now, bytes) = (millis(now), datagram.len());
    let (To::End(number), Ok(packet)) = (to, Packet::parse(datagram)) else {
        println!("{now:>10} {to:?} {bytes:>4} bytes  {arrival}");
        return;
    };
    println!(
        "{now:>10} {} {number:<2} {bytes:>4} bytes  seq {:>5}  obs {:>3}  {}{}  E {:>3}  \
         messages {:>3}  missed {:>3}  {arrival}",
        if number.is_multiple_of(2) { "<-" } else { "->" },
        packet.sequence,
        packet.observed_sequence,
        if packet.observed_session == 0 { '-' } else { 'O' },
        if packet.session == 0 { '-' } else { 'S' },
        packet.next.map_or(-1, i16::from),
        packet.messages.count(),
        packet.missed.len(),
    );
}
