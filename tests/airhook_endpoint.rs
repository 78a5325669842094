//! Airhook by itself: endpoints on a bad network, in virtual time.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use khashmir::Config;
use khashmir::airhook::channel::Channel;
use khashmir::airhook::{Endpoint, Event, Messages, SendError, Stream};
use khashmir::random::{Random, seed_from_number, seeded};
use khashmir::time::Time;
use rand::RngExt;
use support::{Badness, Seed, ms, secs};

fn address(index: usize) -> SocketAddr {
    // Of both families.
    match index % 2 {
        0 => SocketAddr::from(([10, 0, 0, 1 + index as u8], 4000)),
        _ => SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1 + index as u16], 4000)),
    }
}

fn index_of(addr: SocketAddr) -> usize {
    (0..8).find(|&index| address(index) == addr).expect("an address that was given")
}

/// What one end of a connection has seen of the other.
#[derive(Default)]
struct Seen {
    /// Bytes of a frame of which not all has come.
    partial: Vec<u8>,
    /// Names of what has arrived since the peer or this end was last restarted, in order.
    since: Vec<u64>,
}

struct Net<C> {
    endpoints: Vec<Endpoint<C>>,
    now: Time,
    rng: Random,
    bad: Badness,
    wire: BTreeMap<(Time, u64), (usize, usize, Vec<u8>)>,
    sent: u64,
    /// Tickets of messages under way, of ends that live: from, to.
    waiting: BTreeMap<u64, (usize, usize)>,
    confirmed: BTreeSet<u64>,
    lost: BTreeSet<u64>,
    received: BTreeSet<u64>,
    seen: BTreeMap<(usize, usize), Seen>,
    /// Who was told that there is room again, for whom, and how many bytes were left.
    writable: Vec<(usize, usize, usize)>,
    next: u64,
    ordered: bool,
    /// Whose program does not look at its events.
    busy: Option<usize>,
}

impl<C: Channel> Net<C> {
    fn new(seed: u64, count: usize, bad: Badness, ordered: bool) -> Self {
        let mut rng = seeded(seed_from_number(seed));
        let endpoints = (0..count).map(|_| Endpoint::new(Config::default(), rng.random()).unwrap()).collect();
        Net {
            endpoints,
            now: Time::ZERO,
            rng,
            bad,
            wire: BTreeMap::new(),
            sent: 0,
            waiting: BTreeMap::new(),
            confirmed: BTreeSet::new(),
            lost: BTreeSet::new(),
            received: BTreeSet::new(),
            seen: BTreeMap::new(),
            writable: Vec::new(),
            next: 0,
            ordered,
            busy: None,
        }
    }

    /// Sends what bears a name of its own; whether there was room for it.
    fn send(&mut self, from: usize, to: usize, length: usize) -> bool {
        let name = self.next;
        // The length of the whole, the name, and then the same byte again and again.
        let mut bytes = vec![name as u8; length.max(10)];
        let whole = bytes.len() as u16;
        bytes[..2].copy_from_slice(&whole.to_be_bytes());
        bytes[2..10].copy_from_slice(&name.to_be_bytes());
        match self.endpoints[from].send(self.now, address(to), &bytes, Some(name)) {
            Ok(()) => {
                self.next += 1;
                self.waiting.insert(name, (from, to));
                self.drain();
                true
            }
            Err(SendError::Full { .. }) => false,
            Err(e) => panic!("{e}"),
        }
    }

    /// The program at this end is started anew.
    fn restart(&mut self, index: usize) {
        self.endpoints[index] = Endpoint::new(Config::default(), self.rng.random()).unwrap();
        self.waiting.retain(|_, &mut (from, _)| from != index);
        self.seen.retain(|&(at, _), _| at != index);
    }

    fn drain(&mut self) {
        let mut buf = Vec::new();
        for index in 0..self.endpoints.len() {
            while self.busy != Some(index)
                && let Some(event) = self.endpoints[index].poll_event()
            {
                self.take(index, event);
            }
            for round in 0.. {
                assert!(round < 10_000, "it does not stop speaking");
                let Some(to) = self.endpoints[index].poll_transmit(self.now, &mut buf) else { break };
                self.put(index, index_of(to), &buf);
            }
        }
    }

