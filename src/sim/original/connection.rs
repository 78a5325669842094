//! The Python library's end of an Airhook connection, and the stream over it.
//!
//! No retransmission timer, no messages either way before the session is confirmed, a reset by
//! any session that it does not know, a stream that a repeated message ends for good.

use std::collections::VecDeque;
use std::time::Duration;

use crate::airhook::packet::{MAX_PACKET, Messages, Packet};
use crate::time::Time;

/// It sends something this long after it heard something, if it was silent for as long before.
const IDLE: Duration = Duration::from_secs(1);
/// Bytes of the stream in one message: 255 less the number in front of them.
const SEGMENT: usize = 253;
/// Messages that wait to be sent, at most: some 4 MB. The original had no bound.
const MAX_QUEUE: usize = 16_384;
/// Messages of packets that it could not read to the end, at most.
const MAX_ARRIVED: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Pending,
    Sent,
    Confirmed,
}

/// What a datagram was to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Not taken; there is nothing to do.
    Nothing,
    /// Taken. After what it brought has been dealt with, [`schedule`](Connection::schedule).
    Packet,
    /// The session is another; what was read of the stream, and was to go out, is void.
    Reset,
}

/// A message in a packet that is not known to have arrived.
#[derive(Debug)]
struct Sent {
    number: u8,
    packet: u16,
    message: Box<[u8]>,
}

/// One end of a connection. Whoever owns it calls [`send_next`](Self::send_next) at each
/// time that it [asks for](Self::take_timer).
#[derive(Debug)]
pub struct Connection {
    session: u32,
    /// Theirs; 0: not known.
    known: u32,
    state: State,
    /// Both sessions are shown until they observe this packet.
    show_until: Option<u16>,
    respond: bool,
    scheduled: bool,
    timer: Option<Time>,
    last_sent: Option<Time>,
    /// The number of the next packet.
    out_seq: u16,
    in_seq: u16,
    observed: u16,
    /// The number of the next message.
    next: u8,
    expected: u8,
    /// The last message number in or before each of the packets before `out_seq`.
    log: VecDeque<u8>,
    queue: VecDeque<Box<[u8]>>,
    sent: VecDeque<Sent>,
    /// Missed messages, each with the number of the packet that first says so.
    missed: Vec<(u16, u8)>,
    arrived: Vec<Box<[u8]>>,
    stream_out: u16,
    stream_in: u16,
    held: Vec<(u16, Box<[u8]>)>,
    stuck: bool,
}

impl Connection {
    /// An end that has neither sent nor heard anything. `session` is not 0.
    pub fn new(session: u32) -> Self {
        Connection {
            session,
            known: 0,
            state: State::Pending,
            show_until: None,
            respond: false,
            scheduled: false,
            timer: None,
            last_sent: None,
            out_seq: 0,
            in_seq: 0,
            observed: 0,
            next: 0,
            expected: 0,
            log: VecDeque::new(),
            queue: VecDeque::new(),
            sent: VecDeque::new(),
            missed: Vec::new(),
            arrived: Vec::new(),
            stream_out: 0,
            stream_in: 0,
            held: Vec::new(),
            stuck: false,
        }
    }

    /// One that has sent that many packets before, all of them observed.
    pub fn continued(session: u32, packets: u16) -> Self {
        Connection { out_seq: packets, observed: packets.wrapping_sub(1), ..Connection::new(session) }
    }

    /// Whether a message came twice, or was none: nothing is handed on any more until a reset.
    pub fn is_stuck(&self) -> bool {
        self.stuck
    }

    /// When the next packet is to go out, if that has been decided since the last call. A time
    /// asked for earlier stands beside it.
    pub fn take_timer(&mut self) -> Option<Time> {
        self.timer.take()
    }

    /// Puts bytes at the end of the stream. What would make too long a queue is dropped whole.
    pub fn write(&mut self, now: Time, bytes: &[u8]) {
        if self.queue.len() + bytes.len().div_ceil(SEGMENT) <= MAX_QUEUE {
            for segment in bytes.chunks(SEGMENT) {
                self.queue.push_back([&self.stream_out.to_be_bytes(), segment].concat().into());
                self.stream_out = self.stream_out.wrapping_add(1);
            }
        }
        self.schedule(now);
    }

