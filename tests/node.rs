//! What a node answers, whatever it is asked.

#[path = "support/network.rs"]
mod network;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;

use khashmir::engine::Outcome;
use khashmir::krpc::message::{self, Fault, Message, Method};
use khashmir::krpc::netstring;
use khashmir::random::{seed_from_number, seeded};
use khashmir::{Config, Id, NodeKey, NodeOptions};
use network::*;
use rand::RngExt;

/// A framed request in which anything may be wrong: arguments and method as they
/// go on the wire.
fn request(arg: &[u8], rest: &[u8]) -> Vec<u8> {
    framed(&[b"d3:arg", arg, rest, b"3:tid3:tid3:typ3:reqe"].concat())
}

fn framed(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    netstring::frame(&mut out, usize::MAX, body.len(), |out| out.extend_from_slice(body)).expect("no limit");
    out
}

const SENDER: &[u8] = b"6:senderd4:host9:127.0.0.12:id20:aaaaaaaaaaaaaaaaaaaa4:porti1ee";
const KEY: &[u8] = b"3:key20:bbbbbbbbbbbbbbbbbbbb";

/// What came back, in short: a word, or the error.
fn answers(network: &mut Network, peer: u32) -> Vec<String> {
    network.at(address(peer)).take(|message| match message {
        Message::Response(response) => Some(match (response.nodes(), response.values()) {
            (Some(_), _) => "nodes".to_owned(),
            (_, Some(values)) => format!("{} values", values.count()),
            _ => "empty".to_owned(),
        }),
        Message::Error(reply) => Some(match reply.error {
            Fault::Number(number) => format!("error {number}"),
            Fault::Text(text) => String::from_utf8_lossy(text).into_owned(),
        }),
        Message::Request(_) => None,
    })
}

fn one_node(config: Config) -> (Network, NodeKey) {
    let mut network = Network::new(1);
    let node = network.node(address(0), config);
    network.peer(address(1), Id::of(b"peer"), polite());
    (network, node)
}

