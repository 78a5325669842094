//! The tables and pictures that are kept with the source.

use std::fs;
use std::path::Path;
use std::time::Instant;

use khashmir::sim::{Report, Scenario};

use crate::picture;

/// Contacts in a bucket, by default.
const K: usize = 8;

/// Runs everything, and writes what came of it: `full.txt`, `sizes.txt` and the pictures.
pub fn write(folder: &Path) -> Result<(), String> {
    let save = |name: &str, text: &str| {
        fs::write(folder.join(name), text).map_err(|why| format!("{}: {why}", folder.join(name).display()))
    };
    let mut reports = Vec::new();
    for (name, _) in Scenario::names().filter(|(name, _)| *name != "large") {
        reports.push(run(name, |_| {})?);
    }
    save("full.txt", &table(&reports))?;
    let like = |names: &[&str]| -> Vec<Report> {
        reports.iter().filter(|report| names.contains(&report.name.as_str())).cloned().collect()
    };
    let shown = like(&["fault-free", "loss-5", "loss-20", "dead-30", "churn-60", "churn-5", "mixture"]);
    save("latency.svg", &picture::latency(&shown))?;
    for report in like(&["churn-day"]) {
        save("values.svg", &picture::values(&report, K))?;
        save("churn-day.txt", &format!("{report}\n"))?;
    }
    // The last two: the same seed once more, and another one.
    let sizes = [(1000, 1), (10_000, 1), (100_000, 1), (100_000, 1), (100_000, 2)];
    let mut reports = Vec::new();
    for (nodes, seed) in sizes {
        reports.push(run("large", |scenario| (scenario.nodes, scenario.seed) = (nodes, seed))?);
    }
    save("sizes.txt", &table(&reports))?;
    save("hops.svg", &picture::hops(&reports[..3], K))
}

fn run(name: &str, change: impl FnOnce(&mut Scenario)) -> Result<Report, String> {
    let mut scenario = Scenario::named(name).ok_or("no such scenario")?;
    change(&mut scenario);
    let began = Instant::now();
    let report = scenario.run().map_err(|why| why.to_string())?;
    eprintln!("{name}, {} nodes: {:.1} s", scenario.nodes, began.elapsed().as_secs_f64());
    Ok(report)
}

fn table(reports: &[Report]) -> String {
    let rows: Vec<String> = std::iter::once(Report::head()).chain(reports.iter().map(Report::row)).collect();
    rows.join("\n") + "\n"
}
