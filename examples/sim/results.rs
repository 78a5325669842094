//! The tables and pictures that are kept with the source.

use std::fs;
use std::path::Path;
use std::time::Instant;

use clap::ValueEnum;
use khashmir::sim::{Report, Scenario};

use crate::picture;

/// Contacts in a bucket, by default.
const K: usize = 8;

/// What takes its own time.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// 1,000 nodes under each of the conditions: `full.txt`, `latency.svg`.
    Full,
    /// Networks of different sizes, the largest ones three times, twice with the same seed: `sizes.txt`,
    /// `hops.svg`.
    Sizes,
    /// 24 hours in which nodes come and go: `day.txt`, `values.svg`.
    Day,
}

/// Runs these parts, or all, and writes what came of it.
pub fn write(folder: &Path, parts: &[Part]) -> Result<(), String> {
    fs::create_dir_all(folder).map_err(|why| format!("{}: {why}", folder.display()))?;
    let parts = if parts.is_empty() { Part::value_variants() } else { parts };
    let save = |name: &str, text: &str| {
        fs::write(folder.join(name), text).map_err(|why| format!("{}: {why}", folder.join(name).display()))
    };
    for part in parts {
        match part {
            Part::Full => {
                let mut reports = Vec::new();
                for (name, _) in Scenario::names().filter(|(name, _)| !matches!(*name, "large" | "churn-day"))
                {
                    reports.push(run(name, |_| {})?);
                }
                save("full.txt", &table(&reports))?;
                let names = ["fault-free", "loss-5", "loss-20", "dead-30", "churn-60", "churn-5", "mixture"];
                reports.retain(|report| names.contains(&report.name.as_str()));
                save("latency.svg", &picture::latency(&reports))?;
            }
            Part::Sizes => {
                let sizes = [(1000, 1), (10_000, 1), (100_000, 1), (100_000, 1), (100_000, 2)];
                let mut reports = Vec::new();
                for (nodes, seed) in sizes {
                    reports.push(run("large", |scenario| (scenario.nodes, scenario.seed) = (nodes, seed))?);
                }
                save("sizes.txt", &table(&reports))?;
                save("hops.svg", &picture::hops(&reports[..3], K))?;
            }
            Part::Day => {
                let day = run("churn-day", |_| {})?;
                save("values.svg", &picture::values(&day, K))?;
                save("day.txt", &format!("{}\n{day}\n", table(std::slice::from_ref(&day))))?;
            }
        }
    }
    Ok(())
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
