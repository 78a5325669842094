//! Two ends of a connection over a network that loses, repeats and reorders.

mod support;

use std::collections::HashSet;
use std::time::Duration;

use khashmir::airhook::window::{Settled, Window};
use khashmir::time::Time;
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

/// After whatever has happened: both can still reach each other, within `span`.
fn works(pair: &mut RawPair, span: std::time::Duration) {
    pair.bad = Badness::NONE;
    // Whoever is in the middle of giving up may lose a first attempt.
    let works = pair.run_until(span, |pair| {
        let now = pair.now.as_micros();
        for (side, end) in [(2, &mut pair.a), (3, &mut pair.b)] {
            if end.carrier.settled() && !end.carrier.confirmed.iter().any(|message| message[0] == side) {
                end.carrier.queue.push_back(name(side, now, 20));
            }
        }
        let reached = |to: &Raw, side| to.all_delivered().any(|message| message[0] == side);
        reached(&pair.b.carrier, 2)
            && reached(&pair.a.carrier, 3)
            && pair.a.carrier.settled()
            && pair.b.carrier.settled()
    });
    assert!(works, "does not work again: {:?} {:?}", pair.a.connection, pair.b.connection);
}

/// What was said to have arrived has arrived, and nothing is unaccounted for.
fn accounted(from: &Raw, to: &Raw, sent: u64) {
    let delivered: HashSet<_> = to.all_delivered().collect();
    assert!(from.confirmed.iter().all(|message| delivered.contains(message)));
    let side = from.confirmed.iter().chain(&from.lost_for_good).filter(|message| message[0] < 2);
    let settled: HashSet<_> = side.clone().collect();
    assert_eq!(settled.len(), side.count(), "settled twice");
    assert_eq!(settled.len() as u64, sent);
}

fn restarts(seed: u64, bad: Badness, rounds: usize) {
    let _seed = Seed(seed);
    let mut pair = raw_pair(seed, bad);
    let mut sent = [0; 2];
    for _ in 0..rounds {
        for side in [0, 1] {
            if pair.rng.random_bool(0.5) {
                let end = if side == 0 { &mut pair.a } else { &mut pair.b };
                for _ in 0..pair.rng.random_range(1..30) {
                    end.carrier.queue.push_back(name(side, sent[side as usize], 100));
                    sent[side as usize] += 1;
                }
            }
        }
        let pause = if pair.rng.random_bool(0.2) { 20_000 } else { 300 };
        let pause = pair.rng.random_range(0..pause);
        pair.run(ms(pause));
        let who = pair.rng.random_range(0..6);
        if who == 0 || who == 2 {
            pair.a.restart(true);
        }
        if who == 1 || who == 2 {
            pair.b.restart(true);
        }
    }
    works(&mut pair, secs(60));
    pair.quiet(secs(60));
    accounted(&pair.a.carrier, &pair.b.carrier, sent[0]);
    accounted(&pair.b.carrier, &pair.a.carrier, sent[1]);
    // Answers to each other's packets must not go on for ever.
    assert!(pair.packets.iter().sum::<u64>() < 400 * rounds as u64 + 2000, "{:?}", pair.packets);
}

#[test]
fn either_side_restarts() {
    for chance in [0.0, 0.1, 0.4] {
        for late in [0.0, 0.1] {
            for seed in 0..150 {
                restarts(seed, Badness { late, ..Badness::all(chance) }, 12);
            }
        }
    }
}

#[test]
fn both_give_up_while_the_network_is_away() {
    for seed in 0..50 {
        let _seed = Seed(seed);
        let mut pair = raw_pair(seed, Badness::NONE);
        pair.a.carrier.queue.push_back(name(0, 0, 20));
        pair.b.carrier.queue.push_back(name(1, 0, 20));
        pair.run(secs(1));
        pair.bad.loss = 1.0;
        let away = pair.rng.random_range(0..60_000);
        for number in 1..10 {
            pair.a.carrier.queue.push_back(name(0, number, 20));
            pair.b.carrier.queue.push_back(name(1, number, 20));
            pair.run(ms(away / 9));
        }
        let before = pair.packets;
        works(&mut pair, secs(60));
        pair.quiet(secs(60));
        assert!(pair.packets[0] - before[0] < 50, "{:?} {:?}", before, pair.packets);
    }
}

