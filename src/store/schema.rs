//! All SQL of the store.
//!
//! A node's file can be looked into while the node runs. (Not in a transaction that stays open:
//! the log grows until it ends.)
//!
//! ```text
//! $ sqlite3 -readonly node.db
//! sqlite> SELECT hex(key), length(value), datetime(expires, 'unixepoch') FROM value ORDER BY expires;
//! sqlite> SELECT sender, count(*), sum(length(value)) AS bytes FROM value
//!    ...> GROUP BY sender ORDER BY bytes DESC;
//! sqlite> SELECT hex(id), host, port, datetime(heard, 'unixepoch') FROM contact ORDER BY heard DESC;
//! sqlite> SELECT hex(key), datetime(time, 'unixepoch'), length(value) FROM published;
//! ```
//!
//! Values are refused while somebody else writes to it. The file needs SQLite 3.37 or
//! newer (`STRICT`), the node 3.45.3 (rusqlite's interface to the system's).

/// Marks a file as a Khashmir node's (`PRAGMA application_id`): "Khsh".
pub(super) const APPLICATION_ID: i64 = 0x4b68_7368;

/// The version of [`TABLES`] (`PRAGMA user_version`).
pub(super) const VERSION: i64 = 3;

/// The oldest version that is taken, and brought up to the present one.
pub(super) const OLDEST: i64 = 1;

/// The tables, each statement just as SQLite keeps it in `sqlite_schema`: a
/// file whose statements differ is not taken. The checks on lengths and types
/// are there for damaged files too, since `integrity_check` applies them.
///
/// `value` has row numbers, and the key in an index beside it. Without row
/// numbers SQLite would keep values inside the key's own tree, of which one page
/// holds at least four entries: measured, a value of 1 kB then takes 4.7 kB
/// instead of 1.4, and finding one of 64 KiB six times as long.
///
/// Ids, keys and digests (SHA-1 of the value) are 20 bytes. All times are seconds since 1970:
/// `time`, when the value was last stored by its publisher, whoever handed it on; `expires`,
/// when it is deleted; both by the node's own clock, which may differ from the time of day
/// where that has jumped. `run` counts the starts of the node: the last one before the value
/// was stored. `sender` is the address that it counts for, NULL where the node itself or an older
/// version has stored it; `block` stands for that address's block where it may have to
/// give way, see [`Config::when_full`](crate::Config::when_full). `distance`: the first 63
/// bits of the key's distance from the node's id.
///
/// `value` is what the node holds for others, `published` what its owner stored through it
/// and it renews; `time` there is when that was done last. `heard`: when a contact last
/// answered, by the time of day.
///
/// In `node`, `clock` and `wall` are what the node's clock showed at which time of day when that
/// was last saved, `doubt` and `doubted` see [`SavedClock`](super::SavedClock).
pub(super) const TABLES: [&str; 6] = [
    "CREATE TABLE node (
    number INTEGER PRIMARY KEY,
    id BLOB NOT NULL CHECK (length(id) = 20),
    run INTEGER NOT NULL,
    clock INTEGER,
    wall INTEGER,
    doubt INTEGER NOT NULL CHECK (doubt >= 0),
    doubted INTEGER NOT NULL
) STRICT",
    "CREATE TABLE contact (
    node INTEGER NOT NULL,
    id BLOB NOT NULL CHECK (length(id) = 20),
    host TEXT NOT NULL,
    port INTEGER NOT NULL CHECK (port BETWEEN 0 AND 65535),
    heard INTEGER,
    PRIMARY KEY (node, id)
) STRICT, WITHOUT ROWID",
    "CREATE TABLE value (
    number INTEGER PRIMARY KEY,
    node INTEGER NOT NULL,
    key BLOB NOT NULL CHECK (length(key) = 20),
    digest BLOB NOT NULL CHECK (length(digest) = 20),
    time INTEGER NOT NULL,
    expires INTEGER NOT NULL CHECK (expires >= time),
    run INTEGER NOT NULL,
    sender TEXT,
    block INTEGER,
    distance INTEGER NOT NULL CHECK (distance >= 0),
    value BLOB NOT NULL,
    UNIQUE (node, key, digest)
) STRICT",
    "CREATE INDEX value_by_end ON value (node, expires)",
    "CREATE INDEX value_to_go ON value (node, block, distance DESC, time) WHERE block IS NOT NULL",
    PUBLISHED_TABLE,
];