#[test]
fn every_request_is_answered() {
    let (mut network, _) = one_node(Config::default());
    let d = |parts: &[&[u8]]| [b"d", parts.concat().as_slice(), b"e"].concat();
    let target: &[u8] = b"6:target20:bbbbbbbbbbbbbbbbbbbb";
    let value: &[u8] = b"5:value2:hi";
    let large = [b"5:value65537:".to_vec(), vec![b'x'; 65_537]].concat();
    let cases: Vec<(Vec<u8>, &[u8], &str)> = vec![
        (d(&[SENDER]), b"3:req4:ping", "empty"),
        (d(&[SENDER, target]), b"3:req9:find_node", "nodes"),
        (d(&[KEY, SENDER]), b"3:req10:find_value", "nodes"),
        (d(&[KEY, SENDER, value]), b"3:req11:store_value", "empty"),
        (d(&[KEY, SENDER]), b"3:req10:find_value", "1 values"),
        (d(&[KEY, SENDER, b"5:value0:"]), b"3:req11:store_value", "empty"),
        (d(&[KEY, SENDER, &large]), b"3:req11:store_value", "the value is larger than this node takes"),
        // Not as it should be.
        (d(&[SENDER]), b"3:req4:pong", "error 2"),
        (d(&[SENDER]), b"3:req0:", "error 2"),
        (d(&[]), b"3:req4:pong", "error 2"),
        (d(&[]), b"3:req4:ping", "`sender`"),
        (d(&[b"6:senderle"]), b"3:req4:ping", "`sender`"),
        (d(&[b"6:senderde"]), b"3:req4:ping", "`sender`"),
        (d(&[b"6:senderd2:id19:aaaaaaaaaaaaaaaaaaae"]), b"3:req4:ping", "`sender`"),
        (d(&[b"6:senderd2:idi7ee"]), b"3:req4:ping", "`sender`"),
        (d(&[SENDER, target]), b"3:req4:ping", "nothing else"),
        (d(&[SENDER, b"1:z0:"]), b"3:req4:ping", "nothing else"),
        (d(&[SENDER]), b"3:req9:find_node", "`target`"),
        (d(&[SENDER, b"6:target1:b"]), b"3:req9:find_node", "`target`"),
        (d(&[SENDER, b"6:target21:bbbbbbbbbbbbbbbbbbbbb"]), b"3:req9:find_node", "`target`"),
        (d(&[SENDER, b"6:targeti1e"]), b"3:req9:find_node", "`target`"),
        (d(&[SENDER]), b"3:req10:find_value", "`key`"),
        (d(&[b"3:key0:", SENDER]), b"3:req10:find_value", "`key`"),
        (d(&[KEY, SENDER]), b"3:req11:store_value", "`value`"),
        (d(&[KEY, SENDER, b"5:valuei1e"]), b"3:req11:store_value", "`value`"),
        (d(&[SENDER, value]), b"3:req11:store_value", "`key`"),
        (d(&[b"3:key1:b", SENDER, value]), b"3:req11:store_value", "`key`"),
        (d(&[SENDER]), b"", "`req`"),
        (d(&[SENDER]), b"3:reqi1e", "`req`"),
        (b"le".to_vec(), b"3:req4:ping", "`arg`"),
        (b"i0e".to_vec(), b"3:req4:ping", "`arg`"),
    ];
    for (arg, rest, expected) in cases {
        network.say(address(1), address(0), &request(&arg, rest));
        network.run(secs(2));
        let came = answers(&mut network, 1);
        assert!(came.len() == 1 && came[0].contains(expected), "{expected}: {came:?}");
    }
    network.say(address(1), address(0), &framed(b"d3:req4:ping3:tid1:x3:typ3:reqe"));
    network.say(address(1), address(0), &framed(b"d3:tid1:x3:typ3:hmme"));
    network.run(secs(2));
    let came = answers(&mut network, 1);
    assert!(came.len() == 2 && came[0].contains("`arg`") && came[1] == "error 3", "{came:?}");
}

/// What does not parse costs that session, and nobody else anything.
#[test]
fn a_stream_that_makes_no_sense_starts_over() {
    let (mut network, node) = one_node(Config::default());
    network.peer(address(2), Id::of(b"other"), polite());
    for garbage in [b"x".as_slice(), b"100000:", b"3:abcd", b"99999999999999999999:", b":"] {
        network.ask(address(1), address(0), b"1", &Method::Ping);
        network.ask(address(2), address(0), b"1", &Method::Ping);
        network.run(secs(2));
        network.say(address(1), address(0), garbage);
        network.run(secs(2));
        network.ask(address(1), address(0), b"2", &Method::Ping);
        network.ask(address(2), address(0), b"2", &Method::Ping);
        network.run(secs(2));
        assert_eq!(answers(&mut network, 1), ["empty"; 2], "{garbage:?}");
        assert_eq!(answers(&mut network, 2), ["empty"; 2]);
    }
    assert_eq!(network.engine.buffered(node), 0);
}

#[test]
fn a_full_key_and_a_full_store_are_refused() {
    let config = Config { max_values_per_key: 3, max_stored_bytes: 6000, ..Config::default() };
    let (mut network, node) = one_node(config);
    let mut store = |key: &[u8], value: &[u8]| {
        network.ask(
            address(1),
            address(0),
            b"1",
            &Method::StoreValue { key: Id::of(key), value, life: None },
        );
        network.run(secs(1));
        answers(&mut network, 1)
    };
    for value in [b"1", b"2", b"3"] {
        assert_eq!(store(b"key", value), ["empty"]);
    }
    assert!(store(b"key", b"4")[0].contains("as many values for the key"));
    assert_eq!(store(b"key", b"2"), ["empty"], "it is there already");
    assert_eq!(store(b"other", &[7; 3000]), ["empty"]);
    assert!(store(b"third", &[8; 3000])[0].contains("no room"));
    assert_eq!(store(b"third", &[8; 300]), ["empty"]);
    assert!(network.stats(node).value_bytes <= 6000);

    // Its own values are refused in the same way.
    let operation = network.engine.store_value(network.now, node, Id::of(b"own"), vec![9; 3000], None, None);
    assert!(matches!(network.wait(operation)[..], [Outcome::Stored(Err(_))]));
}

