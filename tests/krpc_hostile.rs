//! KRPC messages that are flawed: each turned away with the right answer.

use std::net::SocketAddr;

use khashmir::bencode::MAX_ITEMS;
use khashmir::krpc::message::{self, Fault, Garbage, MAX_NODES, Message, Method, Rejected, Response};
use khashmir::{Contact, Id};

const WHOLE: usize = 99_999;
const ME: &[u8; 20] = b"iiiiiiiiiiiiiiiiiiii";

fn me() -> Contact {
    Contact { id: Id::new(*ME), addr: SocketAddr::from(([192, 0, 2, 1], 4711)) }
}

fn response(bytes: &[u8]) -> Response<'_> {
    match Message::parse(bytes) {
        Ok(Message::Response(response)) => response,
        other => panic!("not a response: {other:?}"),
    }
}

#[test]
fn hostile_shapes_are_turned_away() {
    let silent = |bytes: &[u8]| match Message::parse(bytes) {
        Err(Rejected::Silent(garbage)) => garbage.to_string(),
        other => panic!("not silent: {other:?}"),
    };
    assert!(silent(&b"l".repeat(WHOLE)).contains("deep"));
    assert!(silent(&b"d3:arg".repeat(WHOLE / 6)).contains("deep"));
    assert!(silent(b"l0:l0:").contains("ends"));
    let many = [&b"d3:rspd6:valuesl"[..], &b"0:".repeat(MAX_ITEMS), b"ee3:tid1:t3:typ3:rspe"].concat();
    assert!(silent(&many).contains("too many"));
    assert!(silent(b"le").contains("dictionary"));
    assert!(silent(b"4:ping").contains("dictionary"));
}

#[test]
fn without_a_transaction_there_is_nobody_to_answer() {
    let long = [b"d3:tid256:", &[b't'; 256][..], b"3:typ3:reqe"].concat();
    for message in [
        &b"d3:argde3:req4:ping3:typ3:reqe"[..],
        b"d3:tid0:3:typ3:reqe",
        b"d3:tidi7e3:typ3:reqe",
        b"de",
        &long,
    ] {
        assert_eq!(Message::parse(message), Err(Rejected::Silent(Garbage::NoTransaction)));
    }
    for message in [&b"d3:tid1:te"[..], b"d3:tid1:t3:typi1ee", b"d3:tid1:t3:typlee"] {
        assert_eq!(Message::parse(message), Err(Rejected::Answer { tid: b"t", error: Fault::UNKNOWN_KIND }));
    }
    let longest = [b"d3:tid255:", &[b't'; 255][..], b"3:typ3:reqe"].concat();
    assert!(matches!(Message::parse(&longest), Err(Rejected::Answer { tid, .. }) if tid.len() == 255));
}

#[test]
fn an_unknown_kind_is_told_so() {
    assert_eq!(
        Message::parse(b"d3:tid1:t3:typ3:zzze"),
        Err(Rejected::Answer { tid: b"t", error: Fault::Number(3) })
    );
}

/// What is said to a request of this method with these arguments (each the raw
/// value of its name).
fn answer(method: &str, arguments: &[(&str, &str)]) -> String {
    let arguments: String =
        arguments.iter().map(|(name, value)| format!("{}:{name}{value}", name.len())).collect();
    raw_answer(&format!("3:argd{arguments}e3:req{}:{method}", method.len()))
}

fn raw_answer(parts: &str) -> String {
    match Message::parse(format!("d{parts}3:tid2:TT3:typ3:reqe").as_bytes()) {
        Err(Rejected::Answer { tid: b"TT", error }) => error.to_string(),
        other => panic!("{parts}: {other:?}"),
    }
}

