//! Whole networks on one thread: what joining, lookups, stores and gets take.
//!
//! ```sh
//! cargo bench --bench demo
//! cargo bench --bench demo -- work --nodes 64,256
//! cargo bench --bench demo -- start idle --seconds 60
//! ```
//!
//! All nodes of a network are in one process and on one thread, each with a UDP socket of its own on
//! 127.0.0.1 and its store in memory. Each network is in a process of its own.
//!
//! * `work`: the job of the script that came with the Khashmir of 2003, at 24, 64, 256 and 1,000 nodes.
//!   Each node contacts three others at random, then each finds its neighbours, 32 at a time. Then, one
//!   after the other, lookups: `find_node` for the id of an existing node, by another one, both at random;
//!   it ends when the nodes nearest to that id are known. Then 200 rounds: a node stores 20 bytes under a
//!   new key, and when that is done three others look for it at the same time. At last one node looks for
//!   what was stored, 64 gets at a time. `missed`: what
//!   was not found.
//!   `CPU`: what the whole process took of a processor, the system's share included, with all nodes at
//!   both ends of each datagram. Requests, datagrams and bytes are those sent by all nodes together. Each
//!   per operation, each round being one. `memory`: how much the process has grown per node since before
//!   the first one was there, SQLite included.
//! * `start`: how long it takes from nothing to a node that answers another one's request, and how long
//!   for one more node to be in a network of 256: until it knows its neighbours.
//! * `idle`: how much of a processor a network of 256 nodes takes that nobody asks for anything, and how
//!   often its loop wakes up, per node and second.
//!
//! Each part prints a table and then one line of JSON. On a machine that has other things to do, the
//! processor's time is the surer one.

// Benchmarks read the clock.
#![allow(clippy::disallowed_methods)]

#[path = "demo/measure.rs"]
mod measure;
#[path = "demo/network.rs"]
mod network;
#[path = "demo/rest.rs"]
mod rest;
#[path = "demo/work.rs"]
mod work;

use std::process::{Command, exit};
use std::time::Instant;

use clap::Parser;
use serde_json::{Value, json};

/// What whole networks on this machine take: joining, lookups, stores and gets; starting; standing idle.
#[derive(Parser)]
#[command(name = "demo")]
struct Options {
    /// Which parts to run; all when none is named.
    #[arg(value_enum, value_name = "PART")]
    parts: Vec<Part>,

    /// Sizes of the networks that `work` tries.
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values_t = [24, 64, 256, 1000])]
    nodes: Vec<usize>,

    /// How many lookups `work` does in each.
    #[arg(long, value_name = "NUMBER", default_value_t = 1000)]
    lookups: usize,

    /// How many rounds of a store and three gets.
    #[arg(long, value_name = "NUMBER", default_value_t = 200)]
    rounds: usize,

    /// How many gets by one node, 64 at a time.
    #[arg(long, value_name = "NUMBER", default_value_t = 10_000)]
    gets: usize,

    /// For how many seconds `idle` looks on.
    #[arg(long, value_name = "NUMBER", default_value_t = 20)]
    seconds: u64,

    /// The seed of all random choices.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,

    /// Does one network's part in this process, and prints nothing but JSON.
    #[arg(long, hide = true)]
    here: bool,

    /// What cargo adds.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Work,
    Start,
    Idle,
}

fn main() {
    let options = Options::parse();
    if options.nodes.iter().any(|&nodes| nodes < 4) {
        eprintln!("demo: a node contacts three others, so there are to be four at least");
        exit(2);
    }
    if options.here {
        for part in &options.parts {
            let result = match part {
                Part::Work => work::one(options.nodes[0], &options),
                Part::Start => rest::start(&options),
                Part::Idle => rest::idle(&options),
            };
            println!("{result}");
        }
        return;
    }
    let begun = Instant::now();
    let wanted = |part| options.parts.is_empty() || options.parts.contains(&part);
    if wanted(Part::Work) {
        let rows: Vec<Value> =
            options.nodes.iter().map(|&nodes| in_a_process("work", nodes, &options)).collect();
        work::print(&rows);
        told("work", rows);
    }
    if wanted(Part::Start) {
        let row = in_a_process("start", rest::NODES, &options);
        rest::print_start(&row);
        told("start", vec![row]);
    }
    if wanted(Part::Idle) {
        let row = in_a_process("idle", rest::NODES, &options);
        rest::print_idle(&row);
        told("idle", vec![row]);
    }
    println!("took {} s", begun.elapsed().as_secs());
}

fn told(part: &str, rows: Vec<Value>) {
    println!("{}\n", json!({ "part": part, "rows": rows }));
}

/// Does a part in a process that has done nothing else, so that its memory is that part's.
fn in_a_process(part: &str, nodes: usize, options: &Options) -> Value {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--here", part, "--nodes", &nodes.to_string(), "--seed", &options.seed.to_string()]);
    command.args(["--lookups", &options.lookups.to_string(), "--rounds", &options.rounds.to_string()]);
    command.args(["--gets", &options.gets.to_string(), "--seconds", &options.seconds.to_string()]);
    let output = command.output().expect("a process");
    if !output.status.success() {
        eprintln!("demo: {part} with {nodes} nodes:\n{}", String::from_utf8_lossy(&output.stderr));
        exit(1);
    }
    serde_json::from_slice(&output.stdout).expect("a line of JSON")
}
