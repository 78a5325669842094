//! Files that are damaged, of another program, or made to do harm: a clear
//! error, and the file stays as it was.

#[path = "support/limits.rs"]
mod limits;

use limits::LIMITS;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use khashmir::random::{seed_from_number, seeded};
use khashmir::store::{Database, NewValue, Put, Resident};
use khashmir::time::UnixTime;
use khashmir::{Contact, Durability, Id, StoreError};
use rand::RngExt;
use rusqlite::Connection;
use tempfile::TempDir;

/// Where values are read from: the beginning.
const FIRST: Id = Id::new([0; 20]);

const VALUES: u32 = 40;
/// For how long values live, in seconds.
const LIFE: i64 = 86_400;

fn open(path: &Path) -> Result<(Database, Resident), StoreError> {
    let mut database = Database::open(path, Durability::Program)?;
    let who = database.move_in(None, Id::of(b"me"), LIMITS)?;
    Ok((database, who))
}

/// Every fourth value has pages of its own.
/// Stores a value that lives for long.
fn put(
    database: &mut Database,
    who: &mut Resident,
    key: &Id,
    value: &[u8],
    time: UnixTime,
) -> Result<Put, StoreError> {
    let new = NewValue { key, value, time, expires: UnixTime(time.0 + LIFE), sender: None };
    database.put(who, &new, &time.into())
}

fn value(number: u32) -> Vec<u8> {
    number.to_be_bytes().repeat(if number.is_multiple_of(4) { 2500 } else { 20 })
}

fn key(number: u32) -> Id {
    Id::of(&[(number % 10) as u8])
}

/// A sound file of a few dozen pages.
fn sound() -> (TempDir, PathBuf) {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("node.db");
    let (mut database, mut who) = open(&path).expect("a new file");
    for number in 0..VALUES {
        put(&mut database, &mut who, &key(number), &value(number), UnixTime(1_000_000)).expect("a put");
    }
    let contacts =
        (1..60u16).map(|n| (Contact { id: Id::of(&n.to_be_bytes()), addr: ([10, 0, 0, 1], n).into() }, None));
    database.save_contacts(&who, contacts).expect("saved");
    database.commit().expect("a commit");
    (directory, path)
}

/// A sound file that something was then done to, as another program could.
fn tampered(sql: &str) -> (TempDir, PathBuf) {
    let (directory, path) = sound();
    let connection = Connection::open(&path).expect("a database");
    connection.execute_batch("PRAGMA ignore_check_constraints = ON").expect("a setting");
    connection.execute_batch(sql).expect(sql);
    drop(connection);
    (directory, path)
}

/// The error of opening a file, which must not have changed it or anything
/// beside it.
fn refusal(path: &Path) -> StoreError {
    let files = || {
        let directory = path.parent().expect("a directory");
        let mut files: Vec<_> = fs::read_dir(directory)
            .expect("a directory")
            .map(|entry| entry.expect("an entry").path())
            // Where readers and writers meet; it holds nothing.
            .filter(|path| !path.to_string_lossy().ends_with("-shm"))
            .map(|path| (fs::read(&path).expect("a file"), path))
            .collect();
        files.sort();
        files
    };
    let before = files();
    let error = match open(path) {
        Err(error) => error,
        Ok(_) => {
            panic!("it was taken: {:?}", files().iter().map(|(bytes, _)| bytes.len()).collect::<Vec<_>>())
        }
    };
    let list = |files: &[(Vec<u8>, PathBuf)]| {
        files.iter().map(|(bytes, path)| (bytes.len(), path.clone())).collect::<Vec<_>>()
    };
    let after = files();
    assert!(after == before, "refused with {error:?}, but {:?} became {:?}", list(&before), list(&after));
    error
}

/// What a file that was taken in spite of all gives out: a part of what was
/// once put in, unaltered, under the right key.
fn is_consistent(database: &mut Database, who: &mut Resident) {
    let mut found = 0;
    for at in 0..10 {
        let put_in: Vec<_> = (0..VALUES).filter(|&n| key(n) == key(at)).map(value).collect();
        let given = database.values(who, &key(at), &UnixTime(i64::MIN).into(), (&FIRST, &FIRST), |value| {
            assert!(put_in.iter().any(|known| known == value), "an altered value was given out");
            found += 1;
            ControlFlow::Continue(())
        });
        given.expect("what passed the check can be read");
    }
    assert!(found <= who.values());
    database.contacts(who).expect("what passed the check can be read");
    put(database, who, &key(0), b"new", UnixTime(2_000_000)).expect("and written");
    database.expire(who, UnixTime(i64::MAX), u32::MAX).expect("and deleted");
    assert_eq!((who.values(), who.keys(), who.bytes()), (0, 0, 0));
    database.commit().expect("a commit");
}

