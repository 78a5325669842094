//! What a node does for others when its owner wants less than all, and the owner's say in
//! which values it takes.

#[path = "support/network.rs"]
mod network;

use std::net::SocketAddr;

use khashmir::engine::Outcome;
use khashmir::krpc::message::{self, Message, Method, Offer, Request};
use khashmir::{CallError, Config, Contact, Id, NodeKey, OperationError, Role, Validator};
use network::*;

const DAY: u32 = 24 * 60 * 60;

fn with_role(role: Role) -> Config {
    Config { role, ..Config::default() }
}

fn with(validator: Validator) -> Config {
    Config { validator: Some(validator), ..Config::default() }
}

fn one_node(config: Config) -> (Network, NodeKey) {
    let mut network = Network::new(1);
    let node = network.node(address(0), config);
    for number in [1, 2] {
        network.peer(address(number), Id::of(&[number as u8]), polite());
        // It has shown that it is there.
        network.ask(address(number), address(0), b"0", &Method::Ping);
        network.run(secs(1));
    }
    (network, node)
}

/// What comes back, in short.
fn answer(network: &mut Network, peer: u32, method: &Method<'_>) -> String {
    network.at(address(peer)).received.clear();
    network.ask(address(peer), address(0), b"1", method);
    network.run(secs(2));
    let answers = network.at(address(peer)).take(|message| match message {
        Message::Response(response) => Some(match (response.values(), response.wants(64), response.life()) {
            (Some(values), ..) => format!("{} values", values.count()),
            (_, Some(wants), _) => format!("wants {wants:b}"),
            (.., Some(life)) => format!("for {life} s"),
            _ if response.nodes().is_some() => "nodes".into(),
            _ => "empty".into(),
        }),
        Message::Error(reply) => Some(reply.error.to_string()),
        Message::Request(_) => None,
    });
    let [answer] = &answers[..] else { panic!("{answers:?}") };
    answer.clone()
}

fn store<'a>(key: &Id, value: &'a [u8]) -> Method<'a> {
    Method::StoreValue { key: *key, value, life: None }
}

// -- how long a value is kept

#[test]
fn the_answer_to_a_store_says_how_long_the_value_is_kept() {
    let (mut network, node) = one_node(Config::default());
    let key = Id::of(b"key");
    let mut say = |value: &'static [u8], age: Option<u32>, life| {
        let method = match age {
            None => Method::StoreValue { key, value, life },
            Some(age) => Method::HandOn { key, value, age, life },
        };
        answer(&mut network, 1, &method)
    };
    assert_eq!(say(b"1", None, None), format!("for {DAY} s"));
    assert_eq!(say(b"2", None, Some(100)), "for 100 s");
    assert_eq!(say(b"3", None, Some(u32::MAX)), format!("for {DAY} s"), "no longer than others");
    assert_eq!(say(b"4", Some(1000), None), format!("for {} s", DAY - 1000));
    assert_eq!(say(b"5", Some(1000), Some(100)), "for 100 s");
    assert_eq!(say(b"6", Some(DAY - 10), Some(100)), "for 10 s");
    assert!(say(b"7", None, Some(0)).contains("older than"));
    assert!(say(b"8", Some(u32::MAX), Some(100)).contains("older than"));
    assert_eq!(answer(&mut network, 1, &Method::FindValue { key, from: None }), "6 values");
    network.run(secs(150));
    assert_eq!(answer(&mut network, 1, &Method::FindValue { key, from: None }), "3 values");
    assert_eq!(network.stats(node).values_invalid, 0);
}

