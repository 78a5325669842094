//! All the Airhook connections of one socket, by address.
//!
//! Bytes of a KRPC stream go in by address; datagrams go out. What memory
//! strangers can take is bounded: connections by number, the bytes of their
//! streams by sum. To make room, the connection that was idle longest goes,
//! those to unproven senders first.

mod delivery;
mod patience;
mod room;

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rand::Rng;
use slab::Slab;

pub use self::delivery::Change;
use self::delivery::{Reports, Watch};
use crate::airhook::channel::Channel;
use crate::airhook::connection::{Connection, Verdict};
use crate::airhook::lru::{Class, Link, Lists};
use crate::airhook::packet::Packet;
use crate::airhook::round_trip::RoundTrip;
use crate::airhook::stream::Stream;
use crate::config::Config;
use crate::context::{Context, Due, Key};
use crate::error::CallError;
use crate::wheel::Timer;

/// How long an opening of someone else's may stay unproven.
const UNPROVEN_IDLE: Duration = Duration::from_secs(30);

/// After so many calls in a row without an answer a peer of 2003 gets a new session.
const MAX_DOUBTS: u8 = 2;

/// What one socket has sent and received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Datagrams received.
    pub packets_in: u64,
    /// Datagrams sent.
    pub packets_out: u64,
    /// Bytes in them, without the headers of UDP and IP.
    pub bytes_in: u64,
    /// Bytes in those sent.
    pub bytes_out: u64,
    /// Datagrams received that were malformed or had no business here.
    pub dropped: u64,
}

/// All the connections of one socket.
pub struct Mux<C = Stream> {
    entries: Slab<Entry<C>>,
    by_addr: HashMap<SocketAddr, u32, Keyed>,
    lists: Lists,
    /// Connections that may have something to send.
    ready: VecDeque<Key>,
    generation: u32,
    /// Bytes kept for all streams.
    buffered: usize,
    /// Connections whose streams wait for the rest of a message, the longest waiting
    /// first, each with the number under which it began to.
    waiting: VecDeque<(Key, u32)>,
    waiting_serial: u32,
    idle: Option<Timer>,
    /// What is usual for all connections of this socket.
    usual: RoundTrip,
    /// Calls that were lost with their session.
    failed: Vec<(Key, CallError)>,
    reports: Reports,
    traffic: Traffic,
}

struct Entry<C> {
    addr: SocketAddr,
    generation: u32,
    queued: bool,
    /// Calls in a row that went unanswered.
    doubts: u8,
    link: Link,
    timer: Option<Timer>,
    /// The address of ours that this peer sees, once asked for.
    local: Option<IpAddr>,
    /// Calls that wait for an answer from this peer.
    calls: Vec<Key>,
    watch: Watch,
    connection: Connection,
    channel: C,
}

/// A keyed hash, so that nobody can choose addresses that collide.
struct Keyed(u64);

impl BuildHasher for Keyed {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.0);
        hasher
    }
}

