//! Whole networks: they form, find and keep, whatever the network between does.

#[path = "support/network.rs"]
mod network;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use khashmir::bencode::{self, Value};
use khashmir::engine::Outcome;
use khashmir::krpc::message::Method;
use khashmir::{Config, Contact, Id, NodeKey, NodeOptions};
use network::*;
use rand::RngExt;

/// The nearest of all nodes to `target`, this one aside.
fn nearest(
    network: &Network,
    nodes: &[NodeKey],
    target: Id,
    but: Option<NodeKey>,
    count: usize,
) -> Vec<Contact> {
    let others = nodes.iter().filter(|&&node| Some(node) != but);
    let mut contacts: Vec<_> = others.map(|&node| network.contact(node)).collect();
    contacts.sort_by_key(|contact| contact.id.distance(&target));
    contacts.truncate(count);
    contacts
}

/// Builds a network, looks for nodes, stores and looks for values. `exact`: nothing is
/// lost, so nothing less than the best will do.
fn lives(seed: u64, count: u32, bad: Badness, exact: bool) -> u64 {
    let _seed = Seed(seed);
    let mut network = Network::new(seed);
    let config = Config::default();
    let nodes: Vec<NodeKey> = (0..count).map(|n| network.node(address(n), config.clone())).collect();
    network.bad = bad;
    network.join(&nodes);
    let mut all = 0;
    for (n, &node) in nodes.iter().enumerate() {
        let known = network.table(node);
        assert!(known.iter().all(|contact| network.contact(nodes[index(contact)]) == *contact));
        assert!(known.len() >= config.k.min(nodes.len() - 1), "node {n} knows only {}", known.len());
        let close = network.engine.find_close_nodes(network.now, node, None);
        let Outcome::Nodes(Ok(found)) = the_one(network.wait(close)) else { panic!("no nodes") };
        let best = nearest(&network, &nodes, network.contact(node).id, Some(node), config.k);
        let right = found.iter().filter(|contact| best.contains(contact)).count();
        assert!(
            right == config.k || !exact && right + 3 >= config.k,
            "node {n} finds {right} of {}",
            config.k
        );
        all += right;
    }
    // Some whose answers are lost again and again are not waited for.
    let (best, least) = (nodes.len() * config.k, if bad.loss < 0.1 { 98 } else { 90 });
    assert!(all * 100 >= best * least, "{all} of the {best} nearest");
    for (n, &node) in nodes.iter().enumerate() {
        let other = network.contact(nodes[(n * 37 + 11) % nodes.len()]);
        let found = network.find_node(node, other.id);
        assert!(
            other.addr == address(n as u32) || found.first() == Some(&other),
            "{n} does not find {other}"
        );
    }
    let mut values = Vec::new();
    for n in 0..8usize {
        let (key, value) = (Id::of(&[n as u8]), vec![n as u8; [1, 100, 5000, 65_536][n % 4]]);
        let holders = network.holders(nodes[n * 5 % nodes.len()], key, &value);
        if exact {
            assert_eq!(holders, nearest(&network, &nodes, key, None, config.k));
        }
        values.push((key, value));
    }
    for (n, &node) in nodes.iter().enumerate() {
        let (key, value) = &values[n % values.len()];
        assert_eq!(network.find_values(node, *key), std::slice::from_ref(value), "node {n}");
    }
    network.fingerprint()
}

fn index(contact: &Contact) -> usize {
    (0..).find(|&n| address(n) == contact.addr).expect("an address of ours") as usize
}

#[test]
fn a_network_finds_all_its_nodes_and_values() {
    lives(1, 100, Badness::default(), true);
    lives(2, 100, Badness::default(), true);
}

#[test]
fn so_does_one_that_loses_five_of_a_hundred_datagrams() {
    for seed in 10..12 {
        lives(seed, 60, Badness { loss: 0.05, duplicate: 0.05, reorder: 0.2 }, false);
    }
}

#[test]
fn so_does_one_that_loses_twenty_of_a_hundred_datagrams() {
    for seed in 20..22 {
        lives(seed, 40, Badness { loss: 0.2, duplicate: 0.1, reorder: 0.3 }, false);
    }
}

#[test]
fn the_same_seed_gives_the_same_datagrams() {
    let bad = Badness { loss: 0.05, duplicate: 0.1, reorder: 0.3 };
    let once = lives(30, 24, bad, false);
    assert_eq!(lives(30, 24, bad, false), once);
    assert_ne!(lives(31, 24, bad, false), once);
}

