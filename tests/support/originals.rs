//! Models of the two implementations of 2003, as far as a peer can tell.

use std::collections::{HashSet, VecDeque};

use khashmir::airhook::packet::{Messages, Packet};
use khashmir::sim::original::connection::{Connection, Heard};
use khashmir::time::Time;

use super::{Party, secs, take_front};

/// The bytes of messages, each behind its length less one.
fn bytes_of<'a>(messages: impl IntoIterator<Item = &'a Vec<u8>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for message in messages {
        bytes.push((message.len() - 1) as u8);
        bytes.extend_from_slice(message);
    }
    bytes
}

/// The Python Khashmir's end, as the simulator's peers have it, and what has come of the stream.
#[derive(Debug)]
pub struct Python {
    connection: Connection,
    due: Vec<Time>,
    pub received: Vec<u8>,
    /// Answers each whole frame with itself.
    pub serve: bool,
    pub resets: usize,
}

impl Python {
    pub fn new(session: u32) -> Self {
        Python::with(Connection::new(session))
    }

    /// One that has sent almost 65,536 packets.
    pub fn near_the_wrap(session: u32) -> Self {
        Python::with(Connection::continued(session, 65_500))
    }

    fn with(connection: Connection) -> Self {
        Python { connection, due: Vec::new(), received: Vec::new(), serve: false, resets: 0 }
    }

    /// A message came twice: nothing is handed on any more.
    pub fn dead(&self) -> bool {
        self.connection.is_stuck()
    }

    pub fn write(&mut self, now: Time, bytes: &[u8]) {
        self.connection.write(now, bytes);
        self.due.extend(self.connection.take_timer());
    }
}

/// The whole frames at the beginning of `bytes`, taken out.
pub fn frames(bytes: &mut Vec<u8>) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while bytes.len() >= 2 {
        let length = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
        if bytes.len() < 2 + length {
            break;
        }
        frames.push(bytes[2..2 + length].to_vec());
        bytes.drain(..2 + length);
    }
    frames
}

/// The same bytes as a frame.
pub fn frame(bytes: &[u8]) -> Vec<u8> {
    let mut out = (bytes.len() as u16).to_be_bytes().to_vec();
    out.extend_from_slice(bytes);
    out
}

impl Party for Python {
    fn receive(&mut self, now: Time, datagram: &[u8]) {
        match self.connection.receive(now, datagram, &mut self.received) {
            Heard::Nothing => {}
            Heard::Packet => {
                if self.serve {
                    for whole in frames(&mut self.received) {
                        self.connection.write(now, &frame(&whole));
                    }
                }
                self.connection.schedule(now);
            }
            Heard::Reset => {
                self.received.clear();
                self.resets += 1;
            }
        }
        self.due.extend(self.connection.take_timer());
    }

    fn deadline(&self) -> Option<Time> {
        // What is due now goes out with `transmit`.
        self.due.iter().copied().min()
    }

    fn wake(&mut self, _: Time) {}

    fn transmit(&mut self, now: Time) -> Option<Vec<u8>> {
        let at = self.due.iter().position(|&at| at <= now)?;
        self.due.swap_remove(at);
        let mut out = Vec::new();
        self.connection.send_next(now, &mut out);
        self.due.extend(self.connection.take_timer());
        Some(out)
    }
}

/// The C library's end: sequence numbers from 1 or 2, no message number when it is
/// 0, messages in the first packet, its last header again every second.
#[derive(Debug)]
pub struct Clib {
    session: u32,
    known: u32,
    /// They have shown our session.
    confirmed: bool,
    /// The first packet that showed both sessions, until it is observed.
    push: Option<u16>,
    shown: bool,
    sequence: u16,
    newest: u16,
    /// What our last packet observed.
    told: u16,
    observed: u16,
    /// After each packet: our next number, and the one that we expected.
    log: Vec<(u8, u8)>,
    next: u8,
    expected: u8,
    waiting: Vec<Option<Vec<u8>>>,
    pub queue: VecDeque<Vec<u8>>,
    missed: Vec<u8>,
    last_sent: Option<Time>,
    at_once: bool,
    ask: bool,
    pub delivered: Vec<Vec<u8>>,
    seen: HashSet<Vec<u8>>,
    pub confirmed_messages: usize,
    /// Answers each message with itself.
    pub echo: bool,
}

impl Clib {
    pub fn new(session: u32) -> Self {
        Clib {
            session,
            known: 0,
            confirmed: false,
            push: None,
            shown: false,
            sequence: 1,
            newest: 0,
            told: 0,
            observed: 0,
            log: vec![(0, 0); 256],
            next: 0,
            expected: 0,
            waiting: vec![None; 256],
            queue: VecDeque::new(),
            missed: Vec::new(),
            last_sent: None,
            at_once: false,
            ask: false,
            delivered: Vec::new(),
            seen: HashSet::new(),
            confirmed_messages: 0,
            echo: false,
        }
    }

    pub fn settled(&self) -> bool {
        self.queue.is_empty() && self.waiting.iter().all(Option::is_none)
    }

    fn may_send(&self) -> bool {
        !self.queue.is_empty()
            && self.next.wrapping_add(1) != self.log[usize::from(self.observed as u8)].0
            && self.sequence.wrapping_sub(self.observed) < 254
    }

    fn has_news(&self) -> bool {
        self.sequence.wrapping_sub(self.observed) < 254
            && (self.log[usize::from(self.sequence as u8)].1 != self.expected || self.may_send())
    }

