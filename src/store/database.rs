//! A connection, and the nodes that live in it.

mod guard;
mod tenants;

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, params};

use super::clock::SavedClock;
use super::fault::{fault, locate};
use super::files::Files;
use super::opening;
use super::resident::{Change, Resident};
use super::schema;
use crate::config::{Config, Durability};
use crate::error::StoreError;
use crate::id::Id;
use crate::time::UnixTime;
use guard::Broken;

/// Changes that a turn notes without taking memory for good: a few turns' worth.
const USUAL_CHANGES: usize = 256;

/// The rows of all nodes of an engine, in memory; or those of one node, in a
/// file.
///
/// Dropped with writes that were not committed, it undoes them. A file's
/// write-ahead log is then copied into the file and deleted.
#[derive(Debug)]
pub struct Database {
    connection: Connection,
    /// Nothing in memory.
    path: PathBuf,
    /// In a file there is room for one; who left a file still keeps it taken.
    room: Room,
    /// How often writes were undone, so that residents know when to follow.
    rollbacks: u64,
    /// What the writes that are not committed have changed, and for which node.
    changes: Vec<(i64, Change)>,
    /// What was undone, for nodes that have not followed yet.
    undone: BTreeMap<i64, Vec<Change>>,
    /// New values of this turn, to be written together: making the statement anew for each would
    /// take as long as carrying it out.
    new: Vec<NewRow>,
    /// Bytes of these.
    new_bytes: usize,
    /// Why writes were last undone.
    failure: Option<StoreError>,
    /// Nodes that have left memory, whose rows are still to be deleted.
    leavers: VecDeque<i64>,
    /// Nodes in memory that have not left.
    tenants: usize,
    /// Which start of the node this is.
    run: i64,
    /// Why nothing can be written, where that does not pass by itself.
    broken: Option<Broken>,
    /// Given up after the connection. None in memory.
    files: Option<Files>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    ForAll,
    ForOne,
    Taken,
}

/// So many new values wait at the most to be written together, of so many bytes in all.
const MAX_NEW: usize = 256;
const MAX_NEW_BYTES: usize = 256 * 1024;

/// The row of a value that is still to be written.
#[derive(Debug)]
pub(super) struct NewRow {
    pub node: i64,
    pub run: i64,
    pub key: Id,
    pub digest: Id,
    pub time: i64,
    pub expires: i64,
    pub sender: Option<IpAddr>,
    pub block: Option<i64>,
    pub distance: i64,
    pub value: Box<[u8]>,
}

impl Database {
    /// A new database in memory, for as many nodes as you like.
    ///
    /// # Errors
    ///
    /// When there is no memory for it.
    pub fn in_memory() -> Result<Self, StoreError> {
        Ok(Database::of(opening::in_memory()?, PathBuf::new(), Room::ForAll, None))
    }

    /// The database in a file, for one node. A file that does not exist or is
    /// empty becomes a new one; its directory must be there. Everything in the
    /// file is checked, which takes about a second for 100 MB. No other node gets
    /// it until the database is dropped; anybody may read it.
    ///
    /// # Errors
    ///
    /// A file that is not taken is left as it was: [`StoreError::Foreign`] and
    /// [`StoreError::TooNew`] by the marks in it, [`StoreError::Damaged`] when
    /// anything in it is not as it should be, [`StoreError::InUse`] at once when another node
    /// has it, or some other program writes to it; and those that say why it cannot be
    /// opened for writing.
    pub fn open(path: &Path, durability: Durability) -> Result<Self, StoreError> {
        Database::open_with(path, durability, Config::default().value_lifetime)
    }

