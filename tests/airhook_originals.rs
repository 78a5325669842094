//! Our end of a connection with models of the implementations of 2003.

mod support;

use rand::RngExt;
use support::originals::{Clib, Python, frame, frames};
use support::*;

type WithPython = Pair<Ours<Framed>, Python>;

fn with_python(seed: u64, bad: Badness) -> WithPython {
    let ours = Ours::new(seed, Framed::default());
    let mut pair = Pair::new(seed, bad, ours, Python::new(seed as u32 * 77 + 5));
    pair.b.serve = true;
    pair
}

/// A call: a frame, until it comes back; written again when the session was lost.
/// How often it was written.
fn call(pair: &mut WithPython, payload: &[u8]) -> usize {
    for attempt in 1..20 {
        let resets = pair.a.carrier.restarts_out;
        pair.a.carrier.write(payload);
        pair.a.expect(true, pair.now);
        let done = pair.run_until(secs(60), |pair| {
            pair.a.carrier.frames.iter().any(|frame| frame == payload)
                || pair.a.carrier.restarts_out != resets
        });
        pair.a.expect(false, pair.now);
        assert!(done, "a call without an answer, or end: {:?}\n{:?}", pair.a.connection, pair.b);
        if pair.a.carrier.frames.iter().any(|frame| frame == payload) {
            return attempt;
        }
    }
    panic!("20 attempts");
}

#[test]
fn calls_to_python() {
    for (loss, most) in [(0.0, 0), (0.05, 1), (0.2, 4), (0.4, 100)] {
        let mut again = 0;
        for seed in 0..40 {
            let _seed = Seed(seed);
            let mut pair = with_python(seed, Badness { loss, ..Badness::NONE });
            for number in 0..10u8 {
                let length = if number % 3 == 0 { 20_000 } else { 100 };
                again += call(&mut pair, &vec![number; length]) - 1;
                let pause = pair.rng.random_range(0..5000);
                pair.run(ms(pause));
            }
            assert!(!pair.b.dead());
        }
        assert!(again <= most, "{again} of 400 calls had to be repeated at {loss}");
    }
}

#[test]
fn calls_to_python_that_restarts() {
    for loss in [0.0, 0.1, 0.3] {
        for seed in 0..40 {
            let _seed = Seed(seed);
            let mut pair = with_python(seed, Badness { loss, ..Badness::NONE });
            for number in 0..8u8 {
                call(&mut pair, &[number; 300]);
                match pair.rng.random_range(0..3) {
                    0 => {
                        pair.b = Python::new(pair.rng.random_range(1..u32::MAX));
                        pair.b.serve = true;
                    }
                    1 => pair.a.restart(true),
                    _ => {}
                }
                let pause = pair.rng.random_range(0..3000);
                pair.run(ms(pause));
            }
        }
    }
}

#[test]
fn calls_from_python() {
    for seed in 0..40 {
        let _seed = Seed(seed);
        let mut pair = with_python(seed, Badness::NONE);
        pair.a.restart(false);
        pair.a.carrier.serve = true;
        pair.b.serve = false;
        for number in 0..20u8 {
            if pair.rng.random_bool(0.2) {
                // It speaks to an earlier life of ours: at worst that request is lost.
                pair.a.restart(false);
                pair.b.write(pair.now, &frame(&[99; 10]));
                pair.run(secs(5));
            }
            let length = pair.rng.random_range(1..5000);
            let payload = vec![number; length];
            pair.b.received.clear();
            pair.b.write(pair.now, &frame(&payload));
            let answered =
                pair.run_until(secs(10), |pair| frames(&mut pair.b.received.clone()).contains(&payload));
            assert!(answered, "{:?}\n{:?}", pair.a.connection, pair.b);
        }
    }
}

/// Both speak first, at the same time.
#[test]
fn python_and_we_open_at_once() {
    for seed in 0..40 {
        let _seed = Seed(seed);
        let mut pair = with_python(seed, Badness::NONE);
        pair.b.write(pair.now, &frame(b"from python"));
        pair.a.carrier.serve = true;
        pair.b.serve = false;
        pair.a.carrier.write(b"from us");
        assert!(pair.run_until(secs(10), |pair| {
            let mut received = pair.b.received.clone();
            let got = frames(&mut received);
            got.len() == 2 && !pair.a.carrier.frames.is_empty()
        }));
    }
}

/// It has restarted, and speaks while our packet to its old life is on its way.
#[test]
fn python_restarts_and_both_speak_at_once() {
    for calls in 0..300 {
        let _seed = Seed(calls);
        let mut pair = with_python(calls, Badness::NONE);
        for _ in 0..calls {
            call(&mut pair, b"before");
        }
        pair.run(secs(3));
        pair.b = Python::new(7);
        pair.a.carrier.serve = true;
        pair.a.carrier.frames.clear();
        let now = pair.now;
        pair.a.carrier.write(b"from us");
        pair.b.write(now, &frame(b"from python"));
        assert!(
            pair.run_until(secs(5), |pair| pair.b.received.ends_with(&frame(b"from python"))),
            "{:?}\n{:?}",
            pair.a.connection,
            pair.b
        );
    }
}

