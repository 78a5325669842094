//! Files of a store, for tests of what becomes of them.
#![allow(dead_code)]

#[path = "limits.rs"]
mod limits;

pub use limits::LIMITS;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use khashmir::store::{Database, NewValue, Put, Resident};
use khashmir::time::UnixTime;
use khashmir::{Contact, Durability, Id, StoreError};
use rusqlite::Connection;
use tempfile::TempDir;

/// Where values are read from: the beginning.
pub const FIRST: Id = Id::new([0; 20]);

/// For how long values live, in seconds.
pub const LIFE: i64 = 86_400;
pub const FOREVER: UnixTime = UnixTime(i64::MIN);

/// A directory for a test, and the path of a file in it.
pub fn place() -> (TempDir, PathBuf) {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("node.db");
    (directory, path)
}

pub fn open(path: &Path) -> Result<(Database, Resident), StoreError> {
    let mut database = Database::open(path, Durability::Machine)?;
    let who = database.move_in(None, Id::of(b"me"), LIMITS)?;
    Ok((database, who))
}

/// Stores a value that lives for long.
pub fn put(
    database: &mut Database,
    who: &mut Resident,
    key: &Id,
    value: &[u8],
    time: UnixTime,
) -> Result<Put, StoreError> {
    let new = NewValue { key, value, time, expires: UnixTime(time.0 + LIFE), sender: None };
    database.put(who, &new, &time.into())
}

pub fn value(number: u32) -> Vec<u8> {
    let length = if number.is_multiple_of(50) { 9000 } else { number % 300 };
    (0..length).map(|at| ((at + number) % 251) as u8).chain(number.to_be_bytes()).collect()
}

pub fn key(number: u32) -> Id {
    Id::of(&[(number % 20) as u8])
}

pub fn contacts() -> Vec<Contact> {
    let mut contacts: Vec<_> = (1..100u16)
        .map(|n| Contact { id: Id::of(&n.to_be_bytes()), addr: ([10, 0, 0, 1], n).into() })
        .collect();
    contacts.sort_by_key(|contact| contact.id);
    contacts
}

/// A file with 200 values under 20 keys and 99 contacts.
pub fn filled() -> (TempDir, PathBuf) {
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

pub fn values(database: &mut Database, who: &mut Resident, key: &Id) -> Vec<Vec<u8>> {
    let mut values = Vec::new();
    let gathered = database.values(who, key, &FOREVER.into(), (&FIRST, &FIRST), |value| {
        values.push(value.to_vec());
        ControlFlow::Continue(())
    });
    gathered.expect("a get");
    values.sort();
    values
}

/// Does something to a file as another program could.
pub fn tamper(path: &Path, sql: &str) {
    let connection = Connection::open(path).expect("a database");
    connection.execute_batch(sql).expect(sql);
}
