//! Keys with more values than fit into one answer: given out page by page, and collected.

#[path = "support/network.rs"]
mod network;

use std::collections::BTreeSet;

use khashmir::engine::Outcome;
use khashmir::krpc::message::{self, Fault, Message, Method, Page, Request, ValuesAnswer};
use khashmir::random::{seed_from_number, seeded};
use khashmir::{Config, Id, NodeKey};
use network::*;
use rand::RngExt;

/// A node that holds these values under the key, and a peer at `address(1)`.
fn holder(seed: u64, config: Config, key: Id, values: &[Vec<u8>]) -> (Network, NodeKey) {
    let mut network = Network::new(seed);
    let node = network.node(address(0), from_one(config));
    network.peer(address(1), Id::of(b"peer"), polite());
    network.ask(address(1), address(0), b"1", &Method::Ping);
    network.run(secs(1));
    give(&mut network, address(0), key, values);
    assert_eq!(network.stats(node).values, values.len() as u64);
    (network, node)
}

/// All of a key's values may come from one address.
fn from_one(config: Config) -> Config {
    Config {
        max_values_per_key_and_block: config.max_values_per_key,
        max_bytes_per_key_and_block: config.max_bytes_per_key,
        ..config
    }
}

fn give(network: &mut Network, to: std::net::SocketAddr, key: Id, values: &[Vec<u8>]) {
    for some in values.chunks(10) {
        for value in some {
            network.ask(address(1), to, b"1", &Method::StoreValue { key, value, life: None });
        }
        network.run(secs(1));
    }
    network.at(address(1)).received.clear();
}

/// What an answer brought: the values, where there are more, and its length with its frame.
type Answer = (Vec<Vec<u8>>, Option<Vec<u8>>, usize);

fn ask(network: &mut Network, key: Id, place: Option<&[u8]>) -> Result<Answer, String> {
    let from = place.map(|place| Page::new(place).expect("a place"));
    network.ask(address(1), address(0), b"2", &Method::FindValue { key, from });
    network.run(secs(3));
    let received = std::mem::take(&mut network.at(address(1)).received);
    let [(_, body)] = &received[..] else { panic!("{} answers", received.len()) };
    match Message::parse(body).expect("a message") {
        Message::Response(response) => {
            let values = response.values().into_iter().flatten().map(<[u8]>::to_vec).collect();
            let more = response.more().map(|more| more.as_bytes().to_vec());
            Ok((values, more, format!("{}:,", body.len()).len() + body.len()))
        }
        Message::Error(reply) => Err(reply.error.to_string()),
        other => panic!("{other:?}"),
    }
}

/// From wherever the node begins, each value comes once, and no answer is too long.
#[test]
fn page_by_page_each_value_comes_once() {
    let key = Id::of(b"key");
    for (seed, largest, max_response) in
        [(1, 400, 1800), (2, 400, 4000), (3, 60_000, 70_000), (4, 60_000, 99_999), (5, 1000, 99_999)]
    {
        let _seed = Seed(seed);
        let mut rng = seeded(seed_from_number(seed));
        let config = Config { max_value_size: largest, max_response, ..Config::default() };
        let count = if largest > 1000 { 12 } else { 120 };
        let values: Vec<Vec<u8>> = (0..count)
            .map(|_| (0..rng.random_range(8..=largest)).map(|_| rng.random()).collect())
            .chain([vec![1; largest], vec![2]])
            .collect();
        let (mut network, _) = holder(seed, config, key, &values);
        let whole: BTreeSet<_> = values.iter().cloned().collect();
        let (mut firsts, mut pages) = (BTreeSet::new(), 0);
        for _ in 0..3 {
            let (mut found, mut place) = (Vec::new(), None);
            for page in 0.. {
                assert!(page < 200, "it does not end");
                let (values, more, length) = ask(&mut network, key, place.as_deref()).expect("an answer");
                assert!(!values.is_empty() && length <= max_response, "{length} bytes");
                if page == 0 {
                    firsts.insert(values[0].clone());
                }
                found.extend(values);
                pages += 1;
                place = more;
                if place.is_none() {
                    break;
                }
            }
            assert_eq!(found.len(), values.len(), "each once");
            assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), whole);
        }
        assert!(firsts.len() > 1, "it begins anywhere");
        let least = values.iter().map(Vec::len).sum::<usize>() / max_response;
        assert!(pages > 3 * least && pages <= 3 * (2 * least + 2), "{pages} pages, {least} at the least");
    }
}

