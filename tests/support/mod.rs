//! Two ends of a connection and a bad network between them, in virtual time.
#![allow(dead_code)]

pub mod originals;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use khashmir::Config;
use khashmir::airhook::channel::Channel;
use khashmir::airhook::connection::{Carrier, Connection, Verdict};
use khashmir::airhook::flight::{Fate, Token};
use khashmir::airhook::packet::{MAX_MESSAGES, MAX_PACKET, Packet};
use khashmir::airhook::stream::{Port, Stream};
use khashmir::context::{Alarm, Context, Key, Routes};
use khashmir::random::{Random, seed_from_number, seeded};
use khashmir::time::{Time, UnixTime};
use khashmir::wheel::Wheel;
use rand::RngExt;

pub const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Says which seed failed.
pub struct Seed(pub u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed with seed {}", self.0);
        }
    }
}

/// Everything that a [`Context`] borrows.
pub struct World {
    pub now: Time,
    pub config: Config,
    pub rng: Random,
    pub wheel: Wheel<Alarm>,
    pub buffer: Vec<u8>,
}

struct NoRoutes;

impl Routes for NoRoutes {
    fn local_address(&self, _: IpAddr) -> Option<IpAddr> {
        None
    }
}

impl World {
    pub fn new(seed: u64) -> Self {
        let rng = seeded(seed_from_number(seed));
        World { now: Time::ZERO, config: Config::default(), rng, wheel: Wheel::new(), buffer: Vec::new() }
    }

    pub fn context(&mut self) -> Context<'_> {
        Context {
            now: self.now,
            unix: UnixTime(0),
            config: &self.config,
            rng: &mut self.rng,
            wheel: &mut self.wheel,
            node: Key::new(0, 0),
            routes: &NoRoutes,
            buffer: &mut self.buffer,
        }
    }
}

/// One end, of ours or of another implementation.
pub trait Party {
    fn receive(&mut self, now: Time, datagram: &[u8]);
    fn deadline(&self) -> Option<Time>;
    fn wake(&mut self, now: Time);
    fn transmit(&mut self, now: Time) -> Option<Vec<u8>>;
}

/// How bad the network is: chances of 0 to 1.
#[derive(Clone, Copy, Debug, Default)]
pub struct Badness {
    pub loss: f64,
    pub duplicate: f64,
    pub reorder: f64,
    /// Comes seconds late.
    pub late: f64,
}

impl Badness {
    pub const NONE: Badness = Badness { loss: 0.0, duplicate: 0.0, reorder: 0.0, late: 0.0 };

    pub fn all(chance: f64) -> Self {
        Badness { loss: chance, duplicate: chance, reorder: chance, late: 0.0 }
    }
}

/// Two parties and the network between them.
pub struct Pair<A, B> {
    pub a: A,
    pub b: B,
    pub now: Time,
    pub bad: Badness,
    pub rng: Random,
    /// What is under way, by the time at which it arrives: to `a`?, datagram.
    pub wire: BTreeMap<(Time, u64), (bool, Vec<u8>)>,
    sent: u64,
    /// Datagrams sent by a, and by b.
    pub packets: [u64; 2],
    pub bytes: [u64; 2],
    /// Keeps a copy of everything sent, for replays.
    pub record: Option<Vec<(bool, Vec<u8>)>>,
    /// Prints each datagram.
    pub trace: bool,
}

impl<A: Party, B: Party> Pair<A, B> {
    pub fn new(seed: u64, bad: Badness, a: A, b: B) -> Self {
        Pair {
            a,
            b,
            now: Time::ZERO,
            bad,
            rng: seeded(seed_from_number(seed ^ 0x5eed)),
            wire: BTreeMap::new(),
            sent: 0,
            packets: [0; 2],
            bytes: [0; 2],
            record: None,
            trace: std::env::var_os("TRACE").is_some(),
        }
    }

