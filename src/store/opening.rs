//! Opening a database: no file is made or changed unless it is taken.

use std::ffi::c_int;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[cfg(unix)]
use rusqlite::FileControl;
use rusqlite::config::DbConfig;
use rusqlite::types::FromSql;
use rusqlite::{Connection, MAIN_DB, OpenFlags, Row, ffi};
use sha1::{Digest, Sha1};

use super::fault::{address, damage, damaged, failed, fault, locate};
use super::files::Files;
use super::lock::Lock;
use super::values::{block_of, distance};
use super::{migration, schema};
use crate::config::Durability;
use crate::error::StoreError;
use crate::id::{ID_BYTES, Id};

/// A new database in memory.
pub(super) fn in_memory() -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_in_memory_with_flags(flags).map_err(fault)?;
    harden(&connection)?;
    connection.execute_batch(schema::NEW_DATABASE).map_err(fault)?;
    create(&connection)?;
    Ok(connection)
}

/// The database in the file `path`, and its files, locked; a new one if there is no such file
/// or an empty one. `lifetime`: of values that an older version has stored.
pub(super) fn file(
    path: &Path,
    durability: Durability,
    lifetime: Duration,
) -> Result<(Connection, Files), StoreError> {
    if path.as_os_str().is_empty() || path.exists() && !path.is_file() {
        return Err(StoreError::NotAFile(path.to_owned()));
    }
    let lock = Lock::take(path).map_err(|error| locate(error, path))?;
    refuse_second_name(path).map_err(|error| locate(error, path))?;
    let connection = locked(path, durability, lifetime).map_err(|error| match locate(error, path) {
        // No node has it open: another program writes, or reads what is no log yet.
        StoreError::Busy(path) => StoreError::InUse(path),
        error => error,
    })?;
    let files = watched(path, lock, &connection).map_err(|error| locate(error, path))?;
    Ok((connection, files))
}

fn watched(path: &Path, lock: Lock, connection: &Connection) -> Result<Files, StoreError> {
    let mut files = Files::new(path, lock)?;
    still_there(connection)?;
    // By the log, which may tell of pages that were given back before a crash.
    let [pages, size] = [schema::PAGES, schema::PAGE_SIZE].map(|query| answer::<u32>(connection, query));
    if u64::from(pages?) * u64::from(size?) < length(path) {
        files.expect_shorter();
    }
    Ok(files)
}

