//! Strangers: they are answered without keeping anything, and what they can take is bounded.

#[path = "support/host.rs"]
mod host;
mod support;

use std::collections::HashMap;
use std::net::{Ipv6Addr, SocketAddr};

use host::*;
use khashmir::airhook::packet::Packet;
use khashmir::context::Key;
use khashmir::random::{seed_from_number, seeded};
use khashmir::time::Time;
use khashmir::{CallError, SendError};
use rand::RngExt;
use support::originals::Clib;
use support::*;

/// The one packet that goes out now: our session, theirs as it shows it, our sequence number.
fn only(host: &mut Host) -> (u32, u32, u16) {
    let out = host.output();
    let [(_, datagram)] = &out[..] else { panic!("{} packets", out.len()) };
    let packet = Packet::parse(datagram).unwrap();
    assert_eq!((packet.messages.count(), packet.next), (0, Some(0)));
    (packet.session, packet.observed_session, packet.sequence)
}

/// The session in the answer to a bare opening.
fn opened(host: &mut Host, from: SocketAddr, session: u32) -> u32 {
    host.receive(from, &packet(session, (0, 0), 0, None, b""));
    let (ours, theirs, sequence) = only(host);
    assert_eq!((theirs, sequence), (session, 0));
    assert!((1..1 << 31).contains(&ours));
    ours
}

/// A host that has no room for anybody unproven.
fn without_room(seed: u64) -> Host {
    let mut host = Host::new(seed);
    host.world.config.max_unproven = 1;
    host.receive(address(99), &packet(5, (0, 0), 0, Some(0), &segment(0, b"x")));
    assert_eq!((host.output().len(), host.mux.half_open()), (1, 1));
    host
}

/// Sends bytes to a peer.
fn say(host: &mut Host, to: SocketAddr, bytes: &[u8]) {
    let mut ctx = host.world.context();
    let key = host.mux.connect(&mut ctx, to);
    host.mux.send(&mut ctx, key, bytes, None).unwrap();
}

#[test]
fn an_opening_is_answered_and_forgotten() {
    let mut host = Host::new(1);
    let (peer, message) = (address(1), segment(0, b"request"));
    let ours = opened(&mut host, peer, 77);
    assert!(host.mux.is_empty() && host.world.wheel.is_empty());
    // Once more, the same: it may have been lost. Another session, another answer.
    assert_eq!(opened(&mut host, peer, 77), ours);
    assert_ne!(opened(&mut host, peer, 78), ours);
    host.receive(peer, &packet(77, (ours, 0), 1, Some(0), &message));
    assert_eq!(host.received[&peer], b"request");
    let key = host.mux.connect(&mut host.world.context(), peer);
    assert!(host.mux.is_proven(key));
    assert_eq!((host.mux.len(), host.mux.half_open(), host.mux.traffic().openings_answered), (1, 0, 3));
    host.advance(Time::ZERO + ms(30));
    let out = host.output();
    let answer = Packet::parse(&out[0].1).unwrap();
    assert_eq!((answer.session, answer.observed_session, answer.sequence), (ours, 77, 1));
    host.clear();
}

/// Nobody goes for one who has not shown himself, and his messages come again.
#[test]
fn without_room_messages_come_again_and_nobody_goes() {
    let mut hosts = HashMap::from([(address(0), without_room(1)), (address(1), Host::new(2))]);
    say(hosts.get_mut(&address(1)).unwrap(), address(0), &[7; 5000]);
    run(&mut hosts, secs(2));
    let host = &hosts[&address(0)];
    assert_eq!(host.received[&address(1)], [7; 5000]);
    assert_eq!((host.mux.half_open(), host.mux.traffic().openings_answered), (1, 1));
    assert_eq!(hosts[&address(1)].mux.traffic().dropped, 0);
}