/// As it has been since version 2.
const PUBLISHED_TABLE: &str = "CREATE TABLE published (
    number INTEGER PRIMARY KEY,
    node INTEGER NOT NULL,
    key BLOB NOT NULL CHECK (length(key) = 20),
    digest BLOB NOT NULL CHECK (length(digest) = 20),
    time INTEGER NOT NULL,
    value BLOB NOT NULL,
    UNIQUE (node, key, digest)
) STRICT";

/// Those of version 2; version 1 had all but the last one.
pub(super) const TABLES_OF_VERSION_2: [&str; 5] = [
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
    PUBLISHED_TABLE,
];

/// From version 1 or 2 to 3: what changes its columns moves out of the way first.
pub(super) const MOVE_AWAY: &str = "
    ALTER TABLE node RENAME TO old_node;
    ALTER TABLE contact RENAME TO old_contact;
    ALTER TABLE value RENAME TO old_value;
";
/// The clock goes on from the last store that is known of.
pub(super) const TAKE_OVER: &str = "
    INSERT INTO node (number, id, run, clock, wall, doubt, doubted)
    SELECT number, id, 0, (SELECT max(time) FROM old_value), (SELECT max(time) FROM old_value), 0, 0
    FROM old_node;
    INSERT INTO contact (node, id, host, port) SELECT node, id, host, port FROM old_contact;
";
pub(super) const OLD_VALUES: &str = "
    SELECT number, node, key, digest, time, value,
    (SELECT id FROM old_node WHERE number = node) FROM old_value ORDER BY number";
pub(super) const TAKE_OVER_VALUE: &str = "
    INSERT INTO value (number, node, key, digest, time, value, expires, run, distance)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, ?8)";
pub(super) const DROP_OLD: &str = "
    DROP TABLE old_value;
    DROP TABLE old_contact;
    DROP TABLE old_node;
";

/// For every connection. A file may come from anywhere: its schema gets no say
/// in what runs, and cells are checked before they are used.
pub(super) const ANY_CONNECTION: &str = "
    PRAGMA trusted_schema = OFF;
    PRAGMA cell_size_check = ON;
    PRAGMA temp_store = MEMORY;
";

/// For a file, before it is first read.
pub(super) const FILE_CONNECTION: &str = "
    PRAGMA mmap_size = 0;
    PRAGMA cache_size = -512;
    PRAGMA synchronous = FULL;
    PRAGMA fullfsync = ON;
    PRAGMA checkpoint_fullfsync = ON;
";

/// For a new database, before its first table: free pages can be given back. Pages have SQLite's
/// usual 4,096 bytes. Measured beside those of 1,024: a node with an empty file takes 203 kB with
/// them instead of 138, with 100 values in it 226 instead of 203; in memory 100 values take 64 kB
/// instead of 86, and storing takes less time, everywhere.
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

pub(super) const GET_MODE: &str = "PRAGMA journal_mode";

/// The log is copied into the file at the first commit that finds it beyond
/// 250 pages (1 MB). With SQLite's usual 1,000 pages copying alone holds the loop up for 6 ms.
/// It is cut to twice that size when a large transaction made it larger; a bound as close as the
/// first would have it cut and grown again each time.
pub(super) const LOG_BOUNDS: &str = "
    PRAGMA wal_autocheckpoint = 250;
    PRAGMA journal_size_limit = 2097152;
";

/// The second bound, in bytes.
pub(super) const LONGEST_LOG: u64 = 2_097_152;

/// Copies the whole log into the file, and cuts it to nothing; as far as readers let it.
pub(super) const COPY_LOG: &str = "PRAGMA wal_checkpoint(TRUNCATE)";

/// The same as far as it goes without waiting. Answers with how many pages there are in the log, and
/// how many of these are in the file now.
pub(super) const COPY_SOME_OF_LOG: &str = "PRAGMA wal_checkpoint(PASSIVE)";

/// `Durability::Program`: the log reaches the disk only when it is copied.
pub(super) const LESS_DURABLE: &str = "PRAGMA synchronous = NORMAL";

pub(super) const BEGIN: &str = "BEGIN IMMEDIATE";
pub(super) const COMMIT: &str = "COMMIT";
pub(super) const ROLLBACK: &str = "ROLLBACK";

