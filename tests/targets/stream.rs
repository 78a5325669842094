//! Streams whose messages are lost, doubled and settled as a script says, and one that is
//! fed with what nobody honest sends.

use std::collections::BTreeMap;

use khashmir::airhook::channel::Channel;
use khashmir::airhook::connection::Carrier;
use khashmir::airhook::flight::{Fate, Token};
use khashmir::airhook::stream::{MAX_SEGMENT, Stream};

use super::script::Script;

/// The first byte says which of the two it is.
pub fn stream(script: &[u8]) {
    let mut script = Script(script);
    if script.byte() & 1 == 0 { honest(script) } else { arbitrary(script) }
}

/// A message under way.
struct Flying {
    token: Token,
    message: Vec<u8>,
    arrived: bool,
}

/// Two streams, and what is between them.
#[derive(Default)]
struct Way {
    from: Stream,
    to: Stream,
    written: Vec<u8>,
    received: Vec<u8>,
    inbox: Vec<u8>,
    flying: Vec<Flying>,
}

impl Way {
    fn write(&mut self, length: usize) {
        let start = self.written.len();
        self.written.extend((start..start + length).map(|at| (at ^ at >> 8) as u8));
        self.from.write(&self.written[start..], None);
    }

    fn fill(&mut self, room: usize) {
        let mut nothing = Vec::new();
        let mut port = self.from.port(&mut nothing, 0);
        let ready = port.ready();
        let mut message = vec![9];
        match port.fill(room, &mut message) {
            Some(token) => {
                assert!(ready && message[0] == 9 && message.len() <= 1 + room);
                assert!((4..=3 + MAX_SEGMENT).contains(&message.len()));
                self.flying.push(Flying { token, message: message.split_off(1), arrived: false });
            }
            None => assert_eq!(message, [9]),
        }
        assert!(self.flying.len() <= 255);
    }

    /// A copy of one arrives.
    fn deliver(&mut self, at: usize) {
        let flying = &mut self.flying[at];
        flying.arrived = true;
        self.to.resume(&mut self.inbox);
        self.to.port(&mut self.inbox, 1024).deliver(&flying.message);
        assert!(!self.to.is_broken());
    }

    /// What has come is used, but for the last `kept` bytes.
    fn take(&mut self, kept: usize) {
        let arrived = self.to.take_arrived();
        let used = if arrived { self.inbox.len().saturating_sub(kept) } else { 0 };
        self.received.extend_from_slice(&self.inbox[..used]);
        self.to.keep(&mut self.inbox, used);
        assert!(self.inbox.is_empty());
        let at = self.received.len();
        assert!(at <= self.written.len() && self.received[..] == self.written[..at], "not what was written");
    }

    fn settle(&mut self, at: usize, lost: bool) {
        let flying = self.flying.swap_remove(at);
        let fate = if lost || !flying.arrived { Fate::Lost } else { Fate::Confirmed };
        self.from.port(&mut Vec::new(), 0).settle(flying.token, fate);
    }
}

fn honest(mut script: Script<'_>) {
    let mut way = Way::default();
    while let Some(op) = script.next() {
        let some = way.flying.len();
        match op % 8 {
            0 if way.written.len() < 100_000 => way.write(script.below(2000)),
            1 => way.fill(script.byte().into()),
            2 => (0..script.byte()).for_each(|_| way.fill(255)),
            3 if some > 0 => {
                let at = script.below(some);
                way.deliver(at);
                let kept = script.byte();
                way.take(if kept < 128 { 0 } else { kept.into() });
            }
            4 if some > 0 => {
                let at = script.below(some);
                way.deliver(at);
                way.take(0);
                way.settle(at, false);
            }
            5 if some > 0 => way.settle(script.below(some), script.byte() & 1 == 0),
            6 => {
                let count = script.below(some + 1);
                for _ in 0..count {
                    way.deliver(0);
                    way.take(0);
                    way.settle(0, false);
                }
            }
            7 if script.byte() == 0 => {
                way.from.port(&mut Vec::new(), 0).restart_outgoing();
                way.to.port(&mut way.inbox, 0).restart_incoming();
                assert!(way.from.take_restarted() && !way.from.take_restarted());
                assert_eq!((way.from.buffered(), way.to.buffered()), (0, 0));
                way.flying.clear();
                way.written.clear();
                way.received.clear();
            }
            _ => {}
        }
        // What waits in the receiver, with the place that it takes, is bounded.
        assert!(way.to.waiting() <= 255 * 300 + 2 * 256 + 4096 + 2 * way.written.len());
        assert!(way.from.unconfirmed() <= way.written.len());
    }
    for round in 0.. {
        assert!(round < 10_000, "not all is sent");
        (0..255).for_each(|_| way.fill(255));
        if way.flying.is_empty() {
            break;
        }
        while !way.flying.is_empty() {
            way.deliver(0);
            way.take(0);
            way.settle(0, false);
        }
    }
    // What was kept for later is used now.
    way.to.resume(&mut way.inbox);
    way.received.append(&mut way.inbox);
    way.to.keep(&mut way.inbox, 0);
    assert!(way.received == way.written, "not all has come");
    assert_eq!((way.from.buffered(), way.to.buffered()), (0, 0));
    assert!(!way.from.take_restarted());
}

/// Anything may come: what is handed on is what a simple model says.
fn arbitrary(mut script: Script<'_>) {
    const LIMIT: usize = 255;
    let (mut stream, mut inbox) = (Stream::default(), Vec::new());
    let mut next = 0u16;
    let mut waiting: BTreeMap<u16, Vec<u8>> = BTreeMap::new();
    let (mut expected, mut broken) = (Vec::new(), false);
    while let Some(op) = script.next() {
        stream.resume(&mut inbox);
        match op {
            0..240 => {
                let ahead = if op < 200 { u16::from(op % 8) } else { script.short() };
                let length = script.byte() % 16;
                let number = next.wrapping_add(ahead);
                let bytes = script.bytes(length.into()).to_vec();
                let mut message = number.to_be_bytes().to_vec();
                message.extend_from_slice(&bytes);
                message.truncate(if op % 16 == 15 { 1 } else { 255 });
                stream.port(&mut inbox, LIMIT).deliver(&message);
                if message.len() > 2 && !broken {
                    if usize::from(ahead) < LIMIT {
                        waiting.entry(number).or_insert(bytes);
                    } else if ahead < 0x8000 {
                        broken = true;
                    }
                    while let Some(bytes) = waiting.remove(&next) {
                        expected.extend_from_slice(&bytes);
                        next = next.wrapping_add(1);
                    }
                }
                let used = if stream.take_arrived() { script.byte().into() } else { 0 };
                let used = inbox.len().min(used);
                assert!(expected == inbox, "other bytes than in the model");
                expected.drain(..used);
                stream.keep(&mut inbox, used);
            }
            _ => {
                stream.port(&mut inbox, LIMIT).restart_incoming();
                (next, broken) = (0, false);
                waiting.clear();
                expected.clear();
                stream.keep(&mut inbox, 0);
            }
        }
        assert_eq!(stream.is_broken(), broken);
        let most = LIMIT * (32 + 253) + 2 * expected.len() + 8192;
        assert!(stream.waiting() <= most, "{} bytes wait", stream.waiting());
    }
}
