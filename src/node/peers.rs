//! A node's side of every conversation: requests that it makes, answers that it
//! gives, over the connections of its socket.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::airhook::mux::Mux;
use crate::config::{Config, MAX_NETSTRING};
use crate::contact::Contact;
use crate::context::{Alarm, Context, Due, Key};
use crate::error::{CallError, SendError};
use crate::id::Id;
use crate::krpc::calls::{Call, Calls, Stage};
use crate::krpc::message::{self, Method};
use crate::time::Time;

/// A peer that leaves so many bytes of answers unconfirmed gets no more of them:
/// two of the longest messages.
const MAX_UNCONFIRMED: usize = 2 * MAX_NETSTRING;

/// While no round trip is known, an answer is late after this many times
/// `Config::initial_probe`, and never later;
const LATE: u32 = 2;
/// its peer is silent after this many;
const SILENT: u32 = 8;
/// and after this many, all repetitions of the request have had their chance,
const LOST: u32 = 16;
/// or after so many times what made it late, but no less than `SILENT`.
const LOST_LATE: u32 = 24;
/// The least time after which a peer is silent: three round trips of 50 ms. However short
/// they are, a host may be busy, or two packets in a row be lost.
const LEAST_SILENCE: Duration = Duration::from_millis(150);

/// What it means that a call's timer has fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overdue {
    /// The call is over.
    Over,
    /// Nothing: the answer is under way.
    Waits,
    /// This operation's request to that peer takes longer than usual: another may be asked
    /// beside it.
    Late(Key, Contact),
    /// It has taken so long that a lost packet and its repetition make no difference.
    Silent(Key, Contact),
    /// So long that all repetitions could have been answered.
    Lost(Key, Contact),
}

/// Who waits for the answer to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiter {
    /// The operation that adds a contact.
    Contact(Key),
    /// A lookup, or the publishing of a value.
    Step(Key),
    /// A search for values, which has those of the peer that was asked: who is near?
    Neighbours(Key),
    /// The same: the peer that was asked has more of them.
    Page(Key),
    /// The table: the one who called us, is it there?
    Greeting,
    /// The table: is the contact that was asked dead, so that this newcomer may
    /// take its place?
    Verdict(Contact),
}

/// The connections of a node, and its calls over them.
pub struct Peers {
    id: Id,
    local: SocketAddr,
    pub(super) mux: Mux,
    pub(super) calls: Calls<Waiter>,
    /// The operation whose messages are counted, and their bytes so far.
    metered: Option<(Key, u64)>,
    /// Answers that could not be queued.
    unanswered: u64,
}

impl Peers {
    pub fn new(id: Id, local: SocketAddr, mux: Mux) -> Self {
        Peers { id, local, mux, calls: Calls::default(), metered: None, unanswered: 0 }
    }

    /// Whether the node's socket can send to `addr` at all.
    pub fn reaches(&self, addr: &SocketAddr) -> bool {
        match (self.local.ip(), addr.ip()) {
            (IpAddr::V4(_), to) => to.is_ipv4(),
            // Bound to all of IPv6, a socket serves IPv4 too.
            (IpAddr::V6(Ipv6Addr::UNSPECIFIED), _) => true,
            (IpAddr::V6(_), to) => to.is_ipv6(),
        }
    }

    /// The node's own contact as it names itself in its own results.
    pub fn own_contact(&self, ctx: &Context<'_>) -> Contact {
        let ip = match (ctx.config.advertised_address, self.local.ip()) {
            (Some(ip), _) => ip,
            (None, ip) if !ip.is_unspecified() => ip,
            (None, IpAddr::V4(_)) => Ipv4Addr::LOCALHOST.into(),
            (None, IpAddr::V6(_)) => Ipv6Addr::LOCALHOST.into(),
        };
        Contact { id: self.id, addr: SocketAddr::new(ip, self.local.port()) }
    }

