//! What can go wrong: one type for each question that a caller has.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::outcome::Stored;

/// A setting is out of bounds. See [`Config::validate`](crate::Config::validate).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The setting's name in [`Config`](crate::Config).
    pub setting: &'static str,
    /// What is allowed for it.
    pub allowed: &'static str,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the setting `{}` must be {}", self.setting, self.allowed)
    }
}

impl std::error::Error for ConfigError {}

/// Why a store could not be opened, read or written. Each names the file; the path is empty for
/// a store in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// Another node has the file open, in this process or in another; or some other program
    /// keeps it locked.
    InUse(PathBuf),
    /// The file is a SQLite database, but not a Khashmir node's.
    Foreign(PathBuf),
    /// The file was written by a newer version of this crate.
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its schema.
        version: i64,
    },
    /// The file is no SQLite database, or a damaged one.
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong in it; mostly SQLite's own words.
        what: String,
    },
    /// The file may only be read, or what it lies on.
    ReadOnly(PathBuf),
    /// There is no file at that path, but a directory, a device or the like.
    NotAFile(PathBuf),
    /// The file, or its directory, may not be read and written.
    Denied(PathBuf),
    /// The directory in which the file is to be does not exist.
    NoDirectory(PathBuf),
    /// The disk is full. What was being written is undone.
    Full(PathBuf),
    /// Some other program is writing to the file. What was being written is undone.
    Busy(PathBuf),
    /// The file, or what SQLite keeps beside it, was removed, renamed or replaced while it was in
    /// use, or the program has changed its root directory and does not reach it by its path any more: a
    /// new start would not find what is written now. What was being written is undone; it works again
    /// when the same file is back.
    Moved {
        /// The file, as it was opened.
        path: PathBuf,
        /// Which one, and what became of it.
        what: String,
    },
    /// The file belongs to the node of another id than was asked for.
    OtherId {
        /// The file.
        path: PathBuf,
        /// The id of the node that it belongs to.
        id: crate::id::Id,
    },
    /// Something else failed.
    Failed {
        /// The file.
        path: PathBuf,
        /// What; mostly SQLite's own words.
        what: String,
    },
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::InUse(path) => write!(
                f,
                "{} is in use by another node, or locked by some other program: \
                 close that, or give this node a file of its own",
                named(path)
            ),
            StoreError::Foreign(path) => write!(
                f,
                "{} is a database of some other program: give the node a file of its own",
                named(path)
            ),
            StoreError::TooNew { path, version } => write!(
                f,
                "{} was written by a newer version (schema {version}): use that, or another file",
                named(path)
            ),
            StoreError::Damaged { path, what } => write!(
                f,
                "{} is damaged, or no database: {what}; restore it from a copy, or move it away \
                 to start with a new one",
                named(path)
            ),
            StoreError::ReadOnly(path) => {
                write!(f, "{} is read-only: make it writable, or use another file", named(path))
            }
            StoreError::NotAFile(path) => {
                write!(f, "{} is not a file: name one, which need not exist yet", named(path))
            }
            StoreError::Denied(path) => write!(
                f,
                "{} may not be read and written: the file and its directory must be writable for \
                 the user that the program runs as",
                named(path)
            ),
            StoreError::NoDirectory(path) => {
                write!(f, "{} cannot be made, as its directory does not exist: make that first", named(path))
            }
            StoreError::Full(path) => {
                write!(f, "there is no room on the disk for {}: free some", named(path))
            }
            StoreError::Busy(path) => write!(
                f,
                "some other program is writing to {}: it works again when that is done",
                named(path)
            ),
            StoreError::Moved { path, what } => write!(
                f,
                "{} is not as it was opened: {what}; put that back, or start the node anew with what \
                 is there",
                named(path)
            ),
            StoreError::OtherId { path, id } => write!(
                f,
                "{} belongs to the node {id}: ask for that id or for none, or use another file",
                named(path)
            ),
            StoreError::Failed { path, what } => write!(f, "{} cannot be used: {what}", named(path)),
        }
    }
}