/// More values than fit into one answer: each has its turn.
#[test]
fn every_value_of_a_key_is_given_out_in_time() {
    let (mut network, node) = one_node(Config::default());
    let key = Id::of(b"key");
    for n in 0..40u8 {
        let value = [vec![n], vec![7; 5000]].concat();
        network.ask(address(1), address(0), b"1", &Method::StoreValue { key, value: &value, life: None });
        network.run(secs(1));
    }
    assert_eq!(network.stats(node).values, 40);
    network.at(address(1)).received.clear();
    let mut seen = BTreeSet::new();
    for asked in 0..60 {
        network.ask(address(1), address(0), b"1", &Method::FindValue { key, from: None });
        network.run(secs(2));
        let received = std::mem::take(&mut network.at(address(1)).received);
        let [(_, body)] = &received[..] else { panic!("{} answers", received.len()) };
        assert!(body.len() <= message::MAX_BODY);
        let Ok(Message::Response(response)) = Message::parse(body) else { panic!("no response") };
        let values: Vec<_> = response.values().expect("values").collect();
        assert_eq!(values.len(), 19, "as many as fit");
        assert!(values.iter().all(|value| value.len() == 5001));
        seen.extend(values.iter().map(|value| value[0]));
        assert!(asked < 59 || seen.len() == 40, "{} of 40 after {asked} requests", seen.len());
    }
}

#[test]
fn a_search_collects_what_the_nearest_nodes_hold() {
    let (mut network, nodes) = Network::joined(8, 30, &Config::default());
    network.peer(address(100), Id::of(b"peer"), polite());
    let key = Id::of(b"key");
    let mut holders: Vec<_> = nodes.iter().map(|&node| network.contact(node)).collect();
    holders.sort_by_key(|contact| contact.id.distance(&key));
    for (n, holder) in holders[..8].iter().enumerate() {
        for value in [b"all".to_vec(), vec![n as u8; 100], vec![b'p', n as u8 / 2]] {
            network.ask(
                address(100),
                holder.addr,
                b"1",
                &Method::StoreValue { key, value: &value, life: None },
            );
        }
    }
    network.run(secs(2));
    for &node in &nodes {
        let found = network.find_values(node, key);
        let distinct: BTreeSet<_> = found.iter().cloned().collect();
        assert_eq!(found.len(), distinct.len(), "a value is reported once");
        // One of the nearest that searches itself still has what the others have.
        assert_eq!(distinct.len(), 1 + 8 + 4);
    }
}

#[test]
fn what_a_node_holds_itself_is_found_without_anybody() {
    let (mut network, node) = one_node(Config::default());
    let key = Id::of(b"key");
    for value in [b"one".as_slice(), b"two", b""] {
        network.ask(address(1), address(0), b"1", &Method::StoreValue { key, value, life: None });
    }
    network.run(secs(1));
    network.dead.insert(address(1));
    let mut found = network.find_values(node, key);
    found.sort();
    assert_eq!(found, [b"one", b"two"], "an empty value is never found");
    assert_eq!(network.find_values(node, Id::of(b"none")), [b""; 0]);
}

/// A message that was a good one, or not even that.
fn mutated(rng: &mut impl rand::Rng, good: &[Vec<u8>]) -> Vec<u8> {
    let mut body = good[rng.random_range(0..good.len())].clone();
    for _ in 0..rng.random_range(0..4) {
        let at = rng.random_range(0..body.len().max(1)).min(body.len());
        match rng.random_range(0..6) {
            0 => body.truncate(at),
            1 => body.insert(at, rng.random()),
            2 => body.extend_from_within(at..),
            3 if at < body.len() => drop(body.remove(at)),
            4 if at < body.len() => body[at] = b"0123456789:deil-"[rng.random_range(0..16)],
            _ if at < body.len() => body[at] = rng.random(),
            _ => {}
        }
    }
    body
}

