//! The routing table: its invariants, and its answers against brute force.

use std::collections::HashSet;
use std::time::Duration;

use khashmir::id::ID_BITS;
use khashmir::random::{Random, seed_from_number, seeded};
use khashmir::table::{Entry, Failed, Heard, Room, Table};
use khashmir::time::Time;
use khashmir::{Contact, Id};
use proptest::prelude::*;
use rand::RngExt;

const K: usize = 8;
const HOUR: Duration = Duration::from_secs(3600);

fn contact(id: Id, port: u16) -> Contact {
    Contact { id, addr: ([10, 0, 0, 1], port).into() }
}

fn seconds(seconds: u64) -> Time {
    Time::from_micros(seconds * 1_000_000)
}

fn rng(seed: u64) -> Random {
    seeded(seed_from_number(seed))
}

/// The bucket of an id, reckoned anew.
fn bucket_of(table: &Table, id: &Id) -> usize {
    table.own().distance(id).leading_zeros().min(table.buckets() - 1)
}

/// A table that has heard of these nodes, in this order.
fn filled(own: Id, ids: &[Id]) -> Table {
    let mut table = Table::new(own, K, Time::ZERO);
    for (port, &id) in (1..).zip(ids) {
        table.heard(contact(id, port), Time::ZERO);
    }
    table
}

fn random_ids(count: usize, rng: &mut Random) -> Vec<Id> {
    (0..count).map(|_| Id::random(rng)).collect()
}

/// Ids that share `shared` bits with `own`.
fn ids_at(own: Id, shared: usize, count: usize, rng: &mut Random) -> Vec<Id> {
    (0..count).map(|_| own.random_sharing(shared, rng)).collect()
}

/// A table beside a plain list of what it should hold, least recent first.
struct Model {
    table: Table,
    list: Vec<Entry>,
    /// Those who wait for a place, and since when.
    standbys: Vec<(Contact, Time)>,
    k: usize,
    rng: Random,
    seed: u64,
}

impl Model {
    fn new(seed: u64) -> Self {
        let mut rng = rng(seed);
        let k = rng.random_range(1..=9);
        let own = Id::random(&mut rng);
        Model { table: Table::new(own, k, Time::ZERO), list: Vec::new(), standbys: Vec::new(), k, rng, seed }
    }

    fn position(&self, contact: &Contact) -> Option<usize> {
        self.list.iter().position(|entry| entry.contact == *contact)
    }

    fn fresh(&mut self) -> Contact {
        // Many near the own id, so that the table gets deep.
        let shared = self.rng.random_range(0..40);
        let id = match self.rng.random_range(0..20) {
            0 => *self.table.own(),
            1..10 => self.table.own().random_sharing(shared, &mut self.rng),
            _ => Id::random(&mut self.rng),
        };
        contact(id, self.rng.random_range(1..5))
    }

    /// A contact that is mostly known.
    fn some(&mut self) -> Contact {
        if self.list.is_empty() || self.rng.random_bool(0.2) {
            return self.fresh();
        }
        let mut contact = self.list[self.rng.random_range(0..self.list.len())].contact;
        if self.rng.random_bool(0.2) {
            contact.addr.set_port(99);
        }
        contact
    }

