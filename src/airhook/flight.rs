//! What one end of a connection has in the air: messages sent but not settled,
//! and numbers of messages that were missed and must be reported.
//!
//! It exists only while there is such a thing; a connection at rest has none.

use std::collections::VecDeque;

use crate::airhook::packet::MAX_MESSAGES;
use crate::airhook::window::Settled;
use crate::time::Time;

/// What the layer above knows a message by: it gets it back when the message is settled.
pub type Token = u16;

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrived.
    Confirmed,
    /// It did not, or a carrier that tells messages apart is not to wait until that is
    /// known: send it again, under a new number.
    Lost,
}

#[derive(Debug, Default)]
pub struct Flight {
    /// The sequence number of `records[0]`.
    base: u16,
    /// Packets from the one with the oldest unsettled message on.
    records: VecDeque<Record>,
    /// Bytes of those with messages.
    bytes: usize,
    /// Unsettled messages, oldest first; `None`: already known to be lost.
    tokens: VecDeque<Option<Token>>,
    /// Numbers of messages that never arrived, oldest miss first. Never sorted:
    /// the C library reads the list from its end and stops at the first entry
    /// that a packet does not newly cover.
    missed: Vec<u8>,
    /// For the first so many of `missed`: the packet that first bore each.
    borne: Vec<u16>,
}

/// A packet of ours.
#[derive(Clone, Copy, Debug)]
struct Record {
    sent: Time,
    /// The next message number after it.
    next_after: u8,
    /// Whether it is acknowledged promptly, and so measures a round trip.
    measures: bool,
    /// Its bytes; 0: it has no messages.
    bytes: u16,
}

/// What became of packets with messages that the other side has observed, or passed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// In bytes.
    pub settled: Settled,
    /// One that is larger than what every path carries has arrived.
    pub large_passed: bool,
    /// How many such have not.
    pub large_lost: u8,
}

/// A set of message numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers([u64; 4]);

impl Numbers {
    /// All of them.
    pub const ALL: Numbers = Numbers([u64::MAX; 4]);

    fn of(list: &[u8]) -> Self {
        let mut numbers = Numbers::default();
        for &number in list {
            numbers.set(number, true);
        }
        numbers
    }

    fn set(&mut self, number: u8, there: bool) {
        let (word, bit) = (&mut self.0[usize::from(number >> 6)], 1 << (number & 63));
        *word = if there { *word | bit } else { *word & !bit };
    }

    /// Whether the number is in the set.
    pub fn has(&self, number: u8) -> bool {
        self.0[usize::from(number >> 6)] & (1 << (number & 63)) != 0
    }
}