    /// Puts a datagram on its way.
    pub fn put(&mut self, to_a: bool, datagram: Vec<u8>) {
        if let Some(record) = &mut self.record {
            record.push((to_a, datagram.clone()));
        }
        let copies = if self.rng.random_bool(self.bad.duplicate) { 2 } else { 1 };
        for _ in 0..copies {
            let lost = self.rng.random_bool(self.bad.loss);
            if self.trace {
                let way = if to_a { "a <- b" } else { "a -> b" };
                let packet = Packet::parse(&datagram).map(|p| {
                    let messages = p.messages.count();
                    format!(
                        "o={} s={} O={:x} S={:x} E={:?} M={:?} messages={messages}",
                        p.observed_sequence, p.sequence, p.observed_session, p.session, p.next, p.missed
                    )
                });
                eprintln!("{:>9} {way} {packet:?} {}", self.now.as_micros(), if lost { "LOST" } else { "" });
            }
            if lost {
                continue;
            }
            let mut delay = 5000 + self.rng.random_range(0..1000);
            if self.rng.random_bool(self.bad.reorder) {
                delay += self.rng.random_range(0..20_000);
            }
            if self.rng.random_bool(self.bad.late) {
                delay += self.rng.random_range(0..10_000_000);
            }
            self.sent += 1;
            self.wire.insert((self.now + Duration::from_micros(delay), self.sent), (to_a, datagram.clone()));
        }
    }

    /// Lets both say what they have to say now.
    pub fn drain(&mut self) {
        for round in 0.. {
            assert!(round < 2000, "they do not stop speaking");
            let (from_a, from_b) = (self.a.transmit(self.now), self.b.transmit(self.now));
            if from_a.is_none() && from_b.is_none() {
                return;
            }
            for (index, datagram) in [from_a, from_b].into_iter().enumerate() {
                if let Some(datagram) = datagram {
                    self.packets[index] += 1;
                    self.bytes[index] += datagram.len() as u64;
                    self.put(index == 1, datagram);
                }
            }
        }
    }

    /// When something happens next.
    pub fn next(&self) -> Option<Time> {
        let wire = self.wire.first_key_value().map(|(key, _)| key.0);
        [wire, self.a.deadline(), self.b.deadline()].into_iter().flatten().min()
    }

    /// Lets the next thing happen; false when nothing will until `end`.
    pub fn step(&mut self, end: Time) -> bool {
        self.drain();
        let Some(next) = self.next().filter(|&next| next <= end) else {
            self.now = self.now.max(end);
            return false;
        };
        self.now = self.now.max(next);
        if let Some(entry) = self.wire.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let (to_a, datagram) = entry.remove();
            if to_a { self.a.receive(self.now, &datagram) } else { self.b.receive(self.now, &datagram) }
        }
        if self.a.deadline().is_some_and(|at| at <= self.now) {
            self.a.wake(self.now);
        }
        if self.b.deadline().is_some_and(|at| at <= self.now) {
            self.b.wake(self.now);
        }
        self.drain();
        true
    }

    /// Runs for `span`.
    pub fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while self.step(end) {}
    }

    /// Runs until `done`; false when that has not come about within `span`.
    pub fn run_until(&mut self, span: Duration, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let end = self.now + span;
        while !done(self) {
            if !self.step(end) {
                return done(self);
            }
        }
        true
    }

    /// The network is good from now on: everything settles, and then both are silent.
    pub fn quiet(&mut self, within: Duration) {
        self.bad = Badness::NONE;
        self.run(within);
        let before = self.packets;
        self.run(secs(5 * 3600));
        assert_eq!(self.packets, before, "packets on an idle connection");
        assert!(self.wire.is_empty());
    }
}

/// The first message, if it has at most `room` bytes.
pub fn take_front(queue: &mut VecDeque<Vec<u8>>, room: usize) -> Option<Vec<u8>> {
    queue.front().filter(|message| message.len() <= room)?;
    queue.pop_front()
}

/// A carrier of single messages; each is a name that is used once.
#[derive(Default)]
pub struct Raw {
    pub queue: VecDeque<Vec<u8>>,
    pub in_flight: HashMap<Token, Vec<u8>>,
    token: Token,
    /// What has come, in order, since the other side last started afresh.
    pub delivered: Vec<Vec<u8>>,
    /// What had come before that.
    pub delivered_before: Vec<Vec<u8>>,
    here: HashSet<Vec<u8>>,
    pub confirmed: Vec<Vec<u8>>,
    pub lost_for_good: Vec<Vec<u8>>,
    pub restarts_in: usize,
    pub restarts_out: usize,
    /// Answers each message at once, with one whose first byte is this.
    pub echo: Option<u8>,
    /// The other side sends the same message more than once.
    pub repeats: bool,
}