fn locked(path: &Path, durability: Durability, lifetime: Duration) -> Result<Connection, StoreError> {
    refuse_foreign(path)?;
    let log_is_there = length(&log_of(path)) > 0;
    let connection = connect(path, "", OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
    // SQLite makes do with reading when it may not write.
    if connection.is_readonly(MAIN_DB).map_err(fault)? {
        return Err(StoreError::ReadOnly(path.to_owned()));
    }
    // Until the file is known to be ours, closing it must not touch it.
    keep_log_on_close(&connection, log_is_there)?;
    harden(&connection)?;
    connection.execute_batch(schema::FILE_CONNECTION).map_err(damage)?;
    let empty = is_empty(&connection)?;
    if connection.is_readonly(MAIN_DB).map_err(fault)? {
        return Err(damaged("its format is one that SQLite only reads"));
    }
    let begin = if empty { schema::NEW_FILE } else { schema::BEGIN };
    connection.execute_batch(begin).map_err(damage)?;
    // Some other program may have written to it meanwhile.
    if empty && answer::<i64>(&connection, schema::ALL_OBJECTS)? == 0 {
        create(&connection)?;
    } else {
        check(&connection, lifetime)?;
    }
    connection.execute_batch(schema::COMMIT).map_err(fault)?;
    // The second time with what has come of the first: a disk that failed meanwhile is not always told.
    for mode in [schema::WRITE_AHEAD, schema::GET_MODE] {
        let mode: String = answer(&connection, mode)?;
        if mode != "wal" {
            return Err(failed(format!("no write-ahead log can be kept beside it (only: {mode})")));
        }
        // From here on the log is there, and stays open.
        is_empty(&connection)?;
    }
    connection.execute_batch(schema::LOG_BOUNDS).map_err(fault)?;
    if durability == Durability::Program {
        connection.execute_batch(schema::LESS_DURABLE).map_err(fault)?;
    }
    keep_log_on_close(&connection, false)?;
    Ok(connection)
}

/// Whether the file that was found at the path is the one that SQLite has opened.
#[cfg(unix)]
fn still_there(connection: &Connection) -> Result<(), StoreError> {
    let mut moved = 0;
    connection.file_control(Some(MAIN_DB), FileControl::HasMoved(&mut moved)).map_err(fault)?;
    let what = String::from("it was removed or replaced while it was being opened");
    if moved == 0 { Ok(()) } else { Err(StoreError::Moved { path: PathBuf::new(), what }) }
}

#[cfg(not(unix))]
fn still_there(_: &Connection) -> Result<(), StoreError> {
    Ok(())
}

/// Lock and log are found by the file's name: by two names two nodes could have it at once, each
/// with a log that the other does not see.
#[cfg(unix)]
fn refuse_second_name(path: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::MetadataExt;
    match path.metadata().map_or(0, |metadata| metadata.nlink()) {
        0 | 1 => Ok(()),
        names => Err(failed(format!(
            "it has {names} names (hard links), and two nodes at once would harm it: \
             remove all but one, or use a copy"
        ))),
    }
}

#[cfg(not(unix))]
fn refuse_second_name(_: &Path) -> Result<(), StoreError> {
    Ok(())
}

/// Looks at the first page of a file without taking a lock or rolling anything
/// back: another program's database must stay as it is, even one that needs
/// recovery. Ours bear our mark there from their first moment on.
fn refuse_foreign(path: &Path) -> Result<(), StoreError> {
    if length(path) == 0 {
        return Ok(());
    }
    if length(path) < schema::SHORTEST {
        return Err(damaged("it is too short"));
    }
    let connection = connect(path, "?immutable=1", OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    // Of a program that was killed while it copied the log, the file may be shorter than its first
    // page says: the log makes up for that, which is not looked at here. Nothing is read but that page.
    connection.execute_batch(schema::EVEN_IF_SHORT).map_err(fault)?;
    check_mark(&connection)
}

/// The length of a file, 0 when there is none.
fn length(path: &Path) -> u64 {
    path.metadata().map_or(0, |metadata| metadata.len())
}

/// Where SQLite keeps a file's write-ahead log.
fn log_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

fn connect(path: &Path, query: &str, flags: OpenFlags) -> Result<Connection, StoreError> {
    let flags = flags | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection =
        Connection::open_with_flags(uri(path) + query, flags).map_err(|e| cannot_open(path, e))?;
    // rusqlite would wait for five seconds.
    connection.busy_timeout(Duration::ZERO).map_err(fault)?;
    Ok(connection)
}

/// The path as a URI, which has no special names: a bare `:memory:` would be no
/// file for SQLite, and a bare `file:x` the file `x`.
fn uri(path: &Path) -> String {
    let bytes = path.as_os_str().as_encoded_bytes();
    let mut uri = String::from(match (path.is_absolute(), bytes.first()) {
        (true, Some(b'/' | b'\\')) => "file://",
        (true, _) => "file:///",
        (false, _) => "file:./",
    });
    for &byte in bytes {
        match byte {
            b'\\' if cfg!(windows) => uri.push('/'),
            b'/' | b'.' | b'-' | b'_' => uri.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => uri.push(char::from(byte)),
            _ => uri.push_str(&format!("%{byte:02x}")),
        }
    }
    uri
}

/// SQLite's own words leave out why.
fn cannot_open(path: &Path, error: rusqlite::Error) -> StoreError {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    match fault(error) {
        StoreError::Denied(path) if directory.is_some_and(|directory| !directory.is_dir()) => {
            StoreError::NoDirectory(path)
        }
        error => error,
    }
}

fn harden(connection: &Connection) -> Result<(), StoreError> {
    for (setting, on) in [
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        // A plan that may depend on what a `LIMIT` is bound to is made twice, the second time when it
        // is bound; and what `ANALYZE` left in a file has less say in it.
        (DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true),
    ] {
        connection.set_db_config(setting, on).map_err(fault)?;
    }
    connection.execute_batch(schema::ANY_CONNECTION).map_err(fault)
}

fn keep_log_on_close(connection: &Connection, keep: bool) -> Result<(), StoreError> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keep).map_err(fault)?;
    Ok(())
}

