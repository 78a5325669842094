//! The summary.

use std::time::Duration;

use khashmir::Config;

use crate::network::{Network, Phase};
use crate::show::say;

/// Peers, and the seconds in which the original of 2003 had them all find their
/// close nodes, when nothing was lost.
const ORIGINAL: [(usize, f64); 2] = [(24, 0.10), (64, 0.37)];

/// How long it took to find close nodes, and how long it used to.
pub fn beside_2003(peers: usize, loss: f64, phase: &Phase) -> String {
    let took = phase.took.as_secs_f64();
    let known = ORIGINAL.iter().find(|(count, _)| *count == peers && loss == 0.0);
    let original = match known {
        Some((_, seconds)) => format!("{seconds} s"),
        None if loss > 0.0 => "24 peers, 1 % lost: four to six minutes".into(),
        None => ORIGINAL.map(|(count, seconds)| format!("{count} peers in {seconds} s")).join(", "),
    };
    let found = phase.found;
    format!("{found} peers found their close nodes in {took:.3} s (the original of 2003: {original})")
}

/// Prints the summary of all phases.
pub fn print(phases: &[Phase], network: &Network) {
    say!("");
    say!(
        "{:22} {:>11} {:>10} {:>10} {:>10} {:>10} {:>10}",
        "",
        "found/tried",
        "median",
        "worst",
        "requests",
        "datagrams",
        "bytes"
    );
    for phase in phases {
        let Phase { name, tried, found, traffic, .. } = phase;
        let mut latencies = phase.latencies.clone();
        latencies.sort();
        let median = latencies.get(latencies.len() / 2).copied().unwrap_or_default();
        let worst = latencies.last().copied().unwrap_or_default();
        let each = |sum: u64| sum as f64 / (*tried).max(1) as f64;
        say!(
            "{name:22} {:>11} {:>10} {:>10} {:>10.1} {:>10.1} {:>10.0}",
            format!("{found}/{tried}"),
            milliseconds(median),
            milliseconds(worst),
            each(traffic.requests),
            each(traffic.datagrams),
            each(traffic.bytes),
        );
    }
    say!("(requests, datagrams and bytes: sent by all peers, per operation. A value takes a request to each");
    say!(
        "of the {} nodes nearest to its key beside those that lead there; a peer, only the latter)",
        Config::default().k
    );
    say!("");
    let counts = network.contact_counts();
    let mean = counts.iter().sum::<usize>() as f64 / counts.len().max(1) as f64;
    let (min, max) = (counts.iter().min().unwrap_or(&0), counts.iter().max().unwrap_or(&0));
    say!("contacts per node      min {min}, mean {mean:.1}, max {max}");
    match (network.memory_per_peer(), network.memory()) {
        (Some(each), Some(all)) => {
            let (each, all) = (each as f64 / 1024.0, all as f64 / 1024.0 / 1024.0);
            say!("memory per node        {each:.1} KiB (the whole process: {all:.1} MiB)");
        }
        _ => say!("memory per node        n/a"),
    }
    let missed: usize = phases.iter().map(|phase| phase.tried - phase.found).sum();
    match missed {
        0 => say!("everything was found"),
        _ => say!("{missed} operations FAILED"),
    }
}

/// What it took to stand idle.
pub fn idle(seconds: u64, worked: Option<Duration>) -> String {
    match worked {
        Some(worked) => {
            let share = 100.0 * worked.as_secs_f64() / seconds as f64;
            format!("idle for {seconds} s          {share:.2} % of a processor")
        }
        None => format!("idle for {seconds} s          n/a"),
    }
}

fn milliseconds(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1000.0)
}
