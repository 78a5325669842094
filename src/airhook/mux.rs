//! All the Airhook connections of one socket, by address.
//!
//! Bytes of a KRPC stream go in by address; datagrams go out. What memory
//! others can take is bounded: connections by number, in all and for each block of
//! addresses; bytes by sum, for each connection and in all. Strangers are answered
//! without keeping anything where possible. To make room, the connection that was idle
//! longest goes, those to unproven senders first.

mod addresses;
mod blocks;
mod calls;
mod delivery;
mod learned;
mod locals;
mod patience;
mod room;
mod strangers;
mod traffic;

use std::collections::VecDeque;
use std::net::SocketAddr;

use rand::Rng;
use slab::Slab;

use self::addresses::{Addresses, Keyed};
use self::calls::{FirstCall, MoreCalls};
pub use self::delivery::Change;
use self::delivery::{Reports, Watch};
use crate::airhook::channel::Channel;
use crate::airhook::connection::{Connection, Verdict};
use crate::airhook::lru::{Class, Link, Listed, Lists};
use crate::airhook::mux::blocks::Blocks;
use crate::airhook::mux::learned::LearnedTrips;
use crate::airhook::mux::locals::Locals;
use crate::airhook::mux::room::Kept;
use crate::airhook::mux::strangers::Answers;
pub use crate::airhook::mux::traffic::Traffic;
use crate::airhook::opening::Openings;
use crate::airhook::packet::Packet;
use crate::airhook::round_trip::RoundTrip;
use crate::airhook::stream::Stream;
use crate::context::{Context, Due, Key};
use crate::error::{CallError, SendError};
use crate::wheel::Timer;

/// While there is no room in all, messages of up to so many bytes are still queued where
/// nothing else is.
const SHORT: usize = 2048;

/// All the connections of one socket.
pub struct Mux<C = Stream> {
    entries: Slab<Entry<C>>,
    by_addr: Addresses,
    lists: Lists,
    /// Connections that may have something to send.
    ready: VecDeque<Key>,
    generation: u32,
    /// Answers to strangers.
    answers: Answers,
    openings: Openings,
    blocks: Blocks,
    learned: LearnedTrips,
    /// What is kept for all streams.
    kept: Kept,
    /// Connections whose streams wait for the rest of a message, the longest waiting
    /// first, each with the number under which it began to.
    waiting: VecDeque<(Key, u32)>,
    waiting_serial: u32,
    idle: Option<Timer>,
    /// Addresses of ours that peers see.
    locals: Locals,
    /// What is usual for all connections of this socket.
    usual: RoundTrip,
    /// Calls to peers beside the first.
    more_calls: MoreCalls,
    /// Calls that were lost with their session, or never went out.
    failed: Vec<(Key, CallError)>,
    reports: Reports,
    traffic: Traffic,
}

struct Entry<C> {
    addr: SocketAddr,
    generation: u32,
    queued: bool,
    /// Its session was an answer's, which nobody kept.
    adopted: bool,
    /// Calls in a row that went unanswered.
    doubts: u8,
    /// The list that it stands in, and where.
    class: Class,
    link: Link,
    timer: Option<Timer>,
    /// The first call that waits for an answer from this peer.
    call: FirstCall,
    watch: Watch,
    connection: Connection,
    channel: C,
}

impl<C: Channel> Mux<C> {
    /// No connections yet.
    pub fn new(rng: &mut impl Rng) -> Self {
        Mux {
            entries: Slab::new(),
            by_addr: Addresses::new(rng.next_u64()),
            lists: Lists::default(),
            ready: VecDeque::new(),
            generation: 0,
            answers: Answers::default(),
            openings: Openings::new(rng),
            blocks: Blocks::default(),
            learned: LearnedTrips::default(),
            kept: Kept::default(),
            waiting: VecDeque::new(),
            waiting_serial: 0,
            idle: None,
            locals: Locals::default(),
            usual: RoundTrip::default(),
            more_calls: MoreCalls::default(),
            failed: Vec::new(),
            reports: Reports::default(),
            traffic: Traffic::default(),
        }
    }