/// What fits into one answer comes in one, as ever.
#[test]
fn what_fits_is_not_divided() {
    let (key, values) = (Id::of(b"key"), [vec![1; 30_000], vec![2; 30_000], vec![3; 30_000]]);
    let (mut network, _) = holder(1, Config::default(), key, &values);
    for _ in 0..10 {
        let (found, more, _) = ask(&mut network, key, None).expect("an answer");
        assert_eq!((found.len(), more), (3, None));
    }
}

/// A place may be made up: whoever asks gets values of that key, or an error.
#[test]
fn a_place_that_nobody_named_does_no_harm() {
    let (key, values) = (Id::of(b"key"), (0..40u8).map(|n| vec![n; 5000]).collect::<Vec<_>>());
    let (mut network, _) = holder(1, Config::default(), key, &values);
    for odd in [&[0; 1][..], &[0; 39], &[0; 41], &[0xff; 64]] {
        assert_eq!(ask(&mut network, key, Some(odd)), Err("this node has named no such place".into()));
    }
    let mut rng = seeded(seed_from_number(7));
    for n in 0..40 {
        let mut place: [u8; 40] = rng.random();
        match n % 4 {
            0 => place[20..].fill(0),
            1 => place.copy_within(..20, 20),
            2 => place[..20].fill(0xff),
            _ => {}
        }
        let (found, more, length) = ask(&mut network, key, Some(&place)).expect("an answer");
        assert!(found.len() <= 19 && length <= 99_999);
        assert!(found.iter().all(|value| values.contains(value)));
        // The way round still ends where it was said to have begun.
        assert!(more.is_none_or(|more| more[20..] == place[20..]));
    }
    // Of a key without values nodes are named, as ever.
    let (found, more, _) = ask(&mut network, Id::of(b"none"), Some(&[9; 40])).expect("an answer");
    assert!(found.is_empty() && more.is_none());
}

/// A value that was taken when larger ones were does not stop the way round.
#[test]
fn a_value_that_fits_no_answer_is_passed_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Some(folder.path().join("node.db"));
    let key = Id::of(b"key");
    let small = Config { max_value_size: 1000, max_response: 2000, ..Config::default() };
    let mut network = Network::new(1);
    network.peer(address(1), Id::of(b"peer"), polite());
    for config in [Config::default(), small] {
        let options = khashmir::NodeOptions {
            config: std::sync::Arc::new(config.clone()),
            id: None,
            store: store.clone(),
        };
        let node = network.node_with(address(0), address(0), options);
        network.ask(address(1), address(0), b"1", &Method::Ping);
        network.run(secs(1));
        if config.max_value_size > 1000 {
            let values: Vec<_> = (0..6u8).map(|n| vec![n; if n % 2 == 0 { 5000 } else { 900 }]).collect();
            give(&mut network, address(0), key, &values);
            network.remove(node);
            network.run(secs(1));
        }
    }
    network.at(address(1)).received.clear();
    let (mut found, mut place) = (Vec::new(), None);
    for _ in 0..10 {
        let (values, more, _) = ask(&mut network, key, place.as_deref()).expect("an answer");
        found.extend(values.into_iter().map(|value| value[0]));
        place = more;
        if place.is_none() {
            break;
        }
    }
    found.sort_unstable();
    assert_eq!((found, place), (vec![1, 3, 5], None));
}

