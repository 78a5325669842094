//! The simulator's peers of 2003, each alone with whoever calls it.

use std::net::SocketAddr;
use std::time::Duration;

use khashmir::airhook::packet::{Messages, Packet};
use khashmir::bencode;
use khashmir::krpc::message::{self, Message, Method};
use khashmir::krpc::netstring;
use khashmir::sim::Peer;
use khashmir::sim::original::connection::Connection;
use khashmir::sim::original::{Original, Outcome};
use khashmir::time::Time;
use khashmir::{Contact, Id};
use rand::rngs::ChaCha12Rng;
use rand::{Rng, RngExt, SeedableRng};

const NULL: Id = Id::new([0; 20]);

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn addr(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn transmitted(peer: &mut Original, now: Time) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    let mut buf = Vec::new();
    while peer.poll_transmit(now, &mut buf).is_some() {
        out.push(buf.clone());
    }
    out
}

/// The KRPC messages in datagrams.
fn messages(datagrams: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut stream = Vec::new();
    for datagram in datagrams {
        for message in Packet::parse(datagram).unwrap().messages.iter() {
            stream.extend_from_slice(&message[2..]);
        }
    }
    let (mut used, mut messages) = (0, Vec::new());
    while let Some(taken) = netstring::take(&stream[used..], 99_999).unwrap() {
        messages.push(stream[used..][taken.body].to_vec());
        used += taken.consumed;
    }
    assert_eq!(used, stream.len());
    messages
}

/// Somebody who talks to a peer by hand.
struct Caller {
    peer: Original,
    connection: Connection,
    own: Contact,
    now: Time,
    inbox: Vec<u8>,
}

impl Caller {
    fn new(id: Id) -> Self {
        let peer = Original::new(addr(2000), 5);
        let own = Contact { id, addr: addr(3000) };
        Caller { peer, connection: Connection::new(77), own, now: Time::ZERO, inbox: Vec::new() }
    }

    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        let mut due = Vec::new();
        let mut buf = Vec::new();
        loop {
            due.extend(self.connection.take_timer());
            while let Some(at) = due.iter().position(|&at| at <= self.now) {
                due.swap_remove(at);
                buf.clear();
                self.connection.send_next(self.now, &mut buf);
                self.peer.receive(self.now, self.own.addr, &buf);
                due.extend(self.connection.take_timer());
            }
            self.peer.handle_timeout(self.now);
            while let Some(to) = self.peer.poll_transmit(self.now, &mut buf) {
                if to == self.own.addr {
                    self.connection.receive(self.now, &buf, &mut self.inbox);
                    self.connection.schedule(self.now);
                }
            }
            due.extend(self.connection.take_timer());
            let next = due.iter().copied().chain(self.peer.next_deadline()).min();
            let Some(next) = next.filter(|&next| next <= end) else { break };
            self.now = self.now.max(next);
        }
        self.now = end;
    }

    /// What is answered to bytes of the stream.
    fn ask(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        self.connection.write(self.now, bytes);
        self.run(secs(2));
        let taken = netstring::take(&self.inbox, 99_999).unwrap()?;
        let body = self.inbox[taken.body].to_vec();
        self.inbox.drain(..taken.consumed);
        Some(body)
    }

    fn request(&mut self, method: &Method<'_>) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        message::request(&mut out, b"t", &self.own, method).unwrap();
        self.ask(&out)
    }
}

fn framed(body: &str) -> Vec<u8> {
    format!("{}:{body},", body.len()).into_bytes()
}

#[test]
fn further_keys_are_ignored_and_further_arguments_refused() {
    let mut caller = Caller::new(Id::of(b"caller"));
    let mut padded = Vec::new();
    message::padded_request(&mut padded, b"t", &caller.own, &Method::Ping, 500).unwrap();
    let answer = caller.ask(&padded).unwrap();
    assert!(matches!(Message::parse(&answer), Ok(Message::Response(_))));
    let sender = "d2:id20:aaaaaaaaaaaaaaaaaaaae";
    let more = format!("d3:argd3:agei1e6:sender{sender}e3:req4:ping3:tid1:t3:typ3:reqe");
    let answer = caller.ask(&framed(&more)).unwrap();
    assert!(matches!(Message::parse(&answer), Ok(Message::Error(_))));
    let less = format!("d3:argd6:sender{sender}e3:req9:find_node3:tid1:t3:typ3:reqe");
    let answer = caller.ask(&framed(&less)).unwrap();
    assert!(matches!(Message::parse(&answer), Ok(Message::Error(_))));
    let known: Vec<Id> = caller.peer.contacts().map(|contact| contact.id).collect();
    assert_eq!(known, [caller.own.id], "who asks amiss is not entered");
}

