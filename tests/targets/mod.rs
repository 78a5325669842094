//! What a fuzzer does with its bytes: a function for each target. `tests/fuzz` runs them with
//! bytes that it makes up, `tests/corpus.rs` with those that it found to be of use.
#![allow(dead_code)]

mod ends;
mod formats;
mod hostile;
mod pair;
mod script;
mod stream;

pub use formats::{bencode, krpc, packet};
pub use hostile::hostile;
pub use pair::pair;
pub use stream::stream;

/// A target.
pub type Target = fn(&[u8]);

/// All of them, by their names.
pub const ALL: [(&str, Target); 6] = [
    ("packet", packet),
    ("stream", stream),
    ("bencode", bencode),
    ("krpc", krpc),
    ("pair", pair),
    ("hostile", hostile),
];
