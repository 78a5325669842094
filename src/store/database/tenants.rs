//! Nodes that come and go.

use rusqlite::Connection;

use super::{Database, Room};
use crate::config::WhenFull;
use crate::error::StoreError;
use crate::id::Id;
use crate::store::fault::address;
use crate::store::opening;
use crate::store::resident::{Change, Counted, Limits, Resident};
use crate::store::schema;
use crate::store::values::block_of;

/// How many rows of a node that has left are deleted at once.
const SWEPT_AT_ONCE: i64 = 200;

/// The row of a node.
pub(super) struct Known {
    number: i64,
    id: Id,
    pub run: i64,
}

impl Database {
    /// Gives a node its place: the one that the file has, or else a new one. A
    /// new node gets the id `wanted`, or `fallback` if none is wanted. That it is here is
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
            Room::Taken => return Err(StoreError::InUse(self.path.clone())),
        };
        let Known { number, id, run } = match known {
            Some(Known { id, .. }) if wanted.is_some_and(|wanted| wanted != id) => {
                return Err(StoreError::OtherId { path: self.path.clone(), id });
            }
            Some(known) => {
                let run = known.run.saturating_add(1);
                self.write(|connection| connection.execute(schema::NEXT_RUN, [known.number, run]))?;
                Known { run, ..known }
            }
            None => {
                let id = wanted.unwrap_or(fallback);
                let number = self.write(|connection| {
                    connection.execute(schema::ADD_NODE, [id.as_bytes()])?;
                    Ok(connection.last_insert_rowid())
                })?;
                Known { number, id, run: 1 }
            }
        };
        // Of one that had the number before.
        self.undone.remove(&number);
        let mut resident = Resident::new(number, id, run, limits, self.rollbacks);
        if self.room == Room::ForOne {
            self.count(&mut resident)?;
        }
        self.commit()?;
        match self.room {
            Room::ForAll => self.tenants += 1,
            _ => (self.room, self.run) = (Room::Taken, run),
        }
        Ok(resident)
    }

    /// Counts what is in a file.
    fn count(&mut self, who: &mut Resident) -> Result<(), StoreError> {
        let mut unblocked = Vec::new();
        let makes_room = who.limits.when_full == WhenFull::MakeRoom;
        self.read(|connection| {
            let mut statement = connection.prepare(schema::SIZES)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let sender = row.get_ref(2)?.as_str_or_null()?.map(address).transpose()?;
                let length = row.get::<_, u32>(1)?.into();
                who.follow(&Change::Added(Counted { key: Id::new(row.get(0)?), length, sender }));
                who.newest = who.newest.max(row.get(3)?);
                who.oldest_run = who.oldest_run.min(row.get(6)?);
                if let (true, Some(sender), None) = (makes_room, sender, row.get::<_, Option<i64>>(5)?) {
                    unblocked.push((row.get::<_, i64>(4)?, block_of(sender)));
                }
            }
            let mut statement = connection.prepare(schema::PUBLISHED_SIZES)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                who.follow(&Change::Published(row.get::<_, u32>(0)?.into()));
                who.newest = who.newest.max(row.get(1)?);
            }
            Ok(())
        })?;
        if !unblocked.is_empty() {
            self.write(|connection| {
                let mut statement = connection.prepare(schema::SET_BLOCK)?;
                unblocked.iter().try_for_each(|&(number, block)| statement.execute([number, block]).map(drop))
            })?;
        }
        Ok(())
    }

    /// Takes a node's place away. In memory all that it held is deleted, a part of it
    /// at once and the rest by [`sweep`](Self::sweep); a file
    /// keeps it, and takes no other node until it is opened again. Commits, and
    /// with that all writes so far.
    ///
    /// # Errors
    ///
    /// When the rows cannot be deleted or the writes not be committed.
    pub fn move_out(&mut self, who: Resident) -> Result<(), StoreError> {
        self.undone.remove(&who.number);
        if self.room == Room::ForAll {
            self.tenants = self.tenants.saturating_sub(1);
            self.leavers.push_back(who.number);
            self.sweep()?;
            if self.tenants == 0 && self.has_leavers() {
                // Nobody is left: the quickest way to give everything back.
                self.connection = opening::in_memory()?;
                self.leavers.clear();
                self.changes.clear();
            }
        }
        self.commit()
    }

    /// Whether rows of nodes that have left are still to be deleted.
    pub fn has_leavers(&self) -> bool {
        !self.leavers.is_empty()
    }

    /// Deletes some rows of nodes that have left, no more than a turn of the loop has time for.
    ///
    /// # Errors
    ///
    /// When SQLite fails; everything since the last commit is then undone.
    pub fn sweep(&mut self) -> Result<(), StoreError> {
        let Some(&node) = self.leavers.front() else { return Ok(()) };
        let left = self.write(|connection| {
            for (which, delete) in [
                (schema::VALUES_OF_NODE, schema::DELETE_VALUE),
                (schema::PUBLISHED_OF_NODE, schema::WITHDRAW),
            ] {
                let mut statement = connection.prepare(which)?;
                let rows = statement.query_map([node, SWEPT_AT_ONCE], |row| row.get(0))?;
                let rows = rows.collect::<rusqlite::Result<Vec<i64>>>()?;
                let mut statement = connection.prepare(delete)?;
                rows.iter().try_for_each(|number| statement.execute([number]).map(drop))?;
                if rows.len() as i64 == SWEPT_AT_ONCE {
                    return Ok(true);
                }
            }
            connection.execute(schema::DELETE_CONTACTS, [node])?;
            // Last, so that nobody else gets its number before.
            connection.execute(schema::DELETE_NODE, [node])?;
            Ok(false)
        })?;
        if !left {
            self.leavers.pop_front();
        }
        self.give_back().map(drop)
    }
}

pub(super) fn known_node(connection: &Connection) -> rusqlite::Result<Option<Known>> {
    let mut statement = connection.prepare(schema::NODES)?;
    let mut rows = statement.query([])?;
    let known = |row: &rusqlite::Row<'_>| {
        Ok(Known { number: row.get(0)?, id: Id::new(row.get(1)?), run: row.get(2)? })
    };
    rows.next()?.map(known).transpose()
}
