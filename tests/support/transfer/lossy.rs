//! The time that it takes to bring bytes to a stranger over a network that loses, delays and reorders.

use std::time::Duration;

use khashmir::time::Time;

use super::network::{Network, Path, Program};

/// One row: how much, and over what.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub name: &'static str,
    pub bytes: u64,
    pub path: Path,
    /// What the middle and the 95th of a hundred may take at most, in milliseconds.
    pub limit: Option<(u64, u64)>,
}

/// What came of the runs of a row.
#[derive(Clone, Debug)]
pub struct Figures {
    /// How long each took, in order, in microseconds; those that did not end are missing.
    pub times: Vec<u64>,
    pub runs: u64,
    /// Datagrams of the sender, and of the receiver.
    pub packets: [u64; 2],
    /// Bytes of the stream that the sender's datagrams bore, and those that it had.
    pub carried: u64,
    pub bytes: u64,
}

/// No transfer takes longer than this.
const MOST: Duration = Duration::from_secs(300);

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// All rows. One way takes 50 ms where nothing else is said.
pub fn rows() -> Vec<Row> {
    let row = |name, bytes, path, limit| Row { name, bytes, path, limit };
    let far = Path::new(ms(50));
    vec![
        row("10 kB, 0 %", 10_000, far, Some((160, 160))),
        row("10 kB, 10 %", 10_000, far.percent(10), Some((260, 850))),
        row("64 KiB, 0 %", 65_536, far, Some((300, 300))),
        row("64 KiB, 5 %", 65_536, far.percent(5), Some((450, 900))),
        row("64 KiB, 20 %", 65_536, far.percent(20), Some((850, 2100))),
        row("1 MB, 0 %", 1_000_000, far, Some((1900, 1900))),
        row("64 KiB, 0 %, ±20 ms", 65_536, far.jitter(ms(20)), Some((450, 600))),
        row("1 MB, 1 %", 1_000_000, far.percent(1), None),
        row("1 MB, 5 %", 1_000_000, far.percent(5), None),
        row("1 MB, 20 %", 1_000_000, far.percent(20), None),
        row("1 MB, 0 %, ±20 ms", 1_000_000, far.jitter(ms(20)), None),
        row("64 KiB, 5 %, ±20 ms", 65_536, far.percent(5).jitter(ms(20)), None),
        row("64 KiB, 5 %, 5 ms", 65_536, Path::new(ms(5)).percent(5), None),
        row("64 KiB, ≤ 1,200", 65_536, Path { largest: 1200, ..far }, None),
        row("64 KiB, 5 %, ≤ 1,200", 65_536, Path { largest: 1200, ..far.percent(5) }, None),
    ]
}

/// Seeds are spread over the ticks of the timers.
pub fn start(network: &mut Network) -> Time {
    Time::from_micros(1_000_000 + network.dice().below(1_000_000))
}

impl Row {
    /// One transfer, and how long it took.
    fn run(&self, seed: u64, trace: bool, figures: &mut Figures) {
        let mut network = Network::new(seed);
        network.trace = trace;
        let start = start(&mut network);
        let programs = [Program::Write { total: self.bytes }, Program::Read];
        let sender = network.pair(start, programs, [self.path; 2]);
        let receiver = sender + 1;
        let came = network.run(start + MOST, |ends| ends[receiver].read >= self.bytes);
        figures.runs += 1;
        if came {
            figures.times.push(network.now.since(start).as_micros() as u64);
        }
        for side in 0..2 {
            figures.packets[side] += network.ends[sender + side].packets;
        }
        figures.carried += network.ends[sender].carried;
        figures.bytes += self.bytes;
    }

    /// As many transfers as there are seeds.
    pub fn figures(&self, seeds: u64) -> Figures {
        let mut figures = Figures { times: Vec::new(), runs: 0, packets: [0; 2], carried: 0, bytes: 0 };
        (0..seeds).for_each(|seed| self.run(seed, false, &mut figures));
        figures.times.sort_unstable();
        figures
    }

    /// Prints all that happens in one transfer.
    pub fn trace(&self, seed: u64) {
        let mut figures = Figures { times: Vec::new(), runs: 0, packets: [0; 2], carried: 0, bytes: 0 };
        self.run(seed, true, &mut figures);
        println!("{figures:?}");
    }

    /// The row of the table.
    pub fn line(&self, figures: &Figures) -> String {
        let limit = self.limit.map_or("-".into(), |(middle, late)| format!("{middle} / {late}"));
        let (middle, late) = (figures.percentile(50), figures.percentile(95));
        let mark = match (self.limit, middle, late) {
            (None, Some(_), Some(_)) => "",
            (Some((a, b)), Some(middle), Some(late)) if middle <= a * 1000 && late <= b * 1000 => "met",
            _ => "MISSED",
        };
        let runs = figures.runs.max(1);
        let repeated = figures.carried.saturating_sub(figures.bytes) * 1000 / figures.carried.max(1);
        format!(
            "{:<22} {:>7} {:>7} {:>13} {:<6} {:>7} {:>7} {:>6}",
            self.name,
            middle.map_or("-".into(), millis),
            late.map_or("-".into(), millis),
            limit,
            mark,
            figures.packets[0] / runs,
            figures.packets[1] / runs,
            format!("{}.{}", repeated / 10, repeated % 10),
        )
    }
}

/// The columns.
pub fn head() -> String {
    format!(
        "{:<22} {:>7} {:>7} {:>13} {:<6} {:>7} {:>7} {:>6}",
        "bytes, loss", "middle", "95th", "at most", "", "packets", "back", "rep. %"
    )
}

/// Microseconds as milliseconds, rounded up.
pub fn millis(micros: u64) -> String {
    micros.div_ceil(1000).to_string()
}

impl Figures {
    /// What so many percent of the runs stayed below, if they ended at all.
    pub fn percentile(&self, percent: u64) -> Option<u64> {
        percentile(&self.times, self.runs, percent)
    }
}

/// Of `runs` times, in order, of which those that lasted for ever are missing.
pub fn percentile(times: &[u64], runs: u64, percent: u64) -> Option<u64> {
    let at = (runs * percent).div_ceil(100).max(1) as usize - 1;
    times.get(at).copied()
}
