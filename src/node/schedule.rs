//! When a node looks after which key, and which value of its owner's it renews when.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::id::Id;

/// For how many intervals a check may be put off because others have done it. Without an end,
/// who sends offers and hands nothing on could keep the holders from it for good; with one
/// that comes sooner, each of K holders would ask before it is its turn.
pub const MAX_POSTPONED: u32 = 4;
/// How many keys are looked at when one more comes, whether they are of use still.
const SWEPT_AT_ONCE: usize = 4;

/// The keys that a node looks after. Times are whole seconds on the core's clock: what it
/// keeps for each key, about 90 bytes, stands in ordered trees, and nothing is ever gone
/// over to find what is due.
#[derive(Debug, Default)]
pub struct Checks {
    keys: BTreeMap<Id, Check>,
    by_due: BTreeSet<(u32, Id)>,
    /// The key that [`forget_some`](Self::forget_some) came to last.
    swept: Option<Id>,
    /// Where the values of a key go on that are to be offered next, if it had more than one
    /// offer takes.
    marks: BTreeMap<Id, Id>,
}

/// The next look after a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check {
    /// When it is due.
    pub due: u32,
    /// When it is due at the latest, however often it is put off.
    pub latest: u32,
    /// How many seconds there are between two checks, at the most, when nobody else does any.
    pub interval: u16,
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

    /// A key that is looked after now is due again then.
    pub fn set(&mut self, key: Id, now: u32, due: u32, interval: u16) {
        let latest = now.saturating_add(MAX_POSTPONED * u32::from(interval)).max(due);
        self.insert(key, Check { due, latest, interval });
    }

    /// Somebody else has seen to a key: it is due only then, and never before it was; but no
    /// later than [`MAX_POSTPONED`] intervals after it was [`set`](Self::set).
    pub fn postpone(&mut self, key: &Id, due: u32) {
        if let Some(check) = self.get(key)
            && check.due < due.min(check.latest)
        {
            self.insert(*key, Check { due: due.min(check.latest), ..check });
        }
    }

    /// A key is looked after no more.
    pub fn remove(&mut self, key: &Id) {
        if let Some(check) = self.keys.remove(key) {
            self.by_due.remove(&(check.due, *key));
            self.marks.remove(key);
        }
    }

    /// The digest from which on the values of a key are to be offered next; `None`: anywhere.
    pub fn mark(&self, key: &Id) -> Option<Id> {
        self.marks.get(key).copied()
    }

    /// The values of a key that is looked after are to be offered from this digest on.
    pub fn set_mark(&mut self, key: &Id, digest: Option<Id>) {
        match digest.filter(|_| self.keys.contains_key(key)) {
            Some(digest) => drop(self.marks.insert(*key, digest)),
            None => drop(self.marks.remove(key)),
        }
    }

    /// Looks at a few keys, others each time, and forgets those that are not of use any more. So
    /// there are never many of these, however fast others make keys come and go: a look at what
    /// is due comes too late for that.
    pub fn forget_some(&mut self, is_of_use: impl Fn(&Id) -> bool) {
        let after = self.swept.map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.keys.range((after, Bound::Unbounded)).take(SWEPT_AT_ONCE).map(|(key, _)| *key);
        let next: Vec<Id> = next.collect();
        self.swept = next.get(SWEPT_AT_ONCE - 1).copied();
        for key in next.iter().filter(|key| !is_of_use(key)) {
            self.remove(key);
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