    fn heard(&mut self, contact: Contact, now: Time) -> Heard {
        let known = self.list.iter().position(|entry| entry.contact.id == contact.id);
        let room = self.table.room_for(&contact.id);
        let heard = self.table.heard(contact, now);
        let seed = self.seed;
        let foretold = match heard {
            Heard::Added => Room::Free,
            Heard::Full { oldest, last_heard } => Room::Taken { oldest, last_heard },
            Heard::Own | Heard::Known | Heard::Moved { .. } => Room::Unwanted,
        };
        assert_eq!(room, foretold, "seed {seed}");
        match heard {
            Heard::Own => assert_eq!(contact.id, *self.table.own(), "seed {seed}"),
            Heard::Known => {
                let at = self.position(&contact).expect("it is known");
                self.list.remove(at);
                self.list.push(Entry { contact, since: now, saved: false, failures: 0 });
            }
            Heard::Added => {
                assert_eq!(known, None, "seed {seed}");
                self.list.push(Entry { contact, since: now, saved: false, failures: 0 });
            }
            Heard::Moved { known: old, last_heard } => {
                let entry = self.list[known.expect("it is known")];
                assert_eq!((entry.contact, entry.since), (old, last_heard), "seed {seed}");
                assert_ne!(old.addr, contact.addr, "seed {seed}");
            }
            Heard::Full { oldest, last_heard } => {
                assert_eq!(known, None, "seed {seed}");
                let bucket = bucket_of(&self.table, &contact.id);
                assert!(bucket + 1 < self.table.buckets(), "the last one should split, seed {seed}");
                let mut same = self.list.iter().filter(|e| bucket_of(&self.table, &e.contact.id) == bucket);
                let first = same.next().expect("the bucket is full");
                assert_eq!((first.contact, first.last_heard()), (oldest, last_heard), "seed {seed}");
                assert_eq!(same.count() + 1, self.k, "seed {seed}");
                self.stand_by(contact, now);
            }
        }
        heard
    }

    fn stand_by(&mut self, contact: Contact, now: Time) {
        self.standbys.retain(|(other, _)| other.id != contact.id);
        self.standbys.push((contact, now));
        let bucket = bucket_of(&self.table, &contact.id);
        let rivals: Vec<_> = self.waiting(bucket).copied().collect();
        if rivals.len() > self.k.div_ceil(2) {
            self.standbys.retain(|standby| *standby != rivals[0]);
        }
    }

    fn waiting(&self, bucket: usize) -> impl Iterator<Item = &(Contact, Time)> {
        self.standbys.iter().filter(move |(contact, _)| bucket_of(&self.table, &contact.id) == bucket)
    }

    /// The entry at `at` goes, and the one who has waited for the shortest time comes.
    fn take_out(&mut self, at: usize) -> Entry {
        let old = self.list.remove(at);
        let bucket = bucket_of(&self.table, &old.contact.id);
        if let Some(&(contact, since)) = self.waiting(bucket).last() {
            self.standbys.retain(|(other, _)| *other != contact);
            let later = |e: &Entry| bucket_of(&self.table, &e.contact.id) == bucket && e.since > since;
            let at = self.list.iter().position(later).unwrap_or(self.list.len());
            self.list.insert(at, Entry { contact, since, saved: false, failures: 0 });
        }
        old
    }

    fn step(&mut self, now: Time) {
        let seed = self.seed;
        match self.rng.random_range(0..10) {
            0..4 => {
                let contact = self.fresh();
                if let Heard::Full { oldest, .. } = self.heard(contact, now)
                    && self.rng.random_bool(0.3)
                {
                    self.replace(oldest, contact, now);
                }
            }
            4 | 5 => {
                let contact = self.some();
                self.heard(contact, now);
            }
            6 | 7 => {
                let waits = self.standbys.get(self.rng.random_range(0..20)).map(|standby| standby.0);
                let contact = waits.unwrap_or_else(|| self.some());
                let (max, replaceable) = (self.rng.random_range(1..4), self.rng.random_bool(0.5));
                let failed = self.table.note_failure(&contact, max, replaceable);
                if replaceable {
                    self.standbys.retain(|(other, _)| *other != contact);
                }
                let bucket = bucket_of(&self.table, &contact.id);
                let replaced = replaceable && self.waiting(bucket).next().is_some();
                match (failed, self.position(&contact)) {
                    (Failed::Unknown, None) => {}
                    (Failed::Kept(failures), Some(at)) => {
                        self.list[at].failures += 1;
                        assert_eq!(self.list[at].failures, failures, "seed {seed}");
                        assert!(failures < max && !replaced, "seed {seed}");
                    }
                    (Failed::Dropped, Some(at)) => {
                        assert!(self.take_out(at).failures + 1 >= max || replaced, "seed {seed}");
                    }
                    other => panic!("{other:?}, seed {seed}"),
                }
            }
            8 => {
                let contact = self.some();
                let at = self.position(&contact);
                assert_eq!(self.table.remove(&contact), at.is_some(), "seed {seed}");
                at.map(|at| self.take_out(at));
            }
            _ => {
                let (old, new) = (self.some(), self.some());
                self.replace(old, new, now);
            }
        }
        self.check();
    }

