//! What is said beside the messages of 2003 of a value's life, and of values that do not fit
//! into one answer.

use khashmir::config::MAX_NETSTRING;
use khashmir::krpc::message::{
    self, MAX_BODY, MAX_PAGE, MAX_TID, Message, Method, NodesAnswer, Page, Rejected, Response, ValuesAnswer,
};
use khashmir::krpc::netstring;
use khashmir::{Contact, Id};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

const TID: &[u8] = b"tttttttttttttttttttt";
const KEY: &str = "3:key20:kkkkkkkkkkkkkkkkkkkk";
const SENDER: &str = "6:senderd4:host9:192.0.2.12:id20:iiiiiiiiiiiiiiiiiiii4:porti4711ee";

fn me() -> Contact {
    Contact { id: Id::new(*b"iiiiiiiiiiiiiiiiiiii"), addr: ([192, 0, 2, 1], 4711).into() }
}

/// What `write` appends, without its frame.
fn body(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    assert!(out.len() <= MAX_NETSTRING);
    let taken = netstring::take(&out, MAX_NETSTRING).expect("a netstring").expect("a whole one");
    assert_eq!(taken.consumed, out.len());
    out[taken.body].to_vec()
}

fn written(method: &Method<'_>) -> Vec<u8> {
    body(|out| message::request(out, TID, &me(), method).expect("short enough"))
}

fn method(bytes: &[u8]) -> Result<Method<'_>, String> {
    match Message::parse(bytes) {
        Ok(Message::Request(request)) => Ok(request.method),
        Err(Rejected::Answer { error, .. }) => Err(error.to_string()),
        other => panic!("{other:?}"),
    }
}

fn response(bytes: &[u8]) -> Response<'_> {
    match Message::parse(bytes) {
        Ok(Message::Response(response)) => response,
        other => panic!("not a response: {other:?}"),
    }
}

proptest! {
    #[test]
    fn lives_and_places_come_back(
        key in any::<[u8; 20]>(),
        value in vec(any::<u8>(), 0..2000),
        age in any::<u32>(),
        life in option::of(any::<u32>()),
        place in option::of(vec(any::<u8>(), 1..=MAX_PAGE)),
    ) {
        let (key, from) = (Id::new(key), place.as_deref().and_then(Page::new));
        prop_assert_eq!(from.is_some(), place.is_some());
        for sent in [
            Method::StoreValue { key, value: &value, life },
            Method::HandOn { key, value: &value, age, life },
            Method::FindValue { key, from },
        ] {
            let request = written(&sent);
            prop_assert_eq!(method(&request), Ok(sent));
        }
    }

    #[test]
    fn what_is_kept_and_what_is_left_come_back(
        life in any::<u32>(),
        values in vec(vec(any::<u8>(), 0..200), 0..20),
        place in option::of(vec(any::<u8>(), 1..=MAX_PAGE)),
        closer in 0u8..20,
    ) {
        let stored = body(|out| message::response_stored(out, TID, &me(), life));
        let stored = response(&stored);
        prop_assert_eq!((stored.life(), stored.more()), (Some(life), None));
        prop_assert!(stored.nodes().is_none() && stored.values().is_none());
        let node = |n| Contact { id: Id::of(&[n]), addr: ([192, 0, 2, n + 1], 4000).into() };
        let closer: Vec<Contact> = (0..closer).map(node).collect();
        let more = place.as_deref().and_then(Page::new);
        let page = body(|out| {
            let beside = ValuesAnswer { closer: &closer, more };
            assert_eq!(message::response_page(out, TID, &me(), &values, beside), values.len());
        });
        let page = response(&page);
        prop_assert_eq!((page.life(), page.more()), (None, more));
        prop_assert!(page.values().expect("a list").eq(values.iter().map(Vec::as_slice)));
        prop_assert_eq!(page.closer().map(Iterator::collect), (!closer.is_empty()).then_some(closer.clone()));
        prop_assert!(!page.has_none_so_far());
        let nodes = body(|out| {
            let beside = NodesAnswer { wants: Some(&[0]), more };
            message::response_nodes_beside(out, TID, &me(), &closer, beside);
        });
        let nodes = response(&nodes);
        prop_assert_eq!((nodes.more(), nodes.wants(1)), (more, Some(1)));
        prop_assert_eq!(nodes.has_none_so_far(), more.is_some());
        prop_assert_eq!(nodes.nodes().map(Iterator::collect), Some(closer));
    }

    #[test]
    fn a_place_is_two_digests_or_foreign(
        next in any::<[u8; 20]>(), first in any::<[u8; 20]>(), odd in vec(any::<u8>(), 1..=MAX_PAGE),
    ) {
        let bytes = Page::bytes_of(&Id::new(next), &Id::new(first));
        let page = Page::new(&bytes).expect("a place");
        prop_assert_eq!(page.digests(), Some((Id::new(next), Id::new(first))));
        prop_assert_eq!(Page::new(&odd).expect("a place").digests().is_some(), odd.len() == 40);
    }
}