    /// The node's contact as the peer at the other end of a connection can use it.
    fn contact_for(&mut self, ctx: &Context<'_>, connection: Key) -> Contact {
        let mut own = self.own_contact(ctx);
        if ctx.config.advertised_address.is_none()
            && self.local.ip().is_unspecified()
            && let Some(ip) = self.mux.local(connection, ctx)
        {
            own.addr.set_ip(ip.to_canonical());
        }
        own
    }

    /// Sends a request; its answer, or failure, is for `waiter`.
    pub fn call(
        &mut self,
        ctx: &mut Context<'_>,
        to: SocketAddr,
        asked: Option<Id>,
        waiter: Waiter,
        method: &Method<'_>,
    ) {
        let deadline = ctx.now + ctx.config.request_timeout;
        self.call_until(ctx, to, asked, waiter, method, deadline, false);
    }

    /// Sends a request again whose peer has restarted, in what is left of its time.
    pub fn repeat(&mut self, ctx: &mut Context<'_>, call: &Call<Waiter>, method: &Method<'_>) {
        self.call_until(ctx, call.addr, call.asked, call.waiter, method, call.deadline, true);
    }

    #[allow(clippy::too_many_arguments, reason = "private; the two callers name them all")]
    fn call_until(
        &mut self,
        ctx: &mut Context<'_>,
        addr: SocketAddr,
        asked: Option<Id>,
        waiter: Waiter,
        method: &Method<'_>,
        deadline: Time,
        repeated: bool,
    ) {
        let connection = self.mux.connect(ctx, addr);
        let sender = self.contact_for(ctx, connection);
        let first = match waiter {
            Waiter::Step(_) | Waiter::Neighbours(_) | Waiter::Page(_) => {
                deadline.min(ctx.now + self.patience(ctx.config, connection).0)
            }
            Waiter::Contact(_) | Waiter::Greeting | Waiter::Verdict(_) => deadline,
        };
        let began = ctx.now;
        let Context { wheel, rng, node, .. } = ctx;
        let (key, tid) = self.calls.insert(*rng, |key| Call {
            connection,
            addr,
            asked,
            waiter,
            deadline,
            timer: wheel.arm(first, Alarm { node: *node, due: Due::Call(key) }),
            began,
            stage: Stage::Usual,
            repeated,
        });
        let least = match method {
            Method::FindNode { .. } | Method::FindValue { .. } | Method::OfferValues { .. }
                if !self.mux.is_proven(connection) =>
            {
                opening_length(ctx.config, addr.is_ipv4())
            }
            _ => 0,
        };
        if matches!(method, Method::StoreValue { .. } | Method::HandOn { .. }) {
            self.mux.hold(ctx, connection);
        }
        // A value that fits `max_value_size` fits a message, so this cannot fail;
        // if it did, the call would end at its timeout.
        let (length, sent) = self.send(ctx, connection, |out| {
            let _ = message::padded_request(out, &tid, &sender, method, least);
            out.len()
        });
        match sent {
            Ok(()) => {
                self.meter(waiter, length);
                self.mux.expect(ctx, connection, key);
            }
            Err(why) => self.mux.fail(key, CallError::NotSent(why)),
        }
    }

    /// Counts the bytes of an operation's requests and their answers from now on.
    pub fn start_meter(&mut self, operation: Key) {
        self.metered = Some((operation, 0));
    }

    /// Says how many they were.
    pub fn stop_meter(&mut self) -> u64 {
        self.metered.take().map_or(0, |(_, bytes)| bytes)
    }

    /// An answer of so many bytes has come.
    pub fn meter_answer(&mut self, connection: Key, tid: &[u8], length: usize) {
        if self.metered.is_some()
            && let Some(call) = self.calls.find(tid, connection).and_then(|key| self.calls.get(key))
        {
            self.meter(call.waiter, length);
        }
    }

