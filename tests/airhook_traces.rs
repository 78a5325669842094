//! Datagrams of the implementations of 2003, as they were recorded.
//!
//! Each line of a file in `tests/traces` is one datagram: who sent it to whom, its
//! bytes, and its fate when it was not delivered as it should have been.

mod support;

use std::collections::BTreeMap;

use khashmir::airhook::packet::Packet;
use support::*;

struct Datagram {
    from: u64,
    fate: String,
    bytes: Vec<u8>,
}

fn trace(name: &str) -> Vec<Datagram> {
    let path = format!("{}/tests/traces/{name}.jsonl", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap();
    let read = |line| {
        let fields: serde_json::Value = serde_json::from_str(line).unwrap();
        let hex = fields["hex"].as_str().unwrap();
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        Datagram {
            from: fields["from"].as_u64().unwrap(),
            fate: fields["fate"].as_str().unwrap_or("ok").to_owned(),
            bytes: (0..hex.len()).step_by(2).map(byte).collect(),
        }
    };
    text.lines().map(read).collect()
}

const ALL: [&str; 14] = [
    "c-clean",
    "c-data-before-handshake",
    "c-loss10",
    "c-reorder10",
    "c-restart",
    "py-dup-handshake",
    "py-heartbeat",
    "py-krpc-errors",
    "py-loss-in-burst",
    "py-loss-request",
    "py-loss-response",
    "py-restart-early",
    "trace-aircat",
    "trace-two-peers",
];

#[test]
fn every_datagram_is_read_and_written_again() {
    let mut count = 0;
    for name in ALL {
        for (line, datagram) in trace(name).iter().enumerate() {
            let packet = Packet::parse(&datagram.bytes);
            let packet = packet.unwrap_or_else(|error| panic!("{name} {line}: {error}"));
            let mut written = Vec::new();
            packet.emit(&mut written);
            assert_eq!(written, datagram.bytes, "{name} {line}");
            count += 1;
        }
    }
    assert!(count > 7000);
}

/// What one of our ends delivers that is fed what `from` sent, in the place of the one
/// that it was sent to: for each of its lives, of which new ones begin before the
/// datagrams `restarts`.
fn replay(name: &str, from: u64, restarts: &[usize]) -> Vec<Vec<Vec<u8>>> {
    let mut end = Ours::new(1, Raw::default());
    end.restart(false);
    end.carrier.repeats = name == "trace-aircat";
    let mut lives = Vec::new();
    let mut held: Vec<Vec<u8>> = Vec::new();
    let mut session = 0;
    let mut now = khashmir::time::Time::ZERO;
    for (number, datagram) in trace(name).iter().enumerate() {
        // Lines are counted from 1.
        if restarts.contains(&(number + 1)) {
            lives.push(std::mem::take(&mut end.carrier.delivered));
            end.restart(false);
        }
        now += ms(1);
        let packet = Packet::parse(&datagram.bytes).unwrap();
        if datagram.from != from {
            // The recorded end said this in our place; ours goes nowhere.
            if packet.session != 0 {
                session = packet.session;
            }
            end.connection.replay_sent(session, packet.sequence);
            continue;
        }
        match datagram.fate.as_str() {
            "drop" => continue,
            // Kept back until the next one has gone.
            "held" if held.is_empty() => {
                held.push(datagram.bytes.clone());
                continue;
            }
            "dup" => {
                end.take(now, &datagram.bytes);
            }
            _ => {}
        }
        end.take(now, &datagram.bytes);
        // The recorded end did not wait for what was overtaken.
        now += ms(300);
        while end.deadline().is_some_and(|at| at <= now) {
            end.wake(now);
        }
        for late in held.drain(..) {
            end.take(now, &late);
        }
    }
    lives.push(std::mem::take(&mut end.carrier.delivered));
    lives
}

fn lines(lives: &[Vec<Vec<u8>>]) -> Vec<Vec<&str>> {
    lives
        .iter()
        .map(|life| life.iter().map(|m| std::str::from_utf8(m).unwrap().trim_end()).collect())
        .collect()
}

/// Every message that `from` put into a packet, once.
fn messages_of(name: &str, from: u64) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    for datagram in trace(name).iter().filter(|datagram| datagram.from == from) {
        all.extend(Packet::parse(&datagram.bytes).unwrap().messages.iter().map(<[u8]>::to_vec));
    }
    all.sort();
    all.dedup();
    all
}

