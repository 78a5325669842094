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
//! first such row.

#[path = "../tests/support/transfer/mod.rs"]
mod transfer;

use std::time::Instant;

use transfer::lossy;

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

fn main() {
    let Some(options) = options() else {
        eprintln!("usage: transfer [--rows NAME] [--seeds N] [--trace ROW SEED]");
        std::process::exit(2);
    };
    if let Some((name, seed)) = options.trace {
        match lossy::rows().into_iter().find(|row| row.name.contains(&name)) {
            Some(row) => row.trace(seed),
            None => eprintln!("no row is named {name}"),
        }
        return;
    }
    let begun = Instant::now();
    let rows: Vec<_> = lossy::rows().into_iter().filter(|row| row.name.contains(&options.rows)).collect();
    if !rows.is_empty() {
        println!(
            "One way 50 ms, {} seeds, milliseconds until all has arrived\n\n{}",
            options.seeds,
            lossy::head()
        );
        for row in rows {
            println!("{}", row.line(&row.figures(options.seeds)));
        }
        println!();
    }
    println!("took {} ms", begun.elapsed().as_millis());
}
