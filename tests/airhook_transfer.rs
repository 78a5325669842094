//! How long transfers take on bad networks, and how they share a full line, held against
//! `tests/results/airhook.txt`: all goes by virtual time, so nothing may differ.
//!
//! After a change that is meant, write the file anew and look at the differences:
//!
//! ```sh
//! KHASHMIR_RESULTS=write cargo test --test airhook_transfer
//! ```
//!
//! `cargo bench --bench transfer` runs more seeds, for longer, and can show every datagram.

#[path = "support/transfer/mod.rs"]
mod transfer;

use std::fs;
use std::path::Path;

use transfer::report::{Extent, tables};

#[test]
fn transfers_take_as_long_as_they_did() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/results/airhook.txt");
    let mut found = String::new();
    tables("", &Extent::brief(), |line| {
        found.push_str(line);
        found.push('\n');
    });
    let missed: Vec<&str> =
        found.lines().filter(|line| ["MISSED", "STUCK"].iter().any(|mark| line.contains(mark))).collect();
    assert!(missed.is_empty(), "\n{}", missed.join("\n"));
    if std::env::var("KHASHMIR_RESULTS").is_ok_and(|what| what == "write") {
        fs::write(&path, &found).expect("a table that can be written");
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "{} is no longer what comes of it. It was\n{expected}and is\n{found}\
         If that is as it should be: KHASHMIR_RESULTS=write cargo test --test airhook_transfer",
        path.display(),
    );
}
