//! The lock that keeps a file for one node. SQLite's own would not: readers of the file are
//! welcome.
//!
//! It is an advisory lock on an empty file beside the node's, `<path>-lock`. The node's file
//! itself must not be opened for that, since closing it would give up SQLite's locks on it.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use super::fault::{failed, system_fault};
use crate::error::StoreError;

/// How often a lock is tried that others open and close at the same time.
const TRIES: u32 = 100;

/// How many symbolic links one may lead to another, as on most systems.
const MOST_LINKS: u32 = 40;

/// Held for as long as the file is in use.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    place: Place,
    path: PathBuf,
    /// What it locks, without symbolic links.
    of: PathBuf,
}

impl Lock {
    /// Locks the file at `path`, or says at once why not.
    pub fn take(path: &Path) -> Result<Lock, StoreError> {
        let of = real(path);
        let path = beside(&of, "-lock");
        for _ in 0..TRIES {
            let mut options = File::options();
            let file = options.read(true).write(true).create(true).truncate(false).open(&path);
            let file = file.map_err(|error| system_fault(&error))?;
            match file.try_lock() {
                // Not at its path, where whoever had it before has deleted it: another has its name.
                Ok(()) => {
                    let place = file.metadata().map(|metadata| place_of(&metadata));
                    let place = place.map_err(|error| system_fault(&error))?;
                    if is_at(place, &path) {
                        return Ok(Lock { file, place, path, of });
                    }
                }
                Err(TryLockError::WouldBlock) => return Err(StoreError::InUse(PathBuf::new())),
                Err(TryLockError::Error(error)) => {
                    return Err(failed(format!(
                        "it cannot be locked ({error}), and two nodes at once would harm it: \
                         use a disk of this machine's"
                    )));
                }
            }
        }
        Err(StoreError::InUse(PathBuf::new()))
    }

    /// Sees to it that others still find the lock: when its file was removed or replaced, they would
    /// lock another. It is then taken anew, and `true` the answer.
    ///
    /// # Errors
    ///
    /// When that cannot be done; above all when somebody else has it by now.
    pub fn keep(&mut self) -> Result<bool, StoreError> {
        if is_at(self.place, &self.path) {
            return Ok(false);
        }
        *self = Lock::take(&self.of)?;
        Ok(true)
    }

    /// The path of a file beside the locked one, which has this at the end of its name.
    pub fn beside(&self, end: &str) -> PathBuf {
        beside(&self.of, end)
    }
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

impl Drop for Lock {
    /// The file goes while it is locked. Who has opened it by then gets the lock next, sees
    /// that it is gone, and makes another. A file that is not empty is somebody else's, and so is
    /// one that has come in the place of ours.
    fn drop(&mut self) {
        let is_empty = self.file.metadata().is_ok_and(|file| file.len() == 0);
        if cfg!(unix) && is_empty && is_at(self.place, &self.path) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The path without symbolic links: where SQLite keeps the log, and one for all ways there. The
/// last of them may lead to a file that is still to be made.
fn real(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        if !cfg!(unix) {
            break;
        } else if let Ok(real) = path.canonicalize() {
            return real;
        }
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new("."));
        match (fs::read_link(&path), directory.canonicalize(), path.file_name()) {
            (Ok(target), ..) => path = directory.join(target),
            (_, Ok(directory), Some(name)) => return directory.join(name),
            _ => break,
        }
    }
    path
}

/// Which file that is: its device, and its number there. Elsewhere than on Unix it has none; there, what
/// is open stays where it is. (Windows lets nobody rename or remove it.)
pub(super) type Place = (u64, u64);

#[cfg(unix)]
pub(super) fn place_of(metadata: &fs::Metadata) -> Place {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino())
}

#[cfg(not(unix))]
pub(super) fn place_of(_: &fs::Metadata) -> Place {
    (0, 0)
}

/// Whether the file of that place is the one at the path.
fn is_at(place: Place, path: &Path) -> bool {
    !cfg!(unix) || path.metadata().is_ok_and(|metadata| place_of(&metadata) == place)
}
