//! What something takes of time, of a processor and of memory.

#[path = "../../tests/support/processor.rs"]
mod processor;

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
        Moment { at: Instant::now(), work: processor::of_process() }
    }

    pub fn span(&self) -> Span {
        Span {
            wall: self.at.elapsed().as_secs_f64() * 1e3,
            work: (processor::of_process() - self.work) * 1e3,
        }
    }
}

/// Bytes of this process that are in memory, where the system tells (Linux).
pub fn resident() -> u64 {
    let text = fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:"));
    line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok()).map_or(0, |kb: u64| kb * 1024)
}
