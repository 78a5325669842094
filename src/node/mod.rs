//! One node: it answers the requests of others ([`serve`]), carries out the
//! operations of its owner ([`client`]), keeps its table and its store in
//! order ([`upkeep`]), and sees to it that values stay ([`custody`]).
//!
//! Whose answers count: a contact enters the table only after it has answered a
//! request of ours, from the address that it was asked at and under the id that
//! it claims. Callers are asked first; what others tell of third parties is only
//! ever a candidate for a lookup.

pub mod asked;
pub mod client;
pub mod custody;
pub mod failed;
pub mod handing;
pub mod operation;
pub mod paging;
pub mod peers;
pub mod renewal;
pub mod schedule;
pub mod serve;
pub mod stats;
pub mod storing;
pub mod upkeep;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use rand::RngExt;

use crate::airhook::mux::Mux;
use crate::contact::{Contact, canonical};
use crate::context::{Context, Due, Key};
use crate::error::CallError;
use crate::id::Id;
use crate::krpc::calls::Call;
use crate::krpc::message::{ErrorReply, Message, Method, Rejected, Response};
use crate::krpc::{message, netstring};
use crate::node::asked::Asked;
use crate::node::custody::Custody;
use crate::node::failed::FailedContacts;
use crate::node::operation::{Event, Operations};
use crate::node::peers::{Overdue, Peers, Waiter};
pub use crate::node::stats::Stats;
use crate::node::upkeep::Upkeep;
use crate::outcome::Stored;
use crate::store::{Database, Moment, Resident, SavedClock, ValueClock};
use crate::table::{Failed, Heard, Table};
use crate::time::{Time, UnixTime};

/// What a node needs of the world, for the length of a call.
pub struct World<'a> {
    /// Time, settings, randomness, timers.
    pub ctx: Context<'a>,
    /// The database that the node lives in.
    pub store: &'a mut Database,
    /// Where outcomes of operations go.
    pub events: &'a mut VecDeque<Event>,
    /// A buffer for what arrives. Whoever uses it finds and leaves it empty.
    pub inbox: &'a mut Vec<u8>,
}

/// A node.
pub struct Node {
    id: Id,
    peers: Peers,
    table: Table,
    operations: Operations,
    resident: Resident,
    /// What is owed to others once what they stored is committed.
    promised: Vec<Promise>,
    /// Who waits for values to be read.
    asked: Vec<Asked>,
    upkeep: Upkeep,
    /// Contacts that are not to be asked for a while, whoever names them.
    failed: FailedContacts,
    /// By which the values age.
    clock: ValueClock,
    /// When anybody last answered.
    last_answer: Time,
    /// Nothing while no value is in the node's care: most nodes of a large network.
    custody: Option<Box<Custody>>,
    /// Messages that were no messages, or that we had no room to answer.
    dropped: u64,
    /// Values that the validator refused.
    invalid: u64,
    /// Values that were not stored.
    values_refused: u64,
    /// When the log may say again that values cannot be written.
    may_complain_at: Time,
}

/// A value was accepted, or is to be renewed, and somebody waits to hear so. They do when that is
/// committed.
#[derive(Debug)]
struct Promise {
    to: Waiting,
    /// How often writes had been undone when it was written: once more, and it is lost.
    rollbacks: u64,
}

#[derive(Debug)]
enum Waiting {
    /// A peer, with this transaction id; until when the value is kept.
    Reply(Key, Vec<u8>, UnixTime),
    /// An operation of ours, for which this node itself is one of the holders; until when.
    Own(Key, UnixTime),
    /// Our owner, of a value that is renewed from now on; what became of it.
    Owner(Key, Box<Stored>),
}

/// A contact in a node's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContactInfo {
    /// Who and where.
    pub contact: Contact,
    /// How long ago it last answered. `None`: not in this run of the program, it
    /// was saved by an earlier one.
    pub last_heard: Option<Duration>,
    /// How many requests in a row it has left unanswered since.
    pub failures: u8,
}