    fn unsettled(&self) -> bool {
        !self.confirmed
            || self.next != self.log[usize::from(self.observed as u8)].0
            || !self.missed.is_empty()
    }
}

impl Party for Clib {
    fn receive(&mut self, _: Time, datagram: &[u8]) {
        let Ok(packet) = Packet::parse(datagram) else { return };
        let mut next = packet.next.unwrap_or(0);
        let mut takes = true;
        if packet.session != 0 && packet.session != self.known {
            self.missed.clear();
            self.expected = 0;
            if self.confirmed {
                let first = self.log[usize::from(self.observed as u8)].0;
                let count = self.next.wrapping_sub(first);
                for i in (0..count).rev() {
                    self.queue.extend(self.waiting[usize::from(first.wrapping_add(i))].take());
                    self.queue.rotate_right(1);
                }
                self.next = 0;
                self.observed = self.sequence;
                self.log[usize::from(self.sequence as u8)].0 = 0;
            }
            self.told = packet.sequence.wrapping_sub(1);
            self.confirmed = false;
            (self.shown, self.push) = (false, None);
            self.known = packet.session;
        } else if self.known == 0 {
            return;
        } else {
            let ahead = packet.sequence.wrapping_sub(self.newest);
            if ahead == 0 {
                takes = false;
                next = next.wrapping_add(packet.messages.count());
            } else if ahead > 65_280 {
                return;
            }
        }
        if packet.observed_session != 0 {
            if packet.observed_session != self.session {
                return;
            }
            self.confirmed = true;
        }
        let (old_next, _) = self.log[usize::from(self.observed as u8)];
        if self.confirmed {
            let back = (self.sequence as u8).wrapping_sub(packet.observed_sequence);
            if u16::from(back) > self.sequence.wrapping_sub(self.observed) {
                return;
            }
            let observed = self.sequence.wrapping_sub(u16::from(back));
            if self.push.is_some_and(|push| observed.wrapping_sub(push) < 0x8000) {
                self.shown = true;
            }
            let old_expected = self.log[usize::from(self.observed as u8)].1;
            self.observed = observed;
            let told = self.log[usize::from(observed as u8)].1.wrapping_sub(old_expected);
            let covered = self.missed.iter().take_while(|m| m.wrapping_sub(old_expected) < told).count();
            self.missed.drain(..covered);
        }
        self.newest = packet.sequence;
        while self.expected != next {
            assert!(self.missed.len() < 256, "the C library aborts");
            self.missed.push(self.expected);
            self.expected = self.expected.wrapping_add(1);
        }
        let (new_next, told) = self.log[usize::from(self.observed as u8)];
        let covered = new_next.wrapping_sub(old_next);
        for &number in packet.missed.iter().rev() {
            if number.wrapping_sub(old_next) >= covered {
                break;
            }
            if let Some(message) = self.waiting[usize::from(number)].take() {
                self.queue.push_front(message);
            }
        }
        for i in 0..covered {
            let settled = self.waiting[usize::from(old_next.wrapping_add(i))].take();
            self.confirmed_messages += usize::from(settled.is_some());
        }
        if takes {
            for message in packet.messages.iter() {
                self.expected = self.expected.wrapping_add(1);
                assert!(self.seen.insert(message.to_vec()), "came twice: {message:?}");
                self.delivered.push(message.to_vec());
                if self.echo {
                    self.queue.push_back(message.to_vec());
                }
            }
        }
        if !self.shown {
            self.at_once = true;
        } else if told != self.expected || !packet.missed.is_empty() {
            self.ask = true;
        }
    }

    fn deadline(&self) -> Option<Time> {
        if self.at_once || self.has_news() {
            return Some(Time::ZERO);
        }
        match self.last_sent {
            Some(at) if self.unsettled() || self.ask => Some(at + secs(1)),
            _ => None,
        }
    }

    fn wake(&mut self, _: Time) {}

    fn transmit(&mut self, now: Time) -> Option<Vec<u8>> {
        if self.deadline().is_none_or(|at| at > now) {
            return None;
        }
        let news =
            self.has_news() || (self.newest != self.told && self.sequence.wrapping_sub(self.observed) < 254);
        let mut messages = Vec::new();
        let first = self.next;
        if news {
            self.sequence = self.sequence.wrapping_add(1);
            self.told = self.newest;
            let mut size = 0;
            while self.may_send() {
                let Some(message) =
                    take_front(&mut self.queue, 1500usize.saturating_sub(size + 14 + self.missed.len()))
                else {
                    break;
                };
                size += message.len() + 1;
                self.waiting[usize::from(self.next)] = Some(message.clone());
                self.next = self.next.wrapping_add(1);
                messages.push(message);
            }
            self.log[usize::from(self.sequence as u8)] = (self.next, self.expected);
        }
        let bytes = bytes_of(&messages);
        let number = if news { first } else { self.log[usize::from(self.sequence as u8)].0 };
        let mut out = Vec::new();
        Packet {
            observed_sequence: self.told as u8,
            sequence: self.sequence,
            observed_session: if self.shown { 0 } else { self.known },
            session: if self.shown { 0 } else { self.session },
            next: (number != 0).then_some(number),
            missed: &self.missed,
            messages: Messages::parse(&bytes).unwrap(),
        }
        .emit(&mut out);
        if self.push.is_none() && self.known != 0 {
            self.push = Some(self.sequence);
        }
        self.last_sent = Some(now);
        self.at_once = false;
        self.ask = false;
        Some(out)
    }
}
