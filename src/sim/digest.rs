//! One number for all that happened.

use sha1::{Digest as _, Sha1};

/// SHA-1 over everything that was sent and everything that came of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Digest(Sha1);

impl Digest {
    pub fn number(&mut self, number: u64) {
        self.0.update(number.to_be_bytes());
    }

    /// Bytes behind their length, so that no two sequences of them look alike.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.update(bytes);
    }

    /// The digest so far, in hexadecimal.
    pub fn text(&self) -> String {
        self.0.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
