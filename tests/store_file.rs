//! The store's files: what stays in them, and who may use them at the same time.

#[path = "support/store.rs"]
mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use khashmir::store::{Database, Expired, Refusal, SavedClock};
use khashmir::time::UnixTime;
use khashmir::{Durability, Id, StoreError};
use rusqlite::Connection;
use support::*;

#[test]
fn everything_is_there_after_a_restart() {
    let (_directory, path) = filled();
    let (mut database, mut who) = open(&path).expect("it is ours");
    assert_eq!((who.id(), who.values(), who.keys()), (Id::of(b"me"), 200, 20));
    assert_eq!(database.contacts(&who), Ok(contacts()));
    for at in 0..20 {
        let mut expected: Vec<_> = (0..10).map(|n| value(at + 20 * n)).collect();
        expected.sort();
        assert_eq!(values(&mut database, &mut who, &key(at)), expected);
    }
    let expired = database.expire(&mut who, UnixTime(1_000_049 + LIFE), 1000).expect("expiry");
    assert_eq!(expired, Expired { deleted: 50, more: false }, "the times too");
    let bytes = who.bytes();
    database.move_out(who).expect("moved out");
    drop(database);
    let (_database, who) = open(&path).expect("it is ours");
    assert_eq!((who.values(), who.bytes()), (150, bytes));
}

#[test]
fn a_doubt_ends_with_the_values_that_it_is_of() {
    let (_directory, path) = filled();
    let saved = |doubted| SavedClock { clock: UnixTime(7), wall: UnixTime(8), doubt: 9, doubted };
    let (mut database, mut who) = open(&path).expect("it is ours");
    assert_eq!(who.clock_of(Some(saved(2))), Some(saved(2)));
    assert_eq!(who.clock_of(Some(saved(1))).map(|clock| clock.doubt), Some(0), "of a run before all");
    let newest = who.run().1;
    let unsaved = SavedClock { clock: newest, wall: newest, doubt: 0, doubted: 0 };
    assert_eq!(who.clock_of(None), Some(unsaved));
    database.expire(&mut who, UnixTime(i64::MAX), 1000).expect("expiry");
    put(&mut database, &mut who, &key(0), b"of the second run", UnixTime(1)).expect("a put");
    database.move_out(who).expect("moved out");
    drop(database);
    let (_database, who) = open(&path).expect("it is ours");
    assert_eq!(who.clock_of(Some(saved(2))).map(|clock| clock.doubt), Some(0));
    assert_eq!(who.clock_of(Some(saved(3))).map(|clock| clock.doubt), Some(9));
}

#[test]
fn the_id_stays_whatever_is_asked_for() {
    let (_directory, path) = place();
    let (one, two) = (Id::of(b"1"), Id::of(b"2"));
    let move_in = |wanted, fallback| {
        let mut database = Database::open(&path, Durability::Machine)?;
        database.move_in(wanted, fallback, LIMITS).map(|who| who.id())
    };
    assert_eq!(move_in(Some(one), two), Ok(one));
    assert_eq!(move_in(None, two), Ok(one));
    assert_eq!(move_in(Some(one), two), Ok(one));
    assert_eq!(move_in(Some(two), two), Err(StoreError::OtherId { path: path.clone(), id: one }));
    assert_eq!(move_in(None, two), Ok(one));
}

#[test]
fn who_asked_for_another_id_may_ask_again() {
    let (_directory, path) = filled();
    let mut database = Database::open(&path, Durability::Machine).expect("it is ours");
    let refused = database.move_in(Some(Id::of(b"2")), Id::of(b"3"), LIMITS);
    assert_eq!(refused.err(), Some(StoreError::OtherId { path, id: Id::of(b"me") }));
    assert!(database.move_in(None, Id::of(b"3"), LIMITS).is_ok());
}

