//! The files of an open database, as others see them: whether they are still where they were, and as
//! long. SQLite writes on into a file that has been removed, and what a node acknowledges from then on
//! would be gone with the program.

use std::path::{Path, PathBuf};

use super::fault::failed;
use super::lock::Lock;
use crate::error::StoreError;

/// A file, its log, where readers and writers of it meet, and its lock.
#[derive(Debug)]
pub(super) struct Files {
    /// The file comes first, and then its log.
    watched: Vec<Watched>,
    lock: Lock,
    /// The lock was away for a time, and that was not looked into yet.
    locked_anew: bool,
}

/// One of them.
#[derive(Debug)]
struct Watched {
    /// From the root on: the program may change its directory.
    path: PathBuf,
    /// Which file it is.
    place: Place,
    /// In bytes, as it was left.
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
        let mut files = Files { watched: Vec::new(), lock, locked_anew: false };
        if cfg!(unix) {
            // Of symbolic links that lead to the file each is watched; SQLite keeps the others beside
            // the file itself.
            files.watched.push(Watched::new(absolute)?);
            files.watched.push(Watched::new(files.lock.beside("-wal"))?);
            // With some of SQLite's own ways to its files there is none.
            files.watched.extend(Watched::new(files.lock.beside("-shm")));
        }
        Ok(files)
    }

    /// Looks at all of them. Six calls of the system's, about a microsecond each at the most.
    ///
    /// # Errors
    ///
    /// When one is not where it was, or cannot be looked at; or another node has the lock.
    pub fn look(&mut self) -> Result<Standing, StoreError> {
        let mut standing = Standing::Sound;
        for (index, file) in self.watched.iter().enumerate() {
            let (place, length) = place_of(&file.path)?;
            if place != file.place {
                return Err(moved(&file.path, "has another file in its place"));
            }
            if length < file.length && index < FILE_AND_LOG && standing == Standing::Sound {
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

    /// They are left as they are now.
    pub fn leave(&mut self) {
        for file in self.watched.iter_mut().take(FILE_AND_LOG) {
            // One that cannot be looked at is found next time.
            if let Ok((_, length)) = place_of(&file.path) {
                file.length = length;
            }
        }
    }
}

/// The length of the third says nothing.
const FILE_AND_LOG: usize = 2;

impl Watched {
    fn new(path: PathBuf) -> Result<Watched, StoreError> {
        let (place, length) = place_of(&path)?;
        Ok(Watched { path, place, length })
    }
}

fn moved(path: &Path, what: &str) -> StoreError {
    let name = path.file_name().unwrap_or_default().display();
    StoreError::Moved { path: PathBuf::new(), what: format!("{name} {what}") }
}

/// A device, and a file's number there.
type Place = (u64, u64);

#[cfg(unix)]
fn place_of(path: &Path) -> Result<(Place, u64), StoreError> {
    use std::io::ErrorKind;
    use std::os::unix::fs::MetadataExt;
    match path.metadata() {
        Ok(metadata) => Ok(((metadata.dev(), metadata.ino()), metadata.len())),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Err(moved(path, "has been removed or renamed"))
        }
        Err(error) => Err(super::fault::system_fault(&error)),
    }
}

/// Windows lets nobody rename or remove a file that SQLite has open, and elsewhere files have no
/// number: nothing is watched.
#[cfg(not(unix))]
fn place_of(_: &Path) -> Result<(Place, u64), StoreError> {
    Ok(((0, 0), 0))
}
