//! What an owner is told: who has a value and until when, who has not and why, who brought
//! which value, and what went wrong.

#[path = "support/network.rs"]
mod network;

use khashmir::engine::Outcome;
use khashmir::krpc::message::{self, Fault, Message, Method, Request};
use khashmir::time::UnixTime;
use khashmir::{
    CallError, Config, Contact, Effort, FoundValues, Id, NodeKey, OperationError, Search, StoreReply, Stored,
};
use network::*;

const DAY: u64 = 24 * 3600;

/// The key of all values here; nothing is nearer to it than a peer of `named`.
fn key() -> Id {
    Id::new([0; 20])
}

fn named(first: u8) -> Id {
    Id::new([first; 20])
}

/// A time of day so many seconds after the start. What is done here takes no whole second.
fn after(seconds: u64) -> UnixTime {
    START.plus(secs(seconds))
}

fn accepted(seconds: u64) -> StoreReply {
    StoreReply::Accepted { until: after(seconds) }
}

/// Polite, but answers a request to store as `store` does.
fn stores(mut store: impl FnMut(&Contact, &[u8], &mut Vec<u8>) + 'static) -> Habit {
    let mut polite = polite();
    Box::new(move |own, from, message, out| match message {
        Message::Request(Request { tid, method: Method::StoreValue { .. }, .. }) => store(own, tid, out),
        _ => polite(own, from, message, out),
    })
}

fn refuses() -> Habit {
    stores(|_, tid, out| message::error(out, tid, Fault::Text(b"not that one")))
}

fn says_nothing() -> Habit {
    stores(|_, _, _| {})
}

/// Keeps what it takes for so long.
fn keeps(seconds: u32) -> Habit {
    stores(move |own, tid, out| message::response_stored(out, tid, own, seconds))
}

/// Answers with a list of nodes that is none.
fn babbles() -> Habit {
    stores(|own, tid, out| {
        let id = own.id.as_bytes();
        out.extend_from_slice(&netstring(&[
            b"d3:rspd5:nodesi1e6:senderd4:host9:127.0.0.12:id20:",
            &id[..],
            b"4:porti1eee3:tid20:",
            tid,
            b"3:typ3:rspe",
        ]));
    })
}

fn netstring(parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    [format!("{}:", body.len()).as_bytes(), &body, b","].concat()
}

/// A node that is far from the key, and peers nearer to it, the first one nearest.
fn among(habits: Vec<Habit>, config: Config) -> (Network, NodeKey, Vec<Contact>) {
    let mut network = Network::new(1);
    let node = network.node_named(address(0), named(0xff), config);
    let peers = habits.into_iter().zip(1u8..).map(|(habit, n)| {
        let peer = network.peer(address(n.into()), named(n), habit);
        network.introduce(node, peer.addr);
        peer
    });
    let peers = peers.collect();
    (network, node, peers)
}

fn replies(stored: &Stored) -> Vec<(Contact, StoreReply)> {
    stored.receipts.iter().map(|receipt| (receipt.contact, receipt.reply.clone())).collect()
}