/// Whoever is handed a value on does not keep it for longer than its publisher said, though he
/// keeps others for longer than who hands it on.
#[test]
fn a_life_of_its_own_goes_on_with_the_value() {
    let key = Id::of(b"key");
    let mut network = Network::new(1);
    let giver = network.node(address(0), Config { hand_on_interval: secs(60), ..Config::default() });
    network.peer(address(1), Id::of(b"publisher"), polite());
    network.ask(address(1), address(0), b"0", &Method::Ping);
    network.run(secs(1));
    for (value, life) in [(&b"short"[..], Some(4 * 3600)), (b"usual", None)] {
        network.ask(address(1), address(0), b"1", &Method::StoreValue { key, value, life });
    }
    network.run(secs(10));
    network.dead.insert(address(1));
    let week = Config { value_lifetime: secs(7 * 24 * 3600), ..Config::default() };
    let taker = network.node(address(2), week);
    network.introduce(taker, address(0));
    network.run(secs(3600));
    assert_eq!(network.stats(taker).values, 2, "they were handed on");
    network.dead.insert(address(0));
    network.run(secs(2 * 3600));
    let mut found = network.find_values(taker, key);
    found.sort();
    assert_eq!(found, [b"short", b"usual"]);
    network.run(secs(3600));
    assert_eq!(network.find_values(taker, key), [b"usual"]);
    network.run(secs(6 * 24 * 3600));
    assert_eq!(network.find_values(taker, key), [b"usual"]);
    network.run(secs(24 * 3600));
    assert_eq!(network.find_values(taker, key), [b""; 0]);
    assert_eq!(network.stats(giver).values_handed_on, 2);
}

// -- the validator

fn no_short_ones() -> Validator {
    Validator::new(|_, value, _| if value.len() > 2 { Ok(()) } else { Err("too short for me".into()) })
}

#[test]
fn what_the_validator_refuses_is_not_stored() {
    let (mut network, node) = one_node(with(no_short_ones()));
    let key = Id::of(b"key");
    let aged = Method::HandOn { key, value: b"no", age: 10, life: None };
    assert_eq!(answer(&mut network, 1, &store(&key, b"no")), "too short for me");
    assert_eq!(answer(&mut network, 1, &aged), "too short for me");
    assert_eq!(answer(&mut network, 1, &store(&key, b"yes")), format!("for {DAY} s"));
    let stats = network.stats(node);
    assert_eq!((stats.values, stats.values_invalid), (1, 2));
    // Nor for the node's owner, who is told at once.
    let sent = network.sent;
    let operation = network.engine.store_value(network.now, node, key, b"no".to_vec(), None, None);
    let refused = Outcome::Stored(Err(OperationError::ValueInvalid("too short for me".into())));
    assert_eq!(network.wait(operation), [refused]);
    assert_eq!((network.sent, network.stats(node).values), (sent, 1));
    assert_eq!(network.stats(node).values_published, 0);
}

/// It is shown the key, the value and where that comes from; nothing that is too large.
#[test]
fn the_validator_is_told_key_value_and_sender() {
    let only: SocketAddr = address(1);
    let key = Id::of(b"key");
    let check = move |k: &Id, value: &[u8], sender: Option<SocketAddr>| {
        assert!(*k == key && value.len() <= 1000);
        match sender {
            Some(from) if from != only => Err(format!("not from {from}")),
            _ => Ok(()),
        }
    };
    let (mut network, node) = one_node(Config { max_value_size: 1000, ..with(Validator::new(check)) });
    assert_eq!(answer(&mut network, 2, &store(&key, b"x")), format!("not from {}", address(2)));
    assert_eq!(answer(&mut network, 1, &store(&key, b"x")), format!("for {DAY} s"));
    assert!(answer(&mut network, 1, &store(&key, &[1; 1001])).contains("larger than"));
    assert!(matches!(network.store(node, key, b"own"), Outcome::Stored(Ok(_))));
    let mut found = network.find_values(node, key);
    found.sort();
    assert_eq!(found, [b"own".to_vec(), b"x".to_vec()]);
}

