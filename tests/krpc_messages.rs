//! KRPC's messages: the same after a round trip, within bounds, and hostile
//! ones turned away with the right answer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use khashmir::bencode::Encoder;
use khashmir::krpc::message::{
    self, Fault, Garbage, MAX_BODY, MAX_ERROR_TEXT, MAX_NODES, MAX_TID, Message, Method, Page, Rejected,
    Response, ValuesAnswer,
};
use khashmir::krpc::netstring::{self, TooLong};
use khashmir::{Contact, Id};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// The longest message with its frame.
const WHOLE: usize = 99_999;
const TID: &[u8] = b"tttttttttttttttttttt";
const ME: &[u8; 20] = b"iiiiiiiiiiiiiiiiiiii";

fn me() -> Contact {
    Contact { id: Id::new(*ME), addr: SocketAddr::from(([192, 0, 2, 1], 4711)) }
}

/// The contact whose text is longest.
fn longest() -> Contact {
    let host = Ipv6Addr::from([0xffee_u16; 8].map(|group| group & 0xfeff));
    Contact { id: Id::new([0xff; 20]), addr: SocketAddr::from((host, u16::MAX)) }
}

/// The one message in `framed`, without its frame.
fn body(framed: &[u8]) -> &[u8] {
    let taken = netstring::take(framed, WHOLE).expect("a netstring").expect("a whole one");
    assert_eq!(taken.consumed, framed.len(), "one message and nothing else");
    &framed[taken.body]
}

fn response(bytes: &[u8]) -> Response<'_> {
    match Message::parse(bytes) {
        Ok(Message::Response(response)) => response,
        other => panic!("not a response: {other:?}"),
    }
}

prop_compose! {
    fn id()(bytes in any::<[u8; 20]>()) -> Id { Id::new(bytes) }
}

fn contact() -> impl Strategy<Value = Contact> {
    let host = prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::from(Ipv4Addr::from_bits(bits))),
        any::<u128>().prop_map(|bits| IpAddr::from(Ipv6Addr::from_bits(bits))),
        any::<[u16; 2]>().prop_map(|[a, b]| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, a, b))),
    ];
    (id(), host, 1u16..)
        .prop_map(|(id, host, port)| Contact { id, addr: SocketAddr::new(host.to_canonical(), port) })
        .prop_filter("reachable", Contact::is_reachable)
}

fn tid() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![vec(any::<u8>(), 20), vec(any::<u8>(), 1..=MAX_TID)]
}

/// Bytes of each kind of message, as this crate writes them.
fn samples() -> Vec<Vec<u8>> {
    let mut samples = vec![];
    for method in [
        Method::Ping,
        Method::FindNode { target: Id::new([7; 20]) },
        Method::StoreValue { key: Id::new([8; 20]), value: b"a value", life: None },
        Method::FindValue { key: Id::new([9; 20]), from: None },
        Method::HandOn { key: Id::new([8; 20]), value: b"a value", age: 7, life: Some(9) },
        Method::FindValue { key: Id::new([9; 20]), from: Page::new(&[10; 40]) },
    ] {
        let mut out = vec![];
        message::request(&mut out, TID, &me(), &method).expect("short enough");
        samples.push(out);
    }
    let mut add = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut out = vec![];
        write(&mut out);
        samples.push(out);
    };
    add(&|out| message::response_empty(out, TID, &me()));
    add(&|out| message::response_nodes(out, TID, &me(), &[me(), longest()]));
    add(&|out| assert_eq!(message::response_values(out, TID, &me(), ["one", "", "three"]), 3));
    add(&|out| message::response_stored(out, TID, &me(), 86_400));
    add(&|out| {
        let beside = ValuesAnswer { closer: &[longest()], more: Page::new(&[10; 40]) };
        assert_eq!(message::response_page(out, TID, &me(), ["one"], beside), 1);
    });
    add(&|out| message::error(out, TID, Fault::UNKNOWN_METHOD));
    add(&|out| message::error(out, TID, Fault::Text(b"too full")));
    samples.iter().map(|framed| body(framed).to_vec()).collect()
}