impl Node {
    /// A node at the local address `local`, which lives in `world.store` as `resident`, with the
    /// clock of earlier runs if there is one.
    /// The `saved` contacts are in the table at once; it starts to look for its neighbours
    /// through them.
    pub fn new(
        world: &mut World<'_>,
        local: SocketAddr,
        resident: Resident,
        clock: Option<SavedClock>,
        saved: impl IntoIterator<Item = Contact>,
    ) -> Node {
        let id = resident.id();
        let times = (world.ctx.now, world.ctx.unix);
        let (run, newest) = resident.run();
        let clock = match resident.clock_of(clock) {
            Some(clock) => ValueClock::resume(clock, newest, run, times, world.ctx.config.value_lifetime),
            None => ValueClock::new(times.0, times.1),
        };
        let mux = Mux::new(world.ctx.rng);
        let mut node = Node {
            id,
            peers: Peers::new(id, local, mux),
            table: Table::new(id, world.ctx.config.k, world.ctx.now),
            operations: Operations::default(),
            resident,
            promised: Vec::new(),
            asked: Vec::new(),
            upkeep: Upkeep::default(),
            failed: FailedContacts::default(),
            clock,
            last_answer: Time::ZERO,
            custody: None,
            dropped: 0,
            invalid: 0,
            values_refused: 0,
            may_complain_at: Time::ZERO,
        };
        node.start(world, saved);
        node
    }

    /// The node's id.
    pub fn id(&self) -> &Id {
        &self.id
    }

    /// Its place in the database, when the node itself is done with.
    pub fn into_resident(self) -> Resident {
        self.resident
    }

    /// The contacts in the table, bucket by bucket, as of `now`.
    pub fn contacts(&self, now: Time) -> Vec<ContactInfo> {
        self.table
            .iter()
            .map(|entry| ContactInfo {
                contact: entry.contact,
                last_heard: entry.last_heard().map(|heard| now.since(heard)),
                failures: entry.failures,
            })
            .collect()
    }

    /// Bytes kept for the streams of all peers.
    pub fn buffered(&self) -> usize {
        self.peers.mux.buffered()
    }

    /// How many keys are looked after.
    pub fn keys_looked_after(&self) -> usize {
        self.custody.as_ref().map_or(0, |custody| custody.checks.len())
    }

    // -- input

    /// Takes a datagram in.
    pub fn receive(&mut self, world: &mut World<'_>, from: SocketAddr, datagram: &[u8]) {
        let loss = world.ctx.config.inbound_loss;
        if loss > 0.0 && world.ctx.rng.random_bool(loss) {
            return;
        }
        let from = canonical(from);
        let mut inbox = std::mem::take(world.inbox);
        if let Some(connection) = self.peers.mux.receive(&mut world.ctx, from, datagram, &mut inbox) {
            self.read(world, connection, from, &mut inbox);
        }
        inbox.clear();
        *world.inbox = inbox;
        self.settle(world);
    }

    fn connection_due(&mut self, world: &mut World<'_>, key: Key) {
        let mut inbox = std::mem::take(world.inbox);
        if let Some(connection) = self.peers.mux.handle_timeout(&mut world.ctx, key, &mut inbox)
            && let Some(from) = self.peers.mux.addr(connection)
        {
            self.read(world, connection, from, &mut inbox);
        }
        inbox.clear();
        *world.inbox = inbox;
    }

    /// Reads the messages in what has come of a peer's stream.
    fn read(&mut self, world: &mut World<'_>, connection: Key, from: SocketAddr, inbox: &mut Vec<u8>) {
        let mut used = 0;
        loop {
            match netstring::take(&inbox[used..], world.ctx.config.max_message_size) {
                Ok(Some(taken)) => {
                    let body = used + taken.body.start..used + taken.body.end;
                    used += taken.consumed;
                    self.handle_message(world, connection, from, &inbox[body]);
                }
                Ok(None) => break,
                Err(_) => {
                    self.peers.mux.break_off(&mut world.ctx, connection);
                    return;
                }
            }
        }
        self.peers.mux.keep(&mut world.ctx, connection, inbox, used);
    }

