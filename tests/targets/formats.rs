//! What is read is written again, and reads the same.

use std::net::SocketAddr;

use khashmir::airhook::packet::{MAX_MESSAGE, Packet};
use khashmir::bencode::{self, Encoder, MAX_DEPTH, Value};
use khashmir::krpc::message::{
    self, Fault, MAX_ERROR_TEXT, MAX_NODES, Message, Method, NodesAnswer, Rejected, Response, ValuesAnswer,
};
use khashmir::krpc::netstring::{self, NetstringError, Taken};
use khashmir::{Contact, Id};

use super::script::Script;

/// A datagram.
pub fn packet(datagram: &[u8]) {
    let Ok(packet) = Packet::parse(datagram) else { return };
    let lengths = packet.messages.iter().map(|message| {
        assert!((1..=MAX_MESSAGE + 1).contains(&message.len()));
        message.len()
    });
    let bytes: usize = lengths.map(|length| length + 1).sum();
    assert_eq!(packet.messages.iter().count(), usize::from(packet.messages.count()));
    assert!(bytes + packet.missed.len() <= datagram.len());
    let mut out = b"before".to_vec();
    packet.emit(&mut out);
    assert_eq!(&out[..6], b"before");
    let out = &out[6..];
    assert_eq!(Packet::parse(out), Ok(packet));
    // Only an interval, and sessions that are none, are left out.
    let left_out = datagram.len() - out.len();
    let none = packet.session == 0 || packet.observed_session == 0;
    assert!(left_out == 0 && out == datagram || left_out <= 9 && (datagram[0] & 1 != 0 || none));
}

/// A bencoded value.
pub fn bencode(input: &[u8]) {
    match bencode::parse(input) {
        Ok(value) => {
            let mut out = Vec::new();
            write(&mut Encoder::new(&mut out), value, 0);
            assert!(out == input, "not canonical, but read");
        }
        Err(error) => assert!(error.at <= input.len()),
    }
}

fn write(out: &mut Encoder<'_>, value: Value<'_>, depth: usize) {
    assert!(depth <= MAX_DEPTH);
    match value {
        Value::Int(number) => drop(out.int(number)),
        Value::Bytes(bytes) => drop(out.bytes(bytes)),
        Value::List(list) => {
            out.list();
            list.iter().for_each(|item| write(out, item, depth + 1));
            out.end();
        }
        Value::Dict(dict) => {
            out.dict();
            for (at, (key, value)) in dict.iter().enumerate() {
                // Each look walks through all before it.
                if at < 64 {
                    assert!(dict.get(key) == Some(value) && dict.select([key]) == [Some(value)]);
                }
                write(out.key(key), value, depth + 1);
            }
            out.end();
        }
    }
}

/// A message, or a stream of framed ones that comes in pieces: the first byte says in which.
pub fn krpc(input: &[u8]) {
    let mut script = Script(input);
    let pieces = script.byte();
    let rest = script.0;
    message(rest);
    let limit = if pieces & 1 == 0 { 99_999 } else { 64 };
    let whole = frames(std::iter::once(rest), limit);
    let size = usize::from(pieces >> 1) + 1;
    assert_eq!(frames(rest.chunks(size), limit), whole);
    let (first, second) = rest.split_at(usize::from(pieces).min(rest.len()));
    assert_eq!(frames([first, second].into_iter(), limit), whole);
    whole.0.iter().for_each(|body| message(body));
}

/// The bodies that are read from these pieces, how much is left, and what ended it.
fn frames<'a>(
    pieces: impl Iterator<Item = &'a [u8]>,
    limit: usize,
) -> (Vec<Vec<u8>>, Option<NetstringError>, usize) {
    let (mut buffer, mut bodies) = (Vec::new(), Vec::new());
    let mut bytes = 0;
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match netstring::take(&buffer, limit) {
                Ok(Some(Taken { body, consumed })) => {
                    assert!(body.end < consumed && consumed <= buffer.len() && body.len() <= limit);
                    bodies.push(buffer[body].to_vec());
                    buffer.drain(..consumed);
                    bytes += consumed;
                }
                Ok(None) => {
                    // What is waited for is bounded.
                    assert!(buffer.len() <= limit + 12);
                    break;
                }
                Err(error) => return (bodies, Some(error), bytes),
            }
        }
    }
    (bodies, None, bytes)
}

fn me() -> Contact {
    Contact { id: Id::new(*b"the one who answers!"), addr: SocketAddr::from(([192, 0, 2, 1], 4711)) }
}

