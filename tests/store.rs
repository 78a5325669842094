//! The store: one suite over both kinds of database, in memory and in a file.

#[path = "support/limits.rs"]
mod limits;

use limits::LIMITS as ROOMY;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::PathBuf;

use khashmir::random::{seed_from_number, seeded};
use khashmir::store::{
    Database, Limits, Moment, NewValue, Published, Put, QUERIES, Refusal, Resident, VALUE_OVERHEAD,
};
use khashmir::time::UnixTime;
use khashmir::{Contact, Durability, Id, StoreError};
use rand::RngExt;
use tempfile::TempDir;

/// Where values are read from: the beginning.
const FIRST: Id = Id::new([0; 20]);

/// Where a database is.
enum Place {
    Memory,
    File(TempDir),
}

impl Place {
    fn file() -> Place {
        Place::File(TempDir::new().expect("a directory"))
    }

    fn path(&self) -> PathBuf {
        match self {
            Place::Memory => panic!("memory has no path"),
            Place::File(directory) => directory.path().join("node.db"),
        }
    }

    fn open(&self) -> Database {
        match self {
            Place::Memory => Database::in_memory().expect("memory"),
            Place::File(_) => Database::open(&self.path(), Durability::Program).expect("a sound file"),
        }
    }

    fn open_with(&self, limits: Limits) -> (Database, Resident) {
        let mut database = self.open();
        let who = database.move_in(None, Id::of(b"me"), limits).expect("room for one");
        (database, who)
    }
}

