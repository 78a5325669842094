//! What a node's owner stored in the network, for the node to renew.

use rusqlite::params;

use super::database::Database;
use super::resident::{Change, Resident};
use super::schema;
use crate::error::StoreError;
use crate::id::Id;
use crate::time::UnixTime;

/// What became of a value that was to be renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// It is, under this number.
    Kept(i64),
    /// There is no room for more.
    Full,
}

impl Database {
    /// Remembers that the owner stored a value at the time `now`. One that is there already
    /// gets the new time, which needs no room.
    ///
    /// # Errors
    ///
    /// When SQLite fails; everything since the last commit is then undone.
    pub fn publish(
        &mut self,
        who: &mut Resident,
        key: &Id,
        value: &[u8],
        now: UnixTime,
    ) -> Result<Published, StoreError> {
        self.settle(who);
        let digest = Id::of(value);
        if let Some((number, _)) = self.find_published(who, key, &digest)? {
            self.published_again(number, now)?;
            return Ok(Published::Kept(number));
        }
        let length = value.len() as u64;
        if !who.may_publish(length) {
            return Ok(Published::Full);
        }
        let number = self.write(|connection| {
            let row = params![who.number, key.as_bytes(), digest.as_bytes(), now.0, value];
            connection.execute(schema::PUBLISH, row)?;
            Ok(connection.last_insert_rowid())
        })?;
        self.note(who, Change::Published(length));
        Ok(Published::Kept(number))
    }

    /// The value of this number was stored again at the time `now`.
    ///
    /// # Errors
    ///
    /// When SQLite fails; everything since the last commit is then undone.
    pub fn published_again(&mut self, number: i64, now: UnixTime) -> Result<(), StoreError> {
        self.write(|connection| connection.execute(schema::PUBLISH_AGAIN, params![number, now.0]).map(drop))
    }

    /// Forgets a value that the owner stored, and says which number it had.
    ///
    /// # Errors
    ///
    /// When SQLite fails; everything since the last commit is then undone.
    pub fn withdraw(
        &mut self,
        who: &mut Resident,
        key: &Id,
        value: &[u8],
    ) -> Result<Option<i64>, StoreError> {
        self.settle(who);
        let Some((number, length)) = self.find_published(who, key, &Id::of(value))? else {
            return Ok(None);
        };
        self.write(|connection| connection.execute(schema::WITHDRAW, [number]))?;
        self.note(who, Change::Withdrawn(length));
        Ok(Some(number))
    }

    /// Numbers of all values that the owner stored, and when each was stored last.
    ///
    /// # Errors
    ///
    /// When SQLite fails; everything since the last commit is then undone.
    pub fn published(&mut self, who: &Resident) -> Result<Vec<(i64, UnixTime)>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare(schema::PUBLISHED)?;
            let rows = statement.query_map([who.number], |row| Ok((row.get(0)?, UnixTime(row.get(1)?))))?;
            rows.collect()
        })
    }

    /// Key and value of the one of this number, if it is still there.
    ///
    /// # Errors
    ///
    /// When SQLite fails; everything since the last commit is then undone.
    pub fn published_value(
        &mut self,
        who: &Resident,
        number: i64,
    ) -> Result<Option<(Id, Vec<u8>)>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare(schema::PUBLISHED_VALUE)?;
            let mut rows = statement.query([number, who.number])?;
            rows.next()?.map(|row| Ok((Id::new(row.get(0)?), row.get(1)?))).transpose()
        })
    }

    fn find_published(
        &mut self,
        who: &Resident,
        key: &Id,
        digest: &Id,
    ) -> Result<Option<(i64, u64)>, StoreError> {
        if who.published() == 0 {
            return Ok(None);
        }
        self.read(|connection| {
            let mut statement = connection.prepare(schema::FIND_PUBLISHED)?;
            let mut rows = statement.query(params![who.number, key.as_bytes(), digest.as_bytes()])?;
            rows.next()?.map(|row| Ok((row.get(0)?, row.get::<_, u32>(1)?.into()))).transpose()
        })
    }
}
