//! Two ends of a connection over a network that loses, repeats and reorders.

mod support;

use std::collections::HashSet;

use rand::RngExt;
use support::*;

/// Runs until both have said all, and looks at what arrived: every message once.
fn finish(pair: &mut RawPair, seed: u64) {
    let done = pair.run_until(secs(600), |pair| pair.a.carrier.settled() && pair.b.carrier.settled());
    assert!(
        done,
        "seed {seed}: not settled: a {} {}, b {} {}",
        pair.a.carrier.queue.len(),
        pair.a.carrier.in_flight.len(),
        pair.b.carrier.queue.len(),
        pair.b.carrier.in_flight.len()
    );
    pair.quiet(secs(60));
}

fn same(confirmed: &[Vec<u8>], delivered: &[Vec<u8>], count: usize) {
    assert_eq!(confirmed.len(), count);
    assert_eq!(delivered.len(), count);
    let set: HashSet<_> = confirmed.iter().collect();
    assert_eq!(set.len(), count);
    assert!(delivered.iter().all(|message| set.contains(message)));
}

/// `from_a` and `from_b` messages, in bursts.
fn exchange(seed: u64, bad: Badness, from_a: usize, from_b: usize) {
    let _seed = Seed(seed);
    let mut pair = raw_pair(seed, bad);
    patient(&mut pair);
    let (mut left_a, mut left_b) = (from_a, from_b);
    while left_a + left_b > 0 {
        for (left, side) in [(&mut left_a, 0), (&mut left_b, 1)] {
            let burst = pair.rng.random_range(0..40).min(*left);
            for _ in 0..burst {
                let length = pair.rng.random_range(1..=255);
                let message = name(side, *left as u64, length);
                *left -= 1;
                let end = if side == 0 { &mut pair.a } else { &mut pair.b };
                end.carrier.queue.push_back(message);
            }
        }
        let pause = pair.rng.random_range(0..30);
        pair.run(ms(pause));
    }
    finish(&mut pair, seed);
    for end in [&pair.a, &pair.b] {
        assert_eq!(end.dropped, 0);
        assert_eq!(end.carrier.restarts_out, 0);
    }
    same(&pair.a.carrier.confirmed, &pair.b.carrier.delivered, from_a);
    same(&pair.b.carrier.confirmed, &pair.a.carrier.delivered, from_b);
}

#[test]
fn a_request_and_its_answer() {
    let mut pair = raw_pair(1, Badness::NONE);
    pair.a.carrier.queue.push_back(name(0, 0, 100));
    pair.b.carrier.echo = Some(1);
    pair.run_until(secs(1), |pair| !pair.b.carrier.delivered.is_empty());
    finish(&mut pair, 1);
    same(&pair.a.carrier.confirmed, &pair.b.carrier.delivered, 1);
    same(&pair.b.carrier.confirmed, &pair.a.carrier.delivered, 1);
    assert_eq!(pair.a.carrier.restarts_out + pair.b.carrier.restarts_out, 0);
    assert!(pair.packets.iter().sum::<u64>() <= 4, "{:?}", pair.packets);
}

#[test]
fn one_side_speaks() {
    for (chance, messages) in [(0.0, 5000), (0.05, 2000), (0.2, 1000), (0.4, 500)] {
        for seed in 0..10 {
            exchange(seed, Badness::all(chance), messages, 0);
        }
    }
}

#[test]
fn both_sides_speak() {
    for (chance, messages) in [(0.0, 5000), (0.05, 1000), (0.2, 500), (0.4, 300)] {
        for seed in 0..20 {
            exchange(seed, Badness::all(chance), messages, messages);
        }
    }
}

#[test]
fn both_open_at_once_with_little_to_say() {
    for chance in [0.0, 0.05, 0.2, 0.4] {
        for seed in 0..300 {
            exchange(seed, Badness::all(chance), 1 + seed as usize % 3, 1 + seed as usize % 2);
        }
    }
}
