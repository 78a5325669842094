//! A socket's connections, and whatever arrives from a few addresses.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use khashmir::airhook::mux::Mux;
use khashmir::airhook::packet::{MAX_PACKET, Messages, Packet};
use khashmir::context::{Due, Key};

use super::script::Script;
use crate::support::{World, ms, secs};

/// The first two bytes are settings, the rest says what happens.
pub fn hostile(script: &[u8]) {
    let mut script = Script(script);
    let mut target = Target::new(script.byte(), script.byte());
    while let Some(op) = script.next() {
        target.step(op, &mut script);
    }
    target.end();
}

const PEERS: usize = 12;

/// What is known of an address.
#[derive(Default)]
struct Peer {
    bytes_in: usize,
    bytes_out: usize,
    /// It has shown a session of ours, or we spoke to it.
    trusted: bool,
    /// Sessions of ours that it was sent, the newest last.
    shown: Vec<u32>,
    /// The numbers that an honest peer would go on with.
    session: u32,
    sequence: u16,
    next: u8,
    /// The newest of ours.
    observed: u16,
    stream: u16,
}

struct Target {
    mux: Mux,
    world: World,
    peers: Vec<Peer>,
    /// How much of what came in order is left for later.
    keeps: usize,
    /// How much everything that came is answered with.
    answers: usize,
    calls: u32,
    failed: HashSet<Key>,
    out: usize,
}

fn address(at: usize) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, at as u8)), 4000)
}

impl Target {
    fn new(settings: u8, seed: u8) -> Self {
        let mut world = World::new(seed.into());
        world.config.max_connections = 8;
        world.config.max_unproven = if settings & 1 == 0 { 3 } else { 8 };
        world.config.max_buffered = if settings & 2 == 0 { 16 * 1024 } else { 256 * 1024 };
        let mux = Mux::new(&mut world.rng);
        let peers = (0..PEERS as u32).map(|at| Peer { session: at + 1, ..Peer::default() }).collect();
        let keeps = [0, 3, 600, usize::MAX][usize::from(settings >> 2 & 3)];
        let answers = [0, 10, 3000, 12_000][usize::from(settings >> 4 & 3)];
        Target { mux, world, peers, keeps, answers, calls: 0, failed: HashSet::new(), out: 0 }
    }

    fn step(&mut self, op: u8, script: &mut Script<'_>) {
        let at = usize::from(op >> 4) % PEERS;
        match op & 15 {
            0..6 => {
                let datagram = self.likely(at, op & 15, script);
                self.arrive(at, &datagram);
            }
            6 | 7 => {
                let datagram = self.unlikely(at, script);
                self.arrive(at, &datagram);
            }
            8 => {
                let length = script.below(100);
                let datagram = script.bytes(length);
                // What it may show by that, it may.
                self.arrive(at, datagram);
            }
            9 => self.pass(Duration::from_micros(u64::from(script.short()))),
            10 => self.pass(ms(u64::from(script.byte()) * 20)),
            11 => self.pass(secs(u64::from(script.byte()))),
            12 => self.send(at, script.below(6000)),
            13 => {
                let key = self.connect(at);
                let mut ctx = self.world.context();
                self.calls += 1;
                self.mux.expect(&mut ctx, key, Key::new(self.calls, 7));
            }
            _ => match script.byte() {
                byte if byte < 60 => {
                    let key = self.connect(at);
                    self.mux.break_off(&mut self.world.context(), key);
                }
                byte if byte < 120 => {
                    let key = self.connect(at);
                    self.mux.doubt(&mut self.world.context(), key);
                }
                byte if byte < 160 => {
                    let key = self.connect(at);
                    self.mux.hold(&mut self.world.context(), key);
                }
                byte => {
                    let key = self.connect(at);
                    let call = Key::new(u32::from(byte - 159), 7);
                    self.mux.expect_no_more(&mut self.world.context(), key, call);
                }
            },
        }
        if self.peers[at].session.is_multiple_of(2) {
            self.output();
        }
        self.check();
    }