#[test]
fn files_of_others_are_foreign() {
    for sql in [
        "CREATE TABLE node (number INTEGER PRIMARY KEY, id BLOB)",
        "PRAGMA application_id = 7; CREATE TABLE t (x)",
        "PRAGMA journal_mode = WAL; CREATE TABLE t (x)",
        "PRAGMA user_version = 1",
    ] {
        let directory = TempDir::new().expect("a directory");
        let path = directory.path().join("other.db");
        Connection::open(&path).expect("a database").execute_batch(sql).expect(sql);
        assert_eq!(refusal(&path), StoreError::Foreign(path), "{sql}");
    }
}

/// Reading such a file in the ordinary way would copy its log into it.
#[test]
fn a_file_of_others_is_not_recovered_for_them() {
    let directory = TempDir::new().expect("a directory");
    let (path, crashed) = (directory.path().join("other.db"), directory.path().join("crashed/other.db"));
    fs::create_dir(directory.path().join("crashed")).expect("a directory");
    let other = Connection::open(&path).expect("a database");
    other
        .execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (x); INSERT INTO t VALUES (1)")
        .expect("rows");
    fs::copy(&path, &crashed).expect("a copy");
    fs::copy(directory.path().join("other.db-wal"), directory.path().join("crashed/other.db-wal"))
        .expect("a log");
    drop(other);
    assert_eq!(refusal(&crashed), StoreError::Foreign(crashed));
}

#[test]
fn what_is_no_database_is_damaged() {
    for bytes in
        [&b"x"[..], b"SQLite format 3\0", &[0; 100], &[0; 8192], b"just text, \n".repeat(1000).as_slice()]
    {
        let directory = TempDir::new().expect("a directory");
        let path = directory.path().join("node.db");
        fs::write(&path, bytes).expect("a file");
        let error = refusal(&path);
        assert!(
            matches!(error, StoreError::Damaged { .. } | StoreError::Foreign(_)),
            "{} bytes: {error:?}",
            bytes.len()
        );
    }
}

#[test]
fn a_newer_schema_is_too_new() {
    let (_directory, path) = tampered("PRAGMA user_version = 4; DROP TABLE contact");
    assert_eq!(refusal(&path), StoreError::TooNew { path, version: 4 });
}

#[test]
fn a_changed_schema_is_damaged() {
    for sql in [
        "CREATE TABLE harm (id); CREATE TRIGGER t AFTER INSERT ON value BEGIN DELETE FROM node; END",
        "ALTER TABLE value RENAME TO held; CREATE VIEW value AS SELECT * FROM held",
        "DROP TABLE contact",
        "DROP INDEX value_by_end",
        "DROP INDEX value_to_go",
        "PRAGMA user_version = 2",
        "ALTER TABLE contact ADD COLUMN seen INTEGER",
        "DROP TABLE published",
        "PRAGMA user_version = 0",
        "PRAGMA user_version = 1",
    ] {
        let (_directory, path) = tampered(sql);
        let error = refusal(&path);
        assert!(matches!(error, StoreError::Damaged { .. }), "{sql}: {error:?}");
    }
}

