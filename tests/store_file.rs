//! The store's files: what stays in them, who may open them, and what happens
//! to those that are damaged or somebody else's.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;

use khashmir::store::{Database, Expired, Limits, NewValue, Published, Put, Resident};
use khashmir::time::UnixTime;
use khashmir::{Contact, Durability, Id, StoreError, WhenFull};
use rusqlite::Connection;
use tempfile::TempDir;

/// Where values are read from: the beginning.
const FIRST: Id = Id::new([0; 20]);

const LIMITS: Limits = Limits {
    max_values_per_key: 1000,
    max_bytes_per_key: u32::MAX as u64,
    max_stored_bytes: 1 << 30,
    max_stored_values: 1_000_000,
    max_bytes_per_address: 1 << 30,
    max_bytes_per_block: 1 << 30,
    limit_loopback: false,
    when_full: WhenFull::Refuse,
    max_renewed_bytes: 1 << 20,
};
/// For how long values live, in seconds.
const LIFE: i64 = 86_400;
const FOREVER: UnixTime = UnixTime(i64::MIN);

/// A directory for a test, and the path of a file in it.
fn place() -> (TempDir, PathBuf) {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("node.db");
    (directory, path)
}

fn open(path: &Path) -> Result<(Database, Resident), StoreError> {
    let mut database = Database::open(path, Durability::Machine)?;
    let who = database.move_in(None, Id::of(b"me"), LIMITS)?;
    Ok((database, who))
}

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
    let length = if number.is_multiple_of(50) { 9000 } else { number % 300 };
    (0..length).map(|at| ((at + number) % 251) as u8).chain(number.to_be_bytes()).collect()
}

fn key(number: u32) -> Id {
    Id::of(&[(number % 20) as u8])
}

fn contacts() -> Vec<Contact> {
    let mut contacts: Vec<_> = (1..100u16)
        .map(|n| Contact { id: Id::of(&n.to_be_bytes()), addr: ([10, 0, 0, 1], n).into() })
        .collect();
    contacts.sort_by_key(|contact| contact.id);
    contacts
}

/// A file with 200 values under 20 keys and 99 contacts.
fn filled() -> (TempDir, PathBuf) {
    let (directory, path) = place();
    let (mut database, mut who) = open(&path).expect("a new file");
    for number in 0..200 {
        let time = UnixTime(1_000_000 + i64::from(number));
        put(&mut database, &mut who, &key(number), &value(number), time).expect("a put");
    }
    database.save_contacts(&who, contacts().into_iter().map(|contact| (contact, None))).expect("saved");
    database.commit().expect("a commit");
    (directory, path)
}

fn values(database: &mut Database, who: &mut Resident, key: &Id) -> Vec<Vec<u8>> {
    let mut values = Vec::new();
    let gathered = database.values(who, key, &FOREVER.into(), &FIRST, |value| {
        values.push(value.to_vec());
        ControlFlow::Continue(())
    });
    gathered.expect("a get");
    values.sort();
    values
}

/// Does something to a file as another program could.
fn tamper(path: &Path, sql: &str) {
    let connection = Connection::open(path).expect("a database");
    connection.execute_batch(sql).expect(sql);
}

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
    assert!(size < 1_200_000, "of 8 MB, 0.4 are left, in a file of {size} bytes");
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

#[test]
fn a_reader_keeps_a_file_in_use() {
    let (_directory, path) = filled();
    tamper(&path, "PRAGMA journal_mode = DELETE");
    let reader = Connection::open(&path).expect("a database");
    reader.execute_batch("BEGIN; SELECT * FROM node").expect("reading");
    assert_eq!(open(&path).err(), Some(StoreError::InUse(path.clone())));
    drop(reader);
    assert!(open(&path).is_ok());
}

