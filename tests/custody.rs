//! Values that stay: renewed by their publishers, handed on by their holders; whole networks in
//! hours and days of virtual time.

#[path = "support/network.rs"]
mod network;

use std::time::Duration;

use khashmir::engine::Outcome;
use khashmir::{Config, Id, NodeKey, Stats};
use network::*;

const MINUTE: u64 = 60;
const HOUR: u64 = 3600;

/// Publishers do not renew: what stays, stays because it is handed on.
fn holders_only() -> Config {
    Config { renew_interval: Duration::ZERO, ..Config::default() }
}

fn published(network: &mut Network, node: NodeKey, key: Id, value: &[u8]) {
    let outcome = network.store(node, key, value);
    assert!(matches!(outcome, Outcome::Stored(Ok(_))), "{outcome:?}");
}

/// Those of `nodes` that hold something, and run.
fn holders(network: &Network, nodes: &[NodeKey]) -> Vec<NodeKey> {
    let mut holders = nodes.to_vec();
    holders.retain(|&node| network.engine.stats(node).is_some_and(|stats| stats.values > 0));
    holders
}

/// The nodes by their distance to a key.
fn nearest(network: &Network, nodes: &[NodeKey], key: &Id) -> Vec<NodeKey> {
    let mut nodes = nodes.to_vec();
    nodes.retain(|&node| network.engine.id(node).is_some());
    nodes.sort_by_key(|&node| network.engine.id(node).expect("a node").distance(key));
    nodes
}

fn total(network: &Network, nodes: &[NodeKey], of: impl Fn(Stats) -> u64) -> u64 {
    nodes.iter().filter_map(|&node| network.engine.stats(node)).map(of).sum()
}

/// Takes a node away as a crash does: without a word.
fn crash(network: &mut Network, node: NodeKey) {
    network.remove(node);
}

#[test]
fn a_value_outlives_its_holders() {
    let seed = Seed(1);
    let (mut network, nodes) = Network::joined(seed.0, 40, &holders_only());
    let key = Id::of(b"key");
    published(&mut network, nodes[0], key, b"value");
    let first = holders(&network, &nodes);
    assert_eq!(first.len(), 8);
    for holder in first {
        if holder == nodes[0] {
            continue;
        }
        crash(&mut network, holder);
        network.run(secs(20 * MINUTE));
    }
    assert!(holders(&network, &nodes).len() >= 8);
    let asking = *nodes.iter().find(|&&node| network.engine.id(node).is_some()).expect("a node");
    assert_eq!(network.find_values(asking, key), [b"value"]);
    println!(
        "checks {} handed {} bytes {}",
        total(&network, &nodes, |s| s.hand_on_checks),
        total(&network, &nodes, |s| s.values_handed_on),
        total(&network, &nodes, |s| s.upkeep_bytes)
    );
    println!("{}", network.now.as_micros() / 1_000_000);
}

#[test]
fn a_newcomer_nearer_by_gets_the_value_with_its_age() {
    let seed = Seed(2);
    let (mut network, mut nodes) = Network::joined(seed.0, 20, &holders_only());
    let key = Id::of(b"key");
    published(&mut network, nodes[0], key, b"value");
    network.run(secs(12 * HOUR));
    let newcomer = network.node_named(address(99), key.beside(), holders_only());
    nodes.push(newcomer);
    network.introduce(newcomer, address(3));
    let close = network.engine.find_close_nodes(network.now, newcomer, None);
    network.wait(close);
    network.run(secs(16 * MINUTE));
    assert_eq!(network.stats(newcomer).values, 1);
    // Within its day, and no longer, it is there.
    let asking = nodes[5];
    network.run(secs(12 * HOUR - 30 * MINUTE));
    assert_eq!(network.find_values(asking, key), [b"value"]);
    network.run(secs(14 * MINUTE));
    assert!(network.find_values(asking, key).is_empty());
    network.run(secs(2 * HOUR));
    assert!(holders(&network, &nodes).is_empty());
}
