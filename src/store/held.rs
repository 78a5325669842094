//! What a node holds, for telling others of it: keys, digests and times, without the values.

use rusqlite::{Row, params};

use super::clock::Moment;
use super::database::Database;
use super::fault::address;
use super::resident::Resident;
use super::schema;
use super::values::MAX_ROWS;
use crate::contact::block;
use crate::error::StoreError;
use crate::id::Id;
use crate::time::UnixTime;

impl Database {
    /// The keys that have values, in their order.
    ///
    /// # Errors
    ///
    /// When SQLite fails; everything since the last commit is then undone.
    pub fn keys(&mut self, who: &Resident) -> Result<Vec<Id>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare(schema::KEYS)?;
            let keys = statement.query_map([who.number], |row| Ok(Id::new(row.get(0)?)))?;
            keys.collect()
        })
    }

    /// Digests of the values of a key that expire later than `ends_after`, and when they
    /// were stored, no more than `at_most`, from the digest `start` on and then round. Of a great many
    /// only some are looked at.
    ///
    /// # Errors
    ///
    /// When SQLite fails; everything since the last commit is then undone.
    pub fn held(
        &mut self,
        who: &mut Resident,
        key: &Id,
        (at, ends_after): (&Moment, UnixTime),
        start: &Id,
        at_most: usize,
    ) -> Result<Vec<(Id, UnixTime)>, StoreError> {
        self.settle(who);
        let mut held = Vec::new();
        if !who.has(key) {
            return Ok(held);
        }
        self.read(|connection| {
            let mut room = MAX_ROWS;
            for part in [schema::HELD_FROM, schema::HELD_BEFORE] {
                let mut statement = connection.prepare(part)?;
                let mut rows =
                    statement.query(params![who.number, key.as_bytes(), start.as_bytes(), room])?;
                while held.len() < at_most
                    && let Some(row) = rows.next()?
                {
                    room -= 1;
                    let (run, expires) = (row.get(1)?, UnixTime(row.get(2)?));
                    if at.end(run, expires) > ends_after {
                        let stored = at.stored(run, expires, UnixTime(row.get(3)?));
                        held.push((Id::new(row.get(0)?), stored));
                    }
                }
            }
            Ok(held)
        })
    }

    /// The blocks of the addresses that the values of a key came from, each once or more; `None`:
    /// the node's owner. Of a great many values only some are looked at.
    ///
    /// # Errors
    ///
    /// When SQLite fails; everything since the last commit is then undone.
    pub fn blocks(&mut self, who: &mut Resident, key: &Id) -> Result<Vec<Option<u64>>, StoreError> {
        self.settle(who);
        if !who.has(key) {
            return Ok(Vec::new());
        }
        self.read(|connection| {
            let mut statement = connection.prepare(schema::SENDERS)?;
            let mut rows = statement.query(params![who.number, key.as_bytes(), MAX_ROWS])?;
            let mut blocks = Vec::new();
            while let Some(row) = rows.next()? {
                let sender = row.get_ref(0)?.as_str_or_null()?.map(address).transpose()?;
                let block = sender.map(block);
                if blocks.last() != Some(&block) {
                    blocks.push(block);
                }
            }
            Ok(blocks)
        })
    }

    /// When values of a key were stored: for each range of digests, least and greatest, when
    /// one in it was; `None` where there is none.
    ///
    /// # Errors
    ///
    /// When SQLite fails; everything since the last commit is then undone.
    pub fn times(
        &mut self,
        who: &mut Resident,
        key: &Id,
        at: &Moment,
        digests: impl Iterator<Item = (Id, Id)>,
    ) -> Result<Vec<Option<UnixTime>>, StoreError> {
        self.settle(who);
        if !who.has(key) {
            return Ok(digests.map(|_| None).collect());
        }
        self.read(|connection| {
            let mut statement = connection.prepare(schema::STORED)?;
            digests
                .map(|(least, greatest)| {
                    let of = params![who.number, key.as_bytes(), least.as_bytes(), greatest.as_bytes()];
                    let mut rows = statement.query(of)?;
                    let stored = |row: &Row<'_>| {
                        Ok(at.stored(row.get(0)?, UnixTime(row.get(1)?), UnixTime(row.get(2)?)))
                    };
                    rows.next()?.map(stored).transpose()
                })
                .collect()
        })
    }

    /// A value, when it was stored and when it expires, if it is there.
    ///
    /// # Errors
    ///
    /// When SQLite fails; everything since the last commit is then undone.
    pub fn value(
        &mut self,
        who: &mut Resident,
        key: &Id,
        at: &Moment,
        digest: &Id,
    ) -> Result<Option<(Vec<u8>, UnixTime, UnixTime)>, StoreError> {
        self.settle(who);
        if !who.has(key) {
            return Ok(None);
        }
        self.read(|connection| {
            let mut statement = connection.prepare(schema::VALUE)?;
            let mut rows = statement.query(params![who.number, key.as_bytes(), digest.as_bytes()])?;
            let value = |row: &Row<'_>| {
                let (run, expires) = (row.get(1)?, UnixTime(row.get(2)?));
                Ok((row.get(0)?, at.stored(run, expires, UnixTime(row.get(3)?)), at.end(run, expires)))
            };
            rows.next()?.map(value).transpose()
        })
    }
}
