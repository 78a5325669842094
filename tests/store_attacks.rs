//! What a sender of stores can do to a node that takes them.

#[path = "support/network.rs"]
mod network;

use khashmir::krpc::message::Method;
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
