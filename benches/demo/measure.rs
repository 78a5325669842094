//! What something takes of time, of a processor and of memory.

use std::fs;
use std::time::Instant;

/// A moment, on the clock and in the process's use of processors.
#[derive(Clone, Copy)]
pub struct Moment {
    at: Instant,
    work: f64,
}

/// Milliseconds since a moment.
#[derive(Clone, Copy, Default)]
pub struct Span {
    pub wall: f64,
    pub work: f64,
}

impl std::ops::AddAssign for Span {
    fn add_assign(&mut self, other: Span) {
        self.wall += other.wall;
        self.work += other.work;
    }
}

impl Moment {
    pub fn now() -> Self {
        Moment { at: Instant::now(), work: work() }
    }

    pub fn span(&self) -> Span {
        Span { wall: self.at.elapsed().as_secs_f64() * 1e3, work: (work() - self.work) * 1e3 }
    }
}

/// For how many seconds the threads of this process have been running, in it or for it in the system.
fn work() -> f64 {
    if cfg!(not(target_os = "linux")) {
        return f64::NAN;
    }
    const CLOCK_PROCESS_CPUTIME_ID: i32 = 2;
    unsafe extern "C" {
        fn clock_gettime(clock: i32, time: *mut [i64; 2]) -> i32;
    }
    let mut time = [0; 2];
    // SAFETY: on the 64-bit systems that this runs on, `timespec` is two numbers of 64 bits, which is what
    // the call writes.
    unsafe { clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    time[0] as f64 + time[1] as f64 / 1e9
}

/// Bytes of this process that are in memory, where the system tells (Linux).
pub fn resident() -> u64 {
    let text = fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:"));
    line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok()).map_or(0, |kb: u64| kb * 1024)
}
