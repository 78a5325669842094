//! No commit for files that have been taken away, replaced or cut, or that another node has got hold of.

use std::path::PathBuf;

use rusqlite::Connection;

use super::{Database, Room, known_node};
use crate::error::StoreError;
use crate::store::fault::{damaged, fault};
use crate::store::files::Standing;
use crate::store::schema;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// The file or its log is shorter than it was left, and was needed.
    Cut,
    /// It has got its length back, but is not what it was.
    Damaged,
    /// Another node was there.
    Shared,
}

impl Database {
    /// Whether what is committed now will be found by who opens the file next. If not, all that was
    /// written is undone.
    pub(super) fn look_at_files(&mut self) -> Result<(), StoreError> {
        let Some(files) = &mut self.files else { return Ok(()) };
        let looked = match (files.look(), self.broken) {
            (Err(error), _) => Err(error),
            (Ok(_), Some(Broken::Shared)) => Err(StoreError::InUse(PathBuf::new())),
            (Ok(_), Some(Broken::Damaged)) | (Ok(Standing::Shorter { .. }), Some(Broken::Cut)) => Err(cut()),
            (Ok(Standing::Shorter { log_alone }), None) => {
                self.roll_back();
                Err(self.examine_shortened(log_alone))
            }
            (Ok(Standing::LockedAnew), Some(Broken::Cut)) => {
                self.expect_to_be_alone().and_then(|()| self.examine_restored())
            }
            (Ok(Standing::Sound), Some(Broken::Cut)) => self.examine_restored(),
            (Ok(Standing::LockedAnew), None) => self.expect_to_be_alone(),
            (Ok(Standing::Sound), None) => return Ok(()),
        };
        looked.map_err(|error| {
            self.roll_back();
            self.fail(error)
        })
    }

    /// The files are as this database leaves them.
    pub(super) fn leave_files(&mut self) {
        if let Some(files) = &mut self.files {
            files.leave();
        }
    }

    /// The lock was away for a time: was there another node meanwhile? What that has stored is not
    /// known here.
    fn expect_to_be_alone(&mut self) -> Result<(), StoreError> {
        log::warn!("the lock of {} was taken away, and is held again", self.path.display());
        let known = self.read(known_node)?;
        if self.room != Room::Taken || known.is_some_and(|known| known.run == self.run) {
            if let Some(files) = &mut self.files {
                files.accept_lock();
            }
            return Ok(());
        }
        self.broken = Some(Broken::Shared);
        Err(StoreError::InUse(PathBuf::new()))
    }

    /// The file or its log is shorter than it was left. Somebody may have copied the log into the file
    /// or have shrunk that, which SQLite allows, or have cut off what is needed.
    fn examine_shortened(&mut self, log_alone: bool) -> StoreError {
        let is_whole = |connection: &Connection| {
            let all = |row: &rusqlite::Row<'_>| Ok(row.get::<_, i64>(1)? == row.get::<_, i64>(2)?);
            // What all is in the file, the log is not needed for.
            if !connection.query_row(schema::COPY_SOME_OF_LOG, [], all)? {
                return Ok(None);
            }
            Ok(Some(log_alone || is_sound(connection)?))
        };
        match is_whole(&self.connection).map_err(fault) {
            Ok(Some(true)) => {
                self.leave_files();
                StoreError::Busy(PathBuf::new())
            }
            // A reader is in the way.
            Ok(None) => StoreError::Busy(PathBuf::new()),
            Err(error @ StoreError::Busy(_)) => error,
            Ok(Some(false)) | Err(_) => {
                self.broken = Some(Broken::Cut);
                cut()
            }
        }
    }

    /// What was cut off is there again, or something is that is as long.
    fn examine_restored(&mut self) -> Result<(), StoreError> {
        let sound = self.read(is_sound);
        self.broken = if sound == Ok(true) { None } else { Some(Broken::Damaged) };
        if self.broken.is_none() { Ok(()) } else { Err(cut()) }
    }
}

fn cut() -> StoreError {
    damaged("some of it was cut off while it was in use")
}

/// Reads all of the file, even what is in memory.
fn is_sound(connection: &Connection) -> rusqlite::Result<bool> {
    connection.execute_batch(schema::FORGET_PAGES)?;
    connection.query_row(schema::CHECK_INTEGRITY, [], |row| Ok(row.get_ref(0)?.as_str()? == "ok"))
}