/// Lets go of the pages in memory that were not changed, of a file only.
pub(super) const FORGET_PAGES: &str = "PRAGMA shrink_memory";
pub(super) const PAGES: &str = "PRAGMA page_count";
pub(super) const PAGE_SIZE: &str = "PRAGMA page_size";
pub(super) const FREE_PAGES: &str = "PRAGMA freelist_count";
/// Gives back the pages of one call's share. One step is one page.
pub(super) const GIVE_BACK_PAGES: &str = "PRAGMA incremental_vacuum(64)";
pub(super) const GET_APPLICATION_ID: &str = "PRAGMA application_id";
pub(super) const GET_VERSION: &str = "PRAGMA user_version";

/// One line, "ok" or the first thing that is wrong. Not the quicker
/// `quick_check`: that does not compare indices with their table, and a damaged
/// index would hand out one key's values under another.
pub(super) const CHECK_INTEGRITY: &str = "PRAGMA integrity_check(1)";

/// The same, up to a hundred things.
pub(super) const FIND_DAMAGE: &str = "PRAGMA integrity_check(100)";

/// Every object there is but the indices that tables bring along, and the
/// tables that `ANALYZE` makes.
pub(super) const OBJECTS: &str = "
    SELECT type, name, sql FROM sqlite_schema
    WHERE NOT (type = 'index' AND sql IS NULL)
    AND NOT (type = 'table' AND name IN ('sqlite_stat1', 'sqlite_stat4'))";

pub(super) const ALL_OBJECTS: &str = "SELECT count(*) FROM sqlite_schema";

pub(super) const NODES: &str = "
    SELECT number, id, run, clock, wall, doubt, doubted FROM node ORDER BY number LIMIT 2";
pub(super) const ADD_NODE: &str = "INSERT INTO node (id, run, doubt, doubted) VALUES (?1, 1, 0, 0)";
pub(super) const NEXT_RUN: &str = "UPDATE node SET run = ?2 WHERE number = ?1";
pub(super) const SAVE_CLOCK: &str = "
    UPDATE node SET clock = ?2, wall = ?3, doubt = ?4, doubted = ?5 WHERE number = ?1";
pub(super) const DELETE_NODE: &str = "DELETE FROM node WHERE number = ?1";

pub(super) const ALL_VALUES: &str = "
    SELECT node, digest, value, key, run, sender, block, distance, time FROM value";
pub(super) const ALL_PUBLISHED: &str = "SELECT node, digest, value, time FROM published";
pub(super) const ALL_CONTACTS: &str = "SELECT node, host FROM contact";

/// What is in a file, value by value; the length of one is known without
/// reading it.
pub(super) const SIZES: &str = "SELECT key, length(value), sender, time, number, block, run FROM value";
pub(super) const SET_BLOCK: &str = "UPDATE value SET block = ?2 WHERE number = ?1";

/// Those of a key from one digest on and before another.
pub(super) const VALUES_BETWEEN: &str = "
    SELECT value, run, expires, digest FROM value
    WHERE node = ?1 AND key = ?2 AND digest >= ?3 AND digest < ?4 ORDER BY digest LIMIT ?5";
/// What is known of a value, but the value itself.
pub(super) const PRESENT: &str = "
    SELECT number, key, length(value), sender, time, run, expires FROM value
    WHERE node = ?1 AND key = ?2 AND digest = ?3";
/// The same of those of a key from one digest on and before another, as far as it is counted.
pub(super) const PRESENT_BETWEEN: &str = "
    SELECT number, key, length(value), sender, expires FROM value
    WHERE node = ?1 AND key = ?2 AND digest >= ?3 AND digest < ?4 ORDER BY digest LIMIT ?5";
pub(super) const RENEW_VALUE: &str = "
    UPDATE value SET time = max(time, ?2), expires = ?3, run = ?4 WHERE number = ?1";
pub(super) const SET_PAYER: &str = "UPDATE value SET sender = ?2, block = ?3 WHERE number = ?1";
pub(super) const ADD_VALUE: &str = "
    INSERT INTO value (node, key, digest, time, expires, run, sender, block, distance, value)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
pub(super) const EXPIRED_VALUES: &str = "
    SELECT number, key, length(value), sender FROM value
    WHERE node = ?1 AND expires <= ?2 ORDER BY expires LIMIT ?3";
