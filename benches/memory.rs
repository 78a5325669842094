//! What things take of memory.
//!
//! ```sh
//! cargo bench --bench memory
//! cargo bench --bench memory -- parts
//! cargo bench --bench memory -- nodes
//! ```
//!
//! * `parts`: a connection at rest with its entry in the table of addresses, a contact, a call that waits,
//!   a lookup under way; bytes asked of the allocator. What a connection takes depends on how full tables
//!   are that double, hence several numbers of them.
//! * `nodes`: a node that has just been made; 64 that have joined, at once and half an hour later, when they
//!   have looked after their tables; stores in memory and in files. `asked`: bytes asked of the allocator;
//!   `SQLite`: what SQLite says that it has; `resident`: by how much the process has grown, each in one of
//!   its own, the program's share included.
//!
//! Each part prints a table and then one line of JSON.

#[path = "../tests/support/counting.rs"]
mod counting;
#[path = "../tests/support/network.rs"]
mod network;
#[path = "../tests/support/pair.rs"]
mod pair;

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use counting::{Counting, live};
use khashmir::engine::Engine;
use khashmir::random::{seed_from_number, seeded};
use khashmir::table::Table;
use khashmir::time::Time;
use khashmir::{Config, Contact, Id, NodeOptions};
use network::{Network, address};
use pair::{End, Pair, with};
use serde_json::{Value, json};
use tempfile::TempDir;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        [] => {
            parts();
            nodes();
        }
        ["parts"] => parts(),
        ["nodes"] => nodes(),
        ["--one", stage, store, count] => one(stage, store, count.parse().expect("a number")),
        _ => {
            eprintln!("usage: memory [parts | nodes]");
            std::process::exit(2);
        }
    }
}

// -- parts

fn parts() {
    let mut rows = Vec::new();
    let mut row = |name: &str, count: usize, bytes: i64| {
        println!("{name:<40} {count:>8} {:>10.1}", bytes as f64 / count as f64);
        rows.push(json!({ "of": name, "count": count, "bytes": bytes as f64 / count as f64 }));
    };
    println!("{:<40} {:>8} {:>10}", "", "of them", "bytes each");
    for count in [50, 100, 1000, 1800, 10_000] {
        row("connection at rest", count, connections(count));
    }
    let mut rng = seeded(seed_from_number(1));
    let before = live();
    let mut table = Table::new(Id::random(&mut rng), 8, Time::ZERO);
    for number in 0..100_000u32 {
        let addr = SocketAddr::from((number.to_be_bytes(), 4000));
        table.heard(Contact { id: Id::random(&mut rng), addr }, Time::ZERO);
    }
    let standbys = table.standbys().count();
    row("contact, standbys counted, too", table.len() + standbys, live() - before);
    const AT_ONCE: usize = 512;
    row(
        "call that waits, a ping's",
        AT_ONCE,
        under_way(AT_ONCE, |engine, node, peer| {
            engine.add_contact(Time::ZERO, node, peer, None);
        }),
    );
    row(
        "lookup, with its 4 calls",
        AT_ONCE,
        under_way(AT_ONCE, |engine, node, _| {
            engine.find_close_nodes(Time::ZERO, node, None);
        }),
    );
    println!("{}\n", json!({ "part": "parts", "rows": rows }));
}

/// What so many connections take at one end, after a request and its answer each.
fn connections(count: usize) -> i64 {
    let [mut end, _] = Pair::new().ends;
    end.config = Config { max_connections: count, max_unproven: count.min(256), ..Config::default() };
    end.serves = Some(10);
    let mut now = Time::ZERO;
    for number in 0..count as u32 {
        let [_, mut peer] = Pair::new().ends;
        let (here, there) = (address(0), address(256 * (number + 1)));
        with(&mut peer, now, |mux, ctx, _| {
            let key = mux.connect(ctx, here);
            mux.send(ctx, key, &[1; 10], None).expect("room");
        });
        let until = now + Duration::from_millis(200);
        while now < until {
            talk(&mut peer, &mut end, there, now);
            talk(&mut end, &mut peer, here, now);
            now += Duration::from_millis(1);
            for end in [&mut peer, &mut end] {
                while let Some(alarm) = end.wheel.expire(now) {
                    with(end, now, |mux, ctx, inbox| {
                        if let khashmir::context::Due::Connection(key) = alarm.due {
                            mux.handle_timeout(ctx, key, inbox);
                            inbox.clear();
                        }
                    });
                }
            }
        }
    }
    assert_eq!(end.mux.len(), count);
    let before = live();
    drop(end.mux);
    before - live()
}

