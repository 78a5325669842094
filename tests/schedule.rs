//! When a node looks after which key: against a plain map, and what others can do about it.

use std::collections::BTreeMap;

use khashmir::Id;
use khashmir::node::schedule::{Check, Checks, MAX_POSTPONED, NOBODY, Renewals};
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

/// Keys become late, wait for their block's turn, are looked after, put off and forgotten.
#[test]
fn whoever_is_late_has_its_turn() {
    for seed in 0..40 {
        println!("seed {seed}");
        let mut rng = seeded(seed_from_number(seed));
        let mut checks = Checks::default();
        let keys: Vec<Id> = (0..40u8).map(|n| Id::of(&[n])).collect();
        for now in 0..2000 {
            let (key, block) = (keys[rng.random_range(0..keys.len())], rng.random_range(0..5));
            match rng.random_range(0..8) {
                0..2 => checks.set(key, now, now + rng.random_range(0..100), 50),
                2..5 => checks.wait(&key, [block]),
                5 => checks.postpone(&key, now + 70),
                6 => checks.note_block(&key, block),
                _ => checks.remove(&key),
            }
            checks.spend(rng.random_range(0..5), rng.random_range(0..5));
            let all: Vec<(Id, Check)> =
                keys.iter().filter_map(|key| Some((*key, checks.get(key)?))).collect();
            assert_eq!(checks.len(), all.len());
            let first = all.iter().filter(|(_, check)| !check.late).map(|(key, check)| (check.due, *key));
            assert_eq!(checks.first(), first.min(), "at {now}");
            let next = checks.next();
            let block = next.map(|(_, key)| checks.get(&key).expect("a check").block());
            let waiting =
                all.iter().filter(|(_, check)| check.late && block.is_none_or(|it| check.block() == it));
            assert_eq!(next, waiting.map(|(key, check)| (check.due, *key)).min(), "at {now}");
        }
        while let Some((_, key)) = checks.next() {
            checks.remove(&key);
        }
        assert!(keys.iter().filter_map(|key| checks.get(key)).all(|check| !check.late));
    }
}

/// Blocks of one key to a thousand, and of checks that cost little or much.
#[test]
fn turns_are_shared_by_what_they_cost() {
    let costs = [100, 9_000, 240_000];
    let mut checks = Checks::default();
    for (block, count) in [(0, 2u32), (1, 1000), (2, 50)] {
        for n in 0..count {
            let key = Id::of(format!("{block} {n}").as_bytes());
            checks.set(key, 0, n, 900);
            checks.wait(&key, [block]);
        }
    }
    let (mut spent, mut seen) = ([0; 3], BTreeMap::new());
    for now in 2000..12_000 {
        let (_, key) = checks.next().expect("somebody waits");
        let block = checks.get(&key).expect("a check").block();
        *seen.entry(key).or_insert(0u32) += 1;
        checks.set(key, now, now, 900);
        checks.wait(&key, [block]);
        checks.spend(block, costs[block as usize]);
        spent[block as usize] += costs[block as usize];
    }
    let (least, most) = (spent.iter().min().expect("three"), spent.iter().max().expect("three"));
    assert!(most - least <= 2 * costs[2], "{spent:?}");
    // And within a block it goes round.
    let looks = |n: u32| seen.get(&Id::of(format!("0 {n}").as_bytes())).copied().unwrap_or(0);
    assert!(looks(0).abs_diff(looks(1)) <= 1 && looks(0) > 1000, "{} {}", looks(0), looks(1));
}

/// Who has waited for nothing has saved up nothing, nor does he start behind.
#[test]
fn who_comes_later_shares_from_then_on() {
    let mut checks = Checks::default();
    let mut spent = [0; 2];
    for now in 0..2000u32 {
        for block in [0, 1] {
            let key = Id::of(&[block as u8]);
            if (block == 0 || now >= 1000) && checks.get(&key).is_none() {
                checks.set(key, now, now, 900);
                checks.wait(&key, [block]);
            }
        }
        let (_, key) = checks.next().expect("somebody waits");
        let block = checks.get(&key).expect("a check").block();
        checks.remove(&key);
        checks.spend(block, 9000);
        spent[block as usize] += u32::from(now >= 1000);
    }
    assert!(spent[0].abs_diff(spent[1]) <= 2, "{spent:?}");
}

#[test]
fn a_key_of_several_blocks_waits_where_the_fewest_do() {
    let (crowd, few) = (7, 8);
    let mut checks = Checks::default();
    let late = |checks: &mut Checks, name: &str, blocks: &[u64]| {
        let key = Id::of(name.as_bytes());
        checks.set(key, 0, 100, 900);
        checks.wait(&key, blocks.iter().copied());
        (key, checks.get(&key).expect("a check").block())
    };
    for n in 0..100 {
        late(&mut checks, &n.to_string(), &[crowd]);
    }
    assert_eq!(late(&mut checks, "one", &[few]).1, few);
    assert_eq!(late(&mut checks, "both", &[crowd, few]).1, few);
    assert_eq!(late(&mut checks, "nobody's", &[]).1, NOBODY);
    let (key, block) = late(&mut checks, "the crowd's", &[crowd]);
    assert_eq!(block, crowd);
    // Its publisher stores it again; and then one of the crowd.
    for block in [few, crowd] {
        checks.note_block(&key, block);
        assert_eq!(checks.get(&key).map(|check| (check.block(), check.late)), Some((few, true)));
    }
    // That is remembered for the next time.
    checks.set(key, 200, 300, 900);
    checks.wait(&key, [crowd]);
    assert_eq!(checks.get(&key).map(|check| check.block()), Some(few));
}
