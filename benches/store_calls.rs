//! What the store costs per call.
//!
//! `cargo bench --bench store_calls`. Each result is the mean over a batch of
//! [`BATCH`] calls; divan shows the time per call in the items column.

#[path = "../tests/support/limits.rs"]
mod limits;

use limits::LIMITS;
use std::hint::black_box;
use std::ops::ControlFlow;

use divan::Bencher;
use divan::counter::ItemsCount;
use khashmir::store::{Database, NewValue, Resident};
use khashmir::time::UnixTime;
use khashmir::{Durability, Id};
use tempfile::TempDir;

/// Values that the store holds beforehand.
const HELD: u64 = 20_000;
/// Calls between two commits.
const BATCH: u64 = 64;

fn main() {
    divan::main();
}

/// A database, and the directory of its file.
struct Place {
    database: Database,
    who: Resident,
    _directory: Option<TempDir>,
}

fn key(number: u64) -> Id {
    Id::of(&number.to_be_bytes())
}

fn place(in_file: bool, size: usize, held: u64) -> Place {
    let directory = in_file.then(|| TempDir::new().expect("a directory"));
    let mut database = match &directory {
        Some(directory) => Database::open(&directory.path().join("node.db"), Durability::Program),
        None => Database::in_memory(),
    }
    .expect("a database");
    let mut who = database.move_in(None, key(0), LIMITS).expect("room");
    for number in 0..held {
        put(&mut database, &mut who, number, size);
    }
    database.commit().expect("a commit");
    Place { database, who, _directory: directory }
}

fn put(database: &mut Database, who: &mut Resident, number: u64, size: usize) {
    let mut value = vec![7; size];
    let length = value.len().min(8);
    value[..length].copy_from_slice(&number.to_be_bytes()[..length]);
    let time = UnixTime(number as i64);
    let new = NewValue { key: &key(number), value: &value, time, expires: time, sender: None };
    database.put(who, &new, &UnixTime(-1).into()).expect("a put");
}

fn look_up(bencher: Bencher, mut place: Place, held: u64, first: u64) {
    let mut next = 0;
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        let mut bytes = 0;
        for _ in 0..BATCH {
            next = (next + 7919) % held;
            let each = |value: &[u8]| {
                bytes += value.len();
                ControlFlow::Continue(())
            };
            let Place { database, who, .. } = &mut place;
            database
                .values(
                    who,
                    &key(first + next),
                    &UnixTime(-1).into(),
                    (&Id::new([0; 20]), &Id::new([0; 20])),
                    each,
                )
                .expect("a get");
        }
        black_box(bytes)
    });
}

#[divan::bench(args = [false, true])]
fn look_up_absent(bencher: Bencher, in_file: bool) {
    look_up(bencher, place(in_file, 100, HELD), HELD, HELD);
}

#[divan::bench(args = [(false, 100), (false, 1000), (false, 65_536), (true, 100), (true, 65_536)])]
fn look_up_present(bencher: Bencher, (in_file, size): (bool, usize)) {
    let held = if size > 1000 { 500 } else { HELD };
    look_up(bencher, place(in_file, size, held), held, 0);
}

/// With the commit that ends each batch.
#[divan::bench(
    args = [(false, 1), (false, 100), (false, 1000), (false, 65_536), (true, 100), (true, 65_536)],
    max_time = 1,
)]
fn put_new(bencher: Bencher, (in_file, size): (bool, usize)) {
    let Place { mut database, mut who, _directory } = place(in_file, size, 0);
    let mut next = 0;
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        for _ in 0..BATCH {
            put(&mut database, &mut who, next, size);
            next += 1;
        }
        database.commit().expect("a commit");
    });
}

#[divan::bench(args = [false, true])]
fn renew(bencher: Bencher, in_file: bool) {
    let Place { mut database, mut who, _directory } = place(in_file, 100, HELD);
    let mut next = 0;
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        for _ in 0..BATCH {
            next = (next + 7919) % HELD;
            put(&mut database, &mut who, next, 100);
        }
        database.commit().expect("a commit");
    });
}

#[divan::bench(args = [false, true], sample_count = 100, sample_size = 1)]
fn expire(bencher: Bencher, in_file: bool) {
    let Place { mut database, mut who, _directory } = place(in_file, 100, HELD);
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        let deleted = database.expire(&mut who, UnixTime(i64::MAX), BATCH as u32).expect("expiry");
        assert_eq!(u64::from(deleted.deleted), BATCH);
        database.commit().expect("a commit");
    });
}

/// Opening checks everything; the counter is in values.
#[divan::bench(args = [100, 4000], sample_count = 5, sample_size = 1)]
fn open(bencher: Bencher, size: usize) {
    let Place { database, who, _directory: directory } = place(true, size, HELD);
    drop((database, who));
    let directory = directory.expect("a directory");
    let path = directory.path().join("node.db");
    bencher.counter(ItemsCount::new(HELD)).bench_local(|| {
        let mut database = Database::open(&path, Durability::Program).expect("a sound file");
        database.move_in(None, key(0), LIMITS).expect("room")
    });
}