/// A search brings all of them, and each once, whoever of the holders has them: all, or each
/// a part. Those who have the same are not all asked for all of it.
#[test]
fn a_search_collects_all_pages() {
    let key = Id::of(b"key");
    let values: Vec<Vec<u8>> = (0..120u8).map(|n| vec![n; 5000]).collect();
    for (seed, shared) in [(1, true), (2, false)] {
        let _seed = Seed(seed);
        let (mut network, nodes) = Network::joined(seed, 20, &from_one(Config::default()));
        network.peer(address(1000), Id::of(b"peer"), polite());
        let mut by_distance = nodes.clone();
        by_distance.sort_by_key(|&node| network.contact(node).id.distance(&key));
        for (n, &holder) in by_distance[..8].iter().enumerate() {
            let to = network.address(holder);
            network.ask(address(1000), to, b"1", &Method::Ping);
            network.run(secs(1));
            let part = if shared { &values[..] } else { &values[15 * n..15 * (n + 1)] };
            for some in part.chunks(10) {
                for value in some {
                    network.ask(address(1000), to, b"1", &Method::StoreValue { key, value, life: None });
                }
                network.run(secs(1));
            }
        }
        let before = network.bytes;
        let found = network.find_values(by_distance[15], key);
        assert_eq!(found.len(), values.len(), "each once");
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), values.iter().cloned().collect());
        let took = network.bytes - before;
        // The first answer of each of eight, and the whole of it twice.
        assert!(took < 8 * 100_000 + 2 * 600_000 + 100_000, "{took} bytes");
    }
}

/// Of very many small values only some are looked at for one answer; the rest is to be had.
#[test]
fn very_many_values_are_given_out_in_parts() {
    let key = Id::of(b"key");
    let values: Vec<Vec<u8>> = (0..5000u16).map(|n| n.to_be_bytes().to_vec()).collect();
    let config = Config { max_values_per_key: 10_000, max_bytes_per_key: 1 << 24, ..Config::default() };
    let (mut network, node) = holder(1, config, key, &values);
    let (mut found, mut place, mut pages) = (Vec::new(), None, 0);
    loop {
        let (values, more, _) = ask(&mut network, key, place.as_deref()).expect("an answer");
        found.extend(values);
        pages += 1;
        place = more;
        if place.is_none() {
            break;
        }
    }
    assert!((2..5).contains(&pages), "{pages}");
    found.sort();
    assert_eq!(found, values);
    // Whoever holds them finds them all in his own store, and long ones too.
    let mut found = network.find_values(node, key);
    found.sort();
    assert_eq!(found, values);
    let (key, values) = (Id::of(b"long"), (0..50u8).map(|n| vec![n; 60_000]).collect::<Vec<_>>());
    give(&mut network, address(0), key, &values);
    let mut found = network.find_values(node, key);
    found.sort();
    assert_eq!(found, values);
}

/// However many have expired, and are still to be deleted, those that have not are found.
#[test]
fn what_has_expired_does_not_hide_the_rest() {
    let key = Id::of(b"key");
    let config = Config {
        max_values_per_key: 10_000,
        max_bytes_per_key: 1 << 24,
        first_expiry: secs(36_000),
        ..Config::default()
    };
    let lasting: Vec<Vec<u8>> = (0..3u8).map(|n| vec![n; 3]).collect();
    let (mut network, node) = holder(1, config.clone(), key, &lasting);
    for n in 0..6000u16 {
        let store = Method::StoreValue { key, value: &n.to_be_bytes(), life: Some(2) };
        network.ask(address(1), address(0), b"1", &store);
        if n % 20 == 0 {
            network.run(ms(500));
        }
    }
    network.run(secs(5));
    network.at(address(1)).received.clear();
    assert_eq!(network.stats(node).values, 6003);
    for _ in 0..5 {
        let (mut found, mut place) = (Vec::new(), None);
        for pages in 0.. {
            assert!(pages < 6, "it does not end");
            let (values, more, _) = ask(&mut network, key, place.as_deref()).expect("an answer");
            found.extend(values);
            place = more;
            if place.is_none() {
                break;
            }
        }
        found.sort();
        assert_eq!(found, lasting);
    }
    let searcher = network.node(address(2), config);
    network.introduce(searcher, address(0));
    for node in [searcher, node] {
        let mut found = network.find_values(node, key);
        found.sort();
        assert_eq!(found, lasting);
    }
}