/// What one end has to say reaches the other.
fn talk(from: &mut End, to: &mut End, addr: SocketAddr, now: Time) {
    let mut datagram = Vec::new();
    while with(from, now, |mux, ctx, _| mux.poll_transmit(ctx, &mut datagram)).is_some() {
        let serves = to.serves;
        with(to, now, |mux, ctx, inbox| {
            if let Some(key) = mux.receive(ctx, addr, &datagram, inbox) {
                let used = inbox.len();
                inbox.clear();
                mux.keep(ctx, key, inbox, 0);
                if serves == Some(used) {
                    mux.send(ctx, key, &[1], None).expect("room");
                }
            }
        });
    }
}

/// What a node takes for so many operations that have just begun.
fn under_way(count: usize, begin: impl Fn(&mut Engine, khashmir::NodeKey, SocketAddr)) -> i64 {
    let (mut network, nodes) = Network::joined(1, 32, &Config::default());
    let peer = network.address(nodes[1]);
    let before = live();
    (0..count).for_each(|_| begin(&mut network.engine, nodes[0], peer));
    live() - before
}

// -- nodes

fn nodes() {
    println!("{:<34} {:>6} {:>10} {:>10} {:>10}", "a node, in kB", "nodes", "asked", "SQLite", "resident");
    let mut rows = Vec::new();
    for (stage, store, count) in [
        ("new", "memory", 2000),
        ("joined", "memory", 256),
        ("later", "memory", 256),
        ("new", "file", 200),
        ("joined", "file", 64),
        ("later", "file", 64),
    ] {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["--one", stage, store, &count.to_string()]);
        let output = command.output().expect("a process");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let row: Value = serde_json::from_slice(&output.stdout).expect("a line");
        let kb = |name: &str| row[name].as_f64().unwrap_or(f64::NAN) / 1e3;
        let name = format!("{stage}, store in {store}");
        let [asked, sqlite, resident] = ["asked_bytes", "sqlite_bytes", "resident_bytes"].map(kb);
        println!("{name:<34} {count:>6} {asked:>10.1} {sqlite:>10.1} {resident:>10.1}");
        rows.push(row);
    }
    println!("{}\n", json!({ "part": "nodes", "rows": rows }));
}

/// In a process of its own: what a node takes.
fn one(stage: &str, store: &str, count: u32) {
    let directory = TempDir::new().expect("a directory");
    let mut network = Network::new(1);
    let before = (live(), sqlite(), resident());
    let nodes: Vec<_> = (0..count)
        .map(|number| {
            let store = (store == "file").then(|| directory.path().join(format!("{number}.db")));
            let options = NodeOptions { store, ..NodeOptions::default() };
            network.node_with(address(number), address(number), options)
        })
        .collect();
    network.drain();
    if stage != "new" {
        network.join(&nodes);
        network.run(Duration::from_secs(5));
    }
    if stage == "later" {
        network.run(Duration::from_secs(30 * 60));
    }
    network.outcomes.clear();
    let after = (live(), sqlite(), resident());
    println!(
        "{}",
        json!({
            "stage": stage, "store": store, "nodes": count,
            "asked_bytes": (after.0 - before.0) / i64::from(count),
            "sqlite_bytes": (after.1 - before.1) / i64::from(count),
            "resident_bytes": (after.2 - before.2) / i64::from(count),
        })
    );
}

/// Bytes of this process that are in memory.
fn resident() -> i64 {
    let text = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: i64 = text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * 4096
}

fn sqlite() -> i64 {
    // SAFETY: it takes no argument, and may be called at any time by any thread.
    unsafe { rusqlite::ffi::sqlite3_memory_used() }
}
