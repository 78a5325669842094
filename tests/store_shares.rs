//! What one block of addresses may have under a key, and who pays for a value that several store.

#[path = "support/limits.rs"]
mod limits;
#[path = "support/senders.rs"]
mod senders;

use khashmir::random::{Random, seed_from_number, seeded};
use khashmir::store::{Database, Limits, Put, Refusal};
use khashmir::time::UnixTime;
use khashmir::{Durability, Id, WhenFull};
use limits::LIMITS as ROOMY;
use rand::RngExt;
use senders::*;

fn until(end: i64) -> Put {
    Put::Renewed { until: UnixTime(end) }
}

fn has(store: &mut Store, key: &Id, value: u64) -> bool {
    let digest = Id::of(&value.to_be_bytes());
    store.0.value(&mut store.1, key, &UnixTime(0).into(), &digest).expect("a look").is_some()
}

/// Bytes of the address and of its block.
fn held(store: &Store, sender: &str) -> (u64, u64) {
    store.1.bytes_from(ip(sender))
}

const VALUES: Put = Put::Refused(Refusal::BlockKeyValues { limit: 40 });

#[test]
fn a_block_has_so_many_values_of_a_key() {
    let limits = Limits { max_values_per_key_and_block: 40, max_values_per_key: 100, ..ROOMY };
    for (one, two, elsewhere) in
        [("10.0.0.1", "10.0.0.255", "10.0.1.1"), ("2001:db8::1", "2001:db8::ffff:0:0:1", "2001:db8:0:1::1")]
    {
        let mut store = store(limits);
        for n in 0..40 {
            assert_eq!(put(&mut store, &key(1), n, if n % 2 == 0 { one } else { two }), Put::Added);
        }
        assert_eq!(put(&mut store, &key(1), 40, one), VALUES);
        assert_eq!(put(&mut store, &key(1), 40, two), VALUES);
        assert_eq!(put(&mut store, &key(1), 7, two), until(END), "needs no room");
        assert_eq!(put(&mut store, &key(2), 40, two), Put::Added);
        assert!(!store.1.has_room(&key(1), 8, Some(ip(one))));
        assert!(store.1.has_room(&key(1), 8, Some(ip(elsewhere))));
        for n in 0..40 {
            assert_eq!(put(&mut store, &key(1), 100 + n, elsewhere), Put::Added);
        }
        assert_eq!(put(&mut store, &key(1), 200, elsewhere), VALUES);
        assert_eq!(put(&mut store, &key(1), 201, ""), Put::Added, "the owner's");
        for n in 0..19 {
            assert_eq!(put(&mut store, &key(1), 300 + n, "127.0.0.1"), Put::Added);
        }
        let full = Put::Refused(Refusal::KeyValues { limit: 100 });
        assert_eq!(put(&mut store, &key(1), 400, "127.0.0.1"), full);
    }
}

#[test]
fn a_block_has_so_many_bytes_of_a_key() {
    for (most, few) in [(30, false), (3, true)] {
        let limits = Limits { max_bytes_per_key_and_block: most * EACH, ..ROOMY };
        let mut store = store(limits);
        for n in 0..most {
            assert_eq!(put(&mut store, &key(1), n, "10.0.0.1"), Put::Added);
        }
        let refused = Put::Refused(Refusal::BlockKeyBytes { limit: most * EACH });
        assert_eq!(put(&mut store, &key(1), most, "10.0.0.2"), refused);
        assert_eq!(put(&mut store, &key(1), most, "10.0.1.2"), Put::Added);
        // Of a key with few values no count is kept.
        assert_eq!(store.1.crowded_keys(), usize::from(!few));
    }
}

#[test]
fn loopback_addresses_have_a_share_if_that_is_wanted() {
    let limits = Limits { max_values_per_key_and_block: 1, limit_loopback: true, ..ROOMY };
    let mut store = store(limits);
    assert_eq!(put(&mut store, &key(1), 1, "127.0.0.1"), Put::Added);
    let refused = Put::Refused(Refusal::BlockKeyValues { limit: 1 });
    assert_eq!(put(&mut store, &key(1), 2, "127.0.0.2"), refused);
}

