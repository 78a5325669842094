//! What holders of a key tell each other of its values: the offer beside a `find_node`.

use crate::id::Id;

/// How many values one request may offer. With the rest of the request that is under 1,000
/// bytes, so that it fits into the one datagram that a stranger is sent at first.
pub const MAX_OFFERED: usize = 64;

/// Bytes of a value's digest that stand for it. Who wants to make one value pass for another
/// must find a second one with these 64 bits, and then gains that the first is not handed on.
const DIGEST: usize = 8;
const AGE: usize = 4;
const ENTRY: usize = DIGEST + AGE;

/// Values that a holder offers: of each the first 8 bytes of its digest, and its age.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offer<'a> {
    bytes: &'a [u8],
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfferedValue {
    /// How its digest begins.
    pub digest: [u8; DIGEST],
    /// How many seconds ago it was published.
    pub age: u32,
}

impl<'a> Offer<'a> {
    /// The offer in these bytes; `None` when they are none: of 1 to [`MAX_OFFERED`] values.
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let whole = !bytes.is_empty() && bytes.len().is_multiple_of(ENTRY);
        (whole && bytes.len() <= MAX_OFFERED * ENTRY).then_some(Offer { bytes })
    }

    /// Appends a value to the bytes of an offer.
    pub fn add(bytes: &mut Vec<u8>, digest: &Id, age: u32) {
        bytes.extend_from_slice(&digest.as_bytes()[..DIGEST]);
        bytes.extend_from_slice(&age.to_be_bytes());
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The values, in their order.
    pub fn values(&self) -> impl Iterator<Item = OfferedValue> + use<'a> {
        self.bytes.as_chunks::<ENTRY>().0.iter().map(|&[a, b, c, d, e, f, g, h, age @ ..]| OfferedValue {
            digest: [a, b, c, d, e, f, g, h],
            age: u32::from_be_bytes(age),
        })
    }
}

impl OfferedValue {
    /// The least and the greatest digest that begin so.
    pub fn digests(&self) -> (Id, Id) {
        let (mut least, mut greatest) = ([0; 20], [0xff; 20]);
        least[..DIGEST].copy_from_slice(&self.digest);
        greatest[..DIGEST].copy_from_slice(&self.digest);
        (Id::new(least), Id::new(greatest))
    }
}
