//! No commit for files that have been taken away, replaced or cut, or that another node has got hold of.

use std::path::PathBuf;

use rusqlite::{Connection, Error, ErrorCode, ffi};

use super::tenants::known_node;
use super::{Database, Room};
use crate::error::StoreError;
use crate::store::fault::{damaged, fault};
use crate::store::files::Standing;
use crate::store::opening::check_integrity;
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
        let all = |row: &rusqlite::Row<'_>| Ok(row.get::<_, i64>(1)? == row.get::<_, i64>(2)?);
        let examined = match self.connection.query_row(schema::COPY_SOME_OF_LOG, [], all) {
            // What all is in the file, the log is not needed for.
            Ok(true) if log_alone => Ok(()),
            Ok(true) => check(&self.connection),
            // A reader is in the way.
            Ok(false) => return StoreError::Busy(PathBuf::new()),
            Err(error) if tells_of_loss(&error) => Err(cut()),
            Err(error) => Err(fault(error)),
        };
        match examined {
            Ok(()) => {
                self.leave_files();
                StoreError::Busy(PathBuf::new())
            }
            Err(StoreError::Damaged { .. }) => {
                self.broken = Some(Broken::Cut);
                cut()
            }
            // The disk fails, or somebody else is in the way: it is looked at again next time.
            Err(error) => error,
        }
    }

    /// What was cut off is there again, or something is that is as long.
    fn examine_restored(&mut self) -> Result<(), StoreError> {
        match check(&self.connection) {
            Ok(()) => self.broken = None,
            Err(StoreError::Damaged { .. }) => {
                self.broken = Some(Broken::Damaged);
                return Err(cut());
            }
            // It is looked at again next time.
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

fn cut() -> StoreError {
    damaged("some of it was cut off while it was in use")
}

/// Whether an error comes of what is not there, and not of a disk that fails at present.
fn tells_of_loss(error: &Error) -> bool {
    match error {
        Error::SqliteFailure(failure, _) => {
            failure.extended_code == ffi::SQLITE_IOERR_SHORT_READ
                || matches!(failure.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
        }
        _ => true,
    }
}

/// Whether all of the file is sound, even what is in memory.
fn check(connection: &Connection) -> Result<(), StoreError> {
    connection.execute_batch(schema::FORGET_PAGES).map_err(fault)?;
    check_integrity(connection)
}
