//! The routing table of 2003: its buckets, and its slips.

use crate::contact::Contact;
use crate::id::{ID_BITS, ID_BYTES, Id};
use crate::random::Random;
use crate::time::Time;

/// Contacts in a bucket, and in an answer.
pub(super) const K: usize = 8;
/// How often a contact may be silent before it goes.
const MAX_FAILURES: u8 = 3;

#[derive(Debug)]
struct Entry {
    contact: Contact,
    /// When it last answered a ping, or was entered as one that had answered.
    last_seen: Option<Time>,
    failures: u8,
}

/// All ids that share the first `bits` bits with `lowest`.
#[derive(Debug)]
struct Bucket {
    lowest: Id,
    bits: usize,
    last_used: Time,
    entries: Vec<Entry>,
}

/// A full bucket's first contact.
#[derive(Clone, Copy, Debug)]
pub(super) struct Oldest {
    pub contact: Contact,
    pub last_seen: Option<Time>,
}

#[derive(Debug)]
pub(super) struct Table {
    own: Id,
    /// In ascending order of their ids; together they hold the whole space.
    buckets: Vec<Bucket>,
}

impl Bucket {
    fn holds(&self, id: &Id) -> bool {
        self.lowest.distance(id).leading_zeros() >= self.bits
    }

    fn position(&self, id: &Id) -> Option<usize> {
        self.entries.iter().position(|entry| entry.contact.id == *id)
    }
}

impl Table {
    pub fn new(now: Time, own: Id) -> Self {
        let all = Bucket { lowest: Id::new([0; ID_BYTES]), bits: 0, last_used: now, entries: Vec::new() };
        Table { own, buckets: vec![all] }
    }

    pub fn contacts(&self) -> impl Iterator<Item = Contact> {
        self.buckets.iter().flat_map(|bucket| &bucket.entries).map(|entry| entry.contact)
    }

    fn bucket_of(&self, id: &Id) -> usize {
        self.buckets.partition_point(|bucket| bucket.lowest <= *id).saturating_sub(1)
    }

    /// The contact with this id alone, or else the nearest of those in its bucket and, as long
    /// as there are too few, in the buckets on both sides.
    pub fn find(&self, id: &Id) -> Vec<Contact> {
        let middle = self.bucket_of(id);
        if let Some(at) = self.buckets[middle].position(id) {
            return vec![self.buckets[middle].entries[at].contact];
        }
        let mut found: Vec<Contact> = Vec::new();
        let mut gather = |bucket: &Bucket| {
            found.extend(bucket.entries.iter().map(|entry| entry.contact));
            found.len()
        };
        let mut count = gather(&self.buckets[middle]);
        let mut steps = 1;
        while count < K && (steps <= middle || middle + steps < self.buckets.len()) {
            for at in [middle.checked_sub(steps), Some(middle + steps)].into_iter().flatten() {
                count = self.buckets.get(at).map_or(count, &mut gather);
            }
            steps += 1;
        }
        found.sort_by_key(|contact| contact.id.distance(id));
        found.truncate(K);
        found
    }

    /// Enters a contact, if there is room. It does not keep the address of one that it has up
    /// to date. The first of a full bucket, whose place it could have.
    pub fn insert(&mut self, now: Time, contact: Contact, mut answered: bool) -> Option<Oldest> {
        if contact.id == self.own {
            return None;
        }
        loop {
            let at = self.bucket_of(&contact.id);
            let count = self.buckets.len();
            let bucket = &mut self.buckets[at];
            if let Some(place) = bucket.position(&contact.id) {
                if answered {
                    bucket.entries[place..].rotate_left(1);
                    bucket.last_used = now;
                }
                return None;
            }
            if bucket.entries.len() < K {
                let last_seen = answered.then_some(now);
                bucket.entries.push(Entry { contact, last_seen, failures: 0 });
                bucket.last_used = now;
                return None;
            }
            if !bucket.holds(&self.own) {
                let oldest = bucket.entries.first()?;
                return Some(Oldest { contact: oldest.contact, last_seen: oldest.last_seen });
            }
            if count >= ID_BITS {
                return None;
            }
            self.split(now, at);
            // After a split it takes every contact for one that has answered.
            answered = true;
        }
    }

    fn split(&mut self, now: Time, at: usize) {
        let lower = &mut self.buckets[at];
        let mut middle = *lower.lowest.as_bytes();
        middle[lower.bits / 8] |= 0x80 >> (lower.bits % 8);
        lower.bits += 1;
        let mut upper =
            Bucket { lowest: Id::new(middle), bits: lower.bits, last_used: now, entries: Vec::new() };
        let (low, high) =
            std::mem::take(&mut lower.entries).into_iter().partition(|entry| entry.contact.id < upper.lowest);
        lower.entries = low;
        upper.entries = high;
        self.buckets.insert(at + 1, upper);
    }

    /// Puts another contact in the place of one that is in the table.
    pub fn replace(&mut self, stale: &Id, new: Option<Contact>) {
        let at = self.bucket_of(stale);
        let bucket = &mut self.buckets[at];
        if let Some(place) = bucket.position(stale) {
            bucket.entries.remove(place);
            bucket.entries.extend(new.map(|contact| Entry { contact, last_seen: None, failures: 0 }));
        }
    }

    /// The entry with this id, or else, by a slip, the one nearest to it.
    fn entry_near(&mut self, id: &Id) -> Option<&mut Entry> {
        let nearest = self.find(id).first()?.id;
        let at = self.bucket_of(&nearest);
        let bucket = &mut self.buckets[at];
        let place = bucket.position(&nearest)?;
        bucket.entries.get_mut(place)
    }

    /// A contact has answered a ping.
    pub fn just_seen(&mut self, now: Time, id: &Id) {
        if let Some(entry) = self.entry_near(id) {
            entry.last_seen = Some(now);
            entry.failures = 0;
        }
    }

    /// A contact has not answered; at the third time it goes.
    pub fn failed(&mut self, id: &Id) {
        let Some(entry) = self.entry_near(id) else { return };
        entry.failures = entry.failures.saturating_add(1);
        if entry.failures >= MAX_FAILURES {
            let id = entry.contact.id;
            self.replace(&id, None);
        }
    }

    /// A random id in each bucket that was not used since `before`.
    pub fn stale(&self, before: Option<Time>, rng: &mut Random) -> Vec<Id> {
        let stale = self.buckets.iter().filter(|bucket| before.is_none_or(|at| bucket.last_used <= at));
        stale.map(|bucket| inside(&bucket.lowest, bucket.bits, &Id::random(rng))).collect()
    }
}

/// The first bits of one id, the others of another.
fn inside(start: &Id, bits: usize, rest: &Id) -> Id {
    let mut bytes = *rest.as_bytes();
    for (at, byte) in bytes.iter_mut().enumerate() {
        let taken = bits.saturating_sub(at * 8).min(8);
        let mask = !(0xff_u16 >> taken) as u8;
        *byte = (start.as_bytes()[at] & mask) | (*byte & !mask);
    }
    Id::new(bytes)
}
