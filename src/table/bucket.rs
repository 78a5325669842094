//! One k-bucket: the contacts in one range of distances.

use std::net::SocketAddr;

use crate::contact::Contact;
use crate::id::Id;
use crate::time::Time;

/// A contact in the table, and how it has been doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Who it is, and where.
    pub contact: Contact,
    /// When it last gave a sign of life, or was taken up from the store.
    pub since: Time,
    /// It was taken up from the store, and has given no sign of life since.
    pub saved: bool,
    /// How many requests it has left unanswered since.
    pub failures: u8,
}

impl Entry {
    /// When it last gave a sign of life; `None`: not in this run of the program.
    pub fn last_heard(&self) -> Option<Time> {
        (!self.saved).then_some(self.since)
    }

    /// Whether it has answered in this run of the program, and when it was last asked.
    pub fn is_alive(&self) -> bool {
        !self.saved && self.failures == 0
    }
}

/// A contact that waits for a place, and when it answered last.
type Standby = (Contact, Time);

/// How many contacts wait for a place in a bucket of `k`.
fn most_standbys(k: usize) -> usize {
    k.div_ceil(2).min(8)
}

/// The contacts of a bucket, the one least recently heard of first.
#[derive(Debug)]
pub(super) struct Bucket {
    entries: Vec<Entry>,
    /// Contacts that have answered while there was no room for them, the most recent one
    /// last (Kademlia, section 4.1). Only a full bucket has any.
    standbys: Vec<Standby>,
    /// When a lookup last went through this bucket.
    pub(super) touched: Time,
}

impl Bucket {
    pub(super) fn new(touched: Time) -> Self {
        Bucket { entries: Vec::new(), standbys: Vec::new(), touched }
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn get(&self, id: &Id) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.contact.id == *id)
    }

    /// Where the contact stands that has this id and this address.
    pub(super) fn position(&self, contact: &Contact) -> Option<usize> {
        self.entries.iter().position(|entry| entry.contact == *contact)
    }

    /// A sign of life of the contact with this id: makes it the most recent one.
    /// When its address is another one, nothing changes, and the entry is
    /// returned; but a saved one, of which nothing was heard yet, has moved.
    /// `None` when there is no such contact.
    pub(super) fn heard(&mut self, id: &Id, addr: SocketAddr, now: Time) -> Option<Result<(), Entry>> {
        let at = self.entries.iter().position(|entry| entry.contact.id == *id)?;
        let recent = self.entries.get_mut(at..)?;
        let entry = recent.first_mut()?;
        if entry.contact.addr != addr && !entry.saved {
            return Some(Err(*entry));
        }
        *entry = Entry { contact: Contact { id: *id, addr }, since: now, saved: false, failures: 0 };
        recent.rotate_left(1);
        Some(Ok(()))
    }

    /// Adds a contact, as the most recent one. `k` bounds the memory that is set
    /// aside, not the number.
    pub(super) fn push(&mut self, entry: Entry, k: usize) {
        let len = self.entries.len();
        if len == self.entries.capacity() {
            // Doubles as `push` does, but not beyond k.
            self.entries.reserve_exact(len.max(2).min(k.saturating_sub(len)).max(1));
        }
        self.entries.push(entry);
    }

    /// Counts a failure, and returns how many there have been in a row.
    pub(super) fn fail(&mut self, at: usize) -> u8 {
        self.entries.get_mut(at).map_or(0, |entry| {
            entry.failures = entry.failures.saturating_add(1);
            entry.failures
        })
    }

    /// Takes a contact out.
    pub(super) fn remove(&mut self, at: usize) {
        self.entries.remove(at);
    }

    /// Lets those who wait take the places that are free, the most recent one first.
    pub(super) fn fill(&mut self, k: usize) {
        while self.entries.len() < k
            && let Some((contact, since)) = self.standbys.pop()
        {
            let entry = Entry { contact, since, saved: false, failures: 0 };
            // By when it was heard of, like all others.
            let at = self.entries.iter().position(|other| !other.saved && other.since > since);
            self.entries.insert(at.unwrap_or(self.entries.len()), entry);
        }
        if self.standbys.is_empty() {
            self.standbys = Vec::new();
        }
    }

    /// Whether somebody waits for a place.
    pub(super) fn has_standby(&self) -> bool {
        !self.standbys.is_empty()
    }

    pub(super) fn standbys(&self) -> impl Iterator<Item = &Contact> {
        self.standbys.iter().map(|(contact, _)| contact)
    }

    /// A contact has answered for which there is no room: it waits.
    pub(super) fn stand_by(&mut self, contact: Contact, now: Time, k: usize) {
        self.forget_standby(&contact.id);
        if self.standbys.len() >= most_standbys(k) {
            self.standbys.remove(0);
        }
        if self.standbys.len() == self.standbys.capacity() {
            self.standbys.reserve_exact(1);
        }
        self.standbys.push((contact, now));
    }

    /// The contact with this id no longer waits.
    pub(super) fn forget_standby(&mut self, id: &Id) {
        self.standbys.retain(|(contact, _)| contact.id != *id);
    }

    /// Drops all at the address of `contact` but itself.
    pub(super) fn drop_others_at(&mut self, contact: &Contact) {
        let stays = |other: &Contact| other.addr != contact.addr || other.id == contact.id;
        self.entries.retain(|entry| stays(&entry.contact));
        self.standbys.retain(|(other, _)| stays(other));
    }

    /// Takes out those whose id `leaves`, into a bucket of their own. Both keep
    /// their order, and when they were touched.
    pub(super) fn split_off(&mut self, mut leaves: impl FnMut(&Id) -> bool) -> Bucket {
        let count = self.entries.iter().filter(|entry| leaves(&entry.contact.id)).count();
        let mut entries = Vec::with_capacity(count);
        entries.extend(self.entries.extract_if(.., |entry| leaves(&entry.contact.id)));
        // It splits only when it is full, which it never was before.
        Bucket { entries, standbys: Vec::new(), touched: self.touched }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_one_cache_line() {
        assert!(size_of::<Entry>() <= 64);
    }

    #[test]
    fn sets_aside_no_more_than_k() {
        for k in [1, 2, 3, 8, 20, 64] {
            let mut bucket = Bucket::new(Time::ZERO);
            for port in 0..k as u16 {
                let contact = Contact { id: Id::of(&[port as u8]), addr: ([127, 0, 0, 1], port).into() };
                bucket.push(Entry { contact, since: Time::ZERO, saved: false, failures: 0 }, k);
            }
            assert!(bucket.entries.capacity() <= k, "{} for k = {k}", bucket.entries.capacity());
        }
    }
}