#[test]
fn both_have_given_the_session_up() {
    for seed in 0..20 {
        let _seed = Seed(seed);
        let mut pair = raw_pair(seed, Badness::NONE);
        pair.a.carrier.queue.push_back(name(0, 0, 20));
        pair.run(secs(1));
        pair.b.carrier.queue.push_back(name(1, 0, 20));
        pair.run(secs(1));
        pair.bad.loss = 1.0;
        pair.a.carrier.queue.push_back(name(0, 1, 20));
        pair.b.carrier.queue.push_back(name(1, 1, 20));
        pair.run(secs(90));
        assert_eq!((pair.a.carrier.restarts_out, pair.b.carrier.restarts_out), (1, 1));
        let before = pair.packets;
        works(&mut pair, secs(1));
        pair.quiet(secs(60));
        assert!(pair.packets[0] - before[0] < 20, "{before:?} {:?}", pair.packets);
        assert_eq!(pair.a.dropped + pair.b.dropped, 0);
    }
}

/// A datagram that somebody makes up who has not seen our session ids.
fn forged(rng: &mut khashmir::random::Random) -> Vec<u8> {
    use khashmir::airhook::packet::{Messages, Packet};
    let mut out = Vec::new();
    if rng.random_bool(0.2) {
        let length = rng.random_range(0..60);
        out.resize_with(length, || rng.random());
        // Without session ids a packet is taken by its number alone: that is the protocol.
        if let Some(flags) = out.first_mut() {
            *flags |= 0x18;
        }
        return out;
    }
    let missed: Vec<u8> = (0..rng.random_range(0..20)).map(|_| rng.random()).collect();
    let observed_session = if rng.random() { rng.random() } else { 0 };
    Packet {
        observed_sequence: rng.random_range(0..5),
        sequence: rng.random_range(0..5),
        observed_session,
        session: if observed_session == 0 || rng.random() { rng.random_range(1..=u32::MAX) } else { 0 },
        next: rng.random::<bool>().then(|| rng.random_range(0..20)),
        missed: &missed,
        messages: Messages::parse(if rng.random() { b"\x04forge" } else { b"" }).unwrap(),
    }
    .emit(&mut out);
    out
}

#[test]
fn outsiders_do_not_tear_a_session_down() {
    for seed in 0..60 {
        let _seed = Seed(seed);
        let mut pair = raw_pair(seed, Badness::NONE);
        pair.record = Some(Vec::new());
        // A past: sessions that ended by restarts of the programs, or of the sessions.
        for number in 0..6 {
            pair.a.carrier.queue.push_back(name(0, number, 20));
            pair.b.carrier.queue.push_back(name(1, number, 20));
            pair.run(secs(2));
            if pair.rng.random() {
                pair.b.restart(true);
            } else {
                let a = &mut pair.a;
                a.connection.break_off(&mut a.world.context(), &mut a.carrier);
            }
        }
        works(&mut pair, secs(60));
        pair.run(secs(10));
        assert!(pair.a.connection.is_proven() && pair.b.connection.is_proven());
        let past = pair.record.take().unwrap();
        let before = (pair.a.carrier.restarts_out, pair.b.carrier.restarts_out);
        let mut numbers = 100..;
        for round in 0..1500 {
            let (to_a, datagram) = if pair.rng.random() {
                let (to_a, datagram) = &past[pair.rng.random_range(0..past.len())];
                (*to_a, datagram.clone())
            } else {
                (pair.rng.random(), forged(&mut pair.rng))
            };
            let now = pair.now;
            if to_a {
                pair.a.receive(now, &datagram)
            } else {
                pair.b.receive(now, &datagram)
            }
            if round % 50 == 0 {
                pair.a.carrier.queue.push_back(name(0, numbers.next().unwrap(), 20));
                pair.b.carrier.queue.push_back(name(1, numbers.next().unwrap(), 20));
            }
            let pause = pair.rng.random_range(0..20);
            pair.run(ms(pause));
            assert_eq!(before, (pair.a.carrier.restarts_out, pair.b.carrier.restarts_out), "round {round}");
        }
        finish(&mut pair, seed);
        assert_eq!(before, (pair.a.carrier.restarts_out, pair.b.carrier.restarts_out));
        for end in [&pair.a, &pair.b] {
            assert!(end.carrier.delivered.iter().all(|message| message.len() == 20), "took a forged message");
        }
    }
}

