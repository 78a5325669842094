//! Values that stay: renewed by their publishers, handed on by their holders; whole networks in
//! hours and days of virtual time.

#[path = "support/network.rs"]
mod network;

use std::sync::Arc;
use std::time::Duration;

use khashmir::engine::Outcome;
use khashmir::krpc::message::{self, MAX_OFFERED, Message, Method, Offer, Request};
use khashmir::random::{seed_from_number, seeded};
use khashmir::time::UnixTime;
use khashmir::{Config, Contact, Id, NodeKey, NodeOptions, Stats};
use network::*;

const MINUTE: u64 = 60;
const HOUR: u64 = 3600;

/// Publishers do not renew: what stays, stays because it is handed on.
fn holders_only() -> Config {
    Config { renew_interval: Duration::ZERO, ..Config::default() }
}

fn publish(network: &mut Network, node: NodeKey, key: Id, value: &[u8]) {
    let outcome = network.store(node, key, value);
    assert!(matches!(outcome, Outcome::Stored(Ok(_))), "{outcome:?}");
}

/// Those of `nodes` that run and hold something.
fn holders(network: &Network, nodes: &[NodeKey]) -> Vec<NodeKey> {
    let mut holders = nodes.to_vec();
    holders.retain(|&node| network.engine.stats(node).is_some_and(|stats| stats.values > 0));
    holders
}

fn total(network: &Network, nodes: &[NodeKey], of: impl Fn(Stats) -> u64) -> u64 {
    nodes.iter().filter_map(|&node| network.engine.stats(node)).map(of).sum()
}

/// An id that shares just so many leading bits with a key.
fn sharing(key: &Id, bits: u32) -> Id {
    key.random_sharing(bits as usize, &mut seeded(seed_from_number(bits.into())))
}

/// A node of that id joins by way of another.
fn newcomer(network: &mut Network, number: u32, id: Id, by: NodeKey, config: Config) -> NodeKey {
    let node = network.node_named(address(number), id, config);
    let by = network.address(by);
    network.introduce(node, by);
    let close = network.engine.find_close_nodes(network.now, node, None);
    network.wait(close);
    node
}

#[test]
fn a_value_outlives_its_holders() {
    let seed = Seed(1);
    let (mut network, nodes) = Network::joined(seed.0, 30, &holders_only());
    let (key, asking) = (Id::of(b"key"), nodes[0]);
    publish(&mut network, asking, key, b"value");
    let first = holders(&network, &nodes);
    assert_eq!(first.len(), 8);
    for holder in first.into_iter().filter(|&holder| holder != asking) {
        network.remove(holder);
        network.run(secs(16 * MINUTE));
        assert!(holders(&network, &nodes).len() >= 8, "another has taken its place");
    }
    assert_eq!(network.find_values(asking, key), [b"value"]);
    // Of the holders about one asks at a time, every eight minutes or so: 7 rounds of 16 minutes.
    let checks = total(&network, &nodes, |stats| stats.hand_on_checks);
    assert!(checks < 7 * 2 * 3, "{checks} checks");
}

/// A day in which the holders come and go, and the same for a newcomer nearest of all.
#[test]
fn a_value_lives_for_a_day_through_however_many_hands() {
    let seed = Seed(2);
    let (mut network, mut nodes) = Network::joined(seed.0, 12, &holders_only());
    let (key, asking) = (Id::of(b"key"), nodes[0]);
    publish(&mut network, asking, key, b"value");
    for round in 0..15u32 {
        network.run(secs(60 * MINUTE));
        let gone = holders(&network, &nodes).into_iter().find(|&node| node != asking).expect("a holder");
        network.remove(gone);
        let id = sharing(&key, 10 + round);
        nodes.push(newcomer(&mut network, 100 + round, id, asking, holders_only()));
        network.run(secs(31 * MINUTE));
        let last = *nodes.last().expect("a newcomer");
        assert_eq!(network.stats(last).values, 1, "round {round}");
    }
    // 22:45 h have passed. There were many hands, but each costs a second or two.
    network.run(secs(HOUR));
    assert_eq!(network.find_values(asking, key), [b"value"]);
    network.run(secs(15 * MINUTE));
    assert!(network.find_values(asking, key).is_empty());
    network.run(secs(2 * HOUR));
    assert!(holders(&network, &nodes).is_empty());
    assert_eq!(network.find_values(asking, key), [b""; 0]);
}

