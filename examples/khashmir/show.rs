//! Says what is being done: bars on a terminal, lines elsewhere.

use std::cell::Cell;
use std::fmt;
use std::io::{ErrorKind, IsTerminal, Write, stderr, stdout};
use std::process::exit;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::network::Phase;

/// A phase that takes long says in between how far it is, this often.
const BETWEEN_LINES: Duration = Duration::from_secs(2);

/// Prints a line, as `println!` does; but when it cannot be printed, that is the end of
/// the program and no panic.
macro_rules! say {
    ($($text:tt)*) => { $crate::show::print_line(format_args!($($text)*)) };
}
pub(crate) use say;

pub fn print_line(text: fmt::Arguments<'_>) {
    if let Err(e) = writeln!(stdout().lock(), "{text}") {
        // Nobody to read it, as after `| head -1`, needs no words.
        if e.kind() != ErrorKind::BrokenPipe {
            let _ = writeln!(stderr(), "khashmir: standard output: {e}");
        }
        exit(2);
    }
}

#[derive(Clone, Copy)]
pub struct Show {
    bars: bool,
}

impl Show {
    /// With `plain`, lines even on a terminal: bars do not go with a log.
    pub fn new(plain: bool) -> Self {
        Show { bars: !plain && stdout().is_terminal() && stderr().is_terminal() }
    }

    pub fn begin(self, name: &'static str, total: usize) -> Progress {
        let bar = self.bars.then(|| {
            let bar = ProgressBar::new(total as u64);
            if let Ok(style) = ProgressStyle::with_template("{msg:22} {wide_bar} {pos:>6} of {len}") {
                bar.set_style(style);
            }
            bar.set_message(name);
            bar
        });
        Progress { name, total, bar, done: Cell::new(0), last_line: Cell::new(Instant::now()) }
    }
}

/// How far a phase is.
pub struct Progress {
    name: &'static str,
    total: usize,
    bar: Option<ProgressBar>,
    done: Cell<usize>,
    last_line: Cell<Instant>,
}

impl Progress {
    /// So many more are done. To be called now and then, with 0 too.
    pub fn advance(&self, more: usize) {
        let done = self.done.get() + more;
        self.done.set(done);
        if let Some(bar) = &self.bar {
            bar.set_position(done as u64);
        } else if self.last_line.get().elapsed() >= BETWEEN_LINES {
            self.last_line.set(Instant::now());
            say!("{:22} {done:>5} of {} so far", self.name, self.total);
        }
    }

    /// It is over, and this came of it.
    pub fn end(self, phases: &[&Phase]) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        for Phase { name, tried, found, failures, took, .. } in phases {
            say!("{name:22} {found:>5} of {tried} in {:.3} s", took.as_secs_f64());
            for (why, count) in failures {
                say!("  {count} failed: {why}");
            }
        }
    }
}
