//! Carrying out the operations of the node's owner: lookups, and what stands on them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::time::Duration;

use crate::contact::{Contact, canonical};
use crate::context::{Due, Key};
use crate::error::{CallError, OperationError};
use crate::id::Id;
use crate::krpc::message::{Method, Response};
use crate::lookup::{Goal, Lookup, MAX_UNASKED, Step};
use crate::node::operation::{Effort, Event, Operation, OperationKey, Outcome, Task};
use crate::node::peers::{Overdue, Waiter};
use crate::node::serve::Origin;
use crate::node::{Node, Waiting, World};
use crate::publish::Publish;
use crate::table::Entry;

/// How many different values one search reports at most: more would be no
/// collection, but an attack on the memory of the one who searches.
const MAX_VALUES: usize = 65_536;

impl Node {
    // -- commands

    /// Asks for the node at `addr`. → [`Outcome::Contact`]
    pub fn add_contact(&mut self, world: &mut World<'_>, addr: SocketAddr, limit: Option<Duration>) -> Key {
        let key = self.enter(world, Task::Contact, limit);
        let addr = canonical(addr);
        if self.peers.reaches(&addr) && addr.port() != 0 {
            self.peers.call(&mut world.ctx, addr, None, Waiter::Contact(key), &Method::Ping);
            self.settle(world);
        } else {
            self.fail(world, key, OperationError::Call(CallError::Unreachable));
        }
        key
    }

    /// Looks for the nodes nearest to this one. → [`Outcome::Nodes`]
    pub fn find_close_nodes(&mut self, world: &mut World<'_>, limit: Option<Duration>) -> Key {
        let lookup = self.lookup(world, self.id, Goal::Closest);
        self.begin(world, Task::Nodes(lookup), limit)
    }

    /// Looks for the node `id`, or the nearest ones to it. → [`Outcome::Nodes`]
    pub fn find_node(&mut self, world: &mut World<'_>, id: Id, limit: Option<Duration>) -> Key {
        let lookup = self.lookup(world, id, Goal::Exact);
        self.begin(world, Task::Nodes(lookup), limit)
    }

    /// Stores a value with the nodes nearest to its key. → [`Outcome::Stored`]
    pub fn store_value(
        &mut self,
        world: &mut World<'_>,
        key: Id,
        value: Vec<u8>,
        limit: Option<Duration>,
    ) -> Key {
        let (size, most) = (value.len(), world.ctx.config.max_value_size);
        let lookup = self.lookup(world, key, Goal::Closest);
        let operation = self.enter(world, Task::Finding { lookup, key, value }, limit);
        if size == 0 {
            self.fail(world, operation, OperationError::ValueEmpty);
        } else if size > most {
            self.fail(world, operation, OperationError::ValueTooLarge { size, limit: most });
        } else {
            self.advance(world, operation);
        }
        self.settle(world);
        operation
    }

    /// Looks for the values of a key. → [`Outcome::Values`], any number of times,
    /// then [`Outcome::ValuesEnd`]
    pub fn find_values(&mut self, world: &mut World<'_>, key: Id, limit: Option<Duration>) -> Key {
        let lookup = self.lookup(world, key, Goal::Values);
        let operation = self.enter(world, Task::Values { lookup, seen: BTreeSet::new() }, limit);
        let mut values = Vec::new();
        let at = self.value_time(&world.ctx);
        let start = Id::new([0; 20]);
        let read = world.store.values(&mut self.resident, &key, &at, &start, |value| {
            if !value.is_empty() {
                values.push(value.to_vec());
            }
            ControlFlow::Continue(())
        });
        if let Err(error) = read {
            self.fail(world, operation, OperationError::Store(error));
            return operation;
        }
        self.report(world, operation, values);
        self.advance(world, operation);
        self.settle(world);
        operation
    }

    /// Ends an operation before its time. False when it has ended already.
    pub fn cancel(&mut self, world: &mut World<'_>, operation: Key) -> bool {
        let ended = self.fail(world, operation, OperationError::Cancelled);
        self.settle(world);
        ended
    }