    /// The same. `lifetime`: for how long values live that a version has stored which did not
    /// note when they expire.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_with(path: &Path, durability: Durability, lifetime: Duration) -> Result<Self, StoreError> {
        let (connection, files) = opening::file(path, durability, lifetime)?;
        Ok(Database::of(connection, path.to_owned(), Room::ForOne, Some(files)))
    }

    fn of(connection: Connection, path: PathBuf, room: Room, files: Option<Files>) -> Self {
        Database {
            connection,
            path,
            room,
            rollbacks: 0,
            changes: Vec::new(),
            undone: BTreeMap::new(),
            new: Vec::new(),
            new_bytes: 0,
            failure: None,
            leavers: VecDeque::new(),
            tenants: 0,
            run: 0,
            broken: None,
            files,
        }
    }

    /// Whether what it holds goes with the program.
    pub fn is_in_memory(&self) -> bool {
        self.room == Room::ForAll
    }

    /// What is known of the node's clock from earlier runs.
    ///
    /// # Errors
    ///
    /// When SQLite fails; everything since the last commit is then undone.
    pub fn clock(&mut self) -> Result<Option<SavedClock>, StoreError> {
        if self.is_in_memory() {
            return Ok(None);
        }
        self.read(|connection| {
            let mut statement = connection.prepare(schema::NODES)?;
            let mut rows = statement.query([])?;
            let Some(row) = rows.next()? else { return Ok(None) };
            let (clock, wall): (Option<i64>, Option<i64>) = (row.get(3)?, row.get(4)?);
            let (doubt, doubted) = (row.get(5)?, row.get(6)?);
            Ok(clock.zip(wall).map(|(clock, wall)| SavedClock {
                clock: UnixTime(clock),
                wall: UnixTime(wall),
                doubt,
                doubted,
            }))
        })
    }

    /// Saves the node's clock. In memory there is no need.
    ///
    /// # Errors
    ///
    /// When SQLite fails; everything since the last commit is then undone.
    pub fn save_clock(&mut self, who: &Resident, saved: &SavedClock) -> Result<(), StoreError> {
        if self.is_in_memory() {
            return Ok(());
        }
        self.write(|connection| {
            let SavedClock { clock, wall, doubt, doubted } = saved;
            connection
                .execute(schema::SAVE_CLOCK, params![who.number, clock.0, wall.0, doubt, doubted])
                .map(drop)
        })
    }

    /// Makes all writes since the last commit count. Without any it does
    /// nothing.
    ///
    /// # Errors
    ///
    /// When SQLite fails (a full disk, say), or the file is not where it was; the writes are then
    /// undone.
    pub fn commit(&mut self) -> Result<(), StoreError> {
        if self.has_uncommitted() {
            self.look_at_files()?;
            let committed = self.read(|connection| connection.execute_batch(schema::COMMIT));
            if let Some(files) = &mut self.files {
                files.committed();
            }
            committed?;
        }
        self.new.shrink_to(USUAL_CHANGES);
        self.changes.clear();
        self.changes.shrink_to(USUAL_CHANGES);
        Ok(())
    }

    /// Copies the whole log into the file.
    pub(super) fn copy_log(&mut self) -> Result<(), StoreError> {
        self.read(|connection| connection.execute_batch(schema::COPY_LOG))?;
        self.leave_files();
        Ok(())
    }

    /// Undoes all writes since the last commit.
    pub fn roll_back(&mut self) {
        self.rollbacks += 1;
        for (node, change) in std::mem::take(&mut self.changes) {
            self.undone.entry(node).or_default().push(change);
        }
        self.new = Vec::new();
        self.new_bytes = 0;
        if !self.connection.is_autocommit() {
            // It fails only where SQLite has rolled back by itself.
            let _ = self.connection.execute_batch(schema::ROLLBACK);
        }
    }

    /// How often writes were undone. What was written at another count than the
    /// present one, and not committed before the count rose, is lost.
    pub fn rollbacks(&self) -> u64 {
        self.rollbacks
    }

    /// Why writes were last undone.
    pub fn last_failure(&self) -> Option<&StoreError> {
        self.failure.as_ref()
    }

    /// Whether there are writes that [`commit`](Self::commit) has still to make
    /// count.
    pub fn has_uncommitted(&self) -> bool {
        !(self.new.is_empty() && self.connection.is_autocommit())
    }

    /// Lets the file grow to so many pages and no more, as on a full disk, for tests.
    #[doc(hidden)]
    pub fn limit_pages(&self, pages: u32) {
        let set = format!("PRAGMA max_page_count = {pages}");
        let set = self.connection.query_row(&set, [], |row| row.get::<_, i64>(0));
        log::debug!("pages: {set:?}");
    }

    /// Does some work, with all that was written before in place, and rolls back if it fails:
    /// SQLite may or may not have done so itself, and afterwards there is but one case.
    pub(super) fn read<T>(
        &mut self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        self.write_new()?;
        self.run(work)
    }

    /// The same, in the transaction that [`commit`](Self::commit) ends.
    pub(super) fn write<T>(
        &mut self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        self.write_new()?;
        self.run_in_transaction(work)
    }

    /// Has a value written before anything else is done, or the commit.
    pub(super) fn write_later(&mut self, row: NewRow) -> Result<(), StoreError> {
        self.new_bytes += row.value.len();
        self.new.push(row);
        let many = self.new.len() >= MAX_NEW || self.new_bytes >= MAX_NEW_BYTES;
        if many { self.write_new() } else { Ok(()) }
    }

    fn write_new(&mut self) -> Result<(), StoreError> {
        if self.new.is_empty() {
            return Ok(());
        }
        let mut new = std::mem::take(&mut self.new);
        self.new_bytes = 0;
        self.run_in_transaction(|connection| {
            let mut statement = connection.prepare(schema::ADD_VALUE)?;
            new.drain(..).try_for_each(|row| {
                let NewRow { node, run, key, digest, time, expires, sender, block, distance, value } = row;
                let sender = sender.map(|sender| sender.to_canonical().to_string());
                let (key, digest) = (key.as_bytes(), digest.as_bytes());
                let row = params![node, key, digest, time, expires, run, sender, block, distance, value];
                statement.execute(row).map(drop)
            })
        })?;
        self.new = new;
        Ok(())
    }

    fn run_in_transaction<T>(
        &mut self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let begin = self.connection.is_autocommit();
        self.run(|connection| {
            if begin {
                connection.execute_batch(schema::BEGIN)?;
            }
            work(connection)
        })
    }

    fn run<T>(&mut self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        work(&self.connection).map_err(|error| {
            self.roll_back();
            // What a failing disk gave must not be taken for what is in the file later.
            let _ = self.connection.execute_batch(schema::FORGET_PAGES);
            self.fail(fault(error))
        })
    }

    fn fail(&mut self, error: StoreError) -> StoreError {
        let error = locate(error, &self.path);
        self.failure = Some(error.clone());
        error
    }

    /// A node's totals follow what was just written.
    pub(super) fn note(&mut self, who: &mut Resident, change: Change) {
        who.follow(&change);
        self.changes.push((who.number, change));
    }

    /// Lets the node's totals follow a rollback. All that reads or writes values does so by
    /// itself.
    pub fn settle(&mut self, who: &mut Resident) {
        if who.rollbacks != self.rollbacks {
            who.rollbacks = self.rollbacks;
            for change in self.undone.remove(&who.number).unwrap_or_default().iter().rev() {
                who.undo(change);
            }
        }
    }

    /// Shrinks the database by a few pages once more of it is free than used. Says whether
    /// that is so still.
    pub(super) fn give_back(&mut self) -> Result<bool, StoreError> {
        if !self.read(is_mostly_free)? {
            return Ok(false);
        }
        if let Some(files) = &mut self.files {
            files.expect_shorter();
        }
        self.write(|connection| {
            let mut statement = connection.prepare(schema::GIVE_BACK_PAGES)?;
            let mut pages = statement.query([])?;
            while pages.next()?.is_some() {}
            Ok(())
        })?;
        self.read(is_mostly_free)
    }
}

fn is_mostly_free(connection: &Connection) -> rusqlite::Result<bool> {
    let number = |query| connection.query_row(query, [], |row| row.get::<_, i64>(0));
    Ok(number(schema::FREE_PAGES)? > number(schema::PAGES)? / 2)
}
