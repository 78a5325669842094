//! The simulator's peers of 2003 do what was recorded of the originals.

use std::net::SocketAddr;

use khashmir::Id;
use khashmir::airhook::packet::Packet;
use khashmir::bencode::{self, Value};
use khashmir::krpc::netstring;
use khashmir::sim::Peer;
use khashmir::sim::original::Original;
use khashmir::sim::original::connection::{Connection, Heard};
use khashmir::time::Time;

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

struct Recorded {
    from: u64,
    fate: String,
    bytes: Vec<u8>,
}

fn trace(name: &str) -> Vec<Recorded> {
    let path = format!("{}/tests/traces/{name}.jsonl", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap();
    let read = |line| {
        let fields: serde_json::Value = serde_json::from_str(line).unwrap();
        let hex = fields["hex"].as_str().unwrap();
        Recorded {
            from: fields["from"].as_u64().unwrap(),
            fate: fields["fate"].as_str().unwrap_or("ok").to_owned(),
            bytes: (0..hex.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
                .collect(),
        }
    };
    text.lines().map(read).collect()
}

/// The id that the first message of these gives for its sender.
fn sender_id<'a>(mut datagrams: impl Iterator<Item = &'a Recorded>) -> Id {
    let key = b"6:senderd4:host9:127.0.0.12:id20:";
    datagrams
        .find_map(|datagram| {
            let at = datagram.bytes.windows(key.len()).position(|bytes| bytes == key)? + key.len();
            Id::from_slice(datagram.bytes.get(at..at + 20)?)
        })
        .unwrap()
}

/// What the recorded peer at `port` sent after what it was sent, and what ours does instead of
/// it; with the session ids made the same.
fn replayed(name: &str, port: u16, caller: u16, count: usize) -> [Vec<Vec<u8>>; 2] {
    let trace = &trace(name)[..count];
    let theirs = || trace.iter().filter(|datagram| datagram.from == u64::from(port));
    let recorded_session = Packet::parse(&theirs().next().unwrap().bytes).unwrap().session;
    let mut peer = Original::new(addr(port), 1).with_id(sender_id(theirs()));
    let mut session = 0;
    let mut said = Vec::new();
    for (step, datagram) in trace.iter().enumerate() {
        if datagram.from == u64::from(port) || datagram.fate.starts_with("drop") {
            continue;
        }
        let now = Time::from_micros(1000 * step as u64);
        let mut packet = Packet::parse(&datagram.bytes).unwrap();
        if packet.observed_session == recorded_session {
            packet.observed_session = session;
        }
        let mut bytes = Vec::new();
        packet.emit(&mut bytes);
        for _ in 0..1 + usize::from(datagram.fate.starts_with("dup")) {
            peer.receive(now, addr(caller), &bytes);
        }
        for out in transmitted(&mut peer, now) {
            let mut packet = Packet::parse(&out).unwrap();
            if packet.session != 0 {
                session = packet.session;
                packet.session = recorded_session;
            }
            let mut bytes = Vec::new();
            packet.emit(&mut bytes);
            said.push(bytes);
        }
    }
    [theirs().map(|datagram| datagram.bytes.clone()).collect(), said]
}

#[test]
fn it_sends_the_recorded_datagrams() {
    // Of the first one: what came before the recorded peer was told to ask something itself.
    for (name, port, caller, count) in [
        ("trace-two-peers", 9102, 9101, 25),
        ("py-dup-handshake", 9152, 9154, 9),
        ("py-loss-in-burst", 9152, 9154, 19),
        ("py-loss-request", 9152, 9154, 12),
        ("py-loss-response", 9152, 9154, 13),
    ] {
        let [recorded, said] = replayed(name, port, caller, count);
        assert!(recorded.len() > 3);
        for (at, (recorded, said)) in recorded.iter().zip(&said).enumerate() {
            assert_eq!(recorded.escape_ascii().to_string(), said.escape_ascii().to_string(), "{name} {at}");
        }
        assert_eq!(recorded.len(), said.len(), "{name}");
    }
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

#[test]
fn odd_requests_are_answered_as_was_recorded() {
    let [recorded, said] = replayed("py-krpc-errors", 9162, 9161, 39);
    let (recorded, said) = (messages(&recorded), messages(&said));
    assert_eq!(recorded.len(), 14);
    assert_eq!(recorded.len(), said.len(), "nothing is taken after what cannot be read");
    for (recorded, said) in recorded.iter().zip(&said) {
        let text = said.escape_ascii().to_string();
        let [Value::Dict(recorded_message), Value::Dict(said_message)] =
            [recorded, said].map(|bytes| bencode::parse(bytes).unwrap())
        else {
            panic!("{text}");
        };
        assert_eq!(recorded_message.get(b"tid"), said_message.get(b"tid"), "{text}");
        match [recorded_message, said_message].map(|message| message.get(b"err")) {
            // The words are free.
            [Some(Value::Bytes(_)), Some(Value::Bytes(_))] => {}
            _ => assert_eq!(recorded.escape_ascii().to_string(), text),
        }
    }
}

/// One end of a recorded conversation, written to and spoken to as the recorded one was.
struct End {
    connection: Connection,
    due: Vec<Time>,
    now: Time,
    trace: Vec<Recorded>,
    said: Vec<Vec<u8>>,
}

impl End {
    fn new(name: &str, first: usize) -> Self {
        let trace = trace(name);
        let session = Packet::parse(&trace[first - 1].bytes).unwrap().session;
        let connection = Connection::new(session);
        End { connection, due: Vec::new(), now: Time::ZERO, trace, said: Vec::new() }
    }

    /// Writes what the messages in a recorded datagram hold.
    fn write(&mut self, number: usize) {
        let bytes = self.trace[number - 1].bytes.clone();
        for message in Packet::parse(&bytes).unwrap().messages.iter() {
            self.connection.write(self.now, &message[2..]);
        }
    }

    fn hear(&mut self, number: usize) {
        let mut inbox = Vec::new();
        if Heard::Packet == self.connection.receive(self.now, &self.trace[number - 1].bytes, &mut inbox) {
            self.connection.schedule(self.now);
        }
    }

    /// Lets it send what is due up to then, but no more than so many packets.
    fn send(&mut self, until_ms: u64, most: usize) {
        let end = Time::from_micros(1000 * until_ms);
        let before = self.said.len();
        loop {
            self.due.extend(self.connection.take_timer());
            let next = (0..self.due.len()).min_by_key(|&at| self.due[at]);
            let Some(next) = next.filter(|&next| self.due[next] <= end && self.said.len() < before + most)
            else {
                break;
            };
            self.now = self.now.max(self.due.swap_remove(next));
            let mut out = Vec::new();
            self.connection.send_next(self.now, &mut out);
            self.said.push(out);
        }
        self.now = end;
    }

    fn check(&self) {
        let from = self.trace.iter().find(|datagram| datagram.bytes == self.said[0]).unwrap().from;
        let recorded = self.trace.iter().filter(|datagram| datagram.from == from);
        let recorded: Vec<_> = recorded
            .map(|datagram| datagram.bytes.escape_ascii().to_string())
            .take(self.said.len())
            .collect();
        let said: Vec<_> = self.said.iter().map(|bytes| bytes.escape_ascii().to_string()).collect();
        assert_eq!(recorded, said);
    }
}

#[test]
fn a_restart_of_the_other_side_is_met_as_was_recorded() {
    let mut end = End::new("py-restart-early", 1);
    end.write(4);
    end.send(1, 9);
    for heard in [2, 3, 5] {
        end.hear(heard);
        end.send(2, 9);
    }
    end.write(6);
    end.send(4, 9);
    end.hear(7);
    end.send(773, 9);
    end.write(8);
    end.send(774, 9);
    for heard in [9, 10] {
        end.hear(heard);
        end.send(775, 9);
    }
    end.send(12_806, 9);
    assert_eq!(end.said.len(), 5, "nothing goes out by itself");
    end.write(14);
    end.send(13_805, 9);
    assert_eq!(end.said.len(), 5);
    end.send(14_811, 9);
    end.hear(13);
    end.send(14_813, 9);
    end.hear(15);
    end.send(14_831, 9);
    end.write(16);
    end.send(14_833, 9);
    end.hear(17);
    end.send(20_000, 9);
    assert_eq!(end.said.len(), 8);
    end.check();
}

#[test]
fn idle_ends_speak_once_a_second_as_was_recorded() {
    let mut end = End::new("py-heartbeat", 2);
    end.hear(1);
    // The next datagram came before a second one had gone out.
    end.send(0, 1);
    end.hear(3);
    end.write(4);
    end.send(3000, 9);
    for (at, heard) in [5, 7, 9, 11, 13, 15].into_iter().enumerate() {
        end.hear(heard);
        let count = end.said.len();
        end.send(3999 + 2002 * at as u64, 9);
        assert_eq!(end.said.len(), count);
        end.send(5002 + 2002 * at as u64, 9);
        assert_eq!(end.said.len(), count + 1);
    }
    end.hear(17);
    end.write(18);
    end.send(16_000, 9);
    end.check();
}
