//! Storing and finding values against those that are held.

use std::ops::ControlFlow;

use khashmir::random::{seed_from_number, seeded};
use khashmir::store::{Database, NewValue, Put, Resident};
use khashmir::time::UnixTime;
use khashmir::{Durability, Id};
use rand::{Rng, RngExt};
use tempfile::TempDir;

use super::limits::boundless;
use super::{Growth, processor, vfs};

/// So many are stored or looked for each time.
const TIMES: u64 = 4000;
const PASSES: u64 = 4;
/// So many in one transaction.
const BATCH: u64 = 64;
const SIZE: usize = 100;
const NOW: UnixTime = UnixTime(1_000_000_000);

pub fn values(most: u64) -> Growth {
    let mut costs = Vec::new();
    for kind in ["memory", "a file"] {
        costs.push((format!("stored, {kind}"), "µs"));
        costs.push((format!("found, {kind}"), "µs"));
        costs.push((format!("not found, {kind}"), "µs"));
    }
    let memory = Database::in_memory().expect("a database");
    let directory = TempDir::new().expect("a directory");
    let file = Database::open(&directory.path().join("node.db"), Durability::Program).expect("a new file");
    let mut rows: Vec<(u64, Vec<f64>)> = Vec::new();
    for database in [memory, file] {
        for (at, (held, costs)) in measure(database, most).into_iter().enumerate() {
            match rows.get_mut(at) {
                Some(row) => row.1.extend(costs),
                None => rows.push((held, costs)),
            }
        }
    }
    Growth {
        part: "values",
        title: "A value of 100 bytes, against those that a node holds",
        things: "values",
        costs,
        rows,
    }
}

struct Store {
    database: Database,
    who: Resident,
    held: u64,
}

/// Of no order, and its own for each number.
fn numbered(number: u64) -> (Id, [u8; SIZE]) {
    let mut value = [0; SIZE];
    seeded(seed_from_number(number)).fill_bytes(&mut value);
    (Id::of(&number.to_be_bytes()), value)
}

impl Store {
    /// In passes, each in the order of the keys, which is quick, and leaves about as many pages half full as
    /// no order does.
    fn fill(&mut self, held: u64) {
        let first = self.held.min(held);
        for pass in 0..PASSES {
            let mut keys: Vec<(Id, u64)> =
                (first..held).filter(|n| n % PASSES == pass).map(|n| (numbered(n).0, n)).collect();
            keys.sort_unstable();
            for batch in keys.chunks(1024) {
                self.store(&batch.iter().map(|&(_, number)| numbered(number)).collect::<Vec<_>>());
            }
        }
    }

    fn store(&mut self, values: &[(Id, [u8; SIZE])]) {
        for (key, value) in values {
            let expires = UnixTime(NOW.0 + 86_400);
            let new = NewValue { key, value, time: NOW, expires, sender: None };
            let put = self.database.put(&mut self.who, &new, &NOW.into()).expect("to store");
            assert_eq!(put, Put::Added);
        }
        self.database.commit().expect("to commit");
        self.held += values.len() as u64;
    }

    fn look_up(&mut self, key: &Id) -> usize {
        let (mut found, start) = (0, Id::new([0; 20]));
        let each = |_: &[u8]| {
            found += 1;
            ControlFlow::Continue(())
        };
        self.database.values(&mut self.who, key, &NOW.into(), (&start, &start), each).expect("to look");
        found
    }
}

fn measure(mut database: Database, most: u64) -> Vec<(u64, Vec<f64>)> {
    let who = database.move_in(None, Id::of(b"me"), boundless()).expect("room");
    let mut store = Store { database, who, held: 0 };
    let mut rng = seeded(seed_from_number(2));
    let levels = (3..).map(|power| 10u64.pow(power)).take_while(|&held| held <= most);
    levels
        .map(|held| {
            store.fill(held);
            let keys: Vec<Id> = (0..TIMES).map(|_| numbered(rng.random_range(0..held)).0).collect();
            let absent: Vec<Id> = (0..TIMES).map(|number| numbered(u64::MAX - number).0).collect();
            let new: Vec<_> = (held..held + TIMES).map(numbered).collect();
            let found = timed(|| keys.iter().for_each(|key| assert_eq!(store.look_up(key), 1)));
            let not_found = timed(|| absent.iter().for_each(|key| assert_eq!(store.look_up(key), 0)));
            let stored = timed(|| new.chunks(BATCH as usize).for_each(|values| store.store(values)));
            (held, vec![stored, found, not_found])
        })
        .collect()
}

/// Microseconds of a processor for each of those that `act` does, but for the disk's sync.
fn timed(act: impl FnOnce()) -> f64 {
    let (begun, in_sync) = (processor::of_thread(), vfs::work_in_sync());
    act();
    (processor::of_thread() - begun - (vfs::work_in_sync() - in_sync)) * 1e6 / TIMES as f64
}