/// Reads everything that can be read of a message, whatever it is.
fn read_through(bytes: &[u8]) {
    match Message::parse(bytes) {
        Ok(Message::Response(response)) => {
            let nodes = response.nodes().map_or(0, Iterator::count);
            assert!(nodes <= MAX_NODES);
            response.values().into_iter().flatten().for_each(drop);
        }
        Ok(Message::Error(reply)) => assert!(reply.error.to_string().len() <= 1000),
        Ok(Message::Request(_)) | Err(Rejected::Silent(_) | Rejected::BadResponse { .. }) => {}
        Err(Rejected::Answer { tid, error }) => {
            // What is answered must be something that can be read in turn.
            let mut out = vec![];
            message::error(&mut out, tid, error);
            assert!(matches!(Message::parse(body(&out)), Ok(Message::Error(reply)) if reply.error == error));
        }
    }
}

proptest! {
    #[test]
    fn requests_come_back(
        tid in tid(), sender in contact(), key in id(), value in vec(any::<u8>(), 0..5000), which in 0..4,
    ) {
        let method = match which {
            0 => Method::Ping,
            1 => Method::FindNode { target: key },
            2 => Method::StoreValue { key, value: &value, life: None },
            _ => Method::FindValue { key, from: None },
        };
        let mut out = vec![];
        prop_assert_eq!(message::request(&mut out, &tid, &sender, &method), Ok(()));
        let expected = message::Request { tid: &tid, sender: sender.id, method };
        prop_assert_eq!(Message::parse(body(&out)), Ok(Message::Request(expected)));
    }

    #[test]
    fn responses_come_back(
        tid in tid(),
        sender in contact(),
        nodes in option::of(vec(contact(), 0..20)),
        values in option::of(vec(vec(any::<u8>(), 0..200), 0..20)),
    ) {
        let (mut empty, mut with_nodes, mut with_values) = (vec![], vec![], vec![]);
        message::response_empty(&mut empty, &tid, &sender);
        let empty = response(body(&empty));
        prop_assert_eq!((empty.tid, empty.sender), (&tid[..], sender.id));
        prop_assert!(empty.nodes().is_none() && empty.values().is_none());
        if let Some(nodes) = nodes {
            message::response_nodes(&mut with_nodes, &tid, &sender, &nodes);
            let read = response(body(&with_nodes));
            prop_assert_eq!((read.tid, read.sender), (&tid[..], sender.id));
            prop_assert_eq!(read.nodes().map(Iterator::collect), Some(nodes));
            prop_assert!(read.values().is_none());
        }
        if let Some(values) = values {
            prop_assert_eq!(message::response_values(&mut with_values, &tid, &sender, &values), values.len());
            let read = response(body(&with_values));
            prop_assert_eq!((read.tid, read.sender), (&tid[..], sender.id));
            prop_assert_eq!(read.values().map(|values| values.map(<[u8]>::to_vec).collect()), Some(values));
            prop_assert!(read.nodes().is_none());
        }
    }

    #[test]
    fn errors_come_back(tid in tid(), number in any::<i64>(), text in vec(any::<u8>(), 0..=MAX_ERROR_TEXT)) {
        for error in [Fault::Number(number), Fault::Text(&text)] {
            let mut out = vec![];
            message::error(&mut out, &tid, error);
            let expected = message::ErrorReply { tid: &tid, error };
            prop_assert_eq!(Message::parse(body(&out)), Ok(Message::Error(expected)));
        }
    }

    #[test]
    fn any_bytes_are_survived(bytes in vec(any::<u8>(), 0..300)) {
        read_through(&bytes);
    }

    #[test]
    fn spliced_messages_are_survived(
        which in any::<[prop::sample::Index; 4]>(),
        piece in vec(any::<u8>(), 0..4),
    ) {
        let samples = samples();
        let [first, second, cut, from] = which;
        let (first, second) = (first.get(&samples), second.get(&samples));
        let (cut, from) = (cut.index(first.len()), from.index(second.len()));
        read_through(&[&first[..cut], &piece, &second[from..]].concat());
    }

    #[test]
    fn values_go_in_while_they_fit(lengths in vec(0usize..40_000, 0..12), small in vec(0usize..50, 0..12)) {
        let lengths = lengths.into_iter().chain(small);
        let values: Vec<Vec<u8>> = lengths.map(|length| vec![b'v'; length]).collect();
        let mut out = vec![];
        let count = message::response_values(&mut out, TID, &me(), &values);
        prop_assert!(out.len() <= WHOLE);
        let read: Vec<&[u8]> = response(body(&out)).values().expect("a list").collect();
        prop_assert_eq!(read.len(), count);
        // In order, and what was left out would not have fitted at the end either.
        let mut read = read.into_iter().peekable();
        for value in &values {
            if read.next_if(|next| *next == &value[..]).is_none() {
                let more = value.len().to_string().len() + 1 + value.len();
                prop_assert!(out.len() + more > WHOLE, "{} more bytes would fit", more);
            }
        }
        prop_assert!(read.next().is_none());
    }
}