#[test]
fn what_was_not_committed_is_gone() {
    let (_directory, path) = place();
    for committed in [true, false] {
        let (mut database, mut who) = open(&path).expect("it is ours");
        let value = if committed { b"1" } else { b"2" };
        put(&mut database, &mut who, &key(0), value, UnixTime(1)).expect("a put");
        if committed {
            database.commit().expect("a commit");
        }
    }
    let (mut database, mut who) = open(&path).expect("it is ours");
    assert_eq!(values(&mut database, &mut who, &key(0)), [b"1"]);
    assert_eq!(who.values(), 1);
}

/// A copy of file and log, taken while the node runs, is what a crash of the
/// program leaves behind.
#[test]
fn what_was_committed_survives_a_crash() {
    let (directory, path) = place();
    let (mut database, mut who) = open(&path).expect("a new file");
    for number in 0..100 {
        put(&mut database, &mut who, &key(number), &value(number), UnixTime(1)).expect("a put");
        database.commit().expect("a commit");
    }
    put(&mut database, &mut who, &Id::of(b"late"), b"not committed", UnixTime(1)).expect("a put");
    let crashed = directory.path().join("crashed.db");
    fs::copy(&path, &crashed).expect("a copy");
    fs::copy(directory.path().join("node.db-wal"), directory.path().join("crashed.db-wal")).expect("a log");
    let (_database, who) = open(&crashed).expect("it is ours");
    assert_eq!((who.id(), who.values()), (Id::of(b"me"), 100));
}

#[test]
fn the_log_stays_small_and_goes_with_the_node() {
    let (directory, path) = place();
    let (mut database, mut who) = open(&path).expect("a new file");
    let log = directory.path().join("node.db-wal");
    let mut longest = 0;
    for number in 0..600u32 {
        let value: Vec<u8> = number.to_be_bytes().repeat(16_000);
        put(&mut database, &mut who, &key(number), &value, UnixTime(1)).expect("a put");
        if number % 3 == 0 {
            database.commit().expect("a commit");
        }
        longest = longest.max(fs::metadata(&log).expect("a log").len());
    }
    database.move_out(who).expect("moved out");
    assert!(longest < 6_000_000, "of 38 MB that were written, {longest} bytes were in the log at once");
    drop(database);
    let left: Vec<_> =
        fs::read_dir(&directory).expect("a directory").map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["node.db"], "a node at rest is one file");
}

#[test]
fn a_file_shrinks_when_most_of_it_has_expired() {
    let (_directory, path) = place();
    let (mut database, mut who) = open(&path).expect("a new file");
    for number in 0..2000u32 {
        let time = UnixTime(i64::from(number));
        put(&mut database, &mut who, &key(number), &number.to_be_bytes().repeat(1000), time).expect("a put");
    }
    database.commit().expect("a commit");
    while database.expire(&mut who, UnixTime(1899 + LIFE), 100).expect("expiry").more {
        database.commit().expect("a commit");
    }
    assert_eq!(who.values(), 100);
    drop((database, who));
    let size = fs::metadata(&path).expect("a file").len();
    assert!(size < 1_400_000, "of 8 MB, 0.4 are left, in a file of {size} bytes");
    assert_eq!(open(&path).expect("it is ours").1.values(), 100);
}

#[test]
fn a_file_has_one_user() {
    let (_directory, path) = filled();
    let (mut database, mut who) = open(&path).expect("it is ours");
    for _ in 0..2 {
        assert_eq!(open(&path).err(), Some(StoreError::InUse(path.clone())));
        assert!(!opens_in_another_process(&path), "the lock outlives attempts of this process");
    }
    put(&mut database, &mut who, &key(0), b"still usable", UnixTime(1)).expect("a put");
    database.commit().expect("a commit");
    drop((database, who));
    assert!(opens_in_another_process(&path));
    assert_eq!(open(&path).expect("it is free").1.values(), 201);
}

const FILE_TO_OPEN: &str = "KHASHMIR_TEST_FILE";