/// The one message in a frame.
fn unframed(out: &[u8]) -> &[u8] {
    let taken = netstring::take(out, 99_999).expect("a netstring").expect("whole");
    assert_eq!(taken.consumed, out.len());
    &out[taken.body]
}

fn message(bytes: &[u8]) {
    let mut out = Vec::new();
    match Message::parse(bytes) {
        Ok(Message::Request(request)) => {
            let sender = Contact { id: request.sender, ..me() };
            match message::request(&mut out, request.tid, &sender, &request.method) {
                Ok(()) => assert_eq!(Message::parse(unframed(&out)), Ok(Message::Request(request))),
                Err(_) => assert!(out.is_empty() && bytes.len() > 90_000),
            }
            out.clear();
            if message::padded_request(&mut out, request.tid, &sender, &request.method, 400).is_ok() {
                assert!(unframed(&out).len() >= 400);
                assert_eq!(Message::parse(unframed(&out)), Ok(Message::Request(request)));
            }
            if let Method::OfferValues { offer, .. } = request.method {
                assert!(offer.values().count() * 12 == offer.as_bytes().len());
            }
        }
        Ok(Message::Response(response)) => write_response(&response),
        Ok(Message::Error(reply)) => {
            let _ = reply.error.to_string();
            write_error(reply.tid, reply.error);
        }
        Err(Rejected::Answer { tid, error }) => write_error(tid, error),
        Err(Rejected::BadResponse { tid }) => assert!((1..=255).contains(&tid.len())),
        Err(Rejected::Silent(garbage)) => assert!(!garbage.to_string().is_empty()),
    }
}

fn write_error(tid: &[u8], error: Fault<'_>) {
    let mut out = Vec::new();
    message::error(&mut out, tid, error);
    let Ok(Message::Error(again)) = Message::parse(unframed(&out)) else { panic!("not an error") };
    let cut = match error {
        Fault::Text(text) => Fault::Text(&text[..text.len().min(MAX_ERROR_TEXT)]),
        number => number,
    };
    assert!(again.tid == tid && again.error == cut);
}

fn write_response(response: &Response<'_>) {
    let sender = Contact { id: response.sender, ..me() };
    let again = |out: &[u8], check: &dyn Fn(Response<'_>)| match Message::parse(unframed(out)) {
        Ok(Message::Response(again)) => {
            assert!(again.tid == response.tid && again.sender == response.sender);
            check(again);
        }
        other => panic!("not a response: {other:?}"),
    };
    let mut out = Vec::new();
    if let Some(nodes) = response.nodes() {
        let nodes: Vec<Contact> = nodes.collect();
        assert!(nodes.len() <= MAX_NODES && nodes.iter().all(Contact::is_reachable));
        let wants = response.wants(64);
        let places: Option<Vec<u8>> =
            wants.map(|wants| (0..64).filter(|place| wants >> place & 1 != 0).collect());
        let beside = NodesAnswer { wants: places.as_deref(), more: response.more() };
        message::response_nodes_beside(&mut out, response.tid, &sender, &nodes, beside);
        again(&out, &|again| {
            assert!(again.nodes().expect("nodes").eq(nodes.iter().copied()));
            assert_eq!((again.more(), again.has_none_so_far()), (response.more(), response.more().is_some()));
            assert_eq!(again.wants(64), wants);
            assert!(again.wants(3).is_none_or(|wants| wants < 8));
        });
        out.clear();
    }
    if let Some(values) = response.values() {
        let values: Vec<&[u8]> = values.collect();
        let closer: Vec<Contact> = response.closer().map(Iterator::collect).unwrap_or_default();
        let sent = {
            let beside = ValuesAnswer { closer: &closer, more: response.more() };
            message::response_page(&mut out, response.tid, &sender, &values, beside)
        };
        again(&out, &|again| {
            let back: Vec<&[u8]> = again.values().expect("values").collect();
            assert!(back.len() == sent && (sent < values.len() || back == values));
            assert!(again.closer().is_none_or(|back| back.eq(closer.iter().copied())));
            assert_eq!(again.more(), response.more());
        });
        out.clear();
    }
    if let Some(life) = response.life() {
        message::response_stored(&mut out, response.tid, &sender, life);
        again(&out, &|again| assert_eq!(again.life(), Some(life)));
        out.clear();
    }
    message::response_empty(&mut out, response.tid, &sender);
    again(&out, &|again| assert!(again.nodes().is_none() && again.values().is_none()));
}
