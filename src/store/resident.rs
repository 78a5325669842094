//! One node's place in a database.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;

use super::clock::SavedClock;
use super::refusal::Refusal;
use super::senders::Senders;
use super::shares::{Crowd, FEW, Shares};
use crate::config::{Config, WhenFull};
use crate::contact::block;
use crate::id::Id;
use crate::time::UnixTime;

/// What a value counts for beside its own length, in bytes: its row, the row's
/// entries in two indices, the key's counters, and when the key is looked after, rounded
/// up. Measured in memory with 100,000 keys of one value each from 1,000 addresses: 260 for
/// a value of 1 byte, 282 for one of 100 (65 more where values make room for others). The
/// key's next check takes about 90, by the size of its entries. In a file with 40,000 values of
/// 1 byte it was 160 on the disk and 108 in memory. Without it a flood of tiny values would
/// take hundreds of times the memory that the limit seems to allow.
pub const VALUE_OVERHEAD: u64 = 384;

/// How much a node may hold. All bytes are counted with [`VALUE_OVERHEAD`] for each value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Values under one key.
    pub max_values_per_key: usize,
    /// Bytes under one key.
    pub max_bytes_per_key: u64,
    /// Values under one key from one block of addresses.
    pub max_values_per_key_and_block: usize,
    /// Bytes under one key from one block of addresses.
    pub max_bytes_per_key_and_block: u64,
    /// Bytes in all.
    pub max_stored_bytes: u64,
    /// Values in all.
    pub max_stored_values: u64,
    /// Bytes from one address.
    pub max_bytes_per_address: u64,
    /// Bytes from one block of addresses.
    pub max_bytes_per_block: u64,
    /// Whether all that is said of addresses goes for those of loopback, too.
    pub limit_loopback: bool,
    /// What becomes of one more value when there are as many as there may be.
    pub when_full: WhenFull,
    /// Bytes in all of what the owner stored and the node renews.
    pub max_renewed_bytes: u64,
}

impl From<&Config> for Limits {
    fn from(config: &Config) -> Self {
        Limits {
            max_values_per_key: config.max_values_per_key,
            max_bytes_per_key: config.max_bytes_per_key,
            max_values_per_key_and_block: config.max_values_per_key_and_block,
            max_bytes_per_key_and_block: config.max_bytes_per_key_and_block,
            max_stored_bytes: config.max_stored_bytes,
            max_stored_values: config.max_stored_values,
            max_bytes_per_address: config.max_bytes_per_address,
            max_bytes_per_block: config.max_bytes_per_block,
            limit_loopback: config.limit_loopback,
            when_full: config.when_full,
            max_renewed_bytes: config.max_renewed_bytes,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits::from(&Config::default())
    }
}

/// What became of a value that was to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is new, and stored.
    Added,
    /// It was there already, and expires at the later of the two times, or when it would have if
    /// that makes hardly a difference; see [`Database::put`](super::Database::put).
    Renewed {
        /// When it expires, by the node's clock.
        until: UnixTime,
    },
    /// It is not stored.
    Refused(Refusal),
}

/// A value that is counted: its key, its length, and who stored it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counted {
    pub key: Id,
    pub length: u64,
    pub sender: Option<IpAddr>,
}

/// What is done to the totals, for taking it back when the writes are undone.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    Added(Counted),
    Removed(Counted),
    /// Removed, to make room.
    Displaced(Counted),
    /// It counts for somebody else from now on.
    PaidBy(Counted, Option<IpAddr>),
    Published(u64),
    Withdrawn(u64),
}

/// How many values a key has, and their bytes in halves: so an entry takes 32 bytes, not 40.
#[derive(Clone, Copy, Debug, Default)]
struct UnderKey {
    count: u32,
    bytes: [u32; 2],
}

impl UnderKey {
    fn bytes(self) -> u64 {
        u64::from(self.bytes[1]) << 32 | u64::from(self.bytes[0])
    }

    fn set_bytes(&mut self, bytes: u64) {
        self.bytes = [bytes as u32, (bytes >> 32) as u32];
    }
}

