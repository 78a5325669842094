//! A node with 10,000 values in its file, the example `small`, in a process that gets 8 MB.
// Tests wait for sockets and processes, with a time limit of their own.
#![allow(clippy::disallowed_methods)]
#![cfg(target_os = "linux")]

mod programs;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use khashmir::engine::Stats;
use khashmir::{Config, Id, Khashmir, NodeOptions};

/// Values that the file has.
const HELD: u32 = 10_000;
/// Values that are looked for, and as many new ones stored.
const SOUGHT: u32 = 500;
const SIZE: usize = 100;
/// What the process may have resident at any time, its program included, in kilobytes of 1,024 bytes.
const RESIDENT: u64 = 8 * 1024;
/// What the system grants it of memory of its own, resident or not: all but the program.
const GRANTED: u64 = 4 * 1024;

fn value(number: u32) -> Vec<u8> {
    number.to_be_bytes().repeat(SIZE / 4)
}

fn key(number: u32) -> Id {
    Id::of(&number.to_be_bytes())
}

fn fill(path: &Path) {
    let config = Config { store_redundancy: 1, ..Config::default() };
    let options =
        NodeOptions { config: Arc::new(config), store: Some(path.to_owned()), ..NodeOptions::default() };
    let node = Khashmir::with("127.0.0.1", 0, options).expect("a node");
    let (sender, stored) = mpsc::channel();
    for number in 0..HELD {
        let sender = sender.clone();
        // With a life of its own a value is not renewed, as one of somebody else's.
        node.clone().with_life(Duration::from_secs(12 * 60 * 60)).store_value_for_key(
            key(number),
            value(number),
            move |outcome| sender.send(outcome.is_ok()).expect("a listener"),
        );
        // No more under way than `max_operations` allows.
        if number % 64 == 63 || number + 1 == HELD {
            for _ in 0..=number % 64 {
                assert!(stored.recv().expect("an outcome"));
            }
        }
    }
    let Stats { values, .. } = node.stats().expect("a node");
    assert_eq!(values, u64::from(HELD));
    node.close().expect("to close");
}

struct Small(Child);

impl Drop for Small {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Small {
    /// What the system says of the process's memory, in kilobytes.
    fn memory(&self, which: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).expect("a process");
        let line = status.lines().find(|line| line.starts_with(which)).expect("a line of that name");
        line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
    }
}

#[test]
fn ten_thousand_values_on_disk_are_served_within_8_megabytes() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("node.db");
    fill(&path);

    let limited = format!("ulimit -d {GRANTED} && exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command.arg("-c").arg(limited).arg(programs::example("small")).arg(&path).arg("127.0.0.1:0");
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the program starts");
    let mut small = Small(child);
    let mut address = String::new();
    BufReader::new(small.0.stdout.take().expect("an output")).read_line(&mut address).expect("a line");
    let port = address.trim().rsplit(':').next().expect("a port").parse().expect("a port");

    let client = Khashmir::new("127.0.0.1", 0).expect("a node");
    client.join("127.0.0.1", port).expect("to join");
    for number in (0..SOUGHT).map(|number| number * (HELD / SOUGHT)) {
        assert_eq!(client.get(key(number)).expect("an outcome"), [value(number)]);
    }
    for number in HELD..HELD + SOUGHT {
        client.put(key(number), value(number)).expect("stored");
    }
    let [most, own] = ["VmHWM:", "RssAnon:"].map(|which| small.memory(which));
    println!("resident: {most} kB at the most, {own} kB without the program");
    // A program that is not optimised has 2 MB more to load.
    if cfg!(not(debug_assertions)) {
        assert!(most <= RESIDENT, "{most} kB");
    }
    assert!(small.0.try_wait().expect("a status").is_none(), "it runs still");
}