#[test]
fn every_truncation_and_every_changed_byte_is_survived() {
    for sample in samples() {
        assert!(Message::parse(&sample).is_ok());
        for at in 0..sample.len() {
            assert!(
                matches!(Message::parse(&sample[..at]), Err(Rejected::Silent(Garbage::Bencode(_)))),
                "cut at {at}: {}",
                sample.escape_ascii()
            );
            for byte in 0..=u8::MAX {
                let mut changed = sample.clone();
                changed[at] = byte;
                read_through(&changed);
            }
        }
    }
}

#[test]
fn nodes_beyond_the_limit_are_not_written() {
    let mut out = vec![];
    message::response_nodes(&mut out, TID, &me(), &[me(); MAX_NODES + 1]);
    assert_eq!(body(&out).windows(4).filter(|window| window == b"host").count(), MAX_NODES + 1);
}

#[test]
fn a_message_is_at_most_99_999_bytes_long() {
    assert_eq!(format!("{MAX_BODY}:,").len() + MAX_BODY, WHOLE);
    let request = |length: usize| {
        let mut out = b"before".to_vec();
        let value = vec![b'v'; length];
        let method = Method::StoreValue { key: Id::new([1; 20]), value: &value, life: None };
        let result = message::request(&mut out, TID, &me(), &method);
        (result, out.split_off(6))
    };
    let (_, short) = request(10_000);
    let rest = short.len() - 10_000;
    let (result, out) = request(WHOLE - rest);
    assert_eq!((result, out.len()), (Ok(()), WHOLE));
    assert!(matches!(Message::parse(body(&out)), Ok(Message::Request(_))));
    for length in [WHOLE - rest + 1, MAX_BODY, MAX_BODY + 1, 1_000_000] {
        assert_eq!(request(length), (Err(TooLong { limit: MAX_BODY }), vec![]));
    }

    let values = |length: usize| {
        let mut out = vec![];
        let count = message::response_values(&mut out, TID, &me(), [vec![b'v'; length]]);
        (count, out.len())
    };
    let rest = values(10_000).1 - 10_000;
    assert_eq!(values(WHOLE - rest), (1, WHOLE));
    assert_eq!(values(WHOLE - rest + 1).0, 0);
}

#[test]
fn the_largest_value_fits_beside_anything() {
    let value = vec![b'v'; 99_000];
    let tid = [b't'; MAX_TID];
    let (mut request, mut response) = (vec![], vec![]);
    let method = Method::StoreValue { key: Id::new([0xff; 20]), value: &value, life: None };
    assert_eq!(message::request(&mut request, &tid, &longest(), &method), Ok(()));
    assert_eq!(message::response_values(&mut response, &tid, &longest(), [&value]), 1);
    assert!(request.len() <= WHOLE && response.len() <= WHOLE);
}