#[test]
fn rows_that_make_no_sense_are_damage() {
    for (sql, words) in [
        ("UPDATE node SET id = x'00112233'", "CHECK"),
        ("UPDATE value SET key = x'' WHERE number = 5", "CHECK"),
        ("UPDATE value SET digest = zeroblob(21) WHERE number = 5", "CHECK"),
        ("UPDATE value SET digest = zeroblob(20) WHERE number = 5", "digest"),
        ("UPDATE value SET value = x'00' WHERE number = 5", "digest"),
        ("INSERT INTO published VALUES (1, 1, zeroblob(20), zeroblob(20), 0, x'00')", "digest"),
        ("INSERT INTO published VALUES (1, 9, zeroblob(20), zeroblob(20), 0, x'00')", "no node"),
        ("INSERT INTO published VALUES (1, 1, x'00', zeroblob(20), 0, x'00')", "CHECK"),
        ("UPDATE value SET expires = time - 1 WHERE number = 5", "CHECK"),
        ("UPDATE value SET distance = -1 WHERE number = 5", "CHECK"),
        ("UPDATE value SET distance = distance + 1 WHERE number = 5", "far away"),
        ("UPDATE value SET run = 9 WHERE number = 5", "run to come"),
        ("UPDATE value SET time = 9223372036854775000, expires = 9223372036854775000", "no clock"),
        (
            "INSERT INTO published SELECT 1, node, key, digest, 9223372036854775807, value FROM value
             WHERE number = 5",
            "no clock",
        ),
        ("UPDATE node SET clock = -9223372036854775808, wall = 0", "no clock"),
        ("UPDATE node SET clock = 0, wall = 9223372036854775807", "no clock"),
        ("UPDATE value SET sender = 'a.name.example' WHERE number = 5", "address"),
        ("UPDATE value SET sender = '10.0.0.1', block = 7 WHERE number = 5", "block"),
        ("UPDATE value SET block = 7 WHERE number = 5", "block"),
        ("UPDATE node SET doubt = -1", "CHECK"),
        ("UPDATE value SET node = 9 WHERE number = 5", "no node"),
        ("INSERT INTO contact VALUES (9, zeroblob(20), '10.0.0.1', 1, NULL)", "no node"),
        ("DELETE FROM node", "no node"),
        ("INSERT INTO node VALUES (9, zeroblob(20), 1, NULL, NULL, 0, 0)", "more than one node"),
        ("INSERT INTO contact VALUES (1, zeroblob(20), 'a.name.example', 1, NULL)", "address"),
        ("INSERT INTO contact VALUES (1, zeroblob(20), '10.0.0.1', 65536, NULL)", "CHECK"),
        ("INSERT INTO contact VALUES (1, x'01', '10.0.0.1', 1, NULL)", "CHECK"),
    ] {
        let (_directory, path) = tampered(sql);
        match refusal(&path) {
            StoreError::Damaged { what, .. } => assert!(what.contains(words), "{sql}: {what}"),
            error => panic!("{sql}: {error:?}"),
        }
    }
}

#[test]
fn a_file_cut_short_is_damaged() {
    let (directory, path) = sound();
    let whole = fs::read(&path).expect("a file");
    assert!(whole.len() > 100_000, "so that most lengths cut off something");
    let cut = directory.path().join("cut.db");
    let lengths =
        (1..700).step_by(37).chain((1..whole.len()).step_by(1024)).chain((4095..whole.len()).step_by(4096));
    for length in lengths.chain([whole.len() - 1]) {
        fs::write(&cut, &whole[..length]).expect("a file");
        let error = refusal(&cut);
        assert!(
            matches!(error, StoreError::Damaged { .. } | StoreError::Foreign(_)),
            "{length} bytes: {error:?}"
        );
    }
}

