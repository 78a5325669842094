//! Answering the requests of others.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::time::Duration;

use crate::contact::Contact;
use crate::context::Key;
use crate::id::Id;
use crate::krpc::message::{self, Fault, Method, Request};
use crate::node::peers::Waiter;
use crate::node::{Node, Promise, Waiting, World};
use crate::store::Put;
use crate::table::{Entry, Room};

/// What an answer takes beside its values and contacts, at the most, and what a contact does
/// (that of an IPv6 host), in bytes.
const ANSWER_OVERHEAD: usize = 512;
const MAX_CONTACT: usize = 90;

/// The answer to a store when the node's own store fails.
const CANNOT_STORE: &str = "this node cannot store values now";

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
        match request.method {
            Method::Ping => self.peers.reply(&mut world.ctx, connection, |out, own| {
                message::response_empty(out, tid, own);
            }),
            Method::FindNode { target } => {
                self.answer_with_nodes(world, connection, from, request, &target, None);
            }
            Method::OfferValues { key, offer } => {
                let caller = Contact { id: request.sender, addr: from };
                let is_known = self.table.get(&caller.id).is_some_and(|entry| entry.contact == caller);
                let is_there = is_known || self.peers.mux.is_proven(connection);
                let wants = self.weigh_offer(world, is_there, &key, offer);
                self.answer_with_nodes(world, connection, from, request, &key, wants.as_deref());
            }
            Method::FindValue { key, .. } => self.find_value(world, connection, from, request, &key),
            // Whoever may be at another address than he claims leaves nothing here. Peers of
            // 2003 send nothing before they have shown that they are there; ours, no value.
            Method::StoreValue { .. } | Method::HandOn { .. } if !self.peers.mux.is_proven(connection) => {
                self.refuse(world, connection, tid, "you have not shown that you are where you say");
            }
            Method::StoreValue { key, value, .. } => {
                let taken = self.take_value(world, &key, value, None);
                self.confirm(world, connection, tid, taken);
            }
            Method::HandOn { key, value, age, .. } => {
                let taken = self.take_value(world, &key, value, Some(age));
                self.confirm(world, connection, tid, taken);
            }
        }
        self.greet(world, connection, request.sender, from);
    }

    fn confirm(
        &mut self,
        world: &mut World<'_>,
        connection: Key,
        tid: &[u8],
        taken: Result<(), &'static str>,
    ) {
        match taken {
            Ok(()) => self.promise(world, Waiting::Reply(connection, tid.to_vec())),
            Err(refusal) => self.refuse(world, connection, tid, refusal),
        }
    }

    /// Stores a value, for others or for ourselves; `age`: how many seconds ago it was
    /// published, when it is handed on. It is kept once it is committed. `Err`: why not, in
    /// words.
    pub(super) fn take_value(
        &mut self,
        world: &mut World<'_>,
        key: &Id,
        value: &[u8],
        age: Option<u32>,
    ) -> Result<(), &'static str> {
        let passed = Duration::from_secs(age.unwrap_or(0).into());
        if value.len() > world.ctx.config.max_value_size {
            return Err("the value is larger than this node takes");
        } else if passed >= world.ctx.config.value_lifetime {
            return Err("the value is older than this node keeps any");
        }
        match world.store.put(&mut self.resident, key, value, world.ctx.unix.minus(passed)) {
            Ok(Put::Added | Put::Renewed) => {
                self.note_held(world, *key, age.is_some());
                Ok(())
            }
            Ok(Put::KeyFull) => Err("this node holds as many values for the key as it takes"),
            Ok(Put::StoreFull) => Err("this node has no room for the value"),
            Err(error) => {
                log::error!("node {}: a value cannot be stored: {error}", self.id);
                Err(CANNOT_STORE)
            }
        }
    }

    fn refuse(&mut self, world: &mut World<'_>, connection: Key, tid: &[u8], text: &str) {
        self.peers.reply(&mut world.ctx, connection, |out, _| {
            message::error(out, tid, Fault::Text(text.as_bytes()));
        });
    }

    fn find_value(
        &mut self,
        world: &mut World<'_>,
        connection: Key,
        from: SocketAddr,
        request: &Request<'_>,
        key: &Id,
    ) {
        if self.peers.is_full(&world.ctx) {
            return self.refuse(world, connection, request.tid, "this node is too busy to look now");
        }
        // A random place to start from, so that each value has the same chance
        // when not all fit into an answer.
        let start = Id::random(world.ctx.rng);
        let mut values = Vec::new();
        let mut room = message::MAX_BODY;
        let stored_after = world.ctx.unix.minus(world.ctx.config.value_lifetime);
        let read = world.store.values(&mut self.resident, key, stored_after, &start, |value| {
            // Its length goes in front, in a digit and a colon at least.
            room = room.saturating_sub(value.len() + 2);
            values.push(value.to_vec());
            if room > 0 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        if let Err(error) = read {
            log::error!("node {}: values cannot be read: {error}", self.id);
            return self.refuse(world, connection, request.tid, "this node cannot read its values now");
        }
        if values.is_empty() {
            return self.answer_with_nodes(world, connection, from, request, key, None);
        }
        // Others nearby may hold other values. They are named only where that takes no value's
        // room: whoever is told of none asks for them.
        let k = world.ctx.config.k;
        let mut closer = Vec::new();
        // A length in front of a value may have five digits; one was counted.
        if room >= ANSWER_OVERHEAD + k * MAX_CONTACT + 4 * values.len() {
            self.table.nearest_of(key, k, &mut closer, |entry| is_useful(entry, request, from));
        }
        self.peers.reply(&mut world.ctx, connection, |out, own| {
            message::response_values_and_closer(out, request.tid, own, &values, &closer);
        });
    }

    fn answer_with_nodes(
        &mut self,
        world: &mut World<'_>,
        connection: Key,
        from: SocketAddr,
        request: &Request<'_>,
        target: &Id,
        wants: Option<&[u8]>,
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
            message::response_nodes_and_wants(out, request.tid, own, &nodes, wants);
        });
    }

    /// Somebody called. If the table could use it, it is asked whether it is there:
    /// a request alone can come from anywhere.
    fn greet(&mut self, world: &mut World<'_>, connection: Key, id: Id, from: SocketAddr) {
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

    /// Whether somebody waits for what was written to be committed.
    pub fn has_promises(&self) -> bool {
        !self.promised.is_empty()
    }

    /// What was written is committed, or was undone: those who wait hear so.
    pub fn settle_promises(&mut self, world: &mut World<'_>) {
        let committed = world.store.rollbacks();
        for Promise { to, rollbacks } in std::mem::take(&mut self.promised) {
            // Any failure since, even of a read, has undone the whole transaction.
            let kept = rollbacks == committed;
            match to {
                Waiting::Reply(connection, tid) if kept => {
                    self.peers.reply(&mut world.ctx, connection, |out, own| {
                        message::response_empty(out, &tid, own);
                    });
                }
                Waiting::Reply(connection, tid) => {
                    self.refuse(world, connection, &tid, CANNOT_STORE);
                }
                Waiting::Own(operation, until) => {
                    self.own_stored(world, operation, if kept { Ok(until) } else { Err(CANNOT_STORE) });
                }
            }
        }
        self.settle(world);
    }
}

/// Nobody needs to be told of himself, of those who may be gone, or of addresses that he
/// cannot reach.
fn is_useful(entry: &Entry, request: &Request<'_>, from: SocketAddr) -> bool {
    let node = &entry.contact;
    entry.is_alive() && node.id != request.sender && node.addr.is_ipv4() == from.is_ipv4()
}