fn named(path: &Path) -> std::path::Display<'_> {
    let path = if path.as_os_str().is_empty() { Path::new("the store in memory") } else { path };
    path.display()
}

impl std::error::Error for StoreError {}

/// Why a node could not be started.
#[derive(Debug)]
pub enum StartError {
    /// A setting is out of bounds.
    Config(ConfigError),
    /// The address could not be used: taken, not of this machine, not allowed,
    /// not to be resolved, or the process has no file descriptor left.
    Bind(io::Error),
    /// The node's file could not be used.
    Store(StoreError),
    /// The event loop could not be set up, or has ended.
    Loop(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Config(e) => e.fmt(f),
            StartError::Bind(e) => write!(f, "the address cannot be used: {e}"),
            StartError::Store(e) => write!(f, "the store cannot be used: {e}"),
            StartError::Loop(e) => write!(f, "the event loop cannot be used: {e}"),
        }
    }
}

// Its text tells the cause, so it names no source beside.
impl std::error::Error for StartError {}

impl From<ConfigError> for StartError {
    fn from(e: ConfigError) -> Self {
        StartError::Config(e)
    }
}

impl From<StoreError> for StartError {
    fn from(e: StoreError) -> Self {
        StartError::Store(e)
    }
}

/// Why a message could not be queued for a peer; nothing of it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// The connection is gone, or could not be made: its address block has as many as it may
    /// ([`Config::max_per_block`](crate::Config::max_per_block)).
    Closed,
    /// Too much waits already: for this peer
    /// ([`Config::max_queued`](crate::Config::max_queued)), or for all
    /// ([`Config::max_buffered`](crate::Config::max_buffered)). There is room when some of it
    /// has been confirmed.
    Full {
        /// Bytes that wait.
        queued: usize,
        /// How many may.
        limit: usize,
    },
    /// No message can have that length; or so many bytes of a stream are never queued at once.
    Length,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendError::Closed => f.write_str("there is no connection"),
            SendError::Full { queued, limit } => {
                write!(f, "the queue is full: {queued} of {limit} bytes")
            }
            SendError::Length => f.write_str("so many bytes cannot be sent at once"),
        }
    }
}

impl std::error::Error for SendError {}

/// Why one request to one peer failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    /// No answer within [`Config::request_timeout`](crate::Config::request_timeout).
    Timeout,
    /// The peer could not be reached at all.
    Unreachable,
    /// Its connection was forgotten to make room for others, before it could answer
    /// ([`Config::max_connections`](crate::Config::max_connections)). Not the peer's fault.
    Forgotten,
    /// The request was not even queued. Not the peer's fault.
    NotSent(SendError),
    /// The peer restarted, so that the request is lost.
    Reset,
    /// The peer answered with an error; its text, or its number as text.
    Refused(String),
    /// The answer came from a node of another id.
    WrongId,
    /// The answer was not what the method promises.
    Malformed,
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Timeout => f.write_str("no answer in time"),
            CallError::Unreachable => f.write_str("the peer cannot be reached"),
            CallError::Forgotten => f.write_str("the connection was forgotten to make room for others"),
            CallError::NotSent(why) => write!(f, "the request was not sent: {why}"),
            CallError::Reset => f.write_str("the peer restarted"),
            CallError::Refused(why) => write!(f, "the peer refused: {why}"),
            CallError::WrongId => f.write_str("another node answered at that address"),
            CallError::Malformed => f.write_str("the answer makes no sense"),
        }
    }
}

impl std::error::Error for CallError {}

impl CallError {
    /// Whether the failure is this node's own, and says nothing about the peer.
    pub fn is_local(&self) -> bool {
        matches!(self, CallError::Forgotten | CallError::NotSent(_))
    }
}