/// Both ends of the C library, 600 lines each way: what came then comes now, once.
#[test]
fn messages_of_c_are_delivered() {
    // Where the end that is fed was not there from the beginning: the line from which on.
    let ends = [
        ("c-clean", 9423, Some(4)),
        ("c-clean", 9424, None),
        ("c-loss10", 9423, None),
        ("c-loss10", 9424, None),
        ("c-reorder10", 9423, Some(4)),
        ("c-reorder10", 9424, None),
    ];
    for (name, from, begins) in ends {
        let mut delivered = replay(name, from, begins.as_slice()).pop().unwrap();
        delivered.sort();
        assert_eq!(delivered, messages_of(name, from), "{name} from {from}");
        assert!(delivered.len() > 300);
    }
    // Nothing was lost here, and two messages are the same.
    for from in [9401, 9402] {
        let mut sent = Vec::new();
        for datagram in trace("trace-aircat").iter().filter(|datagram| datagram.from == from) {
            let packet = Packet::parse(&datagram.bytes).unwrap();
            sent.extend(packet.messages.iter().map(<[u8]>::to_vec));
        }
        assert_eq!(replay("trace-aircat", from, &[]), [sent]);
    }
}

/// Messages in the first packets, to an end that is not there yet.
#[test]
fn early_messages_of_c_are_delivered() {
    let lives = replay("c-data-before-handshake", 9433, &[6]);
    assert_eq!(lines(&lives)[1], ["early 1", "early 2"]);
}

#[test]
fn restarts_of_c_are_noticed() {
    // 9434 ends after line 19 and is there again at line 23.
    let lives = replay("c-restart", 9433, &[20, 23]);
    let expected: [&[&str]; 3] =
        [&["A-before-0", "A-before-1", "A-before-2"], &[], &["A-while-down", "A-after"]];
    assert_eq!(
        [0, 2].map(|life| lines(&lives)[life].clone()),
        [0, 2].map(|life: usize| expected[life].to_vec())
    );
}

/// The stream that messages make: each number has come once, none is left out.
fn stream(messages: &[Vec<u8>]) -> BTreeMap<u16, Vec<u8>> {
    let mut stream = BTreeMap::new();
    for message in messages {
        let number = u16::from_be_bytes([message[0], message[1]]);
        assert!(stream.insert(number, message[2..].to_vec()).is_none(), "{number} came twice");
    }
    assert!(stream.keys().copied().eq(0..stream.len() as u16), "incomplete");
    stream
}

#[test]
fn streams_of_python_are_delivered() {
    let ends = [
        ("py-dup-handshake", [9151, 9152]),
        ("py-heartbeat", [9131, 9132]),
        ("py-krpc-errors", [9161, 9162]),
        ("py-loss-in-burst", [9151, 9152]),
        ("py-loss-request", [9151, 9152]),
        ("py-loss-response", [9151, 9152]),
        ("trace-two-peers", [9101, 9102]),
    ];
    for (name, ends) in ends {
        for from in ends {
            let delivered = replay(name, from, &[]).remove(0);
            assert_eq!(stream(&delivered), stream(&messages_of(name, from)), "{name} from {from}");
        }
    }
}

#[test]
fn a_python_that_speaks_on_its_old_session_starts_over() {
    // 9142 is another process from line 8 on.
    let lives = replay("py-restart-early", 9141, &[8]);
    assert_eq!((stream(&lives[0]).len(), stream(&lives[1]).len()), (2, 3));
}
