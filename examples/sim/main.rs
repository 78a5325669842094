//! Runs a network in simulated time, and reports how it did.

// It measures how long things take.
#![allow(clippy::disallowed_methods)]

mod chart;
mod json;
mod memory;
mod options;
mod picture;
mod results;

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use khashmir::sim::{Report, Scenario};

use options::Options;

fn main() -> ExitCode {
    let options = Options::parse();
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("error")).init();
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("sim: {why}");
            ExitCode::from(2)
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    if options.list {
        for (name, what) in Scenario::names() {
            println!("{name:15} {what}");
        }
        return Ok(());
    }
    if let Some(folder) = &options.write_results {
        return results::write(folder, &options.part);
    }
    let scenario = options.scenario()?;
    let of_size = |nodes| Scenario { nodes, ..scenario.clone() };
    let scenarios: Vec<Scenario> = options.sizes(&scenario).into_iter().map(of_size).collect();
    for scenario in &scenarios {
        scenario.validate().map_err(|why| why.to_string())?;
    }
    // What cannot be written is better known before than after an hour.
    if let Some(folder) = &options.svg {
        fs::create_dir_all(folder).map_err(|why| format!("{}: {why}", folder.display()))?;
    }
    if let Some(file) = options.json.as_deref().filter(|file| *file != Path::new("-")) {
        let opened = OpenOptions::new().create(true).append(true).open(file);
        opened.map_err(|why| format!("{}: {why}", file.display()))?;
    }
    let mut reports = Vec::new();
    for scenario in &scenarios {
        reports.push(one(scenario, options)?);
    }
    if let Some(file) = &options.json {
        let text = json::reports(&reports);
        if file == Path::new("-") {
            println!("{text}");
        } else {
            fs::write(file, text).map_err(|why| format!("{}: {why}", file.display()))?;
        }
    }
    if let Some(folder) = &options.svg {
        picture::draw_all(folder, &reports, scenario.config.k)
            .map_err(|why| format!("{}: {why}", folder.display()))?;
    }
    Ok(())
}

/// Runs a scenario and prints what came of it, and what it took.
fn one(scenario: &Scenario, options: &Options) -> Result<Report, String> {
    let before = memory::resident();
    let began = Instant::now();
    let report = scenario.run().map_err(|why| why.to_string())?;
    let took = began.elapsed();
    if options.json.as_deref() == Some(Path::new("-")) {
        // Nothing but JSON is to be there.
    } else if options.row {
        println!("{}", report.row());
    } else {
        let nodes = u64::from(report.nodes);
        println!("repeat it with: {}", options.command(scenario));
        println!(
            "it took {:.1} s, {} µs for each node; {:.1} virtual hours a minute",
            took.as_secs_f64(),
            took.as_micros() as u64 / nodes,
            report.span as f64 / 60e6 / took.as_secs_f64(),
        );
        if let (Some(before), Some(most)) = (before, memory::most_resident()) {
            let each = most.saturating_sub(before) / nodes;
            println!("it had up to {} MiB of memory: {each} bytes more for each node", most >> 20);
        }
        println!("{report}");
    }
    Ok(report)
}
