//! The routing table: the contacts of a node, in k-buckets around its own id
//! (Kademlia, sections 2.2 and 2.4).
//!
//! The table pings nobody: a full bucket is a return value, which names the
//! contact whose silence would make room.

mod bucket;

use std::time::Duration;

use rand::Rng;

pub use self::bucket::Entry;

use self::bucket::Bucket;
use crate::contact::Contact;
use crate::id::{ID_BITS, Id};
use crate::time::Time;

/// The contacts of one node.
///
/// Bucket i holds those that share exactly i leading bits with the node's own
/// id; the last one holds all that share more, too, and is the only one that
/// splits. So the table knows its own neighbourhood well, and of every other
/// part of the space at most `k` contacts.
#[derive(Debug)]
pub struct Table {
    own: Id,
    k: usize,
    len: usize,
    /// Never empty, at most [`ID_BITS`].
    buckets: Vec<Bucket>,
}

/// Whether there is room for a contact. See [`Table::room_for`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// It is known already, or bears the node's own id.
    Unwanted,
    /// It would be added.
    Free,
    /// Its bucket is full.
    Taken {
        /// The contact of that bucket that was heard of least recently.
        oldest: Contact,
        /// When that was; `None`: not in this run, it was saved by an earlier one.
        last_heard: Option<Time>,
    },
}

/// What a sign of life led to. See [`Table::heard`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It bears the node's own id: nothing changes.
    Own,
    /// It was in the table, and is the most recent of its bucket now. (A saved one
    /// of which nothing had been heard has its new address.)
    Known,
    /// It was added.
    Added,
    /// Its bucket is full: it waits for a place, as one of a few. When `oldest` turns out to
    /// be dead, [`Table::replace`] puts the newcomer in its stead.
    Full {
        /// The contact of that bucket that was heard of least recently.
        oldest: Contact,
        /// When that was; `None`: not in this run, it was saved by an earlier one.
        last_heard: Option<Time>,
    },
    /// The id is known under another address: nothing changes, since anybody may
    /// claim an id. When `known` turns out to be dead, [`Table::replace`] lets
    /// the node move.
    Moved {
        /// The contact as the table has it.
        known: Contact,
        /// When it was last heard of.
        last_heard: Time,
    },
}

/// What a failed request led to. See [`Table::note_failure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// No such contact, or under another address.
    Unknown,
    /// It stays; so many failures in a row.
    Kept(u8),
    /// That was one too many, or one is enough: another one has taken its place.
    Dropped,
}

impl Table {
    /// An empty table for the node `own`, with `k` contacts to a bucket (at
    /// least 1). Its one bucket counts as touched `now`.
    pub fn new(own: Id, k: usize, now: Time) -> Self {
        Table { own, k: k.max(1), len: 0, buckets: vec![Bucket::new(now)] }
    }

    /// The id of the node whose table this is.
    pub fn own(&self) -> &Id {
        &self.own
    }

    /// How many contacts there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many buckets there are, from 1 to 160.
    pub fn buckets(&self) -> usize {
        self.buckets.len()
    }

