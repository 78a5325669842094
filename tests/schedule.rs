//! When a node looks after which key: against a plain map, and what others can do about it.

use std::collections::BTreeMap;

use khashmir::Id;
use khashmir::node::schedule::{Checks, MAX_POSTPONED, Renewals};
use khashmir::random::{seed_from_number, seeded};
use rand::RngExt;

#[test]
fn the_first_that_is_due_comes_first() {
    for seed in 0..40 {
        println!("seed {seed}");
        let mut rng = seeded(seed_from_number(seed));
        let (mut checks, mut renewals) = (Checks::default(), Renewals::default());
        let (mut keys, mut numbers) = (BTreeMap::new(), BTreeMap::new());
        for now in 0..500 {
            let number = rng.random_range(0..12);
            let (key, due) = (Id::of(&[number as u8]), now + rng.random_range(0..100));
            match rng.random_range(0..7) {
                0..3 => {
                    let interval = rng.random_range(1..50);
                    checks.set(key, now, due, interval);
                    keys.insert(key, (due, due.max(now + MAX_POSTPONED * u32::from(interval))));
                    renewals.set(number, due);
                    numbers.insert(number, due);
                }
                3..6 => {
                    checks.postpone(&key, due);
                    keys.entry(key).and_modify(|(before, latest)| *before = due.min(*latest).max(*before));
                }
                _ => {
                    checks.remove(&key);
                    keys.remove(&key);
                    renewals.remove(number);
                    numbers.remove(&number);
                }
            }
            let first = keys.iter().map(|(key, (due, _))| (*due, *key)).min();
            assert_eq!((checks.first(), checks.len()), (first, keys.len()), "at {now}");
            assert_eq!(checks.get(&key).map(|check| check.due), keys.get(&key).map(|(due, _)| *due));
            let first = numbers.iter().map(|(number, due)| (*due, *number)).min();
            assert_eq!(renewals.first(), first, "at {now}");
            assert_eq!(renewals.contains(number), numbers.contains_key(&number));
        }
    }
}

/// However often others claim to have seen to a key.
#[test]
fn a_check_is_not_put_off_for_ever() {
    let (mut checks, key) = (Checks::default(), Id::of(b"key"));
    checks.set(key, 1000, 1500, 900);
    for now in 1000..20_000 {
        checks.postpone(&key, now + 900);
    }
    assert_eq!(checks.first(), Some((1000 + 4 * 900, key)));
    // Nor does it come before its time.
    checks.set(key, 5000, 5800, 900);
    checks.postpone(&key, 5100);
    assert_eq!(checks.first(), Some((5800, key)));
}
