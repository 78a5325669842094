//! All connections of a socket: limits, accounts, and what strangers can do to them.

#[path = "support/host.rs"]
mod host;
mod support;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use host::*;
use khashmir::airhook::packet::{Messages, Packet};
use khashmir::context::Key;
use khashmir::random::{Random, seed_from_number, seeded};
use khashmir::time::Time;
use khashmir::{CallError, SendError};
use rand::RngExt;
use support::*;

#[test]
fn streams_arrive_and_accounts_come_out_even() {
    let mut hosts = network(6);
    for from in 0..6 {
        for to in 0..6 {
            if from != to {
                let host = hosts.get_mut(&address(from)).unwrap();
                let mut ctx = host.world.context();
                let key = host.mux.connect(&mut ctx, address(to));
                host.mux.send(&mut ctx, key, &vec![from as u8; 30_000], None).unwrap();
                assert!(host.mux.unconfirmed(key) > 0);
            }
        }
    }
    run(&mut hosts, secs(20));
    for (addr, host) in &mut hosts {
        assert_eq!(host.mux.buffered(), 0);
        assert_eq!(host.received.len(), 5);
        for (from, bytes) in &host.received {
            assert_ne!(from, addr);
            let from = (0..6u8).find(|number| address((*number).into()) == *from).unwrap();
            assert!(bytes.len() == 30_000 && bytes.iter().all(|byte| *byte == from));
        }
        host.clear();
    }
}

#[test]
fn idle_connections_are_forgotten() {
    let mut hosts = network(2);
    let host = hosts.get_mut(&address(0)).unwrap();
    let mut ctx = host.world.context();
    let key = host.mux.connect(&mut ctx, address(1));
    host.mux.send(&mut ctx, key, b"something", None).unwrap();
    run(&mut hosts, secs(9 * 60));
    assert!(hosts.values().all(|host| host.mux.len() == 1));
    run(&mut hosts, secs(2 * 60));
    for host in hosts.values_mut() {
        assert!(host.mux.is_empty() && host.world.wheel.is_empty());
    }
    // A late key finds nothing, and harms nobody.
    let host = hosts.get_mut(&address(0)).unwrap();
    let mut ctx = host.world.context();
    let other = host.mux.connect(&mut ctx, address(9));
    assert_eq!(host.mux.send(&mut ctx, key, b"late", None), Err(SendError::Closed));
    host.mux.expect(&mut ctx, key, key);
    host.mux.expect_no_more(&mut ctx, key, key);
    host.mux.keep(&mut ctx, key, &mut vec![1, 2, 3], 1);
    host.mux.break_off(&mut ctx, key);
    assert_eq!(host.mux.handle_timeout(&mut ctx, key, &mut Vec::new()), None);
    assert_eq!(host.mux.addr(key), None);
    assert_eq!(host.mux.addr(other), Some(address(9)));
    assert_eq!((host.mux.buffered(), host.mux.len()), (0, 1));
}

#[test]
fn originals_are_kept_for_a_day() {
    let mut host = Host::new(1);
    prove(&mut host, address(1), 77, true);
    host.advance(Time::ZERO + secs(23 * 3600));
    assert_eq!(host.mux.len(), 1);
    host.advance(Time::ZERO + secs(25 * 3600));
    assert_eq!(host.mux.len(), 0);
    assert!(host.world.wheel.is_empty());
}

#[test]
fn strangers_only_displace_each_other() {
    let mut host = Host::new(2);
    host.world.config.max_connections = 64;
    host.world.config.max_unproven = 16;
    for number in 0..10 {
        prove(&mut host, address(number), 77, number % 2 == 0);
    }
    for number in 1000..6000 {
        host.receive(address(number), &packet(5, (0, 0), 0, Some(0), &segment(0, b"x")));
        assert!(host.mux.len() <= 10 + 16);
    }
    // The first ten are still known, and are proven.
    for number in 0..10 {
        let key = host.mux.connect(&mut host.world.context(), address(number));
        assert!(host.mux.is_proven(key));
    }
    // Ours to open displace all others, the unproven first, those of 2003 last.
    for number in 100_000..100_064 {
        let mut ctx = host.world.context();
        let key = host.mux.connect(&mut ctx, address(number));
        host.mux.expect(&mut ctx, key, Key::new(number - 99_999, 0));
        host.check();
        let proven = (0..10).filter(|n| host.received.contains_key(&address(*n))).count();
        assert_eq!(proven, 0);
    }
    assert_eq!(host.mux.len(), 64);
    assert!(host.failed.is_empty());
    // One more displaces one of them, and its call fails, once.
    host.mux.connect(&mut host.world.context(), address(200_000));
    host.check();
    assert_eq!(host.failed, [(Key::new(1, 0), CallError::Forgotten)]);
    host.clear();
}