    fn handle_message(&mut self, world: &mut World<'_>, connection: Key, from: SocketAddr, bytes: &[u8]) {
        match Message::parse(bytes) {
            Ok(Message::Request(request)) => self.serve(world, connection, from, &request),
            Ok(Message::Response(response)) => {
                self.peers.meter_answer(connection, response.tid, bytes.len());
                self.handle_response(world, connection, &response);
            }
            Ok(Message::Error(ErrorReply { tid, error })) => {
                self.peers.meter_answer(connection, tid, bytes.len());
                self.fail_by_tid(world, connection, tid, CallError::Refused(error.to_string()));
            }
            Err(Rejected::BadResponse { tid }) => {
                self.fail_by_tid(world, connection, tid, CallError::Malformed);
            }
            Err(Rejected::Answer { tid, error }) if !self.peers.is_congested(&world.ctx, connection) => {
                self.peers.reply(&mut world.ctx, connection, |out, _| message::error(out, tid, error));
            }
            Err(Rejected::Answer { .. } | Rejected::Silent(_)) => self.dropped += 1,
        }
    }

    fn handle_response(&mut self, world: &mut World<'_>, connection: Key, response: &Response<'_>) {
        // One that is late, or was never asked for, is no news.
        let Some(key) = self.peers.calls.find(response.tid, connection) else {
            return;
        };
        let asked = self.peers.calls.get(key).and_then(|call| call.asked);
        if asked.is_some_and(|id| id != response.sender) {
            self.fail_call(world, key, CallError::WrongId);
            return;
        }
        if let Some(call) = self.peers.end_call(&mut world.ctx, key) {
            let contact = Contact { id: response.sender, addr: call.addr };
            self.peers.mux.note_answer(call.connection);
            self.note_alive(world, contact);
            match call.waiter {
                Waiter::Contact(operation) => self.contact_answered(world, operation, contact),
                Waiter::Step(operation) => self.step_answered(world, operation, &contact, response),
                Waiter::Neighbours(operation) => {
                    self.neighbours_named(world, operation, &contact, response.nodes());
                }
                Waiter::Page(operation) => self.page_answered(world, operation, &contact, response),
                Waiter::Greeting | Waiter::Verdict(_) => {}
            }
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, world: &mut World<'_>, due: Due) {
        match due {
            Due::Connection(key) => self.connection_due(world, key),
            Due::Idle => self.peers.mux.handle_idle(&mut world.ctx),
            Due::Call(key) => match self.peers.overdue(&mut world.ctx, key) {
                Overdue::Over => self.fail_call(world, key, CallError::Timeout),
                overdue => self.step_overdue(world, overdue),
            },
            Due::Operation(key) => self.deadline_passed(world, key),
            Due::OwnPage(key) => self.own_page_due(world, key),
            Due::Expiry | Due::Checkpoint | Due::Refresh | Due::Custody => self.maintain(world, due),
            Due::Sweep => {}
        }
        self.settle(world);
    }

    // -- output

    /// Whether a datagram may be waiting to go out.
    pub fn has_output(&self) -> bool {
        self.peers.mux.has_output()
    }

    /// Puts the next datagram into `buf` and says where to send it.
    pub fn poll_transmit(&mut self, world: &mut World<'_>, buf: &mut Vec<u8>) -> Option<SocketAddr> {
        let to = self.peers.mux.poll_transmit(&mut world.ctx, buf)?;
        Some(self.peers.as_sent(to))
    }

    /// Takes a contact to be there.
    #[cfg(feature = "sim")]
    pub fn assume(&mut self, world: &World<'_>, contact: Contact) {
        self.table.heard(contact, world.ctx.now);
    }

    /// Whether an operation has not ended yet.
    #[cfg(feature = "sim")]
    pub fn is_under_way(&mut self, operation: Key) -> bool {
        self.operations.get_mut(operation).is_some()
    }

    // -- inside

    /// What time it is for values.
    fn value_time(&mut self, ctx: &Context<'_>) -> Moment {
        let is_empty = self.resident.values() == 0 && self.resident.published() == 0;
        self.clock.look(ctx.now, ctx.unix, ctx.config.value_lifetime, is_empty)
    }

    /// A contact has answered.
    fn note_alive(&mut self, world: &mut World<'_>, contact: Contact) {
        self.last_answer = world.ctx.now;
        self.upkeep.tries = 0;
        self.failed.forget(&contact);
        match self.table.heard(contact, world.ctx.now) {
            // Else one peer could fill the table, or wait for places, with ids that it makes up.
            Heard::Added => self.table.drop_others_at(&contact),
            Heard::Full { oldest, last_heard } => {
                self.table.drop_others_at(&contact);
                self.ask_doubtful(world, oldest, last_heard, contact);
            }
            Heard::Moved { known, last_heard } => {
                // One that did not answer there is doubtful, however lately it did before.
                let failing = self.table.get(&known.id).is_some_and(|entry| entry.failures > 0);
                let last_heard = (!failing).then_some(last_heard);
                self.ask_doubtful(world, known, last_heard, contact);
            }
            Heard::Own | Heard::Known => {}
        }
    }

    /// Asks a contact that is doubtful whether it is there: if not, `newcomer` takes its place.
    fn ask_doubtful(
        &mut self,
        world: &mut World<'_>,
        contact: Contact,
        last_heard: Option<Time>,
        newcomer: Contact,
    ) {
        if self.is_doubtful(world, &contact, last_heard) {
            let waiter = Waiter::Verdict(newcomer);
            self.peers.call(&mut world.ctx, contact.addr, Some(contact.id), waiter, &Method::Ping);
        }
    }

    /// Whether a contact has not been heard of for so long that it is worth a
    /// ping, and is not being asked already.
    fn is_doubtful(&self, world: &World<'_>, contact: &Contact, last_heard: Option<Time>) -> bool {
        let long = |heard| world.ctx.now.since(heard) >= world.ctx.config.min_ping_interval;
        last_heard.is_none_or(long) && !self.peers.mux.is_expecting(&contact.addr)
    }

    fn fail_by_tid(&mut self, world: &mut World<'_>, connection: Key, tid: &[u8], why: CallError) {
        if let Some(key) = self.peers.calls.find(tid, connection) {
            self.fail_call(world, key, why);
        }
    }

    /// A call has failed, or is to be made again.
    fn fail_call(&mut self, world: &mut World<'_>, key: Key, why: CallError) {
        let Some(call) = self.peers.end_call(&mut world.ctx, key) else {
            return;
        };
        if why == CallError::Reset && !call.repeated && self.repeat_call(world, &call) {
            return;
        }
        self.peers.calls.note_failure();
        if why == CallError::Timeout {
            self.peers.mux.doubt(&mut world.ctx, call.connection);
        }
        let asked = call.asked.map(|id| Contact { id, addr: call.addr });
        let known_dead = asked.is_some_and(|asked| self.failed.has(&asked, world.ctx.now));
        if let Some(asked) = asked {
            self.note_failure(world, asked, &call, &why);
        }
        match call.waiter {
            Waiter::Contact(operation) => self.contact_failed(world, operation, why),
            Waiter::Step(operation) | Waiter::Neighbours(operation) => {
                let insist = why == CallError::Unreachable && !known_dead;
                if let Some(asked) = asked {
                    if matches!(why, CallError::Refused(_)) {
                        self.note_refusal(world, operation, &asked);
                    }
                    self.step_failed(world, operation, &asked, why, insist);
                }
            }
            Waiter::Page(operation) => {
                if let Some(asked) = asked {
                    self.page_failed(world, operation, &asked);
                }
            }
            Waiter::Greeting => {}
            Waiter::Verdict(newcomer) => {
                if let (Some(id), false) = (call.asked, why.is_local()) {
                    let old = Contact { id, addr: call.addr };
                    if !self.table.replace(&old, newcomer, world.ctx.now) {
                        self.table.heard(newcomer, world.ctx.now);
                    }
                    if self.table.get(&newcomer.id).is_some_and(|entry| entry.contact == newcomer) {
                        self.table.drop_others_at(&newcomer);
                    }
                }
            }
        }
    }

    /// A contact has not answered, or not as itself.
    fn note_failure(
        &mut self,
        world: &mut World<'_>,
        contact: Contact,
        call: &Call<Waiter>,
        why: &CallError,
    ) {
        let now = world.ctx.now;
        match why {
            // It is there, whatever it thinks of the request.
            CallError::Refused(_) if !self.is_for_everybody(call.waiter) => return,
            // It was not asked, or could not answer.
            CallError::Forgotten | CallError::NotSent(_) => return,
            // Who refuses that is a client, and of no use to anybody.
            CallError::Refused(_) | CallError::WrongId => {
                self.table.remove(&contact);
                if call.waiter != Waiter::Greeting {
                    self.failed.note(&contact, now);
                }
                return;
            }
            _ => {}
        }
        // Somebody has answered meanwhile: the network is there. A contact whose place is
        // spoken for leaves it to that one.
        let replaceable = self.last_answer > call.began && !matches!(call.waiter, Waiter::Verdict(_));
        let failed = self.table.note_failure(&contact, world.ctx.config.max_failures, replaceable);
        // Of callers there may be any number who are not where they say: they do not push out
        // of the memory whom lookups would ask again.
        if call.waiter != Waiter::Greeting {
            self.failed.note(&contact, now);
        }
        if failed != Failed::Unknown {
            self.note_silence(&mut world.ctx, contact, failed == Failed::Dropped);
        }
    }

    /// Whether it was asked what every node answers: if it is there, or what nodes it knows.
    fn is_for_everybody(&self, waiter: Waiter) -> bool {
        match waiter {
            Waiter::Contact(_) | Waiter::Greeting | Waiter::Verdict(_) | Waiter::Neighbours(_) => true,
            Waiter::Step(operation) => self.operations.asks_for_nodes(operation),
            Waiter::Page(_) => false,
        }
    }

    /// Makes a call again whose request died with its session. False when nobody
    /// waits for it any more.
    fn repeat_call(&mut self, world: &mut World<'_>, call: &Call<Waiter>) -> bool {
        let method = match call.waiter {
            Waiter::Contact(_) | Waiter::Greeting | Waiter::Verdict(_) => Some(Method::Ping),
            Waiter::Step(operation) => {
                let asked = call.asked.map(|id| Contact { id, addr: call.addr });
                let waits = asked.is_some_and(|asked| self.operations.waits_for(operation, &asked));
                let now = self.value_time(&world.ctx).now;
                self.operations.method(operation, now).filter(|_| waits)
            }
            Waiter::Neighbours(operation) => self.operations.neighbours(operation),
            Waiter::Page(operation) => {
                let asked = call.asked.map(|id| Contact { id, addr: call.addr });
                asked.and_then(|asked| self.operations.page(operation, &asked))
            }
        };
        match method {
            Some(method) => self.peers.repeat(&mut world.ctx, call, &method),
            None => return false,
        }
        true
    }

    /// Ends an input: deals with calls that were lost with their connection, and with
    /// operations whose turn has come.
    fn settle(&mut self, world: &mut World<'_>) {
        let config = world.ctx.config;
        loop {
            // Each is taken once, and a call is repeated once at most: this ends.
            while let Some((key, why)) = self.peers.poll_failed() {
                self.fail_call(world, key, why);
            }
            // Half the room for streams, so that the other half is there for others.
            let Some(key) = self.operations.admit(config.concurrent_requests, config.max_buffered / 2) else {
                break;
            };
            self.advance(world, key);
        }
    }
}