#[test]
fn nothing_that_a_message_may_hold_does_harm() {
    for seed in 0..4 {
        let _seed = Seed(seed);
        let mut rng = seeded(seed_from_number(seed));
        let config = Config { max_stored_bytes: 100_000, max_values_per_key: 20, ..Config::default() };
        let (mut network, node) = one_node(config.clone());
        let id = network.contact(node).id;
        let mut good = Vec::new();
        for n in 0..20u8 {
            let sender = khashmir::Contact { id: Id::of(&[n]), addr: address(n.into()) };
            let (key, value) = (Id::of(&[n % 3]), [n]);
            let value = value.as_slice();
            let tid: Vec<u8> = (0..rng.random_range(1..=30)).map(|_| rng.random()).collect();
            let mut out = Vec::new();
            match n % 10 {
                0 => message::request(&mut out, &tid, &sender, &Method::Ping).expect("short"),
                1 => message::request(&mut out, &tid, &sender, &Method::FindNode { target: key })
                    .expect("short"),
                2 => message::request(&mut out, &tid, &sender, &Method::FindNode { target: id })
                    .expect("short"),
                3..6 => {
                    message::request(&mut out, &tid, &sender, &Method::StoreValue { key, value, life: None })
                        .expect("short")
                }
                6 => message::request(&mut out, &tid, &sender, &Method::FindValue { key, from: None })
                    .expect("short"),
                7 => message::response_nodes(&mut out, &tid, &sender, &[sender, sender]),
                8 => drop(message::response_values(&mut out, &tid, &sender, [value])),
                _ => message::error(&mut out, &tid, Fault::GENERAL),
            }
            let body = netstring::take(&out, 99_999).expect("framed").expect("whole").body;
            good.push(out[body].to_vec());
        }
        for n in 0..250 {
            // From a few addresses, so that callers are greeted.
            let peer = address(1 + n % 5);
            if n < 5 {
                network.peer(peer, Id::of(&n.to_be_bytes()), polite());
            }
            let mut stream = Vec::new();
            for _ in 0..100 {
                stream.extend(framed(&mutated(&mut rng, &good)));
            }
            network.say(peer, address(0), &stream);
            network.run(ms(200));
            let stats = network.stats(node);
            assert!(stats.value_bytes <= config.max_stored_bytes);
            assert!(stats.calls_pending <= 10 && stats.connections <= 32, "{stats:?}");
            assert!(network.engine.buffered(node) <= 1 << 20);
            network.at(peer).received.clear();
        }
        network.run(secs(60));
        assert_eq!(network.stats(node).calls_pending, 0);
        assert_eq!(network.engine.buffered(node), 0);
        network.ask(address(1), address(0), b"last", &Method::Ping);
        network.run(secs(2));
        assert_eq!(answers(&mut network, 1), ["empty"]);
        network.remove(node);
        assert_eq!(network.engine.timers(), 0);
    }
}

fn in_file(path: &std::path::Path) -> NodeOptions {
    let config = Config {
        max_bytes_per_key: 1 << 24,
        max_values_per_key_and_block: 1024,
        max_bytes_per_key_and_block: 1 << 24,
        ..Config::default()
    };
    NodeOptions { config: Arc::new(config), id: None, store: Some(path.to_owned()) }
}