/// Why an operation (a lookup, a store, …) did not do what was asked. Each says in its text what
/// happened, and what can be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperationError {
    /// Its deadline passed. (A store whose holders were being asked by then ends with what they
    /// have said instead.)
    Deadline,
    /// It was cancelled.
    Cancelled,
    /// Its node was closed, or never was.
    Closed,
    /// As many operations are under way as may be, or names being resolved; nothing was done.
    QueueFull {
        /// How many may be: [`Config::max_operations`](crate::Config::max_operations), or 256
        /// names.
        limit: usize,
    },
    /// The node knows no other that it could ask, and itself has nothing of what was looked for.
    NoContacts,
    /// None of the nodes that were asked gave an answer of use.
    NobodyAnswered {
        /// How many were asked.
        asked: usize,
    },
    /// The host's name could not be resolved; the resolver's words.
    Resolve(String),
    /// The one request that it consists of failed.
    Call(CallError),
    /// The value is larger than [`Config::max_value_size`](crate::Config::max_value_size).
    ValueTooLarge {
        /// Its size in bytes.
        size: usize,
        /// What is allowed, in bytes.
        limit: usize,
    },
    /// Values must not be empty: 2003 peers store such a value but never find it.
    ValueEmpty,
    /// The life that a value was to have is shorter than a second, or longer than
    /// [`Config::value_lifetime`](crate::Config::value_lifetime).
    LifeOutOfBounds {
        /// What was asked for.
        life: Duration,
        /// The longest that is allowed.
        limit: Duration,
    },
    /// [`Config::validator`](crate::Config::validator) refused the value; its reason.
    ValueInvalid(String),
    /// Fewer nodes took the value than had to
    /// ([`Config::store_redundancy`](crate::Config::store_redundancy)): what each of them said.
    /// Those that took it keep it, but it is not renewed.
    TooFew(Box<Stored>),
    /// The operation was called on the loop's own thread, which it would block.
    WouldBlock,
    /// The node's own store failed.
    Store(StoreError),
}

impl fmt::Display for OperationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OperationError::Deadline => f.write_str("the deadline passed: try again, or allow more time"),
            OperationError::Cancelled => f.write_str("cancelled"),
            OperationError::Closed => f.write_str("the node is closed: start another"),
            OperationError::QueueFull { limit } => {
                write!(f, "{limit} operations are under way already: wait until some have ended")
            }
            OperationError::NoContacts => f.write_str("the node knows no others: add a contact first"),
            OperationError::NobodyAnswered { asked } => {
                write!(f, "none of {asked} nodes answered: look at the network, or add another contact")
            }
            OperationError::Resolve(why) => {
                write!(f, "the name cannot be resolved: {why}; look at its spelling, or give an address")
            }
            OperationError::Call(e) => {
                let advice = match e {
                    CallError::Timeout | CallError::Unreachable => "look at its address and at the network",
                    CallError::Malformed | CallError::Refused(_) => "ask another",
                    _ => "try again",
                };
                write!(f, "{e}: {advice}")
            }
            OperationError::ValueTooLarge { size, limit } => {
                let over = size.saturating_sub(*limit);
                write!(
                    f,
                    "the value has {size} bytes, {over} more than the {limit} that are allowed: store it \
                     in parts"
                )
            }
            OperationError::ValueEmpty => f.write_str("the value is empty: at least one byte is needed"),
            OperationError::LifeOutOfBounds { life, limit } => {
                write!(f, "a value cannot live for {life:?}: from 1s to {limit:?} is allowed")
            }
            OperationError::ValueInvalid(why) => write!(f, "the value is not valid: {why}"),
            OperationError::TooFew(stored) => {
                write!(f, "too few nodes: {stored}")?;
                let alone = stored.effort.answered == 0 && stored.effort.asked > 0;
                // Even if all others took it there would be too few.
                let refusals = stored.refused().count();
                let refused = refusals > 0 && stored.receipts.len() < stored.needed + refusals;
                f.write_str(match (alone, refused) {
                    (true, _) => "; no other node could be found: look at the network, and store it again",
                    (false, true) => "; to store it again helps only once the reason is gone",
                    (false, false) => ": store it again later",
                })
            }
            OperationError::WouldBlock => f.write_str(
                "a blocking call on the event loop's own thread would never return: use a callback there",
            ),
            OperationError::Store(e) => write!(f, "the node's own store: {e}"),
        }
    }
}

impl std::error::Error for OperationError {}
