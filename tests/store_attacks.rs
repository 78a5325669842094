//! What a sender of stores can do to a node that takes them.

#[path = "support/network.rs"]
mod network;

use khashmir::krpc::message::{Message, Method};
use khashmir::random::{seed_from_number, seeded};
use khashmir::{Config, Id, NodeKey, WhenFull};
use network::*;
use rand::RngExt;

/// A node, and a peer at `address(1)` that it knows to be there.
fn target(config: Config) -> (Network, NodeKey) {
    let mut network = Network::new(1);
    let node = network.node(address(0), config);
    network.peer(address(1), Id::of(b"peer"), polite());
    network.ask(address(1), address(0), b"1", &Method::Ping);
    network.run(secs(1));
    (network, node)
}

/// A node looks after each key that it holds something of. Keys that come and go, within the
/// quotas, must not fill its memory: values that live for a second, ...
#[test]
fn keys_that_come_and_go_leave_nothing_behind() {
    let (mut network, node) = target(Config { max_bytes_per_address: 20_000, ..Config::default() });
    let mut rng = seeded(seed_from_number(2));
    for _ in 0..60 {
        for _ in 0..20 {
            let store = Method::StoreValue { key: Id::random(&mut rng), value: b"v", life: Some(1) };
            network.ask(address(1), address(0), b"1", &store);
        }
        network.run(secs(2));
    }
    assert!(network.stats(node).values <= 40);
    let keys = network.engine.keys_looked_after(node);
    assert!((1..=80).contains(&keys), "{keys} keys of 1200");
}

/// ... or that make room for each other.
#[test]
fn keys_that_make_room_leave_nothing_behind() {
    let config = Config { max_stored_values: 30, when_full: WhenFull::MakeRoom, ..Config::default() };
    let (mut network, node) = target(config);
    let own = network.contact(node).id;
    let mut rng = seeded(seed_from_number(3));
    for _ in 0..40 {
        for _ in 0..30 {
            // As near as each other: the oldest goes.
            let mut key = *own.as_bytes();
            key[12..].fill_with(|| rng.random());
            let store = Method::StoreValue { key: Id::new(key), value: b"v", life: None };
            network.ask(address(1), address(0), b"1", &store);
        }
        network.run(secs(1));
    }
    assert_eq!(network.stats(node).values, 30);
    assert!(network.stats(node).values_displaced > 1000);
    let keys = network.engine.keys_looked_after(node);
    assert!((30..=60).contains(&keys), "{keys} keys of 1200");
}

/// An honest peer in a network of its own.
const ELSEWHERE: u32 = 0x10000;

/// The same node, and a peer in another block of addresses that it knows, too.
fn target_of_two(config: Config) -> (Network, NodeKey) {
    let (mut network, node) = target(config);
    network.peer(address(ELSEWHERE), Id::of(b"honest"), polite());
    network.ask(address(ELSEWHERE), address(0), b"1", &Method::Ping);
    network.run(secs(1));
    (network, node)
}

/// Whether the node takes a value from there.
fn takes(network: &mut Network, from: u32, key: Id, value: &[u8]) -> bool {
    network.at(address(from)).received.clear();
    network.ask(address(from), address(0), b"2", &Method::StoreValue { key, value, life: None });
    network.run(ms(200));
    let taken = network.at(address(from)).take(|message| match message {
        Message::Response(response) => Some(response.life().is_some()),
        Message::Error(_) => Some(false),
        Message::Request(_) => None,
    });
    assert_eq!(taken.len(), 1);
    taken[0]
}

/// Tiny values from one address under a key that others look for leave room for theirs.
#[test]
fn one_address_does_not_fill_a_key() {
    let (mut network, node) = target_of_two(Config::default());
    let key = Id::of(b"popular");
    for n in 0..1100u32 {
        let store = Method::StoreValue { key, value: &n.to_be_bytes(), life: None };
        network.ask(address(1), address(0), b"1", &store);
        if n % 10 == 0 {
            network.run(ms(500));
        }
    }
    network.run(secs(1));
    assert_eq!(network.stats(node).values, 128);
    assert!(!takes(&mut network, 1, key, b"one more"));
    assert!(takes(&mut network, ELSEWHERE, key, b"of use"));
    assert!(network.find_values(node, key).contains(&b"of use".to_vec()));
}

/// Whoever stores first what somebody else is about to publish cannot have it make room with his
/// own.
#[test]
fn what_was_stored_by_an_attacker_first_stays_while_it_is_renewed() {
    let config = Config { max_stored_values: 30, when_full: WhenFull::MakeRoom, ..Config::default() };
    let (mut network, node) = target_of_two(config);
    let own = network.contact(node).id;
    // Nothing is farther away.
    let precious = Id::new(own.as_bytes().map(|byte| !byte));
    let mut rng = seeded(seed_from_number(4));
    assert!(takes(&mut network, 1, precious, b"precious"));
    let mut flood = |network: &mut Network, count: u32| {
        for n in 0..count {
            let store = Method::StoreValue { key: Id::random(&mut rng), value: b"v", life: None };
            network.ask(address(1), address(0), b"1", &store);
            if n % 10 == 0 {
                network.run(ms(500));
            }
        }
        network.run(secs(1));
    };
    // As much as there is room for, so that it is there still.
    flood(&mut network, 29);
    assert_eq!((network.stats(node).values, network.stats(node).values_displaced), (30, 0));
    for _ in 0..5 {
        assert!(takes(&mut network, ELSEWHERE, precious, b"precious"));
        assert!(takes(&mut network, 1, precious, b"precious"));
        flood(&mut network, 60);
        assert_eq!(network.find_values(node, precious), [b"precious"]);
    }
    assert!(network.stats(node).values_displaced > 20);
}