/// Somebody writes to the node's file: values are refused meanwhile, and nothing else.
#[test]
fn a_busy_file_refuses_values_and_no_more() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("node.db");
    let mut network = Network::new(1);
    let node = network.node_with(address(0), address(0), in_file(&path));
    network.peer(address(1), Id::of(b"peer"), silent());
    let key = Id::of(b"key");
    let give = |network: &mut Network, value: &[u8]| {
        network.ask(address(1), address(0), b"1", &Method::StoreValue { key, value, life: None });
        network.run(secs(2));
    };
    give(&mut network, b"one");
    assert!(matches!(network.store(node, key, b"own"), Outcome::Stored(Ok(_))));
    assert_eq!(answers(&mut network, 1).len(), 1);
    let writer = rusqlite::Connection::open(&path).expect("a database");
    writer.execute_batch("BEGIN IMMEDIATE").expect("writing");
    give(&mut network, b"two");
    assert_eq!(answers(&mut network, 1), ["this node cannot store values now: its file is busy"]);
    assert_eq!(network.stats(node).values_refused, 1);
    let withdrawn = network.engine.withdraw(network.now, node, key, b"own");
    assert!(withdrawn.is_err(), "nothing was withdrawn: {withdrawn:?}");
    network.ask(address(1), address(0), b"2", &Method::FindValue { key, from: None });
    network.run(secs(2));
    assert_eq!(network.stats(node).values, 2);
    writer.execute_batch("ROLLBACK").expect("no more");
    give(&mut network, b"two");
    assert_eq!(network.stats(node).values, 3);
    assert_eq!(network.engine.withdraw(network.now, node, key, b"own").ok(), Some(true));
}

/// Values are read together for those who ask at the same time, but not for any number of them.
#[test]
fn many_who_ask_at_once_are_all_answered() {
    let (mut network, node) = one_node(Config::default());
    let [present, absent] = [b"present".as_slice(), b"absent"].map(Id::of);
    assert!(matches!(network.store(node, present, b"value"), Outcome::Stored(Ok(_))));
    network.ask(address(1), address(0), b"1", &Method::Ping);
    network.run(secs(2));
    network.at(address(1)).received.clear();
    for n in 0..150u8 {
        let key = if n % 3 == 0 { absent } else { present };
        network.ask(address(1), address(0), &[n], &Method::FindValue { key, from: None });
    }
    // All of it comes in one turn.
    network.drain();
    network.now += ms(50);
    network.deliver();
    network.run(secs(10));
    let answers = answers(&mut network, 1);
    let count = |wanted: &str| answers.iter().filter(|answer| *answer == wanted).count();
    assert_eq!((count("1 values"), count("nodes"), answers.len()), (100, 50, 150));
}

/// However many ask at once, answers take no more memory than they may, and who gets none hears so.
#[test]
fn long_answers_to_many_who_ask_at_once_are_bounded() {
    let (mut network, node) = one_node(Config { max_buffered: 256 * 1024, ..Config::default() });
    let (key, value) = (Id::of(b"key"), [7; 60_000]);
    assert!(matches!(network.store(node, key, &value), Outcome::Stored(Ok(_))));
    let peers = 1..=50u32;
    for n in peers.clone() {
        network.peer(address(n), Id::of(&n.to_be_bytes()), polite());
        network.ask(address(n), address(0), b"1", &Method::Ping);
    }
    network.run(secs(2));
    for n in peers {
        network.at(address(n)).received.clear();
        network.ask(address(n), address(0), b"2", &Method::FindValue { key, from: None });
    }
    // All of it comes in one turn.
    network.drain();
    network.now += ms(50);
    network.deliver();
    assert!(network.engine.poll_ready().is_some());
    let buffered = network.engine.buffered(node);
    assert!((200_000..256 * 1024 + 70_000).contains(&buffered), "{buffered} bytes");
    network.run(secs(10));
    let answers: Vec<String> = (1..=50).flat_map(|n| answers(&mut network, n)).collect();
    let count = |wanted: &str| answers.iter().filter(|answer| *answer == wanted).count();
    let (served, refused) = (count("1 values"), count("this node is too busy to look now"));
    assert!(served >= 4 && served + refused == 50, "{served} served, {refused} refused: {answers:?}");
}

thread_local! {
    /// How often this thread has complained that values cannot be read.
    static COMPLAINTS: Cell<u32> = const { Cell::new(0) };
}

