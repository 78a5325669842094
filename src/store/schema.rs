//! All SQL of the store.
//!
//! To look into a node's file once the node is closed:
//!
//! ```text
//! $ sqlite3 node.db
//! sqlite> SELECT hex(id) FROM node;
//! sqlite> SELECT hex(key), datetime(time, 'unixepoch'), length(value) FROM value;
//! sqlite> SELECT hex(id), host, port FROM contact;
//! sqlite> SELECT hex(key), datetime(time, 'unixepoch'), length(value) FROM published;
//! ```
//!
//! SQLite 3.37 or newer is needed, for `STRICT`.

/// Marks a file as a Khashmir node's (`PRAGMA application_id`): "Khsh".
pub(super) const APPLICATION_ID: i64 = 0x4b68_7368;

/// The version of [`TABLES`] (`PRAGMA user_version`).
pub(super) const VERSION: i64 = 2;

/// The oldest version that is taken, and brought up to the present one.
pub(super) const OLDEST: i64 = 1;

/// How many of [`TABLES`] version 1 had: the first ones. It had no `published`.
pub(super) const TABLES_OF_VERSION_1: usize = 4;

/// The tables, each statement just as SQLite keeps it in `sqlite_schema`: a
/// file whose statements differ is not taken. The checks on lengths and types
/// are there for damaged files too, since `integrity_check` applies them.
///
/// `value` has row numbers, and the key in an index beside it. Without row
/// numbers SQLite would keep values inside the key's own tree, of which one page
/// holds at least four entries: measured, a value of 1 kB then takes 4.7 kB
/// instead of 1.4, and finding one of 64 KiB six times as long.
///
/// Ids, keys and digests (SHA-1 of the value) are 20 bytes, `time` is seconds
/// since 1970, when the value was last stored: by its publisher, whoever handed it on.
///
/// `value` is what the node holds for others, `published` what its owner stored through it
/// and it renews; `time` there is when that was done last.
pub(super) const TABLES: [&str; 5] = [
    "CREATE TABLE node (
    number INTEGER PRIMARY KEY,
    id BLOB NOT NULL CHECK (length(id) = 20)
) STRICT",
    "CREATE TABLE contact (
    node INTEGER NOT NULL,
    id BLOB NOT NULL CHECK (length(id) = 20),
    host TEXT NOT NULL,
    port INTEGER NOT NULL CHECK (port BETWEEN 0 AND 65535),
    PRIMARY KEY (node, id)
) STRICT, WITHOUT ROWID",
    "CREATE TABLE value (
    number INTEGER PRIMARY KEY,
    node INTEGER NOT NULL,
    key BLOB NOT NULL CHECK (length(key) = 20),
    digest BLOB NOT NULL CHECK (length(digest) = 20),
    time INTEGER NOT NULL,
    value BLOB NOT NULL,
    UNIQUE (node, key, digest)
) STRICT",
    "CREATE INDEX value_by_time ON value (node, time)",
    "CREATE TABLE published (
    number INTEGER PRIMARY KEY,
    node INTEGER NOT NULL,
    key BLOB NOT NULL CHECK (length(key) = 20),
    digest BLOB NOT NULL CHECK (length(digest) = 20),
    time INTEGER NOT NULL,
    value BLOB NOT NULL,
    UNIQUE (node, key, digest)
) STRICT",
];

/// For every connection. A file may come from anywhere: its schema gets no say
/// in what runs, and cells are checked before they are used.
pub(super) const ANY_CONNECTION: &str = "
    PRAGMA trusted_schema = OFF;
    PRAGMA cell_size_check = ON;
    PRAGMA temp_store = MEMORY;
";

/// For a file, before it is first read. With the lock held for good no shared
/// memory file is needed, and nobody else gets in.
pub(super) const FILE_CONNECTION: &str = "
    PRAGMA locking_mode = EXCLUSIVE;
    PRAGMA mmap_size = 0;
    PRAGMA cache_size = -512;
    PRAGMA synchronous = FULL;
    PRAGMA fullfsync = ON;
    PRAGMA checkpoint_fullfsync = ON;
";

