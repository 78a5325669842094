//! What operations bring, and that each ends once, however it ends.

#[path = "support/network.rs"]
mod network;

use std::collections::BTreeMap;

use khashmir::engine::Outcome;
use khashmir::krpc::message::{self, Fault, Message, Method, Request};
use khashmir::random::{seed_from_number, seeded};
use khashmir::{Config, Id, OperationError, OperationKey};
use network::*;
use rand::RngExt;

/// So many large values at once that they would not fit into the room for streams: they
/// take turns.
#[test]
fn hundreds_of_large_values_are_stored_at_once() {
    let config = Config { max_buffered: 1 << 20, ..Config::default() };
    let (mut network, nodes) = Network::joined(1, 12, &config);
    let value = |n: u32| n.to_be_bytes().repeat(10_000);
    let begun: Vec<_> = (0..200u32)
        .map(|n| {
            let key = Id::of(&n.to_be_bytes());
            network.engine.store_value(network.now, nodes[0], key, value(n), None, Some(secs(600)))
        })
        .collect();
    for operation in begun {
        let outcome = the_one(network.wait(operation));
        assert!(
            matches!(&outcome, Outcome::Stored(Ok(stored)) if stored.accepted().count() == 8),
            "{outcome:?}"
        );
    }
    let stats = network.stats(nodes[0]);
    assert_eq!(stats.calls_failed, 0, "{stats:?}");
}

#[test]
fn a_node_that_is_cut_off_does_not_say_that_a_value_is_stored() {
    let (mut network, nodes) = Network::joined(1, 12, &Config::default());
    for &node in &nodes[1..] {
        let address = network.address(node);
        network.dead.insert(address);
    }
    assert_eq!(too_few(&network.store(nodes[0], Id::of(b"key"), b"value")), (1, 2));
    // One that is alone, and knows it, is all there is.
    let alone = network.node(address(99), Config::default());
    assert_eq!(network.holders(alone, Id::of(b"key"), b"value"), [network.contact(alone)]);
}

/// Refuses to store, and is polite otherwise.
fn refuses() -> Habit {
    let mut polite = polite();
    Box::new(move |own, from, message, out| match message {
        Message::Request(Request { tid, method: Method::StoreValue { .. }, .. }) => {
            message::error(out, tid, Fault::Text(b"no"));
        }
        _ => polite(own, from, message, out),
    })
}

#[test]
fn a_store_says_who_took_the_value() {
    let (mut network, nodes) = Network::joined(1, 30, &Config::default());
    for n in 0..30u8 {
        let key = Id::of(&[n]);
        let holders = network.holders(nodes[0], key, &[n]);
        let mut best: Vec<_> = nodes.iter().map(|&node| network.contact(node)).collect();
        best.sort_by_key(|contact| contact.id.distance(&key));
        assert_eq!(holders, best[..8], "the storing node itself is one of them, if it is near");
    }
    let held: u64 = nodes.iter().map(|&node| network.stats(node).values).sum();
    assert_eq!(held, 30 * 8);
}

#[test]
fn a_store_fails_when_fewer_take_the_value_than_must() {
    let mut network = Network::new(1);
    // Farther from the key than all the others.
    let key = Id::new([0; 20]);
    let config = Config { k: 4, store_redundancy: 3, ..Config::default() };
    let node = network.node_named(address(0), Id::new([0xff; 20]), config);
    let peers: Vec<_> = (1..=5u8)
        .map(|n| {
            let habit = if n > 2 { refuses() } else { polite() };
            let peer = network.peer(address(n.into()), Id::new([n; 20]), habit);
            network.introduce(node, peer.addr);
            peer
        })
        .collect();
    assert_eq!(too_few(&network.store(node, key, b"value")), (2, 3));
    network.at(address(4)).habit = polite();
    assert_eq!(
        network.holders(node, key, b"value"),
        [peers[0], peers[1], peers[3]],
        "it has all of the four nearest asked, and no fifth"
    );
    // Silence is a refusal.
    network.at(address(1)).habit = silent_on_store();
    assert_eq!(too_few(&network.store(node, key, b"value")), (2, 3));
}

