//! Whom a node believes, whom it keeps in its table, and what becomes of requests
//! to peers that lie, restart or die.

#[path = "support/network.rs"]
mod network;

use std::net::SocketAddr;

use khashmir::engine::Outcome;
use khashmir::krpc::message::{self, Message, Method, Request};
use khashmir::random::{seed_from_number, seeded};
use khashmir::{CallError, Config, Contact, Id, NodeKey, OperationError};
use network::*;

fn own() -> Id {
    Id::new([0; 20])
}

/// A node whose id is all zeros, so that ids fall into buckets by their first bit.
fn one_node(config: Config) -> (Network, NodeKey) {
    let mut network = Network::new(1);
    let node = network.node_named(address(0), own(), config);
    (network, node)
}

/// An id in the node's first bucket.
fn far(number: u8) -> Id {
    let mut bytes = [0; 20];
    (bytes[0], bytes[1]) = (0x80, number);
    Id::new(bytes)
}

fn failure(why: CallError) -> [Outcome; 1] {
    [Outcome::Contact(Err(OperationError::Call(why)))]
}

/// How many requests came to a peer since this was last asked.
fn requests(network: &mut Network, peer: SocketAddr) -> usize {
    network.at(peer).take(|message| matches!(message, Message::Request(_)).then_some(())).len()
}

#[test]
fn a_caller_gets_into_the_table_only_by_an_answer() {
    let (mut network, node) = one_node(Config::default());
    network.peer(address(1), far(1), silent());
    network.peer(address(2), far(2), polite());
    for peer in [1, 2] {
        network.ask(address(peer), address(0), b"1", &Method::Ping);
    }
    network.run(secs(30));
    assert_eq!(network.table(node), [Contact { id: far(2), addr: address(2) }]);
    // One who answers under another name than he called by stays out, too.
    network.peer(address(3), far(3), polite());
    let mut bytes = Vec::new();
    message::request(&mut bytes, b"1", &Contact { id: far(4), addr: address(3) }, &Method::Ping)
        .expect("short");
    network.say(address(3), address(0), &bytes);
    network.run(secs(30));
    assert_eq!(network.table(node).len(), 1);
    assert_eq!(network.stats(node).calls_pending, 0);
}

/// A node that comes back at another address is found there as soon as it calls, if it does not
/// answer at the old one; else anybody could say to be it.
#[test]
fn a_caller_with_a_known_id_has_moved_if_its_old_address_is_silent() {
    let (mut network, node) = one_node(Config::default());
    let before = network.peer(address(1), far(1), polite());
    network.introduce(node, address(1));
    let after = network.peer(address(2), far(1), polite());
    network.ask(address(2), address(0), b"1", &Method::Ping);
    network.run(secs(30));
    assert_eq!(requests(&mut network, address(2)), 0);
    assert_eq!(network.table(node), [before]);

    network.dead.insert(address(1));
    network.find_node(node, far(7));
    network.run(secs(20));
    network.ask(address(2), address(0), b"2", &Method::Ping);
    network.run(secs(30));
    assert_eq!(network.table(node), [after]);
}

#[test]
fn a_full_bucket_changes_only_for_the_dead() {
    let (mut network, node) = one_node(Config::default());
    for n in 1..=8 {
        network.peer(address(n), far(n as u8), polite());
        network.introduce(node, address(n));
    }
    let newcomer = network.peer(address(9), far(9), polite());
    let calls = |network: &mut Network| {
        network.ask(address(9), address(0), b"1", &Method::Ping);
        network.run(secs(30));
        let answers = network.at(address(9)).take(|m| matches!(m, Message::Response(_)).then_some(()));
        assert_eq!(answers.len(), 1, "the newcomer is answered");
        (1..=8).map(|n| requests(network, address(n))).collect::<Vec<_>>()
    };
    for n in 1..=8 {
        requests(&mut network, address(n));
    }
    // All were heard of a moment ago: nobody is asked.
    assert_eq!(calls(&mut network), [0; 8]);
    network.run(secs(15 * 60));
    // The one that was not heard of for longest is asked, and is there.
    assert_eq!(calls(&mut network), [1, 0, 0, 0, 0, 0, 0, 0]);
    assert!(!network.table(node).contains(&newcomer));
    // While that one waits for a place, its calls are no reason to ask others.
    network.dead.insert(address(2));
    assert_eq!(calls(&mut network), [0; 8]);
    assert!(!network.table(node).contains(&newcomer));
    // The next lookup finds out who is dead, and the newcomer takes that place at once.
    network.find_node(node, far(2));
    network.run(secs(30));
    let table = network.table(node);
    assert!(table.len() == 8 && table.contains(&newcomer) && table.iter().all(|c| c.addr != address(2)));
}

