//! Why a value is not stored.

use std::fmt;

use crate::error::StoreError;

/// Why a node does not store a value. Its text goes to whoever sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is larger than the node takes any.
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// The largest that is taken.
        limit: usize,
    },
    /// Its life is over already.
    TooOld,
    /// The key has as many values as it may.
    KeyValues {
        /// How many those are.
        limit: usize,
    },
    /// The key has as many bytes of values as it may.
    KeyBytes {
        /// How many those are.
        limit: u64,
    },
    /// The sender's block of addresses has as many values under the key as it may.
    BlockKeyValues {
        /// How many those are.
        limit: usize,
    },
    /// The sender's block of addresses has as many bytes of values under the key as it may.
    BlockKeyBytes {
        /// How many those are.
        limit: u64,
    },
    /// The sender's address holds as many bytes as it may.
    AddressBytes {
        /// How many those are.
        limit: u64,
    },
    /// The sender's block of addresses does.
    BlockBytes {
        /// How many those are.
        limit: u64,
    },
    /// The store is full.
    Full,
    /// The store makes room for others first.
    Displaced,
    /// The disk is full.
    DiskFull,
    /// Some other program is writing to the store's file.
    Busy,
    /// The store's file is not where it was.
    Moved,
    /// The store cannot be written.
    Failed,
}

impl Refusal {
    /// Whether less under the same key would help.
    pub(super) fn is_of_key(&self) -> bool {
        use Refusal::{BlockKeyBytes, BlockKeyValues, KeyBytes, KeyValues};
        matches!(self, KeyValues { .. } | KeyBytes { .. } | BlockKeyValues { .. } | BlockKeyBytes { .. })
    }

    /// Whether that is the store's own trouble, and no rule.
    pub fn is_failure(&self) -> bool {
        matches!(self, Refusal::DiskFull | Refusal::Busy | Refusal::Moved | Refusal::Failed)
    }
}

impl From<&StoreError> for Refusal {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::Full(_) => Refusal::DiskFull,
            StoreError::Busy(_) => Refusal::Busy,
            StoreError::Moved { .. } => Refusal::Moved,
            _ => Refusal::Failed,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::TooLarge { size, limit } => {
                write!(f, "the value is larger than this node takes: {size} bytes of {limit}")
            }
            Refusal::TooOld => f.write_str("the value is older than this node keeps any"),
            Refusal::KeyValues { limit } => {
                write!(f, "this node holds as many values for the key as it takes: {limit}")
            }
            Refusal::KeyBytes { limit } => {
                write!(f, "this node holds as many bytes for the key as it takes: {limit}")
            }
            Refusal::BlockKeyValues { limit } => {
                write!(f, "this node holds as many values from your network for the key as it takes: {limit}")
            }
            Refusal::BlockKeyBytes { limit } => {
                write!(f, "this node holds as many bytes from your network for the key as it takes: {limit}")
            }
            Refusal::AddressBytes { limit } => {
                write!(f, "this node holds as many bytes from your address as it takes: {limit}")
            }
            Refusal::BlockBytes { limit } => {
                write!(f, "this node holds as many bytes from your network as it takes: {limit}")
            }
            Refusal::Full => f.write_str("this node has no room for the value"),
            Refusal::Displaced => {
                f.write_str("this node has no room for the value: you hold most here, and it is farthest")
            }
            Refusal::DiskFull => f.write_str("this node cannot store values now: its disk is full"),
            Refusal::Busy => f.write_str("this node cannot store values now: its file is busy"),
            Refusal::Moved => f.write_str("this node cannot store values now: its file was taken away"),
            Refusal::Failed => f.write_str("this node cannot store values now"),
        }
    }
}