#[test]
fn no_name_is_special() {
    let (directory, _) = place();
    for name in [":memory:", "file:x?mode=memory", "100%41#?&=.db", "mit Lücke.db", "-", "~"] {
        let path = directory.path().join(name);
        drop(open(&path).expect(name));
        assert!(path.is_file(), "{name}");
        assert!(open(&path).is_ok(), "{name}");
    }
}

#[test]
fn an_empty_file_becomes_a_new_one() {
    let (_directory, path) = place();
    fs::write(&path, b"").expect("a file");
    drop(open(&path).expect("it is new"));
    assert_eq!(open(&path).expect("it is ours").1.id(), Id::of(b"me"));
}

#[test]
fn what_cannot_be_opened_is_told_apart() {
    let (directory, path) = filled();
    let words = |path: &Path| match open(path) {
        Err(StoreError::Sqlite(words)) => words,
        other => panic!("{path:?}: {other:?}"),
    };
    let absent = directory.path().join("absent/node.db");
    assert!(words(&absent).contains("its directory does not exist"), "{}", words(&absent));
    assert!(words(directory.path()).contains("is not a file"));
    assert!(words(&path.join("beneath")).contains("its directory"));
    assert!(matches!(open(Path::new("")), Err(StoreError::Sqlite(_))));
    assert!(!directory.path().join("absent").exists());
}

#[test]
#[cfg(unix)]
fn what_is_not_permitted_is_an_error() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let (directory, path) = filled();
    if fs::metadata(directory.path()).expect("a directory").uid() == 0 {
        println!("skipped: everything is permitted to root");
        return;
    }
    let permit =
        |what: &Path, mode| fs::set_permissions(what, fs::Permissions::from_mode(mode)).expect("ours");
    for (what, mode) in [(path.as_path(), 0o400), (&path, 0o000), (directory.path(), 0o500)] {
        permit(what, mode);
        assert!(matches!(open(&path), Err(StoreError::Sqlite(_))), "{what:?} {mode:o}");
        permit(what, 0o700);
    }
    permit(directory.path(), 0o500);
    assert!(matches!(open(&directory.path().join("new.db")), Err(StoreError::Sqlite(_))));
    permit(directory.path(), 0o700);
    assert!(open(&path).is_ok());
}

/// A file as version 1 made it.
fn of_version_1() -> (TempDir, PathBuf) {
    let (directory, path) = filled();
    tamper(&path, "DROP TABLE published; PRAGMA user_version = 1");
    (directory, path)
}

#[test]
fn a_file_of_version_1_is_brought_up_to_date() {
    let (_directory, path) = of_version_1();
    let (mut database, mut who) = open(&path).expect("it is ours");
    assert_eq!((who.id(), who.values(), who.keys(), who.published()), (Id::of(b"me"), 200, 20, 0));
    assert_eq!(database.contacts(&who), Ok(contacts()));
    assert_eq!(values(&mut database, &mut who, &key(3)).len(), 10);
    let kept = database.publish(&mut who, &key(3), b"mine", UnixTime(5)).expect("a publish");
    let Published::Kept(number) = kept else { panic!("there is room") };
    database.commit().expect("a commit");
    drop((database, who));
    let (mut database, who) = open(&path).expect("it is of version 2 now");
    assert_eq!((who.values(), who.published()), (200, 1));
    assert_eq!(database.published(&who), Ok(vec![(number, UnixTime(5))]));
}

/// Only a sound one: any other stays as it was.
#[test]
fn a_damaged_file_of_version_1_is_left_alone() {
    for sql in [
        "DROP TABLE contact",
        "CREATE TABLE published (number INTEGER PRIMARY KEY)",
        "UPDATE value SET value = x'00' WHERE number = 5",
    ] {
        let (_directory, path) = of_version_1();
        tamper(&path, sql);
        let before = fs::read(&path).expect("a file");
        assert!(matches!(open(&path), Err(StoreError::Damaged { .. })), "{sql}");
        assert!(fs::read(&path).expect("a file") == before, "{sql}");
    }
}