    pub(super) fn deadline_passed(&mut self, world: &mut World<'_>, key: Key) {
        self.fail(world, key, OperationError::Deadline);
    }

    /// Ends all operations: the node is closed.
    pub(super) fn fail_all(&mut self, world: &mut World<'_>, error: &OperationError) {
        for key in self.operations.keys() {
            self.fail(world, key, error.clone());
        }
    }

    // -- steps

    pub(super) fn lookup(&mut self, world: &World<'_>, target: Id, goal: Goal) -> Lookup {
        let config = world.ctx.config;
        // Peers of 2003 name to who asks for a node that they know that one alone. The
        // nodes nearest to our own id are those nearest to the id beside it.
        let target = if target == self.id { target.beside() } else { target };
        self.table.touch(&target, world.ctx.now);
        let far = self.table.is_far(&target);
        // All that there is, since the nearest may be dead; at first only those that are
        // known to be there, when they are enough.
        let mut seeds = Vec::new();
        for ipv4 in [true, false] {
            let before = seeds.len();
            let of_family = |entry: &Entry| entry.contact.addr.is_ipv4() == ipv4;
            let alive = |entry: &Entry| entry.is_alive() && of_family(entry);
            self.table.nearest_of(&target, MAX_UNASKED, &mut seeds, alive);
            if seeds.len() - before < config.k {
                seeds.truncate(before);
                self.table.nearest_of(&target, MAX_UNASKED, &mut seeds, of_family);
            }
        }
        let lookup = Lookup::new(target, self.id, goal, config.k, config.concurrent_requests, seeds);
        if far { lookup.expecting_nearer() } else { lookup }
    }

    /// Enters an operation and takes its first steps.
    pub(super) fn begin(&mut self, world: &mut World<'_>, task: Task, limit: Option<Duration>) -> Key {
        let key = self.enter(world, task, limit);
        self.advance(world, key);
        self.settle(world);
        key
    }

    pub(super) fn enter(&mut self, world: &mut World<'_>, task: Task, limit: Option<Duration>) -> Key {
        let limit = limit.unwrap_or(world.ctx.config.operation_timeout);
        let key = self.operations.insert(task);
        let timer = world.ctx.arm(world.ctx.now + limit, Due::Operation(key));
        if let Some(operation) = self.operations.get_mut(key) {
            operation.deadline = Some(timer);
        }
        key
    }

    /// Sends the requests that an operation calls for, until it has to wait.
    pub(super) fn advance(&mut self, world: &mut World<'_>, key: Key) {
        loop {
            let Some(operation) = self.operations.get_mut(key) else {
                return;
            };
            let step = match &mut operation.task {
                Task::Contact => Step::Wait,
                Task::Storing { publish, .. } | Task::Handing { publish, .. } => publish.next(),
                task => task.lookup_mut().map_or(Step::Wait, Lookup::next),
            };
            match step {
                Step::Wait => return self.tell_if_decided(world, key),
                Step::Done => return self.stage_done(world, key),
                Step::Query(contact) if contact.id == self.id => self.store_here(world, key),
                Step::Query(contact) => {
                    let now = self.clock.at(world.ctx.now).now;
                    if let Some(method) = operation.task.method(now) {
                        let waiter = Waiter::Step(key);
                        self.peers.call(&mut world.ctx, contact.addr, Some(contact.id), waiter, &method);
                    }
                }
            }
        }
    }

    /// This node is itself one of the holders.
    fn store_here(&mut self, world: &mut World<'_>, operation: Key) {
        let Some(Operation { task: Task::Storing { key, value, .. }, .. }) =
            self.operations.get_mut(operation)
        else {
            return;
        };
        let (key, value) = (*key, std::mem::take(value));
        let taken = self.take_value(world, &key, &value, Origin::default());
        if taken.is_ok() {
            self.promise(world, Waiting::Own(operation));
        }
        if let Some(Operation { task: Task::Storing { publish, value: place, .. }, .. }) =
            self.operations.get_mut(operation)
        {
            *place = value;
            if taken.is_err() {
                publish.on_failure(&self.id);
            }
        }
    }

