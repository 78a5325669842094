//! Transfers over model networks, in virtual time: how long they take on bad ones, and how they share
//! full ones. The tables are the same in each run.
//!
//! ```sh
//! cargo bench --bench transfer
//! cargo bench --bench transfer -- --rows "64 KiB" --seeds 20
//! cargo bench --bench transfer -- --trace "64 KiB, 5 %" 7
//! ```
//!
//! `--rows` takes those whose name contains the text; `--trace` prints every datagram of one run of the
//! first such row. A full line is judged by a tenth of the seeds.

// Only to say how long it took.
#![allow(clippy::disallowed_methods)]

#[path = "../tests/support/transfer/mod.rs"]
mod transfer;

use std::time::Instant;

use transfer::{calls, lossy, outage, shared};

struct Options {
    rows: String,
    seeds: u64,
    trace: Option<(String, u64)>,
}

fn options() -> Option<Options> {
    let mut options = Options { rows: String::new(), seeds: 100, trace: None };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--rows" => options.rows = arguments.next()?,
            "--seeds" => options.seeds = arguments.next()?.parse().ok()?,
            "--trace" => options.trace = Some((arguments.next()?, arguments.next()?.parse().ok()?)),
            // What cargo adds.
            "--bench" => {}
            _ => return None,
        }
    }
    Some(options)
}

fn trace(name: &str, seed: u64) {
    if let Some(row) = lossy::rows().into_iter().find(|row| row.name.contains(name)) {
        row.trace(seed);
    } else if let Some(row) = calls::rows().into_iter().find(|row| row.name.contains(name)) {
        row.trace(seed);
    } else if let Some(row) = outage::rows().into_iter().find(|row| row.name.contains(name)) {
        row.trace(seed);
    } else if let Some(row) = shared::rows().into_iter().find(|row| row.name.contains(name)) {
        row.trace(seed);
    } else {
        eprintln!("no row is named {name}");
    }
}

/// A table, if there is anything in it.
fn table(title: &str, head: &str, lines: impl Iterator<Item = String>) {
    let mut lines = lines.peekable();
    if lines.peek().is_some() {
        println!("{title}\n\n{head}");
        lines.for_each(|line| println!("{line}"));
        println!();
    }
}

fn main() {
    let Some(Options { rows, seeds, trace: traced }) = options() else {
        eprintln!("usage: transfer [--rows NAME] [--seeds N] [--trace ROW SEED]");
        std::process::exit(2);
    };
    if let Some((name, seed)) = traced {
        return trace(&name, seed);
    }
    let begun = Instant::now();
    let wanted = |name: &str| name.contains(&rows);
    table(
        &format!("50 ms one way, {seeds} seeds: ms until all has arrived, datagrams, bytes repeated"),
        &lossy::head(),
        lossy::rows().into_iter().filter(|row| wanted(row.name)).map(|row| row.line(&row.figures(seeds))),
    );
    table(
        "200 calls, one after another: ms, and datagrams for each",
        &calls::head(),
        calls::rows().into_iter().filter(|row| wanted(row.name)).map(|row| row.line(seeds.div_ceil(10))),
    );
    table(
        "The network is out for 30 s",
        &outage::head(),
        outage::rows().into_iter().filter(|row| wanted(row.name)).map(|row| row.line(seeds)),
    );
    table(
        "A full line for 60 s",
        "",
        shared::rows().into_iter().filter(|row| wanted(row.name)).map(|row| row.report(seeds.div_ceil(20))),
    );
    println!("took {} ms", begun.elapsed().as_millis());
}