    fn meter(&mut self, waiter: Waiter, length: usize) {
        if let (Some((metered, bytes)), Waiter::Step(operation)) = (&mut self.metered, waiter)
            && *metered == operation
        {
            *bytes += length as u64;
        }
    }

    /// How long to wait for an answer over a connection until it is late, and until its peer
    /// is silent.
    ///
    /// By the round trip of that connection or, where that is unknown or longer, by what is
    /// usual for all. Silent is whoever takes three round trips, and so long that two
    /// repetitions could have been answered, or one of an opening.
    fn patience(&self, config: &Config, connection: Key) -> (Duration, Duration) {
        let (late, silent) = (config.initial_probe * LATE, config.initial_probe * SILENT);
        let (own, repeated, all) = self.mux.round_trip(connection, config);
        let own_late = own.patience(config.ack_delay, late);
        let usual_late = all.patience_for_others(config.ack_delay, late);
        let (usual, until_late) = if own_late < usual_late { (own, own_late) } else { (all, usual_late) };
        let Some(trip) = usual.smoothed() else {
            return (late, silent);
        };
        let repeated = repeated.min(until_late);
        // Repetitions of an opening are bare: they only make way for what was lost.
        let enough = if self.mux.is_proven(connection) { repeated * 2 + trip } else { repeated + trip * 2 };
        (until_late.min(late), enough.max(trip * 3).max(LEAST_SILENCE).min(silent))
    }

    /// A call's timer has fired.
    pub fn overdue(&mut self, ctx: &mut Context<'_>, key: Key) -> Overdue {
        let Some(&call) = self.calls.get(key).filter(|call| ctx.now < call.deadline) else {
            return Overdue::Over;
        };
        let (Waiter::Step(operation) | Waiter::Neighbours(operation) | Waiter::Page(operation), Some(asked)) =
            (call.waiter, call.asked)
        else {
            return Overdue::Over;
        };
        let asked = Contact { id: asked, addr: call.addr };
        let (late, silence) = self.patience(ctx.config, call.connection);
        let probe = ctx.config.initial_probe;
        // An opening is given up by itself. A peer of 2003 says what it has missed two seconds
        // after the loss, and for another one two seconds later.
        let connection = call.connection;
        let is_prompt = self.mux.is_proven(connection) && !self.mux.is_original(connection);
        let least = if is_prompt { SILENT } else { LOST };
        let lost = (late * LOST_LATE).clamp(probe * least, probe * LOST);
        let (stage, next, overdue) = match call.stage {
            // A long value goes to somebody who takes it.
            Stage::Usual if self.is_taking(&call) => (Stage::Usual, ctx.now + late, Overdue::Waits),
            Stage::Usual => (Stage::Late, call.began + silence, Overdue::Late(operation, asked)),
            Stage::Late | Stage::Promising if self.is_promising(&call) => {
                (Stage::Promising, ctx.now + silence, Overdue::Waits)
            }
            Stage::Late | Stage::Promising => {
                (Stage::Silent, call.began + lost, Overdue::Silent(operation, asked))
            }
            Stage::Silent | Stage::Lost => (Stage::Lost, call.deadline, Overdue::Lost(operation, asked)),
        };
        let timer = ctx.arm(next.min(call.deadline), Due::Call(key));
        if let Some(call) = self.calls.get_mut(key) {
            (call.stage, call.timer) = (stage, timer);
        }
        overdue
    }

    /// Whether there is reason to wait longer than for silence: the answer has begun to
    /// come, or the request is still going out; or, once, that the peer is there.
    fn is_promising(&self, call: &Call<Waiter>) -> bool {
        self.mux.is_receiving(call.connection)
            || self.is_taking(call)
            || (call.stage == Stage::Late && self.mux.is_responsive(call.connection, call.began))
    }

    /// Whether the request is still going out, and the peer confirms what has come of it.
    fn is_taking(&self, call: &Call<Waiter>) -> bool {
        self.mux.unconfirmed(call.connection) > 0 && self.mux.is_responsive(call.connection, call.began)
    }

