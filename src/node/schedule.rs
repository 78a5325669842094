//! When a node looks after which key, and which value of its owner's it renews when.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::Id;

/// How often in a row a check may be put off because others have done it. More, and who
/// sends offers without handing anything on could keep the holders from it for good.
pub const MAX_POSTPONED: u8 = 4;

/// The keys that a node looks after. Times are whole seconds on the core's clock: what it
/// keeps for each key, about 85 bytes, stands in ordered trees, and nothing is ever gone
/// over to find what is due.
#[derive(Debug, Default)]
pub struct Checks {
    keys: BTreeMap<Id, Check>,
    by_due: BTreeSet<(u32, Id)>,
}

/// The next look after a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check {
    /// When it is due.
    pub due: u32,
    /// How many seconds there are between two checks, at the most.
    pub interval: u16,
    /// How often in a row it was put off.
    pub postponed: u8,
}

impl Checks {
    /// The check of a key.
    pub fn get(&self, key: &Id) -> Option<Check> {
        self.keys.get(key).copied()
    }

    /// Which key is due first, and when.
    pub fn first(&self) -> Option<(u32, Id)> {
        self.by_due.first().copied()
    }

    /// A key is due then, and was not put off.
    pub fn set(&mut self, key: Id, due: u32, interval: u16) {
        self.insert(key, Check { due, interval, postponed: 0 });
    }

    /// Somebody else has seen to a key: it is due only then, unless that was said
    /// [`MAX_POSTPONED`] times in a row. Never makes it due before.
    pub fn postpone(&mut self, key: &Id, due: u32) {
        if let Some(check) = self.get(key)
            && check.postponed < MAX_POSTPONED
            && check.due < due
        {
            self.insert(*key, Check { due, postponed: check.postponed + 1, ..check });
        }
    }

    /// A key is looked after no more.
    pub fn remove(&mut self, key: &Id) {
        if let Some(check) = self.keys.remove(key) {
            self.by_due.remove(&(check.due, *key));
        }
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    fn insert(&mut self, key: Id, check: Check) {
        if let Some(before) = self.keys.insert(key, check) {
            self.by_due.remove(&(before.due, key));
        }
        self.by_due.insert((check.due, key));
    }
}

/// When each value of the owner's is renewed, by its number in the store.
#[derive(Debug, Default)]
pub struct Renewals {
    due: BTreeMap<i64, u32>,
    by_due: BTreeSet<(u32, i64)>,
}

impl Renewals {
    /// Which is due first, and when.
    pub fn first(&self) -> Option<(u32, i64)> {
        self.by_due.first().copied()
    }

    /// Whether the value of this number is renewed.
    pub fn contains(&self, number: i64) -> bool {
        self.due.contains_key(&number)
    }

    /// The value of this number is due then.
    pub fn set(&mut self, number: i64, due: u32) {
        if let Some(before) = self.due.insert(number, due) {
            self.by_due.remove(&(before, number));
        }
        self.by_due.insert((due, number));
    }

    /// It is renewed no more.
    pub fn remove(&mut self, number: i64) {
        if let Some(due) = self.due.remove(&number) {
            self.by_due.remove(&(due, number));
        }
    }
}
