//! Messages recorded from the Khashmir of 2003: read, and written the same.

use std::net::SocketAddr;

use khashmir::bencode::{self, Value};
use khashmir::krpc::message::{self, Message, Rejected};
use khashmir::krpc::netstring;
use khashmir::{Contact, Id};

const RECORDED: &str = include_str!("data/krpc-2003.txt");

/// What is expected, what the message is, and its bytes with their frame.
fn recorded() -> impl Iterator<Item = (&'static str, &'static str, Vec<u8>)> {
    let mut lines = RECORDED.lines().skip_while(|line| !line.starts_with("# ["));
    std::iter::from_fn(move || {
        let (expected, what) = lines.next()?.strip_prefix("# [")?.split_once("] ")?;
        let digits = lines.next()?.as_bytes();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        Some((expected, what, digits.chunks(2).map(byte).collect::<Option<_>>()?))
    })
}

/// The speaker's contact, which a reader of messages has no use for.
fn speaker(body: &[u8]) -> Option<Contact> {
    let Value::Dict(message) = bencode::parse(body).ok()? else { return None };
    let Value::Dict(parts) = message.get(b"arg").or(message.get(b"rsp"))? else { return None };
    let Value::Dict(sender) = parts.get(b"sender")? else { return None };
    let (Value::Bytes(host), Value::Bytes(id)) = (sender.get(b"host")?, sender.get(b"id")?) else {
        return None;
    };
    let Value::Int(port) = sender.get(b"port")? else { return None };
    let host = std::str::from_utf8(host).ok()?.parse().ok()?;
    Some(Contact { id: Id::from_slice(id)?, addr: SocketAddr::new(host, port.try_into().ok()?) })
}

/// The same content, as this crate writes it.
fn written(body: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match Message::parse(body).ok()? {
        Message::Request(request) => {
            message::request(&mut out, request.tid, &speaker(body)?, &request.method).ok()?;
        }
        Message::Response(response) => match (response.nodes(), response.values()) {
            (Some(nodes), None) => {
                let nodes: Vec<Contact> = nodes.collect();
                message::response_nodes(&mut out, response.tid, &speaker(body)?, &nodes);
            }
            (None, Some(values)) => {
                message::response_values(&mut out, response.tid, &speaker(body)?, values);
            }
            (None, None) => message::response_empty(&mut out, response.tid, &speaker(body)?),
            (Some(_), Some(_)) => return None,
        },
        Message::Error(reply) => message::error(&mut out, reply.tid, reply.error),
    }
    Some(out)
}

#[test]
fn recorded_messages_are_read_and_written_the_same() {
    let mut counts = [0; 4];
    for (expected, what, framed) in recorded() {
        let taken = netstring::take(&framed, 99_999).expect(what).expect(what);
        assert_eq!(taken.consumed, framed.len(), "{what}");
        let body = &framed[taken.body];
        let read = Message::parse(body);
        match expected {
            "same" => {
                counts[0] += 1;
                let written = written(body).map(|bytes| bytes.escape_ascii().to_string());
                assert_eq!(written, Some(framed.escape_ascii().to_string()), "{what}");
            }
            "read" => {
                counts[1] += 1;
                assert!(read.is_ok(), "{what}: {read:?}");
            }
            "answer" => {
                counts[2] += 1;
                assert!(matches!(read, Err(Rejected::Answer { .. })), "{what}: {read:?}");
            }
            "silent" => {
                counts[3] += 1;
                assert!(matches!(read, Err(Rejected::Silent(_))), "{what}: {read:?}");
            }
            other => panic!("{other} is not an expectation"),
        }
    }
    assert_eq!(counts, [39, 1, 9, 2], "each recorded message is looked at");
}