/// For a new database, before its first table: free pages can be given back.
pub(super) const NEW_DATABASE: &str = "PRAGMA auto_vacuum = INCREMENTAL";

/// The same for a file, whose first page bears our mark from the first write on: with the lock, and in
/// the transaction that makes the tables.
pub(super) const NEW_FILE: &str = "BEGIN; PRAGMA auto_vacuum = INCREMENTAL";

/// The length of a file that has SQLite's header and room for a page, in bytes.
pub(super) const SHORTEST: u64 = 512;

/// Reads the first page of a file even if others are missing.
pub(super) const EVEN_IF_SHORT: &str = "PRAGMA writable_schema = ON";

/// Answers with the mode that SQLite could set.
pub(super) const WRITE_AHEAD: &str = "PRAGMA journal_mode = WAL";

/// The log is copied into the file at the first commit that finds it beyond
/// 1,000 pages (4 MB), and cut to that size when a large transaction made it
/// larger.
pub(super) const LOG_BOUNDS: &str = "
    PRAGMA wal_autocheckpoint = 1000;
    PRAGMA journal_size_limit = 4194304;
";

/// `Durability::System`: the log reaches the disk only when it is copied.
pub(super) const LESS_DURABLE: &str = "PRAGMA synchronous = NORMAL";

pub(super) const LOCK_FILE: &str = "BEGIN EXCLUSIVE";
pub(super) const BEGIN: &str = "BEGIN IMMEDIATE";
pub(super) const COMMIT: &str = "COMMIT";
pub(super) const ROLLBACK: &str = "ROLLBACK";

/// Lets go of the pages in memory that were not changed, of a file only.
pub(super) const FORGET_PAGES: &str = "PRAGMA shrink_memory";
pub(super) const PAGES: &str = "PRAGMA page_count";
pub(super) const FREE_PAGES: &str = "PRAGMA freelist_count";
/// Gives back the pages of one call's share. One step is one page.
pub(super) const GIVE_BACK_PAGES: &str = "PRAGMA incremental_vacuum(1024)";
pub(super) const GET_APPLICATION_ID: &str = "PRAGMA application_id";
pub(super) const GET_VERSION: &str = "PRAGMA user_version";

/// One line, "ok" or the first thing that is wrong. Not the quicker
/// `quick_check`: that does not compare indices with their table, and a damaged
/// index would hand out one key's values under another.
pub(super) const CHECK_INTEGRITY: &str = "PRAGMA integrity_check(1)";

/// Every object there is but the indices that tables bring along, and the
/// tables that `ANALYZE` makes.
pub(super) const OBJECTS: &str = "
    SELECT type, name, sql FROM sqlite_schema
    WHERE NOT (type = 'index' AND sql IS NULL)
    AND NOT (type = 'table' AND name IN ('sqlite_stat1', 'sqlite_stat4'))";

pub(super) const NODES: &str = "SELECT number, id FROM node ORDER BY number LIMIT 2";
pub(super) const ADD_NODE: &str = "INSERT INTO node (id) VALUES (?1)";
pub(super) const DELETE_NODE: &str = "DELETE FROM node WHERE number = ?1";

pub(super) const ALL_VALUES: &str = "SELECT node, digest, value FROM value";
pub(super) const ALL_PUBLISHED: &str = "SELECT node, digest, value FROM published";
pub(super) const ALL_CONTACTS: &str = "SELECT node, host FROM contact";

/// What a node holds, key by key; the length of a value is known without
/// reading it.
pub(super) const SIZES: &str = "SELECT key, length(value) FROM value WHERE node = ?1";

/// `+time`: so that SQLite does not take the index on time,
/// which it would prefer and which has every value of the node in it.
pub(super) const VALUES_FROM: &str = "
    SELECT value FROM value
    WHERE node = ?1 AND key = ?2 AND digest >= ?3 AND +time > ?4 ORDER BY digest";
/// The same, for those before the digest.
pub(super) const VALUES_BEFORE: &str = "
    SELECT value FROM value
    WHERE node = ?1 AND key = ?2 AND digest < ?3 AND +time > ?4 ORDER BY digest";
pub(super) const RENEW_VALUE: &str = "
    UPDATE value SET time = max(time, ?4) WHERE node = ?1 AND key = ?2 AND digest = ?3";
