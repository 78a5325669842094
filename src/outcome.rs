//! What operations bring: receipts for a value, nodes that were found, values and who had them.

use std::fmt;
use std::ops::Deref;

use crate::contact::Contact;
use crate::error::CallError;
use crate::time::UnixTime;

/// What an operation took. Contacts asked for anything but a lookup do not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effort {
    /// The longest chain of referrals that led to one of the nodes that were found.
    pub hops: u16,
    /// How many nodes were asked.
    pub asked: u16,
    /// How many of them answered.
    pub answered: u16,
    /// How many failed to.
    pub failed: u16,
}

/// What one node said to a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The node, and where it was asked.
    pub contact: Contact,
    /// What it said.
    pub reply: StoreReply,
}

/// What a node that was asked to store a value answered, if it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreReply {
    /// It has the value in its store, committed.
    Accepted {
        /// It forgets the value then, at the latest, unless it is stored again: sooner where
        /// its owner lets it make room for others. By this node's clock.
        until: UnixTime,
    },
    /// It does not take the value; why, in its own words.
    Refused(String),
    /// The request has failed: nothing, or nothing of use, has come.
    NoAnswer(CallError),
    /// Nothing has come yet, and enough others have taken the value, or the deadline has passed. It
    /// may still take it.
    Silent,
}

impl From<CallError> for StoreReply {
    fn from(why: CallError) -> Self {
        match why {
            CallError::Refused(reason) => StoreReply::Refused(reason),
            why => StoreReply::NoAnswer(why),
        }
    }
}

impl fmt::Display for StoreReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreReply::Accepted { until } => write!(f, "accepted until {}", until.0),
            StoreReply::Refused(reason) => write!(f, "refused: {reason}"),
            StoreReply::NoAnswer(why) => write!(f, "no answer: {why}"),
            StoreReply::Silent => f.write_str("no answer yet"),
        }
    }
}

/// What became of a value: a receipt for each node that was asked to store it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// What each said, those nearest to the key first. The storing node is one of them where
    /// it is among the [`k`](crate::Config::k) nearest.
    pub receipts: Vec<Receipt>,
    /// How many had to accept: [`Config::store_redundancy`](crate::Config::store_redundancy),
    /// or all that were found, if those are fewer; one more than the storing node itself where
    /// it knows others and reaches none.
    pub needed: usize,
    /// Whether the storing node stores it again from now on, every
    /// [`Config::renew_interval`](crate::Config::renew_interval). Not where storing has failed, it
    /// has a life of its own, or there is no room
    /// ([`Config::max_renewed_bytes`](crate::Config::max_renewed_bytes)).
    pub renewed: bool,
    /// What finding those nodes took.
    pub effort: Effort,
}

impl Stored {
    /// Those that have the value, nearest first.
    pub fn accepted(&self) -> impl Iterator<Item = &Contact> {
        let accepted = |receipt: &&Receipt| matches!(receipt.reply, StoreReply::Accepted { .. });
        self.receipts.iter().filter(accepted).map(|receipt| &receipt.contact)
    }

    /// Until when as many nodes keep the value as had to accept it, or all that did, if those
    /// are fewer; at the longest, as in each receipt. `None`: nobody has it.
    pub fn until(&self) -> Option<UnixTime> {
        let until = |receipt: &Receipt| match receipt.reply {
            StoreReply::Accepted { until } => Some(until),
            _ => None,
        };
        let mut all: Vec<UnixTime> = self.receipts.iter().filter_map(until).collect();
        all.sort_unstable();
        // Not the last of all: a single node may say what it likes.
        all.iter().rev().take(self.needed.max(1)).next_back().copied()
    }

    /// Those who refused the value, with their reasons, nearest first.
    pub fn refused(&self) -> impl Iterator<Item = (&Contact, &str)> {
        self.receipts.iter().filter_map(|receipt| match &receipt.reply {
            StoreReply::Refused(reason) => Some((&receipt.contact, reason.as_str())),
            _ => None,
        })
    }
}

/// The counts in a line, and the first refusal.
impl fmt::Display for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (accepted, asked) = (self.accepted().count(), self.receipts.len());
        write!(f, "{accepted} of {asked} nodes took the value, {} had to", self.needed)?;
        if let Some((by, reason)) = self.refused().next() {
            write!(f, "; {} refused it, the first at {}: {reason}", self.refused().count(), by.addr)?;
        }
        let count = |what: fn(&StoreReply) -> bool| self.receipts.iter().filter(|r| what(&r.reply)).count();
        match count(|reply| matches!(reply, StoreReply::NoAnswer(_))) {
            0 => {}
            failed => write!(f, "; {failed} did not answer")?,
        }
        match count(|reply| *reply == StoreReply::Silent) {
            0 => Ok(()),
            silent => write!(f, "; {silent} have not answered yet"),
        }
    }
}

/// The outcome of a lookup of nodes. It is the slice of the nodes in all but name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundNodes {
    /// Those nearest to what was looked for that have answered, nearest first.
    pub nodes: Vec<Contact>,
    /// What it took.
    pub effort: Effort,
}

impl Deref for FoundNodes {
    type Target = [Contact];

    fn deref(&self) -> &[Contact] {
        &self.nodes
    }
}

impl IntoIterator for FoundNodes {
    type Item = Contact;
    type IntoIter = std::vec::IntoIter<Contact>;

    fn into_iter(self) -> Self::IntoIter {
        self.nodes.into_iter()
    }
}

impl<'a> IntoIterator for &'a FoundNodes {
    type Item = &'a Contact;
    type IntoIter = std::slice::Iter<'a, Contact>;

    fn into_iter(self) -> Self::IntoIter {
        self.nodes.iter()
    }
}

/// Values that one node brought, in one answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundValues {
    /// The node; the searching one itself, for what it holds.
    pub by: Contact,
    /// Those that were not reported before, in the order of the answer.
    pub values: Vec<Vec<u8>>,
    /// How many others it brought that were.
    pub known: usize,
}

/// How a search for values ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Search {
    /// What it took.
    pub effort: Effort,
}

/// What a search for values tells, step by step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A node brought values. More may come.
    Values(FoundValues),
    /// All have been asked: nothing more comes.
    End(Search),
}
