//! Joining, lookups, stores and gets.

use khashmir::Id;
use rand::RngExt;
use serde_json::{Value, json};

use crate::Options;
use crate::measure::{Span, resident};
use crate::network::{CONTACTS_EACH, Job, Network, Traffic, choices, others};

/// Gets that one node has under way.
const AT_ONCE: usize = 64;

/// All that a network of so many nodes is made to do.
pub fn one(count: usize, options: &Options) -> Value {
    let mut rng = choices(options.seed);
    let mut network = Network::new(options.seed);
    let before = resident();
    let mut phases = Vec::new();
    let mut sent = Traffic::default();

    let [contacts, close] = network.join(count, &mut rng);
    let joined = resident();
    let traffic = network.traffic();
    // What the two sent is told together: it is counted node by node, which takes time.
    let joining = Span { wall: contacts.wall + close.wall, work: contacts.work + close.work };
    phases.push(phase("join", count, joining, traffic.since(sent), network.missed()));
    sent = traffic;

    let lookups: Vec<Job> = (0..options.lookups)
        .map(|_| {
            let from = rng.random_range(0..count);
            Job::Find { from, to: others(&mut rng, count, from)[0] }
        })
        .collect();
    let span = network.run(lookups, 1);
    let traffic = network.traffic();
    phases.push(phase("lookup", options.lookups, span, traffic.since(sent), network.missed()));
    sent = traffic;

    let mut stored = Vec::new();
    let (mut stores, mut gets) = (Span::default(), Span::default());
    for _ in 0..options.rounds {
        let (key, value) = (Id::random(&mut rng), *Id::random(&mut rng).as_bytes());
        let from = rng.random_range(0..count);
        let searchers = others(&mut rng, count, from);
        stores += network.run([Job::Store { from, key, value }], 1);
        gets += network.run(searchers.map(|from| Job::Get { from, key, value }), CONTACTS_EACH);
        stored.push((key, value));
    }
    let traffic = network.traffic();
    let both = Span { wall: stores.wall + gets.wall, work: stores.work + gets.work };
    phases.push(phase("store, 3 gets", options.rounds, both, traffic.since(sent), network.missed()));
    phases.push(phase("of it, store", options.rounds, stores, Traffic::default(), network.missed()));
    sent = traffic;

    let mut rates = None;
    if !stored.is_empty() {
        let wanted = stored.into_iter().cycle().take(options.gets);
        let span = network.run(wanted.map(|(key, value)| Job::Get { from: 0, key, value }), AT_ONCE);
        phases.push(phase(
            "64 gets at once",
            options.gets,
            span,
            network.traffic().since(sent),
            network.missed(),
        ));
        rates = Some([span.wall, span.work].map(|ms| (options.gets as f64 / ms * 1e3).round()));
    }

    let per_node = |now: u64| now.saturating_sub(before) / count as u64;
    json!({
        "nodes": count, "phases": phases,
        "gets_per_s": rates.map(|rates| rates[0]), "gets_per_cpu_s": rates.map(|rates| rates[1]),
        "bytes_per_node_joined": per_node(joined), "bytes_per_node_at_end": per_node(resident()),
        "process_bytes_joined": joined,
    })
}

/// What a phase took, per operation.
fn phase(name: &str, operations: usize, took: Span, traffic: Traffic, missed: usize) -> Value {
    let each = |sum: f64| rounded(sum / operations.max(1) as f64);
    json!({
        "phase": name, "operations": operations, "missed": missed,
        "cpu_ms": each(took.work), "wall_ms": each(took.wall),
        "requests": each(traffic.requests as f64), "datagrams": each(traffic.datagrams as f64),
        "bytes": each(traffic.bytes as f64),
    })
}

/// To the microsecond, where it is one of milliseconds.
fn rounded(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

pub fn print(rows: &[Value]) {
    println!("per operation, all nodes together");
    println!(
        "{:>6} {:<16} {:>6} {:>7} {:>10} {:>10} {:>9} {:>9} {:>9}",
        "nodes", "", "of", "missed", "CPU ms", "wall ms", "requests", "datagrams", "bytes"
    );
    for row in rows {
        for phase in row["phases"].as_array().into_iter().flatten() {
            let number = |name: &str| phase[name].as_f64().unwrap_or(f64::NAN);
            print!("{:>6} {:<16} ", row["nodes"].to_string(), phase["phase"].as_str().unwrap_or(""));
            print!("{:>6} {:>7} ", phase["operations"].to_string(), phase["missed"].to_string());
            print!("{:>10.3} {:>10.3} ", number("cpu_ms"), number("wall_ms"));
            if number("datagrams") > 0.0 {
                let [requests, datagrams] = ["requests", "datagrams"].map(number);
                print!("{requests:>9.1} {datagrams:>9.1} {:>9.0}", number("bytes"));
            }
            println!();
        }
    }
    println!();
    println!(
        "{:>6} {:>10} {:>12} {:>16} {:>14} {:>16}",
        "nodes", "gets/s", "gets/CPU s", "kB/node joined", "kB/node at end", "MB in all joined"
    );
    for row in rows {
        let number = |name: &str| row[name].as_f64().unwrap_or(f64::NAN);
        println!(
            "{:>6} {:>10.0} {:>12.0} {:>16.1} {:>14.1} {:>16.1}",
            row["nodes"].to_string(),
            number("gets_per_s"),
            number("gets_per_cpu_s"),
            number("bytes_per_node_joined") / 1e3,
            number("bytes_per_node_at_end") / 1e3,
            number("process_bytes_joined") / 1e6,
        );
    }
}