#[test]
fn a_value_lives_as_long_as_its_publisher_and_a_day() {
    let seed = Seed(3);
    let (mut network, nodes) = Network::joined(seed.0, 8, &Config::default());
    let (key, other) = (Id::of(b"key"), Id::of(b"other"));
    publish(&mut network, nodes[3], key, b"value");
    publish(&mut network, nodes[4], other, b"withdrawn");
    network.run(secs(25 * HOUR));
    assert_eq!(network.find_values(nodes[5], key), [b"value"]);
    assert_eq!(network.find_values(nodes[5], other), [b"withdrawn"]);
    let stats = network.stats(nodes[3]);
    assert!((22..=28).contains(&stats.values_renewed) && stats.values_published == 1, "{stats:?}");
    network.remove(nodes[3]);
    let now = network.now;
    assert_eq!(network.engine.withdraw(now, nodes[4], other, b"never stored"), Ok(false));
    assert_eq!(network.engine.withdraw(now, nodes[4], key, b"withdrawn"), Ok(false));
    assert_eq!(network.engine.withdraw(now, nodes[4], other, b"withdrawn"), Ok(true));
    assert_eq!(network.engine.withdraw(now, nodes[4], other, b"withdrawn"), Ok(false));
    assert_eq!(network.stats(nodes[4]).values_published, 0);
    network.run(secs(22 * HOUR));
    assert_eq!(network.find_values(nodes[5], key), [b"value"]);
    assert_eq!(network.find_values(nodes[5], other), [b"withdrawn"]);
    network.run(secs(2 * HOUR + MINUTE));
    assert!(network.find_values(nodes[5], key).is_empty());
    assert!(network.find_values(nodes[5], other).is_empty());
    let timers = network.engine.timers();
    nodes.iter().for_each(|&node| network.remove(node));
    assert!(network.engine.timers() == 0 && timers > 0);
}

#[test]
fn a_withdrawal_stops_the_renewal_under_way() {
    let (mut network, nodes) = Network::joined(4, 4, &Config::default());
    let key = Id::of(b"key");
    publish(&mut network, nodes[0], key, b"value");
    let begun = network.run_until(secs(2 * HOUR), |network| {
        network.stats(nodes[0]).calls_pending > 0 && network.now.as_micros() > 50 * 60_000_000
    });
    assert!(begun);
    let calls = network.stats(nodes[0]).calls_pending;
    assert_eq!(network.engine.withdraw(network.now, nodes[0], key, b"value"), Ok(true));
    network.run(secs(5 * HOUR));
    assert!(calls > 0);
    assert_eq!(network.stats(nodes[0]).values_renewed, 0);
    assert!(network.outcomes.is_empty(), "nobody is told of what nobody asked for");
}

#[test]
fn what_failed_is_not_renewed_and_a_renewal_that_fails_is_tried_again_soon() {
    let (mut network, nodes) = Network::joined(5, 4, &Config::default());
    let key = Id::of(b"key");
    publish(&mut network, nodes[0], key, b"value");
    let others: Vec<_> = nodes[1..].iter().map(|&node| network.address(node)).collect();
    network.dead.extend(&others);
    let failed = network.store(nodes[0], Id::of(b"other"), b"nobody takes it");
    assert!(matches!(failed, Outcome::Stored(Err(_))), "{failed:?}");
    assert_eq!(network.stats(nodes[0]).values_published, 1);
    network.run(secs(70 * MINUTE));
    assert_eq!(network.stats(nodes[0]).values_renewed, 0);
    network.dead.clear();
    network.run(secs(12 * MINUTE));
    assert!(network.stats(nodes[0]).values_renewed > 0);
}

