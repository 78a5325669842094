//! What a peer of 2003 does to find nodes and values, and to store.

use super::table::K;
use crate::contact::Contact;
use crate::id::{Distance, Id};

/// Requests of one operation that are under way at once.
const CONCURRENT: usize = 4;
/// How many nodes are to have a value.
const REDUNDANCY: usize = 3;

/// What a search is for.
#[derive(Debug)]
pub(super) enum Goal {
    Nodes,
    /// Nodes that are to be given this value.
    Store(Vec<u8>),
    /// Values; those that have been told.
    Values(Vec<Vec<u8>>),
}

#[derive(Debug)]
struct Candidate {
    distance: Distance,
    contact: Contact,
    asked: bool,
}

/// A search. It asks the nearest nodes it has heard of, and those that fail keep their places.
#[derive(Debug)]
pub(super) struct Search {
    own: Id,
    pub target: Id,
    pub goal: Goal,
    /// The K nearest: no other can ever be among them again.
    nearest: Vec<Candidate>,
    pub outstanding: usize,
}

impl Search {
    pub fn new(own: Id, target: Id, goal: Goal, start: Vec<Contact>) -> Self {
        let mut search = Search { own, target, goal, nearest: Vec::with_capacity(K + 1), outstanding: 0 };
        start.into_iter().filter(|contact| contact.id != own).for_each(|contact| search.offer(contact));
        search
    }

    pub fn offer(&mut self, contact: Contact) {
        let distance = contact.id.distance(&self.target);
        if let Err(at) = self.nearest.binary_search_by_key(&distance, |candidate| candidate.distance) {
            self.nearest.insert(at, Candidate { distance, contact, asked: false });
            self.nearest.truncate(K);
        }
    }

    /// Puts those who are to be asked now into `ask`; with the nodes found, when it is over.
    pub fn schedule(&mut self, ask: &mut Vec<Contact>) -> Option<Vec<Contact>> {
        let for_nodes = !matches!(self.goal, Goal::Values(_));
        for candidate in &mut self.nearest {
            if for_nodes && candidate.contact.id == self.target {
                return Some(vec![candidate.contact]);
            }
            if !candidate.asked && candidate.contact.id != self.own {
                candidate.asked = true;
                self.outstanding += 1;
                ask.push(candidate.contact);
            }
            if self.outstanding >= CONCURRENT {
                break;
            }
        }
        (self.outstanding == 0).then(|| self.nearest.iter().map(|candidate| candidate.contact).collect())
    }
}

/// Giving a value to nodes that were found: by a slip, to the farthest first.
#[derive(Debug)]
pub(super) struct Storing {
    own: Id,
    pub key: Id,
    pub value: Vec<u8>,
    /// Nearest first.
    nodes: Vec<Contact>,
    outstanding: usize,
    pub stored: usize,
}

impl Storing {
    pub fn new(own: Id, key: Id, value: Vec<u8>, nodes: Vec<Contact>) -> Self {
        Storing { own, key, value, nodes, outstanding: 0, stored: 0 }
    }

    /// Puts those who are to be asked now into `ask`. Whether it is over.
    pub fn schedule(&mut self, ask: &mut Vec<Contact>) -> bool {
        for _ in 0..CONCURRENT.saturating_sub(self.outstanding).min(REDUNDANCY) {
            match self.nodes.pop() {
                // Itself it passes over, and keeps nothing.
                Some(node) if node.id == self.own => {}
                Some(node) => {
                    self.outstanding += 1;
                    ask.push(node);
                }
                None if self.outstanding == 0 => return true,
                None => {}
            }
        }
        false
    }

    /// One has answered. Whether it is over.
    pub fn accepted(&mut self, ask: &mut Vec<Contact>) -> bool {
        self.outstanding = self.outstanding.saturating_sub(1);
        self.stored += 1;
        if self.stored >= REDUNDANCY {
            return true;
        }
        self.stored + self.outstanding < REDUNDANCY && self.schedule(ask)
    }

    /// One has failed. Whether it is over.
    pub fn failed(&mut self, ask: &mut Vec<Contact>) -> bool {
        self.outstanding = self.outstanding.saturating_sub(1);
        self.schedule(ask)
    }
}