    fn put(&mut self, from: usize, to: usize, datagram: &[u8]) {
        let copies = if self.rng.random_bool(self.bad.duplicate) { 2 } else { 1 };
        for _ in 0..copies {
            if self.rng.random_bool(self.bad.loss) {
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
            let at = self.now + Duration::from_micros(delay);
            self.wire.insert((at, self.sent), (from, to, datagram.to_vec()));
        }
    }

    fn take(&mut self, at: usize, event: Event) {
        match event {
            Event::Received(peer, bytes) => self.take_bytes(at, index_of(peer), &bytes),
            Event::Confirmed(peer, name) => {
                assert_eq!(self.waiting.remove(&name), Some((at, index_of(peer))), "settled twice: {name}");
                self.confirmed.insert(name);
            }
            Event::Lost(peer, name) => {
                assert_eq!(self.waiting.remove(&name), Some((at, index_of(peer))), "settled twice: {name}");
                self.lost.insert(name);
            }
            Event::Reset(peer) | Event::Forgotten(peer) => {
                let peer = index_of(peer);
                self.seen.entry((at, peer)).or_default().partial.clear();
                // What was under way was reported first.
                assert!(self.waiting.values().all(|&way| way != (at, peer)));
            }
            Event::Writable(peer) => {
                self.writable.push((at, index_of(peer), self.endpoints[at].unconfirmed(peer)));
            }
            _ => {}
        }
    }

    fn take_bytes(&mut self, at: usize, from: usize, bytes: &[u8]) {
        let seen = self.seen.entry((at, from)).or_default();
        seen.partial.extend_from_slice(bytes);
        while let Some((head, _)) = seen.partial.split_first_chunk::<10>() {
            let length = usize::from(u16::from_be_bytes([head[0], head[1]]));
            let name = u64::from_be_bytes(head[2..].try_into().unwrap());
            assert!(length >= 10 && name < self.next, "not what was sent");
            if seen.partial.len() < length {
                break;
            }
            let rest = seen.partial.split_off(length);
            assert!(seen.partial[10..].iter().all(|&byte| byte == name as u8), "a mixed frame");
            seen.partial = rest;
            assert!(self.received.insert(name), "{name} came twice");
            assert!(!self.ordered || seen.since.last().is_none_or(|&last| last < name), "out of order");
            seen.since.push(name);
        }
        assert!(self.ordered || seen.partial.is_empty(), "a piece of a message");
    }

    /// Lets the next thing happen; false when nothing will until `end`.
    fn step(&mut self, end: Time) -> bool {
        self.drain();
        let wire = self.wire.first_key_value().map(|(key, _)| key.0);
        let deadlines = self.endpoints.iter().filter_map(|endpoint| endpoint.next_deadline());
        let Some(next) = deadlines.chain(wire).min().filter(|&next| next <= end) else {
            self.now = self.now.max(end);
            return false;
        };
        self.now = self.now.max(next);
        if let Some(entry) = self.wire.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let (from, to, datagram) = entry.remove();
            self.endpoints[to].receive(self.now, address(from), &datagram);
        }
        for endpoint in &mut self.endpoints {
            endpoint.handle_timeout(self.now);
        }
        self.drain();
        true
    }

    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while self.step(end) {}
    }

    /// The network is good from now on: all that was sent is settled, and what was confirmed
    /// has arrived.
    fn finish(&mut self) {
        self.bad = Badness::NONE;
        self.run(secs(300));
        assert!(self.waiting.is_empty(), "not settled: {:?}", self.waiting);
        let missing: Vec<_> = self.confirmed.difference(&self.received).collect();
        assert!(missing.is_empty(), "confirmed, and never came: {missing:?}");
        assert!(self.wire.is_empty(), "they speak without end");
        for (from, endpoint) in self.endpoints.iter().enumerate() {
            assert!((0..self.endpoints.len()).all(|to| endpoint.unconfirmed(address(to)) == 0), "{from}");
        }
    }
}