struct Log;

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.args().to_string().contains("values cannot be read") {
            COMPLAINTS.with(|complaints| complaints.set(complaints.get() + 1));
        }
    }

    fn flush(&self) {}
}

/// While a file cannot be read, others do not fill the log, however often they ask.
#[test]
fn a_file_that_cannot_be_read_is_complained_of_once_in_a_while() {
    assert!(log::set_logger(&Log).is_ok());
    log::set_max_level(log::LevelFilter::Error);
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("node.db");
    let mut network = Network::new(1);
    let node = network.node_with(address(0), address(0), in_file(&path));
    network.peer(address(1), Id::of(b"peer"), polite());
    let key = Id::of(b"key");
    assert!(matches!(network.store(node, key, b"value"), Outcome::Stored(Ok(_))));
    let other = rusqlite::Connection::open(&path).expect("a database");
    other.execute_batch("ALTER TABLE value RENAME TO away").expect("another table");
    network.ask(address(1), address(0), b"1", &Method::Ping);
    network.run(secs(2));
    network.at(address(1)).received.clear();
    for n in 0..40 {
        network.ask(address(1), address(0), &[n], &Method::FindValue { key, from: None });
    }
    network.run(secs(5));
    assert_eq!(answers(&mut network, 1), vec!["this node cannot read its values now"; 40]);
    assert_eq!(COMPLAINTS.get(), 1);
}

/// A disk that fails between a value and the promise to keep it: everything since
/// the last commit is undone, so whoever waits for that must hear so.
#[test]
fn a_promise_that_cannot_be_kept_is_not_made() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("node.db");
    let mut network = Network::new(1);
    let node = network.node_with(address(0), address(0), in_file(&path));
    network.peer(address(1), Id::of(b"peer"), silent());
    for n in 0..300u32 {
        let value = n.to_be_bytes().repeat(2500);
        network.ask(
            address(1),
            address(0),
            b"1",
            &Method::StoreValue { key: Id::of(b"long"), value: &value, life: None },
        );
        network.run(ms(200));
    }
    assert_eq!(network.stats(node).values, 300);
    network.remove(node);
    let node = network.node_with(address(0), address(0), in_file(&path));
    network.peer(address(2), Id::of(b"other"), silent());
    for peer in [1, 2] {
        network.ask(address(peer), address(0), b"1", &Method::Ping);
        network.run(secs(30));
        network.at(address(peer)).received.clear();
    }

    // Two values are taken in the same turn; then the disk does not give the pages
    // with the long values, which are not in memory.
    network.ask(
        address(1),
        address(0),
        b"2",
        &Method::StoreValue { key: Id::of(b"new"), value: b"new", life: None },
    );
    network.drain();
    network.now += ms(2);
    network.ask(address(2), address(0), b"3", &Method::FindValue { key: Id::of(b"long"), from: None });
    network.drain();
    network.now += ms(4);
    let own = network.engine.store_value(network.now, node, Id::of(b"own"), b"own".to_vec(), None, None);
    network.deliver();
    let whole = std::fs::read(&path).expect("a file");
    std::fs::write(&path, &whole[..8192]).expect("a file");
    network.now += ms(4);
    network.deliver();
    // The owner's questions are not put off until that is committed.
    let search = network.engine.find_values(network.now, node, Id::of(b"long"), None);
    network.drain();
    std::fs::write(&path, whole).expect("a file");
    assert!(matches!(the_one(network.wait(search)), Outcome::ValuesEnd(Err(_))));
    assert_eq!(too_few(&the_one(network.wait(own))), (0, 1));
    network.run(secs(2));
    assert_eq!(answers(&mut network, 1), ["this node cannot store values now"]);
    assert_eq!(answers(&mut network, 2), ["this node cannot read its values now"]);
    assert_eq!(network.find_values(node, Id::of(b"new")), [b""; 0]);
    assert_eq!(network.find_values(node, Id::of(b"own")), [b""; 0]);
    assert!(matches!(network.store(node, Id::of(b"own"), b"own"), Outcome::Stored(Ok(_))));
}