    /// Takes a datagram; what it brings of the stream is appended to `inbox`.
    pub fn receive(&mut self, now: Time, datagram: &[u8], inbox: &mut Vec<u8>) -> Heard {
        let Ok(packet) = Packet::parse(datagram) else { return Heard::Nothing };
        let (has_s, has_o) = (packet.session != 0, packet.observed_session != 0);
        let mine = packet.observed_session == self.session;
        match self.state {
            State::Pending => {
                if has_s {
                    self.known = packet.session;
                }
                if has_s && mine {
                    self.state = State::Confirmed;
                }
                self.respond = true;
            }
            State::Sent => {
                if has_s && mine {
                    self.known = packet.session;
                    self.show_until = Some(self.out_seq);
                    self.state = State::Confirmed;
                }
                if has_s && self.known == 0 {
                    self.known = packet.session;
                } else if has_s && self.known != packet.session {
                    self.respond = true;
                    return self.reset(&packet, now);
                } else if !has_s && !has_o {
                    self.respond = true;
                    self.schedule(now);
                }
            }
            State::Confirmed => {
                if (has_s && self.known != packet.session) || (has_o && !mine) {
                    return self.reset(&packet, now);
                }
            }
        }
        if packet.sequence.wrapping_sub(self.in_seq) >= 256 {
            return Heard::Nothing;
        }
        if self.state == State::Confirmed {
            self.take_messages(&packet);
            let back = (self.out_seq as u8).wrapping_sub(packet.observed_sequence);
            let Some(observed) = self.out_seq.checked_sub(back.into()) else {
                // It cannot count back past 0, and gives up on the packet here.
                return Heard::Nothing;
            };
            self.observe(observed);
        }
        self.in_seq = packet.sequence;
        for message in std::mem::take(&mut self.arrived) {
            self.deliver(message, inbox);
        }
        Heard::Packet
    }

    fn reset(&mut self, packet: &Packet<'_>, now: Time) -> Heard {
        let new = Connection {
            known: packet.session,
            show_until: self.show_until,
            respond: self.respond,
            timer: self.timer,
            last_sent: self.last_sent,
            out_seq: self.out_seq,
            in_seq: packet.sequence,
            ..Connection::new(self.session)
        };
        *self = new;
        self.schedule(now);
        Heard::Reset
    }

    fn take_messages(&mut self, packet: &Packet<'_>) {
        for &number in packet.missed {
            if let Some(at) = self.sent.iter().position(|sent| sent.number == number)
                && let Some(sent) = self.sent.remove(at)
            {
                self.queue.push_front(sent.message);
            }
        }
        // Without a number, what may stand behind is not read.
        let Some(next) = packet.next else { return };
        let gap = next.wrapping_sub(self.expected);
        self.missed.extend((0..gap).map(|i| (self.out_seq, self.expected.wrapping_add(i))));
        // It would come to grief over more than fit into a packet.
        self.missed.truncate(256);
        self.respond |= gap > 0;
        self.expected = next.wrapping_add(packet.messages.count());
        let room = MAX_ARRIVED.saturating_sub(self.arrived.len());
        self.arrived.extend(packet.messages.iter().take(room).map(Box::from));
    }

    /// The original forgets no message before its number comes round again. This one does so
    /// where none can be reported missed any more: the other side, once confirmed, reports it
    /// together with its first observation, and before at the next.
    fn observe(&mut self, observed: u16) {
        let is_proven = self.show_until.is_none_or(|from| observed.wrapping_sub(from) < 256);
        let settled = if is_proven { observed } else { self.observed };
        self.sent.retain(|sent| settled.wrapping_sub(sent.packet) >= 0x8000);
        if self.sent.is_empty() && self.queue.is_empty() && self.queue.capacity() > 16 {
            (self.sent, self.queue) = (VecDeque::new(), VecDeque::new());
        }
        self.observed = observed;
        let unobserved = usize::from(self.out_seq.wrapping_sub(observed));
        self.log.drain(..self.log.len().saturating_sub(unobserved));
    }

