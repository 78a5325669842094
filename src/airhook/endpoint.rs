//! Airhook by itself: all the connections of one UDP socket, for programs.

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::airhook::channel::Channel;
use crate::airhook::flight::Fate;
use crate::airhook::mux::{Change, Mux, Traffic};
use crate::airhook::stream::Stream;
use crate::config::Config;
use crate::context::{Alarm, Context, Due, Key, Routes};
use crate::error::{ConfigError, SendError};
use crate::random::{Random, Seed, seeded};
use crate::time::{Time, UnixTime};
use crate::wheel::Wheel;

/// All the Airhook connections of one UDP socket, without the socket.
///
/// It carries a [`Stream`] of bytes each way, or single [`Messages`](super::Messages), to
/// and from each peer. There is one connection per address; sending opens it, and so does
/// whoever speaks to us. A machine without I/O and without a clock, with four families of
/// methods:
///
/// * input: [`receive`](Self::receive) and [`handle_timeout`](Self::handle_timeout);
/// * commands: [`connect`](Self::connect), [`send`](Self::send), [`reset`](Self::reset), …;
/// * output: [`poll_transmit`](Self::poll_transmit) and [`poll_event`](Self::poll_event), to
///   be drained after every input and command, and [`next_deadline`](Self::next_deadline);
/// * getters.
///
/// Time runs from wherever its driver likes, and must not run backwards. [`udp`](crate::udp) has a socket
/// for it, and what stands between the two.
///
/// One thread drives it; it holds no lock and may be moved to another. Addresses are told apart
/// as they are given: to a socket for both families IPv4 peers are `::ffff:192.0.2.1`, and
/// that is what to send to.
///
/// Of [`Config`] it uses [`ack_delay`](Config::ack_delay), [`initial_probe`](Config::initial_probe),
/// [`max_probe`](Config::max_probe), [`max_openings`](Config::max_openings),
/// [`max_silence`](Config::max_silence), [`max_heartbeats`](Config::max_heartbeats),
/// [`max_packet`](Config::max_packet), [`narrow_packet`](Config::narrow_packet),
/// [`max_connections`](Config::max_connections), [`max_unproven`](Config::max_unproven),
/// [`connection_idle`](Config::connection_idle), [`lasting_idle`](Config::lasting_idle),
/// [`reorder_limit`](Config::reorder_limit), those for
/// blocks of addresses ([`max_per_block`](Config::max_per_block),
/// [`limit_loopback`](Config::limit_loopback)) and those for what is kept
/// ([`max_queued`](Config::max_queued), [`max_buffered`](Config::max_buffered),
/// [`max_unfinished`](Config::max_unfinished),
/// [`max_unfinished_unproven`](Config::max_unfinished_unproven)). The others are checked all the
/// same: for a queue of less than 200,012 bytes [`max_message_size`](Config::max_message_size) and
/// [`max_value_size`](Config::max_value_size) must be lowered, too.
pub struct Endpoint<C = Stream> {
    mux: Mux<C>,
    wheel: Wheel<Alarm>,
    rng: Random,
    config: Config,
    events: VecDeque<Event>,
    /// Peers for whom nothing was queued because too much is in all.
    starved: BTreeSet<SocketAddr>,
    inbox: Vec<u8>,
    buffer: Vec<u8>,
}

