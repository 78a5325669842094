//! One Airhook packet: a header, then messages. Borrowed parse, emit into the
//! caller's buffer.
//!
//! ```text
//! flags 1 | observed sequence 1 | sequence 2
//! [observed session 4] [session 4] [interval 1] [next message 1]
//! [missed count - 1, 1 | missed numbers] { message length - 1, 1 | message }
//! ```
//!
//! All numbers are big-endian; what is in brackets is there when its flag is.

use std::fmt;

/// The largest packet that we send, in bytes: what the Khashmir of 2003 sent.
pub const MAX_PACKET: usize = 1450;
/// The longest message in a packet, in bytes.
pub const MAX_MESSAGE: usize = 255;
/// More messages than this are never unconfirmed, so no packet holds more.
pub const MAX_MESSAGES: usize = 255;

const OBSERVED: u8 = 0x10;
const SESSION: u8 = 0x08;
const MISSED: u8 = 0x04;
const NEXT: u8 = 0x02;
const INTERVAL: u8 = 0x01;
/// Bits that are 0 in every Airhook packet. A bencoded datagram of later
/// DHTs begins with `d`, which sets two of them.
const NOT_AIRHOOK: u8 = 0xe0;

/// A packet taken apart; it borrows the datagram.
///
/// A session id of 0 means "none", both here and on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The low 8 bits of the newest sequence number that the sender accepted.
    pub observed_sequence: u8,
    /// The number of this packet.
    pub sequence: u16,
    /// The receiver's session id, as its sender knows it.
    pub observed_session: u32,
    /// The sender's session id.
    pub session: u32,
    /// The number of the first message, or of the next one to come.
    pub next: Option<u8>,
    /// Numbers of messages that never arrived, oldest first.
    pub missed: &'a [u8],
    /// The messages.
    pub messages: Messages<'a>,
}

/// The messages of a packet, in order. Known to be whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Messages<'a> {
    bytes: &'a [u8],
    count: u8,
}

/// Why a datagram is no Airhook packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketError {
    /// One of the bits that Airhook leaves 0 is set.
    NotAirhook,
    /// It ends in the middle of a field or of a message.
    Truncated,
    /// It holds more messages than may be unconfirmed.
    TooManyMessages,
}

impl fmt::Display for PacketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PacketError::NotAirhook => "not an Airhook packet",
            PacketError::Truncated => "a packet that ends in the middle of a field",
            PacketError::TooManyMessages => "more than 255 messages in one packet",
        })
    }
}

impl std::error::Error for PacketError {}

impl<'a> Packet<'a> {
    /// Takes a datagram apart.
    ///
    /// # Errors
    ///
    /// When it is not an Airhook packet as a whole; no part of it is to be used then.
    pub fn parse(datagram: &'a [u8]) -> Result<Packet<'a>, PacketError> {
        let mut fields = Fields(datagram);
        let flags = fields.byte()?;
        if flags & NOT_AIRHOOK != 0 {
            return Err(PacketError::NotAirhook);
        }
        let observed_sequence = fields.byte()?;
        let sequence = u16::from_be_bytes(fields.array()?);
        let mut session_of =
            |flag| if flags & flag != 0 { fields.array().map(u32::from_be_bytes) } else { Ok(0) };
        let observed_session = session_of(OBSERVED)?;
        let session = session_of(SESSION)?;
        if flags & INTERVAL != 0 {
            fields.byte()?;
        }
        let next = if flags & NEXT != 0 { Some(fields.byte()?) } else { None };
        let missed = if flags & MISSED != 0 { fields.counted()? } else { &[] };
        let messages = Messages::parse(fields.0)?;
        Ok(Packet { observed_sequence, sequence, observed_session, session, next, missed, messages })
    }

    /// Appends the packet to `out`.
    ///
    /// At most 256 missed numbers fit; the rest is left out.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let missed = &self.missed[..self.missed.len().min(256)];
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        out.push(
            flag(self.observed_session != 0, OBSERVED)
                | flag(self.session != 0, SESSION)
                | flag(self.next.is_some(), NEXT)
                | flag(!missed.is_empty(), MISSED),
        );
        out.push(self.observed_sequence);
        out.extend_from_slice(&self.sequence.to_be_bytes());
        for session in [self.observed_session, self.session] {
            if session != 0 {
                out.extend_from_slice(&session.to_be_bytes());
            }
        }
        out.extend(self.next);
        if let Some(last) = missed.len().checked_sub(1) {
            out.push(last as u8);
            out.extend_from_slice(missed);
        }
        out.extend_from_slice(self.messages.bytes);
    }
}

impl<'a> Messages<'a> {
    /// Messages as they stand in a packet, each behind its length less one.
    ///
    /// # Errors
    ///
    /// When the last one is not whole, or there are more than 255.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, PacketError> {
        let mut rest = Fields(bytes);
        let mut count = 0usize;
        while !rest.0.is_empty() {
            rest.counted()?;
            count += 1;
        }
        match u8::try_from(count) {
            Ok(count) => Ok(Messages { bytes, count }),
            Err(_) => Err(PacketError::TooManyMessages),
        }
    }

    /// How many there are.
    pub fn count(&self) -> u8 {
        self.count
    }

    /// Each message, in order.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut rest = Fields(self.bytes);
        std::iter::from_fn(move || rest.counted().ok())
    }
}

/// What is left of a datagram.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], PacketError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(PacketError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, PacketError> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PacketError> {
        self.take(N)?.try_into().map_err(|_| PacketError::Truncated)
    }

    /// Bytes behind their count less one.
    fn counted(&mut self) -> Result<&'a [u8], PacketError> {
        let count = usize::from(self.byte()?) + 1;
        self.take(count)
    }
}
