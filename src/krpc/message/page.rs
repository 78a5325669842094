//! Where to go on with the values of a key that did not all fit into one answer.

use crate::id::Id;

/// The longest that is sent back, in bytes. Nodes of this crate name 40.
pub const MAX_PAGE: usize = 64;

/// A place among a node's values of a key. Whoever asks sends back what he was given, whatever
/// it is: 1 to [`MAX_PAGE`] bytes.
///
/// This crate's nodes go round their values by digest, from anywhere, and name the digest
/// that is next and the place where they began. So they need to remember nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page<'a> {
    bytes: &'a [u8],
}

impl<'a> Page<'a> {
    /// The place in these bytes; `None` when they are too few or too many.
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        (1..=MAX_PAGE).contains(&bytes.len()).then_some(Page { bytes })
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The bytes of the place before the digest `next`, on the way round from `first`.
    pub fn bytes_of(next: &Id, first: &Id) -> [u8; 40] {
        let mut bytes = [0; 40];
        bytes[..20].copy_from_slice(next.as_bytes());
        bytes[20..].copy_from_slice(first.as_bytes());
        bytes
    }

    /// The next digest, and the place where the way round began; `None` when no node of this
    /// crate has named it.
    pub fn digests(&self) -> Option<(Id, Id)> {
        let (next, first) = self.bytes.split_at_checked(20)?;
        Some((Id::from_slice(next)?, Id::from_slice(first)?))
    }
}