/// Shares are counted anew where they matter again: after a restart, and after the key had less.
#[test]
fn a_share_is_the_same_after_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("node.db");
    let limits = Limits { max_values_per_key_and_block: 40, ..ROOMY };
    let open = || {
        let mut database = Database::open(&path, Durability::Program).expect("a sound file");
        let who = database.move_in(Some(ME), ME, limits).expect("room");
        (database, who)
    };
    let mut store = open();
    for n in 0..80 {
        let sender = if n < 40 { "10.0.0.1" } else { "10.0.1.1" };
        assert_eq!(put_for(&mut store, &key(1), n, sender, (1, n as i64 + 10)), Put::Added);
    }
    assert_eq!(put(&mut store, &key(1), 99, "10.0.1.9"), VALUES);
    store.0.commit().expect("a commit");
    drop(store);
    let mut store = open();
    assert_eq!(store.1.crowded_keys(), 0);
    assert_eq!(put(&mut store, &key(1), 99, "10.0.1.9"), VALUES);
    assert_eq!(store.1.share_of(&key(1), ip("10.0.0.0")), Some((40, 40 * EACH)));
    // Much less than matters; and back again.
    while store.0.expire(&mut store.1, UnixTime(75), 20).expect("expiry").deleted > 0 {}
    assert_eq!((store.1.values(), store.1.crowded_keys()), (14, 0));
    store.0.roll_back();
    store.0.settle(&mut store.1);
    assert_eq!(put(&mut store, &key(1), 99, "10.0.1.9"), VALUES);
    assert_eq!(store.1.share_of(&key(1), ip("10.0.0.0")), Some((40, 40 * EACH)));
}

/// What has expired under a full key makes room there first, however much else has.
#[test]
fn a_full_key_of_expired_values_takes_new_ones() {
    let by_share = Limits { max_values_per_key_and_block: 50, ..ROOMY };
    let by_number = Limits { max_values_per_key: 50, ..ROOMY };
    let by_bytes = Limits { max_bytes_per_key: 50 * EACH, ..ROOMY };
    for limits in [by_share, by_number, by_bytes, Limits { max_values_per_key: 5, ..ROOMY }] {
        let mut store = store(limits);
        for n in 0..500 {
            assert_eq!(put_for(&mut store, &key(n as u8), n, "10.0.0.1", (1, 5)), Put::Added);
        }
        let many = limits.max_values_per_key.min(50) as u64;
        for n in 0..many {
            assert!(matches!(
                put_for(&mut store, &key(7), 1000 + n, "10.0.0.1", (1, 9 + n as i64 % 2)),
                Put::Added | Put::Refused(_)
            ));
        }
        for (now, fits) in [(4, 0), (10, many)] {
            for n in 0..many + 5 {
                let taken = put_for(&mut store, &key(7), 2000 + n, "10.0.0.1", (now, END));
                assert_eq!(taken == Put::Added, n < fits, "{n} at {now}: {taken:?}");
            }
        }
    }
}

/// A flood of one block leaves room for everybody else under its key, and costs no count of its own
/// under keys that have little.
#[test]
fn nobody_fills_a_key_alone() {
    let mut store = store(Limits::default());
    for n in 0..3000 {
        put(&mut store, &key(1), n, &format!("10.0.0.{}", n % 256));
    }
    assert_eq!(store.1.values(), 128);
    for n in 0..500u64 {
        let sender = format!("10.1.{}.1", n % 250);
        assert_eq!(put(&mut store, &key(1), 10_000 + n, &sender), Put::Added);
        assert_eq!(put(&mut store, &Id::of(&n.to_be_bytes()), n, &sender), Put::Added);
    }
    assert_eq!(store.1.crowded_keys(), 1);
}

/// Whoever keeps a value alive that others have given up pays for it; what changes next to nothing
/// is not done.
#[test]
fn who_keeps_a_value_alive_pays() {
    let (first, second) = ("10.0.0.1", "10.0.1.1");
    let mut store = store(ROOMY);
    assert_eq!(put_for(&mut store, &key(1), 1, first, (0, 1000)), Put::Added);
    // Others add a tenth of a life or less: nothing.
    for now in [0, 50, 100] {
        assert_eq!(put_for(&mut store, &key(1), 1, second, (now, now + 1000)), until(1000));
    }
    assert_eq!((held(&store, first).0, held(&store, second).0), (EACH, 0));
    // The payer adds what he likes, ...
    assert_eq!(put_for(&mut store, &key(1), 1, first, (100, 1100)), until(1100));
    assert_eq!(put_for(&mut store, &key(1), 1, "::ffff:10.0.0.1", (101, 1101)), until(1101));
    assert_eq!(put_for(&mut store, &key(1), 1, second, (150, 1150)), until(1101));
    // ... and when he does not come any more, another does.
    assert_eq!(put_for(&mut store, &key(1), 1, second, (202, 1202)), until(1202));
    assert_eq!((held(&store, first), held(&store, second)), ((0, 0), (EACH, EACH)));
    // A shorter life takes nothing away.
    assert_eq!(put_for(&mut store, &key(1), 1, second, (300, 310)), until(1202));
    // What the owner stores is his, until he does so no more.
    assert_eq!(put_for(&mut store, &key(1), 1, "", (300, 400)), until(1202));
    assert_eq!(held(&store, second), (0, 0));
    assert_eq!(put_for(&mut store, &key(1), 1, second, (400, 1400)), until(1400));
    assert_eq!((held(&store, second), store.1.bytes()), ((EACH, EACH), EACH));
    // All of that can be undone.
    store.0.roll_back();
    store.0.settle(&mut store.1);
    assert_eq!((held(&store, first), held(&store, second), store.1.values()), ((0, 0), (0, 0), 0));
}

