//! Opening a file: what cannot be opened and how that is told, and files of older versions.

#[path = "support/store.rs"]
mod support;

use std::fs;
use std::path::{Path, PathBuf};

use khashmir::store::{Database, Published};
use khashmir::time::UnixTime;
use khashmir::{Durability, Id, StoreError};
use rusqlite::Connection;
use support::*;
use tempfile::TempDir;

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
    let absent = directory.path().join("absent/node.db");
    assert_eq!(open(&absent).err(), Some(StoreError::NoDirectory(absent.clone())));
    assert_eq!(open(directory.path()).err(), Some(StoreError::NotAFile(directory.path().to_owned())));
    let beneath = path.join("beneath");
    assert_eq!(open(&beneath).err(), Some(StoreError::NoDirectory(beneath)));
    assert_eq!(open(Path::new("")).err(), Some(StoreError::NotAFile(PathBuf::new())));
    assert!(!directory.path().join("absent").exists());
    // Where the lock is to be, there is something else.
    fs::create_dir(directory.path().join("node.db-lock")).expect("a directory");
    assert!(matches!(open(&path), Err(StoreError::Failed { .. })));
}

/// Each says which file, what is wrong, and what to do.
#[test]
fn errors_name_the_file() {
    let path = PathBuf::from("some/node.db");
    let what = String::from("the disk is on fire");
    for (error, words) in [
        (StoreError::InUse(path.clone()), "in use by another node"),
        (StoreError::Foreign(path.clone()), "some other program"),
        (StoreError::TooNew { path: path.clone(), version: 7 }, "newer version (schema 7)"),
        (StoreError::Damaged { path: path.clone(), what: what.clone() }, "the disk is on fire"),
        (StoreError::ReadOnly(path.clone()), "read-only"),
        (StoreError::NotAFile(path.clone()), "not a file"),
        (StoreError::Denied(path.clone()), "may not be read and written"),
        (StoreError::NoDirectory(path.clone()), "directory does not exist"),
        (StoreError::Full(path.clone()), "no room on the disk"),
        (StoreError::Busy(path.clone()), "is writing to"),
        (StoreError::Moved { path: path.clone(), what: what.clone() }, "not as it was opened"),
        (StoreError::OtherId { path: path.clone(), id: Id::of(b"me") }, &Id::of(b"me").to_string()),
        (StoreError::Failed { path, what }, "the disk is on fire"),
    ] {
        let text = error.to_string();
        assert!(text.contains("some/node.db") && text.contains(words), "{text}");
    }
    assert!(StoreError::Full(PathBuf::new()).to_string().contains("the store in memory"));
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
    let (read_only, denied) = (StoreError::ReadOnly(path.clone()), StoreError::Denied(path.clone()));
    for (what, mode, error) in [
        (path.as_path(), 0o400, &read_only),
        (&path, 0o000, &denied),
        (directory.path(), 0o500, &denied),
        (directory.path(), 0o000, &denied),
    ] {
        permit(what, mode);
        assert_eq!(open(&path).err().as_ref(), Some(error), "{what:?} {mode:o}");
        permit(what, 0o700);
    }
    permit(directory.path(), 0o500);
    let new = directory.path().join("new.db");
    assert_eq!(open(&new).err(), Some(StoreError::Denied(new)));
    permit(directory.path(), 0o700);
    assert!(open(&path).is_ok());
}

/// A file as version 2 made it, with the values and contacts of [`filled`].
fn of_version_2() -> (TempDir, PathBuf) {
    let (directory, path) = filled();
    tamper(
        &path,
        "
        ALTER TABLE node RENAME TO n; ALTER TABLE contact RENAME TO c; ALTER TABLE value RENAME TO v;
        DROP INDEX value_by_end; DROP INDEX value_to_go;",
    );
    tamper(&path, OLD_TABLES);
    tamper(
        &path,
        "
        INSERT INTO node SELECT number, id FROM n;
        INSERT INTO contact SELECT node, id, host, port FROM c;
        INSERT INTO value SELECT number, node, key, digest, time, value FROM v;
        DROP TABLE n; DROP TABLE c; DROP TABLE v;
        PRAGMA user_version = 2;",
    );
    (directory, path)
}