/// The C library sends all that it has before it knows us.
#[test]
fn the_c_library_gets_through_without_room() {
    let mut host = without_room(2);
    let (peer, mut clib) = (address(1), Clib::new(77));
    clib.queue = (0..30).map(|number| segment(number, &[number as u8; 200])[1..].to_vec()).collect();
    let start = host.world.now;
    for step in 0..2000 {
        let now = start + ms(step * 5);
        host.advance(now);
        while let Some(datagram) = clib.transmit(now) {
            host.receive(peer, &datagram);
        }
        for (to, datagram) in host.output() {
            if to == peer {
                clib.receive(now, &datagram);
            }
        }
    }
    assert!(clib.settled());
    let sent: Vec<u8> = (0..30).flat_map(|number| [number; 200]).collect();
    assert_eq!(host.received[&peer], sent);
}

/// Whoever shows an id that was not made for him, for this session, and lately, proves nothing.
#[test]
fn a_proof_is_good_for_one_address_one_session_and_half_a_minute() {
    let peer = address(1);
    let proves = |host: &mut Host, from: SocketAddr, session: u32, shown: u32| {
        host.receive(from, &packet(session, (shown, 0), 1, Some(0), &segment(0, b"x")));
        let proven = !host.mux.is_empty();
        host.clear();
        proven
    };
    for start in [0, 14, 15, 29, 3600] {
        let mut host = Host::new(start);
        host.advance(Time::ZERO + secs(start));
        let ours = opened(&mut host, peer, 77);
        assert!(!proves(&mut host, address(2), 77, ours));
        assert!(!proves(&mut host, SocketAddr::new(peer.ip(), 4001), 77, ours));
        assert!(!proves(&mut host, peer, 78, ours));
        assert!(!proves(&mut host, peer, 77, ours ^ 1));
        assert!(proves(&mut host, peer, 77, ours));
        host.advance(Time::ZERO + secs(start / 15 * 15 + 29));
        assert!(proves(&mut host, peer, 77, ours));
        host.advance(Time::ZERO + secs(start / 15 * 15 + 30));
        assert!(!proves(&mut host, peer, 77, ours));
        assert_eq!(host.received.len(), 1);
        let ours = opened(&mut host, peer, 77);
        assert!(!proves(&mut Host::new(9), peer, 77, ours), "another node's");
    }
}

/// A peer goes on with a connection that we have forgotten, however it was made.
#[test]
fn peers_that_were_forgotten_start_over() {
    for (seed, room) in [(1, true), (2, false), (3, true), (4, false)] {
        let first = if room { Host::new(seed) } else { without_room(seed) };
        let mut hosts = HashMap::from([(address(0), first), (address(1), Host::new(seed + 10))]);
        for round in 0..6u8 {
            // It may have been forgotten twice within the time for which an id is good.
            say(hosts.get_mut(&address(1)).unwrap(), address(0), &[round; 100]);
            run(&mut hosts, ms(if seed > 2 { 400 } else { 20_000 }));
            hosts.get_mut(&address(0)).unwrap().clear();
            // What goes out now is lost with the session.
            say(hosts.get_mut(&address(1)).unwrap(), address(0), b"lost");
            run(&mut hosts, secs(2));
        }
        say(hosts.get_mut(&address(1)).unwrap(), address(0), b"last");
        run(&mut hosts, secs(2));
        let received = &hosts[&address(0)].received[&address(1)];
        assert!(received.ends_with(b"last"), "{seed}");
        assert!((0..6).all(|round| received.iter().filter(|&&byte| byte == round).count() == 100));
    }
}