    fn replace(&mut self, old: Contact, new: Contact, now: Time) {
        let at = self.position(&old);
        let free = old.id == new.id || self.list.iter().all(|entry| entry.contact.id != new.id);
        let same = bucket_of(&self.table, &old.id) == bucket_of(&self.table, &new.id);
        let allowed = at.is_some() && free && same && new.id != *self.table.own();
        assert_eq!(self.table.replace(&old, new, now), allowed, "seed {}", self.seed);
        if let (true, Some(at)) = (allowed, at) {
            self.standbys.retain(|(other, _)| other.id != new.id);
            self.list.remove(at);
            self.list.push(Entry { contact: new, since: now, saved: false, failures: 0 });
        }
    }

    fn check(&self) {
        let seed = self.seed;
        assert_eq!(self.table.len(), self.list.len(), "seed {seed}");
        assert_eq!(self.table.is_empty(), self.list.is_empty(), "seed {seed}");
        assert!((1..=ID_BITS).contains(&self.table.buckets()), "seed {seed}");
        // By bucket, and in each by recency: the list sorted by bucket, stably.
        let mut expected = self.list.clone();
        expected.sort_by_cached_key(|entry| bucket_of(&self.table, &entry.contact.id));
        assert_eq!(self.table.iter().copied().collect::<Vec<_>>(), expected, "seed {seed}");
        for bucket in expected
            .chunk_by(|a, b| bucket_of(&self.table, &a.contact.id) == bucket_of(&self.table, &b.contact.id))
        {
            assert!(bucket.len() <= self.k, "seed {seed}");
        }
        let mut waiting: Vec<Contact> = self.standbys.iter().map(|standby| standby.0).collect();
        waiting.sort_by_cached_key(|contact| bucket_of(&self.table, &contact.id));
        assert_eq!(self.table.standbys().copied().collect::<Vec<_>>(), waiting, "seed {seed}");
        for waiting in waiting {
            let bucket = bucket_of(&self.table, &waiting.id);
            let full = self.list.iter().filter(|e| bucket_of(&self.table, &e.contact.id) == bucket).count();
            assert_eq!(full, self.k, "nobody waits while there is room, seed {seed}");
            assert_eq!(self.table.get(&waiting.id), None, "seed {seed}");
        }
        let distinct: HashSet<Id> = self.list.iter().map(|entry| entry.contact.id).collect();
        assert_eq!(distinct.len(), self.list.len(), "seed {seed}");
        if let Some(entry) = self.list.last() {
            assert_eq!(self.table.get(&entry.contact.id), Some(entry), "seed {seed}");
        }
    }
}