fn is_empty(connection: &Connection) -> Result<bool, StoreError> {
    Ok(answer::<i64>(connection, schema::PAGES)? == 0)
}

fn create(connection: &Connection) -> Result<(), StoreError> {
    for table in schema::TABLES {
        connection.execute_batch(table).map_err(fault)?;
    }
    let marks = format!(
        "PRAGMA application_id = {}; PRAGMA user_version = {}",
        schema::APPLICATION_ID,
        schema::VERSION
    );
    connection.execute_batch(&marks).map_err(fault)
}

/// Whether the database is ours, of our version, and sound to the last row.
fn check(connection: &Connection, lifetime: Duration) -> Result<(), StoreError> {
    check_mark(connection)?;
    let version = answer(connection, schema::GET_VERSION)?;
    if version > schema::VERSION {
        return Err(StoreError::TooNew { path: PathBuf::new(), version });
    }
    if version < schema::OLDEST {
        return Err(damaged(format!("there never was a schema {version}")));
    }
    check_schema(connection, tables_of(version))?;
    check_integrity(connection)?;
    // Only what has turned out to be sound is changed.
    if version < schema::VERSION {
        migration::check_rows(connection, version)?;
        migration::bring_up_to_date(connection, version, lifetime)?;
    }
    check_rows(connection)
}

/// Whether all pages are as SQLite leaves them. One that cannot be read is a finding like any other to
/// it, but says nothing about the file, which nobody must throw away for that.
pub(super) fn check_integrity(connection: &Connection) -> Result<(), StoreError> {
    let verdict: String = answer(connection, schema::CHECK_INTEGRITY)?;
    if verdict == "ok" {
        return Ok(());
    }
    // The finding is the last line; one before it may name the database.
    let what = verdict.lines().last().unwrap_or_default();
    // Damage is still there when the disk is asked again. (Some findings have the same words for both.)
    connection.execute_batch(schema::FORGET_PAGES).map_err(fault)?;
    let again: String = answer(connection, schema::FIND_DAMAGE)?;
    if again == "ok" || verdict.lines().chain(again.lines()).any(is_unread) {
        return Err(failed(format!("some of it cannot be read now ({what})")));
    }
    Err(damaged(what))
}

/// Whether a finding of SQLite's tells of a page that it did not get: of its own number, or for a
/// reason that is a code of I/O's.
fn is_unread(finding: &str) -> bool {
    let code = finding.rsplit_once("unable to get the page. error code=").map(|(_, code)| code.parse());
    let of_the_disk = |code: c_int| code & 0xff == ffi::SQLITE_IOERR;
    finding.contains("failed to get page ") || code.is_some_and(|code| code.is_ok_and(of_the_disk))
}

fn tables_of(version: i64) -> &'static [&'static str] {
    match version {
        1 => schema::TABLES_OF_VERSION_2.split_last().map_or(&[], |(_, tables)| tables),
        2 => &schema::TABLES_OF_VERSION_2,
        _ => &schema::TABLES,
    }
}

fn check_mark(connection: &Connection) -> Result<(), StoreError> {
    let mark: i64 = answer(connection, schema::GET_APPLICATION_ID)?;
    if mark == schema::APPLICATION_ID { Ok(()) } else { Err(StoreError::Foreign(PathBuf::new())) }
}

fn check_schema(connection: &Connection, tables: &[&str]) -> Result<(), StoreError> {
    let (mut found, mut wrong) = (0, None);
    each(connection, schema::OBJECTS, |row| {
        let (kind, name, sql): (String, String, Option<String>) = (row.get(0)?, row.get(1)?, row.get(2)?);
        if !sql.is_some_and(|sql| tables.contains(&sql.as_str())) {
            wrong.get_or_insert(format!("the {kind} `{name}` is not as it should be"));
        }
        found += 1;
        Ok(None)
    })?;
    if let Some(wrong) = wrong {
        return Err(damaged(wrong));
    }
    if found == tables.len() { Ok(()) } else { Err(damaged("a table or an index is missing")) }
}