/// One forged packet, and two who know nothing of each other.
#[test]
fn no_packet_starts_an_exchange_without_end() {
    for seed in 0..400 {
        let _seed = Seed(seed);
        let mut rng = seeded(seed_from_number(seed));
        let (a, b) = (address(0), address(1));
        let host = |seed| if seed & 1 == 0 { Host::new(seed) } else { without_room(seed) };
        let mut hosts = HashMap::from([(a, host(seed)), (b, host(seed / 2))]);
        let session = if rng.random() { rng.random_range(1..9) } else { 0 };
        let observed = if rng.random() { rng.random_range(1..9) } else { 0 };
        let sequence = [0, 1, 255, 40_000][rng.random_range(0..4)];
        let messages = if rng.random() { segment(0, b"forged") } else { Vec::new() };
        let next = rng.random::<bool>().then(|| rng.random_range(0..20));
        let forged = packet(session, (observed, rng.random_range(0..3)), sequence, next, &messages);
        hosts.get_mut(&a).unwrap().receive(b, &forged);
        run(&mut hosts, secs(10));
        let packets: u64 = hosts.values().map(|host| host.mux.traffic().packets_out).sum();
        let strangers = (seed & 1) + ((seed / 2) & 1);
        assert!(packets - strangers <= 12, "{packets} packets");
    }
}

/// A million openings from made-up addresses, and honest peers who get through.
#[test]
fn a_flood_of_openings_takes_nothing_from_honest_peers() {
    const FORGED: u32 = 100_000;
    let mut rng = seeded(seed_from_number(1));
    let mut host = Host::new(1);
    host.answers = 500;
    let mut came = vec![0u32; FORGED as usize];
    let forged = |number: u32| address(0x10_0000 + number * 16);
    let number_of = |addr: SocketAddr| match addr.ip() {
        std::net::IpAddr::V4(ip) => (u32::from(ip) - 0x0a10_0000) / 16,
        std::net::IpAddr::V6(_) => unreachable!(),
    };
    let bare = packet(5, (0, 0), 0, Some(0), b"");
    let full = packet(5, (0, 0), 0, Some(0), &segment(0, b"x"));
    let shows = packet(5, (6, 0), 1, Some(0), b"");
    let resumes = packet(0, (0, 3), 900, None, b"");
    for round in 0..1000 {
        for _ in 0..1000 {
            let number = rng.random_range(0..FORGED);
            let datagram = [&bare, &full, &shows, &resumes][rng.random_range(0..4)];
            host.receive(forged(number), datagram);
            came[number as usize] += 3 * datagram.len() as u32;
            if rng.random_bool(0.01) {
                settle(&mut host, &mut came, number_of);
            }
        }
        settle(&mut host, &mut came, number_of);
        assert!(host.mux.len() <= 256 + 1000 && host.mux.buffered() < 256 * 1024);
        assert!(host.world.wheel.len() <= host.mux.len() + 1);
        if round % 50 == 0 {
            // In the midst of it, somebody asks, and is answered.
            let peer = address(1 + round);
            let mut hosts = HashMap::from([(address(0), host), (peer, Host::new(7))]);
            say(hosts.get_mut(&peer).unwrap(), address(0), &[3; 200]);
            run(&mut hosts, ms(300));
            assert_eq!(hosts[&peer].received[&address(0)], [7; 500]);
            host = hosts.remove(&address(0)).unwrap();
            assert_eq!(host.received.remove(&peer).unwrap(), [3; 200]);
        }
        let now = host.world.now + ms(20);
        host.advance(now);
    }
    let traffic = host.mux.traffic();
    assert!(traffic.openings_answered > 700_000 && traffic.evicted == 0, "{traffic:?}");
    host.advance(host.world.now + secs(3600));
    assert_eq!(host.mux.len(), 0);
}

/// Takes what went to each forged address off what it may get.
fn settle(host: &mut Host, may: &mut [u32], number_of: impl Fn(SocketAddr) -> u32) {
    for (to, datagram) in host.output() {
        let left = &mut may[number_of(to) as usize];
        *left = left.checked_sub(datagram.len() as u32).expect("more than three times what came");
    }
}