/// Answers everything but a store.
fn silent_on_store() -> Habit {
    let mut polite = polite();
    Box::new(move |own, from, message, out| match message {
        Message::Request(Request { method: Method::StoreValue { .. }, .. }) => {}
        _ => polite(own, from, message, out),
    })
}

#[test]
fn values_of_the_wrong_size_are_refused_at_once() {
    let (mut network, nodes) = Network::joined(1, 2, &Config { max_value_size: 99_000, ..Config::default() });
    let before = network.sent;
    let too_large = OperationError::ValueTooLarge { size: 99_001, limit: 99_000 };
    assert_eq!(network.store(nodes[0], Id::of(b"key"), &[7; 99_001]), Outcome::Stored(Err(too_large)));
    assert_eq!(
        network.store(nodes[0], Id::of(b"key"), b""),
        Outcome::Stored(Err(OperationError::ValueEmpty))
    );
    assert_eq!(network.sent, before);
    assert_eq!(network.holders(nodes[0], Id::of(b"key"), &[7; 99_000]).len(), 2);
    network.remove(nodes[0]);
    assert_eq!(network.find_values(nodes[1], Id::of(b"key")), [[7; 99_000]]);
}

/// The largest value goes over the network and back.
#[test]
fn the_largest_value_is_found() {
    let (mut network, nodes) = Network::joined(
        2,
        3,
        &Config { max_value_size: 99_000, k: 1, store_redundancy: 1, ..Config::default() },
    );
    let key = network.contact(nodes[1]).id;
    assert_eq!(network.holders(nodes[0], key, &[7; 99_000]).len(), 1);
    assert_eq!(network.stats(nodes[1]).values, 1);
    assert_eq!(network.find_values(nodes[0], key), [[7; 99_000]]);
}

#[test]
fn deadlines_end_operations() {
    let (mut network, nodes) = Network::joined(1, 10, &Config::default());
    for n in 1..10 {
        network.dead.insert(address(n));
    }
    let (now, node, limit) = (network.now, nodes[0], Some(ms(100)));
    let engine = &mut network.engine;
    let operations = [
        engine.add_contact(now, node, address(1), limit),
        engine.find_close_nodes(now, node, limit),
        engine.find_node(now, node, Id::of(b"x"), limit),
        engine.find_values(now, node, Id::of(b"x"), limit),
        engine.store_value(now, node, Id::of(b"x"), b"x".to_vec(), None, limit),
        engine.find_node(now, node, Id::of(b"x"), Some(ms(0))),
    ];
    network.run(ms(102));
    let brought: Vec<_> = operations
        .iter()
        .map(|operation| the_one(network.outcomes.remove(operation).expect("ended")))
        .collect();
    let late = || OperationError::Deadline;
    assert_eq!(
        brought,
        [
            Outcome::Contact(Err(late())),
            Outcome::Nodes(Err(late())),
            Outcome::Nodes(Err(late())),
            Outcome::ValuesEnd(Err(late())),
            Outcome::Stored(Err(late())),
            Outcome::Nodes(Err(late())),
        ]
    );
    // Before the neighbours, which were not found, are looked for again.
    network.run(secs(50));
    assert!(network.outcomes.is_empty());
    assert_eq!(network.stats(node).calls_pending, 0);
}