/// One node's place in a [`Database`](super::Database), and what it must know of
/// its values without asking. Belongs to the node; works with the database that
/// made it and with no other. About 260 bytes, 40 to 70 for each key that
/// has values, and 70 to 140 for each address that has stored any.
#[derive(Debug)]
pub struct Resident {
    /// The node's row.
    pub(super) number: i64,
    id: Id,
    pub(super) limits: Limits,
    /// Which of the database's rollbacks the totals already account for.
    pub(super) rollbacks: u64,
    /// The number of this run.
    pub(super) run: i64,
    /// When a value was last stored, as of the start.
    pub(super) newest: i64,
    /// The first run of whose values there are any, as of the start.
    pub(super) oldest_run: i64,
    values: u64,
    bytes: u64,
    /// Of what the owner stored, how many values, and their bytes.
    published: u64,
    published_bytes: u64,
    /// How many values made room for others.
    displaced: u64,
    /// What each key has; keys without any values are not in it. A hash table of a million keys
    /// would hold the loop up for tens of milliseconds whenever it grows.
    keys: BTreeMap<Id, UnderKey>,
    /// Who stored how much; nothing while nobody has.
    senders: Option<Box<Senders>>,
    /// What each block has of keys that have much; nothing while none has.
    shares: Option<Box<Shares>>,
}

impl Resident {
    pub(super) fn new(number: i64, id: Id, run: i64, limits: Limits, rollbacks: u64) -> Self {
        Resident {
            number,
            id,
            limits,
            rollbacks,
            run,
            newest: i64::MIN,
            oldest_run: i64::MAX,
            values: 0,
            bytes: 0,
            published: 0,
            published_bytes: 0,
            displaced: 0,
            keys: BTreeMap::new(),
            senders: None,
            shares: None,
        }
    }

    /// The node's id.
    pub fn id(&self) -> Id {
        self.id
    }

    /// The number of this run, and when a value was last stored before it.
    pub fn run(&self) -> (i64, UnixTime) {
        (self.run, UnixTime(self.newest))
    }

