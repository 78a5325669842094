//! What those who mean harm can cost a node, and what they cannot.

#[path = "support/network.rs"]
mod network;

use std::time::Duration;

use khashmir::engine::Outcome;
use khashmir::krpc::message::{self, Message, Method};
use khashmir::random::{seed_from_number, seeded};
use khashmir::{CallError, Config, Id, NodeKey, OperationError, SendError};
use network::*;

fn one_node(config: Config) -> (Network, NodeKey) {
    let mut network = Network::new(1);
    let node = network.node(address(0), config);
    (network, node)
}

/// Whether a peer's ping is answered.
fn is_served(network: &mut Network, peer: u32) -> bool {
    network.at(address(peer)).received.clear();
    network.ask(address(peer), address(0), b"1", &Method::Ping);
    network.run(secs(2));
    let answers = network.at(address(peer)).take(|m| matches!(m, Message::Response(_)).then_some(()));
    answers.len() == 1
}

/// Large answers to forged addresses: no more than three times what came in, the
/// greeting included.
#[test]
fn a_forged_sender_gets_little() {
    // It is counted what goes to the forged addresses; nothing is to go elsewhere.
    let (mut network, node) = one_node(Config { hand_on_interval: Duration::ZERO, ..Config::default() });
    network.peer(address(1), Id::of(b"keeper"), polite());
    let key = Id::of(b"key");
    for value in [[1; 60_000], [2; 60_000]] {
        network.ask(address(1), address(0), b"1", &Method::StoreValue { key, value: &value, life: None });
        network.run(secs(10));
    }
    network.dead.insert(address(1));
    network.run(secs(60));
    for victim in 2..12 {
        network.peer(address(victim), Id::of(&[victim as u8]), silent());
        network.deaf.insert(address(victim));
        let before = network.stats(node);
        for _ in 0..8 {
            network.ask(address(victim), address(0), b"1", &Method::FindValue { key, from: None });
            network.run(secs(4));
        }
        network.run(secs(60));
        let after = network.stats(node);
        let (came, went) = (after.bytes_in - before.bytes_in, after.bytes_out - before.bytes_out);
        assert!(came > 500 && went <= 3 * came, "{went} bytes for {came}");
    }
    assert_eq!(network.engine.buffered(node), 0);
}

/// Nothing is stored for somebody who may not be where he says; he is told so.
#[test]
fn a_value_from_an_unproven_sender_is_refused() {
    for forged in [true, false] {
        let (mut network, node) = one_node(Config::default());
        let peer = network.peer(address(1), Id::of(b"peer"), polite());
        if forged {
            network.deaf.insert(address(1));
        }
        let method = Method::StoreValue { key: Id::of(b"key"), value: b"value", life: None };
        let mut bytes = Vec::new();
        message::request(&mut bytes, b"1", &peer, &method).expect("short");
        network.say(address(1), address(0), &bytes);
        network.run(secs(30));
        assert_eq!(network.stats(node).values, 0);
        let refusals = network.at(address(1)).take(|m| matches!(m, Message::Error(_)).then_some(()));
        assert_eq!(refusals.len(), usize::from(!forged));
        if !forged {
            network.say(address(1), address(0), &bytes);
            network.run(secs(1));
            assert_eq!(network.stats(node).values, 1, "now it has shown itself");
        }
    }
}

/// What is held back until the other side has shown itself does not go out before: the
/// opening is bare, and so is each of its six repetitions.
#[test]
fn a_value_does_not_go_out_before_its_holder_has_shown_itself() {
    let (mut network, node) = one_node(Config::default());
    let method = Method::StoreValue { key: Id::of(b"key"), value: &[0x55; 1000], life: None };
    network.dead.insert(address(0));
    network.peer(address(1), Id::of(b"peer"), polite());
    network.ask(address(1), address(0), b"1", &method);
    network.run(secs(20));
    assert_eq!(network.sent, 7);
    assert!(network.bytes < 7 * 20, "{} bytes", network.bytes);
    network.dead.clear();
    network.ask(address(1), address(0), b"1", &method);
    network.run(secs(5));
    assert_eq!(network.stats(node).values, 1);
}

