//! An ordered stream of bytes each way, over Airhook messages.
//!
//! A message is a 16-bit stream sequence number and 1 to 253 bytes of the
//! stream. Numbers start at 0 with each session and rise by one per message, so
//! that the receiver can put messages in order: Airhook itself sends a lost
//! message again under a new number, behind later ones.

use std::collections::VecDeque;

use crate::airhook::channel::{Channel, Settled};
use crate::airhook::connection::Carrier;
use crate::airhook::flight::{Fate, Token};
use crate::airhook::packet::MAX_MESSAGE;

/// Bytes of the sequence number in front of each message.
const NUMBER: usize = 2;
/// The most bytes of the stream in one message.
pub const MAX_SEGMENT: usize = MAX_MESSAGE - NUMBER;
/// How many messages may be cut from the stream and not yet be confirmed. A
/// receiver of 2003 orders numbers within half of 512 of each other.
const MAX_CUT: usize = 255;
/// A message shorter than this is only made at the end of what is to be sent: a
/// small hole at the end of a packet is not worth a message number.
const MIN_SEGMENT: usize = 32;

/// What a place for a message that waits costs beside its bytes, about.
const SLOT: usize = 32;
/// A buffer with more unused room than this is not kept.
const MAX_SPARE: usize = 4096;

/// Whether a buffer may be kept for what is in it.
fn is_tight(capacity: usize, length: usize) -> bool {
    capacity <= 2 * length + MAX_SPARE
}

/// Both directions of one connection's stream. Small when nothing is under way.
#[derive(Debug, Default)]
pub struct Stream {
    outgoing: Option<Box<Outgoing>>,
    incoming: Option<Box<Incoming>>,
    /// The number of the next message that is cut.
    next_out: u16,
    /// The number of the next message that continues what has arrived.
    next_in: u16,
    /// Bytes have been put into an inbox.
    arrived: bool,
    /// Our numbering has started afresh, so what was on its way is lost.
    restarted: bool,
    /// The other side does what it must not.
    broken: bool,
}

/// What is to be sent, or has been and is not confirmed.
#[derive(Debug, Default)]
struct Outgoing {
    /// Bytes from the first segment on.
    bytes: VecDeque<u8>,
    /// How many of them are cut into segments.
    cut: usize,
    /// How many bytes were confirmed and dropped before `bytes`; wraps around.
    dropped: u32,
    segments: VecDeque<Segment>,
    /// Numbers of segments that are to be sent again, in order.
    lost: VecDeque<u16>,
    /// Where what each ticket stands for ends, counted as `dropped` is.
    tickets: VecDeque<(u32, u64)>,
    /// Those that nobody has asked for yet.
    settled: Settled,
}

/// What has arrived and could not be used yet.
#[derive(Debug, Default)]
struct Incoming {
    /// Messages that wait for an earlier one: slot i is for number `next_in` + i.
    held: VecDeque<Option<Box<[u8]>>>,
    held_bytes: usize,
    /// The beginning of what has arrived in order, and was not used up.
    partial: Vec<u8>,
    /// The number under which this began, once it has one.
    since: Option<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    /// Where it starts, counted from the beginning of the stream; wraps around.
    start: u32,
    length: u8,
    confirmed: bool,
}

impl Stream {
    /// Lets go of what holds nothing any more.
    fn tidy(&mut self) {
        if self
            .incoming
            .as_ref()
            .is_some_and(|incoming| incoming.held.is_empty() && incoming.partial.is_empty())
        {
            self.incoming = None;
        }
    }
}

impl Channel for Stream {
    type Port<'a> = Port<'a>;

    fn fits(_: usize) -> bool {
        true
    }

    fn pieces(inbox: &[u8]) -> impl Iterator<Item = &[u8]> {
        std::iter::once(inbox)
    }

    fn take_pieces(inbox: &mut Vec<u8>, mut take: impl FnMut(Vec<u8>)) {
        take(if is_tight(inbox.capacity(), inbox.len()) { std::mem::take(inbox) } else { inbox.clone() });
    }

    fn write(&mut self, bytes: &[u8], ticket: Option<u64>) {
        if bytes.is_empty() && self.unconfirmed() == 0 {
            // All before them have been confirmed.
            if let Some(ticket) = ticket {
                self.outgoing.get_or_insert_default().settled.push(ticket, Fate::Confirmed);
            }
            return;
        }
        let outgoing = self.outgoing.get_or_insert_default();
        outgoing.bytes.extend(bytes);
        if let Some(ticket) = ticket {
            outgoing.tickets.push_back((outgoing.dropped.wrapping_add(outgoing.bytes.len() as u32), ticket));
        }
    }

