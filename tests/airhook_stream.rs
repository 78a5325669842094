//! The ordered stream: whole and in order over a network that is neither.

mod support;

use khashmir::airhook::channel::Channel;
use khashmir::airhook::connection::Carrier;
use khashmir::airhook::flight::Fate;
use khashmir::airhook::stream::{MAX_SEGMENT, Stream};
use rand::RngExt;
use support::*;

type FramedPair = Pair<Ours<Framed>, Ours<Framed>>;

fn framed_pair(seed: u64, bad: Badness) -> FramedPair {
    let mut a = Ours::new(seed * 2, Framed::default());
    let mut b = Ours::new(seed * 2 + 1, Framed::default());
    for end in [&mut a, &mut b] {
        end.world.config.max_openings = 200;
        end.world.config.max_heartbeats = 200;
    }
    Pair::new(seed, bad, a, b)
}

#[test]
fn frames_arrive_whole_and_in_order() {
    for chance in [0.0, 0.05, 0.2, 0.4] {
        for seed in 0..30 {
            let _seed = Seed(seed);
            let mut pair = framed_pair(seed, Badness::all(chance));
            let mut sent = [Vec::new(), Vec::new()];
            for _ in 0..15 {
                for (side, sent) in sent.iter_mut().enumerate() {
                    if pair.rng.random_bool(0.6) {
                        let longest = if pair.rng.random_bool(0.1) { 20_000 } else { 400 };
                        let length = pair.rng.random_range(0..longest);
                        let frame: Vec<u8> = (0..length).map(|_| pair.rng.random()).collect();
                        let end = if side == 0 { &mut pair.a } else { &mut pair.b };
                        end.carrier.write(&frame);
                        sent.push(frame);
                    }
                }
                let pause = pair.rng.random_range(0..40);
                pair.run(ms(pause));
            }
            let [from_a, from_b] = sent;
            let done = pair.run_until(secs(600), |pair| {
                pair.b.carrier.frames.len() == from_a.len() && pair.a.carrier.frames.len() == from_b.len()
            });
            assert!(done, "{:?}\n{:?}", pair.a.connection, pair.b.connection);
            assert!(pair.b.carrier.frames == from_a && pair.a.carrier.frames == from_b);
            pair.quiet(secs(60));
            for end in [&mut pair.a, &mut pair.b] {
                assert_eq!(end.carrier.restarts_out, 0);
                assert_eq!((end.carrier.stream().buffered(), end.carrier.stream().unconfirmed()), (0, 0));
            }
        }
    }
}

#[test]
fn more_than_65536_segments() {
    let mut pair = framed_pair(1, Badness { loss: 0.02, ..Badness::NONE });
    pair.b.carrier.serve = true;
    let frame = vec![5; 60_000];
    for round in 0..300 {
        pair.a.carrier.write(&frame);
        assert!(pair.run_until(secs(60), |pair| !pair.a.carrier.frames.is_empty()), "round {round}");
        assert!(pair.a.carrier.frames.pop().unwrap() == frame);
        pair.b.carrier.frames.clear();
    }
    pair.quiet(secs(60));
}

/// A frame that is lost with a session is gone; those after it are whole.
#[test]
fn restarts_leave_no_half_frames() {
    for seed in 0..100 {
        let _seed = Seed(seed);
        let late = if seed % 2 == 0 { 0.0 } else { 0.05 };
        let mut pair = framed_pair(seed, Badness { late, ..Badness::all(0.1) });
        pair.b.carrier.serve = true;
        for number in 0..12u8 {
            let length = pair.rng.random_range(1..3000);
            let frame = vec![number; length];
            let mut attempts = 0;
            while !pair.a.carrier.frames.contains(&frame) {
                attempts += 1;
                assert!(attempts < 20);
                let restarts = pair.a.carrier.restarts_out;
                pair.a.carrier.write(&frame);
                pair.run_until(secs(10), |pair| {
                    pair.a.carrier.restarts_out != restarts || pair.a.carrier.frames.contains(&frame)
                });
                for frame in pair.a.carrier.frames.iter().chain(&pair.b.carrier.frames) {
                    assert!(frame.iter().all(|byte| *byte == frame[0]), "a mixed frame");
                }
            }
            match pair.rng.random_range(0..4) {
                0 => pair.a.restart(true),
                1 => {
                    pair.b.restart(false);
                    pair.b.carrier.serve = true;
                }
                _ => {}
            }
        }
    }
}