/// What has happened at an [`Endpoint`]. Each names the peer that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The peer has shown that it receives what we send: a session has begun.
    Connected(SocketAddr),
    /// Bytes of the peer's stream, which go on where the last ones ended; or one message.
    Received(SocketAddr, Vec<u8>),
    /// What was sent with this ticket has been confirmed by the peer, all of it.
    Confirmed(SocketAddr, u64),
    /// What was sent with this ticket is lost with its session. Some of it, or all, may have arrived.
    Lost(SocketAddr, u64),
    /// There is room in the queue again: half of it is free, after a
    /// [`SendError::Full`](crate::SendError::Full), or as
    /// much as [`Endpoint::want_room`] asked for.
    Writable(SocketAddr),
    /// The session has ended: the peer has started afresh, or has not been heard for too
    /// long. What was under way is lost, both ways, and both streams begin anew; what is
    /// sent from now on belongs to the next session.
    Reset(SocketAddr),
    /// The connection is gone: the peer never answered, or nothing happened for long, or it
    /// had to make room, or the program has asked for it. What was under way is lost, as
    /// with [`Reset`](Self::Reset). A new one begins when either side speaks.
    Forgotten(SocketAddr),
}

/// So many events wait at the most before nothing is taken in any more; one datagram makes a few
/// hundred of them.
const MAX_EVENTS: usize = 4096;

/// Nobody asks an endpoint for addresses of its own.
struct NoRoutes;

impl Routes for NoRoutes {
    fn local_address(&self, _: IpAddr) -> Option<IpAddr> {
        None
    }
}

/// The world as the mux sees it, of the fields that it does not own.
macro_rules! context {
    ($endpoint:expr, $now:expr) => {
        Context {
            now: $now,
            unix: UnixTime(0),
            config: &$endpoint.config,
            rng: &mut $endpoint.rng,
            wheel: &mut $endpoint.wheel,
            node: Key::new(0, 0),
            routes: &NoRoutes,
            buffer: &mut $endpoint.buffer,
        }
    };
}

impl<C: Channel> Endpoint<C> {
    /// An endpoint without connections. The seed must be random: session ids are drawn from
    /// it, and others must not guess them. (In a test, a fixed one makes everything repeat.)
    ///
    /// # Errors
    ///
    /// A setting is out of bounds.
    pub fn new(config: Config, seed: Seed) -> Result<Self, ConfigError> {
        config.validate()?;
        let mut rng = seeded(seed);
        let mut mux = Mux::new(&mut rng);
        mux.watch();
        let (events, inbox, buffer) = (VecDeque::new(), Vec::new(), Vec::new());
        let (wheel, starved) = (Wheel::new(), BTreeSet::new());
        Ok(Endpoint { mux, wheel, rng, config, events, starved, inbox, buffer })
    }