/// Two nodes, each with a full bucket where the other would belong, must not take
/// each other's questions for calls, and ask back for ever.
#[test]
fn full_buckets_do_not_ask_each_other_for_ever() {
    let config = Config { min_ping_interval: secs(1), ..Config::default() };
    let (mut network, a) = one_node(config.clone());
    let b = network.node_named(address(50), Id::new([0xff; 20]), config);
    for n in 1..=8u8 {
        let near = network.peer(address(n.into()), far(n), polite());
        network.introduce(a, near.addr);
        let mut bytes = *far(n).as_bytes();
        bytes[0] = 0x7f;
        let other = network.peer(address(20 + u32::from(n)), Id::new(bytes), polite());
        network.introduce(b, other.addr);
    }
    network.run(secs(60));
    network.introduce(a, address(50));
    network.run(secs(120));
    let before = network.sent;
    network.run(secs(30 * 60));
    assert_eq!(network.sent, before);
}

#[test]
fn three_failures_in_a_row_drop_a_contact() {
    let (mut network, node) = one_node(Config::default());
    network.peer(address(1), far(1), polite());
    network.introduce(node, address(1));
    // Another one, so that the node does not think itself cut off.
    network.peer(address(2), far(2), polite());
    network.introduce(node, address(2));
    let failures = |network: &Network| {
        let contacts = network.engine.contacts(node);
        contacts.iter().find(|info| info.contact.addr == address(1)).map(|info| info.failures)
    };
    let look = |network: &mut Network| {
        network.find_node(node, far(7));
        // The lookup does not wait for the dead, the request does.
        network.run(secs(10));
    };
    for dead in [true, true, false, true, true] {
        if dead {
            network.dead.insert(address(1));
        } else {
            network.dead.remove(&address(1));
        }
        look(&mut network);
        assert_eq!(failures(&network) == Some(0), !dead);
    }
    assert_eq!(failures(&network), Some(2));
    look(&mut network);
    assert_eq!(failures(&network), None);
}

#[test]
fn who_answers_under_another_id_is_no_longer_known_by_the_old_one() {
    let (mut network, node) = one_node(Config::default());
    network.peer(address(1), far(1), polite());
    network.introduce(node, address(1));
    network.peer(address(1), far(2), polite());
    assert_eq!(network.find_node(node, far(7)), []);
    assert_eq!(network.stats(node).contacts, 0);
    assert_eq!(network.stats(node).calls_failed, 1);
}

/// An address is one node: claiming ids by the dozen brings no more than one entry.
#[test]
fn one_address_takes_one_place_in_the_table() {
    let (mut network, node) = one_node(Config::default());
    network.peer(address(1), far(1), polite());
    for n in 1..=40 {
        network.at(address(1)).contact.id = far(n);
        network.ask(address(1), address(0), b"1", &Method::Ping);
        network.run(secs(2));
    }
    assert_eq!(network.table(node), [Contact { id: far(40), addr: address(1) }]);
}