fn message(number: u16, bytes: &[u8]) -> Vec<u8> {
    let mut message = number.to_be_bytes().to_vec();
    message.extend_from_slice(bytes);
    message
}

#[test]
fn messages_wait_for_those_before_them() {
    let (mut stream, mut inbox) = (Stream::default(), Vec::new());
    let mut port = stream.port(&mut inbox, 300);
    for (number, byte) in [(2, b"c"), (1, b"b"), (2, b"x"), (299, b"z"), (0, b"a"), (1, b"y")] {
        port.deliver(&message(number, byte));
    }
    // Neither a number alone nor less is a message.
    for nothing in [&[][..], &[0], &[0, 3]] {
        port.deliver(nothing);
    }
    assert!(stream.take_arrived());
    assert_eq!(inbox, b"abc");
    assert!(!stream.is_broken());
    assert!(stream.buffered() > 0);
    // As far ahead as may be, then one more.
    let mut port = stream.port(&mut inbox, 300);
    port.deliver(&message(302, b"w"));
    assert!(!stream.is_broken());
    stream.port(&mut inbox, 300).deliver(&message(303, b"w"));
    assert!(stream.is_broken());
    stream.port(&mut inbox, 300).restart_incoming();
    assert!(!stream.is_broken());
    assert_eq!(stream.buffered(), 0);
    assert!(inbox.is_empty());
}

/// What is held costs memory beyond its bytes: that counts, too.
#[test]
fn many_small_messages_count_for_what_they_cost() {
    let (mut stream, mut inbox) = (Stream::default(), Vec::new());
    for number in 1..1000 {
        stream.port(&mut inbox, 1024).deliver(&message(number, b"x"));
    }
    assert!(stream.buffered() > 1000 * 16);
    stream.port(&mut inbox, 1024).deliver(&message(0, b"x"));
    assert_eq!((inbox.len(), stream.buffered()), (1000, 0));
}

/// Segments are cut to the room there is, confirmed in any order, and sent again as they were.
#[test]
fn segments_are_sent_again_as_they_were() {
    for seed in 0..200 {
        let _seed = Seed(seed);
        let mut rng = khashmir::random::seeded(khashmir::random::seed_from_number(seed));
        let (mut from, mut to) = (Stream::default(), Stream::default());
        let (mut inbox, mut nothing) = (Vec::new(), Vec::new());
        let bytes: Vec<u8> = (0..rng.random_range(1..30_000)).map(|_| rng.random()).collect();
        let mut written = 0;
        let mut flying = Vec::new();
        while inbox.len() < bytes.len() || from.unconfirmed() > 0 {
            if written < bytes.len() && rng.random_bool(0.3) {
                let end = rng.random_range(written..=bytes.len());
                from.write(&bytes[written..end], None);
                written = end;
            }
            let mut port = from.port(&mut nothing, 0);
            while port.ready() && rng.random_bool(0.9) {
                let room = rng.random_range(1..=255);
                let mut packet = vec![9];
                let Some(token) = port.fill(room, &mut packet) else {
                    assert_eq!(packet, [9]);
                    break;
                };
                assert!(packet.len() <= 1 + room && packet.len() <= 3 + MAX_SEGMENT);
                flying.push((token, packet.split_off(1)));
            }
            assert!(flying.len() <= 255);
            if !flying.is_empty() {
                let at = rng.random_range(0..flying.len());
                let (token, message) = flying.swap_remove(at);
                if rng.random_bool(0.3) {
                    from.port(&mut nothing, 0).settle(token, Fate::Lost);
                } else {
                    to.port(&mut inbox, 1024).deliver(&message);
                    from.port(&mut nothing, 0).settle(token, Fate::Confirmed);
                }
            }
        }
        assert!(inbox == bytes);
        assert_eq!((from.buffered(), to.buffered()), (0, 0));
    }
}
