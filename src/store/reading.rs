//! Values that several ask for, read together: to make the statement anew for each would take ten times
//! as long as to carry it out.

use std::ops::ControlFlow;

use super::clock::Moment;
use super::database::Database;
use super::resident::Resident;
use super::schema;
use super::values::walk;
use crate::bencode::bytes_len;
use crate::error::StoreError;
use crate::id::Id;

/// What somebody wants to know of a key, and what was found.
#[derive(Debug)]
pub struct Reading {
    node: i64,
    key: Id,
    at: Moment,
    places: (Id, Id),
    whole: usize,
    room: usize,
    values: Vec<Vec<u8>>,
    next: Option<Id>,
}

impl Reading {
    /// Values of a key as of `at`, between two `places` as in [`Database::values`], that take no more
    /// than `room` bytes in a message.
    pub fn new(who: &Resident, key: &Id, at: Moment, places: (Id, Id), room: usize) -> Self {
        let (values, next) = (Vec::new(), None);
        Reading { node: who.number, key: *key, at, places, whole: room, room, values, next }
    }

    /// The values.
    pub fn values(&self) -> &[Vec<u8>] {
        &self.values
    }

    /// How many more bytes they could take.
    pub fn room(&self) -> usize {
        self.room
    }

    /// Where to go on, if there are more of them.
    pub fn next(&self) -> Option<Id> {
        self.next
    }

    fn take(&mut self, value: &[u8]) -> ControlFlow<()> {
        let length = bytes_len(value.len());
        if length <= self.room {
            self.room -= length;
            self.values.push(value.to_vec());
        } else if length <= self.whole {
            self.next = Some(Id::of(value));
            return ControlFlow::Break(());
        }
        // One that fits into no answer was taken when larger ones were: it is passed over.
        ControlFlow::Continue(())
    }
}

impl Database {
    /// Reads values for several at once.
    ///
    /// # Errors
    ///
    /// When SQLite fails; everything since the last commit is then undone.
    pub fn read_all<'r>(
        &mut self,
        readings: impl Iterator<Item = &'r mut Reading>,
    ) -> Result<(), StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare(schema::VALUES_BETWEEN)?;
            for reading in readings {
                let (of, at, (start, stop)) = ((reading.node, reading.key), reading.at, reading.places);
                let rest = walk(&mut statement, of, &at, (&start, &stop), |value| reading.take(value))?;
                reading.next = reading.next.or(rest);
            }
            Ok(())
        })
    }
}