#[test]
fn a_block_of_addresses_has_its_share() {
    let v4 = |number: u32| (address(0x100), address(0x200 + number), address(0x300 + number));
    let v6 = |number: u32| {
        let ip = |net: u16, host: u32| {
            SocketAddr::new(Ipv6Addr::new(0x2001, 0xdb8, 0, net, 0, 0, 7, host as u16).into(), 1)
        };
        (ip(1, 0), ip(2, number), ip(3, number))
    };
    for (seed, places) in [(1, &v4 as &dyn Fn(u32) -> _), (2, &v6)] {
        let mut host = Host::new(seed);
        host.world.config.max_per_block = 8;
        // Those who have not shown themselves have half of it.
        for number in 0..100 {
            host.receive(places(number).1, &packet(5, (0, 0), 0, Some(0), &segment(0, b"x")));
        }
        assert_eq!((host.output().len(), host.mux.len()), (100, 4));
        // The other half is for those who have.
        for number in 100..120 {
            host.receive(places(number).1, &packet(77, (0, 0), 0, Some(0), b""));
            let Some((_, answer)) = host.output().pop() else { continue };
            let ours = Packet::parse(&answer).unwrap().session;
            host.receive(places(number).1, &packet(77, (ours, 0), 1, Some(0), b""));
            host.output();
        }
        assert_eq!((host.mux.len(), host.mux.traffic().refused), (8, 16));
        // There is room for others, and for ourselves, up to four times as much.
        prove(&mut host, places(0).0, 77, false);
        for number in 0..40 {
            let key = host.mux.connect(&mut host.world.context(), places(number).2);
            let sent = host.mux.send(&mut host.world.context(), key, b"x", None);
            assert_eq!(sent, if number < 32 { Ok(()) } else { Err(SendError::Closed) });
        }
        assert_eq!(host.mux.len(), 8 + 1 + 32);
        // When some have gone, others may come.
        host.output();
        host.advance(host.world.now + secs(60));
        prove(&mut host, places(200).1, 77, false);
        host.advance(host.world.now + secs(3600));
        assert_eq!(host.mux.len(), 0);
        for number in 0..20 {
            prove_or_not(&mut host, places(number).1);
        }
        assert_eq!(host.mux.len(), 8);
    }
}

fn prove_or_not(host: &mut Host, from: SocketAddr) {
    host.receive(from, &packet(77, (0, 0), 0, Some(0), b""));
    if let Some((_, answer)) = host.output().pop() {
        let ours = Packet::parse(&answer).unwrap().session;
        host.receive(from, &packet(77, (ours, 0), 1, Some(0), b""));
        host.output();
    }
}

#[test]
fn loopback_has_a_share_only_if_asked_for() {
    for (limited, most) in [(false, 50), (true, 8)] {
        let mut host = Host::new(1);
        host.world.config.max_per_block = 8;
        host.world.config.limit_loopback = limited;
        for port in 1..=50 {
            prove_or_not(&mut host, SocketAddr::new([127, 0, 0, 1].into(), port));
        }
        assert_eq!(host.mux.len(), most);
    }
}

#[test]
fn a_full_queue_is_told() {
    let mut host = Host::new(1);
    host.world.config.max_queued = 10_000;
    host.world.config.max_buffered = 256 * 1024;
    let mut ctx = host.world.context();
    let first = host.mux.connect(&mut ctx, address(1));
    assert_eq!(host.mux.send(&mut ctx, first, &[1; 9000], None), Ok(()));
    let full = Err(SendError::Full { queued: 9000, limit: 10_000 });
    assert_eq!(host.mux.send(&mut ctx, first, &[1; 1001], None), full);
    assert_eq!((host.mux.unconfirmed(first), host.mux.traffic().queue_full), (9000, 1));
    assert_eq!(host.mux.send(&mut ctx, first, &[1; 1000], None), Ok(()));
    // So it is for all together; but a short word there still is room for.
    let mut number = 1;
    while host.mux.buffered() <= 256 * 1024 {
        number += 1;
        let key = host.mux.connect(&mut ctx, address(number));
        host.mux.send(&mut ctx, key, &[1; 10_000], None).unwrap();
    }
    let key = host.mux.connect(&mut ctx, address(number + 1));
    let full = Err(SendError::Full { queued: host.mux.buffered(), limit: 256 * 1024 });
    assert_eq!(host.mux.send(&mut ctx, key, &[1; 3000], None), full);
    assert_eq!(host.mux.send(&mut ctx, key, &[1; 2000], None), Ok(()));
    assert!(host.mux.send(&mut ctx, key, &[1; 2000], None).is_err());
}