    /// All contacts by bucket, the one that shares least with the own id first;
    /// in a bucket, the one heard of least recently first.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.buckets.iter().flat_map(|bucket| bucket.entries())
    }

    /// Of each bucket the contact that was heard of last: a few, from all parts of the space.
    pub fn newest(&self) -> impl Iterator<Item = &Entry> {
        self.buckets.iter().filter_map(|bucket| bucket.entries().last())
    }

    /// What is known of the node `id`.
    pub fn get(&self, id: &Id) -> Option<&Entry> {
        self.buckets[self.index(id)].get(id)
    }

    /// Whether a contact with this id would be taken in, were it heard of now.
    pub fn room_for(&self, id: &Id) -> Room {
        if *id == self.own || self.get(id).is_some() {
            return Room::Unwanted;
        }
        // However often the last bucket is split, these stay in one with it.
        let depth = self.own.distance(id).leading_zeros();
        let entries = self.buckets[self.index(id)].entries().iter();
        let mut rivals =
            entries.filter(|entry| self.own.distance(&entry.contact.id).leading_zeros() == depth);
        match rivals.next() {
            Some(oldest) if 1 + rivals.count() >= self.k => {
                Room::Taken { oldest: oldest.contact, last_heard: oldest.last_heard() }
            }
            _ => Room::Free,
        }
    }

    /// Takes note of a sign of life of `contact`, which must be sure to have come
    /// from its address: an answer, or a request over a session that the other
    /// side has shown to receive on.
    pub fn heard(&mut self, contact: Contact, now: Time) -> Heard {
        if contact.id == self.own {
            return Heard::Own;
        }
        let index = self.index(&contact.id);
        match self.buckets[index].heard(&contact.id, contact.addr, now) {
            Some(Ok(())) => Heard::Known,
            Some(Err(known)) => Heard::Moved { known: known.contact, last_heard: known.since },
            None => self.add(Entry { contact, since: now, saved: false, failures: 0 }),
        }
    }

    /// Takes up a contact that an earlier run has saved, if there is room for it.
    /// It counts as one that was never heard of: any other makes it worth a ping.
    pub fn restore(&mut self, contact: Contact, now: Time) {
        if self.room_for(&contact.id) == Room::Free {
            self.add(Entry { contact, since: now, saved: true, failures: 0 });
        }
    }

    /// Adds an entry whose id is neither known nor our own.
    fn add(&mut self, entry: Entry) -> Heard {
        let mut index = self.index(&entry.contact.id);
        while self.buckets[index].len() >= self.k {
            if index + 1 < self.buckets.len() || !self.split() {
                let Some(&oldest) = self.buckets[index].entries().first() else { break };
                if !entry.saved {
                    self.buckets[index].stand_by(entry.contact, entry.since, self.k);
                }
                return Heard::Full { oldest: oldest.contact, last_heard: oldest.last_heard() };
            }
            index = self.index(&entry.contact.id);
        }
        self.buckets[index].push(entry, self.k);
        self.len += 1;
        Heard::Added
    }

    /// Takes note of a request that `contact` has left unanswered, and drops it
    /// with the `max_failures`th in a row; with the first one, if another contact waits for
    /// its place and `replaceable`: others answer, so that it is not our own network that is
    /// silent. Only when both its id and its address match. One that waits for a place
    /// itself no longer does.
    pub fn note_failure(&mut self, contact: &Contact, max_failures: u8, replaceable: bool) -> Failed {
        let index = self.index(&contact.id);
        if replaceable && self.buckets[index].standbys().any(|other| other == contact) {
            self.buckets[index].forget_standby(&contact.id);
        }
        let Some((bucket, at)) = self.find(contact) else { return Failed::Unknown };
        let failures = bucket.fail(at);
        if failures < max_failures && !(replaceable && bucket.has_standby()) {
            return Failed::Kept(failures);
        }
        self.take_out(index, at);
        Failed::Dropped
    }

    /// Drops `contact`, when both its id and its address match; whether it did.
    pub fn remove(&mut self, contact: &Contact) -> bool {
        let index = self.index(&contact.id);
        let Some((_, at)) = self.find(contact) else { return false };
        self.take_out(index, at);
        true
    }

    /// Takes a contact out; one that waits for a place gets it.
    fn take_out(&mut self, index: usize, at: usize) {
        let bucket = &mut self.buckets[index];
        let before = bucket.len();
        bucket.remove(at);
        bucket.fill(self.k);
        self.len = self.len + bucket.len() - before;
    }

    /// Whether somebody waits for a place in the bucket that `id` belongs into.
    pub fn has_standby_for(&self, id: &Id) -> bool {
        self.buckets[self.index(id)].has_standby()
    }

    /// Those who wait for a place, by bucket; in a bucket, the one that answered least
    /// recently first.
    pub fn standbys(&self) -> impl Iterator<Item = &Contact> {
        self.buckets.iter().flat_map(|bucket| bucket.standbys())
    }

    /// Drops all others at the address of `contact`: there is one node at an
    /// address, and it bears the id that it answered under last. Goes through the
    /// whole table.
    pub fn drop_others_at(&mut self, contact: &Contact) {
        for bucket in &mut self.buckets {
            let before = bucket.len();
            bucket.drop_others_at(contact);
            bucket.fill(self.k);
            self.len = self.len + bucket.len() - before;
        }
    }

    /// Puts `new`, just heard of, in the stead of `old`, which is dead. It may be
    /// the same node under another address.
    ///
    /// False, and nothing changes, when that no longer makes sense: `old` is gone
    /// or has moved, `new` is known by now, or a split has put them into
    /// different buckets. Then [`heard`](Self::heard) is the right call.
    pub fn replace(&mut self, old: &Contact, new: Contact, now: Time) -> bool {
        let same_bucket = self.index(&old.id) == self.index(&new.id);
        if !same_bucket || (old.id != new.id && self.room_for(&new.id) == Room::Unwanted) {
            return false;
        }
        let k = self.k;
        let Some((bucket, at)) = self.find(old) else { return false };
        bucket.remove(at);
        bucket.forget_standby(&new.id);
        bucket.push(Entry { contact: new, since: now, saved: false, failures: 0 }, k);
        true
    }

    /// Puts the `count` contacts nearest to `target` into `out`, nearest first,
    /// in place of what it held.
    ///
    /// Contacts that have left a request unanswered are passed over, as long as
    /// there are enough others; where they are needed they stand in their place
    /// by distance.
    pub fn nearest(&self, target: &Id, count: usize, out: &mut Vec<Contact>) {
        out.clear();
        self.collect(target, count, out, |entry| entry.failures == 0);
        if out.len() < count.min(self.len) {
            self.collect(target, count, out, |entry| entry.failures > 0);
            out.sort_unstable_by_key(|contact| contact.id.distance(target));
        }
    }

    /// Adds to `out` the `count` contacts nearest to `target` among those to `take`, nearest
    /// first.
    pub fn nearest_of(
        &self,
        target: &Id,
        count: usize,
        out: &mut Vec<Contact>,
        take: impl Fn(&Entry) -> bool,
    ) {
        let count = out.len().saturating_add(count);
        self.collect(target, count, out, take);
    }

    /// Whether the target lies so far off that there must be nodes which share more leading
    /// bits with it than this one: on this one's side of it alone there are more than a
    /// bucket holds.
    pub fn is_far(&self, target: &Id) -> bool {
        self.index(target) + 1 < self.buckets.len()
    }

    /// Takes note that a lookup for `target` has gone through its bucket.
    pub fn touch(&mut self, target: &Id, now: Time) {
        let index = self.index(target);
        self.buckets[index].touched = now;
    }

    /// A random id out of the bucket that no lookup has touched for longest, when
    /// that is at least `staleness`; `None` when no bucket is that stale. (A
    /// lookup for it refreshes the bucket: Kademlia, section 2.3.)
    pub fn stale(&self, now: Time, staleness: Duration, rng: &mut impl Rng) -> Option<Id> {
        let (index, bucket) = self.buckets.iter().enumerate().min_by_key(|(_, bucket)| bucket.touched)?;
        if bucket.touched + staleness > now {
            return None;
        }
        let mut shared = index;
        if index + 1 == self.buckets.len() {
            // Half of that bucket's range shares one bit more, a quarter two, …
            shared = (shared + rng.next_u64().leading_zeros() as usize).min(ID_BITS - 1);
        }
        Some(self.own.random_sharing(shared, rng))
    }

    /// When [`stale`](Self::stale) will next have an id to give.
    pub fn next_stale(&self, staleness: Duration) -> Time {
        let touched = self.buckets.iter().map(|bucket| bucket.touched).min();
        touched.unwrap_or_default() + staleness
    }

    /// Estimates how many nodes the network has, this one included.
    ///
    /// When others stand at random places and the `k`th nearest is at a share d
    /// of the space, there are (k - 1) / d of them: an estimate without bias, and
    /// with a relative standard error of 1/√(k - 2), or 0.4 for k = 8 (Beyer and
    /// others, *On synopses for distinct-value estimation*, 2007). With fewer than
    /// `k` contacts, they are taken to be all there are.
    pub fn network_size(&self) -> f64 {
        let known = self.len as f64 + 1.0;
        let mut nearest = Vec::with_capacity(self.k);
        self.nearest(&self.own, self.k, &mut nearest);
        match nearest.last() {
            Some(last) if nearest.len() == self.k => {
                let share = last.id.distance(&self.own).fraction();
                ((self.k - 1) as f64 / share + 1.0).max(known)
            }
            _ => known,
        }
    }

    /// The bucket that `id` belongs into.
    fn index(&self, id: &Id) -> usize {
        self.own.distance(id).leading_zeros().min(self.buckets.len() - 1)
    }

    fn find(&mut self, contact: &Contact) -> Option<(&mut Bucket, usize)> {
        let index = self.index(&contact.id);
        let bucket = &mut self.buckets[index];
        let at = bucket.position(contact)?;
        Some((bucket, at))
    }

    /// Splits the last bucket, unless there are as many as there can be.
    fn split(&mut self) -> bool {
        let last = self.buckets.len() - 1;
        if last + 1 >= ID_BITS {
            return false;
        }
        let own = self.own;
        let deeper = self.buckets[last].split_off(|id| own.distance(id).leading_zeros() > last);
        self.buckets.push(deeper);
        true
    }

    /// Adds to `out`, nearest first, the contacts nearest to `target` among those
    /// to `take`, until it holds `count`.
    fn collect(&self, target: &Id, count: usize, out: &mut Vec<Contact>, take: impl Fn(&Entry) -> bool) {
        let last = self.buckets.len() - 1;
        // The contacts of bucket i agree with the own id up to bit i, and not in
        // bit i. So where the target differs from the own id in bit i, all of them
        // are nearer to it than all of the buckets behind; where it does not, they
        // are all farther. That is an order of the buckets by distance.
        let differs = |&bit: &usize| {
            let (own, target) = (self.own.as_bytes(), target.as_bytes());
            (own[bit / 8] ^ target[bit / 8]) & (0x80 >> (bit % 8)) != 0
        };
        let nearer = (0..last).filter(|bit| differs(bit));
        let farther = (0..last).rev().filter(|bit| !differs(bit));
        for index in nearer.chain([last]).chain(farther) {
            if out.len() >= count {
                break;
            }
            let start = out.len();
            let entries = self.buckets[index].entries().iter();
            out.extend(entries.filter(|entry| take(entry)).map(|entry| entry.contact));
            out[start..].sort_unstable_by_key(|contact| contact.id.distance(target));
            out.truncate(count);
        }
    }
}