impl Raw {
    pub fn settled(&self) -> bool {
        self.queue.is_empty() && self.in_flight.is_empty()
    }

    pub fn all_delivered(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.delivered_before.iter().chain(&self.delivered)
    }
}

impl Carrier for Raw {
    fn ready(&self) -> bool {
        !self.queue.is_empty()
    }

    fn fill(&mut self, room: usize, packet: &mut Vec<u8>) -> Option<Token> {
        let message = take_front(&mut self.queue, room)?;
        packet.extend_from_slice(&message);
        self.token = self.token.wrapping_add(1);
        assert!(self.in_flight.insert(self.token, message).is_none());
        Some(self.token)
    }

    fn settle(&mut self, token: Token, fate: Fate) {
        let message = self.in_flight.remove(&token).expect("settled twice, or never sent");
        match fate {
            Fate::Confirmed => self.confirmed.push(message),
            Fate::Lost => self.queue.push_front(message),
        }
    }

    fn deliver(&mut self, message: &[u8]) {
        assert!(
            self.here.insert(message.to_vec()) || self.repeats,
            "delivered twice in a session: {message:?}"
        );
        self.delivered.push(message.to_vec());
        if let Some(mark) = self.echo {
            let mut answer = message.to_vec();
            answer[0] = mark;
            self.queue.push_back(answer);
        }
    }

    fn restart_incoming(&mut self) {
        self.restarts_in += 1;
        self.here.clear();
        self.delivered_before.append(&mut self.delivered);
    }

    fn restart_outgoing(&mut self) {
        self.restarts_out += 1;
        self.lost_for_good.extend(self.in_flight.drain().map(|(_, message)| message));
        self.lost_for_good.extend(self.queue.drain(..));
    }
}

/// An end of ours.
pub struct Ours<C> {
    pub world: World,
    pub connection: Connection,
    pub carrier: C,
    /// How often the peer was given up.
    pub dropped: usize,
    /// Of each session of ours: the newest packet, and the newest observed.
    sessions: HashMap<u32, (u16, u16)>,
    session: u32,
    /// Somebody makes up what it has observed: then that is not looked at.
    pub deceived: bool,
}

impl<C: Carrier> Ours<C> {
    pub fn new(seed: u64, carrier: C) -> Self {
        let mut world = World::new(seed);
        let connection = Connection::new(true, &mut world.rng);
        Ours { world, connection, carrier, dropped: 0, sessions: HashMap::new(), session: 0, deceived: false }
    }

    /// Forgets everything, as a program that is started again.
    pub fn restart(&mut self, opened: bool) {
        self.connection = Connection::new(opened, &mut self.world.rng);
        self.carrier.restart_incoming();
        self.carrier.restart_outgoing();
    }

    pub fn expect(&mut self, expecting: bool, now: Time) {
        self.world.now = now;
        let ctx = self.world.context();
        self.connection.set_expecting(expecting, &ctx);
    }

    pub fn take(&mut self, now: Time, datagram: &[u8]) -> Option<Verdict> {
        self.world.now = now;
        let packet = Packet::parse(datagram).ok()?;
        let verdict =
            self.connection.receive(&packet, datagram, &mut self.world.context(), &mut self.carrier);
        // What is held is taken in later, by itself.
        if matches!(verdict, Verdict::Accepted | Verdict::Held)
            && let shown = if packet.observed_session == 0 { self.session } else { packet.observed_session }
            && let Some((newest, observed)) = self.sessions.get_mut(&shown)
        {
            let back = (*newest as u8).wrapping_sub(packet.observed_sequence);
            *observed = newest.wrapping_sub(u16::from(back).min(newest.wrapping_sub(*observed)));
        }
        Some(verdict)
    }
}

impl<C: Carrier> Party for Ours<C> {
    fn receive(&mut self, now: Time, datagram: &[u8]) {
        self.take(now, datagram);
    }

    fn deadline(&self) -> Option<Time> {
        self.connection.deadline()
    }

    fn wake(&mut self, now: Time) {
        self.world.now = now;
        if !self.connection.handle_timeout(&mut self.world.context(), &mut self.carrier) {
            self.dropped += 1;
            self.restart(true);
        }
        assert!(self.deadline().is_none_or(|at| at > now), "due again at once");
    }

