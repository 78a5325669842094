//! Contenders that take turns, so that whatever else the machine does concerns all of them.

#[path = "../../tests/support/processor.rs"]
mod processor;

use std::time::{Duration, Instant};

/// How long contenders are measured, and which of them.
#[derive(Debug)]
pub struct Options {
    pub rounds: usize,
    /// Of one contender's turn.
    pub span: Duration,
    pub only: Option<String>,
}

/// The options of the command line, and what `more` makes of others. After `--help`, or where one is
/// wrong, it ends the program with a text for people.
pub fn options(
    help: &str,
    usage: &str,
    mut more: impl FnMut(&str, &mut dyn Iterator<Item = String>) -> Option<()>,
) -> Options {
    let mut options = Options { rounds: 15, span: Duration::from_millis(400), only: None };
    let mut arguments = std::env::args().skip(1);
    let mut read = || -> Option<()> {
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--rounds" => options.rounds = arguments.next()?.parse().ok().filter(|&rounds| rounds > 0)?,
                "--ms" => options.span = Duration::from_millis(arguments.next()?.parse().ok()?),
                "--only" => options.only = Some(arguments.next()?),
                // What cargo adds.
                "--bench" => {}
                "--help" | "-h" => {
                    println!("{help}");
                    std::process::exit(0);
                }
                other => more(other, &mut arguments)?,
            }
        }
        Some(())
    };
    if read().is_none() {
        eprintln!("usage: {usage}");
        std::process::exit(2);
    }
    options
}

/// What was done in a time, and what it took of a processor; in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Lap {
    pub count: u64,
    pub wall: f64,
    pub work: f64,
}

impl Lap {
    /// Runs `job` once, which says how much it has done.
    pub fn of(job: impl FnOnce() -> u64) -> Lap {
        let (begun, busy) = (Instant::now(), processor::of_thread());
        let count = job();
        Lap { count, wall: begun.elapsed().as_secs_f64(), work: processor::of_thread() - busy }
    }

    pub fn per_second(&self) -> f64 {
        self.count as f64 / self.wall
    }

    /// Microseconds of a processor for each.
    pub fn each(&self) -> f64 {
        self.work * 1e6 / self.count as f64
    }
}

/// A contender: does its work for a while, and says how much it has done.
pub type Job<'a> = Box<dyn FnMut(Duration) -> u64 + 'a>;

/// The laps of each contender, `rounds` of them, after one that does not count. The first to go is
/// another one in each round.
pub fn race(rounds: usize, span: Duration, contenders: &mut [Job<'_>]) -> Vec<Vec<Lap>> {
    let mut laps = vec![Vec::new(); contenders.len()];
    for job in contenders.iter_mut() {
        job(span / 4);
    }
    for round in 0..rounds {
        for place in 0..contenders.len() {
            let number = (round + place) % contenders.len();
            laps[number].push(Lap::of(|| contenders[number](span)));
        }
    }
    laps
}

/// The middle one of what `of` says of each lap.
pub fn median(laps: &[Lap], of: impl Fn(&Lap) -> f64) -> f64 {
    middle(laps.iter().map(of).collect())
}

/// The middle ratio of two contenders' laps of the same round: of their rates, and of what each took
/// of a processor, in both of which more is better.
pub fn ratios(ours: &[Lap], theirs: &[Lap]) -> (f64, f64) {
    let pairs = || ours.iter().zip(theirs);
    (
        middle(pairs().map(|(a, b)| a.per_second() / b.per_second()).collect()),
        middle(pairs().map(|(a, b)| b.each() / a.each()).collect()),
    )
}

fn middle(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}
