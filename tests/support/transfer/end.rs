//! One end: a host with a multiplexer, a peer and a small program.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::LazyLock;
use std::time::Duration;

use khashmir::Config;
use khashmir::airhook::mux::Mux;
use khashmir::context::{Alarm, Context, Due, Key, Routes};
use khashmir::random::{Random, seed_from_number, seeded};
use khashmir::time::{Time, UnixTime};
use khashmir::wheel::Wheel;

use super::network::{Path, add};

/// So much is queued at most: the rest of what is to be sent waits outside.
pub const MOST_QUEUED: usize = 256 * 1024;
/// What is sent repeats after so many bytes.
const PERIOD: usize = 251;

/// What the program at an end does.
#[derive(Clone, Copy, Debug)]
pub enum Program {
    /// Sends bytes, `total` in all; while a call waits for its answer, or without.
    Write { total: u64, calls: bool },
    /// Takes whatever comes.
    Read,
    /// Asks so many times, each time so long after the last answer has come.
    Call { count: u64, question: usize, answer: usize, pause: Duration },
    /// Answers.
    Serve { question: usize, answer: usize },
}

/// One end.
pub struct End {
    pub mux: Mux,
    config: Config,
    rng: Random,
    wheel: Wheel<Alarm>,
    buffer: Vec<u8>,
    inbox: Vec<u8>,
    program: Program,
    pub peer: usize,
    pub path: Path,
    /// The program does nothing before; `None`: it has not begun.
    pub idle_until: Option<Time>,
    /// When something is due next.
    pub deadline: Option<Time>,
    /// Bytes of the stream that were given to the multiplexer, and that came out of it.
    pub written: u64,
    pub read: u64,
    /// The same that came out, by interval.
    pub reads: Vec<u64>,
    /// When bytes came first and last since that was looked at.
    pub first_read: Option<Time>,
    pub last_read: Time,
    /// Datagrams sent, and bytes of the stream in them.
    pub packets: u64,
    pub carried: u64,
    /// When the call was made that waits.
    asked: Option<Time>,
    /// How long calls took, in microseconds.
    pub answers: Vec<u64>,
    /// Calls that failed with their session.
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

/// What everybody sends, so that those who take it can tell whether it is whole.
static PATTERN: LazyLock<Vec<u8>> =
    LazyLock::new(|| (0..PERIOD + 2 * MOST_QUEUED).map(|at| (at % PERIOD) as u8).collect());

impl End {
    pub fn new(seed: u64, number: usize, peer: usize, program: Program, path: Path) -> Self {
        let mut rng = seeded(seed_from_number(seed << 16 | number as u64));
        End {
            mux: Mux::new(&mut rng),
            config: Config::default(),
            rng,
            wheel: Wheel::new(),
            buffer: Vec::new(),
            inbox: Vec::new(),
            program,
            peer,
            path,
            idle_until: None,
            deadline: None,
            written: 0,
            read: 0,
            reads: Vec::new(),
            first_read: None,
            last_read: Time::ZERO,
            packets: 0,
            carried: 0,
            asked: None,
            answers: Vec::new(),
            resets: 0,
        }
    }

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

    /// A datagram has arrived.
    pub fn deliver(&mut self, now: Time, datagram: &[u8]) {
        let peer = address(self.peer);
        let came = self.with(now, |mux, ctx, inbox| mux.receive(ctx, peer, datagram, inbox));
        self.take(now, came);
    }

    /// Does what is due.
    pub fn wake(&mut self, now: Time) {
        while let Some(alarm) = self.wheel.expire(now) {
            let came = self.with(now, |mux, ctx, inbox| match alarm.due {
                Due::Connection(key) => mux.handle_timeout(ctx, key, inbox),
                _ => {
                    mux.handle_idle(ctx);
                    None
                }
            });
            self.take(now, came);
        }
    }

    /// Puts the next datagram into `datagram`, if there is one.
    pub fn transmit(&mut self, now: Time, datagram: &mut Vec<u8>) -> bool {
        self.with(now, |mux, ctx, _| mux.poll_transmit(ctx, datagram)).is_some()
    }

    /// Uses up what has come.
    fn take(&mut self, now: Time, came: Option<Key>) {
        let Some(key) = came else { return };
        let all = self.inbox.len();
        let from = (self.read % PERIOD as u64) as usize;
        assert!(PATTERN[from..from + all] == self.inbox[..], "bytes were changed, lost or mixed up");
        self.with(now, |mux, ctx, inbox| mux.keep(ctx, key, inbox, all));
        self.read += all as u64;
        self.first_read.get_or_insert(now);
        self.last_read = now;
        add(&mut self.reads, now, all as u64);
    }

    /// Whether a call was lost with its session.
    pub fn has_failed(&mut self) -> bool {
        let mut failed = false;
        while self.mux.poll_failed().is_some() {
            failed = true;
            self.resets += 1;
            self.asked = None;
        }
        failed
    }

    /// Finds out when something is due next.
    pub fn look_ahead(&mut self, now: Time) {
        let pause = self.idle_until.filter(|&until| until > now);
        self.deadline = [self.wheel.next_deadline(), pause].into_iter().flatten().min();
    }

    /// Lets the program do what it can.
    pub fn go_on(&mut self, now: Time) {
        match self.program {
            Program::Read => {}
            Program::Serve { question, answer } => {
                while self.written / (answer as u64) < self.read / question as u64 {
                    let key = self.connect(now);
                    self.write(now, key, answer);
                }
            }
            _ if self.idle_until.is_none_or(|until| now < until) => {}
            Program::Write { total, calls } => {
                let key = self.connect(now);
                if calls {
                    self.expect(now, key);
                }
                let room = MOST_QUEUED.saturating_sub(self.mux.unconfirmed(key));
                let more = (total - self.written).min(room as u64) as usize;
                if more > 0 {
                    self.write(now, key, more);
                }
            }
            Program::Call { count, question, answer, pause } => {
                let key = self.connect(now);
                if self.written / question as u64 <= self.read / answer as u64
                    && let Some(asked) = self.asked.take()
                {
                    self.with(now, |mux, ctx, _| mux.expect_no_more(ctx, key, CALL));
                    self.answers.push(now.since(asked).as_micros() as u64);
                    self.idle_until = Some(now + pause);
                    if !pause.is_zero() {
                        return;
                    }
                }
                if self.asked.is_none() && self.written / (question as u64) < count {
                    self.write(now, key, question);
                    self.expect(now, key);
                }
            }
        }
    }

    fn connect(&mut self, now: Time) -> Key {
        let peer = address(self.peer);
        self.with(now, |mux, ctx, _| mux.connect(ctx, peer))
    }

    fn expect(&mut self, now: Time, key: Key) {
        if self.asked.is_none() {
            self.asked = Some(now);
            self.with(now, |mux, ctx, _| mux.expect(ctx, key, CALL));
        }
    }

    fn write(&mut self, now: Time, key: Key, bytes: usize) {
        let from = (self.written % PERIOD as u64) as usize;
        let bytes = &PATTERN[from..from + bytes];
        let before = self.mux.unconfirmed(key);
        let _ = self.with(now, |mux, ctx, _| mux.send(ctx, key, bytes, None));
        assert!(self.mux.unconfirmed(key) == before + bytes.len(), "what should have room has none");
        self.written += bytes.len() as u64;
    }
}
