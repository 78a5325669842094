//! A line that is full, and who gets how much of it.

use std::time::Duration;

use khashmir::time::Time;

use super::end::Program;
use super::network::{INTERVAL, Network, Path, Pipe};
use super::reno::Reno;

/// How unequal two may be: (most - least) / mean, in thousandths.
const FAIR: u64 = 200;

/// One run.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub name: &'static str,
    /// Bits a second, and bytes that may wait.
    rate: u64,
    queue: u64,
    /// How many of ours, and how many of the others.
    ours: usize,
    others: usize,
    /// How much later than all others the last one of ours begins.
    late: u64,
    /// Of the line, behind the queue.
    loss: u64,
    jitter: u64,
    /// What the limit is for.
    judged: bool,
    /// How long all goes on, and from when on shares are compared, in seconds.
    span: u64,
    settled: u64,
}

const MBIT: u64 = 1_000_000;

/// All runs.
pub fn rows() -> Vec<Row> {
    let row = |name, ours| Row {
        name,
        rate: 10 * MBIT,
        queue: 64_000,
        ours,
        others: 0,
        late: 0,
        loss: 0,
        jitter: 0,
        judged: ours == 2,
        span: 60,
        settled: 20,
    };
    vec![
        row("10 Mbit/s: one", 1),
        row("10 Mbit/s: two", 2),
        row("10 Mbit/s: ten", 10),
        Row { late: 10, ..row("10 Mbit/s: two, one late", 2) },
        Row { late: 10, ..row("10 Mbit/s: ten, one late", 10) },
        Row { rate: MBIT, ..row("1 Mbit/s: one", 1) },
        Row { rate: MBIT, ..row("1 Mbit/s: two", 2) },
        Row { rate: MBIT, ..row("1 Mbit/s: ten", 10) },
        Row { rate: MBIT, queue: 16_000, ..row("1 Mbit/s, 16 KB: one", 1) },
        Row { rate: MBIT, queue: 16_000, ..row("1 Mbit/s, 16 KB: two", 2) },
        Row { rate: MBIT, queue: 16_000, ..row("1 Mbit/s, 16 KB: ten", 10) },
        Row { loss: 1, judged: false, ..row("10 Mbit/s, 1 % lost: one", 1) },
        Row { loss: 1, judged: false, ..row("10 Mbit/s, 1 % lost: two", 2) },
        Row { jitter: 5, judged: false, ..row("10 Mbit/s, ±5 ms: one", 1) },
        Row { jitter: 5, judged: false, ..row("10 Mbit/s, ±5 ms: two", 2) },
        Row { others: 1, judged: false, ..row("10 Mbit/s: NewReno alone", 0) },
        Row { others: 2, judged: false, ..row("10 Mbit/s: two NewReno", 0) },
        Row { others: 1, judged: false, ..row("10 Mbit/s: one, a NewReno", 1) },
        Row { others: 2, judged: false, ..row("10 Mbit/s: two, two NewReno", 2) },
        Row { others: 1, late: 10, judged: false, ..row("10 Mbit/s: late one, a NewReno", 1) },
        Row { others: 1, rate: MBIT, judged: false, ..row("1 Mbit/s: one, a NewReno", 1) },
        Row {
            others: 1,
            rate: MBIT,
            queue: 16_000,
            judged: false,
            ..row("1 Mbit/s, 16 KB: one, a NewReno", 1)
        },
    ]
}

/// Brief forms of some of them.
pub fn brief_rows() -> Vec<Row> {
    let brief =
        ["10 Mbit/s: one", "10 Mbit/s: two", "10 Mbit/s: ten", "1 Mbit/s: two", "10 Mbit/s: one, a NewReno"];
    let rows = rows().into_iter().filter(|row| brief.contains(&row.name));
    rows.map(|row| Row { span: 40, settled: 20, ..row }).collect()
}

/// What came of a run.
pub struct Figures {
    /// Bits a second of each of ours, then of each of the others, once settled.
    each: Vec<u64>,
    ours: usize,
    /// Of all, over all of the time.
    total: u64,
    /// Of the line, in thousandths.
    used: u64,
    /// Datagrams dropped at the queue, in ten thousandths, by interval and in all.
    dropped: Vec<u64>,
    dropped_in_all: u64,
    mean_queue: u64,
    most_queue: u64,
}