impl<C: Channel> Mux<C> {
    /// No connections yet.
    pub fn new(rng: &mut impl Rng) -> Self {
        Mux {
            entries: Slab::new(),
            by_addr: HashMap::with_hasher(Keyed(rng.next_u64())),
            lists: Lists::default(),
            ready: VecDeque::new(),
            generation: 0,
            buffered: 0,
            waiting: VecDeque::new(),
            waiting_serial: 0,
            idle: None,
            usual: RoundTrip::default(),
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

    /// Bytes that are kept for the streams of all connections.
    pub fn buffered(&self) -> usize {
        self.buffered
    }

    /// What has been sent and received.
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// The peer at the other end.
    pub fn addr(&self, key: Key) -> Option<SocketAddr> {
        self.get(key).map(|entry| entry.addr)
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

    /// Whether a call to this address waits for its answer.
    pub fn is_expecting(&self, addr: &SocketAddr) -> bool {
        self.by_addr.get(addr).is_some_and(|&index| {
            self.entries.get(index as usize).is_some_and(|entry| !entry.calls.is_empty())
        })
    }

    /// The address of ours that this peer sees, by the route to it.
    pub fn local(&mut self, key: Key, ctx: &Context<'_>) -> Option<IpAddr> {
        let entry = self.get_mut(key)?;
        if entry.local.is_none() {
            entry.local = ctx.routes.local_address(entry.addr.ip());
        }
        entry.local
    }

    /// A call that was lost with its connection or session, and why. Drain after
    /// every input.
    pub fn poll_failed(&mut self) -> Option<(Key, CallError)> {
        self.failed.pop()
    }

    // -- input

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
            self.traffic.dropped += 1;
            return None;
        };
        let key = match self.by_addr.get(&from) {
            Some(&index) => self.key(index),
            None => self.open(ctx, from, false),
        };
        let index = key.index as usize;
        let entry = self.entries.get_mut(index)?;
        let before = entry.channel.buffered();
        entry.channel.resume(inbox);
        let mut port = entry.channel.port(inbox, ctx.config.reorder_limit);
        let verdict = entry.connection.receive(&packet, datagram, ctx, &mut port);
        drop(port);
        if matches!(verdict, Verdict::Invalid | Verdict::Foreign) {
            self.traffic.dropped += 1;
        }
        let is_proven = entry.connection.is_proven();
        if verdict == Verdict::Accepted || is_proven && entry.link.class == Class::Unproven {
            self.touch(ctx, key);
        }
        self.take_in(ctx, key, before, inbox)
    }

    /// What was in the packets of a connection, whose channel kept `before` bytes, stands in
    /// `inbox` now. The connection, if that is of use.
    fn take_in(
        &mut self,
        ctx: &mut Context<'_>,
        key: Key,
        before: usize,
        inbox: &mut Vec<u8>,
    ) -> Option<Key> {
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
        if self.get(key).is_some_and(|entry| entry.channel.buffered() > before) && self.make_room(ctx, key) {
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
        let before = entry.channel.buffered();
        entry.channel.keep(inbox, used);
        let after = entry.channel.buffered();
        if incomplete {
            // It may go on only once it has seen that we know it.
            entry.connection.hasten();
        }
        self.buffered = self.buffered + after - before;
        if incomplete {
            self.queue_if_ready(key);
            self.make_room(ctx, key);
        }
    }

    /// Gives up the session, because the peer's stream makes no sense, and opens a
    /// new one. Calls to the peer fail.
    pub fn break_off(&mut self, ctx: &mut Context<'_>, key: Key) {
        self.traffic.dropped += 1;
        self.renew(ctx, key);
    }

    /// A call over this connection has gone unanswered. A Python peer of 2003 whose
    /// stream has broken may acknowledge everything and answer nothing: a new session
    /// heals it.
    pub fn doubt(&mut self, ctx: &mut Context<'_>, key: Key) {
        if let Some(entry) = self.get_mut(key)
            && entry.connection.is_proven()
            && entry.connection.is_original()
        {
            entry.doubts += 1;
            if entry.doubts >= MAX_DOUBTS {
                self.renew(ctx, key);
            }
        }
    }

    /// Does what is due on a connection. When bytes of the peer's stream have come by that,
    /// they stand in `inbox`, as after [`receive`](Self::receive).
    pub fn handle_timeout(&mut self, ctx: &mut Context<'_>, key: Key, inbox: &mut Vec<u8>) -> Option<Key> {
        let entry = self.get_mut(key)?;
        entry.timer = None;
        let before = entry.channel.buffered();
        entry.channel.resume(inbox);
        let mut port = entry.channel.port(inbox, ctx.config.reorder_limit);
        let goes_on = entry.connection.handle_timeout(ctx, &mut port);
        drop(port);
        if goes_on {
            return self.take_in(ctx, key, before, inbox);
        }
        inbox.clear();
        let after = entry.channel.buffered();
        self.buffered = self.buffered + after - before;
        self.remove(ctx, key);
        None
    }

    /// Forgets connections that have been idle for long enough.
    pub fn handle_idle(&mut self, ctx: &mut Context<'_>) {
        self.idle = None;
        for class in Class::ALL {
            while let Some(index) = self.lists.front(class) {
                let key = self.key(index);
                let Some(entry) = self.get(key) else { break };
                if ctx.now < entry.link.active + idle_limit(class, ctx.config) {
                    break;
                }
                self.remove(ctx, key);
            }
        }
        self.arm_idle(ctx);
    }

    // -- commands

    /// The connection to `addr`, a new one if there is none.
    pub fn connect(&mut self, ctx: &mut Context<'_>, addr: SocketAddr) -> Key {
        match self.by_addr.get(&addr) {
            Some(&index) => self.key(index),
            None => self.open(ctx, addr, true),
        }
    }

    /// Queues bytes for a peer. False when the connection is gone. A ticket comes back from
    /// [`poll_fate`](Self::poll_fate).
    pub fn send(&mut self, ctx: &mut Context<'_>, key: Key, bytes: &[u8], ticket: Option<u64>) -> bool {
        let Some(entry) = self.get_mut(key) else {
            return false;
        };
        let before = entry.channel.buffered();
        entry.channel.write(bytes, ticket);
        let after = entry.channel.buffered();
        self.buffered = self.buffered + after - before;
        self.report(ctx, key, false);
        self.touch(ctx, key);
        // What strangers may never fetch does not take the room of others.
        self.forget_strangers(ctx, key);
        self.queue_if_ready(key);
        true
    }

    /// A call to this peer waits for its answer; it fails with the session.
    pub fn expect(&mut self, ctx: &mut Context<'_>, key: Key, call: Key) {
        if let Some(entry) = self.get_mut(key) {
            entry.calls.push(call);
            entry.connection.set_expecting(true, ctx);
            self.arm(ctx, key);
        }
    }

    /// The call waits no longer.
    pub fn expect_no_more(&mut self, ctx: &mut Context<'_>, key: Key, call: Key) {
        if let Some(entry) = self.get_mut(key) {
            entry.calls.retain(|&waiting| waiting != call);
            if entry.calls.is_empty() {
                entry.calls = Vec::new();
                entry.connection.set_expecting(false, ctx);
            }
        }
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
        self.waiting.clear();
        self.buffered = 0;
    }

    // -- output

    /// Whether a datagram may be waiting.
    pub fn has_output(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Puts the next datagram into `buf`, which is emptied first, and says where to send it.
    pub fn poll_transmit(&mut self, ctx: &mut Context<'_>, buf: &mut Vec<u8>) -> Option<SocketAddr> {
        buf.clear();
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
                self.traffic.packets_out += 1;
                self.traffic.bytes_out += buf.len() as u64;
                return Some(addr);
            }
        }
        None
    }

    // -- inside

    fn key(&self, index: u32) -> Key {
        let generation = self.entries.get(index as usize).map_or(0, |entry| entry.generation);
        Key { index, generation }
    }

    fn get(&self, key: Key) -> Option<&Entry<C>> {
        self.entries.get(key.index as usize).filter(|entry| entry.generation == key.generation)
    }

    fn get_mut(&mut self, key: Key) -> Option<&mut Entry<C>> {
        self.entries.get_mut(key.index as usize).filter(|entry| entry.generation == key.generation)
    }

    fn open(&mut self, ctx: &mut Context<'_>, addr: SocketAddr, opened: bool) -> Key {
        let class = if opened { Class::Opened } else { Class::Unproven };
        if class == Class::Unproven && self.lists.len(class) >= ctx.config.max_unproven {
            self.evict(ctx, &[Class::Unproven]);
        }
        if self.entries.len() >= ctx.config.max_connections {
            // Lasting ones are worth more, but whoever wants to may look like one.
            let many = self.lists.len(Class::Lasting) > ctx.config.max_connections / 2;
            let (first, then) =
                if many { (Class::Lasting, Class::Usual) } else { (Class::Usual, Class::Lasting) };
            self.evict(ctx, &[Class::Unproven, first, then, Class::Opened]);
        }
        self.generation = self.generation.wrapping_add(1);
        let mut connection = Connection::new(opened, ctx.rng);
        connection.set_usual(self.usual.opening(ctx.config.initial_probe));
        let index = self.entries.insert(Entry {
            addr,
            generation: self.generation,
            queued: false,
            doubts: 0,
            link: Link::new(class, ctx.now),
            timer: None,
            local: None,
            calls: Vec::new(),
            watch: Watch::default(),
            connection,
            channel: C::default(),
        });
        // At most a million connections are allowed, so an index fits.
        let key = Key { index: index as u32, generation: self.generation };
        self.by_addr.insert(addr, key.index);
        self.lists.push(&mut self.entries, key.index, class);
        self.arm_idle(ctx);
        key
    }

    fn evict(&mut self, ctx: &mut Context<'_>, classes: &[Class]) {
        if let Some(index) = classes.iter().find_map(|&class| self.lists.front(class)) {
            self.remove(ctx, self.key(index));
        }
    }

    fn remove(&mut self, ctx: &mut Context<'_>, key: Key) {
        if self.get(key).is_none() {
            return;
        }
        self.lists.unlink(&mut self.entries, key.index);
        let mut entry = self.entries.remove(key.index as usize);
        self.by_addr.remove(&entry.addr);
        self.buffered -= entry.channel.buffered();
        ctx.disarm(&mut entry.timer);
        self.reports.gone(key, &mut entry);
        self.failed.extend(entry.calls.into_iter().map(|call| (call, CallError::Unreachable)));
    }

    /// Opens a new session; what was under way in the old one is lost.
    fn renew(&mut self, ctx: &mut Context<'_>, key: Key) {
        let Some(entry) = self.get_mut(key) else {
            return;
        };
        let before = entry.channel.buffered();
        entry.doubts = 0;
        entry.connection.break_off(ctx, &mut entry.channel.port(&mut Vec::new(), 0));
        self.settle(ctx, key, before);
    }

    /// The connection was used just now: it is the last of its class to go.
    fn touch(&mut self, ctx: &Context<'_>, key: Key) {
        let Some(entry) = self.get_mut(key) else {
            return;
        };
        let class = match entry.link.class {
            class if !entry.connection.is_proven() => class,
            _ if entry.connection.is_original() => Class::Lasting,
            _ => Class::Usual,
        };
        entry.link.active = ctx.now;
        self.lists.unlink(&mut self.entries, key.index);
        self.lists.push(&mut self.entries, key.index, class);
    }

    /// After something happened to a connection whose stream kept `before` bytes.
    fn settle(&mut self, ctx: &mut Context<'_>, key: Key, before: usize) {
        let Some(entry) = self.get_mut(key) else {
            return;
        };
        let after = entry.channel.buffered();
        let restarted = entry.channel.take_restarted();
        if restarted {
            let lost = std::mem::take(&mut entry.calls);
            entry.connection.set_expecting(false, ctx);
            self.failed.extend(lost.into_iter().map(|call| (call, CallError::Reset)));
        }
        self.buffered = self.buffered + after - before;
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

    fn arm_idle(&mut self, ctx: &mut Context<'_>) {
        let first = Class::ALL
            .into_iter()
            .filter_map(|class| {
                let entry = self.entries.get(self.lists.front(class)? as usize)?;
                Some(entry.link.active + idle_limit(class, ctx.config))
            })
            .min();
        if let Some(at) = first {
            ctx.arm_by(&mut self.idle, at, Due::Idle);
        }
    }
}

impl<C> AsMut<Link> for Entry<C> {
    fn as_mut(&mut self) -> &mut Link {
        &mut self.link
    }
}

fn idle_limit(class: Class, config: &Config) -> Duration {
    match class {
        Class::Unproven => UNPROVEN_IDLE,
        Class::Opened | Class::Usual => config.connection_idle,
        Class::Lasting => config.lasting_idle,
    }
}