/// Of unfinished messages, the one that has been so for longest goes.
#[test]
fn unfinished_messages_have_a_limit_of_their_own() {
    let mut host = Host::new(1);
    host.world.config.max_unfinished = 128 * 1024;
    host.keeps = usize::MAX;
    for number in 0..40 {
        let ours = prove(&mut host, address(number), 77, false);
        for sequence in 0..20 {
            let message = segment(sequence, &[1; 250]);
            let bytes = packet(77, (ours, 0), 3 + sequence, Some(sequence as u8), &message);
            host.receive(address(number), &bytes);
        }
        assert!(host.mux.unfinished() <= 128 * 1024);
        host.output();
    }
    assert!(host.mux.unfinished() > 100 * 1024 && host.mux.traffic().broken_off > 5);
    host.clear();
}

/// Those who take nothing go first, then those idle for longest, last those of 2003.
#[test]
fn the_order_in_which_connections_go() {
    let mut host = Host::new(1);
    host.world.config.max_connections = 16;
    host.world.config.max_unproven = 4;
    for number in 0..12 {
        prove(&mut host, address(number), 77, number % 3 == 0);
        host.advance(host.world.now + ms(100));
    }
    for number in 12..16 {
        host.receive(address(number), &packet(5, (0, 0), 0, Some(0), &segment(0, b"x")));
    }
    // This one is not idle any more.
    say(&mut host, address(1), b"x");
    host.output();
    let there = |host: &Host| -> Vec<u32> {
        let known = |number: &u32| host.mux.is_known(&address(*number));
        (0..16).filter(known).collect()
    };
    let mut gone = Vec::new();
    for number in 100..116 {
        let before = there(&host);
        let key = host.mux.connect(&mut host.world.context(), address(number));
        host.mux.expect(&mut host.world.context(), key, Key::new(number, 0));
        let after = there(&host);
        gone.extend(before.into_iter().filter(|number| !after.contains(number)));
    }
    assert_eq!(gone, [12, 13, 14, 15, 2, 4, 5, 7, 8, 10, 11, 1, 0, 3, 6, 9]);
    assert_eq!((host.mux.traffic().evicted, host.failed.len()), (16, 0));
    // Strangers, however proven, do not take the place of calls that wait.
    prove_or_not(&mut host, address(200));
    assert_eq!((host.mux.len(), host.mux.traffic().refused, host.failed.len()), (16, 1, 0));
    host.mux.connect(&mut host.world.context(), address(201));
    host.check();
    assert_eq!(host.failed, [(Key::new(100, 0), CallError::Forgotten)]);
}

/// The next opening to a peer that was forgotten is repeated after as long as it took before.
#[test]
fn round_trips_outlive_connections() {
    let mut host = Host::new(1);
    let trip = ms(700);
    say(&mut host, address(1), b"x");
    let ours = Packet::parse(&host.output()[0].1).unwrap().session;
    host.advance(Time::ZERO + trip);
    host.output();
    host.receive(address(1), &packet(77, (ours, 0), 0, Some(0), b""));
    host.output();
    let repeats_after = |host: &mut Host, peer: SocketAddr| {
        let start = host.world.now;
        say(host, peer, b"x");
        assert_eq!(host.output().len(), 1);
        let step = |n: &u64| {
            host.advance(start + ms(n * 10));
            !host.output().is_empty()
        };
        let n = (1..1000).find(step).unwrap();
        host.clear();
        ms(n * 10)
    };
    host.advance(host.world.now + secs(700));
    assert!(host.mux.is_empty());
    assert!(repeats_after(&mut host, address(1)) >= trip);
    assert!(repeats_after(&mut host, address(2)) <= ms(310));
    host.advance(host.world.now + secs(3600));
    assert!(repeats_after(&mut host, address(1)) <= ms(310), "too long ago");
}