#[test]
fn cancelled_operations_end_once() {
    let (mut network, nodes) = Network::joined(1, 10, &Config::default());
    let node = nodes[0];
    for wait in [0, 3, 6, 12, 30, 500] {
        let now = network.now;
        let engine = &mut network.engine;
        let operations = [
            engine.add_contact(now, node, address(1), None),
            engine.find_node(now, node, Id::of(&[wait as u8]), None),
            engine.find_values(now, node, Id::of(&[wait as u8]), None),
            engine.store_value(now, node, Id::of(&[wait as u8]), b"x".to_vec(), None, None),
        ];
        if wait > 0 {
            network.run(ms(wait));
        }
        for operation in operations {
            let over = network.outcomes.get(&operation).is_some_and(|o| o.last().is_some_and(ends));
            assert_eq!(network.engine.cancel(network.now, operation), !over);
            assert!(!network.engine.cancel(network.now, operation));
        }
        network.run(secs(20));
        for operation in operations {
            let brought = network.outcomes.remove(&operation).expect("ended");
            assert_eq!(brought.iter().filter(|outcome| ends(outcome)).count(), 1, "{brought:?}");
        }
    }
    assert_eq!(network.stats(node).calls_pending, 0);
}

/// Whatever is done with nodes and operations, in whatever order: each operation
/// ends once, and nothing stays behind.
#[test]
fn every_operation_ends_once() {
    for seed in 60..64 {
        let _seed = Seed(seed);
        let mut rng = seeded(seed_from_number(seed));
        let (mut network, mut nodes) = Network::joined(seed, 12, &Config::default());
        network.bad = Badness { loss: 0.1, duplicate: 0.1, reorder: 0.2 };
        let mut gone = Vec::new();
        let mut begun: Vec<OperationKey> = Vec::new();
        for step in 0..400u32 {
            let now = network.now;
            let all = nodes.len() + gone.len();
            let at = rng.random_range(0..all);
            let node = if at < nodes.len() { nodes[at] } else { gone[at - nodes.len()] };
            let key = Id::of(&[rng.random_range(0..4)]);
            let limit = [None, Some(ms(rng.random_range(0..300)))][rng.random_range(0..2)];
            let engine = &mut network.engine;
            match rng.random_range(0..24) {
                0..4 => begun.push(engine.add_contact(now, node, address(rng.random_range(0..30)), limit)),
                4..8 => begun.push(engine.find_close_nodes(now, node, limit)),
                8..12 => begun.push(engine.find_values(now, node, key, limit)),
                12..16 => begun.push(engine.store_value(now, node, key, vec![step as u8; 300], None, limit)),
                16..18 if !begun.is_empty() => {
                    engine.cancel(now, begun[rng.random_range(0..begun.len())]);
                }
                18 => engine.refresh_table(now, node),
                19 => engine.checkpoint(now, node).expect("saved"),
                20 if nodes.len() > 4 => {
                    let node = nodes.remove(rng.random_range(0..nodes.len()));
                    network.remove(node);
                    gone.push(node);
                }
                21 => nodes.push(network.node(address(12 + step), Config::default())),
                _ => network.run(ms(rng.random_range(0..100))),
            }
        }
        while let Some(node) = nodes.pop() {
            if nodes.len() % 2 == 0 {
                network.run(ms(rng.random_range(0..20)));
            }
            network.remove(node);
        }
        network.drain();
        assert_eq!(network.engine.timers(), 0);
        assert!(network.engine.is_empty());
        for operation in begun {
            let brought = network.outcomes.remove(&operation).expect("an end");
            let last = brought.last().is_some_and(ends);
            assert!(last && brought.iter().filter(|outcome| ends(outcome)).count() == 1, "{brought:?}");
        }
        assert_eq!(network.outcomes, BTreeMap::new(), "of operations that nobody began");
    }
}

