//! Operations under way, and what comes of them.

use std::collections::{BTreeSet, VecDeque};

use slab::Slab;

use crate::contact::Contact;
use crate::context::Key;
use crate::error::OperationError;
use crate::id::Id;
use crate::krpc::message::Method;
use crate::lookup::{Goal, Lookup};
use crate::node::handing::{Check, age_on_arrival, life_on_arrival};
use crate::node::paging::Pages;
use crate::node::storing::Storing;
use crate::outcome::{Effort, FoundNodes, FoundValues, Search, Stored};
use crate::publish::Publish;
use crate::time::UnixTime;
use crate::wheel::Timer;

/// Names an operation, among all of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OperationKey {
    pub(crate) node: Key,
    pub(crate) operation: Key,
}

/// What an operation brought.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The contact answered, or did not.
    Contact(Result<Contact, OperationError>),
    /// The nodes that were found, nearest first.
    Nodes(Result<FoundNodes, OperationError>),
    /// What each node said to the value, when enough have taken it.
    Stored(Result<Stored, OperationError>),
    /// Values that a node brought; more may come.
    Values(FoundValues),
    /// No more values come.
    ValuesEnd(Result<Search, OperationError>),
}

impl From<&Lookup> for Effort {
    fn from(lookup: &Lookup) -> Self {
        let count = |count| u16::try_from(count).unwrap_or(u16::MAX);
        Effort {
            hops: lookup.hops(),
            asked: count(lookup.asked()),
            answered: count(lookup.answered()),
            failed: count(lookup.failed()),
        }
    }
}

/// Something that the owner of a node is to be told.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// An operation has brought something. All outcomes but [`Outcome::Values`] end it.
    Operation {
        /// The operation's node.
        node: Key,
        /// The operation.
        operation: OperationKey,
        /// What it brought.
        outcome: Outcome,
        /// What its lookup took so far.
        effort: Effort,
    },
}

/// What an operation is at.
#[derive(Debug)]
pub(super) enum Task {
    /// Waits for a contact's answer.
    Contact,
    /// Looks for nodes.
    Nodes(Lookup),
    /// Looks for values; `seen`: digests of those reported; `pages`: who is asked for more.
    Values { lookup: Lookup, seen: BTreeSet<Id>, pages: Pages },
    /// Looks for the nodes that are to hold a value. `life`: for how many seconds, if not for
    /// as long as they keep any.
    Finding { lookup: Lookup, key: Id, value: Vec<u8>, life: Option<u32> },
    /// Gives it to them, once it is its turn.
    Storing(Storing),
    /// Looks for nodes, for the table's sake alone.
    Refresh(Lookup),
    /// Asks the nodes nearest to a key which of its values they lack.
    Checking(Box<Check>),
    /// Gives one of them to those that lack it. `stored`: when it was published; `ends`: when its
    /// life ends, if that is its own.
    Handing { publish: Publish, key: Id, value: Vec<u8>, stored: UnixTime, ends: Option<UnixTime> },
}

#[derive(Debug)]
pub(super) struct Operation {
    generation: u32,
    pub task: Task,
    pub deadline: Option<Timer>,
}

/// The operations of one node.
#[derive(Debug, Default)]
pub(super) struct Operations {
    slots: Slab<Operation>,
    generation: u32,
    /// Operations whose values wait to be given to their holders, in their order.
    waiting: VecDeque<Key>,
    /// Bytes that are being given, about: each value as often as it is under way at once.
    under_way: usize,
}

impl Operations {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// A key that no operation has, for one that is refused.
    pub fn refused_key(&mut self) -> Key {
        self.generation = self.generation.wrapping_add(1);
        Key { index: u32::MAX, generation: self.generation }
    }

    /// Enters an operation, which has no deadline yet.
    pub fn insert(&mut self, task: Task) -> Key {
        self.generation = self.generation.wrapping_add(1);
        let operation = Operation { generation: self.generation, task, deadline: None };
        let index = self.slots.insert(operation) as u32;
        Key { index, generation: self.generation }
    }

    fn get(&self, key: Key) -> Option<&Operation> {
        self.slots.get(key.index as usize).filter(|operation| operation.generation == key.generation)
    }

    pub fn get_mut(&mut self, key: Key) -> Option<&mut Operation> {
        self.slots.get_mut(key.index as usize).filter(|operation| operation.generation == key.generation)
    }

    /// Takes an operation out. `at_once`: how many peers at a time get a value.
    pub fn remove(&mut self, key: Key, at_once: usize) -> Option<Operation> {
        self.get_mut(key)?;
        let operation = self.slots.remove(key.index as usize);
        if let Task::Storing(Storing { value, admitted: true, .. }) = &operation.task {
            self.under_way -= value.len() * at_once;
        }
        Some(operation)
    }

    /// Lines an operation up whose value is to be given to its holders.
    pub fn line_up(&mut self, key: Key) {
        self.waiting.push_back(key);
    }

    /// The next operation that may give its value away, so that no more than `room` bytes
    /// are under way, or a single value.
    pub fn admit(&mut self, at_once: usize, room: usize) -> Option<Key> {
        while let Some(&key) = self.waiting.front() {
            let under_way = self.under_way;
            if let Some(Operation { task: Task::Storing(storing), .. }) = self.get_mut(key) {
                let Storing { value, admitted, .. } = storing;
                let cost = value.len() * at_once;
                if under_way > 0 && under_way + cost > room {
                    return None;
                }
                *admitted = true;
                self.under_way += cost;
                self.waiting.pop_front();
                return Some(key);
            }
            // It has ended meanwhile.
            self.waiting.pop_front();
        }
        None
    }

