//! Ends, each with a multiplexer of its own, and what lies between them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use khashmir::Config;
use khashmir::airhook::mux::Mux;
use khashmir::airhook::packet::Packet;
use khashmir::context::{Alarm, Context, Due, Key, Routes};
use khashmir::random::{Random, seed_from_number, seeded};
use khashmir::time::{Time, UnixTime};
use khashmir::wheel::Wheel;

/// What UDP and IPv4 put in front of each datagram.
pub const HEADERS: usize = 28;
/// So much is queued at most: the rest of what is to be sent waits outside.
pub const MOST_QUEUED: usize = 256 * 1024;
/// What is sent repeats after so many bytes.
const PERIOD: usize = 251;

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
        (u128::from(self.next()) * u128::from(limit) >> 64) as u64
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

    pub fn percent(self, loss: u64) -> Self {
        Path { loss: loss * 10_000, ..self }
    }

    pub fn jitter(self, jitter: Duration) -> Self {
        Path { jitter: jitter.as_micros() as u64, ..self }
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
    pub came: Vec<[u64; 2]>,
    /// Bytes that went through.
    pub bytes: u64,
    /// The most that waited.
    pub most: u64,
    /// Of all datagrams, bytes × nanoseconds in the queue.
    waited: u128,
}

/// Figures are kept for each so many seconds.
pub const INTERVAL: Duration = Duration::from_secs(5);

fn interval(now: Time) -> usize {
    (now.as_micros() / INTERVAL.as_micros() as u64) as usize
}

fn add(counts: &mut Vec<u64>, now: Time, count: u64) {
    let at = interval(now);
    if counts.len() <= at {
        counts.resize(at + 1, 0);
    }
    counts[at] += count;
}

impl Pipe {
    pub fn new(rate: u64, queue: u64) -> Self {
        Pipe { rate, queue, free: 0, came: Vec::new(), bytes: 0, most: 0, waited: 0 }
    }

    /// When a datagram that comes now is through, if there is room for it.
    fn take(&mut self, now: Time, bytes: usize) -> Option<Time> {
        let size = (bytes + HEADERS) as u64;
        let at = interval(now);
        if self.came.len() <= at {
            self.came.resize(at + 1, [0; 2]);
        }
        self.came[at][0] += 1;
        let now = now.as_micros() * 1000;
        let waiting = self.free.saturating_sub(now) * (self.rate / 1000) / 8_000_000;
        if waiting + size > self.queue {
            self.came[at][1] += 1;
            return None;
        }
        self.most = self.most.max(waiting + size);
        self.free = self.free.max(now) + size * 8_000_000 / (self.rate / 1000);
        self.bytes += size;
        self.waited += u128::from(size) * u128::from(self.free - now);
        Some(Time::from_micros(self.free.div_ceil(1000)))
    }

    /// Bytes that waited on average over so long.
    pub fn mean(&self, span: Duration) -> u64 {
        (self.waited / span.as_nanos()) as u64
    }

    /// How much of the line was used over so long, in thousandths.
    pub fn used(&self, span: Duration) -> u64 {
        self.bytes * 8 * 1_000_000 / (self.rate * span.as_millis() as u64)
    }
}

/// What the program at an end does.
#[derive(Clone, Copy, Debug)]
pub enum Program {
    /// Sends bytes, `total` in all.
    Write { total: u64 },
    /// Takes whatever comes.
    Read,
    /// Asks so many times, each time when the last answer has come.
    Call { count: u64, question: usize, answer: usize },
    /// Answers.
    Serve { question: usize, answer: usize },
}

/// One end: a host with one peer.
pub struct End {
    pub mux: Mux,
    pub config: Config,
    rng: Random,
    wheel: Wheel<Alarm>,
    buffer: Vec<u8>,
    inbox: Vec<u8>,
    program: Program,
    peer: usize,
    path: Path,
    /// The program has begun.
    begun: bool,
    /// When a timer is due.
    deadline: Option<Time>,
    /// Bytes of the stream that were given to the multiplexer, and that came out of it.
    pub written: u64,
    pub read: u64,
    /// The same that came out, by [`INTERVAL`].
    pub reads: Vec<u64>,
    /// When the last of them came.
    pub last_read: Time,
    /// Datagrams sent, and bytes of the stream in them.
    pub packets: u64,
    pub carried: u64,
    /// A call waits.
    pub waits: bool,
    /// Sessions that were lost with what was under way.
    pub resets: u64,
}

/// The name of the call that waits; each end has one at most.
const CALL: Key = Key::new(1, 1);

struct NoRoutes;