    /// What an honest peer may send next, or one whose packets get lost.
    fn likely(&mut self, at: usize, kind: u8, script: &mut Script<'_>) -> Vec<u8> {
        self.output();
        let peer = &mut self.peers[at];
        let ours = peer.shown.last().copied().unwrap_or(0);
        let mut messages = Vec::new();
        if kind != 0 {
            let count = script.byte();
            for _ in 0..count % 6 {
                let length = if count < 128 { 20 } else { 253 };
                messages.push(length + 1);
                messages.extend(peer.stream.to_be_bytes());
                messages.resize(messages.len() + usize::from(length), count);
                peer.stream = peer.stream.wrapping_add(1);
            }
        }
        let messages = Messages::parse(&messages).expect("whole messages");
        if kind == 1 {
            // Some were lost.
            peer.sequence = peer.sequence.wrapping_add(script.byte().into());
            peer.next = peer.next.wrapping_add(script.byte());
        }
        if kind == 2 {
            peer.stream = peer.stream.wrapping_add_signed((script.byte() as i8).into());
        }
        if kind == 3 {
            peer.session = peer.session.wrapping_add(PEERS as u32);
            (peer.sequence, peer.next, peer.stream) = (0, 0, 0);
        }
        let missed = if kind == 4 { script.bytes(script.0.len().min(3)) } else { &[] };
        // As those of 2003 do.
        let bare = kind == 5;
        let mut out = Vec::new();
        Packet {
            observed_sequence: (peer.observed as u8).wrapping_sub(if kind == 4 { script.byte() } else { 0 }),
            sequence: peer.sequence,
            observed_session: if bare || kind == 3 { 0 } else { ours },
            session: if bare { 0 } else { peer.session },
            next: (!bare || messages.count() > 0).then_some(peer.next),
            missed,
            messages,
        }
        .emit(&mut out);
        peer.sequence = peer.sequence.wrapping_add(1);
        peer.next = peer.next.wrapping_add(messages.count());
        out
    }

    /// A header with anything in it.
    fn unlikely(&mut self, at: usize, script: &mut Script<'_>) -> Vec<u8> {
        let flags = script.byte();
        let shown = &self.peers[at].shown;
        let observed_session = match flags & 3 {
            0 => 0,
            1 => script.long(),
            _ if shown.is_empty() => 0,
            _ => shown[script.below(shown.len())],
        };
        let session = if flags & 4 != 0 { script.long() } else { u32::from(flags >> 3 & 1) };
        let mut rest = Vec::new();
        for _ in 0..flags >> 4 & 3 {
            let length = script.byte();
            rest.push(length);
            let bytes = script.bytes(usize::from(length) + 1);
            rest.extend_from_slice(bytes);
            rest.resize(rest.len() + usize::from(length) + 1 - bytes.len(), 0);
        }
        let missed = vec![script.byte(); if flags & 64 == 0 { 0 } else { 1 + script.below(256) }];
        let mut out = Vec::new();
        Packet {
            observed_sequence: script.byte(),
            sequence: script.short(),
            observed_session,
            session,
            next: (flags & 128 == 0).then(|| script.byte()),
            missed: &missed,
            messages: Messages::parse(&rest).expect("whole messages"),
        }
        .emit(&mut out);
        out
    }

    fn arrive(&mut self, at: usize, datagram: &[u8]) {
        let peer = &mut self.peers[at];
        peer.bytes_in += datagram.len();
        if let Ok(packet) = Packet::parse(datagram) {
            peer.trusted |= packet.observed_session != 0 && peer.shown.contains(&packet.observed_session);
        }
        let mut inbox = Vec::new();
        match self.mux.receive(&mut self.world.context(), address(at), datagram, &mut inbox) {
            Some(key) => self.take(key, inbox),
            None => assert!(inbox.is_empty()),
        }
    }

