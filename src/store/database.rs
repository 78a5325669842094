//! A connection, and what nodes do with it.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::Path;

use rusqlite::{Connection, params};

use super::fault::{address, fault};
use super::opening;
use super::resident::{Limits, Put, Resident};
use super::schema;
use crate::config::Durability;
use crate::contact::Contact;
use crate::error::StoreError;
use crate::id::Id;
use crate::time::UnixTime;

/// The rows of all nodes of an engine, in memory; or those of one node, in a
/// file.
///
/// Dropped with writes that were not committed, it undoes them. A file's
/// write-ahead log is then copied into the file and deleted.
#[derive(Debug)]
pub struct Database {
    connection: Connection,
    /// In a file there is room for one; who left a file still keeps it taken.
    room: Room,
    /// How often writes were undone, so that residents know when to count anew.
    rollbacks: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    ForAll,
    ForOne,
    Taken,
}

impl Database {
    /// A new database in memory, for as many nodes as you like.
    ///
    /// # Errors
    ///
    /// When there is no memory for it.
    pub fn in_memory() -> Result<Self, StoreError> {
        Ok(Database { connection: opening::in_memory()?, room: Room::ForAll, rollbacks: 0 })
    }

    /// The database in a file, for one node. A file that does not exist or is
    /// empty becomes a new one; its directory must be there. Everything in the
    /// file is checked, which takes about a second for 100 MB. The file stays
    /// locked until the database is dropped.
    ///
    /// # Errors
    ///
    /// A file that is not taken is left as it was: [`StoreError::Foreign`] and
    /// [`StoreError::TooNew`] by the marks in it, [`StoreError::Damaged`] when
    /// anything in it is not as it should be, [`StoreError::InUse`] at once when
    /// somebody else has it open, be it only to read; [`StoreError::Sqlite`] when
    /// it cannot be opened for writing.
    pub fn open(path: &Path, durability: Durability) -> Result<Self, StoreError> {
        let connection = opening::file(path, durability)?;
        Ok(Database { connection, room: Room::ForOne, rollbacks: 0 })
    }

    /// Whether what it holds goes with the program.
    pub fn is_in_memory(&self) -> bool {
        self.room == Room::ForAll
    }

    /// Gives a node its place: the one that the file has, or else a new one. A
    /// new node gets the id `wanted`, or `fallback` if none is wanted. Its id is
    /// committed at once, and with it all writes so far.
    ///
    /// # Errors
    ///
    /// [`StoreError::OtherId`] when the file belongs to a node of another id than
    /// the wanted one; [`StoreError::InUse`] when it has its node already.
    pub fn move_in(
        &mut self,
        wanted: Option<Id>,
        fallback: Id,
        limits: Limits,
    ) -> Result<Resident, StoreError> {
        let known = match self.room {
            Room::ForAll => None,
            Room::ForOne => self.read(known_node)?,
            Room::Taken => return Err(StoreError::InUse),
        };
        let (number, id) = match known {
            Some((_, id)) if wanted.is_some_and(|wanted| wanted != id) => {
                return Err(StoreError::OtherId(id));
            }
            Some(known) => known,
            None => {
                let id = wanted.unwrap_or(fallback);
                let number = self.write(|connection| {
                    connection.execute(schema::ADD_NODE, [id.as_bytes()])?;
                    Ok(connection.last_insert_rowid())
                })?;
                self.commit()?;
                (number, id)
            }
        };
        let mut resident = Resident::new(number, id, limits, self.rollbacks);
        self.count(&mut resident)?;
        if self.room == Room::ForOne {
            self.room = Room::Taken;
        }
        Ok(resident)
    }

    /// Takes a node's place away. In memory all that it held is deleted; a file
    /// keeps it, and takes no other node until it is opened again. Commits, and
    /// with that all writes so far.
    ///
    /// # Errors
    ///
    /// When the rows cannot be deleted or the writes not be committed.
    pub fn move_out(&mut self, who: Resident) -> Result<(), StoreError> {
        if self.room == Room::ForAll {
            self.write(|connection| {
                for statement in [
                    schema::DELETE_VALUES,
                    schema::DELETE_PUBLISHED,
                    schema::DELETE_CONTACTS,
                    schema::DELETE_NODE,
                ] {
                    connection.execute(statement, [who.number])?;
                }
                give_back_pages(connection)
            })?;
        }
        self.commit()
    }

    /// Stores a value under a key, at the time `now`. One that is there already
    /// (by its SHA-1) only gets the later time, which needs no room.
    ///
    /// Values that have expired take up room until [`expire`](Self::expire)
    /// deletes them.
    ///
    /// # Errors
    ///
    /// When SQLite fails; everything since the last commit is then undone.
    pub fn put(
        &mut self,
        who: &mut Resident,
        key: &Id,
        value: &[u8],
        now: UnixTime,
    ) -> Result<Put, StoreError> {
        self.settle(who)?;
        let digest = Id::of(value);
        let (key_bytes, digest) = (key.as_bytes(), digest.as_bytes());
        if who.has(key) {
            let renewed = self.write(|connection| {
                connection.execute(schema::RENEW_VALUE, params![who.number, key_bytes, digest, now.0])
            })?;
            if renewed > 0 {
                return Ok(Put::Renewed);
            }
        }
        if let Some(refusal) = who.refusal(key, value.len() as u64) {
            return Ok(refusal);
        }
        self.write(|connection| {
            connection.execute(schema::ADD_VALUE, params![who.number, key_bytes, digest, now.0, value])
        })?;
        who.add(*key, value.len() as u64);
        Ok(Put::Added)
    }

