//! Requests of a peer of 2003, and what comes of them.

use std::net::SocketAddr;
use std::time::Duration;

use rand::Rng;

use super::messages;
use super::search::{Goal, Search, Storing};
use super::{Operation, Original, Outcome, Running, UNKNOWN};
use crate::bencode::Value;
use crate::contact::Contact;
use crate::id::Id;
use crate::krpc::message::{self, Method};
use crate::time::Time;

/// Bytes in a transaction id.
pub(super) const TID_BYTES: usize = 20;
/// How long a call waits for its answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// With so many calls under way, contacts are not asked any more whether they are there.
pub(super) const MAX_CALLS: usize = 1024;

/// What a call is for.
#[derive(Debug)]
pub(super) enum Purpose {
    /// To get to know who is there.
    Contact { operation: Operation, joins: bool },
    /// To see whether a contact has to make room for another.
    Oldest { new: Contact },
    /// A step of a search.
    Search { operation: Operation },
    /// A step of a store.
    Store { operation: Operation },
}

#[derive(Debug)]
pub(super) struct Call {
    addr: SocketAddr,
    /// Who is expected to answer.
    id: Id,
    purpose: Purpose,
}

impl Original {
    fn call(&mut self, now: Time, to: Contact, method: &Method<'_>, purpose: Purpose) {
        let mut tid = [0; TID_BYTES];
        self.rng.fill_bytes(&mut tid);
        self.patience.push_back((now + PATIENCE, tid));
        self.calls.insert(tid, Call { addr: to.addr, id: to.id, purpose });
        let mut out = Vec::new();
        // What is too long is not sent, and so never answered.
        if message::request(&mut out, &tid, &self.own, method).is_ok() {
            self.links.write(now, to.addr, &out, &mut self.rng);
        }
    }

    pub(super) fn ping(&mut self, now: Time, addr: SocketAddr, id: Id, purpose: Purpose) {
        self.call(now, Contact { id, addr }, &Method::Ping, purpose);
    }

    /// The call that an answer from there belongs to.
    pub(super) fn take_call(&mut self, from: SocketAddr, tid: &[u8]) -> Option<Call> {
        let tid: &[u8; TID_BYTES] = tid.try_into().ok()?;
        self.calls.get(tid).filter(|call| call.addr == from)?;
        let call = self.calls.remove(tid);
        while let Some((_, first)) = self.patience.front()
            && !self.calls.contains_key(first)
        {
            self.patience.pop_front();
        }
        call
    }

    /// Gives up calls that have waited long enough.
    pub(super) fn give_up(&mut self, now: Time) {
        while let Some((_, tid)) = self.patience.pop_front_if(|(at, _)| *at <= now) {
            if let Some(call) = self.calls.remove(&tid) {
                self.call_failed(now, call);
            }
        }
    }

    pub(super) fn call_failed(&mut self, now: Time, call: Call) {
        match call.purpose {
            Purpose::Contact { operation, .. } => {
                self.table.failed(&call.id);
                self.outcomes.push_back((operation, Outcome::Contact(false)));
            }
            Purpose::Oldest { new } => self.table.replace(&call.id, Some(new)),
            Purpose::Search { operation } => {
                self.table.failed(&call.id);
                if let Some(Running::Search(search)) = self.running.get_mut(&operation) {
                    search.outstanding = search.outstanding.saturating_sub(1);
                    self.go_on(now, operation);
                }
            }
            Purpose::Store { operation } => {
                self.table.failed(&call.id);
                if let Some(Running::Storing(storing)) = self.running.get_mut(&operation) {
                    let mut ask = Vec::new();
                    let is_over = storing.failed(&mut ask);
                    self.go_on_storing(now, operation, ask, is_over);
                }
            }
        }
    }

