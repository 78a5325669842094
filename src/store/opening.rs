//! Opening a database: no file is made or changed unless it is taken.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::types::FromSql;
use rusqlite::{Connection, ErrorCode, MAIN_DB, OpenFlags, Row};
use sha1::{Digest, Sha1};

use super::fault::{address, damage, fault};
use super::schema;
use crate::config::Durability;
use crate::error::StoreError;
use crate::id::ID_BYTES;

/// A new database in memory.
pub(super) fn in_memory() -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_in_memory_with_flags(flags).map_err(fault)?;
    harden(&connection)?;
    connection.execute_batch(schema::NEW_DATABASE).map_err(fault)?;
    create(&connection)?;
    Ok(connection)
}

/// The database in the file `path`, locked; a new one if there is no such file
/// or an empty one.
pub(super) fn file(path: &Path, durability: Durability) -> Result<Connection, StoreError> {
    if path.exists() && !path.is_file() {
        return Err(StoreError::Sqlite(format!("{} is not a file", path.display())));
    }
    refuse_foreign(path)?;
    let log_is_there = length(&log_of(path)) > 0;
    let connection = connect(path, "", OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
    // SQLite makes do with reading when it may not write.
    if connection.is_readonly(MAIN_DB).map_err(fault)? {
        return Err(StoreError::Sqlite(format!("{} is read-only", path.display())));
    }
    // Until the file is known to be ours, closing it must not touch it.
    keep_log_on_close(&connection, log_is_there)?;
    harden(&connection)?;
    connection.execute_batch(schema::FILE_CONNECTION).map_err(damage)?;
    let empty = is_empty(&connection)?;
    if connection.is_readonly(MAIN_DB).map_err(fault)? {
        return Err(StoreError::Damaged("its format is one that SQLite only reads".to_owned()));
    }
    let lock = if empty { schema::NEW_FILE } else { schema::LOCK_FILE };
    connection.execute_batch(lock).map_err(damage)?;
    // What was empty still is: the lock for reading was kept since.
    if empty {
        create(&connection)?;
    } else {
        check(&connection)?;
    }
    connection.execute_batch(schema::COMMIT).map_err(fault)?;
    let mode: String = answer(&connection, schema::WRITE_AHEAD)?;
    if mode != "wal" {
        return Err(StoreError::Sqlite(format!(
            "no write-ahead log can be kept beside {} (only: {mode})",
            path.display()
        )));
    }
    connection.execute_batch(schema::LOG_BOUNDS).map_err(fault)?;
    if durability == Durability::System {
        connection.execute_batch(schema::LESS_DURABLE).map_err(fault)?;
    }
    keep_log_on_close(&connection, false)?;
    Ok(connection)
}

/// Looks at the first page of a file without taking a lock or rolling anything
/// back: another program's database must stay as it is, even one that needs
/// recovery. Ours bear our mark there from their first moment on.
fn refuse_foreign(path: &Path) -> Result<(), StoreError> {
    if length(path) == 0 {
        return Ok(());
    }
    if length(path) < schema::SHORTEST {
        return Err(StoreError::Damaged("it is too short".to_owned()));
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

/// SQLite's own words leave out which file and why.
fn cannot_open(path: &Path, error: rusqlite::Error) -> StoreError {
    if error.sqlite_error_code() != Some(ErrorCode::CannotOpen) {
        return fault(error);
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let why = match directory {
        Some(directory) if !directory.is_dir() => "its directory does not exist, or may not be entered",
        _ => "it may not be read and written, or it may not be made",
    };
    StoreError::Sqlite(format!("cannot open {}: {why}", path.display()))
}

fn harden(connection: &Connection) -> Result<(), StoreError> {
    for (setting, on) in [
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
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
fn check(connection: &Connection) -> Result<(), StoreError> {
    check_mark(connection)?;
    let version = answer(connection, schema::GET_VERSION)?;
    if version > schema::VERSION {
        return Err(StoreError::TooNew(version));
    }
    if version < schema::OLDEST {
        return Err(StoreError::Damaged(format!("there never was a schema {version}")));
    }
    let up_to_date = version == schema::VERSION;
    check_schema(connection, if up_to_date { &schema::TABLES } else { old_tables() })?;
    let verdict: String = answer(connection, schema::CHECK_INTEGRITY)?;
    if verdict != "ok" {
        return Err(StoreError::Damaged(verdict));
    }
    check_rows(connection, up_to_date)?;
    // Only what has turned out to be sound is changed.
    if up_to_date { Ok(()) } else { bring_up_to_date(connection) }
}

fn old_tables() -> &'static [&'static str] {
    &schema::TABLES[..schema::TABLES_OF_VERSION_1]
}

/// Gives a database of version 1 what is new since then, in the transaction that is open.
fn bring_up_to_date(connection: &Connection) -> Result<(), StoreError> {
    for table in &schema::TABLES[schema::TABLES_OF_VERSION_1..] {
        connection.execute_batch(table).map_err(fault)?;
    }
    connection.execute_batch(&format!("PRAGMA user_version = {}", schema::VERSION)).map_err(fault)
}

fn check_mark(connection: &Connection) -> Result<(), StoreError> {
    let mark: i64 = answer(connection, schema::GET_APPLICATION_ID)?;
    if mark == schema::APPLICATION_ID { Ok(()) } else { Err(StoreError::Foreign) }
}

fn check_schema(connection: &Connection, tables: &[&str]) -> Result<(), StoreError> {
    let mut found = 0;
    each(connection, schema::OBJECTS, |row| {
        let (kind, name, sql): (String, String, Option<String>) = (row.get(0)?, row.get(1)?, row.get(2)?);
        if !sql.is_some_and(|sql| tables.contains(&sql.as_str())) {
            return Ok(Some(format!("the {kind} `{name}` is not as this version makes it")));
        }
        found += 1;
        Ok(None)
    })?;
    if found == tables.len() {
        Ok(())
    } else {
        Err(StoreError::Damaged("a table or an index is missing".to_owned()))
    }
}

/// What `integrity_check` cannot know: one node per file, no rows of others,
/// values that match their digests, hosts that are addresses.
fn check_rows(connection: &Connection, up_to_date: bool) -> Result<(), StoreError> {
    let mut numbers = Vec::new();
    each(connection, schema::NODES, |row| {
        numbers.push(row.get::<_, i64>(0)?);
        Ok(None)
    })?;
    let node = match numbers[..] {
        [] => None,
        [node] => Some(node),
        _ => return Err(StoreError::Damaged("there is more than one node in it".to_owned())),
    };
    let value = |row: &Row<'_>| {
        let digest: [u8; ID_BYTES] = row.get(1)?;
        let value = row.get_ref(2)?.as_blob()?;
        if node != Some(row.get(0)?) {
            return Ok(Some("there is a value of no node in it".to_owned()));
        }
        if Sha1::digest(value)[..] != digest {
            return Ok(Some("a value does not match its digest".to_owned()));
        }
        Ok(None)
    };
    each(connection, schema::ALL_VALUES, value)?;
    if up_to_date {
        each(connection, schema::ALL_PUBLISHED, value)?;
    }
    each(connection, schema::ALL_CONTACTS, |row| {
        if node != Some(row.get(0)?) {
            return Ok(Some("there is a contact of no node in it".to_owned()));
        }
        address(&row.get::<_, String>(1)?)?;
        Ok(None)
    })
}

/// Runs over the rows of a query until one is found faulty.
fn each(
    connection: &Connection,
    query: &str,
    mut faulty: impl FnMut(&Row<'_>) -> rusqlite::Result<Option<String>>,
) -> Result<(), StoreError> {
    let mut statement = connection.prepare(query).map_err(damage)?;
    let mut rows = statement.query([]).map_err(damage)?;
    while let Some(row) = rows.next().map_err(damage)? {
        if let Some(what) = faulty(row).map_err(damage)? {
            return Err(StoreError::Damaged(what));
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