    fn transmit(&mut self, now: Time) -> Option<Vec<u8>> {
        self.world.now = now;
        let mut out = Vec::new();
        let wanted = self.connection.wants_to_send(&self.carrier);
        let sent = self.connection.transmit(&self.world.context(), &mut self.carrier, &mut out);
        assert!(wanted || !sent, "sends without wanting to");
        if !sent {
            assert!(out.is_empty());
            return None;
        }
        assert!(out.len() <= MAX_PACKET);
        assert!(self.connection.unsettled() <= MAX_MESSAGES);
        let packet = Packet::parse(&out).expect("what we send can be read");
        assert_ne!(packet.session, 0);
        assert!(packet.next.is_some());
        // What is offered to a second session always has the number 255, others begin with 0.
        let offer = packet.sequence == 255 && packet.next == Some(0) && packet.messages.count() == 0;
        let first = if offer { 254 } else { u16::MAX };
        let (newest, observed) = self.sessions.entry(packet.session).or_insert((first, first));
        let again = offer && *newest == 255;
        assert!(again || packet.sequence == newest.wrapping_add(1), "number {}", packet.sequence);
        *newest = packet.sequence;
        self.session = packet.session;
        assert!(self.deceived || newest.wrapping_sub(*observed) <= 255, "too far ahead");
        Some(out)
    }
}

pub type RawPair = Pair<Ours<Raw>, Ours<Raw>>;

/// Two ends of ours that carry single messages.
pub fn raw_pair(seed: u64, bad: Badness) -> RawPair {
    let a = Ours::new(seed * 2, Raw::default());
    let mut b = Ours::new(seed * 2 + 1, Raw::default());
    b.restart(false);
    b.carrier = Raw::default();
    Pair::new(seed, bad, a, b)
}

/// As many attempts as it takes: to give up in a bad network is right, but not what is tested.
pub fn patient(pair: &mut RawPair) {
    for end in [&mut pair.a, &mut pair.b] {
        end.world.config.max_openings = 200;
        end.world.config.max_heartbeats = 200;
        end.world.config.max_silence = secs(3600);
    }
}

/// A message that is sent once, of `length` bytes (at least 9).
pub fn name(side: u8, number: u64, length: usize) -> Vec<u8> {
    let mut message = vec![side; length.max(9)];
    message[1..9].copy_from_slice(&number.to_be_bytes());
    message
}

/// A carrier that is a stream of frames: two bytes of length, then as many bytes.
#[derive(Default)]
pub struct Framed {
    stream: RefCell<Stream>,
    inbox: Vec<u8>,
    received: Vec<u8>,
    /// What has come since the other side last started afresh.
    pub frames: Vec<Vec<u8>>,
    /// Answers each frame with itself.
    pub serve: bool,
    pub restarts_in: usize,
    pub restarts_out: usize,
}

impl Framed {
    pub fn write(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write(&originals::frame(bytes), None);
    }

    pub fn stream(&mut self) -> &mut Stream {
        self.stream.get_mut()
    }

    fn port(&mut self) -> Port<'_> {
        self.stream.get_mut().port(&mut self.inbox, 1024)
    }
}

impl Carrier for Framed {
    fn ready(&self) -> bool {
        self.stream.borrow_mut().port(&mut Vec::new(), 1024).ready()
    }

    fn fill(&mut self, room: usize, packet: &mut Vec<u8>) -> Option<Token> {
        let before = packet.len();
        let token = self.port().fill(room, packet);
        assert!(packet.len() <= before + room && token.is_some() == (packet.len() > before));
        token
    }

    fn settle(&mut self, token: Token, fate: Fate) {
        self.port().settle(token, fate);
    }

    fn deliver(&mut self, message: &[u8]) {
        self.port().deliver(message);
        self.received.append(&mut self.inbox);
        for frame in originals::frames(&mut self.received) {
            if self.serve {
                self.write(&frame);
            }
            self.frames.push(frame);
        }
    }

    fn restart_incoming(&mut self) {
        self.restarts_in += 1;
        self.received.clear();
        self.frames.clear();
        self.port().restart_incoming();
    }

    fn restart_outgoing(&mut self) {
        self.restarts_out += 1;
        self.port().restart_outgoing();
    }
}