/// It takes nothing more from us after that, until it starts afresh.
#[test]
fn python_takes_a_packet_twice() {
    let mut again = 0;
    for seed in 0..40 {
        let _seed = Seed(seed);
        let mut pair = with_python(seed, Badness { duplicate: 0.2, ..Badness::NONE });
        for number in 0..20u8 {
            let before = pair.now;
            again += call(&mut pair, &vec![number; if number % 3 == 0 { 5000 } else { 100 }]) - 1;
            assert!(pair.now.since(before) < secs(5), "{:?} {:?}", pair.now.since(before), pair.b);
        }
    }
    assert!(again > 40, "only {again} duplicates did harm: this tests nothing");
}

/// After its packet 65,535 it rejects packets that observe that one.
#[test]
fn numbers_of_python_wrap_around() {
    for seed in 0..20 {
        let _seed = Seed(seed);
        let mut pair = with_python(seed, Badness::NONE);
        pair.b = Python::near_the_wrap(7);
        pair.b.serve = true;
        for number in 0..60u8 {
            let before = pair.now;
            assert_eq!(call(&mut pair, &[number; 100]), 1, "a call was lost");
            assert!(pair.now.since(before) < secs(1));
            let pause = pair.rng.random_range(0..50);
            pair.run(ms(pause));
        }
        assert_eq!(pair.b.resets, 0);
    }
}

type WithC = Pair<Ours<Raw>, Clib>;

fn with_c(seed: u64, bad: Badness) -> WithC {
    let mut ours = Ours::new(seed, Raw::default());
    ours.world.config.max_openings = 200;
    ours.world.config.max_heartbeats = 200;
    Pair::new(seed, bad, ours, Clib::new(seed as u32 * 77 + 5))
}

#[test]
fn messages_to_and_from_c() {
    for (chance, messages) in [(0.0, 600), (0.05, 300), (0.2, 200), (0.4, 100)] {
        for seed in 0..25 {
            let _seed = Seed(seed);
            let mut pair = with_c(seed, Badness { loss: chance, ..Badness::NONE });
            let who = pair.rng.random_range(0..3);
            for number in 0..messages {
                if who != 1 {
                    pair.a.carrier.queue.push_back(name(0, number, 30));
                }
                if who != 0 {
                    pair.b.queue.push_back(name(1, number, 30));
                }
                if pair.rng.random_bool(0.1) {
                    let pause = pair.rng.random_range(0..50);
                    pair.run(ms(pause));
                }
            }
            let done = pair.run_until(secs(600), |pair| pair.a.carrier.settled() && pair.b.settled());
            assert!(done, "chance {chance} {:?}\n{:?}", pair.a.connection, pair.b);
            let expected = if who != 1 { messages as usize } else { 0 };
            assert_eq!((pair.b.delivered.len(), pair.a.carrier.confirmed.len()), (expected, expected));
            let expected = if who != 0 { messages as usize } else { 0 };
            assert_eq!((pair.a.carrier.delivered.len(), pair.b.confirmed_messages), (expected, expected));
            pair.quiet(secs(60));
        }
    }
}

#[test]
fn c_is_answered_when_our_answers_are_lost() {
    let mut pair = with_c(1, Badness::NONE);
    pair.a.restart(false);
    pair.b.queue.push_back(name(1, 0, 30));
    pair.b.echo = true;
    for _ in 0..3 {
        // The next answer of ours is lost; it repeats its header.
        pair.run_until(secs(10), |pair| pair.wire.values().any(|(to_a, _)| *to_a));
        pair.run_until(secs(10), |pair| pair.wire.values().any(|(to_a, _)| !*to_a));
        pair.wire.clear();
    }
    assert!(pair.run_until(secs(10), |pair| pair.b.settled()));
    assert_eq!(pair.a.carrier.delivered.len(), 1);
    pair.quiet(secs(60));
}

#[test]
fn we_restart_and_c_does_not() {
    for seed in 0..40 {
        let _seed = Seed(seed);
        let loss = if seed % 2 == 0 { 0.0 } else { 0.2 };
        let mut pair = with_c(seed, Badness { loss, ..Badness::NONE });
        for round in 0..6 {
            pair.a.carrier.queue.push_back(name(0, round, 30));
            pair.b.queue.push_back(name(1, round, 30));
            let pause = pair.rng.random_range(0..5000);
            pair.run(ms(pause));
            if pair.rng.random() {
                pair.a.restart(true);
            } else {
                let a = &mut pair.a;
                a.connection.break_off(&mut a.world.context(), &mut a.carrier);
            }
        }
        pair.a.carrier.queue.push_back(name(2, 0, 30));
        let done = pair.run_until(secs(60), |pair| pair.b.delivered.iter().any(|m| m[0] == 2));
        assert!(done, "{:?}\n{:?}", pair.a.connection, pair.b);
        assert!(pair.run_until(secs(60), |pair| pair.b.settled()));
    }
}
