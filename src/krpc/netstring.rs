//! Netstrings, which mark off the messages of a stream: `<length>:<bytes>,`.

use std::fmt;
use std::ops::Range;

use crate::bencode::Decimal;

/// The longest length field that is taken. Peers of 2003 take zeros in front of
/// a length (though none writes them), and so does [`take`], but not for ever.
const MAX_DIGITS: usize = 10;

/// A whole netstring at the start of a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Where its bytes are.
    pub body: Range<usize>,
    /// How many bytes the netstring takes, frame included.
    pub consumed: usize,
}

/// Why bytes are not a netstring, or not one that is taken. The stream they
/// came on has lost its thread: there is no telling where the next one starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetstringError {
    /// It does not begin with a decimal length and a colon.
    Length,
    /// It is longer than this limit, in bytes without its frame.
    TooLong {
        /// What is allowed.
        limit: usize,
    },
    /// No comma follows the bytes.
    Comma,
}

/// A message that would be longer than peers take. Nothing of it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    /// What is allowed, in bytes without the frame.
    pub limit: usize,
}

impl fmt::Display for NetstringError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NetstringError::Length => f.write_str("a netstring must begin with its length"),
            NetstringError::TooLong { limit } => {
                write!(f, "the netstring is longer than {limit} bytes")
            }
            NetstringError::Comma => f.write_str("a netstring must end with a comma"),
        }
    }
}

impl std::error::Error for NetstringError {}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the message would be longer than {} bytes", self.limit)
    }
}

impl std::error::Error for TooLong {}

/// Looks for a netstring at the start of `buffer`; `None` when it takes more
/// bytes to tell.
///
/// Looks at the length, and at where the comma must be, never at what is
/// between: calling it anew with each piece that arrives costs next to nothing.
///
/// # Errors
///
/// When no further bytes can make it a netstring of at most `limit` bytes: as
/// early as the length shows it.
pub fn take(buffer: &[u8], limit: usize) -> Result<Option<Taken>, NetstringError> {
    let mut length = 0u64;
    for (at, &byte) in buffer.iter().enumerate() {
        match byte {
            b'0'..=b'9' if at < MAX_DIGITS => {
                length = length * 10 + u64::from(byte - b'0');
                if length > limit as u64 {
                    return Err(NetstringError::TooLong { limit });
                }
            }
            b':' if at > 0 => {
                let start = at + 1;
                let end = start.saturating_add(length as usize);
                return match buffer.get(end) {
                    Some(b',') => Ok(Some(Taken { body: start..end, consumed: end + 1 })),
                    Some(_) => Err(NetstringError::Comma),
                    None => Ok(None),
                };
            }
            _ => return Err(NetstringError::Length),
        }
    }
    Ok(None)
}

/// Appends to `out` a netstring whose bytes `write` appends in place.
///
/// The length goes in front afterwards. Room for it is left as `expected` bytes
/// would need it, so that nothing moves when that has the right number of digits.
///
/// # Errors
///
/// When more than `limit` bytes were written; `out` is then as it was.
pub fn frame<T>(
    out: &mut Vec<u8>,
    limit: usize,
    expected: usize,
    write: impl FnOnce(&mut Vec<u8>) -> T,
) -> Result<T, TooLong> {
    let start = out.len();
    out.extend_from_slice(Decimal::new(expected as u64).as_bytes());
    let colon = out.len();
    out.push(b':');
    let result = write(out);
    let length = out.len().saturating_sub(colon + 1);
    if length > limit {
        out.truncate(start);
        return Err(TooLong { limit });
    }
    out.push(b',');
    out.splice(start..colon, Decimal::new(length as u64).as_bytes().iter().copied());
    Ok(result)
}
