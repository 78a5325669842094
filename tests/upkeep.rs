//! What nodes do by themselves, in days of virtual time.

#[path = "support/network.rs"]
mod network;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use khashmir::engine::Outcome;
use khashmir::krpc::message::{Message, Method, Request};
use khashmir::time::UnixTime;
use khashmir::{Config, Contact, Id, NodeKey, NodeOptions};
use network::*;

const HOUR: u64 = 3600;

fn alone() -> (Network, NodeKey) {
    let mut network = Network::new(1);
    let node = network.node(address(0), Config::default());
    network.peer(address(1), Id::of(b"peer"), silent());
    (network, node)
}

/// A foreign peer stores a value.
fn give(network: &mut Network, key: &[u8], value: &[u8]) {
    network.ask(address(1), address(0), b"1", &Method::StoreValue { key: Id::of(key), value, life: None });
    network.run(secs(12));
}

/// What a foreign peer is told to be there.
fn told(network: &mut Network, key: &[u8]) -> Vec<Vec<u8>> {
    network.at(address(1)).received.clear();
    network.ask(address(1), address(0), b"1", &Method::FindValue { key: Id::of(key), from: None });
    network.run(secs(12));
    let mut answers = network.at(address(1)).take(|message| match message {
        Message::Response(response) => {
            Some(response.values().map_or(vec![], |values| values.map(<[u8]>::to_vec).collect()))
        }
        _ => None,
    });
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}

#[test]
fn values_are_kept_for_a_day() {
    let (mut network, node) = alone();
    network.run(secs(600));
    give(&mut network, b"key", b"value");
    give(&mut network, b"key", b"renewed");
    network.run(secs(12 * HOUR));
    give(&mut network, b"key", b"renewed");
    network.run(secs(12 * HOUR - 120));
    assert_eq!(told(&mut network, b"key").len(), 2);
    network.run(secs(120));
    // The next expiry is still to come, and does not matter.
    assert_eq!(network.stats(node).values, 2);
    assert_eq!(told(&mut network, b"key"), [b"renewed"]);
    assert_eq!(network.find_values(node, Id::of(b"key")), [b"renewed"]);
    network.run(secs(HOUR));
    assert_eq!(network.stats(node).values, 1);
    network.run(secs(13 * HOUR));
    assert_eq!(network.stats(node).values, 0);
    assert_eq!(network.stats(node).value_bytes, 0);
}

/// The first expiry comes soon after the start, for what has expired in the meantime.
#[test]
fn what_expired_while_a_node_was_away_goes_after_fifteen_seconds() {
    let (_directory, path) = place();
    let mut network = Network::new(1);
    let node = network.node_with(address(0), address(0), in_file(&path, Config::default()));
    network.peer(address(1), Id::of(b"peer"), silent());
    // More than are deleted in one go.
    for n in 0..1500u16 {
        network.ask(
            address(1),
            address(0),
            b"1",
            &Method::StoreValue { key: Id::of(&n.to_be_bytes()), value: b"x", life: None },
        );
        if n % 100 == 0 {
            network.run(secs(1));
        }
    }
    network.run(secs(1));
    assert_eq!(network.stats(node).values, 1500);
    network.run(secs(13 * HOUR));
    network.remove(node);
    network.engine.set_unix(network.now, UnixTime(START.0 + 25 * HOUR as i64));
    let node = network.node_with(address(0), address(0), in_file(&path, Config::default()));
    network.run(secs(14));
    assert_eq!(network.stats(node).values, 1500);
    network.run(secs(2));
    assert_eq!(network.stats(node).values, 0);
}

