//! Answering the requests of others.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::config::Role;
use crate::contact::Contact;
use crate::context::Key;
use crate::error::StoreError;
use crate::id::Id;
use crate::krpc::message::{self, Fault, Method, NodesAnswer, Page, Request};
use crate::node::asked::{Asked, MAX_ASKED};
use crate::node::client::tell;
use crate::node::handing::seconds;
use crate::node::operation::Outcome;
use crate::node::peers::Waiter;
use crate::node::{Node, Promise, Waiting, World};
use crate::store::{NewValue, Put, Reading, Refusal};
use crate::table::{Entry, Room};
use crate::time::UnixTime;

/// What an answer takes beside its values and contacts, at the most, in bytes.
const ANSWER_OVERHEAD: usize = 512;

/// What who asks for values hears when answers take too much room.
pub(super) const TOO_BUSY: &str = "this node is too busy to look now";

/// While the store fails, the log says so so often.
const COMPLAINT_PAUSE: Duration = Duration::from_secs(60);

/// Where a value comes from.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Origin {
    /// Who stores it here; `None`: the node's owner.
    pub sender: Option<IpAddr>,
    /// How many seconds ago it was published, when it is handed on.
    pub age: Option<u32>,
    /// For how many seconds more it is to live at the longest, if its publisher said so.
    pub life: Option<u32>,
}

impl Node {
    /// Answers a request: always, but to a peer that does not take its answers.
    pub(super) fn serve(
        &mut self,
        world: &mut World<'_>,
        connection: Key,
        from: SocketAddr,
        request: &Request<'_>,
    ) {
        if self.peers.is_congested(&world.ctx, connection) {
            self.dropped += 1;
            return;
        }
        let tid = request.tid;
        if world.ctx.config.role == Role::Client {
            return self.refuse(world, connection, tid, "this node is a client: it answers no requests");
        }
        match request.method {
            Method::Ping => self.peers.reply(&mut world.ctx, connection, |out, own| {
                message::response_empty(out, tid, own);
            }),
            Method::FindNode { target } => {
                self.answer_with_nodes(world, connection, from, request, &target, NodesAnswer::default());
            }
            Method::OfferValues { key, offer } => {
                let caller = Contact { id: request.sender, addr: from };
                let is_known = self.table.get(&caller.id).is_some_and(|entry| entry.contact == caller);
                let is_there = is_known || self.peers.mux.is_proven(connection);
                let wants = self.weigh_offer(world, is_there, Some(from.ip()), &key, offer);
                let beside = NodesAnswer { wants: wants.as_deref(), more: None };
                self.answer_with_nodes(world, connection, from, request, &key, beside);
            }
            Method::FindValue { key, from: page } => {
                if !self.find_value(world, connection, from, request, &key, page) {
                    return;
                }
            }
            // Whoever may be at another address than he claims leaves nothing here. Peers of
            // 2003 send nothing before they have shown that they are there; ours, no value.
            Method::StoreValue { .. } | Method::HandOn { .. } if !self.peers.mux.is_proven(connection) => {
                self.refuse(world, connection, tid, "you have not shown that you are where you say");
            }
            Method::StoreValue { key, value, life } => {
                let origin = Origin { sender: Some(from.ip()), age: None, life };
                self.store_for(world, connection, from, tid, (&key, value), origin);
            }
            Method::HandOn { key, value, age, life } => {
                let origin = Origin { sender: Some(from.ip()), age: Some(age), life };
                self.store_for(world, connection, from, tid, (&key, value), origin);
            }
        }
        self.greet(world, connection, request.sender, from);
    }

    /// Stores a value for somebody else, who hears of it when it is committed.
    fn store_for(
        &mut self,
        world: &mut World<'_>,
        connection: Key,
        from: SocketAddr,
        tid: &[u8],
        (key, value): (&Id, &[u8]),
        origin: Origin,
    ) {
        if world.ctx.config.role == Role::ReadOnly {
            return self.refuse(world, connection, tid, "this node keeps nothing for others");
        }
        // One that is too large is refused for that.
        if value.len() <= world.ctx.config.max_value_size
            && let Err(why) = self.check_value(world, key, value, Some(from))
        {
            self.invalid += 1;
            return self.refuse(world, connection, tid, &why);
        }
        match self.take_value(world, key, value, origin) {
            Ok(until) => self.promise(world, Waiting::Reply(connection, tid.to_vec(), until)),
            Err(refusal) => self.refuse(world, connection, tid, &refusal.to_string()),
        }
    }

