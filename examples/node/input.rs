//! What can happen to the program: lines of input, answers, signals.

use std::io::{self, BufRead, Read, stdin};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use serde_json::Value;

/// The longest line that is read, in bytes. A value of 64 KiB has 128 KiB of
/// digits.
const LONGEST_LINE: u64 = 1024 * 1024;

pub enum Event {
    /// A line, or what is wrong with it.
    Line(Result<String, String>),
    /// The input has ended.
    End,
    /// The answer to the command with this number.
    Answer(u64, Value),
    /// The program is to end.
    Signal,
}

/// Standard input, read on a thread of its own, a line at a time: the next one
/// only when it is wanted, so that input cannot pile up.
pub struct Input(Sender<()>);

impl Input {
    pub fn start(events: Sender<Event>) -> Input {
        let (wanted, wants) = mpsc::channel();
        thread::spawn(move || read_lines(&wants, &events));
        Input(wanted)
    }

    /// Has one more line sent to the events (or that there are no more).
    pub fn ask_for_line(&self) {
        let _ = self.0.send(());
    }
}

fn read_lines(wants: &Receiver<()>, events: &Sender<Event>) {
    let mut input = stdin().lock();
    while wants.recv().is_ok() {
        // Input that cannot be read has ended, as far as this program goes.
        let event = match read_line(&mut input) {
            Ok(Some(line)) => Event::Line(line),
            Ok(None) | Err(_) => Event::End,
        };
        if events.send(event).is_err() {
            return;
        }
    }
}

fn read_line(input: &mut impl BufRead) -> io::Result<Option<Result<String, String>>> {
    let mut line = Vec::new();
    if input.take(LONGEST_LINE + 1).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if line.len() as u64 > LONGEST_LINE {
        input.skip_until(b'\n')?;
        return Ok(Some(Err(format!("the line is longer than {LONGEST_LINE} bytes"))));
    }
    Ok(Some(String::from_utf8(line).map_err(|_| "the line is not UTF-8".into())))
}

/// Makes SIGINT and SIGTERM events. A second one ends the program at once.
#[cfg(unix)]
pub fn watch_signals(events: Sender<Event>) -> io::Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;

    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::spawn(move || {
        let mut signals = signals.forever();
        signals.next();
        let _ = events.send(Event::Signal);
        if let Some(signal) = signals.next() {
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}

/// Elsewhere the end of the input has to do.
#[cfg(not(unix))]
pub fn watch_signals(_: Sender<Event>) -> io::Result<()> {
    Ok(())
}