    /// What this node holds itself is committed, or lost.
    pub(super) fn own_stored(&mut self, world: &mut World<'_>, operation: Key, kept: bool) {
        if let Some(Operation { task: Task::Storing { publish, .. }, .. }) =
            self.operations.get_mut(operation)
        {
            if kept {
                publish.on_accept(&self.id);
            } else {
                publish.on_failure(&self.id);
            }
            self.advance(world, operation);
        }
    }

    /// A lookup or a publishing is over, and the operation ends or lines up for the next.
    fn stage_done(&mut self, world: &mut World<'_>, operation_key: Key) {
        let own = self.peers.own_contact(&world.ctx);
        let config = world.ctx.config;
        let Some(operation) = self.operations.get_mut(operation_key) else {
            return;
        };
        if let Task::Finding { lookup, key, value } = &mut operation.task {
            let holders = holders(lookup, own, config.k);
            // A node that knows others and reaches none is cut off, not alone.
            let cut_off = lookup.answered() == 0 && lookup.failed() > 0;
            let exist = if cut_off { holders.len() + 1 } else { holders.len() };
            let needed = config.store_redundancy.min(exist);
            let publish = Publish::new(holders, config.concurrent_requests, needed);
            let found = (&*lookup).into();
            let (target, value) = (*key, std::mem::take(value));
            operation.task =
                Task::Storing { publish, key: target, value, admitted: false, told: false, found };
            // Its turn comes before this input is done with, if there is room.
            self.operations.line_up(operation_key);
            return;
        }
        let outcome = match &operation.task {
            Task::Nodes(lookup) => Some(Outcome::Nodes(Ok(lookup.closest().collect()))),
            Task::Values { .. } => Some(Outcome::ValuesEnd(Ok(()))),
            Task::Storing { told: true, .. } => None,
            Task::Storing { publish, .. } => Some(Outcome::Stored(if publish.enough() {
                Ok(publish.accepted().to_vec())
            } else {
                let (accepted, needed) = (publish.accepted().len(), publish.needed());
                Err(OperationError::TooFew { accepted, needed })
            })),
            Task::Refresh(_) | Task::Checking(_) | Task::Handing { .. } => None,
            Task::Finding { .. } | Task::Contact => None,
        };
        self.end(world, operation_key, outcome);
    }

    /// What comes of a store does not wait for holders that are silent.
    fn tell_if_decided(&mut self, world: &mut World<'_>, key: Key) {
        // Nobody waits for what the node does by itself.
        if self.is_own_work(key) {
            return;
        }
        let Some(Operation { task, .. }) = self.operations.get_mut(key) else {
            return;
        };
        if let Task::Storing { publish, key: target, value, told, found, .. } = task
            && !*told
            && publish.is_decided()
        {
            *told = true;
            let (by, target, value, found) = (publish.accepted().to_vec(), *target, value.clone(), *found);
            self.remember_published(world, &target, &value, &by);
            tell(world, key, Outcome::Stored(Ok(by)), found);
        }
    }