#[test]
fn values_that_do_not_fit_make_room_for_others() {
    let (large, small) = (vec![1; 60_000], vec![2; 100]);
    let mut out = vec![];
    assert_eq!(message::response_values(&mut out, TID, &me(), [&large, &large, &small, &large, &small]), 3);
    let lengths: Vec<_> = response(body(&out)).values().expect("a list").map(<[u8]>::len).collect();
    assert_eq!(lengths, [60_000, 100, 100]);
}

#[test]
fn messages_are_appended_in_wire_order() {
    let mut out = vec![];
    message::error(&mut out, b"t", Fault::Number(2));
    message::error(&mut out, b"u", Fault::Text(b"no"));
    message::response_empty(&mut out, b"v", &me());
    let expected = "28:d3:erri2e3:tid1:t3:typ3:erre,29:d3:err2:no3:tid1:u3:typ3:erre,\
        93:d3:rspd6:senderd4:host9:192.0.2.12:id20:iiiiiiiiiiiiiiiiiiii4:porti4711eee3:tid1:v3:typ3:rspe,";
    assert_eq!(out.escape_ascii().to_string(), expected);
}

#[test]
fn an_error_shows_as_safe_text() {
    assert_eq!(Fault::Number(-4).to_string(), "-4");
    assert_eq!(Fault::Text(b"plain (text), 'quoted'").to_string(), "plain (text), 'quoted'");
    assert_eq!(Fault::Text(b"\x1b[2J\n\0\\\xff").to_string(), "\\x1b[2J\\x0a\\x00\\\\\\xff");
    assert_eq!(Fault::Text(&[b'x'; 200]).to_string(), "x".repeat(200));
    assert_eq!(Fault::Text(&[b'x'; 201]).to_string(), "x".repeat(200) + "…");
    let mut out = vec![];
    message::error(&mut out, TID, Fault::Text(&[b'x'; MAX_ERROR_TEXT + 1]));
    assert!(matches!(Message::parse(body(&out)),
        Ok(Message::Error(reply)) if reply.error == Fault::Text(&[b'x'; MAX_ERROR_TEXT])));
}

#[test]
fn the_longest_contact_is_written_whole() {
    let mut out = vec![];
    message::response_nodes(&mut out, TID, &longest(), &[longest()]);
    assert_eq!(response(body(&out)).nodes().map(Iterator::collect), Some(vec![longest()]));
    let mut contact = vec![];
    let mut encoder = Encoder::new(&mut contact);
    encoder.bytes(longest().addr.ip().to_string().as_bytes());
    assert!(out.windows(contact.len()).any(|window| window == contact));
}

#[test]
fn hosts_have_one_spelling() {
    let mut mapped = me();
    mapped.addr.set_ip("::ffff:192.0.2.1".parse().expect("an address"));
    let (mut plain, mut out) = (vec![], vec![]);
    message::response_nodes(&mut plain, TID, &me(), &[me()]);
    message::response_nodes(&mut out, TID, &mapped, &[mapped]);
    assert_eq!(out, plain);
}

#[test]
fn a_padded_request_is_long_enough_and_means_the_same() {
    let method = Method::FindNode { target: Id::of(b"target") };
    let mut plain = Vec::new();
    message::request(&mut plain, TID, &me(), &method).expect("short enough");
    for least in 0..1300 {
        let mut out = b"before".to_vec();
        assert_eq!(message::padded_request(&mut out, TID, &me(), &method, least), Ok(()));
        let taken = netstring::take(&out[6..], 99_999).expect("a netstring").expect("all of it");
        let body = &out[6..][taken.body];
        assert!(body.len() >= least && body.len() <= (plain.len() - 5).max(least + 9), "{}", body.len());
        let Ok(Message::Request(request)) = Message::parse(body) else { panic!("{least}") };
        assert_eq!((request.tid, request.sender, request.method), (TID, me().id, method));
    }
}