    fn poll_fate(&mut self) -> Option<(u64, Fate)> {
        let outgoing = self.outgoing.as_mut()?;
        let settled = outgoing.settled.pop();
        if outgoing.bytes.is_empty() && outgoing.settled.is_empty() {
            self.outgoing = None;
        }
        settled
    }

    fn buffered(&self) -> usize {
        self.unconfirmed() + self.waiting()
    }

    fn waiting(&self) -> usize {
        self.incoming.as_ref().map_or(0, |incoming| {
            incoming.held_bytes + incoming.held.len() * SLOT + incoming.partial.capacity()
        })
    }

    fn begin_waiting(&mut self, number: u32) -> bool {
        match &mut self.incoming {
            Some(incoming) if incoming.since.is_none() => {
                incoming.since = Some(number);
                true
            }
            _ => false,
        }
    }

    fn waits_since(&self) -> Option<u32> {
        self.incoming.as_ref()?.since
    }

    fn unconfirmed(&self) -> usize {
        self.outgoing.as_ref().map_or(0, |outgoing| outgoing.bytes.len())
    }

    fn resume(&mut self, inbox: &mut Vec<u8>) {
        if let Some(incoming) = &mut self.incoming
            && !incoming.partial.is_empty()
        {
            *inbox = std::mem::take(&mut incoming.partial);
        }
    }

    fn keep(&mut self, inbox: &mut Vec<u8>, used: usize) {
        if let Some(incoming) = &mut self.incoming
            && used > 0
        {
            incoming.since = None;
        }
        let rest = &inbox[used.min(inbox.len())..];
        if rest.is_empty() {
            self.tidy();
        } else {
            let incoming = self.incoming.get_or_insert_default();
            // Without a copy, unless the buffer is much too large for what is in it.
            incoming.partial = if used == 0 && is_tight(inbox.capacity(), rest.len()) {
                std::mem::take(inbox)
            } else {
                rest.to_vec()
            };
        }
        inbox.clear();
    }

    fn take_arrived(&mut self) -> bool {
        std::mem::take(&mut self.arrived)
    }

    fn take_restarted(&mut self) -> bool {
        std::mem::take(&mut self.restarted)
    }

    fn is_broken(&self) -> bool {
        self.broken
    }

    fn port<'a>(&'a mut self, inbox: &'a mut Vec<u8>, limit: usize) -> Port<'a> {
        Port { stream: self, inbox, limit }
    }
}

/// A [`Stream`] together with where its bytes go; see [`Channel::port`].
pub struct Port<'a> {
    stream: &'a mut Stream,
    inbox: &'a mut Vec<u8>,
    limit: usize,
}