    /// Hands out the values of a key that were stored after `stored_after`, for as
    /// long as `each` says to go on: a key may have far more than fits into one
    /// message. They come in the order of their SHA-1s, from that of `start` on
    /// and then round: from a random start each has its turn. A key without
    /// values costs a look into memory.
    ///
    /// # Errors
    ///
    /// When SQLite fails; everything since the last commit is then undone.
    pub fn values(
        &mut self,
        who: &mut Resident,
        key: &Id,
        stored_after: UnixTime,
        start: &Id,
        each: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.values_between(who, key, stored_after, (start, start), each)
    }

    /// The same on a part of the way: from the first of two digests on, and then round until
    /// before the second; all the way when both are the same.
    ///
    /// # Errors
    ///
    /// When SQLite fails; everything since the last commit is then undone.
    pub fn values_between(
        &mut self,
        who: &mut Resident,
        key: &Id,
        stored_after: UnixTime,
        (start, stop): (&Id, &Id),
        mut each: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.settle(who)?;
        if !who.has(key) {
            return Ok(());
        }
        self.read(|connection| {
            let mut statement = connection.prepare(schema::VALUES_BETWEEN)?;
            // Longer than any digest, and so after each.
            let (first, end) = ([0; 20], [0xff; 21]);
            let (start, stop) = (start.as_bytes(), stop.as_bytes());
            let parts: &[(&[u8; 20], &[u8])] =
                if start < stop { &[(start, stop)] } else { &[(start, &end), (&first, stop)] };
            for (from, before) in parts {
                let of = params![who.number, key.as_bytes(), from, before, stored_after.0];
                let mut rows = statement.query(of)?;
                while let Some(row) = rows.next()? {
                    if each(row.get_ref(0)?.as_blob()?).is_break() {
                        return Ok(());
                    }
                }
            }
            Ok(())
        })
    }

    /// Deletes the values that were stored at `stored_until` or before, oldest
    /// first and no more than `at_most`, so that one turn of the loop does not
    /// take long (count on 5 µs each). Says how many: as long as it is `at_most`,
    /// there may be more.
    ///
    /// # Errors
    ///
    /// When SQLite fails; everything since the last commit is then undone.
    pub fn expire(
        &mut self,
        who: &mut Resident,
        stored_until: UnixTime,
        at_most: u32,
    ) -> Result<u32, StoreError> {
        self.settle(who)?;
        let mut deleted = 0;
        if who.values() > 0 {
            let expired = self.read(|connection| {
                let mut statement = connection.prepare(schema::OLDEST_VALUES)?;
                let rows = statement.query_map(params![who.number, stored_until.0, at_most], |row| {
                    Ok((row.get::<_, i64>(0)?, Id::new(row.get(1)?), u64::from(row.get::<_, u32>(2)?)))
                })?;
                rows.collect::<rusqlite::Result<Vec<_>>>()
            })?;
            if !expired.is_empty() {
                self.write(|connection| {
                    let mut statement = connection.prepare(schema::DELETE_VALUE)?;
                    expired.iter().try_for_each(|(number, ..)| statement.execute([number]).map(drop))
                })?;
            }
            for (_, key, length) in expired {
                who.remove(key, length);
                deleted += 1;
            }
            who.shrink();
        }
        self.give_back()?;
        Ok(deleted)
    }

    /// Takes those values that were stored later than `now` to be stored now, no more than
    /// `at_most` of them, and says how many: the clock was put back since, and they would live
    /// for so much longer, here and wherever they are handed on to.
    ///
    /// # Errors
    ///
    /// When SQLite fails; everything since the last commit is then undone.
    pub fn put_back(&mut self, who: &mut Resident, now: UnixTime, at_most: u32) -> Result<u32, StoreError> {
        self.settle(who)?;
        if who.values() == 0 {
            return Ok(0);
        }
        let early = self.read(|connection| {
            let mut statement = connection.prepare(schema::FUTURE_VALUES)?;
            let rows = statement.query_map(params![who.number, now.0, at_most], |row| row.get(0))?;
            rows.collect::<rusqlite::Result<Vec<i64>>>()
        })?;
        if !early.is_empty() {
            self.write(|connection| {
                let mut statement = connection.prepare(schema::SET_TIME)?;
                early.iter().try_for_each(|number| statement.execute([*number, now.0]).map(drop))
            })?;
        }
        Ok(early.len() as u32)
    }