#[track_caller]
fn stored(outcome: Outcome) -> Stored {
    match outcome {
        Outcome::Stored(Ok(stored)) => stored,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn too_few_of(outcome: Outcome) -> Stored {
    match outcome {
        Outcome::Stored(Err(OperationError::TooFew(stored))) => *stored,
        other => panic!("{other:?}"),
    }
}

// Values on their way

#[test]
fn each_node_that_is_asked_leaves_a_receipt() {
    let habits = vec![polite(), keeps(100), refuses(), babbles(), says_nothing()];
    let (mut network, node, peers) = among(habits, Config { k: 6, store_redundancy: 3, ..Config::default() });
    let outcome = stored(network.store(node, key(), b"value"));
    let own = network.contact(node);
    let expected = [
        // One of 2003 does not say for how long, and keeps it as long as any.
        (peers[0], accepted(DAY)),
        (peers[1], accepted(100)),
        (peers[2], StoreReply::Refused("not that one".into())),
        (peers[3], StoreReply::NoAnswer(CallError::Malformed)),
        (peers[4], StoreReply::Silent),
        (own, accepted(DAY)),
    ];
    assert_eq!(replies(&outcome), expected);
    assert_eq!(outcome.needed, 3);
    assert!(outcome.accepted().eq([&peers[0], &peers[1], &own]));
    assert!(outcome.refused().eq([(&peers[2], "not that one")]));
    assert_eq!(outcome.until(), Some(after(100)), "then only two of the three are left");
    assert!(outcome.renewed);
    assert_eq!(outcome.effort, Effort { hops: 0, asked: 5, answered: 5, failed: 0 });
    assert_eq!(
        outcome.to_string(),
        "3 of 6 nodes took the value, 3 had to; 1 refused it, the first at 10.0.0.4:4000: not that one; \
         1 did not answer; 1 have not answered yet"
    );
}

#[test]
fn too_few_is_told_with_all_receipts_when_nobody_is_waited_for_any_more() {
    let habits = vec![polite(), refuses(), says_nothing()];
    let (mut network, node, peers) = among(habits, Config { k: 3, store_redundancy: 2, ..Config::default() });
    let outcome = network.store(node, key(), b"value");
    let text = match &outcome {
        Outcome::Stored(Err(error)) => error.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        text,
        "too few nodes: 1 of 3 nodes took the value, 2 had to; 1 refused it, the first at 10.0.0.3:4000: \
         not that one; 1 did not answer: store it again later"
    );
    let outcome = too_few_of(outcome);
    let expected = [
        (peers[0], accepted(DAY)),
        (peers[1], StoreReply::Refused("not that one".into())),
        (peers[2], StoreReply::NoAnswer(CallError::Timeout)),
    ];
    assert_eq!((replies(&outcome), outcome.needed), (expected.to_vec(), 2));
    assert_eq!((outcome.until(), outcome.renewed), (Some(after(DAY)), false));
    assert_eq!(network.stats(node).values_published, 0, "what failed is not renewed");
}

#[test]
fn who_is_cut_off_is_told_so() {
    let (mut network, node, peers) = among(vec![polite(), polite()], Config::default());
    network.dead.extend(peers.iter().map(|peer| peer.addr));
    let outcome = network.store(node, key(), b"value");
    let Outcome::Stored(Err(error)) = &outcome else { panic!("{outcome:?}") };
    assert!(
        error.to_string().ends_with("no other node could be found: look at the network, and store it again")
    );
    let outcome = too_few_of(outcome);
    let asked = outcome.effort.asked;
    assert!(asked >= 2 && outcome.effort == Effort { hops: 0, asked, answered: 0, failed: asked });
    assert!(outcome.accepted().eq([&network.contact(node)]), "what it has itself it has");
}

/// The request to store that a peer has got, by its number.
fn store_request(network: &mut Network, peer: &Contact) -> Vec<u8> {
    let requests = network.at(peer.addr).take(|message| match message {
        Message::Request(Request { tid, method: Method::StoreValue { .. }, .. }) => Some(tid.to_vec()),
        _ => None,
    });
    requests.first().expect("a request to store").clone()
}

fn answer_late(network: &mut Network, peer: &Contact) {
    let tid = store_request(network, peer);
    let mut answer = Vec::new();
    message::response_stored(&mut answer, &tid, peer, 50);
    network.say(peer.addr, address(0), &answer);
}

#[test]
fn a_late_receipt_counts_while_it_is_needed() {
    let config = Config { k: 3, store_redundancy: 3, ..Config::default() };
    let (mut network, node, peers) = among(vec![polite(), polite(), says_nothing()], config);
    let begun = network.now;
    let operation = network.engine.store_value(network.now, node, key(), b"value".to_vec(), None, None);
    network.run(secs(5));
    assert!(network.outcomes.is_empty(), "it is silent, but needed");
    answer_late(&mut network, &peers[2]);
    let outcome = stored(the_one(network.wait(operation)));
    let passed = (network.now - begun).as_secs();
    assert_eq!(replies(&outcome)[2], (peers[2], accepted(50 + passed)));
}

#[test]
fn a_late_receipt_changes_nothing_when_all_is_told() {
    let config = Config { k: 3, store_redundancy: 2, ..Config::default() };
    let (mut network, node, peers) = among(vec![polite(), polite(), says_nothing()], config);
    let outcome = stored(network.store(node, key(), b"value"));
    assert_eq!(replies(&outcome)[2], (peers[2], StoreReply::Silent));
    answer_late(&mut network, &peers[2]);
    network.run(secs(60));
    assert!(network.outcomes.is_empty(), "an operation ends once");
    assert_eq!(network.stats(node).calls_failed, 0, "it was waited for all the same");
}

#[test]
fn the_node_itself_leaves_a_receipt() {
    let mut network = Network::new(1);
    let alone = network.node(address(0), Config::default());
    let outcome = stored(network.store(alone, key(), b"value"));
    assert_eq!(replies(&outcome), [(network.contact(alone), accepted(DAY))]);
    assert_eq!((outcome.needed, outcome.effort), (1, Effort::default()));

    let full = network.node(address(1), Config { max_stored_bytes: 10, ..Config::default() });
    let outcome = too_few_of(network.store(full, key(), b"value"));
    let StoreReply::Refused(reason) = &outcome.receipts[0].reply else { panic!("{outcome:?}") };
    assert!(reason.contains("no room"), "{reason}");
    assert_eq!((outcome.receipts.len(), outcome.until()), (1, None));
}

#[test]
fn a_store_that_runs_out_of_time_tells_what_has_become_of_the_value() {
    let config = || Config { k: 3, store_redundancy: 2, ..Config::default() };
    for (habits, enough) in [
        (vec![polite(), polite(), says_nothing()], true),
        (vec![polite(), says_nothing(), says_nothing()], false),
    ] {
        let (mut network, node, peers) = among(habits, config());
        // Neither late nor silent yet.
        let limit = Some(ms(60));
        let operation = network.engine.store_value(network.now, node, key(), b"value".to_vec(), None, limit);
        let outcome = the_one(network.wait(operation));
        let outcome = if enough { stored(outcome) } else { too_few_of(outcome) };
        assert_eq!(replies(&outcome)[0], (peers[0], accepted(DAY)));
        assert_eq!(replies(&outcome)[2], (peers[2], StoreReply::Silent));
        assert_eq!(network.stats(node).values_published, u64::from(enough));
    }
}

/// It is told what helps, not more.
#[test]
fn who_is_refused_is_not_told_to_try_again() {
    for (habits, advice) in [
        (vec![refuses(), polite(), refuses()], "; to store it again helps only once the reason is gone"),
        (vec![refuses(), polite(), says_nothing()], "1 did not answer: store it again later"),
    ] {
        let config = Config { k: 3, store_redundancy: 2, ..Config::default() };
        let (mut network, node, _) = among(habits, config);
        let Outcome::Stored(Err(error)) = network.store(node, key(), b"value") else {
            panic!("it is stored")
        };
        let text = error.to_string();
        assert!(text.contains("at 10.0.0.2:4000: not that one") && text.ends_with(advice), "{text}");
    }
}

// The life of a value

/// A value that is there for longer is kept for longer, and that is what its holders say.
#[test]
fn a_shorter_life_leaves_a_longer_one_as_it_is() {
    let (mut network, nodes) = Network::joined(1, 3, &Config::default());
    let mut store = |node, value: &[u8], life| {
        let operation = network.engine.store_value(network.now, node, key(), value.to_vec(), life, None);
        let outcome = stored(the_one(network.wait(operation)));
        assert_eq!(outcome.receipts.len(), 3);
        let now = START.0 + (network.now.as_micros() / 1_000_000) as i64;
        let until = |receipt: khashmir::Receipt| match receipt.reply {
            StoreReply::Accepted { until } => until.0 - now,
            other => panic!("{other:?}"),
        };
        outcome.receipts.into_iter().map(until).collect::<Vec<_>>()
    };
    let all = |lives: Vec<i64>, life: u64| lives.iter().all(|left| (life as i64 - left).abs() <= 2);
    assert!(all(store(nodes[0], b"value", None), DAY));
    // From whomever that comes.
    for node in [nodes[0], nodes[1]] {
        let lives = store(node, b"value", Some(secs(100)));
        assert!(all(lives.clone(), DAY), "{lives:?}");
    }
    assert!(all(store(nodes[0], b"other", Some(secs(100))), 100));
    assert!(all(store(nodes[0], b"other", Some(secs(200))), 200));
}

#[test]
fn a_life_of_its_own_goes_with_the_value_which_is_not_renewed() {
    let config = Config { k: 3, store_redundancy: 2, ..Config::default() };
    let (mut network, node, peers) = among(vec![keeps(90), polite()], config);
    let life = Some(ms(90_900));
    let operation = network.engine.store_value(network.now, node, key(), b"value".to_vec(), life, None);
    let outcome = stored(the_one(network.wait(operation)));
    let own = network.contact(node);
    // One of 2003 knows nothing of it.
    assert_eq!(replies(&outcome), [(peers[0], accepted(90)), (peers[1], accepted(DAY)), (own, accepted(90))]);
    let lives = network.at(peers[0].addr).take(|message| match message {
        Message::Request(Request { method: Method::StoreValue { life, .. }, .. }) => Some(*life),
        _ => None,
    });
    assert_eq!(lives, [Some(90)], "in whole seconds, and no longer than it was to be");
    assert_eq!(network.stats(node).values_published, 0);
}

#[test]
fn a_value_that_is_renewed_is_not_any_more_when_it_is_stored_with_an_end() {
    let mut network = Network::new(1);
    let node = network.node(address(0), Config::default());
    network.store(node, key(), b"value");
    network.store(node, key(), b"another");
    assert_eq!(network.stats(node).values_published, 2);
    let life = Some(secs(60));
    let operation = network.engine.store_value(network.now, node, key(), b"value".to_vec(), life, None);
    assert!(!stored(the_one(network.wait(operation))).renewed);
    assert_eq!(network.stats(node).values_published, 1);
    // And is again, when it is stored without.
    network.store(node, key(), b"value");
    assert_eq!(network.stats(node).values_published, 2);
}

#[test]
fn a_value_that_there_is_no_room_to_renew_is_stored_once_and_its_owner_told() {
    let mut network = Network::new(1);
    let node = network.node(address(0), Config { max_renewed_bytes: 500, ..Config::default() });
    assert!(stored(network.store(node, key(), b"value")).renewed);
    let second = stored(network.store(node, key(), b"another"));
    assert_eq!((second.renewed, second.accepted().count()), (false, 1));
    let never = network.node(address(1), Config { renew_interval: ms(0), ..Config::default() });
    assert!(!stored(network.store(never, key(), b"value")).renewed);
}

/// What a liar says does not make a value live.
#[test]
fn one_receipt_alone_does_not_say_until_when() {
    let habits = vec![keeps(u32::MAX), keeps(50), keeps(200), keeps(100)];
    let (mut network, node, _) = among(habits, Config { k: 4, store_redundancy: 3, ..Config::default() });
    assert_eq!(stored(network.store(node, key(), b"value")).until(), Some(after(100)));
}

#[test]
fn a_life_that_no_value_can_have_is_an_error() {
    let mut network = Network::new(1);
    let limit = secs(1000);
    let node = network.node(address(0), Config { value_lifetime: limit, ..Config::default() });
    for (life, fits) in
        [(ms(0), false), (ms(999), false), (ms(1000), true), (limit, true), (limit + ms(1), false)]
    {
        let operation = network.engine.store_value(network.now, node, key(), b"v".to_vec(), Some(life), None);
        let outcome = the_one(network.wait(operation));
        let wrong = Outcome::Stored(Err(OperationError::LifeOutOfBounds { life, limit }));
        assert_eq!(outcome == wrong, !fits, "{life:?}: {outcome:?}");
    }
    let error = OperationError::LifeOutOfBounds { life: ms(0), limit };
    assert_eq!(error.to_string(), "a value cannot live for 0ns: from 1s to 1000s is allowed");
}

// Who brought which value

/// Has these values, and names no others.
fn holds(values: Vec<&'static [u8]>) -> Habit {
    let mut polite = polite();
    Box::new(move |own, from, message, out| match message {
        Message::Request(Request { tid, method: Method::FindValue { .. }, .. }) => {
            message::response_values_and_closer(out, tid, own, &values, &[]);
        }
        _ => polite(own, from, message, out),
    })
}

#[test]
fn each_node_is_named_with_the_values_that_it_brought() {
    let habits = vec![holds(vec![b"x", b"a", b"x"]), holds(vec![b"a", b"b"]), polite(), holds(vec![b"own"])];
    let (mut network, node, peers) = among(habits, Config { store_redundancy: 1, ..Config::default() });
    network.store(node, key(), b"own");
    let own = network.contact(node);
    let operation = network.engine.find_values(network.now, node, key(), None);
    let mut outcomes = network.wait(operation);
    let end = outcomes.pop();
    let expected = Effort { hops: 0, asked: 4, answered: 4, failed: 0 };
    assert_eq!(end, Some(Outcome::ValuesEnd(Ok(Search { effort: expected }))));
    let mut found: Vec<FoundValues> = Vec::new();
    for outcome in outcomes {
        let Outcome::Values(values) = outcome else { panic!("{outcome:?}") };
        found.push(values);
    }
    assert_eq!(found[0], FoundValues { by: own, values: vec![b"own".to_vec()], known: 0 });
    // The others answer in any order; two have a value in common, and one what the node has.
    found.sort_by_key(|found| found.by.addr);
    let by: Vec<Contact> = found.iter().map(|found| found.by).collect();
    assert_eq!(by, [own, peers[0], peers[1], peers[3]], "who has none is not named");
    let counts: Vec<usize> = found[1..3].iter().map(|found| found.values.len() + found.known).collect();
    assert_eq!(counts, [2, 2], "twice in one answer is once");
    assert_eq!(found[1].known + found[2].known, 1);
    assert_eq!(found[3], FoundValues { by: peers[3], values: Vec::new(), known: 1 });
    let mut all: Vec<_> = found.into_iter().flat_map(|found| found.values).collect();
    all.sort();
    assert_eq!(all, [&b"a"[..], b"b", b"own", b"x"]);
}

#[test]
fn a_lookup_tells_what_it_took() {
    let (mut network, nodes) = Network::joined(3, 40, &Config::default());
    let operation = network.engine.find_node(network.now, nodes[0], Id::of(b"somewhere"), None);
    let Outcome::Nodes(Ok(found)) = the_one(network.wait(operation)) else { panic!("no nodes") };
    assert_eq!(found.len(), 8);
    let Effort { asked, answered, failed, .. } = found.effort;
    assert!(asked >= 8 && answered >= 8 && failed == 0, "{:?}", found.effort);
}

// What goes wrong

#[test]
fn who_knows_nobody_is_told_so() {
    let mut network = Network::new(1);
    let node = network.node(address(0), Config::default());
    let alone = || OperationError::NoContacts;
    let now = network.now;
    let close = network.engine.find_close_nodes(now, node, None);
    let find = network.engine.find_node(now, node, key(), None);
    let values = network.engine.find_values(now, node, key(), None);
    assert_eq!(network.wait(close), [Outcome::Nodes(Err(alone()))]);
    assert_eq!(network.wait(find), [Outcome::Nodes(Err(alone()))]);
    assert_eq!(network.wait(values), [Outcome::ValuesEnd(Err(alone()))]);
    assert_eq!(alone().to_string(), "the node knows no others: add a contact first");
    // What it has itself is all that there is, as far as it knows.
    network.store(node, key(), b"own");
    let values = network.engine.find_values(network.now, node, key(), None);
    let found = FoundValues { by: network.contact(node), values: vec![b"own".to_vec()], known: 0 };
    let expected = [Outcome::Values(found), Outcome::ValuesEnd(Ok(Search::default()))];
    assert_eq!(network.wait(values), expected);
}

#[test]
fn who_hears_from_nobody_is_told_so() {
    let (mut network, node, peers) = among(vec![polite(), polite(), polite()], Config::default());
    stored(network.store(node, key(), b"own"));
    network.dead.extend(peers.iter().map(|peer| peer.addr));
    let nobody = |outcome: Outcome| match outcome {
        Outcome::Nodes(Err(error)) | Outcome::ValuesEnd(Err(error)) => match error {
            OperationError::NobodyAnswered { asked } => asked,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    let close = network.engine.find_close_nodes(network.now, node, None);
    assert_eq!(nobody(the_one(network.wait(close))), 3);
    // What it holds itself is told, but it is not all.
    let values = network.engine.find_values(network.now, node, key(), None);
    let mut outcomes = network.wait(values);
    assert!(nobody(outcomes.pop().expect("an end")) >= 3);
    assert!(matches!(&outcomes[..], [Outcome::Values(found)] if found.values == [b"own"]), "{outcomes:?}");
    let error = OperationError::NobodyAnswered { asked: 3 };
    assert_eq!(error.to_string(), "none of 3 nodes answered: look at the network, or add another contact");
}

#[test]
fn no_more_operations_are_begun_than_may_be() {
    let config = Config { max_operations: 3, ..Config::default() };
    let (mut network, node, _) = among(vec![polite()], config);
    let begun: Vec<_> = (0..3).map(|n| network.engine.find_node(network.now, node, named(n), None)).collect();
    let sent = network.sent;
    let now = network.now;
    let engine = &mut network.engine;
    let refused = [
        engine.add_contact(now, node, address(1), None),
        engine.find_close_nodes(now, node, None),
        engine.find_values(now, node, key(), None),
        engine.store_value(now, node, key(), b"value".to_vec(), None, None),
    ];
    let full = || OperationError::QueueFull { limit: 3 };
    let expected = [
        Outcome::Contact(Err(full())),
        Outcome::Nodes(Err(full())),
        Outcome::ValuesEnd(Err(full())),
        Outcome::Stored(Err(full())),
    ];
    assert!(!network.engine.cancel(network.now, refused[0]), "it has ended");
    let told: Vec<_> = refused.iter().map(|&operation| the_one(network.wait(operation))).collect();
    assert_eq!(told, expected);
    assert!(network.sent <= sent + 1);
    for operation in begun {
        assert!(matches!(the_one(network.wait(operation)), Outcome::Nodes(Ok(_))));
    }
    network.run(secs(1));
    let now = network.now;
    let again = network.engine.find_node(now, node, key(), None);
    assert!(matches!(the_one(network.wait(again)), Outcome::Nodes(Ok(_))), "there is room again");
    assert_eq!(full().to_string(), "3 operations are under way already: wait until some have ended");
}

#[test]
fn errors_say_by_how_much() {
    let error = OperationError::ValueTooLarge { size: 70_000, limit: 65_536 };
    assert_eq!(
        error.to_string(),
        "the value has 70000 bytes, 4464 more than the 65536 that are allowed: store it in parts"
    );
    let call = OperationError::Call(CallError::Unreachable);
    assert_eq!(call.to_string(), "the peer cannot be reached: look at its address and at the network");
    let short = Id::try_from(&b"short"[..]).unwrap_err();
    assert_eq!(short.to_string(), "an id or key has 20 bytes, not 5 (Id::of makes one of any name)");
    assert_eq!(Id::try_from(&[7; 20][..]), Ok(Id::new([7; 20])));
    let long = "0".repeat(41).parse::<Id>().unwrap_err();
    assert_eq!(long.to_string(), "an id or key is 40 hexadecimal digits, not 41");
    for (place, text) in [(0, format!("g{}", "0".repeat(39))), (39, format!("{}x", "0".repeat(39)))] {
        let wrong = text.parse::<Id>().unwrap_err();
        let said = format!("an id or key is 40 hexadecimal digits: character {} is none", place + 1);
        assert_eq!(wrong.to_string(), said);
    }
}