/// Right and wrong answers, with the right and with wrong transaction ids, over the
/// right connection and over another.
#[test]
fn answers_that_nobody_asked_for_change_nothing() {
    let (mut network, node) = one_node(Config::default());
    let victim = network.peer(address(1), far(1), silent());
    let forger = network.peer(address(2), far(1), silent());
    network.say(forger.addr, address(0), b"");
    network.ask(forger.addr, address(0), b"1", &Method::Ping);
    network.run(secs(30));
    let operation = network.engine.add_contact(network.now, node, victim.addr, None);
    network.run(ms(500));
    let tid = network.at(victim.addr).take(|message| match message {
        Message::Request(Request { tid, .. }) => Some(tid.to_vec()),
        _ => None,
    });
    let [tid] = &tid[..] else { panic!("one request") };
    let answer = |tid: &[u8]| {
        let mut out = Vec::new();
        message::response_empty(&mut out, tid, &victim);
        message::error(&mut out, tid, message::Fault::GENERAL);
        out
    };
    network.say(forger.addr, address(0), &answer(tid));
    for at in 0..tid.len() {
        let mut other = tid.clone();
        other[at] ^= 1;
        network.say(victim.addr, address(0), &answer(&other));
    }
    network.say(victim.addr, address(0), &answer(&tid[..19]));
    network.say(victim.addr, address(0), &answer(&[tid.as_slice(), b"x"].concat()));
    network.run(secs(1));
    assert!(network.table(node).is_empty() && !network.outcomes.contains_key(&operation));
    network.say(victim.addr, address(0), &answer(tid));
    assert_eq!(network.wait(operation), [Outcome::Contact(Ok(victim))]);
    // And once more: a late one.
    network.say(victim.addr, address(0), &answer(tid));
    network.run(secs(1));
    assert!(network.outcomes.is_empty());
    let stats = network.stats(node);
    assert_eq!((stats.contacts, stats.calls_pending, stats.calls_failed), (1, 0, 1), "{stats:?}");
}

#[test]
fn lies_about_nodes_are_harmless() {
    let (mut network, node) = one_node(Config::default());
    let mut rng = seeded(seed_from_number(1));
    let raw = |entries: &str| format!("d3:rspd5:nodesl{entries}e6:senderd2:id20:").into_bytes();
    let entry = |host: &str, id: &str, port: &str| {
        format!("d4:host{}:{host}2:id{}:{id}4:porti{port}ee", host.len(), id.len())
    };
    let id = "bbbbbbbbbbbbbbbbbbbb";
    let zeros = "\0".repeat(20);
    let answers = [
        entry("localhost", id, "80"),
        entry("192.0.2.1", id, "0"),
        entry("192.0.2.1", id, "65536"),
        entry("192.0.2.1", id, "-1"),
        entry("192.0.2.1", "b", "1"),
        entry("0.0.0.0", id, "1"),
        entry("255.255.255.255", id, "1"),
        entry("224.0.0.1", id, "1"),
        entry("::", id, "1"),
        entry("::1", id, "1"),
        entry("", id, "1"),
        entry("192.0.2.1", &zeros, "1"),
        "i1e".to_owned(),
        "de".to_owned(),
        entry("localhost", id, "80").repeat(1500),
    ];
    for entries in answers {
        let contact = network.peer(address(1), far(1), silent());
        let mut polite = polite();
        let start = raw(&entries);
        network.at(address(1)).habit = Box::new(move |own, from, message, out| match message {
            Message::Request(Request { tid, method: Method::FindNode { .. }, .. }) => {
                let rest = [b"3:tid20:", *tid, b"3:typ3:rspe"].concat();
                let body = [&start[..], own.id.as_bytes(), b"ee", &rest].concat();
                out.extend(format!("{}:", body.len()).into_bytes());
                out.extend(body);
                out.push(b',');
            }
            _ => polite(own, from, message, out),
        });
        network.introduce(node, address(1));
        let begun = network.stats(node).calls_sent;
        assert_eq!(network.find_node(node, far(9)), [contact], "{entries:.60}");
        assert_eq!(network.stats(node).calls_sent, begun + 1, "{entries:.60}");
        assert_eq!(network.stats(node).contacts, 1);
    }
    // Thousands of nodes that could be there, and are not.
    let made_up = (0..5000).map(|n| Contact { id: Id::random(&mut rng), addr: address(1000 + n) });
    network.peer(address(1), far(1), names(made_up.take(64).collect()));
    network.introduce(node, address(1));
    let begun = (network.stats(node).calls_sent, network.now);
    assert_eq!(network.find_node(node, far(9)).len(), 1);
    assert!(network.stats(node).calls_sent - begun.0 <= 9, "no more than K for an answer");
    assert!(network.now - begun.1 <= secs(21));
}