#[test]
fn a_node_with_a_file_goes_on_renewing() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("node.db");
    let limited = Config { max_renewed_bytes: 2 * 400, ..Config::default() };
    let (mut network, others) = Network::joined(6, 8, &holders_only());
    let options = || NodeOptions { config: Arc::new(limited.clone()), id: None, store: Some(path.clone()) };
    let publisher = network.node_with(address(50), address(50), options());
    network.introduce(publisher, address(0));
    let keys = [Id::of(b"0"), Id::of(b"1"), Id::of(b"2")];
    for key in keys {
        publish(&mut network, publisher, key, b"value");
    }
    let stats = network.stats(publisher);
    assert_eq!((stats.values_published, stats.values_not_renewed), (2, 1));
    network.run(secs(30 * MINUTE));
    network.remove(publisher);
    network.run(secs(10 * HOUR));
    let publisher = network.node_with(address(50), address(50), options());
    assert_eq!(network.stats(publisher).values_published, 2);
    network.run(secs(20 * MINUTE));
    assert_eq!(network.stats(publisher).values_renewed, 2, "what is overdue comes first");
    network.run(secs(14 * HOUR));
    for (key, found) in keys.into_iter().zip([1, 1, 0]) {
        assert_eq!(network.find_values(others[3], key).len(), found);
    }
    assert_eq!(network.engine.withdraw(network.now, publisher, keys[0], b"value"), Ok(true));
    network.remove(publisher);
    let publisher = network.node_with(address(50), address(50), options());
    assert_eq!(network.stats(publisher).values_published, 1);
}

/// One node, and foreign peers around it that are all nearer to the key than it is.
fn among(count: u32, config: Config, habit: impl Fn() -> Habit) -> (Network, NodeKey, Vec<Contact>, Id) {
    let mut network = Network::new(7);
    let node = network.node(address(0), config);
    let key = Id::of(b"key");
    let peers: Vec<Contact> = (1..=count)
        .map(|n| {
            let id = sharing(&key, 20 + n);
            network.peer(address(n), id, habit())
        })
        .collect();
    for n in 1..=count {
        network.introduce(node, address(n));
    }
    (network, node, peers, key)
}

/// What a peer was asked to hand on or was offered.
fn asked(network: &mut Network, peer: &Contact) -> (usize, usize) {
    let asked = network.at(peer.addr).take(|message| match message {
        Message::Request(Request { method: Method::HandOn { .. }, .. }) => Some((1, 0)),
        Message::Request(Request { method: Method::OfferValues { .. }, .. }) => Some((0, 1)),
        _ => None,
    });
    asked.into_iter().fold((0, 0), |(handed, offered), (h, o)| (handed + h, offered + o))
}

#[test]
fn peers_of_2003_are_never_handed_a_value() {
    let (mut network, node, peers, key) = among(8, holders_only(), polite);
    network.ask(address(1), address(0), b"1", &Method::StoreValue { key, value: b"value", life: None });
    network.run(secs(10 * HOUR));
    assert_eq!(network.stats(node).values, 1);
    let asked: Vec<_> = peers.iter().map(|peer| asked(&mut network, peer)).collect();
    assert!(asked.iter().all(|&(handed, offered)| handed == 0 && offered > 0), "{asked:?}");
    // A holder far off, of a key that others look after: seldom.
    assert!(network.stats(node).hand_on_checks < 30, "{}", network.stats(node).hand_on_checks);
}

/// Answers offers by claiming to lack all that was offered, and much else.
fn greedy() -> Habit {
    let mut polite = polite();
    Box::new(move |own, from, message, out| match message {
        Message::Request(Request { tid, method: Method::OfferValues { .. }, .. }) => {
            let wants: Vec<u8> = (0..=255).chain(0..=255).collect();
            message::response_nodes_and_wants(out, tid, own, &[], Some(&wants));
        }
        _ => polite(own, from, message, out),
    })
}