    pub(super) fn answered(&mut self, now: Time, from: SocketAddr, call: Call, parts: Value<'_>) {
        let sender = messages::sender_of(Some(parts));
        let id = sender.and_then(|sender| messages::id(sender.get(b"id")?).ok());
        let (Some(sender), Some(id)) = (sender, id) else { return self.call_failed(now, call) };
        if call.id != UNKNOWN && call.id != id {
            return self.call_failed(now, call);
        }
        match call.purpose {
            Purpose::Contact { operation, joins } => {
                if id == UNKNOWN {
                    return self.call_failed(now, call);
                }
                self.table.insert(now, Contact { id, addr: call.addr }, true);
                if joins {
                    self.search_close(now, operation);
                } else {
                    self.outcomes.push_back((operation, Outcome::Contact(true)));
                }
            }
            Purpose::Oldest { .. } => self.table.just_seen(now, &call.id),
            Purpose::Store { operation } => {
                self.table.insert(now, Contact { id: call.id, addr: call.addr }, true);
                if let Some(Running::Storing(storing)) = self.running.get_mut(&operation) {
                    let mut ask = Vec::new();
                    let is_over = storing.accepted(&mut ask);
                    self.go_on_storing(now, operation, ask, is_over);
                }
            }
            Purpose::Search { operation } => {
                let is_for_values = match self.running.get(&operation) {
                    Some(Running::Search(search)) => matches!(search.goal, Goal::Values(_)),
                    _ => false,
                };
                // By the port it came from, but by the host it names.
                match messages::host(&sender) {
                    Some(host) if id != UNKNOWN => {
                        self.table.insert(
                            now,
                            Contact { id, addr: SocketAddr::new(host, from.port()) },
                            true,
                        );
                        self.step_answered(now, operation, parts);
                    }
                    _ if is_for_values => self.call_failed(now, call),
                    // A search for nodes waits for ever.
                    _ => {}
                }
            }
        }
    }

    fn step_answered(&mut self, now: Time, operation: Operation, parts: Value<'_>) {
        let Some(Running::Search(search)) = self.running.get_mut(&operation) else { return };
        let Value::Dict(parts) = parts else { return };
        match (&mut search.goal, parts.get(b"nodes"), parts.get(b"values")) {
            // Nodes are looked at first; values beside them are not.
            (_, Some(nodes), _) => {
                search.outstanding = search.outstanding.saturating_sub(1);
                let Some(nodes) = messages::nodes(nodes) else { return };
                nodes.into_iter().for_each(|node| search.offer(node));
            }
            (Goal::Values(known), None, values) => {
                search.outstanding = search.outstanding.saturating_sub(1);
                let new = values.map(|values| messages::new_values(values, known)).unwrap_or_default();
                if !new.is_empty() {
                    self.outcomes.push_back((operation, Outcome::Values(new)));
                }
            }
            // It has no way to go on from here.
            (_, None, _) => return,
        }
        self.go_on(now, operation);
    }

    // -- searches and stores

    /// Looks for nodes close to itself.
    pub(super) fn search_close(&mut self, now: Time, operation: Operation) {
        let mut id = *self.own.id.as_bytes();
        if let Some(last) = id.last_mut() {
            *last = last.wrapping_add(1);
        }
        self.search(now, operation, Id::new(id), Goal::Nodes);
    }

    pub(super) fn search(&mut self, now: Time, operation: Operation, target: Id, goal: Goal) {
        let start = self.table.find(&target);
        let search = Search::new(self.own.id, target, goal, start);
        self.running.insert(operation, Running::Search(search));
        self.go_on(now, operation);
    }

    fn go_on(&mut self, now: Time, operation: Operation) {
        let Some(Running::Search(search)) = self.running.get_mut(&operation) else { return };
        let mut ask = Vec::new();
        let end = search.schedule(&mut ask);
        let target = search.target;
        let for_values = matches!(search.goal, Goal::Values(_));
        for node in ask {
            let method = if for_values {
                Method::FindValue { key: target, from: None }
            } else {
                Method::FindNode { target }
            };
            self.call(now, node, &method, Purpose::Search { operation });
        }
        let Some(nodes) = end else { return };
        let Some(Running::Search(search)) = self.running.remove(&operation) else { return };
        let outcome = match search.goal {
            Goal::Nodes => Outcome::Nodes(nodes),
            Goal::Values(_) => Outcome::Values(Vec::new()),
            Goal::Store(value) => {
                let mut storing = Storing::new(self.own.id, target, value, nodes);
                let mut ask = Vec::new();
                let is_over = storing.schedule(&mut ask);
                self.running.insert(operation, Running::Storing(storing));
                return self.go_on_storing(now, operation, ask, is_over);
            }
        };
        self.outcomes.push_back((operation, outcome));
    }

    fn go_on_storing(&mut self, now: Time, operation: Operation, ask: Vec<Contact>, is_over: bool) {
        let Some(Running::Storing(storing)) = self.running.remove(&operation) else { return };
        for node in ask {
            let method = Method::StoreValue { key: storing.key, value: &storing.value, life: None };
            self.call(now, node, &method, Purpose::Store { operation });
        }
        if is_over {
            self.outcomes.push_back((operation, Outcome::Stored(storing.stored)));
        } else {
            self.running.insert(operation, Running::Storing(storing));
        }
    }
}