#[test]
fn agrees_with_a_list() {
    for seed in 0..40 {
        let mut model = Model::new(seed);
        for second in 0..400 {
            model.step(seconds(second));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nearest_equals_brute_force(seed: u64, nodes in 0usize..400, count in 0usize..40, near in 0usize..60) {
        let mut rng = rng(seed);
        let own = Id::random(&mut rng);
        let mut ids = random_ids(nodes, &mut rng);
        ids.extend((0..near).map(|shared| own.random_sharing(shared, &mut rng)));
        let table = filled(own, &ids);
        let known = ids.get(nodes / 2).copied().unwrap_or(own);
        let targets =
            [
                Id::random(&mut rng),
                own,
                own.random_sharing(near, &mut rng),
                own.random_sharing(3, &mut rng),
                known,
            ];
        for target in targets {
            let mut expected: Vec<Contact> = table.iter().map(|entry| entry.contact).collect();
            expected.sort_by_key(|contact| contact.id.distance(&target));
            expected.truncate(count);
            let mut found = vec![contact(own, 1)];
            table.nearest(&target, count, &mut found);
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn nearest_passes_over_those_that_fail(
        seed: u64,
        nodes in 0usize..100,
        failing in 0.0..1.0,
        count in 0usize..40,
    ) {
        let mut rng = rng(seed);
        let own = Id::random(&mut rng);
        let ids = random_ids(nodes, &mut rng);
        let mut table = filled(own, &ids);
        let contacts: Vec<Contact> = table.iter().map(|entry| entry.contact).collect();
        for contact in &contacts {
            if rng.random_bool(failing) {
                prop_assert_eq!(table.note_failure(contact, 3, false), Failed::Kept(1));
            }
        }
        let target = Id::random(&mut rng);
        let mut expected: Vec<Entry> = table.iter().copied().collect();
        expected.sort_by_key(|entry| (entry.failures > 0, entry.contact.id.distance(&target)));
        expected.truncate(count);
        expected.sort_by_key(|entry| entry.contact.id.distance(&target));
        let mut found = Vec::new();
        table.nearest(&target, count, &mut found);
        prop_assert_eq!(found, expected.iter().map(|entry| entry.contact).collect::<Vec<_>>());
    }
}

#[test]
fn only_the_last_bucket_splits() {
    let mut rng = rng(1);
    let own = Id::random(&mut rng);
    let mut table = filled(own, &ids_at(own, 0, K, &mut rng));
    assert_eq!((table.buckets(), table.len()), (1, K));
    // A ninth on the far side splits the one bucket, and then finds it full.
    let far = contact(own.random_sharing(0, &mut rng), 1);
    assert!(matches!(table.heard(far, Time::ZERO), Heard::Full { .. }));
    assert_eq!(table.buckets(), 2);
    assert!(matches!(table.heard(far, Time::ZERO), Heard::Full { .. }));
    assert_eq!(table.buckets(), 2);
    // The near side still has room.
    for id in ids_at(own, 1, K, &mut rng) {
        assert_eq!(table.heard(contact(id, 1), Time::ZERO), Heard::Added);
    }
    assert_eq!(table.buckets(), 2);
    assert_eq!(table.heard(contact(own.random_sharing(5, &mut rng), 1), Time::ZERO), Heard::Added);
    assert_eq!(table.buckets(), 3);
}

#[test]
fn splits_down_to_the_last_bit_and_no_further() {
    let mut rng = rng(2);
    let own = Id::random(&mut rng);
    let mut table = Table::new(own, 1, Time::ZERO);
    for shared in (0..ID_BITS).rev() {
        let contact = contact(own.random_sharing(shared, &mut rng), 1);
        assert_eq!(table.heard(contact, Time::ZERO), Heard::Added, "{shared}");
    }
    assert_eq!((table.buckets(), table.len()), (ID_BITS, ID_BITS));
    assert!(matches!(
        table.heard(contact(own.random_sharing(9, &mut rng), 1), Time::ZERO),
        Heard::Full { .. }
    ));
}

#[test]
fn an_id_at_another_address_changes_nothing_until_the_old_one_is_dead() {
    let mut rng = rng(3);
    let id = Id::random(&mut rng);
    let mut table = Table::new(Id::random(&mut rng), K, Time::ZERO);
    let (old, new) = (contact(id, 1), contact(id, 2));
    table.heard(old, seconds(1));
    assert_eq!(table.heard(new, seconds(2)), Heard::Moved { known: old, last_heard: seconds(1) });
    assert_eq!(table.get(&id), Some(&Entry { contact: old, since: seconds(1), saved: false, failures: 0 }));
    // Nor may the stranger's silence, or its leaving, harm the one we know.
    assert_eq!(table.note_failure(&new, 1, true), Failed::Unknown);
    assert!(!table.remove(&new));
    assert_eq!(table.room_for(&id), Room::Unwanted);
    assert!(table.replace(&old, new, seconds(3)));
    assert_eq!(table.get(&id), Some(&Entry { contact: new, since: seconds(3), saved: false, failures: 0 }));
    assert_eq!(table.len(), 1);
}

#[test]
fn a_saved_contact_moves_with_its_first_answer_and_gives_way_to_others() {
    let mut rng = rng(5);
    let own = Id::random(&mut rng);
    let ids = ids_at(own, 0, K + 1, &mut rng);
    let mut table = Table::new(own, K, Time::ZERO);
    for &id in &ids[..K] {
        table.restore(contact(id, 1), seconds(1));
    }
    table.restore(contact(ids[K], 1), seconds(1));
    assert_eq!(table.len(), K, "there is no room for one more");
    assert_eq!(table.get(&ids[0]).unwrap().last_heard(), None);
    let oldest = contact(ids[0], 1);
    assert_eq!(
        table.heard(contact(ids[K], 1), seconds(2)),
        Heard::Full { oldest, last_heard: None },
        "worth a ping at once"
    );
    let mut told = Vec::new();
    told.clear();
    table.nearest_of(&own, K, &mut told, Entry::is_alive);
    assert_eq!(told, [], "others are not told of them");
    table.nearest(&own, K, &mut told);
    assert_eq!(told.len(), K, "but they are good to start from");
    // It answers from elsewhere: nobody is known to be at the saved address.
    assert_eq!(table.heard(contact(ids[0], 2), seconds(3)), Heard::Known);
    let entry = *table.get(&ids[0]).unwrap();
    assert_eq!((entry.contact, entry.last_heard()), (contact(ids[0], 2), Some(seconds(3))));
    told.clear();
    table.nearest_of(&own, K, &mut told, Entry::is_alive);
    assert_eq!(told, [contact(ids[0], 2)]);
    // From now on it is known where it is.
    let moved = table.heard(contact(ids[0], 3), seconds(4));
    assert_eq!(moved, Heard::Moved { known: contact(ids[0], 2), last_heard: seconds(3) });
}

#[test]
fn the_dead_are_replaced_at_once_while_others_answer() {
    let mut rng = rng(6);
    let own = Id::random(&mut rng);
    let ids = ids_at(own, 0, 3 * K, &mut rng);
    let mut table = filled(own, &ids);
    let at = |n: usize| contact(ids[n], n as u16 + 1);
    // The last ones that answered wait, as many as half a bucket.
    assert!(table.standbys().eq(&(5 * K / 2..3 * K).map(at).collect::<Vec<_>>()));
    // While it may be our own network that is silent, nobody's place is taken.
    for n in 0..K {
        assert_eq!(table.note_failure(&at(n), 3, false), Failed::Kept(1));
        assert_eq!(table.note_failure(&at(n), 3, false), Failed::Kept(2));
    }
    assert_eq!(table.standbys().count(), K / 2);
    assert_eq!(table.note_failure(&at(0), 3, false), Failed::Dropped);
    assert_eq!(table.note_failure(&at(1), 9, true), Failed::Dropped);
    assert!(table.remove(&at(2)));
    let expected: Vec<Contact> = (3..K).chain(3 * K - 3..3 * K).map(at).collect();
    let mut there: Vec<Contact> = table.iter().map(|entry| entry.contact).collect();
    there.sort_by_key(|contact| contact.addr);
    assert_eq!(there, expected);
    // One that waits and is dead does not come in.
    assert_eq!(table.note_failure(&at(3 * K - 4), 3, true), Failed::Unknown);
    assert_eq!(table.note_failure(&at(3), 3, true), Failed::Dropped);
    assert_eq!((table.len(), table.standbys().count()), (K - 1, 0));
}

#[test]
fn replacing_comes_too_late() {
    let mut rng = rng(4);
    let own = Id::random(&mut rng);
    let ids = ids_at(own, 0, K + 2, &mut rng);
    let mut table = filled(own, &ids[..K]);
    let (first, second) = (contact(ids[K], 1), contact(ids[K + 1], 1));
    let Heard::Full { oldest, .. } = table.heard(first, seconds(1)) else { panic!("there was room") };
    assert_eq!(oldest.id, ids[0]);
    // Two newcomers wait for the verdict on the same contact.
    assert!(table.replace(&oldest, first, seconds(2)));
    assert!(!table.replace(&oldest, second, seconds(2)));
    // The newcomer has been taken in by another way.
    let Heard::Full { oldest, .. } = table.heard(second, seconds(3)) else { panic!("there was room") };
    assert!(!table.replace(&oldest, first, seconds(3)));
    // The oldest has died and come back elsewhere.
    assert!(table.replace(&oldest, contact(oldest.id, 77), seconds(4)));
    assert!(!table.replace(&oldest, second, seconds(4)));
    // What is found dead after all makes room by `remove`, for the one who waits.
    assert!(table.remove(&contact(oldest.id, 77)));
    assert_eq!(table.heard(second, seconds(5)), Heard::Known);
    assert_eq!(table.len(), K);
}

#[test]
fn refresh_ids_fall_into_the_stalest_bucket() {
    for seed in 0..20 {
        let mut rng = rng(seed);
        let own = Id::random(&mut rng);
        let mut table = filled(own, &random_ids(500, &mut rng));
        let buckets = table.buckets();
        assert_eq!(table.next_stale(HOUR), seconds(3600));
        assert_eq!(table.stale(seconds(3599), HOUR, &mut rng), None, "seed {seed}");
        let mut refreshed = HashSet::new();
        for nth in 0..buckets {
            let id = table.stale(seconds(3600), HOUR, &mut rng).expect("a stale bucket");
            refreshed.insert(bucket_of(&table, &id));
            // Distinct times, so that they grow stale again one after the other.
            table.touch(&id, seconds(3600 + nth as u64));
        }
        assert_eq!(refreshed.len(), buckets, "seed {seed}");
        assert_eq!(table.stale(seconds(3600), HOUR, &mut rng), None, "seed {seed}");
        assert_eq!(table.next_stale(HOUR), seconds(7200), "seed {seed}");
        assert!(table.stale(seconds(7200), HOUR, &mut rng).is_some(), "seed {seed}");
    }
}

#[test]
fn refresh_ids_cover_all_of_the_last_bucket() {
    let mut rng = rng(5);
    let own = Id::random(&mut rng);
    let table = Table::new(own, K, Time::ZERO);
    let shared: HashSet<usize> = (0..200)
        .map(|_| own.distance(&table.stale(seconds(3600), HOUR, &mut rng).unwrap()).leading_zeros())
        .collect();
    assert!((0..4).all(|bits| shared.contains(&bits)), "{shared:?}");
    assert!(!shared.contains(&ID_BITS), "the own id is no use as a target");
}

#[test]
fn estimates_the_size_of_the_network() {
    for (nodes, trials) in [(100usize, 100), (1000, 60), (10_000, 20)] {
        let mut close = 0;
        let mut logs = 0.0;
        for seed in 0..trials {
            let mut rng = rng(seed);
            let own = Id::random(&mut rng);
            let estimate = filled(own, &random_ids(nodes - 1, &mut rng)).network_size() / nodes as f64;
            close += u64::from((0.5..=2.0).contains(&estimate));
            logs += estimate.ln();
        }
        let mean = (logs / trials as f64).exp();
        assert!(close * 10 >= trials * 9, "{nodes} nodes: only {close} of {trials} are close");
        assert!((0.8..1.25).contains(&mean), "{nodes} nodes: {mean:.2} of the truth on average");
    }
}

#[test]
fn a_small_network_is_counted() {
    let mut rng = rng(6);
    let own = Id::random(&mut rng);
    assert_eq!(Table::new(own, K, Time::ZERO).network_size(), 1.0);
    assert_eq!(filled(own, &random_ids(K - 1, &mut rng)).network_size(), K as f64);
}