    fn take(&mut self, key: Key, mut inbox: Vec<u8>) {
        assert!(!inbox.is_empty());
        let used = inbox.len().saturating_sub(self.keeps);
        let mut ctx = self.world.context();
        self.mux.keep(&mut ctx, key, &mut inbox, used);
        let room = self.mux.buffered() + self.answers <= ctx.config.max_buffered / 2;
        if used > 0 && self.answers > 0 && room {
            let _ = self.mux.send(&mut ctx, key, &vec![7; self.answers], None);
        }
    }

    fn connect(&mut self, at: usize) -> Key {
        let key = self.mux.connect(&mut self.world.context(), address(at));
        assert_eq!(self.mux.addr(key), Some(address(at)));
        self.peers[at].trusted = true;
        key
    }

    fn send(&mut self, at: usize, length: usize) {
        let key = self.connect(at);
        if length > 0 && self.mux.buffered() + length <= self.world.config.max_buffered / 2 {
            let _ = self.mux.send(&mut self.world.context(), key, &vec![3; length], None);
        }
    }

    fn pass(&mut self, span: Duration) {
        let end = self.world.now + span;
        for steps in 0.. {
            assert!(steps < 50_000, "timers without end");
            self.output();
            let Some(next) = self.world.wheel.next_deadline().filter(|&next| next <= end) else { break };
            self.world.now = self.world.now.max(next);
            let now = self.world.now;
            for due in 0.. {
                assert!(due < 1000, "always due again");
                let Some(alarm) = self.world.wheel.expire(now) else { break };
                let mut ctx = self.world.context();
                match alarm.due {
                    Due::Connection(key) => {
                        let mut inbox = Vec::new();
                        if let Some(key) = self.mux.handle_timeout(&mut ctx, key, &mut inbox) {
                            self.take(key, inbox);
                        }
                    }
                    Due::Idle => self.mux.handle_idle(&mut ctx),
                    _ => unreachable!(),
                }
            }
            self.check();
        }
        self.world.now = end;
    }

    fn output(&mut self) {
        let mut buf = Vec::new();
        for count in 0.. {
            assert!(count < 300 * PEERS, "output without end");
            let Some(to) = self.mux.poll_transmit(&mut self.world.context(), &mut buf) else { break };
            assert!(!buf.is_empty() && buf.len() <= MAX_PACKET);
            let at = (0..PEERS).find(|&at| address(at) == to).expect("one of them");
            let packet = Packet::parse(&buf).expect("what we send can be read");
            let peer = &mut self.peers[at];
            if !peer.shown.contains(&packet.session) {
                peer.shown.push(packet.session);
            }
            peer.observed = packet.sequence;
            peer.bytes_out += buf.len();
            let most = 3 * peer.bytes_in;
            assert!(peer.trusted || peer.bytes_out <= most, "{} bytes to a stranger", peer.bytes_out);
            self.out += 1;
        }
    }

    fn check(&mut self) {
        while let Some((call, _)) = self.mux.poll_failed() {
            assert!(call.place() <= self.calls as usize && self.failed.insert(call), "a call failed twice");
        }
        let config = &self.world.config;
        assert!(self.mux.len() <= config.max_connections);
        assert!(self.mux.buffered() <= config.max_buffered, "{} bytes kept", self.mux.buffered());
        assert!(self.world.wheel.len() <= self.mux.len() + 1, "timers of nobody");
    }

    /// Nothing comes any more: all is forgotten, with few packets.
    fn end(mut self) {
        self.output();
        let before = self.out;
        for _ in 0..3 {
            self.pass(secs(25 * 3600));
        }
        self.output();
        assert!(self.out - before <= 2000, "{} packets into the silence", self.out - before);
        assert!(self.mux.is_empty() && self.world.wheel.is_empty(), "{} are left", self.mux.len());
        assert_eq!(self.mux.buffered(), 0);
    }
}