/// What `integrity_check` cannot know: one node per file, no rows of others,
/// values that match their digests, hosts that are addresses, and what follows from them.
fn check_rows(connection: &Connection) -> Result<(), StoreError> {
    let mut nodes = Vec::new();
    each(connection, schema::NODES, |row| {
        for column in 3..=5 {
            if !row.get::<_, Option<i64>>(column)?.is_none_or(is_time) {
                return Ok(Some("the node's clock shows a time that no clock does"));
            }
        }
        nodes.push((row.get::<_, i64>(0)?, Id::new(row.get(1)?), row.get::<_, i64>(2)?));
        Ok(None)
    })?;
    let node = match nodes[..] {
        [] => None,
        [node] => Some(node),
        _ => return Err(damaged("there is more than one node in it")),
    };
    let number = node.map(|(number, ..)| number);
    each(connection, schema::ALL_VALUES, |row| {
        let Some((_, id, run)) = node.filter(|_| row.get(0).is_ok_and(|of| number == Some(of))) else {
            return Ok(Some("there is a value of no node in it"));
        };
        if !matches_digest(row)? {
            return Ok(Some("a value does not match its digest"));
        }
        if row.get::<_, i64>(4)? > run {
            return Ok(Some("a value was stored in a run to come"));
        }
        if !is_time(row.get(8)?) {
            return Ok(Some(NO_CLOCK));
        }
        let sender: Option<String> = row.get(5)?;
        let sender = sender.as_deref().map(address).transpose()?;
        let block = row.get::<_, Option<i64>>(6)?;
        if block.is_some() && block != sender.map(block_of) {
            return Ok(Some("a value is not of the block that it is said to be of"));
        }
        let is_so_far = row.get::<_, i64>(7)? == distance(&id, &Id::new(row.get(3)?));
        Ok((!is_so_far).then_some("a value is not as far away as it is said to be"))
    })?;
    each(connection, schema::ALL_PUBLISHED, |row| {
        let fault = published_fault(row, number)?;
        Ok(if is_time(row.get(3)?) { fault } else { fault.or(Some(NO_CLOCK)) })
    })?;
    each(connection, schema::ALL_CONTACTS, |row| contact_fault(row, number))
}

const NO_CLOCK: &str = "a value was stored at a time that no clock shows";

/// Whether a clock can ever show that, and time go on from there: not what comes near the limits of
/// what can be counted.
fn is_time(seconds: i64) -> bool {
    seconds.unsigned_abs() < 1 << 62
}

/// What is wrong with a row of `published`, or with one of an older `value`.
pub(super) fn published_fault(row: &Row<'_>, node: Option<i64>) -> rusqlite::Result<Option<&'static str>> {
    if node != Some(row.get(0)?) {
        return Ok(Some("there is a value of no node in it"));
    }
    Ok((!matches_digest(row)?).then_some("a value does not match its digest"))
}

pub(super) fn contact_fault(row: &Row<'_>, node: Option<i64>) -> rusqlite::Result<Option<&'static str>> {
    if node != Some(row.get(0)?) {
        return Ok(Some("there is a contact of no node in it"));
    }
    address(&row.get::<_, String>(1)?).map(|_| None)
}

fn matches_digest(row: &Row<'_>) -> rusqlite::Result<bool> {
    let digest: [u8; ID_BYTES] = row.get(1)?;
    Ok(Sha1::digest(row.get_ref(2)?.as_blob()?)[..] == digest)
}

/// Runs over the rows of a query until one is found faulty.
pub(super) fn each(
    connection: &Connection,
    query: &str,
    mut faulty: impl FnMut(&Row<'_>) -> rusqlite::Result<Option<&'static str>>,
) -> Result<(), StoreError> {
    let mut statement = connection.prepare(query).map_err(damage)?;
    let mut rows = statement.query([]).map_err(damage)?;
    while let Some(row) = rows.next().map_err(damage)? {
        if let Some(what) = faulty(row).map_err(damage)? {
            return Err(damaged(what));
        }
    }
    Ok(())
}

fn answer<T: FromSql>(connection: &Connection, query: &str) -> Result<T, StoreError> {
    connection.query_row(query, [], |row| row.get(0)).map_err(damage)
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_that_sqlite_knows_are_names_of_files() {
        let uri = |path: &str| super::uri(path.as_ref());
        assert_eq!(uri(":memory:"), "file:./%3amemory%3a");
        assert_eq!(uri("file:x?mode=memory"), "file:./file%3ax%3fmode%3dmemory");
        assert_eq!(uri("a/b.db"), "file:./a/b.db");
        #[cfg(unix)]
        assert_eq!(uri("/a/b.db"), "file:///a/b.db");
    }
}
