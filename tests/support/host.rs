//! A socket's connections, and a network of such.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use khashmir::CallError;
use khashmir::airhook::mux::Mux;
use khashmir::airhook::packet::{Messages, Packet};
use khashmir::context::{Due, Key};
use khashmir::time::Time;

use crate::support::*;

pub fn address(number: u32) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + number)), 4000)
}

/// A socket's connections, driven as a node does it.
pub struct Host {
    pub mux: Mux,
    pub world: World,
    pub failed: Vec<(Key, CallError)>,
    /// How many bytes at the end of each stream are not used up but kept.
    pub keeps: usize,
    pub received: HashMap<SocketAddr, Vec<u8>>,
    /// Answers whatever comes with so many bytes.
    pub answers: usize,
}

impl Host {
    pub fn new(seed: u64) -> Self {
        let mut world = World::new(seed);
        let mux = Mux::new(&mut world.rng);
        Host { mux, world, failed: Vec::new(), keeps: 0, received: HashMap::new(), answers: 0 }
    }

    pub fn receive(&mut self, from: SocketAddr, datagram: &[u8]) {
        let mut inbox = Vec::new();
        let mut ctx = self.world.context();
        if let Some(key) = self.mux.receive(&mut ctx, from, datagram, &mut inbox) {
            self.take(from, key, inbox);
        }
        self.check();
    }

    pub fn take(&mut self, from: SocketAddr, key: Key, mut inbox: Vec<u8>) {
        let mut ctx = self.world.context();
        assert!(!inbox.is_empty());
        let used = inbox.len().saturating_sub(self.keeps);
        self.received.entry(from).or_default().extend_from_slice(&inbox[..used]);
        self.mux.keep(&mut ctx, key, &mut inbox, used);
        let room = self.mux.buffered() + self.answers < ctx.config.max_buffered / 2;
        if self.answers > 0 && used > 0 && room {
            self.mux.send(&mut ctx, key, &vec![7; self.answers], None).unwrap();
        }
    }

    /// What is due until `now`.
    pub fn advance(&mut self, now: Time) {
        self.world.now = self.world.now.max(now);
        for steps in 0.. {
            assert!(steps < 100_000, "timers without end");
            let Some(alarm) = self.world.wheel.expire(now) else { break };
            let mut ctx = self.world.context();
            let mut inbox = Vec::new();
            match alarm.due {
                Due::Connection(key) => {
                    if let Some(key) = self.mux.handle_timeout(&mut ctx, key, &mut inbox) {
                        let from = self.mux.addr(key).unwrap();
                        self.take(from, key, inbox);
                    }
                }
                Due::Idle => self.mux.handle_idle(&mut ctx),
                _ => unreachable!(),
            }
        }
        self.check();
    }

    /// Everything that goes out now.
    pub fn output(&mut self) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut out = Vec::new();
        let mut buf = Vec::new();
        while let Some(to) = self.mux.poll_transmit(&mut self.world.context(), &mut buf) {
            assert!(!buf.is_empty() && buf.len() <= 1450);
            out.push((to, buf.clone()));
            assert!(out.len() < 100_000, "output without end");
        }
        assert!(!self.mux.has_output());
        out
    }

    pub fn check(&mut self) {
        while let Some(failed) = self.mux.poll_failed() {
            self.failed.push(failed);
        }
        let config = &self.world.config;
        assert!(self.mux.len() <= config.max_connections);
        assert!(self.mux.buffered() <= config.max_buffered, "{} bytes kept", self.mux.buffered());
        // A timer for each connection at most, and one for all.
        assert!(self.world.wheel.len() <= self.mux.len() + 1);
    }

    pub fn clear(&mut self) {
        self.mux.clear(&mut self.world.context());
        assert!(self.mux.is_empty() && self.world.wheel.is_empty());
        assert_eq!(self.mux.buffered(), 0);
        assert!(self.output().is_empty());
    }
}

/// A datagram as strangers may send it.
pub fn packet(
    session: u32,
    observed: (u32, u8),
    sequence: u16,
    next: Option<u8>,
    messages: &[u8],
) -> Vec<u8> {
    let mut out = Vec::new();
    Packet {
        observed_sequence: observed.1,
        sequence,
        observed_session: observed.0,
        session,
        next,
        missed: &[],
        messages: Messages::parse(messages).unwrap(),
    }
    .emit(&mut out);
    out
}

/// One message of a stream, as it stands in a packet.
pub fn segment(number: u16, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![(bytes.len() + 1) as u8];
    out.extend_from_slice(&number.to_be_bytes());
    out.extend_from_slice(bytes);
    out
}

/// Two hosts, a network without delay or loss between them, and time that passes.
pub fn run(hosts: &mut HashMap<SocketAddr, Host>, span: Duration) {
    let mut order: Vec<_> = hosts.keys().copied().collect();
    order.sort();
    let start = hosts[&order[0]].world.now;
    let end = start + span;
    let mut now = start;
    loop {
        for rounds in 0.. {
            assert!(rounds < 10_000, "they do not stop speaking");
            let mut any = false;
            for from in &order {
                let out = hosts.get_mut(from).unwrap().output();
                for (to, datagram) in out {
                    any = true;
                    if let Some(host) = hosts.get_mut(&to) {
                        host.receive(*from, &datagram);
                    }
                }
            }
            if !any {
                break;
            }
        }
        if now >= end {
            return;
        }
        let next = order.iter().filter_map(|addr| hosts[addr].world.wheel.next_deadline()).min();
        now = next.unwrap_or(end).max(now + ms(2)).min(end);
        for addr in &order {
            hosts.get_mut(addr).unwrap().advance(now);
        }
    }
}

pub fn network(count: u32) -> HashMap<SocketAddr, Host> {
    (0..count).map(|number| (address(number), Host::new(number.into()))).collect()
}

/// Brings a connection of an original to the point where it leaves out its ids.
pub fn prove(host: &mut Host, from: SocketAddr, session: u32, original: bool) -> u32 {
    host.receive(from, &packet(session, (0, 0), 0, (!original).then_some(0), b""));
    // Others may have been sent something meanwhile.
    let answer = host.output().into_iter().rfind(|(to, _)| *to == from).unwrap().1;
    let ours = Packet::parse(&answer).unwrap().session;
    host.receive(from, &packet(session, (ours, 0), 1, Some(0), b""));
    let key = host.mux.connect(&mut host.world.context(), from);
    assert!(host.mux.is_proven(key));
    let shows = if original { (0, 0) } else { (ours, 0) };
    host.receive(from, &packet(if original { 0 } else { session }, shows, 2, Some(0), b""));
    host.output();
    ours
}