/// Whatever happens: once, in order at the stream, and each ticket back once.
fn model<C: Channel>(ordered: bool, longest: usize) {
    for seed in 0..150 {
        let _seed = Seed(seed);
        let chance = [0.0, 0.05, 0.2, 0.4][seed as usize % 4];
        let late = if seed % 3 == 0 { 0.02 } else { 0.0 };
        let troubles = seed % 2 == 1;
        let mut net = Net::<C>::new(seed, 3, Badness { late, ..Badness::all(chance) }, ordered);
        for _ in 0..60 {
            let from = net.rng.random_range(0..3);
            let to = (from + net.rng.random_range(1..3)) % 3;
            match net.rng.random_range(0..100) {
                0..4 if troubles => net.restart(from),
                4..6 if troubles => net.endpoints[from].forget(net.now, address(to)),
                6..8 if troubles => net.endpoints[from].reset(net.now, address(to)),
                8..12 => net.endpoints[from].connect(net.now, address(to)),
                12..14 => {
                    // Nothing gets through for a while.
                    let before = std::mem::replace(&mut net.bad, Badness { loss: 1.0, ..Badness::NONE });
                    let span = net.rng.random_range(0..20_000);
                    net.run(ms(span));
                    net.bad = before;
                }
                _ => {
                    for _ in 0..net.rng.random_range(1..12) {
                        let length = net.rng.random_range(10..=longest);
                        net.send(from, to, length);
                    }
                }
            }
            net.drain();
            let pause = net.rng.random_range(0..200);
            net.run(ms(pause));
        }
        net.finish();
        if !troubles && chance == 0.0 && late == 0.0 {
            assert!(net.confirmed.len() > 50);
        }
    }
}

#[test]
fn streams_in_any_weather() {
    model::<Stream>(true, 3000);
}

#[test]
fn messages_in_any_weather() {
    model::<Messages>(false, 255);
}

/// While nothing goes wrong, nothing is lost.
#[test]
fn without_restarts_everything_is_confirmed() {
    for seed in 0..40 {
        let _seed = Seed(seed);
        let mut net = Net::<Messages>::new(seed, 2, Badness::all(0.1), false);
        for number in 0..300 {
            assert!(net.send(number % 2, (number + 1) % 2, 10 + number % 200));
            net.run(ms(3));
        }
        net.finish();
        assert_eq!((net.confirmed.len(), net.lost.len(), net.received.len()), (300, 0, 300));
    }
}

#[test]
fn a_full_queue_says_so_and_when_there_is_room() {
    let mut net = Net::<Stream>::new(1, 2, Badness::NONE, true);
    let [a, b] = [address(0), address(1)];
    let mut accepted = 0;
    while net.send(0, 1, 10_000) {
        accepted += 1;
        assert!(accepted < 1000, "it is never full");
    }
    let full = net.endpoints[0].unconfirmed(b);
    let limit = Config::default().max_queued;
    assert!(full <= limit && full > limit - 20_000);
    assert_eq!(net.endpoints[0].send(net.now, b, &vec![0; limit + 1], None), Err(SendError::Length));
    assert_eq!(net.writable, []);
    while net.writable.is_empty() {
        assert!(net.step(net.now + secs(60)));
    }
    let (at, to, left) = net.writable[0];
    assert!((at, to) == (0, 1) && left > limit / 4 && left <= limit / 2, "{left} left");
    assert!(net.send(0, 1, 10_000));
    net.finish();
    assert_eq!(net.writable.len(), 1);
    assert_eq!(net.received.len(), accepted + 1);
    assert_eq!(net.endpoints[1].unconfirmed(a), 0);
}