/// A stranger may send no more than three times what came before he has been shown our
/// session. A request to him is long enough for that to be a whole answer.
#[test]
fn a_full_answer_fits_into_what_a_stranger_may_send() {
    for (k, v6) in [(8, false), (20, false), (8, true)] {
        let config = Config { k, ..Config::default() };
        let place = |n: u32| {
            if !v6 {
                return address(n);
            }
            let [.., a, b, c, d] = n.to_be_bytes();
            let long = [0x2001, 0xdb8, 0xffff, 0xffff, 0xffff, 0xffff].map(u16::to_be_bytes).concat();
            let octets: [u8; 16] = [long, vec![a, b, c, d]].concat().try_into().unwrap();
            (octets, 40_000).into()
        };
        let mut network = Network::new(1);
        let node = network.node(place(0), config);
        let stranger = network.peer(place(1), far(1), polite());
        let found: Vec<Contact> = (0..k as u8)
            .map(|n| Contact { id: Id::new([n; 20]), addr: place(0x6f6f_6f6f + u32::from(n)) })
            .collect();
        network.peer(place(2), far(2), names(vec![stranger]));
        network.introduce(node, place(2));
        network.engine.find_node(network.now, node, far(3), None);
        network.run_until(secs(5), |network| network.engine.stats(node).unwrap().calls_sent >= 3);
        let opening = network.intercept(place(1));
        let request = opening[0].len();
        let mut answer = Vec::new();
        message::response_nodes(&mut answer, &[1; 20], &stranger, &found);
        let answer = 13 + answer.len() + 3 * answer.len().div_ceil(253);
        assert!(answer <= 3 * request, "{answer} bytes of answer for {request}");
        assert!(request <= 1450 && request < answer / 3 + 40, "{request} for {answer}");
    }
}

/// The services of a host are not to be called because somebody elsewhere says so.
#[test]
fn loopback_addresses_are_taken_from_loopback_only() {
    let mut network = Network::new(1);
    let node = network.node(address(0), Config::default());
    let local = (1..=8u8).map(|n| Contact { id: far(n), addr: ([127, 0, 0, 1], u16::from(n)).into() });
    network.peer(address(1), far(100), names(local.collect()));
    network.introduce(node, address(1));
    let before = network.stats(node).calls_sent;
    network.find_node(node, far(9));
    assert_eq!(network.stats(node).calls_sent - before, 1);
}

#[test]
fn lookups_among_the_dead_end_in_time() {
    let (mut network, nodes) = Network::joined(6, 40, &Config::default());
    for n in 24..40 {
        network.dead.insert(address(n));
    }
    for &node in &nodes[..24] {
        let begun = network.now;
        let key = Id::random(&mut seeded(seed_from_number(u64::from(network.sent as u32))));
        let operation = network.engine.find_node(network.now, node, key, None);
        assert!(matches!(network.wait(operation)[..], [Outcome::Nodes(_)]));
        assert!(network.now - begun <= secs(15), "{:?}", network.now - begun);
    }
    let outcome = network.introduce(nodes[0], address(30));
    assert!(outcome == failure(CallError::Timeout) || outcome == failure(CallError::Unreachable));
}

/// One that has failed is not asked again because others still name it, until it answers.
#[test]
fn contacts_that_failed_are_remembered_for_a_while() {
    let (mut network, node) = one_node(Config::default());
    let dead = network.peer(address(2), far(2), polite());
    network.peer(address(1), far(1), names(vec![dead]));
    network.introduce(node, address(1));
    network.dead.insert(dead.addr);
    let calls = |network: &mut Network| {
        let before = network.stats(node).calls_sent;
        network.find_node(node, far(7));
        network.run(secs(15));
        network.stats(node).calls_sent - before
    };
    assert_eq!(calls(&mut network), 2);
    assert_eq!(calls(&mut network), 1, "it was asked a short time ago");
    // The very one that is looked for is worth another try.
    network.dead.clear();
    assert!(network.find_node(node, dead.id).contains(&dead));
    network.dead.insert(dead.addr);
    network.run(secs(6 * 60));
    assert!(calls(&mut network) >= 2, "it has answered since, and that was long ago");
}