    /// What is known of the clock from earlier runs, as far as it matters: what was in doubt is
    /// not when none of it is left. (Else it would be so again for all values stored since, as soon
    /// as something else is in doubt.)
    pub fn clock_of(&self, saved: Option<SavedClock>) -> Option<SavedClock> {
        // It may never have been saved: values were stored all the same.
        let (clock, wall) = (UnixTime(self.newest), UnixTime(self.newest));
        let newest = (self.newest > i64::MIN).then_some(SavedClock { clock, wall, doubt: 0, doubted: 0 });
        let saved = saved.or(newest)?;
        let is_settled = self.oldest_run >= saved.doubted;
        Some(if is_settled { SavedClock { doubt: 0, ..saved } } else { saved })
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

    /// How many bytes the address holds, and how many its block.
    pub fn bytes_from(&self, sender: IpAddr) -> (u64, u64) {
        self.senders.as_ref().map_or((0, 0), |senders| senders.held(sender))
    }

    /// How many values made room for others since the node was started.
    pub fn displaced(&self) -> u64 {
        self.displaced
    }

    /// How many values are renewed.
    pub fn published(&self) -> u64 {
        self.published
    }

    /// How many values the key has, expired ones that were not deleted yet included.
    pub fn values_of(&self, key: &Id) -> usize {
        self.keys.get(key).map_or(0, |under_key| under_key.count as usize)
    }

    /// Whether one more value of `length` bytes from there would be taken. (A store that makes
    /// room may refuse it all the same.)
    pub fn has_room(&self, key: &Id, length: usize, sender: Option<IpAddr>) -> bool {
        let length = length as u64;
        self.refusal(key, length, sender).is_none()
            && (self.limits.when_full == WhenFull::MakeRoom || !self.is_full_for(length))
    }

    /// Whether one more value of `length` bytes from there could count for its sender.
    pub fn may_pay(&self, key: &Id, length: usize, sender: Option<IpAddr>) -> bool {
        self.refusal_of_sender(key, length as u64, sender, None).is_none()
    }

    /// Whether one more value of that length can be renewed.
    pub(super) fn may_publish(&self, length: u64) -> bool {
        self.published_bytes.saturating_add(charge(length)) <= self.limits.max_renewed_bytes
    }

    /// Whether the key has any value, expired or not.
    pub fn has(&self, key: &Id) -> bool {
        self.keys.contains_key(key)
    }

    /// By how many bytes, and how many values, one more of that length would be too much.
    pub(super) fn excess(&self, length: u64) -> (u64, u64) {
        let bytes = self.bytes.saturating_add(charge(length));
        let values = self.values.saturating_add(1);
        let Limits { max_stored_bytes, max_stored_values, .. } = self.limits;
        (bytes.saturating_sub(max_stored_bytes), values.saturating_sub(max_stored_values))
    }

    /// Whether one more of that length would be too much.
    pub(super) fn is_full_for(&self, length: u64) -> bool {
        self.excess(length) != (0, 0)
    }

    /// Why one more value of that length is refused, however much room there is in all.
    pub(super) fn refusal(&self, key: &Id, length: u64, sender: Option<IpAddr>) -> Option<Refusal> {
        let Limits { max_values_per_key, max_bytes_per_key, .. } = self.limits;
        let under_key = self.keys.get(key).copied().unwrap_or_default();
        // The counter is 32 bits wide, so that is a limit too.
        if under_key.count >= u32::try_from(max_values_per_key).unwrap_or(u32::MAX) {
            return Some(Refusal::KeyValues { limit: max_values_per_key });
        }
        if under_key.bytes().saturating_add(charge(length)) > max_bytes_per_key {
            return Some(Refusal::KeyBytes { limit: max_bytes_per_key });
        }
        self.refusal_of_sender(key, length, sender, None)
    }

    /// Why a value of that length cannot count for the sender. `payer`: whom it counts for now.
    pub(super) fn refusal_of_sender(
        &self,
        key: &Id,
        length: u64,
        sender: Option<IpAddr>,
        payer: Option<IpAddr>,
    ) -> Option<Refusal> {
        let limits = &self.limits;
        let charge = charge(length);
        let is_limited = |sender: &IpAddr| limits.limit_loopback || !sender.to_canonical().is_loopback();
        let sender = sender.filter(is_limited)?;
        let (of_address, of_block) = self.bytes_from(sender);
        if of_address.saturating_add(charge) > self.limits.max_bytes_per_address {
            return Some(Refusal::AddressBytes { limit: self.limits.max_bytes_per_address });
        }
        if payer.is_some_and(|payer| block(payer) == block(sender)) {
            return None;
        }
        let (values, bytes) = self.share_of(key, sender).unwrap_or_default();
        if values >= u64::try_from(limits.max_values_per_key_and_block).unwrap_or(u64::MAX) {
            return Some(Refusal::BlockKeyValues { limit: limits.max_values_per_key_and_block });
        }
        if bytes.saturating_add(charge) > limits.max_bytes_per_key_and_block {
            return Some(Refusal::BlockKeyBytes { limit: limits.max_bytes_per_key_and_block });
        }
        if of_block.saturating_add(charge) > limits.max_bytes_per_block {
            return Some(Refusal::BlockBytes { limit: limits.max_bytes_per_block });
        }
        None
    }

    /// How many values the block of an address has under a key, and how many bytes, where that is
    /// counted: where it may be too much.
    pub fn share_of(&self, key: &Id, sender: IpAddr) -> Option<(u64, u64)> {
        self.shares.as_ref()?.held(key, sender)
    }

    /// How many keys have so much that it is counted what each block has of it.
    pub fn crowded_keys(&self) -> usize {
        self.shares.as_ref().map_or(0, |shares| shares.len())
    }

    /// Whether somebody may have too much of a key with one more value of that length, or the key
    /// itself, and shares are not known.
    pub(super) fn lacks_shares(&self, key: &Id, length: u64) -> bool {
        let (values, bytes) = self.crowded_from();
        let Some(under_key) = self.keys.get(key) else { return false };
        let is_crowded =
            under_key.count as usize >= values || under_key.bytes().saturating_add(charge(length)) > bytes;
        is_crowded && self.crowd(key).is_none()
    }

    /// With more values than this, or bytes, somebody may have too much of a key.
    fn crowded_from(&self) -> (usize, u64) {
        let limits = &self.limits;
        let values = limits.max_values_per_key_and_block.min(limits.max_values_per_key);
        (values, limits.max_bytes_per_key_and_block.min(limits.max_bytes_per_key))
    }

    pub(super) fn set_shares(&mut self, key: &Id, crowd: Crowd) {
        self.shares.get_or_insert_default().insert(*key, crowd);
    }

    pub(super) fn crowd(&self, key: &Id) -> Option<&Crowd> {
        self.shares.as_ref()?.get(key)
    }

    pub(super) fn crowd_mut(&mut self, key: &Id) -> Option<&mut Crowd> {
        self.shares.as_mut()?.get_mut(key)
    }

    /// Forgets the shares of a key that has far too little for them to matter.
    pub(super) fn forget_needless_shares(&mut self, key: &Id) {
        let (values, bytes) = self.crowded_from();
        let Some(shares) = &mut self.shares else { return };
        let under_key = self.keys.get(key).copied().unwrap_or_default();
        let has_little = (under_key.count as usize) < values / 2 && under_key.bytes() < bytes / 2;
        if under_key.count < FEW || has_little {
            shares.forget(key);
            if shares.len() == 0 {
                self.shares = None;
            }
        }
    }

    /// Blocks of addresses and what they hold, from that which holds most on.
    pub(super) fn blocks_by_size(&self) -> impl Iterator<Item = (u64, u64)> {
        self.senders.iter().flat_map(|senders| senders.largest())
    }

    /// What the block of an address holds.
    pub(super) fn of_block(&self, sender: IpAddr) -> u64 {
        self.senders.as_ref().map_or(0, |senders| senders.of_block(block(sender)))
    }

    /// Follows a change.
    pub(super) fn follow(&mut self, change: &Change) {
        match change {
            Change::Added(value) => self.add(value),
            Change::Removed(value) => self.remove(value),
            Change::Displaced(value) => {
                self.remove(value);
                self.displaced = self.displaced.saturating_add(1);
            }
            Change::PaidBy(value, payer) => {
                self.uncharge(value);
                self.charge(&Counted { sender: *payer, ..*value });
            }
            Change::Published(length) => self.add_published(*length),
            Change::Withdrawn(length) => self.remove_published(*length),
        }
    }

    /// Takes a change back.
    pub(super) fn undo(&mut self, change: &Change) {
        match change {
            Change::Added(value) => self.remove(value),
            Change::Removed(value) => self.add_again(value),
            Change::Displaced(value) => {
                self.add_again(value);
                self.displaced = self.displaced.saturating_sub(1);
            }
            Change::PaidBy(value, payer) => {
                self.uncharge(&Counted { sender: *payer, ..*value });
                self.charge(value);
            }
            Change::Published(length) => self.remove_published(*length),
            Change::Withdrawn(length) => self.add_published(*length),
        }
    }

    fn add_published(&mut self, length: u64) {
        self.published = self.published.saturating_add(1);
        self.published_bytes = self.published_bytes.saturating_add(charge(length));
    }

    fn remove_published(&mut self, length: u64) {
        self.published = self.published.saturating_sub(1);
        self.published_bytes = self.published_bytes.saturating_sub(charge(length));
    }

    fn add(&mut self, value: &Counted) {
        let bytes = charge(value.length);
        let under_key = self.keys.entry(value.key).or_default();
        under_key.count = under_key.count.saturating_add(1);
        under_key.set_bytes(under_key.bytes().saturating_add(bytes));
        self.values = self.values.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
        self.charge(value);
    }

    /// Adds a value that had been removed; when it expires is not known.
    fn add_again(&mut self, value: &Counted) {
        self.add(value);
        if let Some(crowd) = self.crowd_mut(&value.key) {
            crowd.first_end = i64::MIN;
        }
    }

    /// Counts a value for its sender.
    fn charge(&mut self, value: &Counted) {
        let Some(sender) = value.sender else { return };
        let bytes = charge(value.length);
        let makes_room = self.limits.when_full == WhenFull::MakeRoom;
        self.senders.get_or_insert_with(|| Box::new(Senders::new(makes_room))).add(sender, bytes);
        if let Some(shares) = &mut self.shares {
            shares.add(&value.key, sender, bytes);
        }
    }

    fn uncharge(&mut self, value: &Counted) {
        let Some(sender) = value.sender else { return };
        let bytes = charge(value.length);
        if let Some(senders) = &mut self.senders {
            senders.remove(sender, bytes);
            if senders.is_empty() {
                self.senders = None;
            }
        }
        if let Some(shares) = &mut self.shares {
            shares.remove(&value.key, sender, bytes);
        }
    }

    fn remove(&mut self, value: &Counted) {
        let bytes = charge(value.length);
        if let Entry::Occupied(mut under_key) = self.keys.entry(value.key) {
            let left = under_key.get_mut();
            if left.count > 1 {
                left.count -= 1;
                left.set_bytes(left.bytes().saturating_sub(bytes));
            } else {
                under_key.remove();
            }
        }
        self.values = self.values.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        self.uncharge(value);
        self.forget_needless_shares(&value.key);
    }
}

/// What a value of that length counts for.
pub(super) fn charge(length: u64) -> u64 {
    length.saturating_add(VALUE_OVERHEAD)
}
