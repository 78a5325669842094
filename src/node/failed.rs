//! Contacts whose calls have failed, for a while.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use crate::contact::Contact;
use crate::time::Time;

/// How many are remembered.
const MOST: usize = 64;
/// For how long: others who know them have found out by then, or they are back.
const SPAN: Duration = Duration::from_secs(5 * 60);

/// A bounded memory of contacts that did not answer, 16 bytes each.
#[derive(Debug, Default)]
pub struct FailedContacts {
    /// A name of each, and when it is forgotten, in seconds; the oldest first.
    entries: Vec<(u64, u32)>,
}

impl FailedContacts {
    /// A call to this contact has failed.
    pub fn note(&mut self, contact: &Contact, now: Time) {
        self.note_for(contact, now, SPAN);
    }

    /// The same of anything else that has failed, to be remembered for so long.
    pub fn note_for(&mut self, what: &impl Hash, now: Time, span: Duration) {
        let seconds = seconds(now);
        let name = name(what);
        self.entries.retain(|&(other, until)| other != name && until > seconds);
        if self.entries.len() >= MOST {
            self.entries.remove(0);
        }
        self.entries.push((name, seconds.saturating_add(u32::try_from(span.as_secs()).unwrap_or(u32::MAX))));
    }

    /// It has answered.
    pub fn forget(&mut self, contact: &Contact) {
        if !self.entries.is_empty() {
            let name = name(contact);
            self.entries.retain(|&(other, _)| other != name);
            if self.entries.is_empty() {
                self.clear();
            }
        }
    }

    /// Whether a call to it has failed a short time ago, and none has been answered since.
    pub fn has(&self, what: &impl Hash, now: Time) -> bool {
        if self.entries.is_empty() {
            return false;
        }
        let (name, seconds) = (name(what), seconds(now));
        self.entries.iter().any(|&(other, until)| other == name && until > seconds)
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.entries = Vec::new();
    }
}

/// Seconds on the core's clock, for 136 years.
fn seconds(now: Time) -> u32 {
    u32::try_from(now.as_micros() / 1_000_000).unwrap_or(u32::MAX)
}

/// A short name. That of another contact is the same once in 2⁶⁴, and then that one is not
/// asked for a while.
fn name(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}