/// Values that a peer made up do not reach who searches, and do not keep the search going.
#[test]
fn what_the_validator_refuses_is_not_found() {
    let key = Id::of(b"good");
    let mut asked = 0;
    let mut polite = polite();
    let habit: Habit = Box::new(move |own, from, message, out| match message {
        Message::Request(Request { tid, method: Method::FindValue { .. }, .. }) => {
            asked += 1;
            let beside = message::ValuesAnswer { closer: &[], more: message::Page::new(b"on and on") };
            message::response_page(out, tid, own, [&[asked; 3][..], b"good"], beside);
        }
        _ => polite(own, from, message, out),
    });
    let mut network = Network::new(1);
    let node = network.node(address(0), with(Validator::immutable()));
    network.peer(address(1), Id::of(b"liar"), habit);
    network.introduce(node, address(1));
    assert_eq!(network.find_values(node, key), [b"good"]);
    // What came first was news; of the next page nothing was.
    assert_eq!(network.stats(node).values_invalid, 2);
    assert!(matches!(network.store(node, key, b"good"), Outcome::Stored(Ok(_))));
    let other = network.store(node, key, b"evil");
    assert!(matches!(other, Outcome::Stored(Err(OperationError::ValueInvalid(_)))), "{other:?}");
}

/// What cannot be valid is not asked for when it is offered.
#[test]
fn what_cannot_be_valid_is_not_wanted() {
    let key = Id::of(b"good");
    let mut bytes = Vec::new();
    for value in [&b"evil"[..], b"good", b"x"] {
        Offer::add(&mut bytes, &Id::of(value), 10);
    }
    let offered = Method::OfferValues { key, offer: Offer::new(&bytes).expect("an offer") };
    for (config, expected) in [
        (Config::default(), "wants 111"),
        (with(no_short_ones()), "wants 111"),
        (with(Validator::immutable()), "wants 10"),
        (with_role(Role::ReadOnly), "wants 0"),
    ] {
        let (mut network, _) = one_node(config);
        assert_eq!(answer(&mut network, 1, &offered), expected);
    }
}

#[test]
fn validators_are_equal_when_they_are_the_same() {
    let (a, b) = (no_short_ones(), no_short_ones());
    assert!(a == a.clone() && a != b && a != Validator::immutable());
    assert_eq!(Validator::immutable(), Validator::immutable());
    assert_eq!(with(a.clone()), with(a));
    assert_ne!(with(b), Config::default());
    assert_eq!(format!("{:?}", Validator::immutable()), "Validator::immutable()");
    let key = Id::of(b"value");
    assert_eq!(Validator::immutable().check(&key, b"value", None), Ok(()));
    assert!(Validator::immutable().check(&key, b"another", None).is_err());
}

// -- roles

#[test]
fn a_read_only_node_answers_and_keeps_nothing_for_others() {
    let (mut network, node) = one_node(with_role(Role::ReadOnly));
    let key = Id::of(b"key");
    let refusal = "this node keeps nothing for others";
    assert_eq!(answer(&mut network, 1, &store(&key, b"x")), refusal);
    let aged = Method::HandOn { key, value: b"x", age: 10, life: None };
    assert_eq!(answer(&mut network, 1, &aged), refusal);
    assert_eq!(answer(&mut network, 1, &Method::FindNode { target: key }), "nodes");
    assert_eq!(answer(&mut network, 1, &Method::Ping), "empty");
    assert_eq!(network.stats(node).values, 0);
    // What its owner stores it keeps, and gives out.
    assert!(matches!(network.store(node, key, b"own"), Outcome::Stored(Ok(_))));
    assert_eq!(network.stats(node).values, 1);
    assert_eq!(answer(&mut network, 1, &Method::FindValue { key, from: None }), "1 values");
    // It is a contact as any.
    let other = network.node(address(5), Config::default());
    assert!(matches!(network.introduce(other, address(0))[..], [Outcome::Contact(Ok(_))]));
    assert_eq!(network.table(other).len(), 1);
}