/// Who comes back after his opening was forgotten gets another session: he has heard numbers of
/// the first.
#[test]
fn who_was_forgotten_gets_another_session() {
    for start in [0, 3, 14] {
        let mut host = Host::new(start);
        host.advance(Time::ZERO + secs(start));
        let mut seen = Vec::new();
        for _ in 0..3 {
            host.receive(address(1), &packet(77, (0, 0), 0, Some(0), &segment(0, b"request")));
            let out = host.output();
            seen.push(Packet::parse(&out[0].1).unwrap().session);
            for _ in 0..200 {
                host.advance(host.world.now + ms(100));
                if host.mux.is_empty() {
                    break;
                }
            }
            assert!(host.mux.is_empty());
        }
        assert!(seen[0] != seen[1] && seen[1] != seen[2] && seen[0] != seen[2], "{seen:x?}");
    }
}

/// Nor does one whose connection came of an answer that was not kept, once that is gone.
#[test]
fn no_answer_is_given_twice_once_its_connection_is_gone() {
    let mut host = Host::new(1);
    let peer = address(1);
    let (bare, proof) = (packet(77, (0, 0), 0, Some(0), b""), segment(0, b"x"));
    let mut seen = Vec::new();
    for number in 2..5 {
        host.receive(peer, &bare);
        let (ours, ..) = only(&mut host);
        seen.push(ours);
        host.receive(peer, &packet(77, (ours, 0), 1, Some(0), &proof));
        assert!(host.mux.is_known(&peer), "{seen:x?}");
        // Others need its place.
        host.world.config.max_connections = 1;
        let mut ctx = host.world.context();
        host.mux.connect(&mut ctx, address(number));
        assert!(!host.mux.is_known(&peer));
        host.world.config.max_connections = 100;
        // What it still says in that session is answered in another.
        host.receive(peer, &packet(77, (ours, 1), 2, Some(1), b""));
        let answers = host.output();
        let answer = answers.iter().find(|(to, _)| *to == peer).expect("an answer");
        let Packet { session, observed_session, .. } = Packet::parse(&answer.1).unwrap();
        assert!(session != ours && observed_session == 0);
        assert!(!host.mux.is_known(&peer));
    }
    assert!(seen[0] != seen[1] && seen[1] != seen[2] && seen[0] != seen[2], "{seen:x?}");
}

/// What the opening of a peer of 2003 leaves out, its next packets may not: that was seen all the
/// same. Its stream would not bear what comes twice.
#[test]
fn the_manner_of_an_opening_is_remembered() {
    for (next, is_original) in [(None, true), (Some(0), false)] {
        let mut host = Host::new(1);
        let peer = address(1);
        host.receive(peer, &packet(77, (0, 0), 0, next, b""));
        let (ours, ..) = only(&mut host);
        host.receive(peer, &packet(77, (ours, 0), 1, Some(0), &segment(0, b"request")));
        say(&mut host, peer, &[7; 1000]);
        let mut messages = 0;
        for _ in 0..200 {
            host.advance(host.world.now + ms(10));
            let sent = host.output();
            messages +=
                sent.iter().map(|(_, bytes)| Packet::parse(bytes).unwrap().messages.count()).sum::<u8>();
        }
        let key = host.mux.connect(&mut host.world.context(), peer);
        assert_eq!(host.mux.is_original(key), is_original);
        // 1,000 bytes, 253 a message. One of ours can tell that some of them come again.
        assert_eq!(messages == 4, is_original, "{messages} messages");
    }
}

/// Who speaks to a stranger just after answering him asks at once whether he is there.
#[test]
fn who_has_just_been_answered_is_asked_at_once() {
    let mut host = Host::new(1);
    let peer = address(1);
    host.advance(Time::ZERO + secs(1));
    let ours = opened(&mut host, peer, 77);
    let mut ctx = host.world.context();
    let key = host.mux.connect(&mut ctx, peer);
    host.mux.hold(&mut ctx, key);
    assert_eq!(only(&mut host), (ours, 0, 1));
}
