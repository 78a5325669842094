//! One node's place in a database.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::config::Config;
use crate::id::Id;

/// What a value counts for beside its own length, in bytes: its row, the row's
/// entries in two indices, and the key's counter here, measured and rounded up.
/// Without it a flood of tiny values would take a hundred times the memory that
/// the limit seems to allow.
pub const VALUE_OVERHEAD: u64 = 192;

/// How much a node may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Values under one key.
    pub max_values_per_key: usize,
    /// Bytes in all, each value counted with [`VALUE_OVERHEAD`].
    pub max_stored_bytes: u64,
    /// Bytes in all of what the owner stored and the node renews, counted so, too.
    pub max_renewed_bytes: u64,
}

impl From<&Config> for Limits {
    fn from(config: &Config) -> Self {
        Limits {
            max_values_per_key: config.max_values_per_key,
            max_stored_bytes: config.max_stored_bytes,
            max_renewed_bytes: config.max_renewed_bytes,
        }
    }
}

/// What became of a value that was to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is new, and stored.
    Added,
    /// It was there already; its time is now the later of the two.
    Renewed,
    /// Refused: the key has as many values as a key may have.
    KeyFull,
    /// Refused: the node holds as many bytes as it may.
    StoreFull,
}

/// One node's place in a [`Database`](super::Database), and what it must know of
/// its values without asking. Belongs to the node; works with the database that
/// made it and with no other. About 150 bytes, and 30 to 60 for each key that
/// has values.
#[derive(Debug)]
pub struct Resident {
    /// The node's row.
    pub(super) number: i64,
    id: Id,
    limits: Limits,
    /// Which of the database's rollbacks the totals already account for.
    pub(super) rollbacks: u64,
    values: u64,
    bytes: u64,
    /// Of what the owner stored, how many values, and their bytes.
    published: u64,
    published_bytes: u64,
    /// How many values each key has; keys without any are not in it.
    keys: HashMap<Id, u32>,
}

impl Resident {
    pub(super) fn new(number: i64, id: Id, limits: Limits, rollbacks: u64) -> Self {
        Resident {
            number,
            id,
            limits,
            rollbacks,
            values: 0,
            bytes: 0,
            published: 0,
            published_bytes: 0,
            keys: HashMap::new(),
        }
    }

    /// The node's id.
    pub fn id(&self) -> Id {
        self.id
    }

    /// How many values the node holds, expired ones that were not deleted yet
    /// included.
    pub fn values(&self) -> u64 {
        self.values
    }

    /// How many keys have values.
    pub fn keys(&self) -> usize {
        self.keys.len()
    }

    /// What counts towards [`Limits::max_stored_bytes`], in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many values are renewed.
    pub fn published(&self) -> u64 {
        self.published
    }

    /// How many values the key has, expired ones that were not deleted yet included.
    pub fn values_of(&self, key: &Id) -> usize {
        self.keys.get(key).map_or(0, |&count| count as usize)
    }

    /// Whether the key has room for one more value of `length` bytes.
    pub fn has_room(&self, key: &Id, length: usize) -> bool {
        self.refusal(key, length as u64).is_none()
    }

    /// Whether one more value of that length can be renewed.
    pub(super) fn may_publish(&self, length: u64) -> bool {
        self.published_bytes.saturating_add(charge(length)) <= self.limits.max_renewed_bytes
    }

    /// Counts a value that is renewed from now on.
    pub(super) fn add_published(&mut self, length: u64) {
        self.published = self.published.saturating_add(1);
        self.published_bytes = self.published_bytes.saturating_add(charge(length));
    }

    /// Counts a value that is renewed no more.
    pub(super) fn remove_published(&mut self, length: u64) {
        self.published = self.published.saturating_sub(1);
        self.published_bytes = self.published_bytes.saturating_sub(charge(length));
    }

    /// Whether the key has any value, expired or not.
    pub(super) fn has(&self, key: &Id) -> bool {
        self.keys.contains_key(key)
    }

    /// Why there is no room for one more value of that length, if there is none.
    pub(super) fn refusal(&self, key: &Id, length: u64) -> Option<Put> {
        let under_key = self.keys.get(key).copied().unwrap_or(0);
        // The counter is 32 bits wide, so that is a limit too.
        let most = u32::try_from(self.limits.max_values_per_key).unwrap_or(u32::MAX);
        if under_key >= most {
            Some(Put::KeyFull)
        } else if self.bytes.saturating_add(charge(length)) > self.limits.max_stored_bytes {
            Some(Put::StoreFull)
        } else {
            None
        }
    }

    /// Counts a value that is now there.
    pub(super) fn add(&mut self, key: Id, length: u64) {
        let under_key = self.keys.entry(key).or_insert(0);
        *under_key = under_key.saturating_add(1);
        self.values = self.values.saturating_add(1);
        self.bytes = self.bytes.saturating_add(charge(length));
    }

    /// Counts a value that is there no more.
    pub(super) fn remove(&mut self, key: Id, length: u64) {
        if let Entry::Occupied(mut under_key) = self.keys.entry(key) {
            if *under_key.get() > 1 {
                *under_key.get_mut() -= 1;
            } else {
                under_key.remove();
            }
        }
        self.values = self.values.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(charge(length));
    }

    /// Gives back memory that the keys do not need any more.
    pub(super) fn shrink(&mut self) {
        if self.keys.len() < self.keys.capacity() / 4 {
            self.keys.shrink_to_fit();
        }
    }

    /// Forgets all totals, for a new count.
    pub(super) fn reset(&mut self) {
        self.keys.clear();
        self.values = 0;
        self.bytes = 0;
        self.published = 0;
        self.published_bytes = 0;
    }
}

fn charge(length: u64) -> u64 {
    length.saturating_add(VALUE_OVERHEAD)
}