/// One datagram from each of thousands of addresses: what is kept for them is
/// bounded, and gone soon.
#[test]
fn thousands_of_strangers_cost_a_bounded_amount() {
    let (mut network, node) = one_node(Config::default());
    let idle = network.engine.timers();
    network.peer(address(1), Id::of(b"peer"), silent());
    network.ask(address(1), address(0), b"1", &Method::FindNode { target: Id::of(b"x") });
    let [datagram] = &network.intercept(address(0))[..] else { panic!("one datagram") };
    network.dead.insert(address(1));
    for n in 0..5000 {
        network.engine.receive(network.now, node, address(100 + n), datagram);
        if n % 64 == 0 {
            network.drain();
            let stats = network.stats(node);
            assert!(stats.connections <= 256 && stats.calls_pending <= 256, "{stats:?}");
            assert!(network.engine.timers() <= idle + 2 * 256 + 8, "{}", network.engine.timers());
            assert!(network.engine.buffered(node) <= 256 * 1024, "{}", network.engine.buffered(node));
        }
    }
    network.run(secs(60));
    let stats = network.stats(node);
    assert_eq!((stats.connections, stats.calls_pending, network.engine.buffered(node)), (0, 0, 0));
    assert_eq!(network.engine.timers(), idle);
}

/// Peers that ask for much and take nothing fill what there is for answers. Others
/// still get theirs.
#[test]
fn peers_that_take_no_answers_do_not_silence_a_node_for_others() {
    let config = Config { max_buffered: 256 * 1024, ..Config::default() };
    let (mut network, node) = one_node(config);
    let key = Id::of(b"key");
    network.peer(address(1), Id::of(b"keeper"), polite());
    network.ask(address(1), address(0), b"1", &Method::StoreValue { key, value: &[1; 60_000], life: None });
    network.run(secs(10));
    for greedy in 2..10 {
        network.peer(address(greedy), Id::of(&[greedy as u8]), polite());
        assert!(is_served(&mut network, greedy));
    }
    for _ in 0..4 {
        for greedy in 2..10 {
            network.ask(address(greedy), address(0), b"2", &Method::FindValue { key, from: None });
            network.deaf.insert(address(greedy));
        }
    }
    network.run(ms(300));
    let buffered = network.engine.buffered(node);
    assert!(buffered > 256 * 1024, "{buffered}");
    assert!(buffered < 2 * 256 * 1024, "{buffered}");
    assert!(is_served(&mut network, 1));
    network.run(secs(60));
    assert!(is_served(&mut network, 1));
}

/// Peers that begin the longest message there may be and never end it take no room
/// from those who mean to end theirs.
#[test]
fn messages_without_an_end_do_not_keep_others_out() {
    let config = Config { max_buffered: 512 * 1024, ..Config::default() };
    let (mut network, node) = one_node(config);
    let mut endless = b"99999:".to_vec();
    endless.resize(99_000, b'x');
    for hog in 2..22 {
        network.peer(address(hog), Id::of(&[hog as u8]), polite());
        assert!(is_served(&mut network, hog));
        network.say(address(hog), address(0), &endless);
        network.run(secs(1));
        assert!(network.engine.buffered(node) <= 512 * 1024, "{}", network.engine.buffered(node));
    }
    assert!(network.engine.buffered(node) > 256 * 1024, "there is no room now");
    network.peer(address(1), Id::of(b"honest"), polite());
    for n in 0..5u8 {
        // The hogs go on, a little at a time, so as not to seem idle.
        for hog in 2..22 {
            network.say(address(hog), address(0), b"x");
        }
        let key = Id::of(&[n]);
        network.ask(
            address(1),
            address(0),
            &[n + 1],
            &Method::StoreValue { key, value: &[n; 60_000], life: None },
        );
        network.run(secs(2));
    }
    assert_eq!(network.stats(node).values, 5);
}

/// A key that holds as much as a key may: each request for it reads no more than fits
/// into the answer.
#[test]
fn a_key_with_megabytes_is_not_read_whole() {
    let config = Config {
        max_bytes_per_key: 1 << 24,
        max_values_per_key_and_block: 200,
        max_bytes_per_key_and_block: 1 << 24,
        max_bytes_per_address: 1 << 24,
        ..Config::default()
    };
    let (mut network, node) = one_node(config);
    network.peer(address(1), Id::of(b"peer"), polite());
    let key = Id::of(b"key");
    for n in 0..200u32 {
        let value = n.to_be_bytes().repeat(16_000);
        network.ask(address(1), address(0), b"1", &Method::StoreValue { key, value: &value, life: None });
        network.run(secs(1));
    }
    assert_eq!(network.stats(node).values, 200);
    network.at(address(1)).received.clear();
    for _ in 0..20 {
        for _ in 0..10 {
            network.ask(address(1), address(0), b"1", &Method::FindValue { key, from: None });
        }
        network.run(ms(10));
        // At most what one peer may leave unconfirmed, and one answer.
        assert!(network.engine.buffered(node) <= 3 * 100_000, "{}", network.engine.buffered(node));
    }
    network.run(secs(60));
    let answers = network.at(address(1)).take(|message| match message {
        Message::Response(response) => response.values().map(Iterator::count),
        _ => None,
    });
    assert!(!answers.is_empty() && answers.iter().all(|&values| values == 1), "{answers:?}");
}