#[test]
fn a_request_in_an_opening_is_taken_when_it_is_repeated() {
    let mut peer = Original::new(addr(2000), 3);
    let own = Contact { id: Id::of(b"caller"), addr: addr(3000) };
    let mut request = vec![0, 0];
    message::request(&mut request, b"t", &own, &Method::Ping).unwrap();
    let mut bytes = vec![(request.len() - 1) as u8];
    bytes.extend_from_slice(&request);
    let mut now = Time::ZERO;
    let mut send = |sequence, observed: (u8, u32), next, with: bool| {
        let messages = Messages::parse(if with { &bytes } else { &[] }).unwrap();
        let packet = Packet {
            observed_sequence: observed.0,
            sequence,
            observed_session: observed.1,
            session: 9,
            next: Some(next),
            missed: &[],
            messages,
        };
        let mut datagram = Vec::new();
        packet.emit(&mut datagram);
        now += Duration::from_millis(100);
        peer.receive(now, own.addr, &datagram);
        transmitted(&mut peer, now)
    };
    let opened = send(0, (0, 0), 0, true);
    let session = Packet::parse(&opened[0]).unwrap().session;
    assert!(opened.iter().all(|out| Packet::parse(out).unwrap().messages.count() == 0));
    let reported = send(1, (0, session), 1, false);
    assert_eq!(reported.len(), 1);
    assert_eq!(Packet::parse(&reported[0]).unwrap().missed, [0]);
    let answered = send(2, (opened.len() as u8, session), 1, true);
    assert_eq!(messages(&answered).len(), 1);
}

#[test]
fn values_go_after_a_day() {
    let mut caller = Caller::new(Id::of(b"caller"));
    let key = Id::of(b"key");
    for value in [&b"first"[..], b"second", b""] {
        caller.request(&Method::StoreValue { key, value, life: None }).unwrap();
    }
    let values = |caller: &mut Caller| {
        let answer = caller.request(&Method::FindValue { key, from: None }).unwrap();
        let Ok(Message::Response(response)) = Message::parse(&answer) else { panic!() };
        assert!(response.values().is_some() != response.nodes().is_some());
        response.values().map(|values| values.map(<[u8]>::to_vec).collect::<Vec<_>>()).unwrap_or_default()
    };
    assert_eq!(values(&mut caller), [&b"first"[..], b"second", b""]);
    caller.run(secs(12 * 3600));
    caller.request(&Method::StoreValue { key, value: b"first", life: None }).unwrap();
    caller.run(secs(12 * 3600 - 60));
    assert_eq!(values(&mut caller).len(), 3);
    // It looks once an hour.
    caller.run(secs(3600 + 120));
    assert_eq!(values(&mut caller), [b"first"]);
    caller.run(secs(12 * 3600));
    assert_eq!(values(&mut caller), [b""; 0]);
    assert_eq!(caller.peer.values(), 0);
    assert_eq!(caller.peer.next_deadline(), None);
}

#[test]
fn silent_contacts_make_room_after_a_minute() {
    let mut peer = Original::new(addr(2000), 3).with_id(NULL);
    let mut now = Time::ZERO;
    // All on the other side of the space: that bucket is never split.
    let contact = |n: u8| Contact { id: Id::new([128 + n; 20]), addr: addr(3000 + u16::from(n)) };
    (0..8).for_each(|n| peer.assume_contact(now, contact(n)));
    let ping = |peer: &mut Original, now, n: u8| {
        let mut connection = Connection::new(5);
        let mut request = Vec::new();
        message::request(&mut request, b"t", &contact(n), &Method::Ping).unwrap();
        connection.write(now, &request);
        for _ in 0..3 {
            let mut datagram = Vec::new();
            connection.send_next(now, &mut datagram);
            peer.receive(now, contact(n).addr, &datagram);
            let mut inbox = Vec::new();
            let mut buf = Vec::new();
            while let Some(to) = peer.poll_transmit(now, &mut buf) {
                if to == contact(n).addr {
                    connection.receive(now, &buf, &mut inbox);
                }
            }
        }
    };
    let ids = |peer: &Original| peer.contacts().map(|contact| contact.id).collect::<Vec<_>>();
    ping(&mut peer, now, 8);
    assert_eq!(peer.calls(), 0, "the first was seen a moment ago");
    now += secs(901);
    ping(&mut peer, now, 9);
    assert_eq!(peer.calls(), 1);
    peer.handle_timeout(now + secs(59));
    assert!(ids(&peer).contains(&contact(0).id));
    peer.handle_timeout(now + secs(60));
    assert!(!ids(&peer).contains(&contact(0).id));
    assert!(ids(&peer).contains(&contact(9).id));
    assert_eq!(ids(&peer).len(), 8);
}

#[test]
fn four_are_asked_at_once_and_the_third_silence_counts() {
    let mut peer = Original::new(addr(2000), 3).with_id(NULL);
    let mut now = Time::ZERO;
    let contact = |n: u8| Contact { id: Id::new([128 + n; 20]), addr: addr(3000 + u16::from(n)) };
    (0..6).for_each(|n| peer.assume_contact(now, contact(n)));
    for left in [6, 6, 0] {
        let operation = peer.find_node(now, Id::new([200; 20]));
        for calls in [4, 2] {
            assert_eq!(peer.calls(), calls);
            transmitted(&mut peer, now);
            now += secs(59);
            peer.handle_timeout(now);
            assert_eq!(peer.calls(), calls);
            assert_eq!(peer.poll_outcome(), None);
            now += secs(1);
            peer.handle_timeout(now);
        }
        // Those that were silent are found all the same.
        let outcome = peer.poll_outcome();
        assert!(
            matches!(&outcome, Some((of, Outcome::Nodes(nodes))) if *of == operation && nodes.len() == 6),
            "{outcome:?}"
        );
        assert_eq!(peer.contacts().count(), left);
    }
}

