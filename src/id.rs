//! 160-bit identifiers and the XOR metric on them.
//!
//! Nodes and keys share one space. The distance between two points is their
//! bitwise XOR read as a big-endian number (Maymounkov and Mazières,
//! *Kademlia*, 2002, section 2.1).

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use rand::Rng;
use sha1::{Digest, Sha1};

/// Bytes in an [`Id`]: SHA-1 is 160 bits long.
pub const ID_BYTES: usize = 20;
/// Bits in an [`Id`].
pub const ID_BITS: usize = ID_BYTES * 8;

/// A point of the 160-bit key space: the name of a node, or the key of a value.
///
/// Reads and prints as 40 hexadecimal digits.
///
/// ```
/// use khashmir::Id;
///
/// let key = Id::of(b"a name");
/// assert_eq!(key.to_string().parse(), Ok(key));
/// assert_eq!(key.distance(&key).leading_zeros(), 160);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id([u8; ID_BYTES]);

/// How far apart two [`Id`]s are; orders as a 160-bit number.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Distance([u8; ID_BYTES]);

/// Bytes or text that are not an [`Id`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseIdError {
    /// Bytes of another length than an id's.
    ByteCount {
        /// How many there are.
        length: usize,
        /// How many an id has: [`ID_BYTES`].
        needed: usize,
    },
    /// Text of another length than an id's.
    DigitCount {
        /// How many bytes it has.
        length: usize,
        /// How many digits an id has: twice [`ID_BYTES`].
        needed: usize,
    },
    /// Text with something else than hexadecimal digits.
    Digit {
        /// Its place in the text, from 0 on.
        place: usize,
    },
}

impl Id {
    /// The id made of these 20 bytes, most significant first.
    pub const fn new(bytes: [u8; ID_BYTES]) -> Self {
        Id(bytes)
    }

    /// The id in `bytes`, when they are exactly 20. `Id::try_from` says why not.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Id)
    }

    /// The SHA-1 of `name`: the key under which things of that name are kept.
    pub fn of(name: &[u8]) -> Self {
        Id(Sha1::digest(name).into())
    }

    /// A random id, uniform over the whole space.
    pub fn random(rng: &mut impl Rng) -> Self {
        let mut bytes = [0; ID_BYTES];
        rng.fill_bytes(&mut bytes);
        Id(bytes)
    }

    /// A random id that shares exactly `shared` leading bits with this one, so
    /// that it falls into the bucket of that depth. From 160 on: the id itself.
    pub fn random_sharing(&self, shared: usize, rng: &mut impl Rng) -> Self {
        if shared >= ID_BITS {
            return *self;
        }
        let random = Id::random(rng);
        let mut bytes = self.0;
        let (byte, bit) = (shared / 8, shared % 8);
        // The bits after `shared` come from `random`, the one at it is flipped.
        let keep = !(0xffu8 >> bit);
        let flip = 0x80u8 >> bit;
        bytes[byte] = (self.0[byte] & keep) | (!self.0[byte] & flip) | (random.0[byte] & !keep & !flip);
        bytes[byte + 1..].copy_from_slice(&random.0[byte + 1..]);
        Id(bytes)
    }

    /// The nearest other id: it differs in the last bit.
    pub fn beside(&self) -> Self {
        let mut id = *self;
        id.0[ID_BYTES - 1] ^= 1;
        id
    }

    /// The XOR distance to `other`.
    pub fn distance(&self, other: &Id) -> Distance {
        let mut bytes = self.0;
        for (mine, theirs) in bytes.iter_mut().zip(other.0) {
            *mine ^= theirs;
        }
        Distance(bytes)
    }

    /// The 20 bytes, most significant first.
    pub const fn as_bytes(&self) -> &[u8; ID_BYTES] {
        &self.0
    }
}

impl Distance {
    /// How many leading bits the two ids share: 160 when they are equal.
    pub fn leading_zeros(&self) -> usize {
        match self.0.iter().position(|&byte| byte != 0) {
            Some(at) => at * 8 + self.0[at].leading_zeros() as usize,
            None => ID_BITS,
        }
    }

    /// The distance as a share of the whole space, from 0 up to 1.
    pub fn fraction(&self) -> f64 {
        self.0.iter().rev().fold(0.0, |sum, &byte| (sum + f64::from(byte)) / 256.0)
    }
}

/// In two numbers, which takes a third of the time of comparing bytes: a lookup compares distances
/// a hundred times and more.
impl Ord for Distance {
    fn cmp(&self, other: &Self) -> Ordering {
        let numbers = |distance: &Distance| {
            let [start @ .., a, b, c, d] = distance.0;
            (u128::from_be_bytes(start), u32::from_be_bytes([a, b, c, d]))
        };
        numbers(self).cmp(&numbers(other))
    }
}

impl PartialOrd for Distance {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Id({self})")
    }
}

impl fmt::Debug for Distance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Distance({})", Id(self.0))
    }
}

impl TryFrom<&[u8]> for Id {
    type Error = ParseIdError;

    fn try_from(bytes: &[u8]) -> Result<Self, ParseIdError> {
        let wrong = ParseIdError::ByteCount { length: bytes.len(), needed: ID_BYTES };
        Id::from_slice(bytes).ok_or(wrong)
    }
}

impl FromStr for Id {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let digits = text.as_bytes();
        if digits.len() != ID_BYTES * 2 {
            return Err(ParseIdError::DigitCount { length: digits.len(), needed: ID_BYTES * 2 });
        }
        let value = |place: usize| match char::from(digits[place]).to_digit(16) {
            Some(value) => Ok(value as u8),
            None => Err(ParseIdError::Digit { place }),
        };
        let mut bytes = [0; ID_BYTES];
        for (place, byte) in bytes.iter_mut().enumerate() {
            *byte = value(2 * place)? * 16 + value(2 * place + 1)?;
        }
        Ok(Id(bytes))
    }
}

impl fmt::Display for ParseIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ParseIdError::ByteCount { length, needed } => {
                write!(f, "an id or key has {needed} bytes, not {length} (Id::of makes one of any name)")
            }
            ParseIdError::DigitCount { length, needed } => {
                write!(f, "an id or key is {needed} hexadecimal digits, not {length}")
            }
            ParseIdError::Digit { place } => {
                write!(f, "an id or key is 40 hexadecimal digits: character {} is none", place + 1)
            }
        }
    }
}

impl std::error::Error for ParseIdError {}