#[test]
fn a_flawed_request_is_told_what_is_wrong() {
    let good = "20:kkkkkkkkkkkkkkkkkkkk";
    let short = "19:kkkkkkkkkkkkkkkkkkk";
    let long = "21:kkkkkkkkkkkkkkkkkkkkk";
    let sender = &format!("d4:host9:127.0.0.12:id{good}4:porti1ee");
    // Every method, with arguments that are right.
    let right: [(&str, &[(&str, &str)]); 4] = [
        ("ping", &[("sender", sender)]),
        ("find_node", &[("sender", sender), ("target", good)]),
        ("store_value", &[("key", good), ("sender", sender), ("value", "1:v")]),
        ("find_value", &[("key", good), ("sender", sender)]),
    ];
    for (method, arguments) in right {
        for (at, (name, _)) in arguments.iter().enumerate() {
            let mut missing = arguments.to_vec();
            missing.remove(at);
            let mut wrong = vec!["i7e", "le", "de"];
            match *name {
                "sender" => {
                    wrong.extend(["4:text", "d2:idi7ee", "d2:id19:iiiiiiiiiiiiiiiiiiie", "d4:porti1ee"])
                }
                "value" => {}
                _ => wrong.extend([short, long, "0:"]),
            }
            let flawed = wrong.into_iter().map(|value| {
                let mut flawed = arguments.to_vec();
                flawed[at].1 = value;
                flawed
            });
            for flawed in flawed.chain([missing]) {
                let text = answer(method, &flawed);
                assert!(text.starts_with(&format!("argument `{name}`: ")), "{method} {flawed:?}: {text}");
                assert!(text.ends_with("needed"), "{text}");
            }
        }
        for (place, extra) in [(0, "a"), (arguments.len(), "z")] {
            let mut additional = arguments.to_vec();
            additional.insert(place, (extra, "i1e"));
            let text = answer(method, &additional);
            assert!(text.starts_with(&format!("{method} takes ")), "{text}");
            assert!(arguments.iter().all(|(name, _)| text.contains(&format!("`{name}`"))), "{text}");
        }
    }
    // An argument of another method is an additional one.
    assert!(answer("ping", &[("key", good), ("sender", sender)]).starts_with("ping takes"));
    assert!(answer("find_value", &[("sender", sender), ("target", good)]).starts_with("find_value takes"));

    assert_eq!(answer("frobnicate", &[("sender", sender)]), "2");
    assert_eq!(answer("", &[]), "2");
    assert_eq!(answer("Ping", &[]), "2");
    assert!(raw_answer("3:argde3:reqi1e").contains("`req`"));
    assert!(raw_answer("3:argde").contains("`req`"));
    assert!(raw_answer("3:argle3:req4:ping").contains("`arg`"));
    assert!(raw_answer("3:req4:ping").contains("`arg`"));
}

#[test]
fn further_keys_are_ignored_where_they_may_be() {
    let request = b"d1:ai1e3:argd6:senderd3:agei3e2:id20:iiiiiiiiiiiiiiiiiiiie\
        e3:req4:ping3:tid1:t3:typ3:req3:zzzlee";
    let expected = message::Request { tid: b"t", sender: Id::new(*ME), method: Method::Ping };
    assert_eq!(Message::parse(request), Ok(Message::Request(expected)));
    let reply = b"d3:rspd3:agei1e5:nodesle6:senderd2:id20:iiiiiiiiiiiiiiiiiiii4:name1:xe6:valuesle3:zzzdee\
        3:tid1:t3:typ3:rspe";
    let reply = response(reply);
    assert_eq!(reply.sender, Id::new(*ME));
    assert_eq!((reply.nodes().map(Iterator::count), reply.values().map(Iterator::count)), (Some(0), Some(0)));
}

#[test]
fn a_response_without_its_parts_fails_the_call() {
    let sender = "6:senderd2:id20:iiiiiiiiiiiiiiiiiiiie";
    for rsp in [
        String::new(),
        "3:rspi1e".into(),
        "3:rsple".into(),
        "3:rspde".into(),
        "3:rspd6:senderdee".into(),
        "3:rspd6:sender20:iiiiiiiiiiiiiiiiiiiie".into(),
        "3:rspd6:senderd2:id19:XXXee".replace("XXX", &"i".repeat(19)),
        format!("3:rspd5:nodesi1e{sender}e"),
        format!("3:rspd5:nodesde{sender}e"),
        format!("3:rspd{sender}6:values1:ve"),
    ] {
        let message = format!("d{rsp}3:tid1:t3:typ3:rspe");
        assert_eq!(Message::parse(message.as_bytes()), Err(Rejected::BadResponse { tid: b"t" }), "{message}");
    }
    for err in ["", "3:errle", "3:errde"] {
        let message = format!("d{err}3:tid1:t3:typ3:erre");
        assert_eq!(Message::parse(message.as_bytes()), Err(Rejected::BadResponse { tid: b"t" }), "{message}");
    }
}

