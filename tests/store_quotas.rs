//! How much a store takes: from whom, under which key and in all; and who makes room.

#[path = "support/limits.rs"]
mod limits;
#[path = "support/senders.rs"]
mod senders;

use khashmir::random::{seed_from_number, seeded};
use khashmir::store::{Database, Limits, NewValue, Put, Refusal, Resident};
use khashmir::time::UnixTime;
use khashmir::{Durability, Id, WhenFull};
use limits::LIMITS as ROOMY;
use rand::RngExt;
use senders::*;

/// A value that was there.
const RENEWED: Put = Put::Renewed { until: UnixTime(END) };

fn has(store: &mut (Database, Resident), key: &Id, value: u64) -> bool {
    let digest = Id::of(&value.to_be_bytes());
    let found = store.0.value(&mut store.1, key, &UnixTime(0).into(), &digest).expect("a look");
    found.is_some()
}

#[test]
fn a_key_has_so_many_values_and_bytes() {
    let mut store = store(Limits { max_values_per_key: 3, max_bytes_per_key: 2 * EACH, ..ROOMY });
    assert_eq!(put(&mut store, &key(1), 1, "10.0.0.1"), Put::Added);
    assert_eq!(put(&mut store, &key(1), 2, "10.0.0.1"), Put::Added);
    let refused = Put::Refused(Refusal::KeyBytes { limit: 2 * EACH });
    assert_eq!(put(&mut store, &key(1), 3, "10.0.0.1"), refused);
    assert_eq!(put(&mut store, &key(1), 2, "10.0.0.1"), RENEWED);
    assert_eq!(put(&mut store, &key(2), 3, "10.0.0.1"), Put::Added);
    store.1 = {
        let who = store.0.move_in(Some(ME), ME, Limits { max_values_per_key: 1, ..ROOMY });
        who.expect("room")
    };
    assert_eq!(put(&mut store, &key(1), 1, ""), Put::Added);
    assert_eq!(put(&mut store, &key(1), 2, ""), Put::Refused(Refusal::KeyValues { limit: 1 }));
}

#[test]
fn an_address_and_its_block_have_so_many_bytes() {
    let limits = Limits { max_bytes_per_address: 2 * EACH, max_bytes_per_block: 3 * EACH, ..ROOMY };
    for (one, two, elsewhere) in [
        ("10.0.0.1", "10.0.0.255", "10.0.1.1"),
        ("::ffff:10.0.0.1", "10.0.0.2", "10.0.1.1"),
        ("2001:db8::1", "2001:db8::ffff:0:0:1", "2001:db8:0:1::1"),
    ] {
        let mut store = store(limits);
        assert_eq!(put(&mut store, &key(1), 1, one), Put::Added);
        assert_eq!(put(&mut store, &key(2), 1, one), Put::Added);
        let refused = Put::Refused(Refusal::AddressBytes { limit: 2 * EACH });
        assert_eq!(put(&mut store, &key(3), 1, one), refused, "{one}");
        assert_eq!(put(&mut store, &key(3), 1, two), Put::Added);
        let refused = Put::Refused(Refusal::BlockBytes { limit: 3 * EACH });
        assert_eq!(put(&mut store, &key(4), 1, two), refused, "{two}");
        assert_eq!(put(&mut store, &key(4), 1, elsewhere), Put::Added);
        assert_eq!(put(&mut store, &key(5), 1, ""), Put::Added, "the owner's");
        assert_eq!(store.1.bytes_from(ip(one)), (2 * EACH, 3 * EACH));
        // Who stored it first is who it counts for.
        assert_eq!(put(&mut store, &key(1), 1, elsewhere), RENEWED);
        assert_eq!(store.1.bytes_from(ip(elsewhere)).0, EACH);
        // What has expired makes room.
        assert_eq!(put_for(&mut store, &key(6), 1, one, (END, END)), Put::Added);
    }
}

#[test]
fn loopback_addresses_are_not_limited_unless_that_is_wanted() {
    for limit_loopback in [false, true] {
        let mut store = store(Limits { max_bytes_per_address: EACH, limit_loopback, ..ROOMY });
        for address in ["127.0.0.1", "::1", "::ffff:127.0.0.2"] {
            assert_eq!(put(&mut store, &Id::of(address.as_bytes()), 1, address), Put::Added);
            let second = put(&mut store, &Id::of(address.as_bytes()), 2, address);
            assert_eq!(second == Put::Added, !limit_loopback, "{address}: {second:?}");
        }
    }
}

