//! Reports as JSON.

use khashmir::sim::{Depth, Report, Sample, Tally, Traffic};
use serde_json::{Value, json};

/// All of them, in a list.
pub fn reports(reports: &[Report]) -> String {
    let all: Vec<Value> = reports.iter().map(report).collect();
    format!("{:#}", Value::from(all))
}

fn report(report: &Report) -> Value {
    let phases = report.phases.iter().map(|phase| {
        json!({
            "name": phase.name,
            "lookups": tally(&phase.lookups),
            "searches": tally(&phase.searches),
        })
    });
    json!({
        "name": report.name,
        "seed": report.seed,
        "nodes": report.nodes,
        "span_micros": report.span,
        "round_trip_micros": report.round_trip,
        "joins": tally(&report.joins),
        "phases": phases.collect::<Vec<_>>(),
        "stores": tally(&report.stores),
        "crashed": report.crashed,
        "idle": traffic(&report.idle),
        "busy": traffic(&report.busy),
        "looking": report.looking.as_ref().map(traffic),
        "hundredths_of_datagrams_per_lookup": report.per_lookup().map(|(datagrams, _)| datagrams),
        "hundredths_of_bytes_per_lookup": report.per_lookup().map(|(_, bytes)| bytes),
        "samples": report.samples.iter().map(sample).collect::<Vec<_>>(),
        "tables": report.tables,
        "table": report.table.iter().map(depth).collect::<Vec<_>>(),
        "digest": report.digest,
    })
}

fn tally(tally: &Tally) -> Value {
    json!({
        "tried": tally.tried,
        "found": tally.found,
        "void": tally.void,
        "asked": tally.asked,
        "failed": tally.failed,
        "hops": tally.hops,
        "latency_micros": {
            "median": tally.latency(500),
            "90 %": tally.latency(900),
            "99 %": tally.latency(990),
            "99.9 %": tally.latency(999),
            "max": tally.latency(1000),
        },
    })
}

fn traffic(traffic: &Traffic) -> Value {
    json!({
        "datagrams": traffic.datagrams,
        "bytes": traffic.bytes,
        "span_micros": traffic.span,
        "hundredths_of_bytes_per_node_and_second": traffic.bytes_per_second(),
    })
}

fn sample(sample: &Sample) -> Value {
    json!({
        "at_micros": sample.at,
        "nodes": sample.nodes,
        "stored": sample.stored,
        "copies": sample.copies,
        "searched": sample.searched,
        "found": sample.found,
        "datagrams": sample.datagrams,
        "bytes": sample.bytes,
    })
}

fn depth(depth: &Depth) -> Value {
    json!({ "contacts": depth.contacts, "dead": depth.dead, "room": depth.room })
}