#[test]
fn hostile_bytes() {
    for seed in 0..300 {
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        let mut caller = Caller::new(Id::of(b"caller"));
        caller.request(&Method::Ping).unwrap();
        let valid = [
            "d3:argd6:senderd2:id20:aaaaaaaaaaaaaaaaaaaaee3:req4:ping3:tid1:t3:typ3:reqe",
            "d3:argd3:key1:k6:senderd2:id20:aaaaaaaaaaaaaaaaaaaae5:value1:ve\
             3:req11:store_value3:tid1:t3:typ3:reqe",
            "d3:argd3:key1:k6:senderd2:id20:aaaaaaaaaaaaaaaaaaaaee3:req10:find_value3:tid1:t3:typ3:reqe",
            "d3:rspd5:nodesld2:id20:aaaaaaaaaaaaaaaaaaaaeee3:tid1:t3:typ3:rspe",
        ];
        for _ in 0..20 {
            let mut body = valid[rng.random_range(0..valid.len())].as_bytes().to_vec();
            for _ in 0..rng.random_range(0..3) {
                let at = rng.random_range(0..body.len());
                body[at] = rng.random();
            }
            let mut bytes = format!("{}:", body.len()).into_bytes();
            bytes.extend_from_slice(&body);
            bytes.push(b',');
            caller.connection.write(caller.now, &bytes);
            caller.run(secs(3));
            let mut datagram = vec![0; rng.random_range(0..80)];
            rng.fill_bytes(&mut datagram);
            if let Some(flags) = datagram.first_mut() {
                *flags &= 0x1f;
            }
            let from = addr(4000 + rng.random_range(0..3));
            caller.peer.receive(caller.now, from, &datagram);
            assert!(transmitted(&mut caller.peer, caller.now).len() < 300, "seed {seed}");
        }
    }
}

#[test]
fn hostile_answers() {
    let answers = [
        "5:nodesld4:host9:127.0.0.12:id20:aaaaaaaaaaaaaaaaaaaa4:porti9eee",
        "5:nodesld2:id20:aaaaaaaaaaaaaaaaaaaa4:porti9eee",
        "5:nodesld4:host4:name2:id3:abc4:porti99999eee",
        "5:nodesi1e",
        "6:valuesl0:3:abc3:abce",
        "",
    ];
    for seed in 0..300 {
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        let mut caller = Caller::new(Id::of(b"caller"));
        caller.request(&Method::Ping).unwrap();
        let (now, key) = (caller.now, Id::of(b"key"));
        caller.peer.find_node(now, key);
        caller.peer.find_values(now, key);
        caller.peer.store_value(now, key, vec![7; 10]);
        caller.run(secs(2));
        for _ in 0..6 {
            let Some(taken) = netstring::take(&caller.inbox, 99_999).unwrap() else { break };
            let Ok(Message::Request(request)) = Message::parse(&caller.inbox[taken.body.clone()]) else {
                panic!()
            };
            let id = if rng.random_ratio(1, 5) { Id::of(b"other") } else { caller.own.id };
            let mut answer = b"d3:rspd".to_vec();
            let parts = answers[rng.random_range(0..answers.len())];
            let (nodes, values) = if parts.starts_with("6") { ("", parts) } else { (parts, "") };
            answer.extend_from_slice(nodes.as_bytes());
            answer.extend_from_slice(b"6:senderd");
            if rng.random_ratio(4, 5) {
                answer.extend_from_slice(b"4:host9:127.0.0.1");
            }
            answer.extend_from_slice(b"2:id20:");
            answer.extend_from_slice(id.as_bytes());
            answer.extend_from_slice(b"4:porti3000ee");
            answer.extend_from_slice(values.as_bytes());
            answer.extend_from_slice(b"e3:tid20:");
            answer.extend_from_slice(request.tid);
            answer.extend_from_slice(b"3:typ3:rspe");
            assert!(bencode::parse(&answer).is_ok(), "{}", answer.escape_ascii());
            if rng.random_ratio(1, 10) {
                let at = rng.random_range(0..answer.len());
                answer[at] = rng.random();
            }
            caller.inbox.drain(..taken.consumed);
            let mut framed = format!("{}:", answer.len()).into_bytes();
            framed.extend_from_slice(&answer);
            framed.push(b',');
            caller.connection.write(caller.now, &framed);
            caller.run(secs(2));
        }
        caller.run(secs(600));
        assert_eq!(caller.peer.calls(), 0, "seed {seed}: every call ends");
        assert!(std::iter::from_fn(|| caller.peer.poll_outcome()).count() < 10, "seed {seed}");
    }
}