    /// A peer has answered a request of an operation.
    pub(super) fn step_answered(
        &mut self,
        world: &mut World<'_>,
        key: Key,
        from: &Contact,
        response: &Response<'_>,
    ) {
        let Some(operation) = self.operations.get_mut(key) else {
            return;
        };
        if let (Task::Values { lookup, .. }, Some(found)) = (&operation.task, response.values()) {
            // Who holds values may know best who else does: its neighbours.
            let target = *lookup.target();
            self.report(world, key, found.filter(|value| !value.is_empty()).map(<[u8]>::to_vec).collect());
            if let Some(closer) = response.closer() {
                self.neighbours_named(world, key, from, Some(closer));
            } else {
                // A peer of 2003 names none beside values.
                let waiter = Waiter::Neighbours(key);
                let method = Method::FindNode { target };
                self.peers.call(&mut world.ctx, from.addr, Some(from.id), waiter, &method);
            }
            return;
        }
        if let Task::Checking(check) = &mut operation.task {
            check.note_wants(from, response);
        }
        if let Task::Storing { publish, .. } | Task::Handing { publish, .. } = &mut operation.task {
            // Not who answers what the lookup before has asked it at another address.
            if publish.is_holder(from) {
                publish.on_accept(&from.id);
                self.advance(world, key);
            }
        } else {
            self.neighbours_named(world, key, from, response.nodes());
        }
    }

    /// A peer has named the nodes that it knows near a lookup's target.
    pub(super) fn neighbours_named(
        &mut self,
        world: &mut World<'_>,
        key: Key,
        from: &Contact,
        nodes: Option<impl Iterator<Item = Contact>>,
    ) {
        if let Some(lookup) = self.operations.get_mut(key).and_then(|operation| operation.task.lookup_mut()) {
            let (peers, failed, now, target) = (&self.peers, &self.failed, world.ctx.now, *lookup.target());
            lookup.on_found_at(from);
            match nodes {
                Some(nodes) => {
                    // Those who failed a short time ago are not asked again because others
                    // have not noticed; the very node that is looked for is worth it.
                    let of_use = nodes.filter(|node| {
                        node.addr.is_ipv4() == from.addr.is_ipv4()
                            && peers.reaches(&node.addr)
                            && is_plausible(node, from)
                            && (node.id == target || !failed.has(node, now))
                    });
                    lookup.on_reply(&from.id, of_use);
                }
                // Not what was asked for.
                None => lookup.on_failure(&from.id),
            }
            self.advance(world, key);
        }
    }

    /// A request of an operation goes unanswered for longer than usual. Others are asked
    /// beside it, and then it is gone on without: an answer still counts if it comes
    /// before the end.
    pub(super) fn step_overdue(&mut self, world: &mut World<'_>, overdue: Overdue) {
        let (Overdue::Late(key, asked) | Overdue::Silent(key, asked) | Overdue::Lost(key, asked)) = overdue
        else {
            return;
        };
        let id = asked.id;
        let Some(operation) = self.operations.get_mut(key).filter(|it| it.task.waits_for(&asked)) else {
            return;
        };
        let failed_before = self.failed.has(&asked, world.ctx.now);
        match (&mut operation.task, overdue) {
            (Task::Storing { publish, .. } | Task::Handing { publish, .. }, Overdue::Late(..)) => {
                publish.on_slow(&id);
            }
            (Task::Storing { publish, .. } | Task::Handing { publish, .. }, _) => publish.on_silence(&id),
            (task, _) => match (task.lookup_mut(), overdue) {
                (Some(lookup), Overdue::Late(..)) => lookup.on_slow(&id),
                (Some(lookup), Overdue::Silent(..)) if !failed_before || lookup.insists_on(&id) => {
                    lookup.on_silence(&id);
                }
                (Some(lookup), _) => lookup.on_failure(&id),
                (None, _) => {}
            },
        }
        self.advance(world, key);
    }

    /// A request of an operation has failed. `insist`: the peer may be there all the same.
    pub(super) fn step_failed(&mut self, world: &mut World<'_>, key: Key, asked: &Contact, insist: bool) {
        let id = asked.id;
        let Some(operation) = self.operations.get_mut(key).filter(|it| it.task.waits_for(asked)) else {
            return;
        };
        match &mut operation.task {
            Task::Storing { publish, .. } | Task::Handing { publish, .. } => publish.on_failure(&id),
            task => {
                if let Some(lookup) = task.lookup_mut() {
                    if insist { lookup.on_unreachable(&id) } else { lookup.on_failure(&id) }
                }
            }
        }
        self.advance(world, key);
    }