/// Without room for it, a value that others have given up ends when they said; a block's address
/// takes it over from another without room in the block.
#[test]
fn who_has_no_room_keeps_nothing_alive() {
    let limits = Limits { max_bytes_per_address: EACH, max_bytes_per_block: 2 * EACH, ..ROOMY };
    let mut store = store(limits);
    for (far, sender) in [(1, "10.0.0.1"), (2, "10.0.1.1"), (3, "10.0.1.2")] {
        assert_eq!(put_for(&mut store, &key(far), 1, sender, (0, 100)), Put::Added);
    }
    assert_eq!(put_for(&mut store, &key(1), 1, "10.0.1.1", (50, 150)), until(100));
    assert_eq!(put_for(&mut store, &key(1), 1, "10.0.1.3", (50, 150)), until(100));
    let refused = Put::Refused(Refusal::BlockBytes { limit: 2 * EACH });
    assert_eq!(put_for(&mut store, &key(1), 1, "10.0.1.3", (100, 150)), refused, "it is over");
    assert_eq!(put_for(&mut store, &key(2), 1, "10.0.1.3", (50, 150)), until(150));
    assert_eq!(held(&store, "10.0.1.1"), (0, 2 * EACH));
    assert_eq!(held(&store, "10.0.1.3"), (EACH, 2 * EACH));
    // Nor beyond its share of the key.
    let mut store = self::store(Limits { max_values_per_key_and_block: 1, ..ROOMY });
    for (value, sender) in [(1, "10.0.0.1"), (2, "10.0.1.1")] {
        assert_eq!(put_for(&mut store, &key(1), value, sender, (0, 100)), Put::Added);
    }
    assert_eq!(put_for(&mut store, &key(1), 1, "10.0.1.1", (50, 150)), until(100));
    assert_eq!(held(&store, "10.0.1.1").0, EACH);
}

/// Somebody stores what another is about to publish, and then so much that he is the first to make
/// room. What its publisher renews stays all the same.
#[test]
fn what_is_renewed_is_not_displaced_with_who_stored_it_first() {
    let limits = Limits { max_stored_values: 100, when_full: WhenFull::MakeRoom, ..ROOMY };
    let (attacker, victim) = ("10.0.0.1", "10.0.1.1");
    let mut store = store(limits);
    // Farther away than all of the attacker's own.
    let precious = |n: u64| (key(200 + n as u8), n);
    for n in 0..10 {
        let (key, value) = precious(n);
        assert_eq!(put(&mut store, &key, value, attacker), Put::Added);
    }
    for n in 0..90 {
        assert_eq!(put(&mut store, &key(n as u8), 1, attacker), Put::Added);
    }
    for n in 0..10 {
        let (key, value) = precious(n);
        assert_eq!(put_for(&mut store, &key, value, victim, (2, END + 1)), until(END + 1));
    }
    assert_eq!((held(&store, attacker).1, held(&store, victim).1), (90 * EACH, 10 * EACH));
    // He cannot have them back, however little he has: its publisher's block does not hold most.
    for n in 0..10 {
        let (key, value) = precious(n);
        for stranger in [attacker, "10.0.2.1"] {
            assert_eq!(put_for(&mut store, &key, value, stranger, (3, END + 2)), until(END + 1));
        }
    }
    for n in 0..60 {
        put(&mut store, &Id::of(&[n]), 1, "10.0.3.1");
        put(&mut store, &key(n), 2, attacker);
    }
    for n in 0..10 {
        let (key, value) = precious(n);
        assert!(has(&mut store, &key, value), "value {n} is gone");
    }
    assert_eq!((store.1.values(), held(&store, victim).1), (100, 10 * EACH));
    assert!(store.1.displaced() > 40);
}