#[test]
fn a_full_store_refuses() {
    for (limits, room) in
        [(Limits { max_stored_bytes: 3 * EACH, ..ROOMY }, 3), (Limits { max_stored_values: 4, ..ROOMY }, 4)]
    {
        let mut store = store(limits);
        for number in 0..room {
            assert_eq!(put(&mut store, &key(number), 1, "10.0.0.1"), Put::Added);
        }
        assert_eq!(put(&mut store, &key(0), 2, "10.0.9.1"), Put::Refused(Refusal::Full));
        assert!(!store.1.has_room(&key(0), 8, None));
        assert_eq!(put(&mut store, &key(0), 1, "10.0.9.1"), RENEWED);
        assert_eq!(store.1.values(), room.into());
        // What has expired makes room.
        assert_eq!(put_for(&mut store, &key(0), 2, "10.0.9.1", (END, END)), Put::Added);
        assert_eq!(store.1.displaced(), 0);
    }
}

#[test]
fn who_holds_most_makes_room_with_what_is_farthest_and_oldest() {
    let mut store = store(Limits { max_stored_values: 6, when_full: WhenFull::MakeRoom, ..ROOMY });
    for far in [1, 2] {
        put(&mut store, &key(far), 1, "10.0.0.1");
    }
    // A block of two addresses holds most.
    put_for(&mut store, &key(9), 1, "10.0.1.1", (5, END));
    put_for(&mut store, &key(9), 2, "10.0.1.2", (3, END));
    put_for(&mut store, &key(3), 3, "10.0.1.2", (1, END));
    put(&mut store, &key(9), 9, "");
    assert_eq!(put(&mut store, &key(8), 1, "10.0.2.1"), Put::Added);
    assert!(!has(&mut store, &key(9), 2), "of two as far away the oldest");
    assert!(has(&mut store, &key(9), 1));
    // Both blocks hold two; with one more, that of the newcomer holds most.
    assert_eq!(put(&mut store, &key(200), 1, "10.0.0.9"), Put::Refused(Refusal::Displaced));
    assert_eq!(put(&mut store, &key(0), 1, "10.0.0.9"), Put::Added);
    assert!(!has(&mut store, &key(2), 1));
    // What the owner stored stays, and finds room.
    for far in 100..110 {
        let taken = put(&mut store, &key(far), 1, "");
        let room = far < 105;
        assert_eq!(taken, if room { Put::Added } else { Put::Refused(Refusal::Full) }, "{far}");
    }
    assert!(has(&mut store, &key(9), 9));
    assert_eq!((store.1.values(), store.1.displaced()), (6, 7));
    assert_eq!(put(&mut store, &key(0), 7, "10.0.0.1"), Put::Refused(Refusal::Displaced));
}

/// A long value takes the room of many short ones, or of none.
#[test]
fn a_long_value_takes_the_room_of_many() {
    let limits = Limits { max_stored_bytes: 450 * EACH, when_full: WhenFull::MakeRoom, ..ROOMY };
    let mut store = store(limits);
    for number in 0..450u64 {
        assert_eq!(put(&mut store, &Id::of(&number.to_be_bytes()), 1, "10.0.0.1"), Put::Added);
    }
    let mut put_long = |length: u64| {
        let value = vec![7; length as usize];
        let new = NewValue {
            key: &key(1),
            value: &value,
            time: UnixTime(1),
            expires: UnixTime(END),
            sender: Some(ip("10.0.1.1")),
        };
        let put = store.0.put(&mut store.1, &new, &UnixTime(1).into()).expect("a put");
        (put, store.1.values())
    };
    assert_eq!(put_long(220 * EACH), (Put::Refused(Refusal::Full), 450), "too many at once");
    assert_eq!(put_long(449 * EACH + 9), (Put::Refused(Refusal::Full), 450), "more than there is");
    assert_eq!(put_long(300 * EACH), (Put::Refused(Refusal::Displaced), 450), "more than the others have");
    assert_eq!(put_long(99 * EACH + 8), (Put::Added, 351));
    assert_eq!(put_long(300 * EACH), (Put::Refused(Refusal::Displaced), 351), "nothing went in vain");
}