/// A peer that names no value but always more places keeps nobody.
#[test]
fn a_peer_that_only_promises_values_is_asked_a_bounded_number_of_times() {
    let mut polite = polite();
    let habit: Habit = Box::new(move |own, from, message, out| match message {
        Message::Request(Request { tid, method: Method::FindValue { .. }, .. }) => {
            let beside = message::NodesAnswer { wants: None, more: Page::new(b"there") };
            message::response_nodes_beside(out, tid, own, &[], beside);
        }
        _ => polite(own, from, message, out),
    });
    let (found, asked, took) = search(&mut Network::new(1), habit);
    assert_eq!((found.len(), asked), (0, 65));
    assert!(took < 3000, "{took} ms");
}

/// What a keeper answers to a search: to the first request, and to each page.
type Pages = Box<dyn FnMut(Option<u64>) -> (Vec<Vec<u8>>, Option<u64>)>;

/// A keeper of values whose places are numbers.
fn keeper(mut pages: Pages) -> Habit {
    let mut polite = polite();
    Box::new(move |own, from, message, out| match message {
        Message::Request(Request { tid, method: Method::FindValue { from: page, .. }, .. }) => {
            let number = page.map(|page| u64::from_be_bytes(page.as_bytes().try_into().expect("as given")));
            let (values, more) = pages(number);
            let more = more.map(u64::to_be_bytes);
            let more = more.as_ref().and_then(|more| Page::new(more));
            message::response_page(out, tid, own, values, ValuesAnswer { closer: &[], more });
        }
        _ => polite(own, from, message, out),
    })
}

/// Searches for a key that this peer keeps. What was found, after how many requests for
/// values, and how long it took in milliseconds.
fn search(network: &mut Network, habit: Habit) -> (Vec<Vec<u8>>, usize, u64) {
    let node = network.node(address(0), Config::default());
    network.peer(address(1), Id::of(b"keeper"), habit);
    network.introduce(node, address(1));
    let before = network.now;
    let found = network.find_values(node, Id::of(b"key"));
    let asked = network.at(address(1)).take(|message| {
        let Message::Request(Request { method, .. }) = message else { return None };
        matches!(method, Method::FindValue { .. }).then_some(())
    });
    let took = network.now.since(before).as_millis() as u64;
    assert_eq!(network.stats(node).calls_pending, 0);
    (found, asked.len(), took)
}

#[test]
fn a_place_is_sent_back_as_it_was_given() {
    let pages = [3, 0xffff, 7];
    let habit = keeper(Box::new(move |place| {
        let at = place.map_or(0, |place| 1 + pages.iter().position(|&page| page == place).expect("given"));
        (vec![vec![at as u8 + 1]], pages.get(at).copied())
    }));
    let (found, asked, _) = search(&mut Network::new(1), habit);
    assert_eq!((found, asked), (vec![vec![1], vec![2], vec![3], vec![4]], 4));
}

/// A peer is asked on only while it brings something.
#[test]
fn a_peer_that_always_has_more_and_nothing_new_is_asked_once_more() {
    for again in [vec![vec![1]], vec![], vec![vec![]]] {
        let habit = keeper(Box::new(move |place| match place {
            None => (vec![vec![1]], Some(0)),
            Some(_) => (again.clone(), Some(0)),
        }));
        let (found, asked, _) = search(&mut Network::new(1), habit);
        assert_eq!((found, asked), (vec![vec![1]], 2));
    }
}

/// One that makes values up without end keeps nobody.
#[test]
fn a_peer_that_always_has_something_new_is_asked_a_bounded_number_of_times() {
    let mut next = 0u64;
    let habit = keeper(Box::new(move |_| {
        next += 1;
        (vec![next.to_be_bytes().to_vec()], Some(next))
    }));
    let (found, asked, took) = search(&mut Network::new(1), habit);
    assert_eq!((found.len(), asked), (65, 65));
    assert!(took < 3000, "{took} ms");

    // Nor one that takes its time for each of them.
    let mut next = 0u64;
    let habit = keeper(Box::new(move |_| {
        next += 1;
        (vec![next.to_be_bytes().to_vec()], Some(next))
    }));
    let mut network = Network::new(2);
    network.round_trips = Some((900, 901));
    let (found, asked, took) = search(&mut network, habit);
    assert!(found.len() == asked && (8..16).contains(&asked), "{asked}");
    assert!(took < 20_000, "{took} ms");
}