impl Carrier for Port<'_> {
    fn ready(&self) -> bool {
        self.stream.outgoing.as_ref().is_some_and(|outgoing| {
            !outgoing.lost.is_empty()
                || (outgoing.cut < outgoing.bytes.len() && outgoing.segments.len() < MAX_CUT)
        })
    }

    fn fill(&mut self, room: usize, packet: &mut Vec<u8>) -> Option<Token> {
        let stream = &mut *self.stream;
        let outgoing = stream.outgoing.as_mut()?;
        let first = stream.next_out.wrapping_sub(outgoing.segments.len() as u16);
        if let Some(&number) = outgoing.lost.front() {
            let segment = *outgoing.segments.get(usize::from(number.wrapping_sub(first)))?;
            if NUMBER + usize::from(segment.length) > room {
                return None;
            }
            outgoing.lost.pop_front();
            outgoing.emit(number, segment, packet);
            return Some(number);
        }
        let left = outgoing.bytes.len() - outgoing.cut;
        let length = left.min(room.saturating_sub(NUMBER)).min(MAX_SEGMENT);
        // Where more is to be sent than may be unconfirmed, message numbers are what is scarce.
        let least = if left > MAX_CUT * MAX_SEGMENT { MAX_SEGMENT } else { left.min(MIN_SEGMENT) };
        if length == 0 || length < least || outgoing.segments.len() >= MAX_CUT {
            return None;
        }
        let number = stream.next_out;
        stream.next_out = number.wrapping_add(1);
        let start = outgoing.dropped.wrapping_add(outgoing.cut as u32);
        let segment = Segment { start, length: length as u8, confirmed: false };
        outgoing.cut += length;
        outgoing.segments.push_back(segment);
        outgoing.emit(number, segment, packet);
        Some(number)
    }

    fn settle(&mut self, number: Token, fate: Fate) {
        let stream = &mut *self.stream;
        let Some(outgoing) = stream.outgoing.as_mut() else {
            return;
        };
        let first = stream.next_out.wrapping_sub(outgoing.segments.len() as u16);
        let Some(segment) = outgoing.segments.get_mut(usize::from(number.wrapping_sub(first))) else {
            return;
        };
        match fate {
            // The oldest first, whatever was lost first: others wait for it.
            Fate::Lost => {
                let ahead = |number: u16| number.wrapping_sub(first);
                let place = outgoing.lost.partition_point(|&other| ahead(other) < ahead(number));
                outgoing.lost.insert(place, number);
            }
            Fate::Confirmed => segment.confirmed = true,
        }
        while let Some(&segment) = outgoing.segments.front().filter(|segment| segment.confirmed) {
            outgoing.segments.pop_front();
            let length = usize::from(segment.length);
            outgoing.bytes.drain(..length);
            outgoing.cut -= length;
            outgoing.dropped = outgoing.dropped.wrapping_add(u32::from(segment.length));
        }
        while let Some(&(end, ticket)) = outgoing.tickets.front()
            && outgoing.dropped.wrapping_sub(end) < 1 << 31
        {
            outgoing.tickets.pop_front();
            outgoing.settled.push(ticket, Fate::Confirmed);
        }
        if outgoing.bytes.is_empty() {
            let settled = std::mem::take(&mut outgoing.settled);
            stream.outgoing = Outgoing::of_settled(settled);
        }
    }

    /// By their numbers.
    fn tells_apart(&self) -> bool {
        true
    }

    fn deliver(&mut self, message: &[u8]) {
        let stream = &mut *self.stream;
        let Some((&[high, low], bytes)) = message.split_first_chunk() else {
            return;
        };
        if bytes.is_empty() || stream.broken {
            return;
        }
        let ahead = usize::from(u16::from_be_bytes([high, low]).wrapping_sub(stream.next_in));
        if ahead == 0 {
            stream.arrived = true;
            self.inbox.extend_from_slice(bytes);
            stream.next_in = stream.next_in.wrapping_add(1);
            if let Some(incoming) = &mut stream.incoming {
                incoming.held.pop_front();
                while matches!(incoming.held.front(), Some(Some(_))) {
                    let Some(Some(bytes)) = incoming.held.pop_front() else { break };
                    self.inbox.extend_from_slice(&bytes);
                    incoming.held_bytes -= bytes.len();
                    stream.next_in = stream.next_in.wrapping_add(1);
                }
                stream.tidy();
            }
        } else if ahead < self.limit {
            let incoming = stream.incoming.get_or_insert_default();
            if incoming.held.len() <= ahead {
                incoming.held.resize(ahead + 1, None);
            }
            let slot = &mut incoming.held[ahead];
            if slot.is_none() {
                *slot = Some(bytes.into());
                incoming.held_bytes += bytes.len();
            }
        } else if ahead < 0x8000 {
            stream.broken = true;
        }
        // Else it lies behind us: after our restart the C library puts its
        // unconfirmed messages into the new session, where they do not fit.
    }

    fn restart_incoming(&mut self) {
        self.inbox.clear();
        let stream = &mut *self.stream;
        stream.arrived = false;
        stream.next_in = 0;
        stream.incoming = None;
        stream.broken = false;
    }

    fn restart_outgoing(&mut self) {
        let stream = &mut *self.stream;
        stream.next_out = 0;
        if let Some(outgoing) = stream.outgoing.take() {
            let mut settled = outgoing.settled;
            outgoing.tickets.into_iter().for_each(|(_, ticket)| settled.push(ticket, Fate::Lost));
            stream.outgoing = Outgoing::of_settled(settled);
        }
        stream.restarted = true;
    }
}

impl Outgoing {
    /// Nothing but tickets that nobody has asked for yet; `None` if there is none.
    fn of_settled(settled: Settled) -> Option<Box<Self>> {
        (!settled.is_empty()).then(|| Box::new(Outgoing { settled, ..Outgoing::default() }))
    }

    fn emit(&self, number: u16, segment: Segment, packet: &mut Vec<u8>) {
        packet.extend_from_slice(&number.to_be_bytes());
        let start = segment.start.wrapping_sub(self.dropped) as usize;
        let (front, back) = self.bytes.as_slices();
        let end = start + usize::from(segment.length);
        packet.extend_from_slice(&front[start.min(front.len())..end.min(front.len())]);
        packet.extend_from_slice(&back[start.saturating_sub(front.len())..end.saturating_sub(front.len())]);
    }
}
