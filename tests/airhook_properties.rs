//! Random schedules of everything at once: bad networks, late packets, outages, restarts of
//! either side, and what outsiders send; over single messages, streams, a socket's
//! connections, and with the implementations of 2003.
//!
//! Of ends of ours, a schedule is a script of the fuzzer's, drawn so that most of what happens is
//! what happens in networks; the checks are its own: see `targets/pair.rs`.

mod support;
mod targets;

use std::collections::HashSet;

use khashmir::random::Random;
use proptest::collection::vec;
use proptest::prelude::*;
use rand::RngExt;
use support::originals::{Clib, Python};
use support::*;

/// One thing that happens, as the script spells it: at which side, what, and how much of it.
fn event() -> impl Strategy<Value = Vec<u8>> {
    let side = any::<bool>().prop_map(|b| u8::from(b) << 7);
    let kind = prop_oneof![
        // Writing, and a network that does as it should.
        4 => Just(0u8),
        1 => Just(1),
        6 => Just(4),
        3 => Just(3),
        // Loss, reordering, repetition, and what was sent long ago.
        2 => Just(5),
        2 => Just(6),
        1 => Just(7),
        2 => Just(8),
        // Strangers.
        1 => Just(10),
        // Delays and outages.
        3 => Just(12),
        1 => Just(13),
        // Restarts, calls, sessions broken off.
        1 => Just(14),
        1 => Just(15),
    ];
    (side, kind, vec(any::<u8>(), 12)).prop_map(|(side, kind, rest)| {
        let length = match kind {
            10 => 12,
            _ => 1,
        };
        let mut event = vec![side | kind];
        event.extend_from_slice(&rest[..length]);
        event
    })
}

/// A script for ends that carry `kind`.
fn script(kind: u8) -> impl Strategy<Value = Vec<u8>> {
    (any::<u8>(), vec(event(), 0..80)).prop_map(move |(seed, events)| {
        let mut script = vec![kind, seed];
        script.extend(events.into_iter().flatten());
        script
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2000, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn each_message_once_or_lost_with_its_session(script in script(0)) {
        targets::pair(&script);
    }

    #[test]
    fn streams_are_whole_and_in_order(script in script(1)) {
        targets::pair(&script);
    }

    #[test]
    fn sockets_keep_their_bounds(script in script(2)) {
        targets::pair(&script);
    }
}

/// Waits, for a while in which the network may be away altogether.
fn pause<A: Party, B: Party>(pair: &mut Pair<A, B>) {
    let span = match pair.rng.random_range(0..10) {
        0 => 10_000,
        1..4 => 2000,
        _ => 100,
    };
    let span = ms(pair.rng.random_range(0..span));
    let bad = pair.bad;
    if pair.rng.random_bool(0.1) {
        pair.bad = Badness { loss: 1.0, ..bad };
    }
    pair.run(span);
    pair.bad = bad;
}

/// A packet that shows a session which nobody has.
fn stranger(rng: &mut Random) -> Vec<u8> {
    let mut out = vec![0x0a, rng.random(), 0, rng.random_range(0..4)];
    out.extend(rng.random_range(1..u32::MAX).to_be_bytes());
    out.push(rng.random_range(0..3));
    out
}

/// The C library's peers take and send each message once, whatever the network and strangers
/// do; those that were under way when one of us restarted are accounted for.
#[test]
fn c_and_we_in_a_bad_network() {
    for seed in 0..60 {
        let _seed = Seed(seed);
        let bad = Badness { loss: 0.15, ..Badness::NONE };
        let mut ours = Ours::new(seed, Raw::default());
        ours.world.config.max_openings = 200;
        ours.world.config.max_heartbeats = 200;
        // When a session of ours ends, the C library sends what was not confirmed in the next.
        ours.carrier.repeats = true;
        let mut pair = Pair::new(seed, bad, ours, Clib::new(seed as u32 * 77 + 5));
        for round in 0..25 {
            for number in 0..pair.rng.random_range(0..12) {
                let number = round * 100 + number;
                if pair.rng.random() {
                    pair.a.carrier.queue.push_back(name(0, number, 30));
                } else {
                    pair.b.queue.push_back(name(1, number, 30));
                }
            }
            pause(&mut pair);
            if pair.a.connection.is_proven() && pair.rng.random_bool(0.5) {
                let (now, datagram) = (pair.now, stranger(&mut pair.rng));
                pair.a.receive(now, &datagram);
            }
        }
        let done = pair.run_until(secs(600), |pair| pair.a.carrier.settled() && pair.b.settled());
        assert!(done, "{:?}\n{:?}", pair.a.connection, pair.b);
        let delivered: HashSet<_> = pair.b.delivered.iter().collect();
        assert_eq!(delivered.len(), pair.b.delivered.len());
        // (What it does with a session of ours that begins while messages are under way is its own.)
        if pair.a.carrier.restarts_out == 0 {
            assert!(pair.a.carrier.confirmed.iter().all(|message| delivered.contains(message)));
            assert_eq!(pair.a.carrier.confirmed.len(), delivered.len());
            let taken: HashSet<_> = pair.a.carrier.delivered.iter().collect();
            assert_eq!(
                (taken.len(), taken.len()),
                (pair.a.carrier.delivered.len(), pair.b.confirmed_messages)
            );
        }
        pair.quiet(secs(60));
    }
}

/// What a Python peer hands on is whole frames in their order, or nothing more; a call to it is
/// answered, or fails and is answered when it is made again.
#[test]
fn python_and_we_in_a_bad_network() {
    for seed in 0..60 {
        let _seed = Seed(seed);
        let bad = Badness { loss: 0.1, late: 0.02, ..Badness::NONE };
        let mut pair = Pair::new(seed, bad, Ours::new(seed, Framed::default()), Python::new(seed as u32 + 9));
        pair.b.serve = true;
        for number in 0..12u8 {
            let frame = vec![number; pair.rng.random_range(20..2000)];
            let mut attempts = 0;
            while !pair.a.carrier.frames.contains(&frame) {
                attempts += 1;
                assert!(attempts < 20, "{:?}\n{:?}", pair.a.connection, pair.b);
                let restarts = pair.a.carrier.restarts_out;
                pair.a.carrier.write(&frame);
                pair.a.expect(true, pair.now);
                pair.run_until(secs(20), |pair| {
                    pair.a.carrier.restarts_out != restarts || pair.a.carrier.frames.contains(&frame)
                });
                pair.a.expect(false, pair.now);
                if attempts > 2 && !pair.a.carrier.frames.contains(&frame) {
                    // As a node does that has waited in vain.
                    let a = &mut pair.a;
                    a.connection.break_off(&mut a.world.context(), &mut a.carrier);
                }
                for frame in &pair.a.carrier.frames {
                    assert!(frame.iter().all(|byte| *byte == frame[0]), "a mixed frame");
                }
            }
            if pair.rng.random_bool(0.3) {
                let (now, datagram) = (pair.now, stranger(&mut pair.rng));
                pair.a.receive(now, &datagram);
            }
            match pair.rng.random_range(0..8) {
                0 => pair.a.restart(true),
                1 => {
                    pair.b = Python::new(pair.rng.random_range(1..u32::MAX));
                    pair.b.serve = true;
                }
                _ => {}
            }
            pause(&mut pair);
        }
    }
}