    /// Whether the owner's validator takes a value. `Err`: why not.
    pub(super) fn check_value(
        &self,
        world: &World<'_>,
        key: &Id,
        value: &[u8],
        from: Option<SocketAddr>,
    ) -> Result<(), String> {
        match &world.ctx.config.validator {
            Some(validator) => validator.check(key, value, from),
            None => Ok(()),
        }
    }

    /// This node's contact, where it may be one of the holders of a key.
    pub(super) fn as_holder(&self, world: &World<'_>) -> Option<Contact> {
        (world.ctx.config.role != Role::Client).then(|| self.peers.own_contact(&world.ctx))
    }

    /// Stores a value, for others or for ourselves. It is kept once it is committed; `Ok`: until
    /// when, by the time of day, at the longest.
    pub(super) fn take_value(
        &mut self,
        world: &mut World<'_>,
        key: &Id,
        value: &[u8],
        origin: Origin,
    ) -> Result<UnixTime, Refusal> {
        let taken = self.try_value(world, key, value, &origin);
        match &taken {
            Ok(_) => self.note_held(world, *key, origin.sender, origin.age.is_some()),
            Err(_) => self.values_refused += 1,
        }
        taken
    }

    fn try_value(
        &mut self,
        world: &mut World<'_>,
        key: &Id,
        value: &[u8],
        origin: &Origin,
    ) -> Result<UnixTime, Refusal> {
        let config = world.ctx.config;
        let lifetime = seconds(config.value_lifetime);
        let age = i64::from(origin.age.unwrap_or(0));
        let left = lifetime.saturating_sub(age).min(origin.life.map_or(i64::MAX, i64::from));
        if value.len() > config.max_value_size {
            return Err(Refusal::TooLarge { size: value.len(), limit: config.max_value_size });
        } else if left <= 0 {
            return Err(Refusal::TooOld);
        }
        let at = self.value_time(&world.ctx);
        let new = NewValue {
            key,
            value,
            time: UnixTime(at.now.0.saturating_sub(age)),
            expires: UnixTime(at.now.0.saturating_add(left)),
            sender: origin.sender,
        };
        match world.store.put(&mut self.resident, &new, &at) {
            Ok(Put::Added) => Ok(UnixTime(world.ctx.unix.0.saturating_add(left))),
            Ok(Put::Renewed { until }) => {
                let left = until.0.saturating_sub(at.now.0);
                Ok(UnixTime(world.ctx.unix.0.saturating_add(left)))
            }
            Ok(Put::Refused(refusal)) => Err(refusal),
            Err(error) => {
                self.report_failure(world, "values cannot be stored", &error);
                Err(Refusal::from(&error))
            }
        }
    }

    /// The store has failed. That may go on for long, as often as others ask for something, and is said
    /// once in a while.
    pub(super) fn report_failure(&mut self, world: &World<'_>, what: &str, error: &StoreError) {
        if self.may_complain_at <= world.ctx.now {
            self.may_complain_at = world.ctx.now + COMPLAINT_PAUSE;
            log::error!("node {}: {what}: {error}", self.id);
        }
    }

    pub(super) fn refuse(&mut self, world: &mut World<'_>, connection: Key, tid: &[u8], text: &str) {
        self.peers.reply(&mut world.ctx, connection, |out, _| {
            message::error(out, tid, Fault::Text(text.as_bytes()));
        });
    }

    /// Whether the request is answered. Else the values are still to be read, together with those
    /// that others ask for.
    fn find_value(
        &mut self,
        world: &mut World<'_>,
        connection: Key,
        from: SocketAddr,
        request: &Request<'_>,
        key: &Id,
        page: Option<Page<'_>>,
    ) -> bool {
        if self.peers.is_full(&world.ctx) {
            self.refuse(world, connection, request.tid, TOO_BUSY);
            return true;
        }
        // A random place to start from, so that each value has the same chance
        // when not all fit into an answer.
        let places = match page {
            Some(page) => page.digests(),
            None => Some(Id::random(world.ctx.rng)).map(|start| (start, start)),
        };
        let Some((next, first)) = places else {
            self.refuse(world, connection, request.tid, "this node has named no such place");
            return true;
        };
        let at = self.value_time(&world.ctx);
        world.store.settle(&mut self.resident);
        if !self.resident.has(key) {
            self.answer_with_nodes(world, connection, from, request, key, NodesAnswer::default());
            return true;
        }
        let room = world.ctx.config.max_response.saturating_sub(ANSWER_OVERHEAD);
        let reading = Reading::new(&self.resident, key, at, (next, first), room);
        let (tid, sender, key, is_first) = (request.tid.to_vec(), request.sender, *key, page.is_none());
        self.asked.push(Asked { connection, from, tid, sender, key, first, is_first, reading });
        if self.asked.len() >= MAX_ASKED {
            self.read_asked(world);
        }
        false
    }