/// For a peer of 2003 the arguments are those that it knows, and the rest stands beside.
#[test]
fn they_stand_where_peers_of_2003_do_not_look() {
    let shown = |method: &Method<'_>| written(method).escape_ascii().to_string();
    let key = Id::new([b'k'; 20]);
    let end = "3:tid20:tttttttttttttttttttt3:typ3:reqe";
    let arguments = format!("3:argd{KEY}{SENDER}5:value1:ve");
    assert_eq!(
        shown(&Method::StoreValue { key, value: b"v", life: Some(9) }),
        format!("d{arguments}4:lifei9e3:req11:store_value{end}")
    );
    assert_eq!(
        shown(&Method::HandOn { key, value: b"v", age: 7, life: Some(9) }),
        format!("d3:agei7e{arguments}4:lifei9e3:req11:store_value{end}")
    );
    assert_eq!(
        shown(&Method::FindValue { key, from: Page::new(b"there") }),
        format!("d3:argd{KEY}{SENDER}e4:from5:there3:req10:find_value{end}")
    );
    let rsp = "3:tid20:tttttttttttttttttttt3:typ3:rspe";
    let stored = body(|out| message::response_stored(out, TID, &me(), 86_400));
    assert_eq!(stored.escape_ascii().to_string(), format!("d3:rspd4:lifei86400e{SENDER}e{rsp}"));
    let page = body(|out| {
        let beside = ValuesAnswer { closer: &[me()], more: Page::new(b"there") };
        message::response_page(out, TID, &me(), ["v"], beside);
    });
    let node = "d4:host9:192.0.2.12:id20:iiiiiiiiiiiiiiiiiiii4:porti4711ee";
    assert_eq!(
        page.escape_ascii().to_string(),
        format!("d3:rspd6:closerl{node}e4:more5:there{SENDER}6:valuesl1:vee{rsp}")
    );
    let nodes = body(|out| {
        let beside = NodesAnswer { wants: None, more: Page::new(b"there") };
        message::response_nodes_beside(out, TID, &me(), &[me()], beside);
    });
    assert_eq!(
        nodes.escape_ascii().to_string(),
        format!("d3:rspd4:more5:there5:nodesl{node}e{SENDER}e{rsp}")
    );
    // Without them, all is as in 2003.
    let plain = body(|out| {
        message::response_page(out, TID, &me(), ["v"], ValuesAnswer::default());
    });
    assert_eq!(
        plain,
        body(|out| {
            message::response_values(out, TID, &me(), ["v"]);
        })
    );
}

/// What cannot be read must not make a value live longer, nor begin a search anew.
#[test]
fn malformed_ones_are_refused_in_requests() {
    let request = |beside: &str, name: &str, value: &str| {
        let (age, beside) = beside.split_once('/').expect("an age, and what follows the arguments");
        let arguments = format!("3:argd{KEY}{SENDER}{value}e");
        format!("d{age}{arguments}{beside}3:req{}:{name}3:tid1:t3:typ3:reqe", name.len())
    };
    for age in ["", "3:agei1e"] {
        for life in ["i-1e", "i4294967296e", "i-9223372036854775808e", "0:", "2:12", "le", "de"] {
            let request = request(&format!("{age}/4:life{life}"), "store_value", "5:value1:v");
            assert_eq!(method(request.as_bytes()), Err("`life`: a number of seconds is needed".into()));
        }
        let request = request(&format!("{age}/4:lifei0e"), "store_value", "5:value1:v");
        assert!(matches!(
            method(request.as_bytes()),
            Ok(Method::StoreValue { life: Some(0), .. } | Method::HandOn { life: Some(0), .. })
        ));
    }
    let long = format!("{}:{}", MAX_PAGE + 1, "x".repeat(MAX_PAGE + 1));
    for from in ["0:", &long, "i1e", "le", "de"] {
        let request = request(&format!("/4:from{from}"), "find_value", "");
        let error = method(request.as_bytes()).expect_err(from);
        assert_eq!(error, "`from`: what an answer gave as `more` is needed");
    }
    // Beside another method they mean nothing.
    let request = request("/4:fromi1e4:lifele", "ping", "").replace(KEY, "");
    assert_eq!(method(request.as_bytes()), Ok(Method::Ping));
}

/// In an answer they are passed over: the rest of it counts.
#[test]
fn malformed_ones_are_passed_over_in_answers() {
    let long = format!("{}:{}", MAX_PAGE + 1, "x".repeat(MAX_PAGE + 1));
    for odd in ["i-1e", "i4294967296e", "0:", "le", "d1:ai1ee", &long] {
        let bytes = format!("d3:rspd4:life{odd}4:more{odd}{SENDER}6:valuesl1:vee3:tid1:t3:typ3:rspe");
        let response = response(bytes.as_bytes());
        assert_eq!((response.life(), response.more()), (None, None), "{odd}");
        assert_eq!(response.values().expect("a list").count(), 1);
    }
}

#[test]
fn the_largest_value_fits_beside_all_of_it() {
    let (value, tid) = (vec![b'v'; 99_000], [b't'; MAX_TID]);
    let longest = Contact {
        id: Id::new([0xff; 20]),
        addr: "[feee:feee:feee:feee:feee:feee:feee:feee]:65535".parse().expect("an address"),
    };
    let (key, life) = (Id::new([0xff; 20]), Some(u32::MAX));
    let request = body(|out| {
        let sent = Method::HandOn { key, value: &value, age: u32::MAX, life };
        assert_eq!(message::request(out, &tid, &longest, &sent), Ok(()));
    });
    assert!(request.len() <= MAX_BODY);
    let answer = body(|out| {
        let beside = ValuesAnswer { closer: &[], more: Page::new(&[0xff; MAX_PAGE]) };
        assert_eq!(message::response_page(out, &tid, &longest, [&value], beside), 1);
    });
    assert!(answer.len() <= MAX_BODY);
}