#[test]
fn flipped_bytes_are_noticed_or_do_not_matter() {
    let (directory, path) = sound();
    let whole = fs::read(&path).expect("a file");
    let flipped = directory.path().join("flipped.db");
    let mut rng = seeded(seed_from_number(1));
    let (mut noticed, mut taken) = (0, 0);
    // All of the file's header, and some bytes of every page, mostly near its start.
    let header = (0..100).collect::<Vec<usize>>();
    let places = (0..whole.len() / 4096).flat_map(|page| {
        let mut places: Vec<_> = (0..12).map(|_| page * 4096 + rng.random_range(0..4096)).collect();
        places.extend((0..12).map(|_| page * 4096 + rng.random_range(0..40)));
        places
    });
    for at in header.into_iter().chain(places.collect::<Vec<_>>()) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << rng.random_range(0..8);
        println!("byte {at}: {:02x} became {:02x}", whole[at], bytes[at]);
        fs::write(&flipped, &bytes).expect("a file");
        match open(&flipped) {
            Ok((mut database, mut who)) => {
                is_consistent(&mut database, &mut who);
                taken += 1;
            }
            Err(
                error @ (StoreError::Damaged { .. } | StoreError::Foreign(_) | StoreError::TooNew { .. }),
            ) => {
                assert_eq!(error.to_string().lines().count(), 1, "{error}");
                assert!(fs::read(&flipped).expect("a file") == bytes, "refused, but changed");
                noticed += 1;
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    assert!(noticed > taken, "{noticed} noticed, {taken} taken");
}

#[test]
fn a_damaged_file_keeps_its_log() {
    let (directory, path) = sound();
    let (mut database, mut who) = open(&path).expect("it is ours");
    put(&mut database, &mut who, &key(0), b"late", UnixTime(2_000_000)).expect("a put");
    database.commit().expect("a commit");
    let crashed = TempDir::new().expect("a directory");
    for name in ["node.db", "node.db-wal"] {
        fs::copy(directory.path().join(name), crashed.path().join(name)).expect("a copy");
    }
    let mut bytes = fs::read(crashed.path().join("node.db")).expect("a file");
    let long = value(8);
    let at = bytes.windows(200).position(|window| window == &long[..200]).expect("a value");
    bytes[at] ^= 1;
    fs::write(crashed.path().join("node.db"), bytes).expect("a file");
    let path = crashed.path().join("node.db");
    let what = "a value does not match its digest".to_owned();
    assert_eq!(refusal(&path), StoreError::Damaged { path, what });
}

/// A disk that fails while the node runs, and then works again.
#[test]
fn a_failure_undoes_what_was_not_committed() {
    let (_directory, path) = sound();
    let (mut database, mut who) = open(&path).expect("it is ours");
    let long = |number: u32| number.to_be_bytes().repeat(2500);
    for number in 0..300 {
        put(&mut database, &mut who, &Id::of(b"long"), &long(number), UnixTime(1)).expect("a put");
    }
    database.move_out(who).expect("moved out");
    drop(database);
    let (mut database, mut who) = open(&path).expect("it is ours");
    let totals = (who.values(), who.keys(), who.bytes());
    put(&mut database, &mut who, &Id::of(b"new"), b"new", UnixTime(1)).expect("a put");

    let whole = fs::read(&path).expect("a file");
    fs::write(&path, &whole[..8192]).expect("a file");
    let read = |database: &mut Database, who: &mut Resident, key: &[u8]| {
        let mut count = 0;
        let each = |_: &[u8]| {
            count += 1;
            ControlFlow::Continue(())
        };
        database.values(who, &Id::of(key), &UnixTime(0).into(), (&FIRST, &FIRST), each).map(|_| count)
    };
    assert!(read(&mut database, &mut who, b"long").is_err(), "its pages are not all in memory");
    assert!(!database.has_uncommitted());

    fs::write(&path, whole).expect("a file");
    assert_eq!(read(&mut database, &mut who, b"new"), Ok(0));
    assert_eq!((who.values(), who.keys(), who.bytes()), totals);
    assert_eq!(read(&mut database, &mut who, b"long"), Ok(300));
}

#[test]
fn a_damaged_log_costs_only_what_was_in_it() {
    let (directory, path) = sound();
    let (mut database, mut who) = open(&path).expect("it is ours");
    for number in 0..20u32 {
        let key = Id::of(b"late");
        put(&mut database, &mut who, &key, &number.to_be_bytes(), UnixTime(2_000_000)).expect("a put");
        database.commit().expect("a commit");
    }
    let log = fs::read(directory.path().join("node.db-wal")).expect("a log");
    let copy = directory.path().join("copy.db");
    let copy_of_log = directory.path().join("copy.db-wal");
    for at in (0..log.len()).step_by(1009) {
        for cut in [true, false] {
            let mut log = log.clone();
            if cut {
                log.truncate(at);
            } else {
                log[at] ^= 0x10;
            }
            fs::copy(&path, &copy).expect("a copy");
            fs::write(&copy_of_log, &log).expect("a log");
            match open(&copy) {
                Ok((_, who)) => assert!((u64::from(VALUES)..=u64::from(VALUES) + 20).contains(&who.values())),
                Err(StoreError::Damaged { .. }) => {}
                Err(error) => panic!("byte {at}, cut: {cut}: {error:?}"),
            }
        }
    }
}