#[test]
fn who_claims_to_lack_everything_costs_no_more_than_the_budget() {
    let rate = 500;
    let config = Config { upkeep_rate: rate, ..holders_only() };
    let (mut network, node, peers, key) = among(3, config, greedy);
    for value in 0..20u8 {
        let value = [value; 3000];
        network.ask(address(1), address(0), b"1", &Method::StoreValue { key, value: &value, life: None });
        network.run(secs(1));
    }
    let (began, before) = (network.now, network.stats(node));
    network.run(secs(2 * HOUR));
    let (stats, span) = (network.stats(node), network.now.since(began).as_secs());
    assert!(stats.values_handed_on > 0 && stats.values == 20);
    // What one value costs at the end may be above.
    assert!(stats.upkeep_bytes <= rate * span + 20_000, "{} in {span} s", stats.upkeep_bytes);
    assert!(stats.upkeep_bytes > rate * span / 8, "{} in {span} s", stats.upkeep_bytes);
    // It is what went over the wire, but for headers, and pings in between.
    let wire = stats.bytes_out - before.bytes_out + stats.bytes_in - before.bytes_in;
    assert!(wire < stats.upkeep_bytes * 2, "{wire} for {}", stats.upkeep_bytes);
    let handed: usize = peers.iter().map(|peer| asked(&mut network, peer).0).sum();
    assert!(handed as u64 <= 3 * 20 * stats.hand_on_checks);
    assert_eq!(stats.values_handed_on, handed as u64);
}

/// Somebody offers the same value again and again, and hands it to nobody.
#[test]
fn offers_do_not_keep_a_holder_from_looking_for_long() {
    let (mut network, node, _, key) = among(2, holders_only(), polite);
    network.ask(address(1), address(0), b"1", &Method::StoreValue { key, value: b"value", life: None });
    let mut bytes = Vec::new();
    Offer::add(&mut bytes, &Id::of(b"value"), 60);
    let hours = 10;
    for _ in 0..hours * 60 {
        let offer = Offer::new(&bytes).expect("an offer");
        network.ask(address(1), address(0), b"1", &Method::OfferValues { key, offer });
        network.run(secs(60));
    }
    // Put off four times, a quarter of an hour each, and then not again.
    let checks = network.stats(node).hand_on_checks;
    assert!((hours * 4 / 6..=hours * 8).contains(&checks), "{checks} checks");
}

#[test]
fn offers_are_answered_with_what_is_lacking() {
    let (mut network, node, _, key) = among(1, holders_only(), polite);
    network.run(secs(HOUR));
    for value in [&b"young"[..], b"old"] {
        network.ask(address(1), address(0), b"1", &Method::StoreValue { key, value, life: None });
    }
    let aged = Method::HandOn { key, value: b"aged", age: 20 * HOUR as u32, life: None };
    network.ask(address(1), address(0), b"2", &aged);
    network.run(secs(60));
    assert_eq!(network.stats(node).values, 3);
    let day = 24 * HOUR as u32;
    let offered = [
        (&b"young"[..], 0),
        (b"aged", 10 * HOUR as u32),
        (b"aged", 19 * HOUR as u32),
        (b"lacking", 5),
        (b"too old", day),
        (b"of the future", u32::MAX),
        (b"old", day - 1),
        (b"lacking as well", day / 2),
    ];
    let mut bytes = Vec::new();
    for (value, age) in offered {
        Offer::add(&mut bytes, &Id::of(value), age);
    }
    network.at(address(1)).received.clear();
    let offer = Offer::new(&bytes).expect("an offer");
    network.ask(address(1), address(0), b"3", &Method::OfferValues { key, offer });
    network.run(secs(10));
    let wants = network.at(address(1)).take(|message| match message {
        Message::Response(response) => response.wants(MAX_OFFERED),
        _ => None,
    });
    assert_eq!(wants, [1 << 1 | 1 << 3 | 1 << 7]);
    // The younger time counts, and the older one never does.
    network.ask(
        address(1),
        address(0),
        b"4",
        &Method::HandOn { key, value: b"aged", age: 36_000, life: None },
    );
    network.ask(
        address(1),
        address(0),
        b"5",
        &Method::HandOn { key, value: b"young", age: 23 * 3600, life: None },
    );
    network.run(secs(5 * HOUR));
    assert_eq!(network.find_values(node, key).len(), 3);
    // What is too old is refused, in words.
    network.at(address(1)).received.clear();
    network.ask(address(1), address(0), b"6", &Method::HandOn { key, value: b"x", age: day, life: None });
    network.run(secs(10));
    let errors = network.at(address(1)).take(|message| match message {
        Message::Error(reply) => Some(reply.error.to_string()),
        _ => None,
    });
    assert_eq!(errors, ["the value is older than this node keeps any"]);
}