    pub(super) fn contact_answered(&mut self, world: &mut World<'_>, key: Key, contact: Contact) {
        self.end(world, key, Some(Outcome::Contact(Ok(contact))));
    }

    pub(super) fn contact_failed(&mut self, world: &mut World<'_>, key: Key, why: CallError) {
        self.fail(world, key, OperationError::Call(why));
    }

    /// Tells of those values that are new.
    fn report(&mut self, world: &mut World<'_>, key: Key, mut values: Vec<Vec<u8>>) {
        if let Some(Operation { task: Task::Values { lookup, seen }, .. }) = self.operations.get_mut(key) {
            values.retain(|value| seen.len() < MAX_VALUES && seen.insert(Id::of(value)));
            if !values.is_empty() {
                tell(world, key, Outcome::Values(values), (&*lookup).into());
            }
        }
    }

    fn fail(&mut self, world: &mut World<'_>, key: Key, error: OperationError) -> bool {
        let Some(operation) = self.operations.get_mut(key) else {
            return false;
        };
        let outcome = operation.task.failure(error);
        let told = outcome.is_some();
        self.end(world, key, outcome);
        told
    }

    fn end(&mut self, world: &mut World<'_>, key: Key, outcome: Option<Outcome>) {
        let Some(mut operation) = self.operations.remove(key, world.ctx.config.concurrent_requests) else {
            return;
        };
        world.ctx.disarm(&mut operation.deadline);
        if self.is_own_work(key) {
            return self.work_ended(world, operation.task, outcome);
        }
        if let (Task::Storing { key, value, .. }, Some(Outcome::Stored(Ok(by)))) = (&operation.task, &outcome)
        {
            self.remember_published(world, key, value, by);
        }
        if let Some(outcome) = outcome {
            tell(world, key, outcome, operation.task.effort());
        }
        if let Task::Nodes(lookup) | Task::Refresh(lookup) = &operation.task
            && *lookup.target() == self.id.beside()
        {
            self.note_neighbours(&mut world.ctx, lookup.answered(), lookup.failed());
        }
        if matches!(operation.task, Task::Refresh(_)) {
            self.refresh_next(world);
        }
    }
}

fn tell(world: &mut World<'_>, operation: Key, outcome: Outcome, effort: Effort) {
    let node = world.ctx.node;
    let operation = OperationKey { node, operation };
    world.events.push_back(Event::Operation { node, operation, outcome, effort });
}

/// The `k` nearest to the target, over IPv4 and over IPv6, of those that answered and this
/// node itself.
pub(super) fn holders(lookup: &Lookup, own: Contact, k: usize) -> Vec<Contact> {
    let mut holders: Vec<Contact> = lookup.closest().collect();
    let target = lookup.target();
    let distance = target.distance(&own.id);
    let place = holders.partition_point(|holder| target.distance(&holder.id) < distance);
    holders.insert(place, own);
    let mut left = [true, false].map(|ipv4| {
        let others = holders.iter().any(|holder| holder.id != own.id && holder.addr.is_ipv4() == ipv4);
        if others { k } else { 0 }
    });
    let alone = holders.len() == 1;
    holders.retain(|holder| {
        let [ipv4, ipv6] = &mut left;
        let room = if holder.id == own.id {
            // It is one for both.
            let room = *ipv4 + *ipv6;
            (*ipv4, *ipv6) = (ipv4.saturating_sub(1), ipv6.saturating_sub(1));
            room
        } else {
            let left = if holder.addr.is_ipv4() { ipv4 } else { ipv6 };
            let room = *left;
            *left = left.saturating_sub(1);
            room
        };
        room > 0 || alone
    });
    holders
}

/// Whether `from` can know `node` there: the loopback addresses of a peer elsewhere are
/// not those of this host, and nobody is to make us call our own services.
fn is_plausible(node: &Contact, from: &Contact) -> bool {
    from.addr.ip().is_loopback() || !node.addr.ip().is_loopback()
}
