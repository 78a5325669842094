//! A network that is out for half a minute, and how soon after its return things go on.

use std::time::Duration;

use super::end::Program;
use super::lossy::{millis, percentile, start};
use super::network::{Network, Path};

/// How long the network is out at least; up to two seconds more, so that it returns at any point of
/// what is repeated at intervals.
const OUT: Duration = Duration::from_secs(30);
/// When it goes out, after the beginning; up to a round trip later.
const OUT_AFTER: Duration = Duration::from_millis(300);
/// Nothing takes longer than this.
const MOST: Duration = Duration::from_secs(300);
/// Within what things must go on.
const LIMIT: u64 = 1_000_000;

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub name: &'static str,
    programs: [Program; 2],
}

/// All rows.
pub fn rows() -> Vec<Row> {
    let write = [Program::Write { total: 1_000_000, calls: true }, Program::Read];
    let (question, answer, pause) = (200, 400, Duration::ZERO);
    let call = [Program::Call { count: 1000, question, answer, pause }, Program::Serve { question, answer }];
    vec![
        Row { name: "out: 1 MB, a call waits", programs: write },
        Row { name: "out: calls in turn", programs: call },
    ]
}

/// What came of one run: microseconds after the network's return.
struct Run {
    first: Option<u64>,
    all: Option<u64>,
    resets: u64,
    packets: u64,
}

impl Row {
    fn run(&self, seed: u64, trace: bool) -> Run {
        let mut network = Network::new(seed);
        network.trace = trace;
        let start = start(&mut network);
        let from = start + OUT_AFTER + Duration::from_micros(network.dice().below(100_000));
        let back = from + OUT + Duration::from_micros(network.dice().below(2_000_000));
        network.outage = Some((from, back));
        let path = Path::new(Duration::from_millis(50));
        let sender = network.pair(start, self.programs, [path; 2]);
        // Those who call look at the answers that come, the others at what arrives.
        let calls = matches!(self.programs[0], Program::Call { .. });
        let looked_at = if calls { sender } else { sender + 1 };
        network.run(back, |_| false);
        let packets = network.ends[sender].packets + network.ends[sender + 1].packets;
        network.ends[looked_at].first_read = None;
        let gone_on = network.run(back + MOST, |ends| ends[looked_at].first_read.is_some());
        let first = gone_on.then(|| network.now.since(back).as_micros() as u64);
        let all = match self.programs[0] {
            Program::Write { total, .. } => network
                .run(back + MOST, |ends| ends[looked_at].read >= total)
                .then(|| network.now.since(back).as_micros() as u64),
            _ => None,
        };
        let resets = network.ends[sender].resets;
        Run { first, all, resets, packets }
    }

    /// Prints all that happens in one run.
    pub fn trace(&self, seed: u64) {
        let run = self.run(seed, true);
        println!("first {:?} all {:?}", run.first, run.all);
    }

    /// The row of the table.
    pub fn line(&self, seeds: u64) -> String {
        let runs: Vec<Run> = (0..seeds).map(|seed| self.run(seed, false)).collect();
        let times = |of: fn(&Run) -> Option<u64>| {
            let mut times: Vec<u64> = runs.iter().filter_map(of).collect();
            times.sort_unstable();
            [50, 95, 100].map(|percent| percentile(&times, seeds, percent))
        };
        let (first, all) = (times(|run| run.first), times(|run| run.all));
        let mark = if first[2].is_some_and(|most| most <= LIMIT) { "met" } else { "MISSED" };
        let show = |time: Option<u64>| time.map_or("-".into(), millis);
        format!(
            "{:<24} {:>7} {:>7} {:>7} {:>7} {:<6} {:>7} {:>7} {:>7} {:>9} {:>7}",
            self.name,
            show(first[0]),
            show(first[1]),
            show(first[2]),
            millis(LIMIT),
            mark,
            show(all[0]),
            show(all[1]),
            show(all[2]),
            runs.iter().map(|run| run.packets).sum::<u64>() / seeds.max(1),
            runs.iter().filter(|run| run.resets > 0).count(),
        )
    }
}

/// The columns.
pub fn head() -> String {
    format!(
        "{:<24} {:>7} {:>7} {:>7} {:>7} {:<6} {:>7} {:>7} {:>7} {:>9} {:>7}",
        "ms after its return",
        "next",
        "95th",
        "most",
        "at most",
        "",
        "all",
        "95th",
        "most",
        "datagrams",
        "resets"
    )
}