/// A clock that is set wrong does not take everything away, nor does it keep things for ever.
#[test]
fn a_node_that_comes_back_after_long_or_seems_to_hides_what_it_held() {
    let (_directory, path) = place();
    let mut network = Network::new(1);
    let mut node = network.node_with(address(0), address(0), in_file(&path, Config::default()));
    network.peer(address(1), Id::of(b"peer"), silent());
    network.run(secs(60));
    give(&mut network, b"key", b"value");
    let again = |network: &mut Network, node: &mut NodeKey, unix: i64| {
        network.remove(*node);
        network.engine.set_unix(network.now, UnixTime(START.0 + unix));
        *node = network.node_with(address(0), address(0), in_file(&path, Config::default()));
        // The peer notices that the node has been away.
        network.ask(address(1), address(0), b"0", &Method::Ping);
        network.run(secs(100));
    };
    let year = 365 * 24 * HOUR as i64;
    again(&mut network, &mut node, year);
    assert_eq!(network.stats(node).values, 1);
    assert!(told(&mut network, b"key").is_empty());
    give(&mut network, b"key", b"new");
    assert_eq!(told(&mut network, b"key"), [b"new"]);
    // A second start does not bring it back, a clock that is put right does.
    again(&mut network, &mut node, year + 1000);
    assert_eq!(network.stats(node).values, 2);
    assert_eq!(told(&mut network, b"key"), [b"new"]);
    network.engine.set_unix(network.now, UnixTime(START.0 + 2000));
    assert_eq!(told(&mut network, b"key").len(), 2);
    // It has aged by half of its life all the same.
    network.run(secs(10 * HOUR));
    assert_eq!(told(&mut network, b"key").len(), 2);
    network.run(secs(3 * HOUR));
    assert_eq!(told(&mut network, b"key"), [b"new"]);
    assert_eq!(network.stats(node).values, 1);
    // A node that runs is not impressed.
    network.engine.set_unix(network.now, UnixTime(START.0 + 2 * year));
    network.run(secs(HOUR));
    network.engine.set_unix(network.now, UnixTime(START.0));
    network.run(secs(HOUR));
    assert_eq!(network.stats(node).values, 1, "half a life was credited in error before: that is enough");
    network.run(secs(10 * HOUR));
    assert_eq!(network.stats(node).values, 0);
}

/// A file may come from anywhere: nothing in it is kept for ever, nor deleted at once.
#[test]
fn what_a_file_says_of_the_time_is_bounded() {
    let century = 100 * 365 * 24 * HOUR as i64;
    for set in [
        format!("UPDATE value SET expires = expires + {century}"),
        format!("UPDATE value SET expires = expires + {century}; UPDATE node SET clock = NULL, wall = NULL"),
        format!("UPDATE value SET expires = expires + {century}; UPDATE node SET clock = 0, wall = 0"),
        format!(
            "UPDATE node SET clock = clock + {century}, wall = wall + {century};
                 UPDATE value SET time = time + {century}, expires = expires + {century}"
        ),
    ] {
        let (_directory, path) = place();
        let mut network = Network::new(1);
        let node = network.node_with(address(0), address(0), in_file(&path, Config::default()));
        network.peer(address(1), Id::of(b"peer"), silent());
        give(&mut network, b"key", b"value");
        network.remove(node);
        rusqlite::Connection::open(&path).expect("a file").execute_batch(&set).expect(&set);
        let node = network.node_with(address(0), address(0), in_file(&path, Config::default()));
        network.run(secs(9 * HOUR));
        assert_eq!(network.stats(node).values, 1, "{set}");
        network.run(secs(16 * HOUR));
        assert_eq!(network.stats(node).values, 0, "{set}");
    }
}

/// What many values leave behind goes bit by bit, whoever is there.
#[test]
fn what_a_node_in_memory_held_goes_bit_by_bit() {
    let (mut network, node) = alone();
    let other = network.node(address(7), Config::default());
    for n in 0..1000u16 {
        let method = Method::StoreValue { key: Id::of(&n.to_be_bytes()), value: b"x", life: None };
        network.ask(address(1), address(0), b"1", &method);
        if n % 100 == 0 {
            network.run(secs(1));
        }
    }
    network.run(secs(1));
    assert_eq!(network.stats(node).values, 1000);
    let timers = network.engine.timers();
    network.remove(node);
    let left = network.engine.timers();
    assert!(left < timers);
    network.run(ms(15));
    assert_eq!(network.engine.timers(), left);
    network.run(secs(1));
    assert_eq!(network.engine.timers(), left - 1, "the one for it is gone");
    network.remove(other);
    assert_eq!(network.engine.timers(), 0);
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("node.db");
    (directory, path)
}

fn in_file(path: &Path, config: Config) -> NodeOptions {
    NodeOptions { config: Arc::new(config), id: None, store: Some(path.to_owned()) }
}

/// The contacts in a copy of a node's file, as a crash would leave them.
fn saved(path: &Path) -> BTreeSet<Vec<u8>> {
    let directory = tempfile::tempdir().expect("a directory");
    let copy = directory.path().join("copy.db");
    std::fs::copy(path, &copy).expect("a file");
    let log = |path: &Path| PathBuf::from(format!("{}-wal", path.display()));
    std::fs::copy(log(path), log(&copy)).expect("a log");
    let connection = rusqlite::Connection::open(&copy).expect("a database");
    let mut statement = connection.prepare("SELECT id FROM contact").expect("a table");
    let rows = statement.query_map([], |row| row.get(0)).expect("rows");
    rows.map(|row| row.expect("an id")).collect()
}