#[test]
fn what_did_not_make_room_after_all_is_not_counted() {
    let mut store = store(Limits { max_stored_values: 2, when_full: WhenFull::MakeRoom, ..ROOMY });
    for far in [8, 9] {
        assert_eq!(put(&mut store, &key(far), 1, "10.0.0.1"), Put::Added);
    }
    store.0.commit().expect("a commit");
    for _ in 0..3 {
        assert_eq!(put(&mut store, &key(1), 1, "10.0.0.1"), Put::Added);
        store.0.roll_back();
        store.0.settle(&mut store.1);
        assert_eq!((store.1.values(), store.1.keys(), store.1.displaced()), (2, 2, 0));
        assert!(has(&mut store, &key(9), 1));
    }
}

/// A flood from one block takes nothing from the others, however it is mixed.
#[test]
fn a_flood_leaves_others_where_they_are() {
    for seed in 0..20 {
        let mut rng = seeded(seed_from_number(seed));
        let limits = Limits { max_stored_values: 100, when_full: WhenFull::MakeRoom, ..ROOMY };
        let mut store = store(limits);
        let mut others = Vec::new();
        for number in 0..1000u64 {
            let from_others = others.len() < 40 && rng.random_bool(0.05);
            let sender = if from_others {
                format!("10.1.{}.1", others.len() % 8)
            } else {
                format!("10.0.0.{}", rng.random_range(0..255))
            };
            let key = Id::random(&mut rng);
            let taken = put(&mut store, &key, number, &sender);
            if from_others {
                assert_eq!(taken, Put::Added, "seed {seed}");
                others.push((key, number));
            }
            assert!(store.1.values() <= 100);
        }
        for (key, number) in others {
            assert!(has(&mut store, &key, number), "seed {seed}");
        }
    }
}

/// Against plain lists, with commits, rollbacks and restarts in a file.
#[test]
fn what_senders_hold_is_counted() {
    for seed in 0..15 {
        let mut rng = seeded(seed_from_number(seed));
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("node.db");
        let when_full = |rng: &mut khashmir::random::Random| {
            if rng.random_bool(0.7) { WhenFull::MakeRoom } else { WhenFull::Refuse }
        };
        let open = |when_full| {
            let mut database = Database::open(&path, Durability::Program).expect("a sound file");
            let limits = Limits { max_stored_bytes: 30 * EACH, when_full, ..ROOMY };
            let who = database.move_in(Some(ME), ME, limits).expect("room");
            (database, who)
        };
        let mut store = open(when_full(&mut rng));
        for _ in 0..300 {
            match rng.random_range(0..100) {
                0..80 => {
                    let sender = format!("10.0.{}.{}", rng.random_range(0..3), rng.random_range(0..3));
                    let sender = if rng.random_bool(0.1) { "" } else { &sender };
                    let value = rng.random_range(0..1000);
                    put_for(&mut store, &key(rng.random()), value, sender, (rng.random_range(0..100), END));
                }
                80..85 => drop(store.0.expire(&mut store.1, UnixTime(END), 3).expect("expiry")),
                85..92 => store.0.commit().expect("a commit"),
                92..97 => store.0.roll_back(),
                _ => {
                    store.0.commit().expect("a commit");
                    drop(store);
                    store = open(when_full(&mut rng));
                }
            }
            store.0.settle(&mut store.1);
        }
        store.0.commit().expect("a commit");
        let reader = rusqlite::Connection::open(&path).expect("a database");
        let mut total = 0;
        for block in 0..3 {
            let mut in_block = 0;
            for host in 0..3 {
                let sender = format!("10.0.{block}.{host}");
                let count: u32 = reader
                    .query_row("SELECT count(*) FROM value WHERE sender = ?1", [&sender], |row| row.get(0))
                    .expect("a count");
                assert_eq!(
                    store.1.bytes_from(ip(&sender)).0,
                    u64::from(count) * EACH,
                    "seed {seed}: {sender}"
                );
                in_block += u64::from(count);
            }
            let block = ip(&format!("10.0.{block}.7"));
            assert_eq!(store.1.bytes_from(block), (0, in_block * EACH), "seed {seed}");
            total += in_block;
        }
        let own: u32 = reader
            .query_row("SELECT count(*) FROM value WHERE sender IS NULL", [], |row| row.get(0))
            .expect("a count");
        assert_eq!(store.1.values(), total + u64::from(own), "seed {seed}");
        assert_eq!(store.1.bytes(), (total + u64::from(own)) * EACH, "seed {seed}");
    }
}