fn opens_in_another_process(path: &Path) -> bool {
    let itself = std::env::current_exe().expect("a test program");
    let mut child = Command::new(itself);
    child.args(["--exact", "open_as_another_process", "--ignored"]).env(FILE_TO_OPEN, path);
    let output = child.output().expect("a child");
    let words = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() || words.contains("InUse"), "{words}");
    output.status.success()
}

#[test]
#[ignore = "the part of `a_file_has_one_user` that another process plays"]
fn open_as_another_process() {
    let path = std::env::var_os(FILE_TO_OPEN).expect("a path");
    Database::open(Path::new(&path), Durability::Machine).expect("a free file");
}

/// Also by another name.
#[test]
#[cfg(unix)]
fn a_file_has_one_user_by_all_its_names() {
    let (directory, path) = filled();
    let other = directory.path().join("other.db");
    std::os::unix::fs::symlink(&path, &other).expect("a link");
    let database = open(&path).expect("it is ours");
    assert_eq!(open(&other).err(), Some(StoreError::InUse(other.clone())));
    drop(database);
    let database = open(&other).expect("it is free");
    assert_eq!(open(&path).err(), Some(StoreError::InUse(path.clone())));
    drop(database);
    // A link to a file that is still to be made.
    fs::remove_file(&path).expect("a file");
    let database = open(&other).expect("a new file");
    assert_eq!(open(&path).err(), Some(StoreError::InUse(path.clone())));
    drop(database);
}

/// Each of two hard links would have a lock and a log of its own.
#[test]
#[cfg(unix)]
fn a_file_with_two_names_is_not_taken() {
    let (directory, path) = filled();
    let other = directory.path().join("other.db");
    fs::hard_link(&path, &other).expect("a link");
    for name in [&path, &other] {
        match open(name).err() {
            Some(StoreError::Failed { path, what }) => {
                assert_eq!((&path, what.contains("2 names")), (name, true), "{what}");
            }
            other => panic!("{other:?}"),
        }
    }
    fs::remove_file(&path).expect("a file");
    assert_eq!(open(&other).expect("it has one name").1.values(), 200);
}

/// Who opens it while another closes it gets it or not, but never do two.
#[test]
fn a_file_has_one_user_at_any_time() {
    let (_directory, path) = filled();
    let users = std::sync::atomic::AtomicU32::new(0);
    let most = std::sync::atomic::AtomicU32::new(0);
    let order = std::sync::atomic::Ordering::SeqCst;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut opened = 0;
                while opened < 10 {
                    match Database::open(&path, Durability::Program) {
                        Ok(database) => {
                            most.fetch_max(users.fetch_add(1, order) + 1, order);
                            opened += 1;
                            users.fetch_sub(1, order);
                            drop(database);
                        }
                        Err(StoreError::InUse(_)) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    });
    assert_eq!(most.into_inner(), 1);
}

/// Somebody who reads the file for long keeps nobody from anything.
#[test]
fn a_file_is_read_while_it_is_used() {
    let (directory, path) = filled();
    let (mut database, mut who) = open(&path).expect("it is ours");
    let reader = Connection::open(&path).expect("a database");
    let count = |reader: &Connection| {
        reader.query_row("SELECT count(*) FROM value", [], |row| row.get::<_, i64>(0)).expect("a count")
    };
    reader.execute_batch("BEGIN").expect("reading");
    assert_eq!(count(&reader), 200);
    for number in 0..300u32 {
        let value = number.to_be_bytes().repeat(5000);
        put(&mut database, &mut who, &key(number), &value, UnixTime(1)).expect("a put");
        database.commit().expect("a commit");
    }
    assert_eq!(count(&reader), 200, "it sees what was there when it began");
    // A node may begin, too.
    drop((database, who));
    let (mut database, mut who) = open(&path).expect("it is free");
    assert_eq!(who.values(), 500);
    reader.execute_batch("COMMIT").expect("read");
    assert_eq!(count(&reader), 500);
    drop(reader);
    // The log shrinks again.
    put(&mut database, &mut who, &key(0), b"one more", UnixTime(1)).expect("a put");
    database.commit().expect("a commit");
    drop((database, who));
    assert!(!directory.path().join("node.db-wal").exists());
}