/// Those who are late are not waited for: others are asked beside them.
#[test]
fn the_dead_do_not_hold_each_other_up() {
    let (mut network, node) = one_node(Config::default());
    for n in 1..=8 {
        network.peer(address(n), far(n as u8), polite());
        network.introduce(node, address(n));
    }
    for n in 1..8 {
        network.dead.insert(address(n));
    }
    let begun = network.now;
    assert_eq!(network.find_node(node, far(1)), [Contact { id: far(8), addr: address(8) }]);
    assert!(network.now - begun < secs(4), "{:?}", network.now - begun);
    network.run(secs(10));
    assert_eq!(network.stats(node).calls_failed, 7, "they still have all their time to answer");
}

/// A peer that restarts loses what it was asked. It is asked again as soon as it shows.
#[test]
fn who_restarts_is_asked_again_at_once() {
    for same_id in [true, false] {
        let (mut network, node) = one_node(Config::default());
        let mut peer = network.node_named(address(1), far(1), Config::default());
        network.introduce(node, address(1));
        for round in 0..5u8 {
            let id = if same_id { far(1) } else { far(2 + round) };
            network.remove(peer);
            peer = network.node_named(address(1), id, Config::default());
            let begun = network.now;
            let found = network.find_node(node, far(100));
            assert_eq!(found, if same_id { vec![network.contact(peer)] } else { vec![] });
            assert!(network.now - begun < secs(2), "{:?}", network.now - begun);
            network.run(secs(1));
            assert_eq!(network.stats(node).calls_pending, 0);
            network.introduce(node, address(1));
            assert_eq!(network.table(node), [network.contact(peer)]);
        }
    }
}

#[test]
fn lookups_go_on_when_peers_restart_in_their_middle() {
    for seed in 50..56 {
        let _seed = Seed(seed);
        let (mut network, nodes) = Network::joined(seed, 24, &Config::default());
        let begun = network.now;
        let operations: Vec<_> = nodes[12..]
            .iter()
            .map(|&node| network.engine.find_node(network.now, node, Id::of(b"target"), None))
            .collect();
        network.run(ms(4 + seed % 5 * 4));
        for &node in &nodes[..12] {
            let contact = network.contact(node);
            network.remove(node);
            network.node_named(contact.addr, contact.id, Config::default());
        }
        for operation in operations {
            let Outcome::Nodes(Ok(found)) = the_one(network.wait(operation)) else { panic!("no nodes") };
            assert_eq!(found.len(), 8);
        }
        assert!(network.now - begun < secs(3), "{:?}", network.now - begun);
    }
}

/// Who asks for a node that is known gets that one alone; but not when it is no use
/// to him: then those around it.
#[test]
fn a_known_target_is_named_alone_if_it_is_of_use() {
    let local = SocketAddr::new(std::net::Ipv6Addr::UNSPECIFIED.into(), 4000);
    let mut network = Network::new(1);
    let node =
        network.node_with(address(0), local, khashmir::NodeOptions { id: Some(own()), ..Default::default() });
    let peers: Vec<_> = (1..=5).map(|n| network.peer(address(n), far(n as u8), polite())).collect();
    for peer in &peers {
        network.introduce(node, peer.addr);
    }
    let named = |network: &mut Network, peer: SocketAddr, target: Id| {
        network.at(peer).received.clear();
        network.ask(peer, address(0), b"1", &Method::FindNode { target });
        network.run(secs(12));
        let mut answers = network.at(peer).take(|message| match message {
            Message::Response(response) => response.nodes().map(Iterator::collect::<Vec<_>>),
            _ => None,
        });
        assert_eq!(answers.len(), 1);
        answers.remove(0)
    };
    assert_eq!(named(&mut network, peers[0].addr, far(3)), [peers[2]]);
    // Those near to a name, not the one who bears it, when he asks himself.
    assert_eq!(named(&mut network, peers[2].addr, far(3)).len(), 4);
    // It has left a request unanswered.
    network.dead.insert(peers[2].addr);
    network.find_node(node, far(3));
    network.run(secs(10));
    assert!(named(&mut network, peers[0].addr, far(3)).len() >= 3);
    // It cannot be reached from there.
    let other = "[2001:db8::1]:4000".parse().expect("an address");
    let newcomer = network.peer(other, far(9), polite());
    let last = network.peer("[2001:db8::2]:4000".parse().expect("an address"), far(10), polite());
    network.introduce(node, newcomer.addr);
    assert_eq!(named(&mut network, last.addr, far(4)), [newcomer]);
}