#[test]
fn a_client_answers_each_request_with_an_error() {
    let (mut network, node) = one_node(with_role(Role::Client));
    let key = Id::of(b"key");
    let mut bytes = Vec::new();
    Offer::add(&mut bytes, &Id::of(b"value"), 10);
    let offer = Offer::new(&bytes).expect("an offer");
    for method in [
        Method::Ping,
        Method::FindNode { target: key },
        Method::OfferValues { key, offer },
        Method::FindValue { key, from: None },
        store(&key, b"value"),
        Method::HandOn { key, value: b"value", age: 10, life: None },
    ] {
        let text = answer(&mut network, 1, &method);
        assert_eq!(text, "this node is a client: it answers no requests", "{method:?}");
    }
    let stats = network.stats(node);
    // Nobody was asked whether he is there, either.
    assert_eq!((stats.values, stats.calls_sent, stats.contacts), (0, 0, 0));
}

/// A client stores and finds as anybody, and nobody has it in his table.
#[test]
fn a_client_uses_a_network_without_being_part_of_it() {
    let (mut network, nodes) = Network::joined(3, 24, &Config::default());
    let client = network.node(address(500), with_role(Role::Client));
    let own = network.contact(client);
    // The key is nearest to the client itself.
    let key = own.id.beside();
    let before = network.now;
    assert!(matches!(network.introduce(client, address(0))[..], [Outcome::Contact(Ok(_))]));
    let close = network.engine.find_close_nodes(network.now, client, None);
    network.wait(close);
    assert!(network.table(client).len() >= 8);
    assert!(matches!(network.store(client, key, b"value"), Outcome::Stored(Ok(_))));
    assert_eq!(network.stats(client).values, 0);
    let held = nodes.iter().filter(|&&node| network.stats(node).values == 1).count();
    assert_eq!(held, 8);
    assert_eq!(network.find_values(client, key), [b"value"]);
    assert_eq!(network.find_values(nodes[20], key), [b"value"]);
    assert!(network.now.since(before) < secs(10));
    // Others ask who calls, look for what is near it, and refresh their tables.
    for &node in &nodes {
        network.find_node(node, own.id);
        network.engine.refresh_table(network.now, node);
    }
    network.run(secs(3600));
    for &node in &nodes {
        assert!(!network.table(node).contains(&own));
    }
    // Whoever asks for it by its address is told what it is.
    let refused = network.introduce(nodes[3], address(500));
    let [Outcome::Contact(Err(OperationError::Call(CallError::Refused(why))))] = &refused[..] else {
        panic!("{refused:?}")
    };
    assert!(why.contains("client"), "{why}");
}

#[test]
fn a_client_that_reaches_nobody_has_stored_nothing() {
    let mut network = Network::new(1);
    let client = network.node(address(0), with_role(Role::Client));
    assert!(matches!(network.store(client, Id::of(b"key"), b"value"), Outcome::Stored(Err(_))));
    let contact = Contact { id: Id::of(b"peer"), addr: address(1) };
    network.peer(contact.addr, contact.id, polite());
    network.introduce(client, contact.addr);
    assert!(matches!(network.store(client, Id::of(b"key"), b"value"), Outcome::Stored(Ok(_))));
    network.dead.insert(contact.addr);
    assert!(matches!(network.store(client, Id::of(b"key"), b"other"), Outcome::Stored(Err(_))));
    assert_eq!(network.stats(client).values, 0);
}

/// One that was a node like any before is forgotten by those who knew it, though it is there.
#[test]
fn a_node_that_has_become_a_client_leaves_all_tables() {
    let (mut network, nodes) = Network::joined(4, 16, &Config::default());
    let (addr, id) = (address(7), network.contact(nodes[7]).id);
    let knew = |network: &Network| {
        let rest = nodes.iter().filter(|&&node| node != nodes[7]);
        rest.filter(|&&node| network.table(node).iter().any(|contact| contact.id == id)).count()
    };
    assert!(knew(&network) > 8);
    network.remove(nodes[7]);
    let client = network.node_named(addr, id, with_role(Role::Client));
    network.introduce(client, address(0));
    for round in 0..6u8 {
        for (n, &node) in nodes.iter().enumerate().filter(|(n, _)| *n != 7) {
            network.find_node(node, id.beside());
            network.find_values(node, Id::of(&[round, n as u8]));
        }
        network.run(secs(1800));
    }
    assert_eq!(knew(&network), 0);
}
