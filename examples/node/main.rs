//! One node, for people and for scripts: reads commands on its input, one a line,
//! and answers each with a line of JSON.

mod commands;
mod input;

use std::io::{IsTerminal, Write, stderr, stdin, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use clap::Parser;
use khashmir::{Config, Id, Khashmir, NodeOptions};
use serde_json::{Value, json};

use commands::{Command, HELP};
use input::{Event, Input};

/// Runs one Khashmir node.
///
/// First it prints a line of JSON with its id and the address at which it
/// listens. Then it reads commands from standard input, one a line, and answers
/// each, in order, with one line of JSON; {"error": …, "kind": …} when it cannot be
/// done. At the end of the input, or on SIGINT or SIGTERM, it saves and leaves with status
/// 0; 1 means that it could not save, 2 that it could not start.
#[derive(Parser)]
#[command(name = "node", version, after_help = HELP)]
struct Options {
    /// Where to listen: an address of this machine, or a name for one, and a UDP
    /// port, 0 for any. IPv6 addresses go in brackets: [::1]:4711.
    #[arg(long, value_name = "HOST:PORT", value_parser = host_and_port)]
    listen: (String, u16),

    /// Keep values, contacts and the id in this file, and continue from it.
    #[arg(long, value_name = "FILE")]
    db: Option<PathBuf>,

    /// A node to begin with; may be given several times.
    #[arg(long, value_name = "HOST:PORT", value_parser = host_and_port)]
    contact: Vec<(String, u16)>,

    /// The node's id, 40 hexadecimal digits. Without it: the one in the file, or
    /// a random one.
    #[arg(long, value_name = "HEX")]
    id: Option<Id>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let (host, port) = &options.listen;
    let node_options = NodeOptions { config: Arc::new(Config::default()), id: options.id, store: options.db };
    // Before the node starts, so that no signal finds it unprepared.
    let (sender, events) = mpsc::channel();
    if let Err(e) = input::watch_signals(sender.clone()) {
        eprintln!("node: signals cannot be caught: {e}");
        return ExitCode::from(2);
    }
    let node = match Khashmir::with(host, *port, node_options) {
        Ok(node) => node,
        Err(e) => {
            eprintln!("node: {host}:{port}: {e}");
            return ExitCode::from(2);
        }
    };
    let for_people = stdin().is_terminal() && stdout().is_terminal();
    let mut session = Session { node: &node, sender, events, for_people, executed: 0 };
    // Either ends with the reason to leave.
    let _ = session.greet(&options.contact).and_then(|()| session.serve());
    match node.close() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            let _ = writeln!(stderr(), "node: it could not be saved: {e}");
            ExitCode::from(1)
        }
    }
}

/// There is a reason to leave: the end of the input, a command, a signal, or
/// nobody who reads the answers.
struct Leave;

struct Session<'a> {
    node: &'a Khashmir,
    sender: Sender<Event>,
    events: Receiver<Event>,
    /// On a terminal: a prompt, and JSON that is easier to read.
    for_people: bool,
    /// Counts the operations, so that an answer can be told from a late one.
    executed: u64,
}

impl Session<'_> {
    /// Says who it is, and joins the network.
    fn greet(&mut self, contacts: &[(String, u16)]) -> Result<(), Leave> {
        let (id, address) = (self.node.id(), self.node.local_addr());
        self.print(&json!({"id": id.to_string(), "listening": address.to_string()}))?;
        for (host, port) in contacts {
            let answer = self.execute(Command::Contact { host: host.clone(), port: *port })?;
            if let Some(error) = answer.get("error").and_then(Value::as_str) {
                let _ = writeln!(stderr(), "node: contact {host}:{port}: {error}");
            }
        }
        // Through those that were in the file, the node looks for its neighbours by itself.
        if !contacts.is_empty() && self.node.contacts().is_ok_and(|known| !known.is_empty()) {
            self.execute(Command::Closest)?;
        }
        Ok(())
    }

    /// Answers commands.
    fn serve(&mut self) -> Result<(), Leave> {
        let input = Input::start(self.sender.clone());
        loop {
            if self.for_people {
                let mut out = stdout().lock();
                out.write_all(b"> ").and_then(|()| out.flush()).map_err(|_| Leave)?;
            }
            input.ask_for_line();
            let line = loop {
                match self.events.recv() {
                    Ok(Event::Line(line)) => break line,
                    Ok(Event::Answer(..)) => {} // Of an operation that was given up.
                    Ok(Event::End | Event::Signal) | Err(_) => return Err(Leave),
                }
            };
            if self.for_people && line.as_ref().is_ok_and(|line| line.trim().is_empty()) {
                continue;
            }
            match line.and_then(|line| line.parse()) {
                Ok(Command::Quit) => {
                    self.print(&json!({"command": "quit"}))?;
                    return Err(Leave);
                }
                Ok(Command::Help) if self.for_people => println!("{HELP}"),
                Ok(command) => {
                    let answer = self.execute(command)?;
                    self.print(&answer)?;
                }
                Err(why) => self.print(&json!({"error": why, "kind": "input"}))?,
            }
        }
    }

    /// Has the node do it and waits for the answer, unless a signal comes first.
    fn execute(&mut self, command: Command) -> Result<Value, Leave> {
        self.executed += 1;
        let (number, sender) = (self.executed, self.sender.clone());
        let answer = move |answer| drop(sender.send(Event::Answer(number, answer)));
        let operation = command.start(self.node, answer);
        loop {
            match self.events.recv() {
                Ok(Event::Answer(of, answer)) if of == number => return Ok(answer),
                Ok(Event::Answer(..)) => {}
                Ok(Event::Line(_) | Event::End | Event::Signal) | Err(_) => {
                    if let Some(operation) = operation {
                        operation.cancel();
                    }
                    return Err(Leave);
                }
            }
        }
    }

    fn print(&self, answer: &Value) -> Result<(), Leave> {
        let text = if self.for_people { format!("{answer:#}") } else { answer.to_string() };
        let mut out = stdout().lock();
        writeln!(out, "{text}").and_then(|()| out.flush()).map_err(|_| Leave)
    }
}

/// `HOST:PORT`, with an IPv6 address in brackets.
fn host_and_port(text: &str) -> Result<(String, u16), String> {
    let (host, port) = text.rsplit_once(':').ok_or("a host, a colon and a port are wanted")?;
    let port = port.parse().map_err(|_| format!("{port:?} is no port from 0 to 65535"))?;
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address,
        None if host.contains(':') => return Err("an IPv6 address goes in brackets: [::1]:4711".into()),
        None => host,
    };
    Ok((host.to_owned(), port))
}