/// Idle ends whose peer's address somebody forges still have numbers left to speak with.
#[test]
fn forged_packets_do_not_use_our_numbers_up() {
    let mut pair = raw_pair(7, Badness::NONE);
    pair.a.carrier.queue.push_back(name(0, 0, 20));
    pair.run(secs(1));
    for _ in 0..1000 {
        let now = pair.now;
        let datagram = forged(&mut pair.rng);
        pair.a.receive(now, &datagram);
        // Answers are lost: the peer may be slow, or behind a filter.
        pair.bad.loss = 1.0;
        pair.run(ms(100));
    }
    pair.bad.loss = 0.0;
    pair.a.carrier.queue.push_back(name(0, 1, 20));
    assert!(pair.run_until(secs(1), |pair| pair.a.carrier.settled()));
    assert_eq!(pair.a.carrier.restarts_out, 0);
}

/// More than 65,536 packets and many times 256 messages, both ways, with losses.
#[test]
fn numbers_wrap_around() {
    let mut pair = raw_pair(3, Badness { loss: 0.02, ..Badness::NONE });
    patient(&mut pair);
    let mut sent = 0;
    while pair.packets[0].min(pair.packets[1]) < 70_000 {
        for _ in 0..100 {
            pair.a.carrier.queue.push_back(name(0, sent, 9));
            pair.b.carrier.queue.push_back(name(1, sent, 9));
            sent += 1;
            // One packet for each.
            pair.drain();
        }
        pair.run(ms(20));
    }
    finish(&mut pair, 3);
    same(&pair.a.carrier.confirmed, &pair.b.carrier.delivered, sent as usize);
    same(&pair.b.carrier.confirmed, &pair.a.carrier.delivered, sent as usize);
    assert_eq!(pair.a.carrier.restarts_out + pair.b.carrier.restarts_out, 0);
}

/// A peer that restarts is let in although somebody else opens sessions from its address.
#[test]
fn strangers_do_not_keep_a_restarted_peer_out() {
    for seed in 0..20 {
        let _seed = Seed(seed);
        let mut pair = raw_pair(seed, Badness::NONE);
        pair.a.carrier.queue.push_back(name(0, 0, 20));
        pair.run(secs(1));
        pair.b.restart(true);
        pair.b.carrier.queue.push_back(name(1, 0, 20));
        let end = pair.now + secs(2);
        while pair.now < end {
            let now = pair.now;
            let datagram = forged(&mut pair.rng);
            pair.a.receive(now, &datagram);
            pair.run(ms(1));
        }
        assert!(pair.b.carrier.settled() && pair.b.dropped == 0, "{:?}", pair.b.connection);
        assert_eq!(pair.a.carrier.restarts_out, 1);
    }
}

/// Both open at once, and a stranger's session arrives between: what was delivered stays so, and
/// is not delivered again.
#[test]
fn a_stranger_between_two_openings() {
    for length in [0, 3] {
        let mut a = Ours::new(1, Raw::default());
        let mut b = Ours::new(2, Raw::default());
        (0..length).for_each(|number| a.carrier.queue.push_back(name(0, number, 20)));
        b.carrier.queue.push_back(name(1, 0, 20));
        let mut now = Time::ZERO + ms(1);
        let (from_a, from_b) = (a.transmit(now), b.transmit(now));
        let (Some(from_a), Some(from_b)) = (from_a, from_b) else {
            // It had nothing to say.
            assert_eq!(length, 0);
            continue;
        };
        now += ms(1);
        a.receive(now, &from_b);
        let answer = a.transmit(now).expect("an answer");
        b.receive(now, &from_a);
        b.receive(now, &answer);
        assert!(b.connection.is_proven() && !a.connection.is_proven());
        // In B's name: S alone.
        a.receive(now, &[8, 0, 0, 0, 0x12, 0x34, 0x56, 0x78]);
        while let Some(confused) = a.transmit(now) {
            b.receive(now, &confused);
        }
        let mut pair = Pair::new(1, Badness::NONE, a, b);
        pair.now = now;
        assert!(pair.run_until(secs(2), |pair| pair.a.carrier.settled() && pair.b.carrier.settled()));
        assert_eq!((pair.a.carrier.restarts_out, pair.b.carrier.restarts_out), (0, 0));
        assert_eq!(pair.b.carrier.all_delivered().count(), length as usize);
    }
}