/// Runs each of these on both.
macro_rules! on_both {
    ($($name:ident)*) => {
        mod in_memory {
            $(#[test] fn $name() { super::$name(&super::Place::Memory); })*
        }
        mod in_a_file {
            $(#[test] fn $name() { super::$name(&super::Place::file()); })*
        }
    };
}

on_both! {
    a_key_has_several_values
    renewal_keeps_the_later_time
    a_value_expires_at_the_exact_second
    values_end_when_told
    values_go_round_from_where_they_start
    any_length_is_kept
    a_key_is_full_at_its_limit
    the_store_is_full_at_its_limit
    renewal_needs_no_room
    expiry_goes_from_the_oldest_on
    writes_show_before_they_are_committed
    undone_writes_are_gone_from_the_totals
    contacts_are_replaced
    model
}

fn key_full(limit: usize) -> Put {
    Put::Refused(Refusal::KeyValues { limit })
}

fn renewed(until: i64) -> Put {
    Put::Renewed { until: UnixTime(until) }
}

/// How long before it expires a value was stored.
const LIFE: i64 = 1000;

/// Stores a value that expires at `end`, before anything has.
fn put(database: &mut Database, who: &mut Resident, key: &Id, value: &[u8], end: i64) -> Put {
    let new = NewValue {
        key,
        value,
        time: UnixTime(end.saturating_sub(LIFE)),
        expires: UnixTime(end),
        sender: None,
    };
    database.put(who, &new, &at(-1)).expect("a put")
}

fn at(now: i64) -> Moment {
    UnixTime(now).into()
}

fn expire(database: &mut Database, who: &mut Resident, now: i64, at_most: u32) -> u32 {
    database.expire(who, UnixTime(now), at_most).expect("expiry").deleted
}

fn get(database: &mut Database, who: &mut Resident, key: &Id, now: i64) -> Vec<Vec<u8>> {
    let mut values = Vec::new();
    database
        .values(who, key, &at(now), (&FIRST, &FIRST), |value| {
            values.push(value.to_vec());
            ControlFlow::Continue(())
        })
        .expect("a get");
    values.sort();
    values
}

fn contact(name: &str, addr: &str) -> Contact {
    Contact { id: Id::of(name.as_bytes()), addr: addr.parse().expect("an address") }
}

fn a_key_has_several_values(place: &Place) {
    let (mut database, mut who) = place.open_with(ROOMY);
    let (key, other) = (Id::of(b"key"), Id::of(b"other"));
    assert_eq!(put(&mut database, &mut who, &key, b"one", 5), Put::Added);
    assert_eq!(put(&mut database, &mut who, &key, b"two", 5), Put::Added);
    assert_eq!(put(&mut database, &mut who, &other, b"one", 5), Put::Added);
    assert_eq!(get(&mut database, &mut who, &key, 0), [b"one", b"two"]);
    assert_eq!(get(&mut database, &mut who, &other, 0), [b"one"]);
    assert!(get(&mut database, &mut who, &Id::of(b"absent"), 0).is_empty());
    assert_eq!((who.values(), who.keys(), who.bytes()), (3, 2, 9 + 3 * VALUE_OVERHEAD));
}

fn renewal_keeps_the_later_time(place: &Place) {
    let (mut database, mut who) = place.open_with(ROOMY);
    let key = Id::of(b"key");
    put(&mut database, &mut who, &key, b"value", 100);
    assert_eq!(put(&mut database, &mut who, &key, b"value", 50), renewed(100));
    assert_eq!(get(&mut database, &mut who, &key, 99).len(), 1, "a clock set back ages nothing");
    assert_eq!(put(&mut database, &mut who, &key, b"value", 200), renewed(200));
    assert_eq!(get(&mut database, &mut who, &key, 199).len(), 1);
    assert_eq!(expire(&mut database, &mut who, 199, 10), 0);
    assert_eq!(who.values(), 1);
}

fn a_value_expires_at_the_exact_second(place: &Place) {
    let (mut database, mut who) = place.open_with(ROOMY);
    let key = Id::of(b"key");
    for second in 9..=11 {
        put(&mut database, &mut who, &key, format!("{second}").as_bytes(), second);
    }
    assert_eq!(get(&mut database, &mut who, &key, 10), [b"11"], "expired ones are not given out");
    assert_eq!(expire(&mut database, &mut who, 10, 10), 2);
    assert_eq!(get(&mut database, &mut who, &key, i64::MIN), [b"11"], "and are deleted to the same second");
    assert_eq!((who.values(), who.keys()), (1, 1));
    assert_eq!(expire(&mut database, &mut who, i64::MAX, 10), 1);
    assert_eq!((who.values(), who.keys(), who.bytes()), (0, 0, 0));
}

fn values_end_when_told(place: &Place) {
    let (mut database, mut who) = place.open_with(ROOMY);
    let key = Id::of(b"key");
    for value in 0..10u8 {
        put(&mut database, &mut who, &key, &[value], 1);
    }
    let mut digests = Vec::new();
    let stop_at_four = |value: &[u8]| {
        digests.push(Id::of(value));
        if digests.len() < 4 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    database.values(&mut who, &key, &at(0), (&FIRST, &FIRST), stop_at_four).expect("a get");
    assert_eq!(digests.len(), 4);
    assert!(digests.is_sorted());
}

fn values_go_round_from_where_they_start(place: &Place) {
    let (mut database, mut who) = place.open_with(ROOMY);
    let key = Id::of(b"key");
    let mut digests: Vec<Id> = (0..10u8).map(|value| Id::of(&[value])).collect();
    digests.sort();
    for value in 0..10u8 {
        put(&mut database, &mut who, &key, &[value], 1);
    }
    for start in 0..10 {
        let mut found = Vec::new();
        let each = |value: &[u8]| {
            found.push(Id::of(value));
            ControlFlow::Continue(())
        };
        database.values(&mut who, &key, &at(0), (&digests[start], &digests[start]), each).expect("a get");
        let mut expected = digests.clone();
        expected.rotate_left(start);
        assert_eq!(found, expected);
        // And on a part of the way, to before a digest that is there or not.
        for stop in (0..10u8).map(|stop| digests[usize::from(stop)]).chain((0..10).map(|n| Id::of(&[n, n]))) {
            let mut found = Vec::new();
            let each = |value: &[u8]| {
                found.push(Id::of(value));
                ControlFlow::Continue(())
            };
            let way = (&digests[start], &stop);
            database.values(&mut who, &key, &at(0), way, each).expect("a get");
            // Where it stands; before `start` itself only after all others.
            let end = digests.partition_point(|digest| *digest < stop);
            let end = (end + 19 - start) % 10 + 1;
            assert_eq!(found, expected[..end], "{start} {stop}");
        }
    }
}

fn any_length_is_kept(place: &Place) {
    let (mut database, mut who) = place.open_with(ROOMY);
    for length in [0, 1, 1000, 4000, 4096, 65_536, 99_000] {
        let key = Id::of(format!("{length}").as_bytes());
        let value: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        assert_eq!(put(&mut database, &mut who, &key, &value, 1), Put::Added);
        assert_eq!(get(&mut database, &mut who, &key, 0), [value]);
    }
}

fn a_key_is_full_at_its_limit(place: &Place) {
    let (mut database, mut who) = place.open_with(Limits { max_values_per_key: 2, ..ROOMY });
    let key = Id::of(b"key");
    assert_eq!(put(&mut database, &mut who, &key, b"1", 1), Put::Added);
    assert_eq!(put(&mut database, &mut who, &key, b"2", 2), Put::Added);
    assert_eq!(put(&mut database, &mut who, &key, b"3", 3), key_full(2));
    assert_eq!(put(&mut database, &mut who, &Id::of(b"other"), b"3", 3), Put::Added);
    assert_eq!(expire(&mut database, &mut who, 1, 10), 1);
    assert_eq!(put(&mut database, &mut who, &key, b"3", 3), Put::Added);
    assert_eq!(get(&mut database, &mut who, &key, 0), [b"2", b"3"]);
}

fn the_store_is_full_at_its_limit(place: &Place) {
    let limits = Limits { max_stored_bytes: 2 * VALUE_OVERHEAD + 10, ..ROOMY };
    let (mut database, mut who) = place.open_with(limits);
    let key = Id::of(b"key");
    assert_eq!(put(&mut database, &mut who, &key, b"123456", 1), Put::Added);
    assert_eq!(put(&mut database, &mut who, &key, b"12345", 2), Put::Refused(Refusal::Full));
    assert_eq!(put(&mut database, &mut who, &key, b"1234", 2), Put::Added);
    assert_eq!(who.bytes(), limits.max_stored_bytes);
    assert_eq!(put(&mut database, &mut who, &Id::of(b"other"), b"", 2), Put::Refused(Refusal::Full));
    assert_eq!((who.values(), who.keys()), (2, 1), "a refusal counts nothing");
}

fn renewal_needs_no_room(place: &Place) {
    let limits = Limits { max_values_per_key: 1, max_stored_bytes: VALUE_OVERHEAD + 1, ..ROOMY };
    let (mut database, mut who) = place.open_with(limits);
    let key = Id::of(b"key");
    assert_eq!(put(&mut database, &mut who, &key, b"1", 1), Put::Added);
    assert_eq!(put(&mut database, &mut who, &key, b"1", 2), renewed(2));
    assert_eq!(get(&mut database, &mut who, &key, 1), [b"1"]);
}

fn expiry_goes_from_the_oldest_on(place: &Place) {
    let (mut database, mut who) = place.open_with(ROOMY);
    let key = Id::of(b"key");
    for second in [3, 1, 5, 2, 4] {
        put(&mut database, &mut who, &key, format!("{second}").as_bytes(), second);
    }
    assert_eq!(expire(&mut database, &mut who, 4, 3), 3);
    assert_eq!(get(&mut database, &mut who, &key, 0), [b"4", b"5"]);
    assert_eq!(expire(&mut database, &mut who, 4, 3), 1);
    assert_eq!(expire(&mut database, &mut who, 4, 3), 0);
    assert_eq!(get(&mut database, &mut who, &key, 0), [b"5"]);
}

fn writes_show_before_they_are_committed(place: &Place) {
    let (mut database, mut who) = place.open_with(ROOMY);
    let key = Id::of(b"key");
    assert!(!database.has_uncommitted(), "a node's place is committed at once");
    assert!(get(&mut database, &mut who, &key, 0).is_empty());
    assert!(!database.has_uncommitted(), "reading opens no transaction");
    put(&mut database, &mut who, &key, b"1", 1);
    assert!(database.has_uncommitted());
    put(&mut database, &mut who, &key, b"2", 1);
    assert_eq!(get(&mut database, &mut who, &key, 0), [b"1", b"2"]);
    database.commit().expect("a commit");
    assert!(!database.has_uncommitted());
    database.commit().expect("nothing to commit is no error");
    assert_eq!(get(&mut database, &mut who, &key, 0), [b"1", b"2"]);
}

fn undone_writes_are_gone_from_the_totals(place: &Place) {
    let limits = Limits { max_values_per_key: 2, max_stored_bytes: 3 * (VALUE_OVERHEAD + 1), ..ROOMY };
    let (mut database, mut who) = place.open_with(limits);
    let (key, other) = (Id::of(b"key"), Id::of(b"other"));
    put(&mut database, &mut who, &key, b"1", 1);
    database.commit().expect("a commit");
    put(&mut database, &mut who, &key, b"2", 2);
    put(&mut database, &mut who, &other, b"3", 2);
    assert_eq!(expire(&mut database, &mut who, 1, 10), 1);
    database.save_contacts(&who, [(contact("a", "1.2.3.4:5"), None)]).expect("saved");
    database.roll_back();
    assert!(!database.has_uncommitted());
    assert!(get(&mut database, &mut who, &other, 0).is_empty());
    assert_eq!(get(&mut database, &mut who, &key, 0), [b"1"]);
    assert_eq!((who.values(), who.keys(), who.bytes()), (1, 1, VALUE_OVERHEAD + 1));
    assert_eq!(database.contacts(&who), Ok(vec![]));
    assert_eq!(put(&mut database, &mut who, &key, b"2", 2), Put::Added);
    assert_eq!(put(&mut database, &mut who, &key, b"3", 2), key_full(2));
    assert_eq!(put(&mut database, &mut who, &other, b"3", 2), Put::Added);
    assert_eq!(put(&mut database, &mut who, &other, b"4", 2), Put::Refused(Refusal::Full));
}

fn contacts_are_replaced(place: &Place) {
    let (mut database, who) = place.open_with(ROOMY);
    assert_eq!(database.contacts(&who), Ok(vec![]));
    let first = [contact("a", "1.2.3.4:5"), contact("b", "[2001:db8::1]:65535")];
    database.save_contacts(&who, first.map(|contact| (contact, None))).expect("saved");
    let mut expected = first.to_vec();
    expected.sort_by_key(|contact| contact.id);
    assert_eq!(database.contacts(&who), Ok(expected));
    let again = [contact("c", "1.2.3.4:5"), contact("a", "5.6.7.8:9"), contact("a", "5.6.7.8:10")];
    database.save_contacts(&who, again.map(|contact| (contact, None))).expect("saved");
    let mut expected = vec![again[0], again[2]];
    expected.sort_by_key(|contact| contact.id);
    assert_eq!(database.contacts(&who), Ok(expected), "of two with one id the later");
}

/// What a node should hold: key and value, and when it was stored.
type Model = BTreeMap<(Id, Vec<u8>), i64>;

/// Random work against a plain map.
fn model(place: &Place) {
    for seed in 0..60 {
        // A fresh file for each seed.
        let place = if matches!(place, Place::Memory) { Place::Memory } else { Place::file() };
        println!("seed {seed}");
        run_model(&place, seed);
    }
}

fn run_model(place: &Place, seed: u64) {
    let mut rng = seeded(seed_from_number(seed));
    let limits = Limits {
        max_values_per_key: 4,
        max_stored_bytes: 12 * VALUE_OVERHEAD + 40,
        max_renewed_bytes: 5 * VALUE_OVERHEAD + 15,
        ..ROOMY
    };
    let keys: Vec<Id> = (0..5u8).map(|n| Id::of(&[n])).collect();
    let charge = |value: &[u8]| value.len() as u64 + VALUE_OVERHEAD;
    let (mut database, mut who) = place.open_with(limits);
    let mut committed = (Model::new(), BTreeSet::new(), Model::new());
    let mut now = committed.clone();
    for step in 0..400 {
        let (values, contacts, published) = &mut now;
        let key = keys[rng.random_range(0..keys.len())];
        let second = rng.random_range(0..1000);
        match rng.random_range(0..100) {
            0..55 => {
                let value = vec![rng.random_range(0..4); rng.random_range(0..9)];
                let under_key = values.keys().filter(|(of, _)| *of == key).count();
                let bytes: u64 = values.keys().map(|(_, value)| charge(value)).sum();
                let expected = if let Some(time) = values.get_mut(&(key, value.clone())) {
                    *time = second.max(*time);
                    renewed(*time)
                } else if under_key >= limits.max_values_per_key {
                    key_full(4)
                } else if bytes + charge(&value) > limits.max_stored_bytes {
                    Put::Refused(Refusal::Full)
                } else {
                    values.insert((key, value.clone()), second);
                    Put::Added
                };
                assert_eq!(put(&mut database, &mut who, &key, &value, second), expected, "step {step}");
            }
            55..75 => {
                let expected: Vec<_> = (values.iter())
                    .filter(|((of, _), time)| *of == key && **time > second)
                    .map(|((_, value), _)| value.clone())
                    .collect();
                assert_eq!(get(&mut database, &mut who, &key, second), expected, "step {step}");
            }
            75..77 => {
                let (start, at_most) = (Id::random(&mut rng), rng.random_range(0..6));
                let expected: BTreeMap<Id, i64> = (values.iter())
                    .filter(|((of, _), time)| *of == key && **time > second)
                    .map(|((_, value), time)| (Id::of(value), *time))
                    .collect();
                let round = expected.range(start..).chain(expected.range(..start));
                let expected: Vec<_> =
                    round.take(at_most).map(|(digest, time)| (*digest, UnixTime(*time - LIFE))).collect();
                let held = database.held(&mut who, &key, (&at(0), UnixTime(second)), &start, at_most);
                assert_eq!(held, Ok(expected), "step {step}");
                let value = vec![rng.random_range(0..4); rng.random_range(0..9)];
                let digest = Id::of(&value);
                let time = values.get(&(key, value.clone())).map(|time| UnixTime(*time));
                let digests = [(digest, digest), (FIRST, FIRST)].into_iter();
                assert_eq!(
                    database.times(&mut who, &key, &at(0), digests),
                    Ok(vec![time.map(|end| UnixTime(end.0 - LIFE)), None]),
                    "step {step}"
                );
                let expected = time.map(|time| (value, time));
                let found = database.value(&mut who, &key, &at(0), &digest);
                let found = found.map(|found| found.map(|(value, _, end)| (value, end)));
                assert_eq!(found, Ok(expected), "step {step}");
                let keys: BTreeSet<Id> = values.keys().map(|(key, _)| *key).collect();
                assert_eq!(database.keys(&who), Ok(keys.into_iter().collect()), "step {step}");
            }
            77..80 => {
                let value = vec![rng.random_range(0..3); rng.random_range(0..6)];
                let bytes: u64 = published.keys().map(|(_, value)| charge(value)).sum();
                let known = published.contains_key(&(key, value.clone()));
                let kept = database.publish(&mut who, &key, &value, UnixTime(second)).expect("a publish");
                let full = !known && bytes + charge(&value) > limits.max_renewed_bytes;
                assert_eq!(kept == Published::Full, full, "step {step}");
                if let Published::Kept(number) = kept {
                    let found = database.published_value(&who, number);
                    assert_eq!(found, Ok(Some((key, value.clone()))), "step {step}");
                    published.insert((key, value), second);
                }
            }
            80..82 => {
                let wanted = published.keys().nth(rng.random_range(0..6)).cloned();
                let (key, value) = wanted.unwrap_or((key, b"absent".to_vec()));
                let was_there = published.remove(&(key, value.clone())).is_some();
                let number = database.withdraw(&mut who, &key, &value).expect("a withdrawal");
                assert_eq!(number.is_some(), was_there, "step {step}");
                if let Some(number) = number {
                    assert_eq!(database.published_value(&who, number), Ok(None));
                }
            }
            82..84 => {
                let before = values.len();
                values.retain(|_, time| *time > second / 4);
                let deleted = expire(&mut database, &mut who, second / 4, 1000);
                assert_eq!(deleted as usize, before - values.len(), "step {step}");
            }
            84..87 => {
                let count = rng.random_range(0..6);
                *contacts =
                    (0..count).map(|_| (Id::random(&mut rng), rng.random_range(1..=u16::MAX))).collect();
                let saved = contacts
                    .iter()
                    .map(|&(id, port)| (Contact { id, addr: ([10, 0, 0, 1], port).into() }, None));
                database.save_contacts(&who, saved).expect("saved");
            }
            87..93 => {
                database.commit().expect("a commit");
                committed = now.clone();
            }
            93..97 => {
                database.roll_back();
                now = committed.clone();
            }
            _ if matches!(place, Place::Memory) => {}
            _ => {
                drop(database);
                (database, who) = place.open_with(limits);
                now = committed.clone();
            }
        }
        let (values, contacts, published) = &now;
        // A get makes the totals follow a rollback.
        get(&mut database, &mut who, &key, 0);
        let bytes: u64 = values.keys().map(|(_, value)| charge(value)).sum();
        let under: BTreeSet<_> = values.keys().map(|(key, _)| key).collect();
        assert_eq!(
            (who.values(), who.keys(), who.bytes()),
            (values.len() as u64, under.len(), bytes),
            "step {step}"
        );
        let saved: BTreeSet<_> =
            (database.contacts(&who).expect("contacts").iter()).map(|c| (c.id, c.addr.port())).collect();
        assert_eq!(&saved, contacts, "step {step}");
        assert_eq!(who.published(), published.len() as u64, "step {step}");
        let mut times: Vec<_> = published.values().map(|time| UnixTime(*time)).collect();
        times.sort();
        let mut found = database.published(&who).expect("rows");
        found.sort_by_key(|(_, time)| *time);
        assert!(found.iter().map(|(_, time)| *time).eq(times), "step {step}: {found:?}");
    }
}

#[test]
fn a_resident_without_values_is_small() {
    assert!(size_of::<Resident>() <= 264, "{}", size_of::<Resident>());
}

/// Nodes share a database in memory, and do not see each other's rows.
#[test]
fn nodes_in_memory_are_apart() {
    let mut database = Database::in_memory().expect("memory");
    let limits = Limits { max_values_per_key: 1, ..ROOMY };
    let mut one = database.move_in(Some(Id::of(b"1")), Id::of(b"-"), limits).expect("room");
    let mut two = database.move_in(None, Id::of(b"2"), limits).expect("room for more");
    assert_eq!((one.id(), two.id()), (Id::of(b"1"), Id::of(b"2")));
    let key = Id::of(b"key");
    assert_eq!(put(&mut database, &mut one, &key, b"value", 1), Put::Added);
    assert!(get(&mut database, &mut two, &key, 0).is_empty());
    assert_eq!(put(&mut database, &mut two, &key, b"value", 2), Put::Added);
    database.save_contacts(&one, [(contact("a", "1.2.3.4:5"), None)]).expect("saved");
    database.save_contacts(&two, [(contact("b", "1.2.3.4:5"), None)]).expect("saved");
    assert_eq!(expire(&mut database, &mut two, 1, 10), 0);
    assert_eq!(get(&mut database, &mut one, &key, 0).len(), 1, "expiry is of one node only");
    database.move_out(two).expect("moved out");
    assert_eq!(get(&mut database, &mut one, &key, 0).len(), 1);
    assert_eq!(database.contacts(&one), Ok(vec![contact("a", "1.2.3.4:5")]));
    // The newcomer may get the row of the one that left, but nothing else of it.
    let mut three = database.move_in(None, Id::of(b"3"), limits).expect("room");
    assert_eq!((three.values(), database.contacts(&three)), (0, Ok(vec![])));
    assert_eq!(put(&mut database, &mut three, &key, b"value", 1), Put::Added);
}

#[test]
fn only_files_have_one_node() {
    let file = Place::file();
    let (mut database, who) = file.open_with(ROOMY);
    assert_eq!(database.move_in(None, Id::of(b"2"), ROOMY).err(), Some(StoreError::InUse(file.path())));
    database.move_out(who).expect("moved out");
    assert_eq!(database.move_in(None, Id::of(b"2"), ROOMY).err(), Some(StoreError::InUse(file.path())));
}

/// In an empty database and in one that `ANALYZE` has told of its many rows.
#[test]
fn no_query_that_runs_often_scans() {
    let place = Place::file();
    let (mut database, mut who) = place.open_with(ROOMY);
    for value in 0..2000u16 {
        put(&mut database, &mut who, &Id::of(&[value as u8]), &value.to_be_bytes(), 7);
    }
    database.commit().expect("a commit");
    drop(database);
    let connection = rusqlite::Connection::open(place.path()).expect("a database");
    for statistics in ["", "ANALYZE"] {
        connection.execute_batch(statistics).expect("statistics");
        for query in QUERIES {
            let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {query}")).expect(query);
            let nothing = vec![rusqlite::types::Null; statement.parameter_count()];
            let plan =
                statement.query_map(rusqlite::params_from_iter(nothing), |row| row.get::<_, String>(3));
            for step in plan.expect("a plan") {
                let step = step.expect("a step");
                let wrong = step.starts_with("SCAN") || step.contains("TEMP B-TREE");
                let by_time_only = query.contains("key =") && step.contains("value_by_end");
                assert!(!wrong && !by_time_only, "{query}: {step} (statistics: {statistics:?})");
            }
        }
    }
    drop(connection);
    // A database that somebody has analysed is still ours.
    place.open();
}