/// What does not come, or makes no sense, ends the asking, not the search.
#[test]
fn a_page_that_does_not_come_ends_the_asking() {
    let refuse = |own: &khashmir::Contact, tid: &[u8], out: &mut Vec<u8>, how: usize| match how {
        0 => {}
        1 => message::error(out, tid, Fault::Text(b"no")),
        2 => message::response_nodes(out, tid, own, &[]),
        3 => message::response_empty(out, tid, own),
        4 => message::response_empty(out, tid, &khashmir::Contact { id: Id::of(b"other"), ..*own }),
        5 => {
            let body = [b"d3:rspi1e3:tid20:", tid, b"3:typ3:rspe"].concat();
            out.extend_from_slice(&[format!("{}:", body.len()).as_bytes(), &body, b","].concat());
        }
        _ => out.extend_from_slice(b"99999:and no more"),
    };
    for how in 0..7 {
        let mut first = keeper(Box::new(|_| (vec![vec![1]], Some(1))));
        let habit: Habit = Box::new(move |own, from, message, out| match message {
            Message::Request(Request { tid, method: Method::FindValue { from: Some(_), .. }, .. }) => {
                refuse(own, tid, out, how);
            }
            _ => first(own, from, message, out),
        });
        let mut network = Network::new(1);
        let node = network.node(address(0), Config::default());
        network.peer(address(1), Id::of(b"keeper"), habit);
        network.introduce(node, address(1));
        let before = network.now;
        assert_eq!(network.find_values(node, Id::of(b"key")), [vec![1]], "{how}");
        let took = network.now.since(before).as_millis();
        // What has begun to come is waited for until the request's own time is over.
        assert!(took < if how == 6 { 11_000 } else { 3000 }, "{how}: {took} ms");
    }
}

/// A keeper that restarts before it has answered is asked for the same page again.
#[test]
fn a_page_is_asked_for_again_after_a_restart() {
    let key = Id::of(b"key");
    let page = |place| match place {
        None => (vec![vec![1]], Some(5)),
        Some(5) => (vec![vec![2]], Some(6)),
        _ => (vec![vec![3]], None),
    };
    let is_page = |message: &Message<'_>| {
        matches!(message, Message::Request(Request { method: Method::FindValue { from: Some(_), .. }, .. }))
    };
    let mut network = Network::new(1);
    let node = network.node(address(0), Config::default());
    let mut first = keeper(Box::new(page));
    let dies: Habit = Box::new(move |own, from, message, out| {
        if !is_page(message) {
            first(own, from, message, out);
        }
    });
    network.peer(address(1), Id::of(b"keeper"), dies);
    network.introduce(node, address(1));
    let search = network.engine.find_values(network.now, node, key, None);
    let asked = network.run_until(secs(5), |network| {
        let received = &network.at(address(1)).received;
        received.iter().any(|(_, body)| is_page(&Message::parse(body).expect("a message")))
    });
    assert!(asked);
    network.peer(address(1), Id::of(b"keeper"), keeper(Box::new(page)));
    network.ask(address(1), address(0), b"1", &Method::Ping);
    let mut found = Vec::new();
    for outcome in network.wait(search) {
        match outcome {
            Outcome::Values(values) => found.extend(values.values),
            other => assert!(matches!(other, Outcome::ValuesEnd(Ok(_))), "{other:?}"),
        }
    }
    assert_eq!(found, [vec![1], vec![2], vec![3]]);
}

#[test]
fn all_pages_come_over_a_bad_network() {
    let key = Id::of(b"key");
    let values: Vec<Vec<u8>> = (0..80u8).map(|n| vec![n; 5000]).collect();
    for seed in 0..6 {
        let _seed = Seed(seed);
        let (mut network, _) = holder(seed, Config::default(), key, &values);
        let searcher = network.node(address(2), Config::default());
        network.introduce(searcher, address(0));
        network.bad = Badness { loss: 0.1, duplicate: 0.1, reorder: 0.3 };
        let found = network.find_values(searcher, key);
        assert_eq!(found.len(), 80, "each once");
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), values.iter().cloned().collect());
    }
}