/// A network that brings everything twice does not keep two ends talking.
#[test]
fn everything_comes_twice() {
    for seed in 0..20 {
        let _seed = Seed(seed);
        let bad = Badness { duplicate: 1.0, reorder: if seed % 2 == 0 { 0.0 } else { 0.5 }, ..Badness::NONE };
        let mut pair = raw_pair(seed, bad);
        for number in 0..10 {
            pair.a.carrier.queue.push_back(name(0, number, 20));
            pair.b.carrier.queue.push_back(name(1, number, 20));
            pair.run(ms(300));
        }
        pair.run(secs(60));
        assert!(pair.a.carrier.settled() && pair.b.carrier.settled());
        let before = pair.packets;
        pair.run(secs(600));
        assert_eq!(pair.packets, before, "packets on an idle connection");
    }
}

/// What a stranger does before the peer speaks does not make the peer one of 2003.
#[test]
fn strangers_do_not_pass_for_the_peer() {
    let mut pair = raw_pair(11, Badness::NONE);
    // A message without its number, as the C library sends it.
    let now = pair.now;
    pair.b.receive(now, &[8, 0, 0, 1, 0x12, 0x34, 0x56, 0x78, 0, 0xff]);
    assert!(pair.b.connection.is_original());
    pair.b.transmit(now);
    pair.a.carrier.queue.push_back(name(0, 0, 20));
    pair.run(secs(1));
    assert!(pair.a.carrier.settled() && pair.b.connection.is_proven());
    assert!(!pair.b.connection.is_original());
}

/// Whoever sends nothing but acknowledgements for long has the same window as before, and no
/// round of it seems to end only after half of all numbers.
#[test]
fn rounds_end_after_long_pauses() {
    let settled = |passed, lost| Settled { passed, lost };
    let mut window = Window::new(0, None, Time::ZERO);
    let now = Time::ZERO + secs(1);
    // A loss of more than half: cut at the end of the round.
    window.observed(settled(20_000, 40_000), 5, 10, ms(20), now);
    let cut = window.size();
    assert!(cut < 16 * 1450);
    // Bare packets, of which each is told.
    for next in 10..43_000u16 {
        window.rest(Duration::ZERO, ms(100), next);
    }
    // Two rounds in which it held something back.
    for (observed, next) in [(43_000, 43_010), (43_009, 43_020), (43_019, 43_030)] {
        window.note_limited();
        window.observed(settled(10_000, 20_000), observed, next, ms(20), now);
    }
    assert!(window.size() < cut, "no round ended");
}

/// Acknowledgements that come after hours are no reason to panic.
#[test]
fn round_trips_of_hours() {
    let mut window = Window::new(0, None, Time::ZERO);
    for hours in [1, 2, 3, 4, 100] {
        let now = Time::ZERO + secs(hours * 3600);
        window.measured(secs(hours * 3600), secs(hours * 3600), now);
        window.observed(Settled { passed: 1000, lost: 500 }, hours as u16, hours as u16 + 1, ms(20), now);
    }
    assert!(window.size() >= 2 * 1450);
}

/// Where a burst takes less time than timers are exact to, each round trip brings a window through all the
/// same.
#[test]
fn a_short_round_trip_is_not_idle() {
    let (mut window, trip) = (Window::new(0, None, Time::ZERO), Duration::from_micros(150));
    // One that doubles no more.
    window.observed(Settled { passed: 20_000, lost: 40_000 }, 5, 10, ms(20), Time::ZERO);
    let (packets, rounds) = (window.size() / 1450, 1000);
    let mut now = Time::ZERO + secs(1);
    let mut waited = Duration::ZERO;
    for _ in 0..rounds {
        for _ in 0..packets {
            if let Some(until) = window.waits_until(now) {
                let tick = until.as_micros().next_multiple_of(1024);
                waited += Time::from_micros(tick) - now;
                now = Time::from_micros(tick);
            }
            window.sent(1450, Some(trip), now);
        }
        now += trip;
    }
    assert!(waited < trip * rounds / 10, "{waited:?} of {:?}", trip * rounds);
    // And where the whole of a round trip does, nothing waits, though some have been long of late.
    let mut window = Window::new(0, Some(Duration::from_micros(150)), Time::ZERO);
    window.observed(Settled { passed: 20_000, lost: 40_000 }, 5, 10, ms(20), Time::ZERO);
    for _ in 0..packets {
        assert_eq!(window.waits_until(now), None);
        window.sent(1450, Some(ms(50)), now);
    }
}
