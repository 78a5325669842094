//! Single messages each way, as the C tools use Airhook.

use std::collections::VecDeque;

use slab::Slab;

use crate::airhook::channel::{Channel, Settled};
use crate::airhook::connection::Carrier;
use crate::airhook::flight::{Fate, Token};
use crate::airhook::packet::MAX_MESSAGE;

/// What a message that is to be sent costs beside its bytes, about: its place here, and
/// what the allocator adds.
const SLOT: usize = 64;

/// Both directions of a connection that carries single messages of 1 to 255 bytes: each is
/// delivered exactly once, or lost with its session. They come in the order in which they
/// were sent only while none is lost.
///
/// In an inbox they stand as in a packet: each behind one byte, its length less one.
/// Small when nothing is under way.
#[derive(Debug, Default)]
pub struct Messages {
    outgoing: Option<Box<Outgoing>>,
    incoming: Option<Box<Incoming>>,
    /// Messages have been put into an inbox.
    arrived: bool,
    /// Our numbering has started afresh, so what was on its way is lost.
    restarted: bool,
    settled: Settled,
}

/// What is to be sent, or has been and is not confirmed.
#[derive(Debug, Default)]
struct Outgoing {
    /// Those that were lost on the way, in that order: they go first.
    again: VecDeque<Message>,
    /// Those that have not been sent yet.
    queue: VecDeque<Message>,
    /// Those sent, at most 255; a token is a place.
    sent: Slab<Message>,
    /// The bytes of all of them.
    bytes: usize,
}

#[derive(Debug)]
struct Message {
    bytes: Box<[u8]>,
    ticket: Option<u64>,
}

/// What has arrived and could not be used yet.
#[derive(Debug, Default)]
struct Incoming {
    kept: Vec<u8>,
    /// The number under which this began, once it has one.
    since: Option<u32>,
}

impl Outgoing {
    fn len(&self) -> usize {
        self.again.len() + self.queue.len() + self.sent.len()
    }
}

impl Channel for Messages {
    type Port<'a> = Port<'a>;

    fn port<'a>(&'a mut self, inbox: &'a mut Vec<u8>, _: usize) -> Port<'a> {
        Port { channel: self, inbox }
    }

    fn fits(length: usize) -> bool {
        (1..=MAX_MESSAGE).contains(&length)
    }

    fn pieces(inbox: &[u8]) -> impl Iterator<Item = &[u8]> {
        let mut rest = inbox;
        std::iter::from_fn(move || {
            let (&length, bytes) = rest.split_first()?;
            let (message, behind) = bytes.split_at_checked(usize::from(length) + 1)?;
            rest = behind;
            Some(message)
        })
    }

    fn write(&mut self, bytes: &[u8], ticket: Option<u64>) {
        if !Self::fits(bytes.len()) {
            if let Some(ticket) = ticket {
                self.settled.push(ticket, Fate::Lost);
            }
            return;
        }
        let outgoing = self.outgoing.get_or_insert_default();
        outgoing.bytes += bytes.len();
        outgoing.queue.push_back(Message { bytes: bytes.into(), ticket });
    }

    fn poll_fate(&mut self) -> Option<(u64, Fate)> {
        self.settled.pop()
    }

    fn buffered(&self) -> usize {
        self.unconfirmed() + self.waiting()
    }

    /// With what the places of the messages cost, so that small ones are counted for what
    /// they take.
    fn unconfirmed(&self) -> usize {
        self.outgoing.as_ref().map_or(0, |outgoing| outgoing.bytes + outgoing.len() * SLOT)
    }

    fn waiting(&self) -> usize {
        self.incoming.as_ref().map_or(0, |incoming| incoming.kept.capacity())
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

    fn resume(&mut self, inbox: &mut Vec<u8>) {
        if let Some(incoming) = &mut self.incoming {
            *inbox = std::mem::take(&mut incoming.kept);
        }
    }

    fn keep(&mut self, inbox: &mut Vec<u8>, used: usize) {
        let rest = &inbox[used.min(inbox.len())..];
        if rest.is_empty() {
            self.incoming = None;
        } else {
            let incoming = self.incoming.get_or_insert_default();
            if used > 0 {
                incoming.since = None;
            }
            incoming.kept = rest.to_vec();
        }
        inbox.clear();
    }

    fn take_arrived(&mut self) -> bool {
        std::mem::take(&mut self.arrived)
    }

    fn take_restarted(&mut self) -> bool {
        std::mem::take(&mut self.restarted)
    }

    /// Any message will do.
    fn is_broken(&self) -> bool {
        false
    }
}

/// A [`Messages`] together with where messages go; see [`Channel::port`].
pub struct Port<'a> {
    channel: &'a mut Messages,
    inbox: &'a mut Vec<u8>,
}

impl Carrier for Port<'_> {
    fn ready(&self) -> bool {
        self.channel
            .outgoing
            .as_ref()
            .is_some_and(|outgoing| !outgoing.again.is_empty() || !outgoing.queue.is_empty())
    }

    fn fill(&mut self, room: usize, packet: &mut Vec<u8>) -> Option<Token> {
        let outgoing = self.channel.outgoing.as_mut()?;
        let from = if outgoing.again.is_empty() { &mut outgoing.queue } else { &mut outgoing.again };
        let message = from.pop_front_if(|message| message.bytes.len() <= room)?;
        packet.extend_from_slice(&message.bytes);
        // No more than 255 are sent and unsettled, so a place fits.
        Some(outgoing.sent.insert(message) as Token)
    }

    fn settle(&mut self, token: Token, fate: Fate) {
        let channel = &mut *self.channel;
        let Some(outgoing) = channel.outgoing.as_mut() else {
            return;
        };
        let Some(message) = outgoing.sent.try_remove(token.into()) else {
            return;
        };
        match fate {
            Fate::Lost => outgoing.again.push_back(message),
            Fate::Confirmed => {
                outgoing.bytes -= message.bytes.len();
                if let Some(ticket) = message.ticket {
                    channel.settled.push(ticket, fate);
                }
                if outgoing.len() == 0 {
                    channel.outgoing = None;
                }
            }
        }
    }

    fn deliver(&mut self, message: &[u8]) {
        // A message has 1 to 255 bytes by its format.
        let Some(length) = message.len().checked_sub(1).and_then(|less| u8::try_from(less).ok()) else {
            return;
        };
        self.channel.arrived = true;
        self.inbox.push(length);
        self.inbox.extend_from_slice(message);
    }

    fn restart_incoming(&mut self) {
        self.inbox.clear();
        self.channel.arrived = false;
        self.channel.incoming = None;
    }

    fn restart_outgoing(&mut self) {
        let channel = &mut *self.channel;
        channel.restarted = true;
        let Some(outgoing) = channel.outgoing.take() else {
            return;
        };
        let Outgoing { again, queue, sent, .. } = *outgoing;
        let lost = sent.into_iter().map(|(_, message)| message).chain(again).chain(queue);
        for ticket in lost.filter_map(|message| message.ticket) {
            channel.settled.push(ticket, Fate::Lost);
        }
    }
}