pub(super) const ADD_VALUE: &str = "
    INSERT INTO value (node, key, digest, time, value) VALUES (?1, ?2, ?3, ?4, ?5)";
pub(super) const OLDEST_VALUES: &str = "
    SELECT number, key, length(value) FROM value
    WHERE node = ?1 AND time <= ?2 ORDER BY time LIMIT ?3";
/// Values that were stored later than now, by a clock that was put back since.
pub(super) const FUTURE_VALUES: &str = "SELECT number FROM value WHERE node = ?1 AND time > ?2 LIMIT ?3";
pub(super) const SET_TIME: &str = "UPDATE value SET time = ?2 WHERE number = ?1";
pub(super) const DELETE_VALUE: &str = "DELETE FROM value WHERE number = ?1";
pub(super) const DELETE_VALUES: &str = "DELETE FROM value WHERE node = ?1";

/// The keys that have values.
pub(super) const KEYS: &str = "SELECT DISTINCT key FROM value WHERE node = ?1";
/// Values of a key without themselves, from a digest on.
pub(super) const HELD_FROM: &str = "
    SELECT digest, time FROM value
    WHERE node = ?1 AND key = ?2 AND digest >= ?3 AND +time > ?4 ORDER BY digest LIMIT ?5";
/// The same, for those before the digest.
pub(super) const HELD_BEFORE: &str = "
    SELECT digest, time FROM value
    WHERE node = ?1 AND key = ?2 AND digest < ?3 AND +time > ?4 ORDER BY digest LIMIT ?5";
/// When a value was stored whose digest is in a range that it has for itself.
pub(super) const STORED: &str = "
    SELECT time FROM value WHERE node = ?1 AND key = ?2 AND digest BETWEEN ?3 AND ?4 LIMIT 1";
pub(super) const VALUE: &str = "
    SELECT value, time FROM value WHERE node = ?1 AND key = ?2 AND digest = ?3";

pub(super) const PUBLISHED_SIZES: &str = "SELECT length(value) FROM published WHERE node = ?1";
pub(super) const PUBLISHED: &str = "SELECT number, time FROM published WHERE node = ?1";
pub(super) const PUBLISHED_VALUE: &str = "
    SELECT key, value FROM published WHERE number = ?1 AND node = ?2";
pub(super) const FIND_PUBLISHED: &str = "
    SELECT number, length(value) FROM published WHERE node = ?1 AND key = ?2 AND digest = ?3";
pub(super) const PUBLISH_AGAIN: &str = "UPDATE published SET time = ?2 WHERE number = ?1";
pub(super) const PUBLISH: &str = "
    INSERT INTO published (node, key, digest, time, value) VALUES (?1, ?2, ?3, ?4, ?5)";
pub(super) const WITHDRAW: &str = "DELETE FROM published WHERE number = ?1";
pub(super) const DELETE_PUBLISHED: &str = "DELETE FROM published WHERE node = ?1";

pub(super) const CONTACTS: &str = "SELECT id, host, port FROM contact WHERE node = ?1 ORDER BY id";
pub(super) const DELETE_CONTACTS: &str = "DELETE FROM contact WHERE node = ?1";
pub(super) const ADD_CONTACT: &str = "
    INSERT OR REPLACE INTO contact (node, id, host, port) VALUES (?1, ?2, ?3, ?4)";

/// The statements that run again and again, for the test that none of them
/// scans a table.
pub const QUERIES: [&str; 24] = [
    SIZES,
    VALUES_FROM,
    VALUES_BEFORE,
    RENEW_VALUE,
    OLDEST_VALUES,
    FUTURE_VALUES,
    SET_TIME,
    DELETE_VALUE,
    DELETE_VALUES,
    CONTACTS,
    DELETE_CONTACTS,
    DELETE_NODE,
    KEYS,
    HELD_FROM,
    HELD_BEFORE,
    STORED,
    VALUE,
    PUBLISHED_SIZES,
    PUBLISHED,
    PUBLISHED_VALUE,
    FIND_PUBLISHED,
    PUBLISH_AGAIN,
    WITHDRAW,
    DELETE_PUBLISHED,
];
