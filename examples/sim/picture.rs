//! Pictures of what came of it.

use std::fs;
use std::io;
use std::path::Path;

use khashmir::sim::{Report, Tally};

use crate::chart::{Chart, Scale, Series};

/// Draws all that there is to be drawn.
pub fn draw_all(folder: &Path, reports: &[Report], k: usize) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    if reports.iter().any(|report| report.nodes != reports[0].nodes) {
        fs::write(folder.join("hops.svg"), hops(reports, k))?;
    }
    fs::write(folder.join("latency.svg"), latency(reports))?;
    for report in reports.iter().filter(|report| report.samples.len() > 1) {
        let name = if reports.len() == 1 { String::new() } else { format!("-{}", report.nodes) };
        fs::write(folder.join(format!("values{name}.svg")), values(report, k))?;
    }
    Ok(())
}

/// Hops against the size of the network.
///
/// Kademlia (section 3) promises one bit nearer with each hop at least: log2 N. But a node names the
/// nearest of the K in its bucket, and of K distances that are uniform the least is smaller by e^(H_K) on
/// average (of the logarithm), where H_K = 1 + 1/2 + … + 1/K: that makes ln N / H_K hops. (That it is
/// c log N, with a c that depends on K alone, is proved in Cai and Devroye, *The analysis of Kademlia for
/// random IDs*, 2014.) A lookup that asks several at a time goes on with the best of their answers, and
/// needs fewer.
pub fn hops(reports: &[Report], k: usize) -> String {
    let mut sizes: Vec<u32> = reports.iter().map(|report| report.nodes).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let against = |hops: &dyn Fn(f64) -> f64| -> Vec<(f64, f64)> {
        sizes.iter().map(|&nodes| (f64::from(nodes), hops(f64::from(nodes)))).collect()
    };
    let measured = |hops: &dyn Fn(&Tally) -> f64| -> Vec<(f64, f64)> {
        let mut all: Vec<_> =
            reports.iter().map(|report| (f64::from(report.nodes), hops(&report.lookups()))).collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        all
    };
    let harmonic: f64 = (1..=k).map(|i| 1.0 / i as f64).sum();
    Chart {
        title: "Hops of a lookup",
        x: ("nodes", Scale::Log(10.0)),
        y: ("hops", Scale::Linear),
        series: vec![
            Series::dashed("log₂ N: one bit a hop", against(&|nodes| nodes.log2())),
            Series::dashed(&format!("ln N / H_K, K = {k}"), against(&|nodes| nodes.ln() / harmonic)),
            Series::dotted("99 % of lookups", measured(&|tally| tally.hops(990) as f64)),
            Series::dotted("mean", measured(&|tally| tally.mean_hops() as f64 / 100.0)),
        ],
    }
    .svg()
}

/// How many lookups have ended after so many round trips.
pub fn latency(reports: &[Report]) -> String {
    let series = reports.iter().map(|report| {
        let tally = report.lookups();
        let name = format!("{}, {} nodes", report.name, report.nodes);
        let trip = report.round_trip.max(1) as f64;
        let points = (1..=1000).map(|share| (tally.latency(share) as f64 / trip, share as f64 / 10.0));
        let mut points: Vec<(f64, f64)> = points.collect();
        // Of many that are above one another, the ends will do.
        for at in (1..points.len() - 1).rev() {
            if points[at - 1].0 == points[at].0 && points[at].0 == points[at + 1].0 {
                points.remove(at);
            }
        }
        Series::solid(&name, points)
    });
    Chart {
        title: "How long lookups take",
        x: ("round trips", Scale::Log(2.0)),
        y: ("% have ended", Scale::Linear),
        series: series.collect(),
    }
    .svg()
}

/// Values that were found, and copies of them, over time.
pub fn values(report: &Report, k: usize) -> String {
    let hour = |micros: u64| micros as f64 / 3.6e9;
    let over_time = |of: &dyn Fn(&khashmir::sim::Sample) -> Option<f64>| -> Vec<(f64, f64)> {
        report.samples.iter().filter_map(|sample| Some((hour(sample.at), of(sample)?))).collect()
    };
    let share = |part: u64, all: u64| (all > 0).then(|| part as f64 * 100.0 / all as f64);
    Chart {
        title: &format!("Values, {}, {} nodes", report.name, report.nodes),
        x: ("hours", Scale::Linear),
        y: ("%", Scale::Linear),
        series: vec![
            Series::solid(
                &format!("copies of each, of {k}"),
                over_time(&|sample| share(sample.copies, sample.stored).map(|copies| copies / k as f64)),
            ),
            Series::solid("searches that found it", over_time(&|s| share(s.found, s.searched))),
        ],
    }
    .svg()
}
