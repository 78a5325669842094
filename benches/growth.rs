//! What things cost the more there is of others: pictures of growth.
//!
//! ```sh
//! cargo bench --bench growth
//! cargo bench --bench growth -- lookups --nodes 65536
//! cargo bench --bench growth -- calls timers values
//! cargo bench --bench growth -- --plot
//! ```
//!
//! * `lookups`: looking for the nodes nearest to an id, against the number of nodes (`--nodes`: at most), in
//!   simulated time with full tables: hops, datagrams and what a lookup takes of a processor, the
//!   simulator's share included. 200 lookups at once, of ids that nobody has; then the same once more, when
//!   sessions are open. It is to grow with the logarithm of the number.
//! * `calls`: a ping and its answer between nodes in one engine, against the connections that the asking
//!   node has open.
//! * `timers`: a timer that is armed and cancelled, and one that fires and is armed anew, against
//!   those that are armed.
//! * `values`: storing a value and finding one, against those that a node holds (`--values`: at most), in
//!   memory and in a file without the disk's own sync.
//!
//! All but the first are to be flat. What a processor's caches do not hold costs more, whoever needs it:
//! `memory` is what it costs on this machine to look at one of as many places of 40 bytes, at random.
//!
//! Times are those for which the thread was running. Each part prints a table and then one line of JSON;
//! `--plot` draws a picture of each, too: `benches/growth/*.svg`.

// Benchmarks read the clock.
#![allow(clippy::disallowed_methods)]

#[path = "growth/calls.rs"]
mod calls;
#[path = "../examples/sim/chart.rs"]
mod chart;
#[path = "../tests/support/limits.rs"]
mod limits;
#[path = "growth/lookups.rs"]
mod lookups;
#[path = "growth/timers.rs"]
mod timers;
#[path = "growth/values.rs"]
mod values;
#[path = "../tests/support/vfs.rs"]
mod vfs;

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use chart::{Chart, Scale, Series};
use serde_json::{Value, json};
use vfs::processor;

struct Options {
    parts: Vec<String>,
    nodes: usize,
    values: u64,
    plot: bool,
}

fn options() -> Option<Options> {
    let mut options = Options { parts: vec![], nodes: 16_384, values: 1_000_000, plot: false };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--nodes" => options.nodes = arguments.next()?.parse().ok()?,
            "--values" => options.values = arguments.next()?.parse().ok()?,
            "--plot" => options.plot = true,
            // What cargo adds.
            "--bench" => {}
            "lookups" | "calls" | "timers" | "values" => options.parts.push(argument),
            _ => return None,
        }
    }
    Some(options)
}

fn main() {
    let Some(options) = options() else {
        eprintln!("usage: growth [lookups] [calls] [timers] [values] [--nodes N] [--values N] [--plot]");
        std::process::exit(2);
    };
    vfs::install();
    let begun = Instant::now();
    let wanted = |part: &str| options.parts.is_empty() || options.parts.iter().any(|name| name == part);
    if wanted("lookups") {
        lookups::lookups(options.nodes).told(options.plot);
    }
    if wanted("calls") {
        calls::calls().told(options.plot);
    }
    if wanted("timers") {
        timers::timers().told(options.plot);
    }
    if wanted("values") {
        values::values(options.values).told(options.plot);
    }
    println!("took {} s", begun.elapsed().as_secs());
}

/// What came of a part: for each number of things, some costs.
struct Growth {
    part: &'static str,
    title: &'static str,
    /// What there is more and more of.
    things: &'static str,
    /// Names of the costs, with their units in words that fit on the picture; those that are counts and
    /// not times are only in the table.
    costs: Vec<(String, &'static str)>,
    rows: Vec<(u64, Vec<f64>)>,
}

impl Growth {
    fn told(&self, plot: bool) {
        println!("{}", self.title);
        let width = |name: &str| name.chars().count().max(9);
        print!("{:>11}", self.things);
        for (name, unit) in &self.costs {
            let head = format!("{name}, {unit}");
            print!("  {head:>width$}", width = width(&head));
        }
        println!();
        for (number, costs) in &self.rows {
            print!("{number:>11}");
            for ((name, unit), cost) in self.costs.iter().zip(costs) {
                print!("  {cost:>width$.2}", width = width(&format!("{name}, {unit}")));
            }
            println!();
        }
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|(number, costs)| {
                let costs = self.costs.iter().zip(costs);
                let mut row: serde_json::Map<String, Value> =
                    costs.map(|((name, unit), cost)| (format!("{name}, {unit}"), json!(cost))).collect();
                row.insert(self.things.to_owned(), json!(number));
                Value::Object(row)
            })
            .collect();
        println!("{}\n", json!({ "part": self.part, "rows": rows }));
        if plot {
            self.draw();
        }
    }

    /// One picture for each unit.
    fn draw(&self) {
        let mut units: Vec<&str> = self.costs.iter().map(|(_, unit)| *unit).collect();
        units.dedup();
        for unit in &units {
            let series = self.costs.iter().enumerate().filter(|(_, (_, its))| its == unit);
            let series = series.map(|(at, (name, _))| {
                let points = self.rows.iter().map(|(number, costs)| (*number as f64, costs[at]));
                Series::dotted(name, points.collect())
            });
            let mut series: Vec<Series> = series.collect();
            if self.part == "lookups"
                && let Some((first, costs)) = self.rows.first()
                && let Some(at) = self.costs.iter().rposition(|(_, its)| its == unit)
            {
                let steep = costs[at] / (*first as f64).log2();
                let points = self.rows.iter().map(|(number, _)| (*number as f64, *number as f64));
                let points = points.map(|(x, number)| (x, number.log2() * steep));
                series.push(Series::dashed("as log₂ N grows", points.collect()));
            }
            let chart = Chart {
                title: self.title,
                x: (self.things, Scale::Log(if self.part == "lookups" { 2.0 } else { 10.0 })),
                y: (unit, Scale::Linear),
                series,
            };
            let name = match (units.len(), *unit) {
                (1, _) => format!("{}.svg", self.part),
                (_, "number") => format!("{}-counts.svg", self.part),
                _ => format!("{}-time.svg", self.part),
            };
            let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/growth").join(name);
            fs::write(&path, chart.svg()).expect("a picture that can be written");
        }
    }
}

/// Nanoseconds of a processor for each of `count` times that `act` is done: the least of several runs, for
/// whatever else the machine does makes it only longer.
fn nanoseconds(runs: usize, count: usize, mut act: impl FnMut()) -> f64 {
    let of_one = |_| {
        let begun = processor::of_thread();
        (0..count).for_each(|_| act());
        (processor::of_thread() - begun) * 1e9 / count as f64
    };
    (0..runs).map(of_one).fold(f64::MAX, f64::min)
}