impl Flight {
    /// Whether nothing is in the air any more.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty() && self.missed.is_empty()
    }

    /// How many messages are unsettled.
    pub fn unsettled(&self) -> usize {
        self.tokens.len()
    }

    /// The missed list, as it goes into a packet.
    pub fn missed(&self) -> &[u8] {
        &self.missed
    }

    /// A message went into the packet that is being made.
    pub fn put(&mut self, token: Token) {
        self.tokens.push_back(Some(token));
    }

    /// Bytes of the packets that are on their way with messages.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What is on its way takes up no room any more: it is lost, as far as one can tell.
    pub fn write_off(&mut self) {
        self.bytes = 0;
        self.records.iter_mut().for_each(|record| record.bytes = 0);
    }

    /// The packet `sequence` has gone out; `bytes`: its size, if it has messages, or 0.
    pub fn sent(&mut self, sequence: u16, next_after: u8, bytes: usize, measures: bool, now: Time) {
        self.borne.resize(self.missed.len(), sequence);
        if self.tokens.is_empty() {
            return;
        }
        if self.records.is_empty() {
            self.base = sequence;
        }
        // No packet of ours is longer than 1,450 bytes.
        let bytes = bytes.min(usize::from(u16::MAX)) as u16;
        self.bytes += usize::from(bytes);
        self.records.push_back(Record { sent: now, next_after, measures, bytes });
    }

    /// When the packet `sequence` went out, if it measures a round trip.
    pub fn measured(&self, sequence: u16) -> Option<Time> {
        let record = self.records.get(usize::from(sequence.wrapping_sub(self.base)))?;
        record.measures.then_some(record.sent)
    }

    /// Takes it that the oldest messages were lost, `count` of them: they are
    /// to be sent again before the other side can say whether they arrived.
    pub fn lose_oldest(&mut self, count: usize, mut settle: impl FnMut(Token, Fate)) {
        for token in self.tokens.iter_mut().filter(|token| token.is_some()).take(count) {
            if let Some(token) = token.take() {
                settle(token, Fate::Lost);
            }
        }
    }

    /// The other side reports `missed`. Of the unsettled messages, the first of which
    /// has the number `oldest`, those among the first `early` of the session are
    /// lost, whatever has been observed.
    pub fn lose_early(&mut self, oldest: u8, early: u8, missed: &[u8], mut settle: impl FnMut(Token, Fate)) {
        let missed = Numbers::of(missed);
        // Early messages are numbered from 0, and none is re-used before they are settled.
        let mut number = oldest;
        for token in &mut self.tokens {
            if number >= early {
                break;
            }
            if missed.has(number)
                && let Some(token) = token.take()
            {
                settle(token, Fate::Lost);
            }
            number = number.wrapping_add(1);
        }
    }

    /// The other side has observed our packet `sequence` and reports `missed`:
    /// every message sent up to it, the first of which has the number `oldest`,
    /// is settled. `lost` is told which of them were lost, and which were not. Packets larger
    /// than `large` are told apart.
    pub fn observed(
        &mut self,
        sequence: u16,
        oldest: u8,
        missed: &[u8],
        large: usize,
        lost: &mut Numbers,
        mut settle: impl FnMut(Token, Fate),
    ) -> Seen {
        let mut seen = Seen::default();
        let at = usize::from(sequence.wrapping_sub(self.base));
        let Some(record) = self.records.get(at) else {
            return seen;
        };
        let covered = usize::from(record.next_after.wrapping_sub(oldest));
        let missed = Numbers::of(missed);
        for record in self.records.drain(..=at).filter(|record| record.bytes > 0) {
            let bytes = usize::from(record.bytes);
            self.bytes -= bytes;
            // A packet arrives as a whole, or not at all.
            if missed.has(record.next_after.wrapping_sub(1)) {
                seen.settled.lost += u32::from(record.bytes);
                seen.large_lost = seen.large_lost.saturating_add(u8::from(bytes > large));
            } else {
                seen.settled.passed += u32::from(record.bytes);
                seen.large_passed |= bytes > large;
            }
        }
        let mut number = oldest;
        for token in self.tokens.drain(..covered.min(self.tokens.len())) {
            lost.set(number, token.is_none() || missed.has(number));
            if let Some(token) = token {
                settle(token, if missed.has(number) { Fate::Lost } else { Fate::Confirmed });
            }
            number = number.wrapping_add(1);
        }
        self.base = sequence.wrapping_add(1);
        if self.tokens.is_empty() {
            self.records.clear();
            self.bytes = 0;
        }
        seen
    }

    /// The other side has observed our packet `sequence`: it has seen the misses
    /// that packets up to it bore.
    pub fn missed_seen(&mut self, sequence: u16) {
        let seen = self.borne.iter().take_while(|&&bore| sequence.wrapping_sub(bore) < 0x8000).count();
        self.borne.drain(..seen);
        self.missed.drain(..seen);
    }

    /// The other side starts afresh: nothing of it is missed any more.
    pub fn forget_missed(&mut self) {
        self.missed.clear();
        self.borne.clear();
    }

    /// The messages from number `first` on, `count` of them, never arrived.
    /// False, and nothing noted, when that is more than can be unconfirmed.
    pub fn miss(&mut self, first: u8, count: u8) -> bool {
        if self.missed.len() + usize::from(count) > MAX_MESSAGES {
            return false;
        }
        self.missed.extend((0..count).map(|i| first.wrapping_add(i)));
        true
    }
}