    /// How many connections there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many of them are to senders who have not shown that they receive our answers.
    pub fn half_open(&self) -> usize {
        self.lists.len(Class::Unproven)
    }

    /// Bytes that are kept for the streams of all connections, both ways.
    pub fn buffered(&self) -> usize {
        self.kept.bytes
    }

    /// Of these, bytes of messages of which not all has come.
    pub fn unfinished(&self) -> usize {
        self.kept.waiting
    }

    /// What has been sent and received.
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// The peer at the other end.
    pub fn addr(&self, key: Key) -> Option<SocketAddr> {
        self.get(key).map(|entry| entry.addr)
    }

    /// Whether there is a connection to this address.
    pub fn is_known(&self, addr: &SocketAddr) -> bool {
        self.place_of(addr).is_some()
    }

    /// Whether the peer has shown that it receives what we send.
    pub fn is_proven(&self, key: Key) -> bool {
        self.get(key).is_some_and(|entry| entry.connection.is_proven())
    }

    /// Whether the peer does as the implementations of 2003 do.
    pub fn is_original(&self, key: Key) -> bool {
        self.get(key).is_some_and(|entry| entry.connection.is_original())
    }

    /// How many bytes for this peer are queued, or sent and not confirmed.
    pub fn unconfirmed(&self, key: Key) -> usize {
        self.get(key).map_or(0, |entry| entry.channel.unconfirmed())
    }

    // -- input

    /// Counts a datagram that there is no room for.
    pub fn drop_unread(&mut self, datagram: &[u8]) {
        self.traffic.packets_in += 1;
        self.traffic.bytes_in += datagram.len() as u64;
        self.traffic.dropped += 1;
    }

    /// Takes a datagram in. When bytes of the peer's stream have come, in order,
    /// they stand in `inbox` (which must be empty), behind those that were kept;
    /// the caller uses up what it can and gives the rest to [`keep`](Self::keep).
    pub fn receive(
        &mut self,
        ctx: &mut Context<'_>,
        from: SocketAddr,
        datagram: &[u8],
        inbox: &mut Vec<u8>,
    ) -> Option<Key> {
        self.traffic.packets_in += 1;
        self.traffic.bytes_in += datagram.len() as u64;
        let Ok(packet) = Packet::parse(datagram) else {
            self.traffic.malformed += 1;
            self.traffic.dropped += 1;
            return None;
        };
        let key = match self.place_of(&from) {
            Some(index) => self.key(index),
            None => self.meet(ctx, from, &packet)?,
        };
        let index = key.index as usize;
        let entry = self.entries.get_mut(index)?;
        let before = Kept::of(&entry.channel);
        entry.channel.resume(inbox);
        let mut port = entry.channel.port(inbox, ctx.config.reorder_limit);
        let verdict = entry.connection.receive(&packet, datagram, ctx, &mut port);
        drop(port);
        match verdict {
            Verdict::Accepted | Verdict::Held => {}
            Verdict::Stale => self.traffic.stale += 1,
            Verdict::Foreign => self.traffic.foreign += 1,
            Verdict::Invalid => self.traffic.invalid += 1,
        }
        if matches!(verdict, Verdict::Invalid | Verdict::Foreign) {
            self.traffic.dropped += 1;
        }
        let is_proven = entry.connection.is_proven();
        if verdict == Verdict::Accepted || is_proven && entry.class == Class::Unproven {
            self.touch(ctx, key);
        }
        self.take_in(ctx, key, before, inbox)
    }

    /// What was in the packets of a connection, whose channel had kept `before`, stands in
    /// `inbox` now. The connection, if that is of use.
    fn take_in(&mut self, ctx: &mut Context<'_>, key: Key, before: Kept, inbox: &mut Vec<u8>) -> Option<Key> {
        let entry = self.get_mut(key)?;
        if entry.channel.is_broken() {
            entry.connection.break_off(ctx, &mut entry.channel.port(inbox, ctx.config.reorder_limit));
        }
        if entry.channel.take_arrived() {
            entry.doubts = 0;
        } else {
            entry.channel.keep(inbox, 0);
        }
        self.settle(ctx, key, before);
        if self.get(key).is_some_and(|entry| entry.channel.buffered() > before.bytes)
            && self.make_room(ctx, key)
        {
            inbox.clear();
        }
        (!inbox.is_empty()).then_some(key)
    }