/// A program that does not look at its events gets no more than so many, and nothing is lost by that.
#[test]
fn events_that_nobody_polls_are_bounded() {
    let mut net = Net::<Messages>::new(1, 2, Badness::NONE, false);
    net.busy = Some(1);
    for _ in 0..200 {
        while net.send(0, 1, 20) {}
        net.run(ms(100));
    }
    let sent = net.next as usize;
    let most = 4096 + 255 + 1;
    assert!(sent > 2 * most, "{sent}");
    assert!(net.endpoints[1].traffic().dropped > 0);
    let mut waiting = 0;
    while let Some(event) = net.endpoints[1].poll_event() {
        waiting += 1;
        net.take(1, event);
    }
    assert!((4096..=most).contains(&waiting), "{waiting}");
    net.busy = None;
    net.finish();
    assert_eq!((net.received.len(), net.lost.len()), (sent, 0));
}

#[test]
fn what_cannot_be_a_message_is_refused() {
    let mut endpoint = Endpoint::<Messages>::new(Config::default(), [1; 32]).unwrap();
    let peer = address(0);
    for length in [0, 256, 100_000] {
        assert_eq!(endpoint.send(Time::ZERO, peer, &vec![0; length], Some(1)), Err(SendError::Length));
    }
    assert_eq!(endpoint.connections(), 0);
    assert_eq!(endpoint.poll_event(), None);
    let mut count = 0;
    while endpoint.send(Time::ZERO, peer, &[0], None).is_ok() {
        count += 1;
        assert!(count < 1_000_000, "small messages are not bounded");
    }
    assert!(count > 1000);
}

/// A peer that never answers: what was sent comes back as lost, and the connection goes.
#[test]
fn nobody_there() {
    let mut net = Net::<Stream>::new(1, 2, Badness { loss: 1.0, ..Badness::NONE }, true);
    for _ in 0..5 {
        net.send(0, 1, 100);
    }
    net.run(secs(120));
    assert_eq!((net.lost.len(), net.waiting.len(), net.endpoints[0].connections()), (5, 0, 0));
    // And if it is there later, it works.
    net.bad = Badness::NONE;
    net.send(0, 1, 100);
    net.finish();
    assert_eq!(net.received.len(), 1);
}

/// What comes from somebody who has not shown that he is there is not handed on.
#[test]
fn nothing_is_taken_from_strangers() {
    let mut a = Endpoint::<Messages>::new(Config::default(), [1; 32]).unwrap();
    let mut b = Endpoint::<Messages>::new(Config::default(), [2; 32]).unwrap();
    let now = Time::ZERO;
    a.send(now, address(1), b"whoever", None).unwrap();
    let mut datagram = Vec::new();
    while a.poll_transmit(now, &mut datagram).is_some() {
        for forged in 2..5 {
            b.receive(now, address(forged), &datagram);
        }
    }
    assert_eq!(b.poll_event(), None);
    let mut answered = 0;
    while b.poll_transmit(now, &mut datagram).is_some() {
        answered += 1;
        assert!(datagram.len() < 60, "no more than three times what came");
    }
    assert_eq!(answered, 3);
    assert!((2..5).all(|forged| !b.is_connected(address(forged))));
}

/// Somebody makes one end answer the other, who had said nothing: they do not go on about it.
#[test]
fn two_who_are_made_to_speak_soon_stop() {
    for datagram in [
        &[0, 0, 0, 0][..],
        &[8, 0, 0, 0, 1, 2, 3, 4],
        &[16, 0, 0, 0, 1, 2, 3, 4],
        &[8, 0, 0, 0, 1, 2, 3, 4, 0, 7],
    ] {
        let mut net = Net::<Messages>::new(3, 2, Badness::NONE, false);
        net.now = Time::ZERO + secs(1);
        net.endpoints[0].receive(net.now, address(1), datagram);
        net.drain();
        net.run(secs(30));
        let packets: u64 = net.endpoints.iter().map(|endpoint| endpoint.traffic().packets_out).sum();
        // Neither can tell that the other did not mean it; their connection is one that works.
        assert!(packets <= 5, "{packets} packets after {datagram:?}");
    }
}