#[test]
fn contacts_are_saved_every_quarter_of_an_hour() {
    let (_directory, path) = place();
    let (mut network, nodes) = Network::joined(3, 20, &Config::default());
    let node = network.node_with(address(50), address(50), in_file(&path, Config::default()));
    network.introduce(node, address(0));
    let close = network.engine.find_close_nodes(network.now, node, None);
    network.wait(close);
    let ids = |network: &Network| -> BTreeSet<Vec<u8>> {
        network.table(node).iter().map(|contact| contact.id.as_bytes().to_vec()).collect()
    };
    network.run(secs(13 * 60));
    assert_eq!(saved(&path).len(), 0);
    network.run(secs(4 * 60));
    assert_eq!(saved(&path), ids(&network));
    assert!(saved(&path).len() >= 8);
    // On demand, and at the end.
    network.introduce(node, address(19));
    network.engine.checkpoint(network.now, node).expect("saved");
    assert_eq!(saved(&path), ids(&network));
    let (id, before) = (network.engine.id(node), network.table(node));
    network.remove(node);

    // The node comes back, with its name and whom it knew, and looks for its neighbours.
    network.run(secs(60));
    let node = network.node_with(address(50), address(50), in_file(&path, Config::default()));
    assert_eq!(network.engine.id(node), id);
    let mut after = network.table(node);
    after.sort_by_key(|contact| contact.id);
    let mut expected = before;
    expected.sort_by_key(|contact| contact.id);
    assert_eq!(after, expected);
    network.run(secs(2));
    assert!(network.stats(node).calls_sent >= 8);
    assert!(network.find_node(nodes[7], id.expect("an id")).contains(&network.contact(node)));
}

/// A host that is offline for an hour loses all its contacts, and is back a minute after
/// its network, without having saved anything.
#[test]
fn a_node_joins_again_by_itself() {
    let (mut network, nodes) = Network::joined(4, 20, &Config::default());
    let others: Vec<_> = nodes[1..].iter().map(|&node| network.address(node)).collect();
    network.dead.extend(others.iter().copied());
    for n in 0..4u8 {
        network.find_node(nodes[0], Id::of(&[n]));
    }
    network.run(secs(HOUR));
    assert!(network.stats(nodes[0]).calls_sent < 3000, "{:?}", network.stats(nodes[0]));
    assert_eq!(network.find_node(nodes[0], Id::of(b"x")), []);
    network.dead.clear();
    network.run(secs(75));
    assert!(network.stats(nodes[0]).contacts >= 8, "{:?}", network.stats(nodes[0]));
    let wanted = network.contact(nodes[13]);
    assert!(network.find_node(nodes[0], wanted.id).contains(&wanted));
}

/// A host that sleeps, and whose clock stands still or does not, looks for its neighbours
/// as soon as it wakes up.
#[test]
fn a_node_looks_for_its_neighbours_when_its_host_has_slept() {
    for clock_stands_still in [false, true] {
        let (mut network, nodes) = Network::joined(4, 20, &Config::default());
        network.run(secs(60));
        let calls = |network: &Network| network.stats(nodes[0]).calls_sent;
        let before = calls(&network);
        let hour = if clock_stands_still {
            let unix = UnixTime(START.0 + network.now.as_micros() as i64 / 1_000_000);
            // A second here or there is nothing.
            network.engine.set_unix(network.now, UnixTime(unix.0 + 30));
            network.run(secs(10));
            assert_eq!(calls(&network), before);
            network.engine.set_unix(network.now, UnixTime(unix.0 + 3600));
            secs(0)
        } else {
            secs(1800)
        };
        network.now += hour;
        let late = network.now;
        network.engine.handle_timeout(late);
        network.run(secs(6));
        assert!(calls(&network) >= before + 8, "clock stands still: {clock_stands_still}");
        let after = calls(&network);
        network.run(secs(60));
        assert_eq!(calls(&network), after, "once is enough");
    }
}

/// A host that is offline for a while loses its contacts one by one. Those in the
/// file are its only way back.
#[test]
fn saved_contacts_outlive_a_time_without_network() {
    let (_directory, path) = place();
    let (mut network, _) = Network::joined(3, 5, &Config::default());
    let node = network.node_with(address(50), address(50), in_file(&path, Config::default()));
    network.introduce(node, address(0));
    network.engine.checkpoint(network.now, node).expect("saved");
    network.dead.insert(address(50));
    for n in 0..3u8 {
        network.find_node(node, Id::of(&[n]));
        network.run(secs(11));
    }
    assert_eq!(network.stats(node).contacts, 0);
    network.run(secs(HOUR));
    network.remove(node);
    network.dead.clear();
    let node = network.node_with(address(50), address(50), in_file(&path, Config::default()));
    network.run(secs(5));
    assert_eq!(network.stats(node).contacts, 5);
}

