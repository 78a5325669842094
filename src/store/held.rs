//! What a node holds, for telling others of it: keys, digests and times, without the values.

use rusqlite::params;

use super::database::Database;
use super::resident::Resident;
use super::schema;
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

    /// Digests and times of the values of a key that were stored after `stored_after`, no
    /// more than `at_most`, from the digest `start` on and then round.
    ///
    /// # Errors
    ///
    /// When SQLite fails; everything since the last commit is then undone.
    pub fn held(
        &mut self,
        who: &mut Resident,
        key: &Id,
        stored_after: UnixTime,
        start: &Id,
        at_most: usize,
    ) -> Result<Vec<(Id, UnixTime)>, StoreError> {
        self.settle(who)?;
        let mut held = Vec::new();
        if !who.has(key) {
            return Ok(held);
        }
        self.read(|connection| {
            for part in [schema::HELD_FROM, schema::HELD_BEFORE] {
                let mut statement = connection.prepare(part)?;
                let room = (at_most - held.len()) as u64;
                let of = params![who.number, key.as_bytes(), start.as_bytes(), stored_after.0, room as i64];
                let mut rows = statement.query(of)?;
                while let Some(row) = rows.next()? {
                    held.push((Id::new(row.get(0)?), UnixTime(row.get(1)?)));
                }
            }
            Ok(held)
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
        digests: impl Iterator<Item = (Id, Id)>,
    ) -> Result<Vec<Option<UnixTime>>, StoreError> {
        self.settle(who)?;
        if !who.has(key) {
            return Ok(digests.map(|_| None).collect());
        }
        self.read(|connection| {
            let mut statement = connection.prepare(schema::STORED)?;
            digests
                .map(|(least, greatest)| {
                    let of = params![who.number, key.as_bytes(), least.as_bytes(), greatest.as_bytes()];
                    let mut rows = statement.query(of)?;
                    rows.next()?.map(|row| row.get(0).map(UnixTime)).transpose()
                })
                .collect()
        })
    }

    /// A value and when it was stored, if it is there.
    ///
    /// # Errors
    ///
    /// When SQLite fails; everything since the last commit is then undone.
    pub fn value(
        &mut self,
        who: &mut Resident,
        key: &Id,
        digest: &Id,
    ) -> Result<Option<(Vec<u8>, UnixTime)>, StoreError> {
        self.settle(who)?;
        if !who.has(key) {
            return Ok(None);
        }
        self.read(|connection| {
            let mut statement = connection.prepare(schema::VALUE)?;
            let mut rows = statement.query(params![who.number, key.as_bytes(), digest.as_bytes()])?;
            rows.next()?.map(|row| Ok((row.get(0)?, UnixTime(row.get(1)?)))).transpose()
        })
    }
}
