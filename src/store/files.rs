//! The files of an open database, as others see them: whether they are still where they were, and as
//! long. SQLite writes on into a file that has been removed, and what a node acknowledges from then on
//! would be gone with the program.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::fault::{failed, system_fault};
use super::lock::{Lock, Place, place_of};
use super::schema;
use crate::error::StoreError;

/// A file, its log, and its lock.
#[derive(Debug)]
pub(super) struct Files {
    /// The file comes first, and then its log.
    watched: Vec<Watched>,
    lock: Lock,
    /// The lock was away for a time, and that was not looked into yet.
    locked_anew: bool,
    /// SQLite will make the file shorter when it next copies the log.
    shrinks: bool,
}

/// One of them.
#[derive(Debug)]
struct Watched {
    /// From the root on: the program may change its directory.
    path: PathBuf,
    /// Which file it is.
    place: Place,
    /// In bytes, when it was last looked at.
    length: u64,
}

/// What is to be said of the files before writes are committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// They are as they were left.
    Sound,
    /// The lock had been taken away, and is held again: another node may have been there meanwhile.
    LockedAnew,
    /// The file or its log has become shorter: the log alone?
    Shorter { log_alone: bool },
}

impl Files {
    /// Those of a database that is open. `path`: as it was asked for.
    pub fn new(path: &Path, lock: Lock) -> Result<Files, StoreError> {
        let absolute = std::path::absolute(path).map_err(|error| failed(error.to_string()))?;
        let mut files = Files { watched: Vec::new(), lock, locked_anew: false, shrinks: false };
        // Elsewhere what is open cannot be removed or renamed, or not be known again by a number.
        if cfg!(unix) {
            // Of symbolic links that lead to the file each is watched; SQLite keeps the others beside
            // the file itself.
            files.watched.push(Watched::new(absolute)?);
            files.watched.push(Watched::new(files.lock.beside("-wal"))?);
        }
        Ok(files)
    }

    /// Looks at all of them: three calls of the system's, each of about a microsecond.
    ///
    /// # Errors
    ///
    /// When one is not where it was, or cannot be looked at; or another node has the lock.
    pub fn look(&mut self) -> Result<Standing, StoreError> {
        let mut standing = Standing::Sound;
        for (index, file) in self.watched.iter_mut().enumerate() {
            let (place, length) = look_at(&file.path)?;
            if place != file.place {
                return Err(moved(&file.path, "has another file in its place"));
            }
            if length >= file.length {
                file.length = length;
            } else if standing == Standing::Sound {
                standing = Standing::Shorter { log_alone: index > 0 };
            }
        }
        self.locked_anew |= self.lock.keep()?;
        if standing == Standing::Sound && self.locked_anew {
            standing = Standing::LockedAnew;
        }
        Ok(standing)
    }

    /// Nobody was there while the lock was away.
    pub fn accept_lock(&mut self) {
        self.locked_anew = false;
    }

    /// Pages of the file are given back, or were in an earlier life of the node.
    pub fn expect_shorter(&mut self) {
        self.shrinks = true;
    }

    /// After a commit: looks how long they are with it, by two calls more. It may have made them shorter,
    /// the file when pages were given back, and the log when that was too long.
    pub fn committed(&mut self) {
        let log = self.watched.get(1).map_or(0, |log| log.length);
        if self.shrinks || log > schema::LONGEST_LOG {
            let before = self.watched.first().map_or(0, |file| file.length);
            self.leave();
            // Not before the whole log is copied.
            self.shrinks &= self.watched.first().is_some_and(|file| file.length >= before);
            return;
        }
        for file in &mut self.watched {
            // What is shorter all the same is found next time.
            if let Ok((_, length)) = look_at(&file.path) {
                file.length = file.length.max(length);
            }
        }
    }

    /// They are left as they are now.
    pub fn leave(&mut self) {
        for file in &mut self.watched {
            // One that cannot be looked at is found next time.
            if let Ok((_, length)) = look_at(&file.path) {
                file.length = length;
            }
        }
    }
}

impl Watched {
    fn new(path: PathBuf) -> Result<Watched, StoreError> {
        let (place, length) = look_at(&path)?;
        Ok(Watched { path, place, length })
    }
}

fn moved(path: &Path, what: &str) -> StoreError {
    let name = path.file_name().unwrap_or_default().display();
    StoreError::Moved { path: PathBuf::new(), what: format!("{name} {what}") }
}

fn look_at(path: &Path) -> Result<(Place, u64), StoreError> {
    match path.metadata() {
        Ok(metadata) => Ok((place_of(&metadata), metadata.len())),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Err(moved(path, "has been removed or renamed"))
        }
        Err(error) => Err(system_fault(&error)),
    }
}