/// Between two blocks a value does not go to and fro with each renewal.
#[test]
fn two_who_renew_the_same_agree_on_who_pays() {
    let limits = Limits { when_full: WhenFull::MakeRoom, ..ROOMY };
    let mut store = store(limits);
    for n in 0..9 {
        assert_eq!(put(&mut store, &key(1), n, "10.0.0.1"), Put::Added);
    }
    let mut seen = Vec::new();
    for time in 2..6 {
        for sender in ["10.0.1.1", "10.0.0.1"] {
            for n in 0..9 {
                put_for(&mut store, &key(1), n, sender, (time, END + time));
            }
            seen.push((held(&store, "10.0.0.1").0 / EACH, held(&store, "10.0.1.1").0 / EACH));
        }
    }
    assert!(seen.iter().all(|&shares| shares == (5, 4)), "{seen:?}");
}

/// The share of the next test.
const SHARE: usize = 16;

/// Against what SQL says of the file, with commits, rollbacks, expiry and restarts.
#[test]
fn shares_and_payers_are_counted() {
    let (mut moved, mut refused) = (0, 0);
    for seed in 0..15 {
        let mut rng = seeded(seed_from_number(seed));
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("node.db");
        let when_full =
            |rng: &mut Random| if rng.random_bool(0.7) { WhenFull::MakeRoom } else { WhenFull::Refuse };
        let open = |when_full| {
            let mut database = Database::open(&path, Durability::Program).expect("a sound file");
            let limits =
                Limits { max_values_per_key_and_block: SHARE, max_stored_values: 100, when_full, ..ROOMY };
            let who = database.move_in(Some(ME), ME, limits).expect("room");
            (database, who)
        };
        let mut store = open(when_full(&mut rng));
        let mut now = 0;
        for _ in 0..500 {
            match rng.random_range(0..100) {
                0..85 => {
                    let sender = format!("10.0.{}.{}", rng.random_range(0..3), rng.random_range(0..3));
                    let sender = if rng.random_bool(0.1) { "" } else { &sender };
                    let (far, value) = (key(rng.random_range(1..3)), rng.random_range(0..90));
                    let end = now + rng.random_range(1..200);
                    let before = (held(&store, "10.0.0.1").1, held(&store, "10.0.1.1").1);
                    let put = put_for(&mut store, &far, value, sender, (now, end));
                    let after = (held(&store, "10.0.0.1").1, held(&store, "10.0.1.1").1);
                    moved += u32::from(matches!(put, Put::Renewed { .. }) && before != after);
                    let of_share = matches!(put, Put::Refused(Refusal::BlockKeyValues { .. }));
                    refused += u32::from(of_share);
                    now += rng.random_range(0..2);
                }
                85..88 => drop(store.0.expire(&mut store.1, UnixTime(now), 3).expect("expiry")),
                88..93 => store.0.commit().expect("a commit"),
                93..97 => store.0.roll_back(),
                _ => {
                    store.0.commit().expect("a commit");
                    drop(store);
                    store = open(when_full(&mut rng));
                }
            }
            store.0.settle(&mut store.1);
            if rng.random_bool(0.1) {
                store.0.commit().expect("a commit");
                check(&path, &store, seed);
            }
        }
    }
    assert!(moved > 500 && refused > 100, "{moved} moved, {refused} refused");
}

fn check(path: &std::path::Path, store: &Store, seed: u64) {
    let reader = rusqlite::Connection::open(path).expect("a database");
    let count = |what: &str| {
        let query = format!("SELECT count(*) FROM value WHERE {what}");
        reader.query_row(&query, [], |row| row.get::<_, u32>(0)).map(u64::from).expect("a count")
    };
    for block in 0..3 {
        for host in 0..3 {
            let sender = format!("10.0.{block}.{host}");
            let of_address = count(&format!("sender = '{sender}'"));
            assert_eq!(held(store, &sender).0, of_address * EACH, "seed {seed}");
        }
        let sender = format!("10.0.{block}.0");
        let in_block = format!("sender LIKE '10.0.{block}.%'");
        assert_eq!(held(store, &sender).1, count(&in_block) * EACH, "seed {seed}");
        for far in 1..3 {
            let share = store.1.share_of(&key(far), ip(&sender));
            let under_key = count(&format!("{in_block} AND key = x'{}'", key(far)));
            // Not after a restart, until somebody stores under the key.
            assert!(
                share.is_none_or(|share| share == (under_key, under_key * EACH)),
                "seed {seed}: {share:?}"
            );
            assert!(under_key <= SHARE as u64, "seed {seed}: {under_key} of {sender}");
        }
    }
    assert_eq!(store.1.values(), count("true"), "seed {seed}");
}