/// Somebody who writes to the file has values refused meanwhile.
#[test]
fn a_file_that_others_write_to_is_busy() {
    let (_directory, path) = filled();
    let (mut database, mut who) = open(&path).expect("it is ours");
    let writer = Connection::open(&path).expect("a database");
    writer.execute_batch("BEGIN IMMEDIATE").expect("writing");
    let refused = put(&mut database, &mut who, &key(0), b"one more", UnixTime(1));
    let refused = refused.and_then(|_| database.commit());
    assert_eq!(refused, Err(StoreError::Busy(path.clone())));
    assert!(refused.is_err_and(|error| Refusal::from(&error) == Refusal::Busy));
    assert_eq!(values(&mut database, &mut who, &key(0)).len(), 10, "reading goes on");
    writer.execute_batch("ROLLBACK").expect("no more");
    put(&mut database, &mut who, &key(0), b"one more", UnixTime(1)).expect("a put");
    database.commit().expect("a commit");
    assert_eq!(who.values(), 201);
    // And no node gets it.
    drop((database, who));
    writer.execute_batch("BEGIN IMMEDIATE").expect("writing");
    assert_eq!(open(&path).err(), Some(StoreError::InUse(path.clone())));
    drop(writer);
    assert!(open(&path).is_ok());
}

/// The lock is a file of its own; one that is not empty is somebody else's.
#[test]
fn the_lock_goes_with_the_node() {
    let (directory, path) = filled();
    let lock = directory.path().join("node.db-lock");
    assert_eq!(lock.exists(), !cfg!(unix));
    let database = open(&path).expect("it is ours");
    assert!(lock.exists());
    drop(database);
    assert_eq!(lock.exists(), !cfg!(unix));
    // Whoever deletes it lets another node in; that one's lock stays when the first goes.
    #[cfg(unix)]
    {
        let first = open(&path).expect("it is ours");
        fs::remove_file(&lock).expect("a file");
        let second = open(&path).expect("nobody has it, as it seems");
        drop(first);
        assert_eq!(open(&path).err(), Some(StoreError::InUse(path.clone())));
        drop(second);
        assert!(!lock.exists());
    }
    // As after a crash.
    fs::write(&lock, b"").expect("a file");
    assert!(open(&path).is_ok());
    fs::write(&lock, b"mine").expect("a file");
    assert!(open(&path).is_ok());
    assert_eq!(fs::read(&lock).expect("still there"), b"mine");
}

/// A full disk: what was being written is undone, and the next write works when there is room.
#[test]
fn a_full_disk_is_an_error_and_passes() {
    let (_directory, path) = filled();
    let (mut database, mut who) = open(&path).expect("it is ours");
    database.limit_pages(1);
    let totals = (who.values(), who.keys(), who.bytes());
    let long = |number: u32| number.to_be_bytes().repeat(2500);
    let mut refused = 0;
    for number in 0..20 {
        if let Err(error) = put(&mut database, &mut who, &Id::of(b"new"), &long(number), UnixTime(1)) {
            assert_eq!(error, StoreError::Full(path.clone()));
            assert_eq!(Refusal::from(&error), Refusal::DiskFull);
            refused += 1;
        }
    }
    assert!(refused > 0);
    database.roll_back();
    database.settle(&mut who);
    assert_eq!((who.values(), who.keys(), who.bytes()), totals);
    assert_eq!(values(&mut database, &mut who, &key(0)).len(), 10);
    database.limit_pages(u32::MAX - 1);
    put(&mut database, &mut who, &Id::of(b"new"), &long(0), UnixTime(1)).expect("a put");
    database.commit().expect("a commit");
    drop((database, who));
    assert_eq!(open(&path).expect("it is ours").1.values(), 201);
}