#[test]
fn networks_of_one_two_and_three_keep_values() {
    for count in 1..=3 {
        let _seed = Seed(u64::from(count));
        let (mut network, nodes) = Network::joined(u64::from(count), count, &Config::default());
        let key = Id::of(b"key");
        let all = nearest(&network, &nodes, key, None, 8);
        assert_eq!(network.holders(nodes[0], key, b"value"), all);
        for &node in &nodes {
            assert_eq!(network.stats(node).values, 1);
            assert_eq!(network.find_values(node, key), [b"value"]);
        }
    }
}

#[test]
fn lost_on_purpose_is_as_lost_by_the_network() {
    let config = Config { inbound_loss: 0.2, ..Config::default() };
    let (mut network, nodes) = Network::joined(7, 12, &config);
    let sent: u64 = nodes.iter().map(|&node| network.stats(node).packets_out).sum();
    let taken: u64 = nodes.iter().map(|&node| network.stats(node).packets_in).sum();
    let share = 1.0 - taken as f64 / sent as f64;
    assert!((0.15..0.25).contains(&share), "{share}");
    assert!(matches!(network.store(nodes[3], Id::of(b"key"), b"value"), Outcome::Stored(Ok(_))));
    assert_eq!(network.find_values(nodes[9], Id::of(b"key")), [b"value"]);

    let deaf = Config { inbound_loss: 1.0, ..Config::default() };
    let deaf = network.node(address(100), deaf);
    let outcome = network.introduce(nodes[0], address(100));
    assert!(matches!(outcome[..], [Outcome::Contact(Err(_))]));
    assert_eq!(network.stats(deaf).packets_in, 0);
}

/// Nodes that know each other and have nothing to do say next to nothing.
/// All come at once, and by way of one node, so that each knows little of what is far
/// from it: stores and searches get there all the same.
#[test]
fn nodes_that_have_just_joined_by_one_find_their_way() {
    // With two of these, lookups used to stay in the half of the space they began in.
    for seed in [1, 2, 7, 43] {
        let mut network = Network::new(seed);
        let nodes: Vec<_> = (0..100).map(|n| network.node(address(n), Config::default())).collect();
        let join =
            |network: &mut Network, node| network.engine.add_contact(network.now, node, address(0), None);
        let begun: Vec<_> = nodes[1..].iter().map(|&node| join(&mut network, node)).collect();
        begun.into_iter().for_each(|operation| drop(network.wait(operation)));
        let close = |network: &mut Network, node| network.engine.find_close_nodes(network.now, node, None);
        let begun: Vec<_> = nodes[1..].iter().map(|&node| close(&mut network, node)).collect();
        begun.into_iter().for_each(|operation| drop(network.wait(operation)));
        for (n, &node) in nodes.iter().enumerate() {
            let key = Id::of(&[n as u8]);
            let holders = network.holders(node, key, b"value");
            let mut ids: Vec<_> = nodes.iter().map(|&node| network.contact(node).id.distance(&key)).collect();
            ids.sort();
            let nearest = holders.iter().filter(|holder| holder.id.distance(&key) <= ids[7]).count();
            assert!(nearest >= 6, "{nearest} of the 8 nearest took value {n}, seed {seed}");
            let found = network.find_values(nodes[(n + 50) % 100], key);
            assert_eq!(found, [b"value"], "value {n}, seed {seed}");
        }
    }
}

#[test]
fn a_network_at_rest_is_quiet() {
    let (mut network, nodes) = Network::joined(3, 40, &Config::default());
    network.run(secs(20 * 60));
    let started = |network: &Network| nodes.iter().map(|&node| network.stats(node).calls_sent).sum::<u64>();
    let before = started(&network);
    network.run(secs(30 * 60));
    assert_eq!(started(&network), before, "requests although no bucket is stale");
    network.run(secs(3 * 3600));
    // Each of a node's buckets is refreshed once an hour, by a lookup of some 20 requests.
    let lookups = (started(&network) - before) / 20;
    let buckets = 8 * nodes.len() as u64;
    assert!((nodes.len() as u64..4 * buckets).contains(&lookups), "{lookups}");
}

fn v6(number: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number)), 4000)
}

fn options(config: Config) -> NodeOptions {
    NodeOptions { config: Arc::new(config), id: None, store: None }
}

