//! Who stores more than a node can look after slows the looking after his own values, not that
//! after the values of others. In proportion: a tenth of the keys, of what upkeep may cost, and of
//! the values that one address may store at a node.

#[path = "support/network.rs"]
mod network;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use khashmir::engine::Outcome;
use khashmir::krpc::message::{Message, Method, Request};
use khashmir::{Config, Id, NodeKey, NodeOptions};
use network::*;

/// An address in a block of its own.
fn apart(number: u32) -> SocketAddr {
    address(number << 8)
}

const HONEST: u32 = 200;
const ATTACKER: u32 = 201;
const KEYS: u32 = 20;
const MANY: u32 = 2000;

/// Publishers do not renew.
fn config(rate: u64) -> Config {
    Config { renew_interval: Duration::ZERO, upkeep_rate: rate, ..Config::default() }
}

fn honest(n: u32) -> Id {
    Id::of(format!("honest {n}").as_bytes())
}

fn foreign(n: u32) -> Id {
    Id::of(format!("foreign {n}").as_bytes())
}

fn peer(network: &mut Network, addr: SocketAddr) {
    network.peer(addr, Id::of(addr.to_string().as_bytes()), polite());
}

fn store_all(network: &mut Network, from: SocketAddr, to: SocketAddr, keys: impl Iterator<Item = Id>) {
    network.ask(from, to, b"1", &Method::Ping);
    network.run(secs(1));
    for key in keys {
        network.ask(from, to, b"1", &Method::StoreValue { key, value: b"x", life: None });
        network.run(ms(10));
    }
}

/// How often in six hours a node looks after each honest key.
fn looks(seed: u64, rate: u64, attack: bool, file: Option<&Path>) -> Vec<u32> {
    let mut network = Network::new(seed);
    let options =
        || NodeOptions { config: Arc::new(config(rate)), id: None, store: file.map(Path::to_owned) };
    let mut node = network.node_with(address(0), address(0), options());
    for n in (1..=8).chain([HONEST, ATTACKER]) {
        peer(&mut network, apart(n));
    }
    // It is known in either case, and so are the nodes nearest to a key the same.
    let foreign = (0..if attack { MANY } else { 0 }).map(foreign);
    store_all(&mut network, apart(ATTACKER), address(0), foreign);
    store_all(&mut network, apart(HONEST), address(0), (0..KEYS).map(honest));
    if file.is_some() {
        network.remove(node);
        node = network.node_with(address(0), address(0), options());
    }
    for n in 1..=8 {
        network.introduce(node, apart(n));
    }
    let mut seen: BTreeMap<Id, u32> = BTreeMap::new();
    for _ in 0..6 {
        network.run(secs(3600));
        for n in 1..=8 {
            let offers = network.at(apart(n)).take(|message| match message {
                Message::Request(Request { method: Method::OfferValues { key, .. }, .. }) => Some(*key),
                _ => None,
            });
            offers.into_iter().for_each(|key| *seen.entry(key).or_default() += 1);
        }
    }
    (0..KEYS).map(|n| seen.get(&honest(n)).copied().unwrap_or(0) / 8).collect()
}

/// There are two blocks, and so half of what upkeep may cost is for each.
fn compare(seed: u64, rate: u64, file: bool) {
    let seed = Seed(seed);
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| file.then(|| directory.path().join(name));
    let alone = looks(seed.0, rate, false, path("alone").as_deref());
    let attacked = looks(seed.0, rate, true, path("attacked").as_deref());
    let shown = format!("{alone:?} alone, {attacked:?} attacked");
    assert!(alone.iter().all(|&looks| looks > 3), "{shown}");
    assert!(attacked.iter().sum::<u32>() * 3 > alone.iter().sum::<u32>(), "{shown}");
    assert!(attacked.iter().zip(&alone).all(|(attacked, alone)| attacked * 4 > *alone), "{shown}");
}

#[test]
fn one_who_stores_much_slows_only_his_own() {
    compare(1, 200, false);
    // Where it is too little even for the honest ones.
    compare(2, 50, false);
}

#[test]
fn that_survives_a_restart() {
    compare(3, 200, true);
}

/// How many of the honest keys a node has itself.
fn has(network: &mut Network, node: NodeKey) -> u32 {
    let to = network.address(node);
    let mut found = 0;
    for n in 0..KEYS {
        network.at(apart(HONEST)).received.clear();
        network.ask(apart(HONEST), to, b"f", &Method::FindValue { key: honest(n), from: None });
        network.run(ms(200));
        let values = network.at(apart(HONEST)).take(|message| match message {
            Message::Response(response) => response.values().map(|values| values.count()),
            _ => None,
        });
        found += u32::from(values.iter().any(|&count| count > 0));
    }
    found
}

/// Half an hour after each newcomer has taken the place of one of eight holders: how many of the
/// honest values were handed on to it.
fn handed_on(seed: u64, attack: bool) -> Vec<u32> {
    let mut network = Network::new(seed);
    let mut nodes: Vec<NodeKey> = (0..8).map(|n| network.node(apart(n), config(200))).collect();
    network.join(&nodes);
    peer(&mut network, apart(ATTACKER));
    peer(&mut network, apart(HONEST));
    let flood = |network: &mut Network, number: u32| {
        if attack {
            store_all(network, apart(ATTACKER), apart(number), (0..MANY / 2).map(foreign));
        }
    };
    (0..8).for_each(|n| flood(&mut network, n));
    for n in 0..KEYS {
        let stored = network.store(nodes[n as usize % 8], honest(n), b"x");
        assert!(matches!(stored, Outcome::Stored(Ok(_))), "{stored:?}");
    }
    let mut had = Vec::new();
    for number in 8..13 {
        network.run(secs(600));
        let gone = nodes.remove(0);
        network.remove(gone);
        let node = network.node(apart(number), config(200));
        let by = network.address(nodes[0]);
        network.introduce(node, by);
        let close = network.engine.find_close_nodes(network.now, node, None);
        network.wait(close);
        flood(&mut network, number);
        network.run(secs(1800));
        had.push(has(&mut network, node));
        nodes.push(node);
    }
    had
}

#[test]
fn newcomers_are_handed_the_values_of_others() {
    let seed = Seed(1);
    let (alone, attacked) = (handed_on(seed.0, false), handed_on(seed.0, true));
    let shown = format!("{alone:?} alone, {attacked:?} attacked");
    assert!(attacked.iter().sum::<u32>() * 4 > alone.iter().sum::<u32>() * 3, "{shown}");
    assert!(attacked.iter().all(|&values| values > KEYS / 2), "{shown}");
}