    fn deliver(&mut self, message: Box<[u8]>, inbox: &mut Vec<u8>) {
        let Some((number, _)) = message.split_first_chunk() else {
            self.stuck = true;
            return;
        };
        let number = u16::from_be_bytes(*number);
        let ahead = number.wrapping_sub(self.stream_in);
        if ahead > 255 || self.held.iter().any(|(held, _)| *held == number) {
            self.stuck = true;
        }
        if self.stuck {
            self.held = Vec::new();
            return;
        }
        self.held.push((number, message));
        while let Some(at) = self.held.iter().position(|(held, _)| *held == self.stream_in) {
            inbox.extend_from_slice(&self.held.swap_remove(at).1[2..]);
            self.stream_in = self.stream_in.wrapping_add(1);
        }
    }

    /// The last message number in or before a packet.
    fn last_number(&self, packet: u16) -> u8 {
        let back = usize::from(self.out_seq.wrapping_sub(packet));
        self.log.len().checked_sub(back).and_then(|at| self.log.get(at)).copied().unwrap_or(0)
    }

    fn outstanding(&self) -> u8 {
        self.next.wrapping_sub(1).wrapping_sub(self.last_number(self.observed))
    }

    /// Decides whether and when to send a packet, unless that has been decided.
    pub fn schedule(&mut self, now: Time) {
        let window = self.outstanding() != 254 && self.out_seq.wrapping_sub(self.observed) < 256;
        let at = if self.state == State::Pending
            || (!self.queue.is_empty() && self.state != State::Sent && window)
            || std::mem::take(&mut self.respond)
        {
            now
        } else if self.last_sent.is_none_or(|at| now.since(at) > IDLE) {
            now + IDLE
        } else {
            return;
        };
        if !self.scheduled {
            self.scheduled = true;
            self.timer = Some(self.timer.map_or(at, |timer| timer.min(at)));
        }
    }

    /// Appends the next packet to `out`.
    pub fn send_next(&mut self, now: Time, out: &mut Vec<u8>) {
        let confirmed = self.state == State::Confirmed;
        if !confirmed {
            self.state = State::Sent;
        }
        if confirmed && self.show_until.is_some_and(|from| self.observed.wrapping_sub(from) < 256) {
            self.show_until = None;
        }
        let shows = !confirmed || self.show_until.is_some();
        let observed = self.observed;
        self.missed.retain(|(at, _)| *at > observed);
        let missed: Vec<u8> = self.missed.iter().map(|(_, number)| *number).collect();
        let first = self.next;
        let mut bytes = Vec::new();
        let mut outstanding = self.outstanding();
        // As it counted: the flags and the number of the first message are not in it.
        let header = 3 + if shows { 8 } else { 0 } + missed.len() + usize::from(!missed.is_empty());
        while confirmed
            && outstanding < 255
            && let Some(message) = self.queue.front()
            && message.len() + bytes.len() + header < MAX_PACKET
            && let Some(message) = self.queue.pop_front()
        {
            bytes.push(message.len().saturating_sub(1) as u8);
            bytes.extend_from_slice(&message);
            self.sent.push_back(Sent { number: self.next, packet: self.out_seq, message });
            self.next = self.next.wrapping_add(1);
            outstanding += 1;
        }
        self.log.push_back(self.next.wrapping_sub(1));
        if self.log.len() > 256 {
            self.log.pop_front();
        }
        self.out_seq = self.out_seq.wrapping_add(1);
        let next = if bytes.is_empty() { self.next } else { first };
        Packet {
            observed_sequence: self.in_seq as u8,
            sequence: self.out_seq.wrapping_sub(1),
            observed_session: if shows { self.known } else { 0 },
            session: if shows { self.session } else { 0 },
            next: (!bytes.is_empty() || self.outstanding() > 0).then_some(next),
            missed: &missed,
            messages: Messages::parse(&bytes).unwrap_or_default(),
        }
        .emit(out);
        self.last_sent = Some(now);
        self.scheduled = false;
        self.schedule(now);
    }
}