    // -- getters

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.mux.len()
    }

    /// How many of them are to senders who have not shown that they receive our answers
    /// ([`Config::max_unproven`]).
    pub fn half_open(&self) -> usize {
        self.mux.half_open()
    }

    /// Bytes that are kept for all connections: queued or unconfirmed, or come too early
    /// ([`Config::max_buffered`]).
    pub fn buffered(&self) -> usize {
        self.mux.buffered()
    }

    /// Of these, bytes that have come and wait for others ([`Config::max_unfinished`]).
    pub fn unfinished(&self) -> usize {
        self.mux.unfinished()
    }

    /// Whether the peer has shown, in this session, that it receives what we send.
    pub fn is_connected(&self, peer: SocketAddr) -> bool {
        self.mux.find(&plain(peer)).is_some_and(|key| self.mux.is_proven(key))
    }

    /// How many bytes for this peer are queued, or sent and not confirmed. A message counts
    /// with 64 more, for what its place costs.
    pub fn unconfirmed(&self, peer: SocketAddr) -> usize {
        self.mux.find(&plain(peer)).map_or(0, |key| self.mux.unconfirmed(key))
    }

    /// The smoothed round trip to this peer, if it was measured.
    pub fn round_trip(&self, peer: SocketAddr) -> Option<Duration> {
        let key = self.mux.find(&plain(peer))?;
        self.mux.round_trip(key, &self.config).0.smoothed()
    }

    /// What has been sent and received by all connections.
    pub fn traffic(&self) -> Traffic {
        *self.mux.traffic()
    }

    // -- input

    /// Takes in a datagram that came from `from`. While 4,096 events wait to be polled, datagrams
    /// are dropped as if the network had lost them.
    pub fn receive(&mut self, now: Time, from: SocketAddr, datagram: &[u8]) {
        if self.events.len() >= MAX_EVENTS {
            self.mux.drop_unread(datagram);
            return;
        }
        let from = plain(from);
        let mut inbox = std::mem::take(&mut self.inbox);
        // What it brings becomes an event as it is.
        inbox.reserve(datagram.len());
        let mut ctx = context!(self, now);
        let key = self.mux.receive(&mut ctx, from, datagram, &mut inbox);
        self.take_in(now, key, &mut inbox);
        self.inbox = inbox;
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Time) {
        let mut inbox = std::mem::take(&mut self.inbox);
        while let Some(alarm) = self.wheel.expire(now) {
            let mut ctx = context!(self, now);
            let key = match alarm.due {
                Due::Connection(key) => self.mux.handle_timeout(&mut ctx, key, &mut inbox),
                _ => {
                    self.mux.handle_idle(&mut ctx);
                    None
                }
            };
            self.take_in(now, key, &mut inbox);
        }
        self.inbox = inbox;
    }

    // -- commands

    /// Opens a connection without sending anything over it, if there is none that works.
    /// What is sent then goes out when the peer has shown that it is there; without this it
    /// goes out at once, and comes again as often as it takes.
    pub fn connect(&mut self, now: Time, peer: SocketAddr) {
        let mut ctx = context!(self, now);
        let key = self.mux.connect(&mut ctx, plain(peer));
        self.mux.hold(&mut ctx, key);
        self.note_changes(now);
    }

    /// Queues bytes of a stream, or one message, for `peer`; all or nothing. A ticket, a
    /// number of the caller's choice, comes back exactly once: with [`Event::Confirmed`] or with
    /// [`Event::Lost`].
    ///
    /// # Errors
    ///
    /// Nothing was queued then, and the ticket does not come back. [`SendError::Full`]: not at
    /// present, [`Event::Writable`] follows, or [`Event::Forgotten`]. [`SendError::Length`]: no
    /// message has that length, or more than [`Config::max_queued`]. [`SendError::Closed`]: there
    /// are too many connections to that block of addresses; no event follows.
    pub fn send(
        &mut self,
        now: Time,
        peer: SocketAddr,
        bytes: &[u8],
        ticket: Option<u64>,
    ) -> Result<(), SendError> {
        if !C::fits(bytes.len()) || bytes.len() > self.config.max_queued {
            return Err(SendError::Length);
        }
        let peer = plain(peer);
        let mut ctx = context!(self, now);
        let key = self.mux.connect(&mut ctx, peer);
        let result = self.mux.send(&mut ctx, key, bytes, ticket);
        if matches!(result, Err(SendError::Full { .. })) {
            if self.mux.unconfirmed(key) + bytes.len() > ctx.config.max_queued {
                self.mux.want_room(&ctx, key, ctx.config.max_queued / 2);
            } else {
                self.starved.insert(peer);
            }
        }
        self.note_changes(now);
        result
    }

    /// Asks for an [`Event::Writable`] once at most `bytes` are [unconfirmed](Self::unconfirmed),
    /// for programs that keep less in the queue than it holds.
    pub fn want_room(&mut self, now: Time, peer: SocketAddr, bytes: usize) {
        if let Some(key) = self.mux.find(&plain(peer)) {
            let ctx = context!(self, now);
            self.mux.want_room(&ctx, key, bytes);
            self.note_changes(now);
        }
    }

    /// Says that the program waits for something of this peer, or waits no longer. While it
    /// does, or something is unconfirmed, the peer is asked whether it is there.
    pub fn set_waiting(&mut self, now: Time, peer: SocketAddr, waiting: bool) {
        if let Some(key) = self.mux.find(&plain(peer)) {
            let mut ctx = context!(self, now);
            self.mux.set_waiting(&mut ctx, key, waiting);
        }
    }

    /// Ends the session with this peer and begins a new one: what is under way is lost, both
    /// ways. Airhook has no other way to tell a peer that what it says makes no sense.
    pub fn reset(&mut self, now: Time, peer: SocketAddr) {
        if let Some(key) = self.mux.find(&plain(peer)) {
            let mut ctx = context!(self, now);
            self.mux.reset(&mut ctx, key);
            self.note_changes(now);
        }
    }

    /// Forgets the connection to this peer; what is under way is lost. The peer learns of it
    /// when it speaks again.
    pub fn forget(&mut self, now: Time, peer: SocketAddr) {
        if let Some(key) = self.mux.find(&plain(peer)) {
            let mut ctx = context!(self, now);
            self.mux.forget(&mut ctx, key);
            self.note_changes(now);
        }
    }

    // -- output

    /// When [`handle_timeout`](Self::handle_timeout) is to be called next. It may come early.
    pub fn next_deadline(&self) -> Option<Time> {
        self.wheel.next_deadline()
    }

    /// Puts the next datagram into `buf`, which is emptied first, and says where to send it;
    /// `None` when there is nothing to say now.
    pub fn poll_transmit(&mut self, now: Time, buf: &mut Vec<u8>) -> Option<SocketAddr> {
        let mut ctx = context!(self, now);
        self.mux.poll_transmit(&mut ctx, buf)
    }

    /// The next thing that has happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    // -- inside

    /// After an input: what has arrived over the connection `key` stands in `inbox`.
    fn take_in(&mut self, now: Time, key: Option<Key>, inbox: &mut Vec<u8>) {
        self.note_changes(now);
        let Some(key) = key else {
            inbox.clear();
            return;
        };
        if self.mux.is_proven(key) {
            self.hand_over(now, key, inbox);
        } else {
            // It may come from anybody, and its sender may yet start afresh unnoticed.
            self.mux.keep(&mut context!(self, now), key, inbox, 0);
            self.note_changes(now);
        }
        inbox.clear();
    }

    fn hand_over(&mut self, now: Time, key: Key, inbox: &mut Vec<u8>) {
        let used = inbox.len();
        if let Some(addr) = self.mux.addr(key) {
            C::take_pieces(inbox, |piece| self.events.push_back(Event::Received(addr, piece)));
        }
        self.mux.keep(&mut context!(self, now), key, inbox, used);
    }

    /// Makes events of what has happened to connections: first of what became of what was sent.
    fn note_changes(&mut self, now: Time) {
        while let Some((addr, ticket, fate)) = self.mux.poll_fate_at() {
            self.events.push_back(match fate {
                Fate::Confirmed => Event::Confirmed(addr, ticket),
                Fate::Lost => Event::Lost(addr, ticket),
            });
        }
        while let Some((addr, change)) = self.mux.poll_change() {
            self.events.push_back(match change {
                Change::Proven => Event::Connected(addr),
                Change::Reset => Event::Reset(addr),
                Change::Room => Event::Writable(addr),
                Change::Forgotten => Event::Forgotten(addr),
            });
            if change == Change::Proven
                && let Some(key) = self.mux.find(&addr)
            {
                // What had come before that is to be had now.
                let mut kept = Vec::new();
                self.mux.resume(key, &mut kept);
                if !kept.is_empty() {
                    self.hand_over(now, key, &mut kept);
                }
            }
        }
        if !self.starved.is_empty() && self.mux.buffered() <= self.config.max_buffered / 2 {
            self.events.extend(std::mem::take(&mut self.starved).into_iter().map(Event::Writable));
        }
    }
}

/// An address as it is compared: without what is no part of it (RFC 3493, 3.3).
fn plain(mut addr: SocketAddr) -> SocketAddr {
    if let SocketAddr::V6(v6) = &mut addr {
        v6.set_flowinfo(0);
    }
    addr
}
