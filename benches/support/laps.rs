//! Contenders that take turns, so that whatever else the machine does concerns all of them.

use std::time::{Duration, Instant};

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
        let (begun, busy) = (Instant::now(), work());
        let count = job();
        Lap { count, wall: begun.elapsed().as_secs_f64(), work: work() - busy }
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

/// For how many seconds this thread has been running; 0 where the system does not tell.
pub fn work() -> f64 {
    if cfg!(not(all(target_os = "linux", target_pointer_width = "64"))) {
        return 0.0;
    }
    const CLOCK_THREAD_CPUTIME_ID: i32 = 3;
    unsafe extern "C" {
        fn clock_gettime(clock: i32, time: *mut [i64; 2]) -> i32;
    }
    let mut time = [0; 2];
    // SAFETY: on 64-bit Linux, `timespec` is two numbers of 64 bits, which is what the call writes.
    unsafe { clock_gettime(CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time[0] as f64 + time[1] as f64 / 1e9
}