/// Which value of a block is the next to make room, after so many others of it.
pub(super) const VALUE_TO_GO: &str = "
    SELECT number, key, length(value), sender, distance, time FROM value
    WHERE node = ?1 AND block = ?2 ORDER BY distance DESC, time LIMIT 1 OFFSET ?3";
pub(super) const LIMIT_LIVES: &str = "
    UPDATE value SET expires = max(time, ?2) WHERE node = ?1 AND expires > ?2";
pub(super) const DELETE_VALUE: &str = "DELETE FROM value WHERE number = ?1";
pub(super) const VALUES_OF_NODE: &str = "SELECT number FROM value WHERE node = ?1 LIMIT ?2";

/// The keys that have values.
pub(super) const KEYS: &str = "SELECT DISTINCT key FROM value WHERE node = ?1";
/// Values of a key without themselves, from a digest on.
pub(super) const HELD_FROM: &str = "
    SELECT digest, run, expires, time FROM value
    WHERE node = ?1 AND key = ?2 AND digest >= ?3 ORDER BY digest LIMIT ?4";
/// The same, for those before the digest.
pub(super) const HELD_BEFORE: &str = "
    SELECT digest, run, expires, time FROM value
    WHERE node = ?1 AND key = ?2 AND digest < ?3 ORDER BY digest LIMIT ?4";
/// When a value was stored whose digest is in a range that it has for itself.
pub(super) const STORED: &str = "
    SELECT run, expires, time FROM value
    WHERE node = ?1 AND key = ?2 AND digest BETWEEN ?3 AND ?4 LIMIT 1";
pub(super) const VALUE: &str = "
    SELECT value, run, expires, time FROM value WHERE node = ?1 AND key = ?2 AND digest = ?3";

/// Who stored the values of a key.
pub(super) const SENDERS: &str = "SELECT sender FROM value WHERE node = ?1 AND key = ?2 LIMIT ?3";

pub(super) const PUBLISHED_SIZES: &str = "SELECT length(value), time FROM published";
pub(super) const PUBLISHED: &str = "SELECT number, time FROM published WHERE node = ?1";
pub(super) const PUBLISHED_VALUE: &str = "
    SELECT key, value FROM published WHERE number = ?1 AND node = ?2";
pub(super) const FIND_PUBLISHED: &str = "
    SELECT number, length(value) FROM published WHERE node = ?1 AND key = ?2 AND digest = ?3";
pub(super) const PUBLISH_AGAIN: &str = "UPDATE published SET time = ?2 WHERE number = ?1";
pub(super) const PUBLISH: &str = "
    INSERT INTO published (node, key, digest, time, value) VALUES (?1, ?2, ?3, ?4, ?5)";
pub(super) const WITHDRAW: &str = "DELETE FROM published WHERE number = ?1";
pub(super) const PUBLISHED_OF_NODE: &str = "SELECT number FROM published WHERE node = ?1 LIMIT ?2";

pub(super) const CONTACTS: &str = "SELECT id, host, port, heard FROM contact WHERE node = ?1 ORDER BY id";
pub(super) const DELETE_CONTACTS: &str = "DELETE FROM contact WHERE node = ?1";
pub(super) const ADD_CONTACT: &str = "
    INSERT OR REPLACE INTO contact (node, id, host, port, heard) VALUES (?1, ?2, ?3, ?4, ?5)";

/// The statements that run again and again, for the test that none of them
/// scans a table.
pub const QUERIES: [&str; 28] = [
    VALUES_BETWEEN,
    PRESENT,
    PRESENT_BETWEEN,
    RENEW_VALUE,
    SET_PAYER,
    EXPIRED_VALUES,
    VALUE_TO_GO,
    LIMIT_LIVES,
    DELETE_VALUE,
    VALUES_OF_NODE,
    SAVE_CLOCK,
    NEXT_RUN,
    SET_BLOCK,
    CONTACTS,
    DELETE_CONTACTS,
    DELETE_NODE,
    KEYS,
    HELD_FROM,
    HELD_BEFORE,
    STORED,
    VALUE,
    SENDERS,
    PUBLISHED,
    PUBLISHED_VALUE,
    FIND_PUBLISHED,
    PUBLISH_AGAIN,
    WITHDRAW,
    PUBLISHED_OF_NODE,
];