impl Routes for NoRoutes {
    fn local_address(&self, _: IpAddr) -> Option<IpAddr> {
        None
    }
}

fn address(end: usize) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, (end >> 8) as u8, end as u8)), 4000)
}

impl End {
    fn with<R>(&mut self, now: Time, f: impl FnOnce(&mut Mux, &mut Context<'_>, &mut Vec<u8>) -> R) -> R {
        let mut ctx = Context {
            now,
            unix: UnixTime(0),
            config: &self.config,
            rng: &mut self.rng,
            wheel: &mut self.wheel,
            node: Key::new(0, 0),
            routes: &NoRoutes,
            buffer: &mut self.buffer,
        };
        f(&mut self.mux, &mut ctx, &mut self.inbox)
    }

    /// Uses up what has come.
    fn take(&mut self, now: Time, came: Option<Key>, pattern: &[u8]) {
        let Some(key) = came else { return };
        let all = self.inbox.len();
        let from = (self.read % PERIOD as u64) as usize;
        assert!(pattern[from..from + all] == self.inbox[..], "bytes were changed, lost or mixed up");
        self.with(now, |mux, ctx, inbox| mux.keep(ctx, key, inbox, all));
        self.read += all as u64;
        self.last_read = now;
        add(&mut self.reads, now, all as u64);
    }

    /// Lets the program do what it can.
    fn go_on(&mut self, now: Time, pattern: &[u8]) {
        if !self.begun {
            return;
        }
        let peer = address(self.peer);
        while let Some((_, _)) = self.mux.poll_failed() {
            self.resets += 1;
            self.waits = false;
        }
        match self.program {
            Program::Write { total } => {
                let key = self.with(now, |mux, ctx, _| mux.connect(ctx, peer));
                let room = MOST_QUEUED.saturating_sub(self.mux.unconfirmed(key));
                let more = (total - self.written).min(room as u64) as usize;
                if more > 0 {
                    self.write(now, key, more, pattern);
                }
            }
            Program::Read => {}
            Program::Call { count, question, answer } => {
                let answered = self.read / answer as u64;
                let asked = self.written / question as u64;
                if asked > answered && self.waits {
                    return;
                }
                let key = self.with(now, |mux, ctx, _| mux.connect(ctx, peer));
                if self.waits {
                    self.with(now, |mux, ctx, _| mux.expect_no_more(ctx, key, CALL));
                    self.waits = false;
                }
                if asked < count {
                    self.write(now, key, question, pattern);
                    self.with(now, |mux, ctx, _| mux.expect(ctx, key, CALL));
                    self.waits = true;
                }
            }
            Program::Serve { question, answer } => {
                while self.written / (answer as u64) < self.read / question as u64 {
                    let key = self.with(now, |mux, ctx, _| mux.connect(ctx, peer));
                    self.write(now, key, answer, pattern);
                }
            }
        }
    }

    fn write(&mut self, now: Time, key: Key, bytes: usize, pattern: &[u8]) {
        let from = (self.written % PERIOD as u64) as usize;
        let bytes = &pattern[from..from + bytes];
        assert!(self.with(now, |mux, ctx, _| mux.send(ctx, key, bytes)), "the connection is gone");
        self.written += bytes.len() as u64;
    }

    fn deliver(&mut self, now: Time, datagram: &[u8], pattern: &[u8]) {
        let peer = address(self.peer);
        let came = self.with(now, |mux, ctx, inbox| mux.receive(ctx, peer, datagram, inbox));
        self.take(now, came, pattern);
    }

    fn wake(&mut self, now: Time, pattern: &[u8]) {
        while let Some(alarm) = self.wheel.expire(now) {
            let came = self.with(now, |mux, ctx, inbox| match alarm.due {
                Due::Connection(key) => mux.handle_timeout(ctx, key, inbox),
                _ => {
                    mux.handle_idle(ctx);
                    None
                }
            });
            self.take(now, came, pattern);
        }
    }
}

/// All the ends, and what is under way.
pub struct Network {
    pub now: Time,
    pub ends: Vec<End>,
    pub pipes: Vec<Pipe>,
    /// When nothing gets through: from, until.
    pub outage: Option<(Time, Time)>,
    dice: Dice,
    under_way: BinaryHeap<Reverse<(Time, u64, usize, Vec<u8>)>>,
    /// When programs begin.
    beginnings: Vec<(Time, usize)>,
    serial: u64,
    spare: Vec<Vec<u8>>,
    pattern: Vec<u8>,
    seed: u64,
    /// Prints each datagram.
    pub trace: bool,
}

impl Network {
    pub fn new(seed: u64) -> Self {
        Network {
            now: Time::ZERO,
            ends: Vec::new(),
            pipes: Vec::new(),
            outage: None,
            dice: Dice::new(seed ^ 0x6e65_7477_6f72_6b00),
            under_way: BinaryHeap::new(),
            beginnings: Vec::new(),
            serial: 0,
            spare: Vec::new(),
            pattern: (0..PERIOD + 2 * MOST_QUEUED).map(|at| (at % PERIOD) as u8).collect(),
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
        for side in 0..2 {
            let number = first + side;
            let mut rng = seeded(seed_from_number(self.seed << 16 | number as u64));
            self.ends.push(End {
                mux: Mux::new(&mut rng),
                config: Config::default(),
                rng,
                wheel: Wheel::new(),
                buffer: Vec::new(),
                inbox: Vec::new(),
                program: programs[side],
                peer: first + 1 - side,
                path: paths[side],
                begun: side == 1,
                deadline: None,
                written: 0,
                read: 0,
                reads: Vec::new(),
                last_read: Time::ZERO,
                packets: 0,
                carried: 0,
                waits: false,
                resets: 0,
            });
        }
        self.beginnings.push((at, first));
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
        let timer = self.ends.iter().filter_map(|end| end.deadline).min();
        let beginning = self.beginnings.iter().map(|&(at, _)| at).min();
        let Some(next) = [arrival, timer, beginning].into_iter().flatten().min().filter(|&next| next <= end)
        else {
            return false;
        };
        self.now = self.now.max(next);
        let now = self.now;
        if arrival == Some(next) {
            let Some(Reverse((_, _, to, datagram))) = self.under_way.pop() else { return false };
            self.ends[to].deliver(now, &datagram, &self.pattern);
            self.spare.push(datagram);
            self.settle(to);
        } else if timer == Some(next) {
            for number in 0..self.ends.len() {
                if self.ends[number].deadline.is_some_and(|at| at <= now) {
                    self.ends[number].wake(now, &self.pattern);
                    self.settle(number);
                }
            }
        } else if let Some(at) = self.beginnings.iter().position(|&(at, _)| at <= now) {
            let (_, number) = self.beginnings.remove(at);
            self.ends[number].begun = true;
            self.settle(number);
        }
        true
    }

    /// After something happened at an end: its program goes on, and what it has to say goes out.
    fn settle(&mut self, number: usize) {
        let now = self.now;
        self.ends[number].go_on(now, &self.pattern);
        for round in 0.. {
            assert!(round < 10_000, "it does not stop speaking");
            let mut datagram = self.spare.pop().unwrap_or_default();
            let end = &mut self.ends[number];
            if end.with(now, |mux, ctx, _| mux.poll_transmit(ctx, &mut datagram)).is_none() {
                self.spare.push(datagram);
                break;
            }
            let (path, peer) = (end.path, end.peer);
            end.packets += 1;
            let packet = Packet::parse(&datagram).expect("what we send can be read");
            end.carried += packet.messages.iter().map(|message| message.len() as u64 - 2).sum::<u64>();
            let arrival = self.pass(path, datagram.len());
            if self.trace {
                print(now, number, &datagram, arrival);
            }
            match arrival {
                Ok(at) => {
                    self.serial += 1;
                    self.under_way.push(Reverse((at, self.serial, peer, datagram)));
                }
                Err(_) => self.spare.push(datagram),
            }
        }
        let end = &mut self.ends[number];
        end.deadline = end.wheel.next_deadline();
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

/// One line about a datagram: when, from which end, how large; what is in it; when it arrives.
fn print(now: Time, from: usize, datagram: &[u8], arrival: Result<Time, &'static str>) {
    let Ok(packet) = Packet::parse(datagram) else { return };
    let (now, count) = (now.as_micros(), packet.messages.count());
    println!(
        "{:>6}.{:03} {from:>2} {} {:>4} bytes  seq {:>5} obs {:>3} {}{} E {:>3} messages {count:>3}  \
         missed {:>3}  {}",
        now / 1000,
        now % 1000,
        if from.is_multiple_of(2) { "->" } else { "<-" },
        datagram.len(),
        packet.sequence,
        packet.observed_sequence,
        if packet.observed_session == 0 { '-' } else { 'O' },
        if packet.session == 0 { '-' } else { 'S' },
        packet.next.map_or(-1, i16::from),
        packet.missed.len(),
        match arrival {
            Ok(at) => format!("-> {}.{:03}", at.as_micros() / 1000, at.as_micros() % 1000),
            Err(why) => why.to_owned(),
        },
    );
}
