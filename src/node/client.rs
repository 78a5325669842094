//! Carrying out the operations of the node's owner: lookups, and what stands on them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use crate::contact::{Contact, canonical};
use crate::context::{Due, Key};
use crate::error::{CallError, OperationError};
use crate::id::Id;
use crate::krpc::message::{Method, Response};
use crate::lookup::{Goal, Lookup, MAX_UNASKED, Step};
use crate::node::operation::{Event, Operation, OperationKey, Outcome, Task};
use crate::node::paging::Pages;
use crate::node::peers::{Overdue, Waiter};
use crate::node::storing::{Storing, kept_until};
use crate::node::{Node, World};
use crate::outcome::{Effort, FoundNodes, FoundValues, Search};
use crate::publish::Publish;
use crate::table::Entry;
use crate::validator::Validator;

/// How many different values one search reports at most: more would be no
/// collection, but an attack on the memory of the one who searches.
pub(super) const MAX_VALUES: usize = 65_536;

impl Node {
    // -- commands

    /// Asks for the node at `addr`. → [`Outcome::Contact`]
    pub fn add_contact(&mut self, world: &mut World<'_>, addr: SocketAddr, limit: Option<Duration>) -> Key {
        if let Some(refused) = self.refused(world, |error| Outcome::Contact(Err(error))) {
            return refused;
        }
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
        self.find_nodes(world, self.id, Goal::Closest, limit)
    }

    /// Looks for the node `id`, or the nearest ones to it. → [`Outcome::Nodes`]
    pub fn find_node(&mut self, world: &mut World<'_>, id: Id, limit: Option<Duration>) -> Key {
        self.find_nodes(world, id, Goal::Exact, limit)
    }

    fn find_nodes(&mut self, world: &mut World<'_>, target: Id, goal: Goal, limit: Option<Duration>) -> Key {
        if let Some(refused) = self.refused(world, |error| Outcome::Nodes(Err(error))) {
            return refused;
        }
        let lookup = self.lookup(world, target, goal);
        self.begin(world, Task::Nodes(lookup), limit)
    }