    /// Saves contacts in place of those that were saved before. Of two with the
    /// same id the later one is kept; a scope of IPv6 is not saved, since it
    /// means nothing after a restart.
    ///
    /// # Errors
    ///
    /// When SQLite fails; everything since the last commit is then undone.
    pub fn save_contacts(
        &mut self,
        who: &Resident,
        contacts: impl IntoIterator<Item = Contact>,
    ) -> Result<(), StoreError> {
        self.write(|connection| {
            connection.execute(schema::DELETE_CONTACTS, [who.number])?;
            let mut statement = connection.prepare(schema::ADD_CONTACT)?;
            contacts.into_iter().try_for_each(|Contact { id, addr }| {
                let (host, port) = (addr.ip().to_string(), addr.port());
                statement.execute(params![who.number, id.as_bytes(), host, port]).map(drop)
            })
        })
    }

    /// The contacts that were saved last, in the order of their ids.
    ///
    /// # Errors
    ///
    /// When SQLite fails; everything since the last commit is then undone.
    pub fn contacts(&mut self, who: &Resident) -> Result<Vec<Contact>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare(schema::CONTACTS)?;
            let contacts = statement.query_map([who.number], |row| {
                let ip = address(&row.get::<_, String>(1)?)?;
                Ok(Contact { id: Id::new(row.get(0)?), addr: SocketAddr::new(ip, row.get(2)?) })
            })?;
            contacts.collect()
        })
    }

    /// Makes all writes since the last commit count. Without any it does
    /// nothing.
    ///
    /// # Errors
    ///
    /// When SQLite fails (a full disk, say); the writes are then undone.
    pub fn commit(&mut self) -> Result<(), StoreError> {
        if self.has_uncommitted() {
            self.read(|connection| connection.execute_batch(schema::COMMIT))?;
        }
        Ok(())
    }

    /// Undoes all writes since the last commit.
    pub fn roll_back(&mut self) {
        self.rollbacks += 1;
        if self.has_uncommitted() {
            // It fails only where SQLite has rolled back by itself.
            let _ = self.connection.execute_batch(schema::ROLLBACK);
        }
    }

    /// How often writes were undone. What was written at another count than the
    /// present one, and not committed before the count rose, is lost.
    pub fn rollbacks(&self) -> u64 {
        self.rollbacks
    }

    /// Whether there are writes that [`commit`](Self::commit) has still to make
    /// count.
    pub fn has_uncommitted(&self) -> bool {
        !self.connection.is_autocommit()
    }

    /// Does some work, and rolls back if it fails: SQLite may or may not have
    /// done so itself, and afterwards there is but one case.
    pub(super) fn read<T>(
        &mut self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        work(&self.connection).map_err(|error| {
            self.roll_back();
            // What a failing disk gave must not be taken for what is in the file later.
            let _ = self.connection.execute_batch(schema::FORGET_PAGES);
            fault(error)
        })
    }

    /// The same inside a transaction, which is opened if there is none yet.
    pub(super) fn write<T>(
        &mut self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        if !self.has_uncommitted() {
            self.read(|connection| connection.execute_batch(schema::BEGIN))?;
        }
        self.read(work)
    }

    /// Counts a node's values anew if writes were undone since it was counted.
    pub(super) fn settle(&mut self, who: &mut Resident) -> Result<(), StoreError> {
        if who.rollbacks == self.rollbacks { Ok(()) } else { self.count(who) }
    }

    fn count(&mut self, who: &mut Resident) -> Result<(), StoreError> {
        who.reset();
        self.read(|connection| {
            let mut statement = connection.prepare(schema::SIZES)?;
            let mut rows = statement.query([who.number])?;
            while let Some(row) = rows.next()? {
                who.add(Id::new(row.get(0)?), row.get::<_, u32>(1)?.into());
            }
            let mut statement = connection.prepare(schema::PUBLISHED_SIZES)?;
            let mut rows = statement.query([who.number])?;
            while let Some(row) = rows.next()? {
                who.add_published(row.get::<_, u32>(0)?.into());
            }
            Ok(())
        })?;
        who.rollbacks = self.rollbacks;
        Ok(())
    }

    /// Shrinks the database once more of it is free than used.
    fn give_back(&mut self) -> Result<(), StoreError> {
        if self.read(is_mostly_free)? { self.write(give_back_pages) } else { Ok(()) }
    }
}

fn known_node(connection: &Connection) -> rusqlite::Result<Option<(i64, Id)>> {
    let mut statement = connection.prepare(schema::NODES)?;
    let mut rows = statement.query([])?;
    rows.next()?.map(|row| Ok((row.get(0)?, Id::new(row.get(1)?)))).transpose()
}

fn is_mostly_free(connection: &Connection) -> rusqlite::Result<bool> {
    let number = |query| connection.query_row(query, [], |row| row.get::<_, i64>(0));
    Ok(number(schema::FREE_PAGES)? > number(schema::PAGES)? / 2)
}

/// Shrinks the database by one share of its free pages, if most of it is free.
fn give_back_pages(connection: &Connection) -> rusqlite::Result<()> {
    if is_mostly_free(connection)? {
        let mut statement = connection.prepare(schema::GIVE_BACK_PAGES)?;
        let mut pages = statement.query([])?;
        while pages.next()?.is_some() {}
    }
    Ok(())
}