#[test]
fn closer_nodes_go_beside_values_and_leave_room_for_the_frame() {
    let closer: Vec<Contact> =
        (0..8u8).map(|n| Contact { id: Id::of(&[n]), addr: ([192, 0, 2, n + 1], 4000).into() }).collect();
    for size in [1, 90_000, 99_000, 99_800] {
        let values = [vec![b'v'; size], b"small".to_vec()];
        let mut out = Vec::new();
        let count = message::response_values_and_closer(&mut out, TID, &me(), &values, &closer);
        assert!(out.len() <= 99_999, "{}", out.len());
        assert_eq!(count, if size < 99_500 { 2 } else { 1 });
        let taken = netstring::take(&out, 99_999).expect("a netstring").expect("all of it");
        let Ok(Message::Response(response)) = Message::parse(&out[taken.body]) else { panic!("{size}") };
        assert!(response.closer().expect("a list").eq(closer.iter().copied()));
        assert_eq!(response.values().expect("a list").count(), count);
        assert!(response.nodes().is_none(), "a peer of 2003 would look no further");
    }
    // Whatever others mean by the key, their values count.
    let odd = b"d3:rspd6:closeri7e6:senderd2:id20:aaaaaaaaaaaaaaaaaaaae6:valuesl1:vee3:tid1:x3:typ3:rspe";
    let Ok(Message::Response(response)) = Message::parse(odd) else { panic!("not a response") };
    assert!(response.closer().is_none() && response.values().expect("a list").eq([b"v"]));
}

/// Contacts are read in a short way where they look as usual; what is odd about one must not
/// depend on which way it is.
#[test]
fn odd_contacts_are_left_out() {
    let id = "iiiiiiiiiiiiiiiiiiii";
    let usual = |host: &str, port: &str| format!("4:host{}:{host}2:id20:{id}4:porti{port}e", host.len());
    let reads = |entry: &str| {
        let message = format!("d3:rspd5:nodesld{entry}ee6:senderd2:id20:{id}ee3:tid1:t3:typ3:rspe");
        let Ok(Message::Response(response)) = Message::parse(message.as_bytes()) else {
            panic!("{message}");
        };
        response.nodes().expect("a list").map(|contact| contact.addr.to_string()).collect::<Vec<_>>()
    };
    for (host, port, read) in [
        ("192.0.2.1", "1", "192.0.2.1:1"),
        ("192.0.2.255", "65535", "192.0.2.255:65535"),
        ("2001:db8::1", "4711", "[2001:db8::1]:4711"),
        ("::ffff:192.0.2.1", "4711", "192.0.2.1:4711"),
    ] {
        assert_eq!(reads(&usual(host, port)), [read]);
        assert_eq!(reads(&(usual(host, port) + "4:zzzz0:")), [read], "with a further key");
        assert_eq!(reads(&("1:a0:".to_owned() + &usual(host, port))), [read], "with one before");
    }
    for (host, port) in [
        ("192.0.2.1", "0"),
        ("192.0.2.1", "65536"),
        ("192.0.2.1", "99999"),
        ("192.0.2.1", "-1"),
        ("192.0.2.1", "9223372036854775807"),
        ("0.0.0.0", "4711"),
        ("255.255.255.255", "4711"),
        ("192.0.2.01", "4711"),
        ("192.0.2.256", "4711"),
        ("localhost", "4711"),
        ("", "4711"),
    ] {
        assert_eq!(reads(&usual(host, port)), [""; 0], "{host}:{port}");
    }
    let long = "1".repeat(100);
    assert_eq!(reads(&usual(&long, "4711")), [""; 0]);
    assert_eq!(reads("4:host9:192.0.2.12:id19:iiiiiiiiiiiiiiiiiii4:porti4711e"), [""; 0]);
    assert_eq!(reads("4:host9:192.0.2.12:id20:iiiiiiiiiiiiiiiiiiii4:port4:4711"), [""; 0]);
    assert_eq!(reads("4:host9:192.0.2.12:id20:iiiiiiiiiiiiiiiiiiii"), [""; 0]);
    assert_eq!(reads(""), [""; 0]);
}