    pub(super) fn answer_with_nodes(
        &mut self,
        world: &mut World<'_>,
        connection: Key,
        from: SocketAddr,
        request: &Request<'_>,
        target: &Id,
        beside: NodesAnswer<'_>,
    ) {
        let k = world.ctx.config.k;
        let mut nodes = Vec::with_capacity(k);
        match self.table.get(target) {
            // Who asks for a node that we know, and that seems to be there, gets that one alone.
            Some(entry)
                if matches!(request.method, Method::FindNode { .. }) && is_useful(entry, request, from) =>
            {
                nodes.push(entry.contact);
            }
            _ => self.table.nearest_of(target, k, &mut nodes, |entry| is_useful(entry, request, from)),
        }
        self.peers.reply(&mut world.ctx, connection, |out, own| {
            message::response_nodes_beside(out, request.tid, own, &nodes, beside);
        });
    }

    /// Somebody called. If the table could use it, it is asked whether it is there:
    /// a request alone can come from anywhere.
    pub(super) fn greet(&mut self, world: &mut World<'_>, connection: Key, id: Id, from: SocketAddr) {
        let caller = Contact { id, addr: from };
        let known = self.table.get(&id).copied();
        if known.is_some_and(|entry| entry.contact == caller) {
            if self.peers.mux.is_proven(connection) {
                self.table.heard(caller, world.ctx.now);
            }
            return;
        }
        let useful = match self.table.room_for(&id) {
            // The node may have moved, where the address that we have seems to be none any more.
            Room::Unwanted => known.is_some_and(|entry| {
                !entry.is_alive() || self.is_doubtful(world, &entry.contact, entry.last_heard())
            }),
            Room::Free => true,
            // One that waits for the place of a doubtful one is enough: else a few calls in a
            // network at rest would have everybody ask everybody.
            Room::Taken { oldest, last_heard } => {
                !self.table.has_standby_for(&id) && self.is_doubtful(world, &oldest, last_heard)
            }
        };
        if useful && !self.peers.mux.is_expecting(&from) {
            self.peers.call(&mut world.ctx, from, Some(id), Waiter::Greeting, &Method::Ping);
        }
    }

    /// Somebody waits for what was just written to be committed.
    pub(super) fn promise(&mut self, world: &World<'_>, to: Waiting) {
        self.promised.push(Promise { to, rollbacks: world.store.rollbacks() });
    }

    /// Whether somebody waits for what was written to be committed, or for values to be read.
    pub fn has_promises(&self) -> bool {
        !(self.promised.is_empty() && self.asked.is_empty())
    }

    /// What was written is committed, or was undone: those who wait hear so.
    pub fn settle_promises(&mut self, world: &mut World<'_>) {
        world.store.settle(&mut self.resident);
        let committed = world.store.rollbacks();
        let why = world.store.last_failure().map_or(Refusal::Failed, Refusal::from);
        for Promise { to, rollbacks } in std::mem::take(&mut self.promised) {
            // Any failure since, even of a read, has undone the whole transaction.
            let kept = rollbacks == committed;
            match to {
                Waiting::Reply(connection, tid, until) if kept => {
                    let left = until.0.saturating_sub(world.ctx.unix.0).max(0);
                    let life = u32::try_from(left).unwrap_or(u32::MAX);
                    self.peers.reply(&mut world.ctx, connection, |out, own| {
                        message::response_stored(out, &tid, own, life);
                    });
                }
                Waiting::Reply(connection, tid, _) => {
                    self.values_refused += 1;
                    self.refuse(world, connection, &tid, &why.to_string());
                }
                Waiting::Own(operation, until) => {
                    self.own_stored(world, operation, if kept { Ok(until) } else { Err(why.to_string()) });
                }
                Waiting::Owner(operation, mut stored) => {
                    stored.renewed = kept;
                    if let Some(custody) = self.custody.as_deref_mut().filter(|_| !kept) {
                        custody.done.not_renewed += 1;
                    }
                    let effort = stored.effort;
                    tell(world, operation, Outcome::Stored(Ok(*stored)), effort);
                }
            }
        }
        self.settle(world);
    }
}

/// Nobody needs to be told of himself, of those who may be gone, or of addresses that he
/// cannot reach.
pub(super) fn is_useful(entry: &Entry, request: &Request<'_>, from: SocketAddr) -> bool {
    let node = &entry.contact;
    entry.is_alive() && node.id != request.sender && node.addr.is_ipv4() == from.is_ipv4()
}