#[test]
fn values_in_a_file_outlive_the_node() {
    let (_directory, path) = place();
    let (mut network, nodes) = Network::joined(3, 3, &Config::default());
    let node = network.node_with(address(50), address(50), in_file(&path, Config::default()));
    network.introduce(node, address(0));
    network.run(secs(1));
    let key = Id::of(b"key");
    assert_eq!(network.holders(nodes[0], key, b"value").len(), 4);
    network.remove(node);
    for &other in &nodes {
        network.remove(other);
    }
    let node = network.node_with(address(50), address(50), in_file(&path, Config::default()));
    assert_eq!(network.find_values(node, key), [b"value"]);
    // One file is one node's.
    let again = network.engine.add_node(network.now, address(51), in_file(&path, Config::default()));
    assert!(again.is_err());
    assert_eq!(network.find_values(node, key), [b"value"]);
}

/// Which ids were looked for at a peer.
fn looked_for(network: &mut Network, peer: u32) -> Vec<Id> {
    network.at(address(peer)).take(|message| match message {
        Message::Request(Request { method: Method::FindNode { target }, .. }) => Some(*target),
        _ => None,
    })
}

#[test]
fn a_bucket_is_refreshed_when_nothing_has_touched_it_for_an_hour() {
    let mut network = Network::new(1);
    let node = network.node_named(address(0), Id::new([0; 20]), Config::default());
    let peers: Vec<Contact> =
        (1..=9u8).map(|n| network.peer(address(n.into()), Id::new([n * 16; 20]), polite())).collect();
    for peer in &peers {
        network.introduce(node, peer.addr);
    }
    assert_eq!(looked_for(&mut network, 9), []);
    let end = HOUR + 60;
    network.run(secs(HOUR - 60));
    assert_eq!(looked_for(&mut network, 9), []);
    // A lookup of the owner's touches the far bucket.
    network.find_node(node, Id::new([0xff; 20]));
    looked_for(&mut network, 9);
    network.run(secs(end - (HOUR - 60)));
    assert_eq!(looked_for(&mut network, 9).iter().filter(|id| id.as_bytes()[0] >= 0x80).count(), 0);
    network.run(secs(HOUR - 60));
    assert_eq!(looked_for(&mut network, 9).iter().filter(|id| id.as_bytes()[0] >= 0x80).count(), 1);

    // All of them on demand, and the node's own neighbours.
    network.engine.refresh_table(network.now, node);
    network.run(secs(5));
    let targets: BTreeSet<_> = (1..=9).flat_map(|n| looked_for(&mut network, n)).collect();
    assert!(targets.contains(&Id::new([0; 20]).beside()));
    assert!(targets.iter().any(|id| id.as_bytes()[0] >= 0x80), "{targets:?}");
    assert!(targets.len() >= 3, "{targets:?}");
}

/// A node without contacts has next to nothing to do.
#[test]
fn a_lonely_node_sleeps() {
    let (mut network, node) = alone();
    let mut wakes = 0;
    let end = network.now + secs(24 * HOUR);
    while network.step(end) {
        wakes += 1;
    }
    // Some 150 checkpoints, refreshes and expiries, each with a few looks at the clock
    // before its time.
    assert!(wakes < 1000, "{wakes}");
    assert_eq!(network.stats(node).packets_out, 0);
}

/// Whoever wants something never to happen sets the longest time there is.
#[test]
fn the_longest_times_mean_never() {
    use std::time::Duration;
    let config = Config {
        min_ping_interval: Duration::MAX,
        bucket_staleness: Duration::MAX,
        request_timeout: Duration::MAX,
        operation_timeout: Duration::MAX,
        value_lifetime: Duration::MAX,
        renew_interval: Duration::MAX,
        hand_on_interval: Duration::ZERO,
        checkpoint_interval: Duration::MAX,
        first_expiry: Duration::MAX,
        expiry_interval: Duration::MAX,
        max_probe: Duration::MAX,
        connection_idle: Duration::MAX,
        lasting_idle: Duration::MAX,
        ..Config::default()
    };
    let (mut network, nodes) = Network::joined(1, 12, &config);
    let key = Id::of(b"key");
    assert!(matches!(network.store(nodes[0], key, b"value"), Outcome::Stored(Ok(_))));
    // Gone, not only cut off: such a node would try to come back every minute.
    network.dead.insert(address(3));
    network.remove(nodes[3]);
    let never = network.engine.find_values(network.now, nodes[1], key, Some(Duration::MAX));
    network.run(secs(400 * 24 * HOUR));
    assert!(network.outcomes.get(&never).is_some_and(|outcomes| outcomes.iter().any(ends)));
    assert_eq!(network.find_values(nodes[7], key), [b"value"]);
}