    /// Looks for the values of a key. → [`Outcome::Values`], any number of times,
    /// then [`Outcome::ValuesEnd`]
    pub fn find_values(&mut self, world: &mut World<'_>, key: Id, limit: Option<Duration>) -> Key {
        if let Some(refused) = self.refused(world, |error| Outcome::ValuesEnd(Err(error))) {
            return refused;
        }
        let lookup = self.lookup(world, key, Goal::Values);
        let operation =
            self.enter(world, Task::Values { lookup, seen: BTreeSet::new(), pages: Pages::default() }, limit);
        self.report_own(world, operation, Id::new([0; 20]));
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

    /// The key of an operation that is not begun, because too many are under way already; its
    /// owner is told so.
    pub(super) fn refused(
        &mut self,
        world: &mut World<'_>,
        failed: fn(OperationError) -> Outcome,
    ) -> Option<Key> {
        let limit = world.ctx.config.max_operations;
        if self.operations.len() < limit {
            return None;
        }
        let key = self.operations.refused_key();
        tell(world, key, failed(OperationError::QueueFull { limit }), Effort::default());
        Some(key)
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
                Task::Storing(Storing { publish, .. }) | Task::Handing { publish, .. } => publish.next(),
                task => task.lookup_mut().map_or(Step::Wait, Lookup::next),
            };
            match step {
                Step::Wait => return self.tell_if_decided(world, key),
                // What peers have still to bring is waited for.
                Step::Done if matches!(&operation.task, Task::Values { pages, .. } if pages.is_waiting()) => {
                    return;
                }
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

    /// A lookup or a publishing is over, and the operation ends or lines up for the next.
    fn stage_done(&mut self, world: &mut World<'_>, operation_key: Key) {
        let own = self.as_holder(world);
        let config = world.ctx.config;
        let Some(operation) = self.operations.get_mut(operation_key) else {
            return;
        };
        if let Task::Finding { lookup, key, value, life } = &mut operation.task {
            let holders = holders(lookup, own, config.k);
            // A node that knows others and reaches none is cut off, not alone.
            let cut_off = lookup.answered() == 0 && lookup.failed() > 0;
            let exist = if cut_off { holders.len() + 1 } else { holders.len() };
            // A client that reaches nobody has stored nothing.
            let needed = config.store_redundancy.min(exist.max(1));
            let publish = Publish::new(holders, config.concurrent_requests, needed);
            let found = (&*lookup).into();
            let (key, value, life) = (*key, std::mem::take(value), *life);
            operation.task =
                Task::Storing(Storing { publish, key, value, life, admitted: false, told: false, found });
            // Its turn comes before this input is done with, if there is room.
            self.operations.line_up(operation_key);
            return;
        }
        let outcome = match &operation.task {
            Task::Nodes(lookup) => Some(Outcome::Nodes(match unanswered(lookup) {
                Some(error) => Err(error),
                None => Ok(FoundNodes { nodes: lookup.closest().collect(), effort: lookup.into() }),
            })),
            Task::Values { lookup, seen, .. } => Some(Outcome::ValuesEnd(match unanswered(lookup) {
                // One that is alone, and knows it, is all there is.
                Some(OperationError::NoContacts) if !seen.is_empty() => Ok(Search::default()),
                Some(error) => Err(error),
                None => Ok(Search { effort: lookup.into() }),
            })),
            Task::Storing(Storing { told: true, .. }) => None,
            Task::Storing(storing) => Some(Outcome::Stored(storing.outcome())),
            Task::Refresh(_) | Task::Checking(_) | Task::Handing { .. } => None,
            Task::Finding { .. } | Task::Contact => None,
        };
        self.end(world, operation_key, outcome);
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
            let news = self.report(world, key, *from, found.filter(|value| !value.is_empty()));
            self.ask_for_more(world, key, from, response.more(), news);
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
        if matches!(operation.task, Task::Values { .. }) && response.has_none_so_far() {
            self.ask_for_more(world, key, from, response.more(), true);
            return self.neighbours_named(world, key, from, response.nodes());
        }
        if let Task::Checking(check) = &mut operation.task {
            check.note_wants(from, response);
        }
        if let Some(publish) = operation.task.publish_mut() {
            // Not who answers what the lookup before has asked it at another address.
            if publish.is_holder(from) {
                publish.on_accept(&from.id, kept_until(world, response.life()));
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
        if let (Task::Values { pages, .. }, Overdue::Silent(..) | Overdue::Lost(..)) =
            (&mut operation.task, overdue)
        {
            pages.note_silence(&asked);
        }
        match (&mut operation.task, overdue) {
            (Task::Storing(Storing { publish, .. }) | Task::Handing { publish, .. }, overdue) => {
                match overdue {
                    Overdue::Late(..) => publish.on_slow(&id),
                    _ => publish.on_silence(&id),
                }
            }
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
    pub(super) fn step_failed(
        &mut self,
        world: &mut World<'_>,
        key: Key,
        asked: &Contact,
        why: CallError,
        insist: bool,
    ) {
        let id = asked.id;
        let Some(operation) = self.operations.get_mut(key).filter(|it| it.task.waits_for(asked)) else {
            return;
        };
        if let Some(publish) = operation.task.publish_mut() {
            publish.on_failure(&id, why);
        } else if let Some(lookup) = operation.task.lookup_mut() {
            if insist { lookup.on_unreachable(&id) } else { lookup.on_failure(&id) }
        }
        self.advance(world, key);
    }

    pub(super) fn contact_answered(&mut self, world: &mut World<'_>, key: Key, contact: Contact) {
        self.end(world, key, Some(Outcome::Contact(Ok(contact))));
    }

    pub(super) fn contact_failed(&mut self, world: &mut World<'_>, key: Key, why: CallError) {
        self.fail(world, key, OperationError::Call(why));
    }

    /// Tells which values `by` has brought: those that are new and taken, and how many are not
    /// new. Whether any are.
    pub(super) fn report<'v>(
        &mut self,
        world: &mut World<'_>,
        key: Key,
        by: Contact,
        brought: impl Iterator<Item = &'v [u8]>,
    ) -> bool {
        let Some(Operation { task: Task::Values { lookup, seen, .. }, .. }) = self.operations.get_mut(key)
        else {
            return false;
        };
        let target = lookup.target();
        let from = (by.id != self.id).then_some(by.addr);
        let validator = world.ctx.config.validator.as_ref();
        let is_valid =
            |value: &[u8]| validator.is_none_or(|it: &Validator| it.check(target, value, from).is_ok());
        let (mut values, mut known, mut here) = (Vec::new(), 0, BTreeSet::new());
        for value in brought {
            let digest = Id::of(value);
            if !here.insert(digest) {
                // Twice in one answer.
            } else if seen.contains(&digest) {
                known += 1;
            } else if seen.len() < MAX_VALUES {
                if is_valid(value) {
                    seen.insert(digest);
                    values.push(value.to_vec());
                } else {
                    self.invalid += 1;
                }
            }
        }
        let news = !values.is_empty();
        if news || known > 0 {
            tell(world, key, Outcome::Values(FoundValues { by, values, known }), (&*lookup).into());
        }
        news
    }

    pub(super) fn fail(&mut self, world: &mut World<'_>, key: Key, error: OperationError) -> bool {
        let Some(operation) = self.operations.get_mut(key) else {
            return false;
        };
        let outcome = operation.task.failure(error);
        let told = outcome.is_some();
        self.end(world, key, outcome);
        told
    }

    pub(super) fn end(&mut self, world: &mut World<'_>, key: Key, outcome: Option<Outcome>) {
        let Some(mut operation) = self.operations.remove(key, world.ctx.config.concurrent_requests) else {
            return;
        };
        world.ctx.disarm(&mut operation.deadline);
        if self.is_own_work(key) {
            return self.work_ended(world, operation.task, outcome);
        }
        match (&operation.task, outcome) {
            (
                Task::Storing(Storing { key: target, value, life, .. }),
                Some(Outcome::Stored(Ok(mut stored))),
            ) => {
                self.note_stored(world, target, value, *life, &mut stored);
                self.tell_stored(world, key, stored);
            }
            (task, Some(outcome)) => tell(world, key, outcome, task.effort()),
            (_, None) => {}
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

pub(super) fn tell(world: &mut World<'_>, operation: Key, outcome: Outcome, effort: Effort) {
    let node = world.ctx.node;
    let operation = OperationKey { node, operation };
    world.events.push_back(Event::Operation { node, operation, outcome, effort });
}

/// Why a lookup that is over found nobody; `None`: somebody has answered.
fn unanswered(lookup: &Lookup) -> Option<OperationError> {
    match (lookup.answered(), lookup.asked()) {
        (0, 0) => Some(OperationError::NoContacts),
        (0, asked) => Some(OperationError::NobodyAnswered { asked }),
        _ => None,
    }
}

/// The `k` nearest to the target, over IPv4 and over IPv6, of those that answered and this
/// node itself, unless it is none of them.
pub(super) fn holders(lookup: &Lookup, own: Option<Contact>, k: usize) -> Vec<Contact> {
    let mut holders: Vec<Contact> = lookup.closest().collect();
    let target = lookup.target();
    if let Some(own) = own {
        let distance = target.distance(&own.id);
        let place = holders.partition_point(|holder| target.distance(&holder.id) < distance);
        holders.insert(place, own);
    }
    let is_own = |holder: &Contact| own.is_some_and(|own| own.id == holder.id);
    let mut left = [true, false].map(|ipv4| {
        let others = holders.iter().any(|holder| !is_own(holder) && holder.addr.is_ipv4() == ipv4);
        if others { k } else { 0 }
    });
    let alone = holders.len() == 1;
    holders.retain(|holder| {
        let [ipv4, ipv6] = &mut left;
        let room = if is_own(holder) {
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