    /// Keeps `inbox` from `used` on, which makes no whole message yet, for when more
    /// has come. To be called after each [`receive`](Self::receive) that brought something.
    pub fn keep(&mut self, ctx: &mut Context<'_>, key: Key, inbox: &mut Vec<u8>, used: usize) {
        let incomplete = used < inbox.len();
        let Some(entry) = self.get_mut(key) else {
            return;
        };
        let before = Kept::of(&entry.channel);
        entry.channel.keep(inbox, used);
        let after = Kept::of(&entry.channel);
        if incomplete {
            // It may go on only once it has seen that we know it.
            entry.connection.hasten();
        }
        self.kept.change(before, after);
        if incomplete {
            self.queue_if_ready(key);
            self.make_room(ctx, key);
        }
    }

    /// Gives up the session, because the peer's stream makes no sense, and opens a
    /// new one. Calls to the peer fail.
    pub fn break_off(&mut self, ctx: &mut Context<'_>, key: Key) {
        self.traffic.broken_off += 1;
        self.traffic.dropped += 1;
        self.renew(ctx, key);
    }

    /// Does what is due on a connection. When bytes of the peer's stream have come by that,
    /// they stand in `inbox`, as after [`receive`](Self::receive).
    pub fn handle_timeout(&mut self, ctx: &mut Context<'_>, key: Key, inbox: &mut Vec<u8>) -> Option<Key> {
        let entry = self.get_mut(key)?;
        entry.timer = None;
        let before = Kept::of(&entry.channel);
        entry.channel.resume(inbox);
        let mut port = entry.channel.port(inbox, ctx.config.reorder_limit);
        let goes_on = entry.connection.handle_timeout(ctx, &mut port);
        drop(port);
        if goes_on {
            return self.take_in(ctx, key, before, inbox);
        }
        inbox.clear();
        let after = Kept::of(&entry.channel);
        self.kept.change(before, after);
        self.remove(ctx, key, CallError::Unreachable);
        None
    }

    // -- commands

    /// The connection to `addr`, a new one if there is none.
    ///
    /// A key of no connection, over which nothing can be sent, when there are four times
    /// [`Config::max_per_block`](crate::Config::max_per_block) to that block of addresses.
    pub fn connect(&mut self, ctx: &mut Context<'_>, addr: SocketAddr) -> Key {
        let opened = match self.place_of(&addr) {
            Some(index) => return self.key(index),
            None if self.blocks.has_room_for_own(&addr, ctx.config) => self.reach(ctx, addr),
            None => None,
        };
        opened.unwrap_or_else(|| {
            self.traffic.refused += 1;
            Key::new(u32::MAX, 0)
        })
    }

    /// Queues bytes for a peer. A ticket comes back from [`poll_fate`](Self::poll_fate).
    ///
    /// # Errors
    ///
    /// When the connection is gone, or its queue or that of the node is full; nothing was
    /// queued then.
    pub fn send(
        &mut self,
        ctx: &mut Context<'_>,
        key: Key,
        bytes: &[u8],
        ticket: Option<u64>,
    ) -> Result<(), SendError> {
        let Some(entry) = self.get(key) else {
            return Err(SendError::Closed);
        };
        let queued = entry.channel.unconfirmed();
        let limit = ctx.config.max_queued;
        if queued + bytes.len() > limit {
            self.traffic.queue_full += 1;
            return Err(SendError::Full { queued, limit });
        }
        // What strangers may never fetch does not take the room of others.
        self.forget_strangers(ctx, key);
        let limit = ctx.config.max_buffered;
        if self.kept.bytes > limit && (queued > 0 || bytes.len() > SHORT) {
            self.traffic.queue_full += 1;
            return Err(SendError::Full { queued: self.kept.bytes, limit });
        }
        let Some(entry) = self.get_mut(key) else {
            return Err(SendError::Closed);
        };
        let before = Kept::of(&entry.channel);
        entry.channel.write(bytes, ticket);
        let after = Kept::of(&entry.channel);
        self.kept.change(before, after);
        self.report(ctx, key, false);
        self.touch(ctx, key);
        self.forget_strangers(ctx, key);
        self.queue_if_ready(key);
        Ok(())
    }