#[test]
fn a_peer_that_never_answers_gets_few_packets() {
    let mut host = Host::new(3);
    let mut ctx = host.world.context();
    let key = host.mux.connect(&mut ctx, address(1));
    host.mux.send(&mut ctx, key, &[1; 10_000], None).unwrap();
    let call = Key::new(3, 9);
    host.mux.expect(&mut ctx, key, call);
    let (mut with_messages, mut bare) = (0, 0);
    for tenth in 0..1000 {
        host.advance(Time::ZERO + ms(tenth * 100));
        for (_, datagram) in host.output() {
            let messages = Packet::parse(&datagram).unwrap().messages.count();
            if messages > 0 { with_messages += 1 } else { bare += 1 }
        }
    }
    assert_eq!(with_messages, 1);
    assert_eq!(bare, u32::from(host.world.config.max_openings));
    assert_eq!(host.failed, [(call, CallError::Unreachable)]);
    assert!(host.mux.is_empty());
    assert_eq!(host.mux.buffered(), 0);
    host.clear();
}

#[test]
fn a_call_is_lost_with_its_session_at_once() {
    let mut host = Host::new(4);
    let from = address(1);
    let ours = prove(&mut host, from, 77, false);
    let mut ctx = host.world.context();
    let key = host.mux.connect(&mut ctx, from);
    let call = Key::new(3, 9);
    host.mux.expect(&mut ctx, key, call);
    host.mux.send(&mut ctx, key, b"request", None).unwrap();
    host.output();
    host.receive(from, &packet(78, (ours, 0), 0, Some(0), b""));
    assert_eq!(host.failed, [(call, CallError::Reset)]);
    assert_eq!(host.mux.buffered(), 0);
    host.mux.expect_no_more(&mut host.world.context(), key, call);
    host.check();
    assert_eq!(host.failed.len(), 1);
}

/// An address that never shows our session gets at most three times what it sends.
#[test]
fn strangers_get_little_for_what_they_send() {
    for seed in 0..300 {
        let _seed = Seed(seed);
        let mut rng = seeded(seed_from_number(seed));
        let mut host = Host::new(seed);
        host.answers = 5000;
        let (mut bytes_in, mut bytes_out) = (0, 0);
        let mut sequence = 0u16;
        let mut next = 0u8;
        let usual = rng.random_range(1..100);
        for _ in 0..300 {
            sequence = sequence.wrapping_add(rng.random_range(0..3));
            if rng.random_bool(0.3) {
                next = next.wrapping_add(rng.random_range(0..9));
            }
            let number = if rng.random_bool(0.9) { rng.random_range(0..3) } else { 5000 };
            let messages = if rng.random() { segment(number, b"0123456789") } else { Vec::new() };
            let session = if rng.random_bool(0.1) { rng.random_range(0..100) } else { usual };
            let observed = if rng.random_bool(0.1) { rng.random() } else { 0 };
            let e = rng.random_bool(0.9).then_some(next);
            let datagram = packet(session, (observed, rng.random()), sequence, e, &messages);
            next = next.wrapping_add(u8::from(!messages.is_empty()));
            bytes_in += datagram.len();
            host.receive(address(1), &datagram);
            if rng.random_bool(0.1) {
                let now = host.world.now + ms(rng.random_range(0..5000));
                host.advance(now);
            }
            bytes_out += host.output().iter().map(|(_, datagram)| datagram.len()).sum::<usize>();
            assert!(bytes_out <= 3 * bytes_in, "{bytes_out} bytes for {bytes_in}");
        }
    }
}

/// Messages that wait for an earlier one count as memory, wherever they come from.
#[test]
fn what_strangers_make_us_keep_is_bounded() {
    let mut host = Host::new(5);
    host.world.config.max_buffered = 256 * 1024;
    for number in 0..2000 {
        let from = address(number);
        for sequence in 0..6u16 {
            let mut messages = Vec::new();
            for i in 0..5 {
                messages.extend(segment(1 + sequence * 5 + i, &[1; 200]));
            }
            host.receive(from, &packet(5, (0, 0), sequence, Some((sequence * 5) as u8), &messages));
        }
    }
    host.clear();
    // The same with the beginning of a message that never ends.
    host.keeps = usize::MAX;
    for number in 0..2000 {
        for sequence in 0..6u16 {
            let message = segment(sequence, &[1; 253]);
            host.receive(address(number), &packet(5, (0, 0), sequence, Some(sequence as u8), &message));
        }
    }
    host.clear();
}