const OLD_TABLES: &str = "CREATE TABLE node (
    number INTEGER PRIMARY KEY,
    id BLOB NOT NULL CHECK (length(id) = 20)
) STRICT;
CREATE TABLE contact (
    node INTEGER NOT NULL,
    id BLOB NOT NULL CHECK (length(id) = 20),
    host TEXT NOT NULL,
    port INTEGER NOT NULL CHECK (port BETWEEN 0 AND 65535),
    PRIMARY KEY (node, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE value (
    number INTEGER PRIMARY KEY,
    node INTEGER NOT NULL,
    key BLOB NOT NULL CHECK (length(key) = 20),
    digest BLOB NOT NULL CHECK (length(digest) = 20),
    time INTEGER NOT NULL,
    value BLOB NOT NULL,
    UNIQUE (node, key, digest)
) STRICT;
CREATE INDEX value_by_time ON value (node, time);";

/// A file as version 1 made it.
fn of_version_1() -> (TempDir, PathBuf) {
    let (directory, path) = of_version_2();
    tamper(&path, "DROP TABLE published; PRAGMA user_version = 1");
    (directory, path)
}

#[test]
fn files_of_older_versions_are_brought_up_to_date() {
    for (directory, path) in [of_version_1(), of_version_2()] {
        let lifetime = std::time::Duration::from_secs(7200);
        let mut database = Database::open_with(&path, Durability::Program, lifetime).expect("it is ours");
        let mut who = database.move_in(None, Id::of(b"-"), LIMITS).expect("room");
        assert_eq!((who.id(), who.values(), who.keys(), who.published()), (Id::of(b"me"), 200, 20, 0));
        assert_eq!(database.contacts(&who), Ok(contacts()));
        assert_eq!(values(&mut database, &mut who, &key(3)).len(), 10);
        let clock = database.clock().expect("a clock").expect("one that was saved");
        assert_eq!((clock.clock, clock.wall), (UnixTime(1_000_199), UnixTime(1_000_199)));
        let kept = database.publish(&mut who, &key(3), b"mine", UnixTime(5)).expect("a publish");
        let Published::Kept(number) = kept else { panic!("there is room") };
        let expired = database.expire(&mut who, UnixTime(1_000_009 + 7200), 1000).expect("expiry");
        assert_eq!(expired.deleted, 10, "they live for as long as was said");
        database.commit().expect("a commit");
        drop((database, who));
        // It is what a new file would be.
        let schema = |path: &Path| {
            let connection = Connection::open(path).expect("a database");
            let mut rows =
                connection.prepare("SELECT sql FROM sqlite_schema ORDER BY name").expect("a query");
            let rows = rows.query_map([], |row| row.get::<_, Option<String>>(0)).expect("rows");
            rows.collect::<Result<Vec<_>, _>>().expect("statements")
        };
        let new = directory.path().join("new.db");
        drop(open(&new).expect("a new file"));
        assert_eq!(schema(&path), schema(&new));
        let (mut database, who) = open(&path).expect("it is of the present version now");
        assert_eq!((who.values(), who.published()), (190, 1));
        assert_eq!(database.published(&who), Ok(vec![(number, UnixTime(5))]));
    }
}

/// Only a sound one: any other stays as it was.
#[test]
fn a_damaged_file_of_an_older_version_is_left_alone() {
    for (sql, versions) in [
        ("DROP TABLE contact", 1..3),
        ("CREATE TABLE published (number INTEGER PRIMARY KEY)", 1..2),
        ("UPDATE value SET value = x'00' WHERE number = 5", 1..3),
        ("DROP INDEX value_by_time", 1..3),
        ("INSERT INTO node VALUES (9, zeroblob(20))", 1..3),
        ("UPDATE value SET node = 9 WHERE number = 5", 1..3),
        ("UPDATE contact SET host = 'a.name.example'", 1..3),
    ] {
        for version in versions {
            let (_directory, path) = if version == 1 { of_version_1() } else { of_version_2() };
            tamper(&path, sql);
            let before = fs::read(&path).expect("a file");
            assert!(matches!(open(&path), Err(StoreError::Damaged { .. })), "{sql}");
            assert!(fs::read(&path).expect("a file") == before, "{sql}");
        }
    }
}

/// When contacts last answered, by the time of day; what is not known stays as it was.
#[test]
fn contacts_are_saved_with_the_time_of_their_answer() {
    let (_directory, path) = filled();
    let (mut database, who) = open(&path).expect("it is ours");
    let [one, two, ..] = contacts()[..] else { panic!("there are many") };
    database.save_contacts(&who, [(one, Some(UnixTime(7))), (two, None)]).expect("saved");
    database.save_contacts(&who, [(one, None), (two, Some(UnixTime(9)))]).expect("saved");
    database.commit().expect("a commit");
    let reader = Connection::open(&path).expect("a database");
    let mut rows = reader.prepare("SELECT heard FROM contact ORDER BY heard").expect("a query");
    let heard: Vec<i64> =
        rows.query_map([], |row| row.get(0)).expect("rows").map(|at| at.expect("a time")).collect();
    assert_eq!(heard, [7, 9]);
}