    /// Forgets all connections, and takes back their timers.
    pub fn clear(&mut self, ctx: &mut Context<'_>) {
        for (index, entry) in &mut self.entries {
            ctx.disarm(&mut entry.timer);
            self.reports.gone(Key { index: index as u32, generation: entry.generation }, entry);
        }
        ctx.disarm(&mut self.idle);
        self.entries.clear();
        self.by_addr.clear();
        self.lists = Lists::default();
        self.ready.clear();
        self.more_calls.clear();
        self.waiting.clear();
        self.answers = Answers::default();
        self.blocks = Blocks::default();
        self.kept = Kept::default();
    }

    // -- output

    /// Whether a datagram may be waiting.
    pub fn has_output(&self) -> bool {
        !self.ready.is_empty() || !self.answers.is_empty()
    }

    /// Puts the next datagram into `buf`, which is emptied first, and says where to send it.
    pub fn poll_transmit(&mut self, ctx: &mut Context<'_>, buf: &mut Vec<u8>) -> Option<SocketAddr> {
        buf.clear();
        // Before what a connection may have to say to the same peer, in the same session.
        if let Some(addr) = self.answers.pop(buf) {
            return Some(self.count_out(addr, buf));
        }
        while let Some(key) = self.ready.pop_front() {
            let Some(entry) = self.get_mut(key) else {
                continue;
            };
            entry.queued = false;
            let mut inbox = Vec::new();
            let sent = entry.connection.transmit(ctx, &mut entry.channel.port(&mut inbox, 0), buf);
            let addr = entry.addr;
            self.arm(ctx, key);
            // Else what there is to say does not fit into what may be sent, until more comes.
            if sent {
                // The next one comes after one of everybody else's.
                self.queue_if_ready(key);
                return Some(self.count_out(addr, buf));
            }
        }
        None
    }

    fn count_out(&mut self, to: SocketAddr, datagram: &[u8]) -> SocketAddr {
        self.traffic.packets_out += 1;
        self.traffic.bytes_out += datagram.len() as u64;
        to
    }

    // -- inside

    fn key(&self, index: u32) -> Key {
        let generation = self.entries.get(index as usize).map_or(0, |entry| entry.generation);
        Key { index, generation }
    }

    /// The place of the connection to this address.
    fn place_of(&self, addr: &SocketAddr) -> Option<u32> {
        let is_there = |place| self.entries.get(place as usize).is_some_and(|entry| entry.addr == *addr);
        self.by_addr.find(addr, is_there)
    }

    fn get(&self, key: Key) -> Option<&Entry<C>> {
        self.entries.get(key.index as usize).filter(|entry| entry.generation == key.generation)
    }

    fn get_mut(&mut self, key: Key) -> Option<&mut Entry<C>> {
        self.entries.get_mut(key.index as usize).filter(|entry| entry.generation == key.generation)
    }

