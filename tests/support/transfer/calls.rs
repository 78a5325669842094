//! Calls and their answers, and how many datagrams they take.

use std::time::Duration;

use super::end::Program;
use super::lossy::{millis, percentile, start};
use super::network::{Network, Path};

const COUNT: u64 = 200;
const QUESTION: usize = 200;
const ANSWER: usize = 400;

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub name: &'static str,
    path: Path,
    pause: Duration,
    /// The most datagrams for a call, in hundredths.
    limit: Option<u64>,
}

/// All rows.
pub fn rows() -> Vec<Row> {
    let path = Path::new(Duration::from_millis(50));
    let row = |name, path, pause, limit| Row { name, path, pause: Duration::from_millis(pause), limit };
    vec![
        row("calls: in turn, 0 %", path, 0, Some(200)),
        row("calls: in turn, 5 %", path.percent(5), 0, None),
        row("calls: after 1 s, 0 %", path, 1000, Some(300)),
        row("calls: after 1 s, 5 %", path.percent(5), 1000, None),
        row("calls: after 1 s, ±20 ms", path.jitter(Duration::from_millis(20)), 1000, None),
    ]
}

impl Row {
    /// Times of calls, and datagrams of all but the first.
    fn run(&self, seed: u64, trace: bool) -> (Vec<u64>, u64) {
        let mut network = Network::new(seed);
        network.trace = trace;
        let start = start(&mut network);
        let (question, answer, pause) = (QUESTION, ANSWER, self.pause);
        let asks = Program::Call { count: COUNT, question, answer, pause };
        let caller = network.pair(start, [asks, Program::Serve { question, answer }], [self.path; 2]);
        let end = start + Duration::from_secs(2000);
        let packets = |network: &Network| network.ends.iter().map(|end| end.packets).sum::<u64>();
        network.run(end, |ends| !ends[caller].answers.is_empty());
        // What making contact took may go on a little.
        network.run(network.now + pause / 2, |_| false);
        let before = packets(&network);
        network.run(end, |ends| ends[caller].answers.len() as u64 >= COUNT);
        // And what is still said afterwards.
        network.run(network.now + Duration::from_secs(10), |_| false);
        let sent = packets(&network) - before;
        (std::mem::take(&mut network.ends[caller].answers), sent)
    }

    /// Prints all that happens in one run.
    pub fn trace(&self, seed: u64) {
        self.run(seed, true);
    }

    /// The row of the table.
    pub fn line(&self, seeds: u64) -> String {
        let (mut times, mut sent) = (Vec::new(), 0);
        for seed in 0..seeds {
            let (more, packets) = self.run(seed, false);
            // The first one of each makes contact.
            times.extend(more.into_iter().skip(1));
            sent += packets;
        }
        times.sort_unstable();
        let calls = seeds * (COUNT - 1);
        let show = |percent| percentile(&times, calls, percent).map_or("-".into(), millis);
        let each = sent * 100 / calls.max(1);
        let mark = match self.limit {
            None => "",
            Some(limit) if each <= limit => "met",
            _ => "MISSED",
        };
        let hundredths = |each: u64| format!("{}.{:02}", each / 100, each % 100);
        format!(
            "{:<24} {:>7} {:>7} {:>7} {:>10} {:>8} {:<6}",
            self.name,
            show(50),
            show(95),
            show(100),
            hundredths(each),
            self.limit.map_or("-".into(), hundredths),
            mark,
        )
    }
}

/// The columns.
pub fn head() -> String {
    format!(
        "{:<24} {:>7} {:>7} {:>7} {:>10} {:>8}",
        "200 bytes, 400 back", "middle", "95th", "most", "datagrams", "at most"
    )
}