#[test]
fn each_peer_has_its_turn() {
    let mut host = Host::new(6);
    for number in 0..10 {
        prove(&mut host, address(number), 77, false);
    }
    for number in 0..10 {
        let mut ctx = host.world.context();
        let key = host.mux.connect(&mut ctx, address(number));
        host.mux.send(&mut ctx, key, &[1; 20_000], None).unwrap();
    }
    let out = host.output();
    for turn in out.chunks(10).take(5) {
        let mut peers: Vec<_> = turn.iter().map(|(to, _)| *to).collect();
        peers.sort();
        peers.dedup();
        assert_eq!(peers.len(), 10);
    }
}

/// Anything at all comes in, from a few addresses, also what answers our packets.
#[test]
fn hostile_datagrams() {
    for seed in 0..30 {
        let _seed = Seed(seed);
        let mut rng = seeded(seed_from_number(seed));
        let mut host = Host::new(seed);
        host.world.config.max_connections = 16;
        host.world.config.max_unproven = 8;
        host.world.config.max_buffered = 256 * 1024;
        host.keeps = [0, 3, usize::MAX][rng.random_range(0..3)];
        host.answers = [0, 10, 3000][rng.random_range(0..3)];
        // What we sent last to each address.
        let mut seen: HashMap<SocketAddr, Vec<u8>> = HashMap::new();
        let mut states: HashMap<SocketAddr, (u32, u16, u8)> = HashMap::new();
        for step in 0..2000 {
            let addr = address(rng.random_range(0..24));
            let datagram = hostile(&mut rng, seen.get(&addr), states.entry(addr).or_insert((7, 0, 0)));
            host.receive(addr, &datagram);
            match rng.random_range(0..20) {
                0 => {
                    let mut ctx = host.world.context();
                    let key = host.mux.connect(&mut ctx, addr);
                    host.mux.expect(&mut ctx, key, Key::new(step, 0));
                    let length = rng.random_range(1..5000);
                    if host.mux.buffered() < 100_000 {
                        host.mux.send(&mut host.world.context(), key, &vec![1; length], None).unwrap();
                    }
                }
                1 => {
                    let now = host.world.now + ms(rng.random_range(0..3000));
                    host.advance(now);
                }
                2 => {
                    let now = host.world.now + Duration::from_micros(rng.random_range(0..3000));
                    host.advance(now);
                }
                _ => {}
            }
            let before = host.mux.len();
            let out = host.output();
            assert!(out.len() <= 300 * before + 10, "{} datagrams", out.len());
            seen.extend(out);
        }
        let mut calls: Vec<_> = host.failed.iter().map(|(call, _)| *call).collect();
        calls.sort();
        let count = calls.len();
        calls.dedup();
        assert_eq!(calls.len(), count, "a call failed twice");
        host.advance(host.world.now + secs(25 * 3600));
        host.output();
        host.advance(host.world.now + secs(25 * 3600));
        assert!(host.mux.is_empty() && host.world.wheel.is_empty());
        assert_eq!(host.mux.buffered(), 0);
    }
}

fn hostile(rng: &mut Random, seen: Option<&Vec<u8>>, state: &mut (u32, u16, u8)) -> Vec<u8> {
    let mut bytes = Vec::new();
    let sent = seen.and_then(|seen| Packet::parse(seen).ok());
    if rng.random_bool(0.1) {
        let length = rng.random_range(0..100);
        bytes.resize_with(length, || rng.random());
        return bytes;
    }
    if rng.random_bool(0.02) {
        state.0 = rng.random_range(1..4);
    }
    let odd = rng.random_bool(0.1);
    let (session, sequence, next) = state;
    *sequence = sequence.wrapping_add(if odd { rng.random_range(0..300) } else { 1 });
    if odd {
        *next = rng.random();
    }
    let mut messages = Vec::new();
    for _ in 0..rng.random_range(0..8) {
        let number = if rng.random_bool(0.9) { u16::from(*next) } else { rng.random_range(0..2000) };
        let length = rng.random_range(1..254);
        messages.extend(segment(number, &vec![1; length]));
        *next = next.wrapping_add(1);
    }
    let messages = Messages::parse(&messages).unwrap();
    let first = next.wrapping_sub(messages.count());
    let missed: Vec<u8> =
        if odd { (0..rng.random_range(0..256)).map(|_| rng.random()).collect() } else { vec![] };
    let shows = sent.is_some() && rng.random_bool(0.7);
    Packet {
        observed_sequence: match sent {
            Some(sent) if rng.random_bool(0.9) => sent.sequence as u8,
            _ => rng.random(),
        },
        sequence: *sequence,
        observed_session: sent.filter(|_| shows).map_or(0, |sent| sent.session),
        session: if rng.random_bool(0.8) { *session } else { 0 },
        next: rng.random_bool(0.95).then_some(first),
        missed: &missed,
        messages,
    }
    .emit(&mut bytes);
    if rng.random_bool(0.05) {
        let at = rng.random_range(0..bytes.len());
        bytes[at] = rng.random();
    }
    bytes
}