    /// A connection to `addr`, with which there is none; it is idle for now. None when that
    /// is not worth one of ours that nobody has answered yet.
    fn open(&mut self, ctx: &mut Context<'_>, addr: SocketAddr, class: Class) -> Option<Key> {
        if !self.by_addr.has_room_for(&addr) {
            return None;
        }
        self.make_place(ctx, class)?;
        if self.entries.len() == self.entries.capacity() {
            // By a sixteenth: with a vector's own doubling, half of it may stand empty.
            self.entries.reserve_exact(4.max(self.entries.len() / 16));
        }
        self.generation = self.generation.wrapping_add(1);
        let mut connection = Connection::new(class == Class::Opened, ctx.rng);
        let learned = self.learned.patience(self.by_addr.hasher(), &addr, ctx.now);
        connection.set_usual(learned.unwrap_or_else(|| self.usual.opening(ctx.config.initial_probe)));
        let index = self.entries.insert(Entry {
            addr,
            generation: self.generation,
            queued: false,
            adopted: false,
            doubts: 0,
            class,
            link: Link::new(ctx.now),
            timer: None,
            call: FirstCall::NONE,
            watch: Watch::default(),
            connection,
            channel: C::default(),
        });
        // At most a million connections are allowed, so an index fits.
        let key = Key { index: index as u32, generation: self.generation };
        self.by_addr.insert(&addr, key.index);
        self.lists.push(&mut self.entries, key.index, class);
        self.count_in_block(ctx, &addr);
        self.arm_idle(ctx);
        Some(key)
    }

    /// Opens a new session; what was under way in the old one is lost.
    fn renew(&mut self, ctx: &mut Context<'_>, key: Key) {
        let Some(entry) = self.get_mut(key) else {
            return;
        };
        let before = Kept::of(&entry.channel);
        entry.doubts = 0;
        entry.connection.break_off(ctx, &mut entry.channel.port(&mut Vec::new(), 0));
        self.settle(ctx, key, before);
    }

    /// The connection was used just now: it is the last of its class to go.
    fn touch(&mut self, ctx: &Context<'_>, key: Key) {
        let Some(entry) = self.get_mut(key) else {
            return;
        };
        let class = match entry.class {
            class if !entry.connection.is_proven() => class,
            _ if entry.connection.is_original() => Class::Lasting,
            _ => Class::Usual,
        };
        entry.link.active = ctx.now;
        if entry.link.is_last() && entry.class == class {
            return;
        }
        self.lists.unlink(&mut self.entries, key.index);
        self.lists.push(&mut self.entries, key.index, class);
    }

    /// After something happened to a connection whose stream had kept `before`.
    fn settle(&mut self, ctx: &mut Context<'_>, key: Key, before: Kept) {
        let Some(entry) = self.get_mut(key) else {
            return;
        };
        let after = Kept::of(&entry.channel);
        let restarted = entry.channel.take_restarted();
        if restarted {
            let lost = std::mem::replace(&mut entry.call, FirstCall::NONE);
            entry.connection.set_expecting(false, ctx);
            self.fail_all(key.index, lost, &CallError::Reset);
        }
        self.kept.change(before, after);
        self.report(ctx, key, restarted);
        self.queue_if_ready(key);
        self.arm(ctx, key);
    }

    fn queue_if_ready(&mut self, key: Key) {
        let Some(entry) = self.get_mut(key) else {
            return;
        };
        let mut inbox = Vec::new();
        if !entry.queued && entry.connection.wants_to_send(&entry.channel.port(&mut inbox, 0)) {
            entry.queued = true;
            self.ready.push_back(key);
        }
    }

    fn arm(&mut self, ctx: &mut Context<'_>, key: Key) {
        if let Some(entry) = self.get_mut(key)
            && let Some(at) = entry.connection.deadline()
        {
            ctx.arm_by(&mut entry.timer, at, Due::Connection(key));
        }
    }
}

impl<C> Listed for Entry<C> {
    fn link(&mut self) -> &mut Link {
        &mut self.link
    }

    fn class(&mut self) -> &mut Class {
        &mut self.class
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A network may have a hundred thousand of them in one process.
    #[test]
    fn a_connection_at_rest_is_small() {
        assert!(size_of::<Connection>() <= 104, "{}", size_of::<Connection>());
        assert!(size_of::<Stream>() <= 24, "{}", size_of::<Stream>());
        let entry = size_of::<Entry<Stream>>();
        // Two tables, of addresses and of blocks, take a byte beside each place, and have up to 16
        // places for 7.
        let places = 2 * (size_of::<(u32, u32)>() + 1) * 16 / 7;
        assert!(entry + places <= 256, "{entry} + {places}");
    }
}