/// More values under a key than one offer holds: one offer after the other, all of them are
/// handed on. The first comes within 7.5 minutes, the next ones twice as soon each time.
#[test]
fn a_key_with_many_values_is_handed_on_by_and_by() {
    // Of one holder a node takes no more than this.
    let config = Config { max_values_per_key_and_block: 200, ..holders_only() };
    for seed in 0..20 {
        let seed = Seed(seed);
        let (mut network, nodes) = Network::joined(seed.0, 2, &config);
        let key = Id::of(b"key");
        for value in 0..200u8 {
            publish(&mut network, nodes[0], key, &[value]);
        }
        network.remove(nodes[1]);
        let nodes = [nodes[0], newcomer(&mut network, 9, Id::of(b"new"), nodes[0], config.clone())];
        let all = network.run_until(secs(15 * MINUTE), |network| network.stats(nodes[1]).values == 200);
        assert!(all, "{} handed on", network.stats(nodes[1]).values);
        assert_eq!(network.stats(nodes[0]).hand_on_checks, 200usize.div_ceil(MAX_OFFERED) as u64);
    }
}

/// Somebody fills a node with keys to look after, more than it can.
#[test]
fn what_others_store_does_not_keep_a_node_from_renewing() {
    let (mut network, node, _, key) = among(8, Config { upkeep_rate: 100, ..Config::default() }, polite);
    for n in 0..1000u32 {
        let key = Id::of(&n.to_be_bytes());
        network.ask(address(1), address(0), b"1", &Method::StoreValue { key, value: b"x", life: None });
        network.run(ms(20));
    }
    publish(&mut network, node, key, b"value");
    network.run(secs(6 * HOUR));
    let stats = network.stats(node);
    assert!(stats.values_renewed >= 5 && stats.hand_on_checks > 500, "{stats:?}");
}

/// For a minute it is ten days later, and then not.
#[test]
fn a_clock_that_was_ahead_keeps_no_value_alive() {
    let (mut network, nodes) = Network::joined(9, 8, &holders_only());
    let set = |network: &mut Network, ahead: u64| {
        let unix = START.0 + (network.now.as_micros() / 1_000_000 + ahead) as i64;
        network.engine.set_unix(network.now, UnixTime(unix));
    };
    let key = Id::of(b"key");
    set(&mut network, 10 * 24 * HOUR);
    publish(&mut network, nodes[0], key, b"value");
    network.run(secs(MINUTE));
    set(&mut network, 0);
    network.run(secs(23 * HOUR));
    assert_eq!(network.find_values(nodes[1], key), [b"value"]);
    network.run(secs(3 * HOUR));
    assert!(network.find_values(nodes[1], key).is_empty());
    assert!(holders(&network, &nodes).is_empty());
}

/// Some take no values of that size, and say so each time, having said that they lack it.
#[test]
fn a_value_is_not_sent_again_and_again_to_those_who_refuse_it() {
    let mut network = Network::new(3);
    let small = Config { max_value_size: 100, ..holders_only() };
    let nodes: Vec<NodeKey> = (0..8)
        .map(|n| network.node(address(n), if n < 5 { holders_only() } else { small.clone() }))
        .collect();
    network.join(&nodes);
    let value = vec![1; 60_000];
    publish(&mut network, nodes[0], Id::of(b"key"), &value);
    network.run(secs(3 * HOUR));
    // Each of five holders tries each of three, once an hour at the most.
    let bytes = total(&network, &nodes, |stats| stats.upkeep_bytes);
    assert!(bytes < 3 * 5 * 3 * 62_000, "{bytes}");
    assert!(total(&network, &nodes, |stats| stats.hand_on_checks) > 6);
}