#[test]
fn keys_of_what_is_gone_name_nothing() {
    let (mut network, nodes) = Network::joined(1, 3, &Config::default());
    let old = nodes[2];
    let operation = network.engine.find_close_nodes(network.now, old, None);
    network.remove(old);
    let new = network.node(address(2), Config::default());
    let running = network.engine.find_node(network.now, new, Id::of(b"x"), None);
    assert_eq!(the_one(network.wait(operation)), Outcome::Nodes(Err(OperationError::Closed)));
    let now = network.now;
    assert!(!network.engine.cancel(now, operation));
    let engine = &mut network.engine;
    assert_eq!((engine.id(old), engine.stats(old), engine.contacts(old).len()), (None, None, 0));
    assert_eq!((engine.checkpoint(now, old), engine.remove_node(now, old)), (Ok(()), Ok(())));
    engine.refresh_table(now, old);
    engine.receive(now, old, address(1), b"\x08\x00");
    assert_eq!(engine.poll_transmit(now, old, &mut Vec::new()), None);
    let late = engine.find_values(now, old, Id::of(b"x"), None);
    assert_eq!(network.wait(late), [Outcome::ValuesEnd(Err(OperationError::Closed))]);
    let alone = Outcome::Nodes(Err(OperationError::NoContacts));
    assert_eq!(network.wait(running), [alone], "it is another's, which knows nobody");
}

/// However many refreshes wait when the last contact turns out to be dead: they
/// end one after the other, not one inside the other.
#[test]
fn refreshes_that_find_nobody_end() {
    let (mut network, nodes) = Network::joined(1, 2, &Config::default());
    network.dead.insert(address(1));
    for _ in 0..20_000 {
        network.engine.refresh_table(network.now, nodes[0]);
    }
    network.run(secs(300));
    let before = network.stats(nodes[0]).calls_sent;
    assert!(before < 50, "{before}");
    // From then on it only tries now and then whether the one it knew is back.
    network.run(secs(300));
    assert!(network.stats(nodes[0]).calls_sent - before <= 5);
    assert!(
        network.engine.contacts(nodes[0]).iter().all(|info| info.failures > 0 || info.last_heard.is_none())
    );
}

/// A node is said to be at a second address, and asked there, too. What it answers at the first
/// one to the search for holders is no promise to keep the value.
#[test]
fn a_late_answer_to_the_search_is_not_taken_for_a_stored_value() {
    let mut network = Network::new(31);
    let key = Id::new([0; 20]);
    let node = network.node_named(address(0), Id::new([0xff; 20]), Config::default());
    let id = Id::new([1; 20]);
    let pings_only: fn() -> Habit = || {
        let mut polite = polite();
        Box::new(move |own, from, message, out| {
            if matches!(message, Message::Request(Request { method: Method::Ping, .. })) {
                polite(own, from, message, out);
            }
        })
    };
    let first = network.peer(address(1), id, pings_only());
    let mut nodes_only = polite();
    let second = network.peer(
        address(2),
        id,
        Box::new(move |own, from, message, out| {
            if !matches!(message, Message::Request(Request { method: Method::StoreValue { .. }, .. })) {
                nodes_only(own, from, message, out);
            }
        }),
    );
    network.peer(address(3), Id::new([3; 20]), names(vec![second]));
    network.introduce(node, address(1));
    network.introduce(node, address(3));
    network.at(address(1)).received.clear();
    let operation = network.engine.store_value(network.now, node, key, b"value".to_vec(), None, None);
    let asks_to_store = |message: &Message<'_>| match message {
        Message::Request(Request { method: Method::StoreValue { .. }, .. }) => Some(()),
        _ => None,
    };
    let begun = network.run_until(secs(9), |network| {
        let peer = network.at(address(2));
        let received = peer.received.clone();
        let asked = !peer.take(asks_to_store).is_empty();
        network.at(address(2)).received = received;
        asked
    });
    assert!(begun, "the value is on its way to the second address");
    let tids = network.at(address(1)).take(|message| match message {
        Message::Request(Request { tid, method: Method::FindNode { .. }, .. }) => Some(tid.to_vec()),
        _ => None,
    });
    let mut answer = Vec::new();
    message::response_nodes(&mut answer, &tids[0], &first, &[]);
    network.say(address(1), address(0), &answer);
    assert_eq!(too_few(&the_one(network.wait(operation))), (2, 3));
}
