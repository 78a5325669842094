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

use std::fs;
use std::path::PathBuf;

use khashmir::sim::{Lookups, Report, Scenario, Values};

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
        let brief = Scenario::named("loss-5-brief").expect("a scenario");
        let lookups = Lookups { count: 50, ..brief.lookups };
        Scenario { seed, lookups, values: Values::default(), ..brief }.run().expect("a run").digest
    };
    let digests = [1, 1, 2].map(digest);
    assert_eq!(digests[0], digests[1], "seed 1");
    assert_ne!(digests[0], digests[2], "seeds 1 and 2");
}

// -- the tables of runs that take longer

/// A row of a table, by the names of its columns.
struct Row {
    text: String,
    head: Vec<String>,
}

impl Row {
    fn text(&self, column: &str) -> &str {
        let at = self.head.iter().position(|name| name == column).expect("a column");
        self.text.split_whitespace().nth(at).expect("all columns")
    }

    /// A number, as it stands there.
    fn number(&self, column: &str) -> f64 {
        self.text(column).parse().expect("a number")
    }

    /// How many were found of those that were looked for.
    fn found(&self, column: &str) -> (u64, u64) {
        let (found, tried) = self.text(column).split_once('/').expect("how many of how many");
        (found.parse().expect("a number"), tried.parse().expect("a number"))
    }

    fn assert_found(&self, column: &str, thousandths: u64) {
        let (found, tried) = self.found(column);
        assert!(tried > 0 && found * 1000 >= tried * thousandths, "{column}: {found}/{tried}\n{}", self.text);
    }

    /// Looked up under bad conditions: it takes under six times what half of all take under good ones.
    fn assert_swift(&self, full: &[Row]) {
        let usual = row(full, "fault-free").number("p50");
        assert!(self.number("p99") < 6.0 * usual, "99 % within {} ms\n{}", self.number("p99"), self.text);
    }
}

fn table(name: &str) -> Vec<Row> {
    let path = folder().join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
    let mut lines = text.lines();
    let head: Vec<String> = lines.next().expect("a head").split_whitespace().map(str::to_owned).collect();
    // What stands behind the table explains it.
    let rows = lines.take_while(|line| !line.is_empty());
    rows.map(|line| Row { text: line.to_owned(), head: head.clone() }).collect()
}

fn row<'r>(rows: &'r [Row], scenario: &str) -> &'r Row {
    rows.iter().find(|row| row.text("scenario") == scenario).unwrap_or_else(|| panic!("no row {scenario}"))
}

#[test]
fn without_faults_everything_is_found() {
    let full = table("full.txt");
    for scenario in ["fault-free", "seeded", "regions"] {
        row(&full, scenario).assert_found("found", 1000);
        row(&full, scenario).assert_found("values", 1000);
    }
}

#[test]
fn lookups_find_in_spite_of_losses() {
    let full = table("full.txt");
    for scenario in ["loss-1", "loss-5", "loss-10", "loss-20"] {
        row(&full, scenario).assert_found("found", 999);
        row(&full, scenario).assert_found("values", 999);
        row(&full, scenario).assert_swift(&full);
    }
}

#[test]
fn lookups_find_in_spite_of_dead_contacts() {
    let full = table("full.txt");
    for scenario in ["dead-10", "dead-30"] {
        row(&full, scenario).assert_found("found", 999);
        row(&full, scenario).assert_found("values", 999);
        row(&full, scenario).assert_swift(&full);
    }
}

#[test]
fn lookups_find_while_nodes_come_and_go() {
    let full = table("full.txt");
    row(&full, "churn-60").assert_found("found", 999);
    row(&full, "churn-60").assert_found("values", 999);
    row(&full, "churn-15").assert_found("found", 995);
    row(&full, "churn-5").assert_found("found", 985);
}

#[test]
fn values_stay_for_a_day() {
    let table = table("day.txt");
    let day = row(&table, "churn-day");
    day.assert_found("stored", 1000);
    day.assert_found("values", 999);
    assert!(day.number("B/s") < 300.0, "{} bytes/s per node", day.number("B/s"));
}

#[test]
fn a_partition_heals() {
    let full = table("full.txt");
    for phase in ["before", "healed"] {
        row(&full, &format!("partition/{phase}")).assert_found("found", 999);
    }
    row(&full, "partition/before").assert_found("values", 999);
    // What was stored on one side is handed on within a quarter of an hour.
    row(&full, "partition/healed").assert_found("values", 980);
    row(&full, "partition/apart").assert_found("found", 990);
}

#[test]
fn peers_of_2003_are_found() {
    let full = table("full.txt");
    row(&full, "mixture").assert_found("found", 999);
    row(&full, "mixture").assert_found("values", 999);
}

#[test]
fn large_networks_take_few_hops() {
    let sizes = table("sizes.txt");
    for row in &sizes {
        row.assert_found("found", 1000);
        row.assert_found("values", 1000);
        // One bit a hop is what Kademlia promises; a bucket of 8 is good for more than two.
        assert!(row.number("hops") * 2.0 < row.number("nodes").log2(), "{}", row.text);
    }
    let digests: Vec<&str> =
        sizes.iter().filter(|row| row.text("nodes") == "100000").map(|row| row.text("digest")).collect();
    let [first, again, other] = digests[..] else { panic!("{digests:?}") };
    assert_eq!(first, again, "one seed");
    assert_ne!(first, other, "two seeds");
}