/// One peer answers under one id after the other, and waits for places under all of them.
#[test]
fn an_address_waits_for_one_place() {
    let config = Config { k: 4, store_redundancy: 1, min_ping_interval: Duration::ZERO, ..Config::default() };
    let (mut network, node) = (Network::new(11), address(0));
    let key = network.node(node, config);
    for n in 1..=60 {
        network.peer(address(n), Id::of(&n.to_be_bytes()), polite());
        network.introduce(key, address(n));
    }
    let (liar, own) = (address(1000), network.engine.id(key).expect("a node"));
    network.peer(liar, Id::of(b"liar"), polite());
    for n in 0..60u8 {
        let mut rng = seeded(seed_from_number(n.into()));
        network.at(liar).contact.id = own.random_sharing(usize::from(n % 3), &mut rng);
        network.ask(liar, node, b"1", &Method::Ping);
        network.run(secs(1));
    }
    let known = network.table(key);
    assert!(known.iter().filter(|contact| contact.addr == liar).count() <= 1);
    // One that is still there answers, so that the others are taken to be dead.
    let [living, dead @ ..] = &known[..] else { panic!("an empty table") };
    network.dead.extend(dead.iter().map(|contact| contact.addr).filter(|&addr| addr != liar));
    let mut most = 0;

    for contact in dead {
        network.engine.find_node(network.now, key, contact.id, None);
        network.introduce(key, living.addr);
        network.run_until(secs(10), |network| {
            let made_up = network.table(key).iter().filter(|contact| contact.addr == liar).count();
            most = most.max(made_up);
            false
        });
    }
    assert!(network.table(key).len() < known.len());
    assert!(most <= 1, "{most} of {}", known.len());
}

/// Callers who cannot be reached are no news of those that lookups have failed to reach.
#[test]
fn callers_who_are_not_there_do_not_bring_the_dead_back() {
    let (mut network, node) = one_node(Config::default());
    let gone = network.peer(address(500), Id::of(b"gone"), silent());
    network.peer(address(501), Id::of(b"guide"), names(vec![gone]));
    network.introduce(node, address(501));
    for (n, asked) in [1, 0].into_iter().enumerate() {
        network.find_node(node, Id::of(&[n as u8]));
        network.run(secs(15));
        assert_eq!(std::mem::take(&mut network.at(gone.addr).received).len(), asked);
        for caller in 0..100 {
            let caller = address(600 + caller);
            network.peer(caller, Id::of(caller.to_string().as_bytes()), silent());
            network.ask(caller, network.address(node), b"1", &Method::Ping);
            network.deaf.insert(caller);
        }
        network.run(secs(15));
    }
}

/// A call that was given up to make room for others says nothing about who was asked.
#[test]
fn a_contact_whose_connection_is_forgotten_stays_in_the_table() {
    let config = Config { max_connections: 16, max_unproven: 4, ..Config::default() };
    let (mut network, node) = one_node(config);
    let contact = network.peer(address(1), Id::of(b"peer"), polite());
    network.introduce(node, contact.addr);
    network.dead.insert(contact.addr);
    for round in 0..5 {
        let lookup = network.engine.find_node(network.now, node, Id::of(b"x"), None);
        for n in 0..16 {
            network.engine.add_contact(network.now, node, address(100 + round * 16 + n), None);
        }
        let evicted = network.stats(node).connections_evicted;
        assert!(evicted > 0, "{evicted}");
        network.wait(lookup);
        let known = network.engine.contacts(node);
        assert_eq!((known.len(), known[0].contact, known[0].failures), (1, contact, 0));
        network.run(secs(60));
    }
}

/// A request for which there is no room fails at once, and not when its time is over.
#[test]
fn a_request_that_cannot_be_queued_fails_at_once() {
    let (mut network, node) = one_node(Config { max_per_block: 1, ..Config::default() });
    let ask = |network: &mut Network, n| network.engine.add_contact(network.now, node, address(n), None);
    for n in 1..=4 {
        ask(&mut network, n);
    }
    let (begun, operation) = (network.now, ask(&mut network, 5));
    let outcome = network.wait(operation);
    let why = OperationError::Call(CallError::NotSent(SendError::Closed));
    assert_eq!(outcome, [Outcome::Contact(Err(why))]);
    assert_eq!((network.now, network.stats(node).connections_refused), (begun, 1));
}