    /// Takes a call out that has ended.
    pub fn end_call(&mut self, ctx: &mut Context<'_>, key: Key) -> Option<Call<Waiter>> {
        let call = self.calls.remove(key)?;
        ctx.wheel.cancel(call.timer);
        self.mux.expect_no_more(ctx, call.connection, key);
        Some(call)
    }

    /// Whether this peer takes its answers so slowly that it is to get no more. While
    /// streams have no room in all, that is each that has not taken the last one.
    pub fn is_congested(&self, ctx: &Context<'_>, connection: Key) -> bool {
        let unconfirmed = self.mux.unconfirmed(connection);
        unconfirmed > MAX_UNCONFIRMED || (unconfirmed > 0 && self.is_full(ctx))
    }

    /// Whether streams have no room in all: then there are short answers only.
    pub fn is_full(&self, ctx: &Context<'_>) -> bool {
        self.mux.buffered() > ctx.config.max_buffered
    }

    /// Answers a request: `write` appends the answer, given our contact as the
    /// asker can use it. An answer for which there is no room is dropped and counted: the
    /// asker does not take those that he has.
    pub fn reply<R>(
        &mut self,
        ctx: &mut Context<'_>,
        connection: Key,
        write: impl FnOnce(&mut Vec<u8>, &Contact) -> R,
    ) -> R {
        let sender = self.contact_for(ctx, connection);
        let (result, sent) = self.send(ctx, connection, |out| write(out, &sender));
        self.unanswered += u64::from(sent.is_err());
        result
    }

    /// How many answers were dropped.
    pub fn unanswered(&self) -> u64 {
        self.unanswered
    }

    fn send<R>(
        &mut self,
        ctx: &mut Context<'_>,
        connection: Key,
        write: impl FnOnce(&mut Vec<u8>) -> R,
    ) -> (R, Result<(), SendError>) {
        let mut buffer = std::mem::take(ctx.buffer);
        let result = write(&mut buffer);
        let sent = self.mux.send(ctx, connection, &buffer, None);
        buffer.clear();
        *ctx.buffer = buffer;
        (result, sent)
    }

    /// A peer's address as our socket needs it: one bound to IPv6 names IPv4
    /// peers by their mapped address.
    pub fn as_sent(&self, to: SocketAddr) -> SocketAddr {
        match (self.local.ip(), to.ip()) {
            (IpAddr::V6(_), IpAddr::V4(ip)) => SocketAddr::new(ip.to_ipv6_mapped().into(), to.port()),
            _ => to,
        }
    }

    /// A call that was lost with its connection, or could not be sent.
    pub fn poll_failed(&mut self) -> Option<(Key, CallError)> {
        self.mux.poll_failed()
    }

    /// Forgets everything, and takes back all timers.
    pub fn clear(&mut self, ctx: &mut Context<'_>) {
        for call in self.calls.drain() {
            ctx.wheel.cancel(call.timer);
        }
        self.mux.clear(ctx);
    }
}

/// How long a request in the first packet to a stranger must be, without its frame, for an
/// answer with K contacts to be no longer than three times the packet.
fn opening_length(config: &Config, ipv4: bool) -> usize {
    // What a contact takes at the most: a host of 15 characters, or of 39.
    let contact = if ipv4 { 66 } else { 90 };
    // The answer: its K contacts and its sender, 64 bytes of its other keys, its frame.
    let answer = (config.k + 1) * contact + 64 + 7;
    // Around both: a packet's header, and three bytes for each message in it.
    let packet = |body: usize| 13 + body + 3 * body.div_ceil(253);
    let frame = 5;
    packet(answer)
        .div_ceil(3)
        .saturating_sub(packet(0) + 3 + frame)
        .min(config.narrow_packet - packet(0) - 5 * 3)
}
