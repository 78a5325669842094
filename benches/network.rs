//! What a lookup, and a value stored and found, cost a network of 256 nodes in
//! memory, all of them on this thread.
//!
//! `cargo bench --bench network`. Says first how many datagrams it takes, which is
//! the same in each run; divan then measures the time. Both are of all nodes
//! together, the in-memory network's own part included.

#[path = "../tests/support/network.rs"]
mod network;

use divan::Bencher;
use khashmir::engine::Outcome;
use khashmir::{Config, Id, NodeKey};
use network::Network;

const NODES: u32 = 256;
/// Operations over which datagrams are counted.
const COUNTED: u32 = 50;

/// A network, and work for ever other nodes and keys.
struct Load {
    network: Network,
    nodes: Vec<NodeKey>,
    number: u32,
}

impl Load {
    fn new() -> Self {
        let (network, nodes) = Network::joined(1, NODES, &Config::default());
        Load { network, nodes, number: 0 }
    }

    /// Looks for the nodes nearest to a key.
    fn lookup(&mut self) {
        let (node, key) = self.next();
        assert_eq!(self.network.find_node(node, key).len(), 8);
    }

    /// Stores a value of 100 bytes, and finds it from elsewhere.
    fn store_and_get(&mut self) {
        let (node, key) = self.next();
        assert!(matches!(self.network.store(node, key, &[7; 100]), Outcome::Stored(Ok(_))));
        let (other, _) = self.next();
        assert_eq!(self.network.find_values(other, key), [[7; 100]]);
    }

    fn next(&mut self) -> (NodeKey, Id) {
        self.number += 1;
        (self.nodes[(self.number * 37 % NODES) as usize], Id::of(&self.number.to_be_bytes()))
    }

    fn count(&mut self, name: &str, work: fn(&mut Load)) {
        let (sent, bytes, begun) = (self.network.sent, self.network.bytes, self.network.now);
        (0..COUNTED).for_each(|_| work(self));
        let each = |all: u64| all / u64::from(COUNTED);
        println!(
            "{name}: {} datagrams, {} bytes, {} ms of the network's time",
            each(self.network.sent - sent),
            each(self.network.bytes - bytes),
            each(self.network.now.since(begun).as_millis() as u64),
        );
    }
}

fn main() {
    let mut load = Load::new();
    load.count("lookup", Load::lookup);
    load.count("store_and_get", Load::store_and_get);
    divan::main();
}

#[divan::bench]
fn lookup(bencher: Bencher) {
    let mut load = Load::new();
    bencher.bench_local(|| load.lookup());
}

#[divan::bench]
fn store_and_get(bencher: Bencher) {
    let mut load = Load::new();
    bencher.bench_local(|| load.store_and_get());
}
