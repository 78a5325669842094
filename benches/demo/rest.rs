//! Starting and joining; and what it takes to do nothing.

use std::time::Duration;

use serde_json::{Value, json};

use crate::Options;
use crate::measure::Moment;
use crate::network::{Job, Network, choices, others};

/// The size of the network.
pub const NODES: usize = 256;
/// Nodes that join it, one after the other.
const NEWCOMERS: usize = 32;
/// After so long, all that joining has brought up is over.
const SETTLING: Duration = Duration::from_secs(5);

pub fn start(options: &Options) -> Value {
    let mut rng = choices(options.seed);
    let begun = Moment::now();
    let mut network = Network::new(options.seed);
    let first = network.listen();
    let listening = begun.span();
    let from = network.listen();
    network.run([Job::Contact { from, to: first }], 1);
    let answered = begun.span();
    drop(network);

    let mut network = Network::new(options.seed);
    network.join(NODES, &mut rng);
    let mut joining: Vec<_> = (0..NEWCOMERS)
        .map(|_| {
            let begun = Moment::now();
            let from = network.listen();
            let contacts = others(&mut rng, NODES, from).map(|to| Job::Contact { from, to });
            network.run(contacts, contacts.len());
            network.run([Job::Close { from }], 1);
            begun.span()
        })
        .collect();
    joining.sort_by(|a, b| a.wall.total_cmp(&b.wall));
    json!({
        "listening_ms": listening.wall, "answered_ms": answered.wall, "answered_cpu_ms": answered.work,
        "nodes": NODES, "join_median_ms": joining[NEWCOMERS / 2].wall,
        "join_worst_ms": joining[NEWCOMERS - 1].wall,
        "join_cpu_ms": joining.iter().map(|span| span.work).sum::<f64>() / NEWCOMERS as f64,
    })
}

pub fn print_start(row: &Value) {
    let line = |name: &str, key: &str| println!("{name:<46} {:>10.3} ms", row[key].as_f64().unwrap_or(0.0));
    println!("starting");
    line("from nothing to a node that listens", "listening_ms");
    line("  to its answer to another one", "answered_ms");
    line("  CPU of that, both nodes", "answered_cpu_ms");
    line("joining a network of 256: the usual node", "join_median_ms");
    line("  the slowest of 32", "join_worst_ms");
    line("  CPU, all nodes", "join_cpu_ms");
}

pub fn idle(options: &Options) -> Value {
    let mut network = Network::new(options.seed);
    network.join(NODES, &mut choices(options.seed));
    network.rest(SETTLING);
    let (turns, traffic) = (network.turns, network.traffic());
    let span = network.rest(Duration::from_secs(options.seconds));
    let per_node_second = |count: u64| count as f64 / NODES as f64 / (span.wall / 1e3);
    json!({
        "nodes": NODES, "seconds": options.seconds,
        "wakeups_per_node_s": per_node_second(network.turns - turns),
        "datagrams_per_node_s": per_node_second(network.traffic().since(traffic).datagrams),
        "cpu_percent": 100.0 * span.work / span.wall,
    })
}

pub fn print_idle(row: &Value) {
    let number = |name: &str| row[name].as_f64().unwrap_or(f64::NAN);
    println!("{} nodes idle for {} s", row["nodes"], row["seconds"]);
    println!("{:<46} {:>10.4}", "wake-ups per node and second", number("wakeups_per_node_s"));
    println!("{:<46} {:>10.4}", "datagrams per node and second", number("datagrams_per_node_s"));
    println!("{:<46} {:>10.4} %", "of a processor, all nodes together", number("cpu_percent"));
}