#[test]
fn ipv6_networks_form_and_serve_ipv4_where_they_can() {
    let mut network = Network::new(5);
    let nodes: Vec<_> = (1..12).map(|n| network.node(v6(n), Config::default())).collect();
    network.join(&nodes);
    assert!(matches!(network.store(nodes[2], Id::of(b"key"), b"value"), Outcome::Stored(Ok(_))));
    assert_eq!(network.find_values(nodes[7], Id::of(b"key")), [b"value"]);

    // One that is bound to IPv6 alone cannot send to an IPv4 address, and one bound to all can.
    let old = network.node(address(1), Config::default());
    assert!(matches!(network.introduce(nodes[0], address(1))[..], [Outcome::Contact(Err(_))]));
    let all = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 4000);
    let both = network.node_with(address(2), all, options(Config::default()));
    assert!(matches!(network.introduce(both, address(1))[..], [Outcome::Contact(Ok(_))]));
    assert!(matches!(network.introduce(old, address(2))[..], [Outcome::Contact(Ok(_))]));
    let mapped = SocketAddr::new(Ipv4Addr::new(10, 0, 0, 2).to_ipv6_mapped().into(), 4000);
    assert!(matches!(network.introduce(both, mapped)[..], [Outcome::Contact(Ok(_))]));
    assert_eq!(network.table(both), [network.contact(old)], "one contact, by its one address");
}

/// Whoever has joined is known to its neighbours, and can find anybody.
#[test]
fn nodes_that_have_joined_are_known_to_their_neighbours() {
    let (mut network, nodes) = Network::joined(12, 150, &Config::default());
    network.run(secs(60));
    let mut all = 0;
    for &node in &nodes {
        let own = network.contact(node);
        let neighbours = nearest(&network, &nodes, own.id, Some(node), 8);
        let knows = |neighbour: &&Contact| network.table(nodes[index(neighbour)]).contains(&own);
        let known = neighbours.iter().filter(knows).count();
        // The bucket of a neighbour may be full of others.
        assert!(known >= 5, "{own} is known to {known} of its neighbours");
        all += known;
    }
    assert!(all * 100 >= nodes.len() * 8 * 95, "{all} of {}", nodes.len() * 8);
    for n in 0..nodes.len() {
        let wanted = network.contact(nodes[(n * 67 + 31) % nodes.len()]);
        if wanted != network.contact(nodes[n]) {
            assert_eq!(network.find_node(nodes[n], wanted.id)[0], wanted);
        }
    }
}

/// A node that reaches both IPv4 and IPv6 looks on both sides, keeps them apart, and stores
/// on both; whoever reaches one of them notices nothing.
#[test]
fn lookups_over_ipv4_and_ipv6_go_side_by_side() {
    let mut network = Network::new(11);
    let old: Vec<_> = (0..25).map(|n| network.node(address(n), Config::default())).collect();
    let new: Vec<_> = (1..26).map(|n| network.node(v6(n), Config::default())).collect();
    network.join(&old);
    network.join(&new);
    let all = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 4000);
    let both = network.node_with(address(99), all, options(Config::default()));
    network.add_address(both, v6(99));
    for by in [address(0), v6(1)] {
        assert!(matches!(network.introduce(both, by)[..], [Outcome::Contact(Ok(_))]));
    }
    for n in 0..10u8 {
        let key = Id::of(&[n]);
        let found = network.find_node(both, key);
        let mut expected = nearest(&network, &old, key, None, 8);
        expected.extend(nearest(&network, &new, key, None, 8));
        expected.sort_by_key(|contact| contact.id.distance(&key));
        assert_eq!(found, expected);
        for (nodes, from) in [(&old, old[3]), (&new, new[3])] {
            let found = network.find_node(from, key);
            assert!(found.len() >= 7 && found.iter().filter(|c| c.addr != address(99)).count() >= 7);
            assert!(found.iter().all(|c| c.addr.is_ipv4() == network.address(nodes[0]).is_ipv4()));
        }
        let holders = network.holders(both, key, b"value");
        let over_ipv4 = holders.iter().filter(|holder| holder.addr.is_ipv4()).count();
        assert!((15..=17).contains(&holders.len()) && (7..=9).contains(&over_ipv4), "{holders:?}");
        for from in [old[7], new[7]] {
            assert_eq!(network.find_values(from, key), [b"value"]);
        }
    }
    // One side falls silent, and the other does not notice.
    for &node in &new {
        network.dead.insert(network.address(node));
    }
    let begun = network.now;
    assert_eq!(network.find_node(both, network.contact(old[5]).id)[0], network.contact(old[5]));
    assert!(network.now - begun < ms(300), "{:?}", network.now - begun);
    assert!(network.find_node(both, Id::of(b"x")).iter().all(|contact| contact.addr.is_ipv4()));
}