impl Row {
    fn run(&self, seed: u64, trace: bool) -> Figures {
        let mut network = Network::new(seed);
        network.trace = trace;
        network.pipes.push(Pipe::new(self.rate, self.queue));
        let back = Path::new(Duration::from_millis(50));
        let there = back.through(0).percent(self.loss).jitter(Duration::from_millis(self.jitter));
        for number in 0..self.ours {
            let late = if number + 1 == self.ours { self.late } else { 0 };
            let start =
                Time::ZERO + Duration::from_secs(late) + Duration::from_micros(network.dice().below(10_000));
            let programs = [Program::Write { total: u64::MAX, calls: false }, Program::Read];
            network.pair(start, programs, [there, back]);
        }
        for _ in 0..self.others {
            let start = Time::from_micros(network.dice().below(10_000));
            network.flows.push(Reno::new(start, there, back));
        }
        network.run(Time::ZERO + Duration::from_secs(self.span), |_| false);
        let ours = network.ends.iter().skip(1).step_by(2).map(|end| &end.reads);
        let reads: Vec<&Vec<u64>> = ours.chain(network.flows.iter().map(|flow| &flow.reads)).collect();
        let settled = (self.settled / INTERVAL.as_secs()) as usize;
        let bytes = |reads: &[u64]| reads.iter().sum::<u64>();
        let pipe = &network.pipes[0];
        let share = |part: u64, all: u64| part * 10_000 / all.max(1);
        Figures {
            each: reads
                .iter()
                .map(|reads| bytes(reads.get(settled..).unwrap_or_default()) * 8 / (self.span - self.settled))
                .collect(),
            ours: self.ours,
            total: reads.iter().map(|reads| bytes(reads)).sum::<u64>() * 8 / self.span,
            used: pipe.used(network.now),
            dropped: pipe.came.iter().zip(&pipe.dropped).map(|(&came, &lost)| share(lost, came)).collect(),
            dropped_in_all: share(bytes(&pipe.dropped), bytes(&pipe.came)),
            mean_queue: pipe.mean(Duration::from_secs(self.span)),
            most_queue: pipe.most,
        }
    }

    /// Prints all that happens in one run.
    pub fn trace(&self, seed: u64) {
        self.run(seed, true);
    }

    /// What is printed about so many runs: the first one, and how fair all of them were.
    pub fn report(&self, seeds: u64) -> String {
        let runs: Vec<Figures> = (0..seeds.max(1)).map(|seed| self.run(seed, false)).collect();
        let first = &runs[0];
        let list = |numbers: &[u64], show: fn(u64) -> String| {
            numbers.iter().map(|&number| show(number)).collect::<Vec<_>>().join(" ")
        };
        let kbit = |bits: u64| (bits / 1000).to_string();
        let (ours, others) = first.each.split_at(first.ours);
        let mut each = list(ours, kbit);
        if !others.is_empty() {
            each =
                format!("{each} | NewReno {}", list(others, kbit)).trim_start_matches([' ', '|']).to_owned();
        }
        let mut lines = vec![
            self.name.to_owned(),
            format!("    each     {each} kbit/s in the last {} s", (self.span - self.settled)),
            format!("    together {} kbit/s, {} % of the line used", kbit(first.total), tenths(first.used)),
            format!(
                "    dropped  {} % by {} s, {} % in all",
                list(&first.dropped, hundredths),
                INTERVAL.as_secs(),
                hundredths(first.dropped_in_all)
            ),
            format!("    queue    {} bytes on average, {} at the most", first.mean_queue, first.most_queue),
        ];
        if first.each.len() > 1 {
            let mut unfair: Vec<u64> = runs.iter().map(|run| unfairness(&run.each)).collect();
            unfair.sort_unstable();
            let (middle, worst) = (unfair[(unfair.len() - 1) / 2], unfair[unfair.len() - 1]);
            let mark = match self.judged {
                false => "",
                true if worst <= FAIR => "; at most 0.200: met",
                true => "; at most 0.200: MISSED",
            };
            lines.push(format!(
                "    unfair   {}; of {} runs {} in the middle, {} the worst{mark}; Jain's index {}",
                thousandths(unfairness(&first.each)),
                runs.len(),
                thousandths(middle),
                thousandths(worst),
                thousandths(jain(&first.each)),
            ));
        }
        lines.join("\n") + "\n"
    }
}

/// (most - least) / mean, in thousandths.
fn unfairness(each: &[u64]) -> u64 {
    let (least, most) = (each.iter().min().unwrap_or(&0), each.iter().max().unwrap_or(&0));
    (most - least) * 1000 * each.len() as u64 / each.iter().sum::<u64>().max(1)
}

/// Jain's index of fairness, in thousandths: 1 when all have the same, 1/n when one has all.
fn jain(each: &[u64]) -> u64 {
    let sum: u128 = each.iter().map(|&rate| u128::from(rate)).sum();
    let squares: u128 = each.iter().map(|&rate| u128::from(rate).pow(2)).sum();
    (sum * sum * 1000 / (squares * each.len() as u128).max(1)) as u64
}

fn hundredths(ten_thousandths: u64) -> String {
    format!("{}.{:02}", ten_thousandths / 100, ten_thousandths % 100)
}

fn tenths(thousandths: u64) -> String {
    format!("{}.{}", thousandths / 10, thousandths % 10)
}

fn thousandths(number: u64) -> String {
    format!("{}.{:03}", number / 1000, number % 1000)
}
