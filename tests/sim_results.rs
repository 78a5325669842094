//! What a thousand nodes do under bad conditions, held against what they did when the tables in
//! `tests/results` were written: runs are deterministic, so nothing may differ.
//!
//! After a change that is meant, write the tables anew and look at the differences:
//!
//! ```sh
//! KHASHMIR_RESULTS=write cargo test --test sim_results
//! cargo run --release --features sim --example sim -- --write-results tests/results
//! ```
//!
//! The first writes the tables of brief runs, one for each test here. The second writes
//! what takes longer, 24 hours of churn among it, and the pictures; of that, the tests here check that
//! it is good enough.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use khashmir::sim::{Report, Scenario};

/// Runs these scenarios, the brief forms of them, and holds the table of that name against what came of them.
fn compare(table: &str, scenarios: &[&str]) {
    let path = folder().join("brief").join(format!("{table}.txt"));
    let mut rows = vec![Report::head()];
    let mut commands = Vec::new();
    for name in scenarios {
        let scenario = Scenario::named(&format!("{name}-brief")).expect("a scenario");
        rows.push(scenario.run().expect("a run").row());
        commands.push(scenario.command());
    }
    let found = rows.join("\n") + "\n";
    if std::env::var("KHASHMIR_RESULTS").is_ok_and(|what| what == "write") {
        fs::write(&path, &found).expect("a table that can be written");
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "{} is no longer what comes of it (seed 1). It was\n{expected}and is\n{found}To repeat it:\n{}\n\
         If that is as it should be: KHASHMIR_RESULTS=write cargo test --test sim_results",
        path.display(),
        commands.join("\n"),
    );
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/results")
}

#[test]
fn losses() {
    compare("loss", &["fault-free", "loss-1", "loss-5", "loss-10", "loss-20"]);
}

#[test]
fn dead_contacts() {
    compare("dead", &["dead-10", "dead-30"]);
}

#[test]
fn churn() {
    compare("churn", &["churn-60", "churn-15", "churn-5"]);
}

#[test]
fn partition() {
    compare("partition", &["partition"]);
}

#[test]
fn mixture() {
    compare("mixture", &["mixture"]);
}

#[test]
fn another_seed_another_digest() {
    let digest = |seed| {
        let scenario = Scenario { seed, ..Scenario::named("loss-5-brief").expect("a scenario") };
        scenario.run().expect("a run").digest
    };
    let digests = [1, 1, 2].map(digest);
    assert_eq!(digests[0], digests[1], "seed 1");
    assert_ne!(digests[0], digests[2], "seeds 1 and 2");
}
