//! What each block of addresses has under a key, for keys that have more than one block may: there
//! nobody is to take the room of all others.
//!
//! Keys with less need no such count, since no block can have more than the key has. It is made from
//! the key's rows when somebody stores more than that under it, and follows every change from
//! then on, until the key has much less. A value takes 35 bytes of it at the most, that is where each is of
//! another block, and the key 130; but only a key with many values has one, and those share what
//! [`VALUE_OVERHEAD`](super::VALUE_OVERHEAD) allows each for its key's counters and its next
//! check.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use crate::contact::block;
use crate::id::Id;

/// A key with fewer values is counted anew each time.
pub(super) const FEW: u32 = 16;

/// What blocks have under keys.
#[derive(Debug, Default)]
pub(super) struct Shares {
    keys: HashMap<Id, Crowd>,
}

/// What blocks have under one key.
#[derive(Debug)]
pub(super) struct Crowd {
    /// None of its values expires before, by the node's clock: until then none is looked for.
    pub first_end: i64,
    /// Values and bytes.
    blocks: BTreeMap<u64, (u64, u64)>,
}

impl Default for Crowd {
    fn default() -> Self {
        Crowd { first_end: i64::MAX, blocks: BTreeMap::new() }
    }
}

impl Crowd {
    pub fn add(&mut self, sender: IpAddr, bytes: u64) {
        let (values, held) = self.blocks.entry(block(sender)).or_default();
        *values = values.saturating_add(1);
        *held = held.saturating_add(bytes);
    }

    fn remove(&mut self, sender: IpAddr, bytes: u64) {
        let block = block(sender);
        if let Some((values, held)) = self.blocks.get_mut(&block) {
            *values = values.saturating_sub(1);
            *held = held.saturating_sub(bytes);
            if *values == 0 {
                self.blocks.remove(&block);
            }
        }
    }
}

impl Shares {
    pub fn insert(&mut self, key: Id, crowd: Crowd) {
        self.keys.insert(key, crowd);
    }

    pub fn get_mut(&mut self, key: &Id) -> Option<&mut Crowd> {
        self.keys.get_mut(key)
    }

    pub fn get(&self, key: &Id) -> Option<&Crowd> {
        self.keys.get(key)
    }

    /// How many values the block of an address has under a key, and how many bytes, if that is
    /// counted.
    pub fn held(&self, key: &Id, sender: IpAddr) -> Option<(u64, u64)> {
        let crowd = self.keys.get(key)?;
        Some(crowd.blocks.get(&block(sender)).copied().unwrap_or_default())
    }

    pub fn add(&mut self, key: &Id, sender: IpAddr, bytes: u64) {
        if let Some(crowd) = self.keys.get_mut(key) {
            crowd.add(sender, bytes);
        }
    }

    pub fn remove(&mut self, key: &Id, sender: IpAddr, bytes: u64) {
        if let Some(crowd) = self.keys.get_mut(key) {
            crowd.remove(sender, bytes);
        }
    }

    /// The key has so little that it need not be counted.
    pub fn forget(&mut self, key: &Id) {
        if self.keys.remove(key).is_some() && self.keys.len() < self.keys.capacity() / 4 {
            self.keys.shrink_to_fit();
        }
    }

    pub fn len(&self) -> usize {
        self.keys.len()
    }
}