/// A response whose list of nodes has these raw entries.
fn with_nodes(entries: &str) -> Vec<Contact> {
    let message =
        format!("d3:rspd5:nodesl{entries}e6:senderd2:id20:iiiiiiiiiiiiiiiiiiiiee3:tid1:t3:typ3:rspe");
    response(message.as_bytes()).nodes().expect("a list").collect()
}

fn entry(host: &str, id: &str, port: &str) -> String {
    format!("d4:host{}:{host}2:id{}:{id}4:port{port}e", host.len(), id.len())
}

#[test]
fn nodes_that_cannot_be_reached_are_left_out() {
    let id = "iiiiiiiiiiiiiiiiiiii";
    for entry in [
        entry("localhost", id, "i1e"),
        entry("example.org", id, "i1e"),
        entry("", id, "i1e"),
        entry("127.0.0.1 ", id, "i1e"),
        entry("127.1", id, "i1e"),
        entry("0127.0.0.1", id, "i1e"),
        entry("1.2.3.4:5", id, "i1e"),
        entry("[::1]", id, "i1e"),
        entry("fe80::1%eth0", id, "i1e"),
        entry(&"1".repeat(1000), id, "i1e"),
        entry("0.0.0.0", id, "i1e"),
        entry("::", id, "i1e"),
        entry("::ffff:0.0.0.0", id, "i1e"),
        entry("255.255.255.255", id, "i1e"),
        entry("224.0.0.1", id, "i1e"),
        entry("ff02::1", id, "i1e"),
        entry("192.0.2.1", "short", "i1e"),
        entry("192.0.2.1", "one byte more than 20", "i1e"),
        entry("192.0.2.1", id, "i0e"),
        entry("192.0.2.1", id, "i-1e"),
        entry("192.0.2.1", id, "i65536e"),
        entry("192.0.2.1", id, "i9223372036854775807e"),
        entry("192.0.2.1", id, "4:4711"),
        "d2:id20:iiiiiiiiiiiiiiiiiiii4:porti1ee".into(),
        "d4:host9:192.0.2.14:porti1ee".into(),
        "d4:host9:192.0.2.12:id20:iiiiiiiiiiiiiiiiiiiie".into(),
        "d4:hosti1e2:id20:iiiiiiiiiiiiiiiiiiii4:porti1ee".into(),
        "de".into(),
        "le".into(),
        "i1e".into(),
        "9:192.0.2.1".into(),
    ] {
        let good = self::entry("192.0.2.1", id, "i4711e");
        assert_eq!(with_nodes(&format!("{entry}{good}{entry}")), [me()], "{entry}");
    }
}

#[test]
fn hosts_have_one_spelling_when_read() {
    let id = "iiiiiiiiiiiiiiiiiiii";
    assert_eq!(with_nodes(&entry("::ffff:192.0.2.1", id, "i4711e")), [me()]);
    assert_eq!(with_nodes(&entry("0:0:0:0:0:ffff:192.0.2.1", id, "i4711e")), [me()]);
}

#[test]
fn what_is_no_byte_string_is_no_value() {
    let message =
        b"d3:rspd6:senderd2:id20:iiiiiiiiiiiiiiiiiiiie6:valuesl1:ai1ele0:1:bdeee3:tid1:t3:typ3:rspe";
    let values: Vec<_> = response(message).values().expect("a list").collect();
    assert_eq!(values, [&b"a"[..], b"", b"b"]);
}

#[test]
fn nodes_beyond_the_limit_are_not_read() {
    let good = entry("192.0.2.1", "iiiiiiiiiiiiiiiiiiii", "i4711e");
    assert_eq!(with_nodes(&good.repeat(MAX_NODES)).len(), MAX_NODES);
    assert_eq!(with_nodes(&good.repeat(MAX_NODES + 1)).len(), MAX_NODES);
    // Bad entries count: no response makes a reader search a long list.
    assert_eq!(with_nodes(&("de".repeat(MAX_NODES) + &good)).len(), 0);
}