/// The host that a message on the wire names as its sender's.
fn sender_host(body: &[u8]) -> String {
    let Ok(Value::Dict(message)) = bencode::parse(body) else { panic!("no message") };
    let Some(Value::Dict(parts)) = message.get(b"arg").or(message.get(b"rsp")) else { panic!("no parts") };
    let Some(Value::Dict(sender)) = parts.get(b"sender") else { panic!("no sender") };
    let Some(Value::Bytes(host)) = sender.get(b"host") else { panic!("no host") };
    String::from_utf8(host.to_vec()).expect("text")
}

#[test]
fn peers_are_told_an_address_that_they_can_use() {
    let bound = address(1);
    let unspecified = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 4000);
    let unspecified_v6 = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 4000);
    let advertised = Config { advertised_address: Some([203, 0, 113, 5].into()), ..Config::default() };
    for (local, config, expected) in [
        (bound, Config::default(), "10.0.0.2"),
        (unspecified, Config::default(), "192.0.2.7"),
        (unspecified_v6, Config::default(), "192.0.2.7"),
        (unspecified, advertised.clone(), "203.0.113.5"),
        (bound, advertised, "203.0.113.5"),
    ] {
        let mut network = Network::new(9);
        let node = network.node_with(bound, local, options(config));
        let peer = network.peer(address(2), Id::of(b"peer"), polite()).addr;
        network.introduce(node, peer);
        network.ask(peer, bound, b"1", &Method::Ping);
        network.ask(peer, bound, b"2", &Method::FindValue { key: Id::of(b"x"), from: None });
        network.run(secs(1));
        let hosts: Vec<_> = network.at(peer).received.iter().map(|(_, body)| sender_host(body)).collect();
        assert_eq!(hosts, [expected; 3], "bound to {local}");
    }
}

#[test]
fn a_node_may_be_told_to_ask_itself() {
    let (mut network, nodes) = Network::joined(4, 3, &Config::default());
    let own = network.address(nodes[0]);
    let outcome = network.introduce(nodes[0], own);
    assert!(matches!(outcome[..], [Outcome::Contact(_)]));
    assert_eq!(network.table(nodes[0]).len(), 2);
    // So small a network is looked for again after one, three and seven minutes.
    network.run(secs(200));
    let before = network.sent;
    network.run(secs(60));
    assert_eq!(network.sent, before);
}

/// Nodes come and go, with operations under way. In the half hour between two of
/// them half of the buckets are refreshed.
#[test]
fn a_network_outlives_its_nodes() {
    for seed in 40..42 {
        let _seed = Seed(seed);
        let mut rng = khashmir::random::seeded(khashmir::random::seed_from_number(seed));
        let (mut network, mut nodes) = Network::joined(seed, 30, &Config::default());
        let key = Id::of(b"kept");
        assert!(matches!(network.store(nodes[0], key, b"value"), Outcome::Stored(Ok(_))));
        for n in 0..12 {
            network.run(secs(1800));
            let gone = nodes.remove(rng.random_range(0..nodes.len()));
            let addr = network.address(gone);
            let operation = network.engine.find_close_nodes(network.now, gone, None);
            network.run(ms(rng.random_range(0..20)));
            network.remove(gone);
            network.drain();
            assert!(network.outcomes.remove(&operation).is_some_and(|o| o.len() == 1));
            let next = if n % 2 == 0 { addr } else { address(1000 + n) };
            let newcomer = network.node(next, Config::default());
            let by = network.address(nodes[rng.random_range(0..nodes.len())]);
            network.introduce(newcomer, by);
            nodes.push(newcomer);
            let close = network.engine.find_close_nodes(network.now, newcomer, None);
            assert!(matches!(the_one(network.wait(close)), Outcome::Nodes(Ok(found)) if found.len() == 8));
            let holder = nodes[rng.random_range(0..nodes.len())];
            if n % 4 == 3 {
                // Somebody keeps it alive, as its owner would.
                assert!(matches!(network.store(holder, key, b"value"), Outcome::Stored(Ok(_))));
            }
            assert_eq!(network.find_values(holder, key), [b"value"]);
        }
    }
}

#[test]
fn unusual_settings_work() {
    for (k, concurrent_requests) in [(1, 1), (1, 64), (2, 3), (64, 1), (64, 64)] {
        let config = Config { k, concurrent_requests, store_redundancy: 1, ..Config::default() };
        let (mut network, nodes) = Network::joined(6, 16, &config);
        for n in 0..4 {
            let key = Id::of(&[n as u8]);
            let holders = network.holders(nodes[n], key, &[7]);
            assert!((1..=k.min(16)).contains(&holders.len()));
            // With k = 1 a table knows too little to find the one holder for sure.
            assert!(k == 1 || network.find_values(nodes[n + 8], key) == [[7]], "k = {k}");
        }
    }
}