    /// All of them, in the order of their places.
    pub fn keys(&self) -> Vec<Key> {
        let key = |(index, operation): (usize, &Operation)| Key {
            index: index as u32,
            generation: operation.generation,
        };
        self.slots.iter().map(key).collect()
    }

    /// The request that the operation makes of each peer now; `None` when it is
    /// over, or waits for something else.
    pub fn method(&self, key: Key, now: UnixTime) -> Option<Method<'_>> {
        self.get(key)?.task.method(now)
    }

    /// Whether it asks its peers for nodes.
    pub fn asks_for_nodes(&self, key: Key) -> bool {
        let task = self.get(key).map(|operation| &operation.task);
        let method = task.and_then(|task| task.method(UnixTime(0)));
        method.is_some_and(|method| method.name() == "find_node")
    }

    /// Whether it still waits for what becomes of a request to this contact.
    pub fn waits_for(&self, key: Key, contact: &Contact) -> bool {
        self.get(key).is_some_and(|operation| operation.task.waits_for(contact))
    }

    /// The request for more values that the operation makes of this contact now.
    pub fn page(&self, key: Key, contact: &Contact) -> Option<Method<'_>> {
        match &self.get(key)?.task {
            Task::Values { lookup, pages, .. } => {
                let place = pages.place(contact)?;
                Some(Method::FindValue { key: *lookup.target(), from: Some(place) })
            }
            _ => None,
        }
    }

    /// The request for nodes near to what the operation looks for.
    pub fn neighbours(&self, key: Key) -> Option<Method<'_>> {
        match &self.get(key)?.task {
            Task::Values { lookup, .. } => Some(Method::FindNode { target: *lookup.target() }),
            _ => None,
        }
    }
}

impl Task {
    /// `now`: the time by the clock for values, from which the age of one follows.
    pub fn method(&self, now: UnixTime) -> Option<Method<'_>> {
        match self {
            Task::Contact => None,
            Task::Checking(check) => Some(check.method()),
            Task::Handing { key, value, stored, ends, .. } => {
                let life = ends.map(|ends| life_on_arrival(ends, now));
                Some(Method::HandOn { key: *key, value, age: age_on_arrival(*stored, now), life })
            }
            Task::Storing(Storing { key, value, life, .. }) => {
                Some(Method::StoreValue { key: *key, value, life: *life })
            }
            Task::Nodes(lookup)
            | Task::Values { lookup, .. }
            | Task::Finding { lookup, .. }
            | Task::Refresh(lookup) => Some(match lookup.goal() {
                Goal::Values => Method::FindValue { key: *lookup.target(), from: None },
                Goal::Closest | Goal::Exact => Method::FindNode { target: *lookup.target() },
            }),
        }
    }

    /// Whether the operation still waits for what becomes of a request to this contact: not
    /// if that belongs to a lookup that is over, or the peer was asked elsewhere since.
    pub fn waits_for(&self, contact: &Contact) -> bool {
        match self {
            Task::Storing(Storing { publish, .. }) | Task::Handing { publish, .. } => {
                publish.is_holder(contact)
            }
            Task::Nodes(lookup)
            | Task::Values { lookup, .. }
            | Task::Finding { lookup, .. }
            | Task::Refresh(lookup) => lookup.was_last_asked_at(contact),
            Task::Checking(check) => check.lookup.was_last_asked_at(contact),
            Task::Contact => true,
        }
    }

    /// What the operation's lookup took so far.
    pub fn effort(&self) -> Effort {
        match self {
            Task::Nodes(lookup)
            | Task::Values { lookup, .. }
            | Task::Finding { lookup, .. }
            | Task::Refresh(lookup) => lookup.into(),
            Task::Checking(check) => (&check.lookup).into(),
            Task::Storing(storing) => storing.found,
            Task::Contact | Task::Handing { .. } => Effort::default(),
        }
    }

    /// Where values are being given away.
    pub fn publish_mut(&mut self) -> Option<&mut Publish> {
        match self {
            Task::Storing(Storing { publish, .. }) | Task::Handing { publish, .. } => Some(publish),
            _ => None,
        }
    }

    pub fn lookup_mut(&mut self) -> Option<&mut Lookup> {
        match self {
            Task::Nodes(lookup)
            | Task::Values { lookup, .. }
            | Task::Finding { lookup, .. }
            | Task::Refresh(lookup) => Some(lookup),
            Task::Checking(check) => Some(&mut check.lookup),
            Task::Contact | Task::Storing(_) | Task::Handing { .. } => None,
        }
    }

    /// How an operation at this ends when it fails; `None`: nobody waits for it.
    pub fn failure(&self, error: OperationError) -> Option<Outcome> {
        match self {
            Task::Contact => Some(Outcome::Contact(Err(error))),
            Task::Nodes(_) => Some(Outcome::Nodes(Err(error))),
            Task::Values { .. } => Some(Outcome::ValuesEnd(Err(error))),
            Task::Refresh(_) | Task::Storing(Storing { told: true, .. }) => None,
            Task::Finding { .. } | Task::Storing(_) => Some(Outcome::Stored(Err(error))),
            Task::Checking(_) | Task::Handing { .. } => None,
        }
    }
}
