//! What the store does as a whole, beside what SQLite does.
//!
//! ```sh
//! cargo bench --bench store
//! cargo bench --bench store -- stores memory
//! cargo bench --bench store -- million --values 100000
//! ```
//!
//! * `stores`: values that a node acknowledges to four peers on loopback sockets, per second, in memory
//!   and in a file with either durability; and the rows that SQLite itself takes on the same machine a
//!   moment later: the same schema, the same settings, 64 rows a transaction, through rusqlite and
//!   nothing else, with the statement prepared once. The ratio of the two rates is to be at least 0.5.
//!   Where the machine has other things to do, the ratio of the work is the surer one: of what a row
//!   and a stored value take of a processor, the system's share included. `busy` is the share of the
//!   time for which the node's thread was running (all peers share another one); at less than 100 %
//!   something else was waited for.
//! * `million`: a file with a million values of 100 bytes: how long it takes to be filled and to be
//!   opened (it is checked then, to the last row), what a lookup takes, and the expiry of every second
//!   value by a node: how often it held up the loop and for how long at a stretch, with the disk's own
//!   sync and without, which is to be less than 5 ms. (`work`: what it took of a processor, for machines
//!   that have other things to do.)
//! * `memory`: what a node takes, its store in memory and in a file, empty and with 100 values of 100
//!   bytes: resident memory of the process, and SQLite's share. Each in a process of its own.
//!
//! Each part prints a table and then one line of JSON.

// Benchmarks read the clock.
#![allow(clippy::disallowed_methods)]

#[path = "../tests/support/client.rs"]
mod client;
#[path = "store/memory.rs"]
mod memory;
#[path = "store/sqlite.rs"]
mod sqlite;
#[path = "../tests/support/vfs.rs"]
mod vfs;

#[path = "../tests/support/limits.rs"]
mod limits;

use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use client::{Answer, Client};
use khashmir::context::Routes;
use khashmir::engine::Engine;
use khashmir::krpc::message::Method;
use khashmir::random::{seed_from_number, seeded};
use khashmir::time::{Time, UnixTime};
use khashmir::{Config, Contact, Durability, Id, Khashmir, NodeOptions};
use rand::{Rng, RngExt};
use rusqlite::Connection;
use serde_json::{Value, json};
use store::Store;
use tempfile::TempDir;
use vfs::processor;

/// All that this benchmark knows of the store's own interface.
mod store {
    use std::ops::ControlFlow;
    use std::path::Path;

    use crate::limits::boundless;
    use khashmir::store::{Database, Resident};
    use khashmir::time::UnixTime;
    use khashmir::{Config, Durability, Id};

    /// What survives a crash of the program, and of the machine, with SQLite's word for it.
    pub const PROGRAM: (Durability, &str) = (Durability::Program, "NORMAL");
    pub const MACHINE: (Durability, &str) = (Durability::Machine, "FULL");

    /// Settings of a node that takes whatever comes, and does nothing of its own accord.
    pub fn config(durability: Durability) -> Config {
        Config {
            max_values_per_key: 1 << 30,
            max_bytes_per_key: 1 << 31,
            max_stored_bytes: 1 << 40,
            max_stored_values: 1 << 40,
            hand_on_interval: std::time::Duration::ZERO,
            durability,
            ..Config::default()
        }
    }

    /// Takes key, digest, times of storing and expiry, distance and value.
    pub const ADD_VALUE: &str = "
        INSERT INTO value (node, key, digest, time, expires, run, sender, distance, value)
        VALUES (1, ?1, ?2, ?3, ?4, 1, '192.0.2.1', ?5, ?6)";

    pub struct Store(Database, Resident);

    impl Store {
        pub fn open(path: &Path) -> Store {
            let mut database = Database::open(path, PROGRAM.0).expect("a sound file");
            let who = database.move_in(None, Id::of(b"me"), boundless()).expect("room");
            Store(database, who)
        }

        pub fn expire(&mut self, now: UnixTime, at_most: u32) {
            self.0.expire(&mut self.1, now, at_most).expect("to expire");
            self.0.commit().expect("a commit");
        }

        pub fn id(&self) -> Id {
            self.1.id()
        }

        /// How many bytes of values there are under a key.
        pub fn look_up(&mut self, key: Id) -> usize {
            let mut bytes = 0;
            let each = |value: &[u8]| {
                bytes += value.len();
                ControlFlow::Continue(())
            };
            self.0
                .values(
                    &mut self.1,
                    &key,
                    &UnixTime(i64::MIN).into(),
                    (&Id::new([0; 20]), &Id::new([0; 20])),
                    each,
                )
                .expect("a get");
            bytes
        }
    }
}

const SIZE: usize = 100;
/// Rows that SQLite gets in one transaction.
const BATCH: usize = 64;
const PEERS: usize = 4;
/// Requests of one peer without an answer.
const UNDER_WAY: u64 = 64;
/// The time of day at the start of virtual time.
const START: i64 = 1_000_000_000;

struct Options {
    parts: Vec<String>,
    values: u64,
    span: Duration,
}

fn options() -> Option<Options> {
    let mut options = Options { parts: vec![], values: 1_000_000, span: Duration::from_secs(4) };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--values" => options.values = arguments.next()?.parse().ok()?,
            "--seconds" => options.span = Duration::from_secs(arguments.next()?.parse().ok()?),
            // What cargo adds.
            "--bench" => {}
            "stores" | "million" | "memory" => options.parts.push(argument),
            _ => return None,
        }
    }
    Some(options)
}

fn main() {
    if std::env::args().nth(1).as_deref() == Some("--one-memory") {
        return memory::one_memory();
    }
    let Some(options) = options() else {
        eprintln!("usage: store [stores] [million] [memory] [--values N] [--seconds S]");
        std::process::exit(2);
    };
    vfs::install();
    let begun = Instant::now();
    let wanted = |part: &str| options.parts.is_empty() || options.parts.iter().any(|name| name == part);
    if wanted("stores") {
        stores(options.span);
    }
    if wanted("million") {
        million(options.values);
    }
    if wanted("memory") {
        memory::memory();
    }
    println!("took {} s", begun.elapsed().as_secs());
}

fn told(part: &str, rows: Vec<Value>) {
    println!("{}\n", json!({ "part": part, "rows": rows }));
}

// -- stores

fn stores(span: Duration) {
    println!("values of {SIZE} bytes acknowledged to {PEERS} peers, and SQLite's own rows");
    println!("{:<14} {:>21} {:>21} {:>16} {:>7}", "", "per second", "µs of a processor", "ratio", "");
    println!(
        "{:<14} {:>10} {:>10} {:>10} {:>10} {:>8} {:>7} {:>7}",
        "", "node", "SQLite", "node", "SQLite", "time", "work", "busy"
    );
    let mut rows = Vec::new();
    for (name, durable) in
        [("memory", None), ("file, program", Some(store::PROGRAM)), ("file, machine", Some(store::MACHINE))]
    {
        let directory = TempDir::new().expect("a directory");
        let path = durable.map(|_| directory.path().join("node.db"));
        let word = durable.map(|(_, word)| word);
        // Before and after, so that whatever else the machine does concerns both.
        let before = sqlite::rate(word, span / 2);
        let node = node_rate(path.as_deref(), durable.unwrap_or(store::PROGRAM).0, span);
        let own = before.and(sqlite::rate(word, span / 2));
        let (time, work) = (node.per_second() / own.per_second(), own.each() / node.each());
        println!(
            "{name:<14} {:>10.0} {:>10.0} {:>10.1} {:>10.1} {time:>8.2} {work:>7.2} {:>5.0} %",
            node.per_second(),
            own.per_second(),
            node.each(),
            own.each(),
            100.0 * node.busy / node.took,
        );
        rows.push(json!({
            "store": name, "node_per_s": node.per_second().round(), "sqlite_per_s": own.per_second().round(),
            "node_cpu_us": node.each(), "sqlite_cpu_us": own.each(), "ratio": time, "ratio_cpu": work,
            "node_busy": node.busy / node.took,
        }));
    }
    told("stores", rows);
}

/// How many were stored, in which time, for how much of which the thread was running; in seconds.
#[derive(Clone, Copy)]
struct Rate {
    count: u64,
    took: f64,
    busy: f64,
}

impl Rate {
    fn and(self, other: Rate) -> Rate {
        Rate { count: self.count + other.count, took: self.took + other.took, busy: self.busy + other.busy }
    }

    fn per_second(&self) -> f64 {
        self.count as f64 / self.took
    }

    /// Microseconds of a processor for each.
    fn each(&self) -> f64 {
        self.busy * 1e6 / self.count as f64
    }
}

/// Values that a node acknowledges.
fn node_rate(path: Option<&Path>, durability: Durability, span: Duration) -> Rate {
    let options = NodeOptions {
        config: Arc::new(store::config(durability)),
        id: None,
        store: path.map(Path::to_owned),
    };
    let before = threads();
    let node = Khashmir::with("127.0.0.1", 0, options).expect("a node");
    let loop_thread = threads().into_iter().find(|thread| !before.contains(thread)).unwrap_or_default();
    let mut peers: Vec<Peer> = (0..PEERS).map(|n| Peer::new(node.local_addr(), n as u64)).collect();
    let mut run = |span: Duration| {
        let (begun, busy) = (Instant::now(), running(&loop_thread));
        let mut count = 0;
        while begun.elapsed() < span {
            let taken: u64 = peers.iter_mut().map(Peer::turn).sum();
            if taken == 0 {
                thread::yield_now();
            }
            count += taken;
        }
        Rate { count, took: begun.elapsed().as_secs_f64(), busy: running(&loop_thread) - busy }
    };
    // The windows open first.
    run(span / 8);
    let rate = run(span);
    node.close().expect("to close");
    rate
}

fn threads() -> Vec<String> {
    let Ok(entries) = fs::read_dir("/proc/self/task") else { return vec![] };
    entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// For how many seconds a thread has been running.
fn running(thread: &str) -> f64 {
    let text = fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).map_or(0.0, |ns| ns / 1e9)
}

struct Peer {
    socket: UdpSocket,
    client: Client,
    begun: Instant,
    seed: u64,
    sent: u64,
    answered: u64,
    buffer: Vec<u8>,
    out: Vec<u8>,
}

impl Peer {
    fn new(node: SocketAddr, seed: u64) -> Peer {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.set_nonblocking(true).expect("a socket that does not block");
        let own = Contact { id: Id::of(&seed.to_be_bytes()), addr: socket.local_addr().expect("an address") };
        let client = Client::new(Time::ZERO, own, node, seed);
        let (buffer, out) = (vec![0; 2048], Vec::new());
        Peer { socket, client, begun: Instant::now(), seed, sent: 0, answered: 0, buffer, out }
    }

    /// Sends and receives what there is; how many stores were acknowledged.
    fn turn(&mut self) -> u64 {
        loop {
            match self.socket.recv_from(&mut self.buffer) {
                Ok((length, from)) => {
                    let now = Time::ZERO + self.begun.elapsed();
                    self.client.receive(now, from, &self.buffer[..length]);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        let now = Time::ZERO + self.begun.elapsed();
        if self.client.next_deadline().is_some_and(|due| due <= now) {
            self.client.handle_timeout(now);
        }
        let mut taken = 0;
        while let Some((_, answer)) = self.client.answers.pop_front() {
            assert_eq!(answer, Answer::Done);
            taken += 1;
        }
        self.answered += taken;
        while self.client.is_connected() && self.sent - self.answered < UNDER_WAY {
            let mut value = [7; SIZE];
            value[..8].copy_from_slice(&self.sent.to_be_bytes());
            value[8..16].copy_from_slice(&self.seed.to_be_bytes());
            let key = Id::of(&value[..16]);
            if !self.client.ask(now, self.sent, &Method::StoreValue { key, value: &value, life: None }) {
                break;
            }
            self.sent += 1;
        }
        while let Some(to) = self.client.poll_transmit(now, &mut self.out) {
            let _ = self.socket.send_to(&self.out, to);
        }
        taken
    }
}

// -- a million

struct NoRoutes;

impl Routes for NoRoutes {
    fn local_address(&self, _: IpAddr) -> Option<IpAddr> {
        None
    }
}

fn numbered(number: u64) -> (Id, [u8; SIZE]) {
    let mut value = [7; SIZE];
    value[..8].copy_from_slice(&number.to_be_bytes());
    (Id::of(&value[..8]), value)
}

fn million(count: u64) {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("node.db");
    let config = store::config(store::PROGRAM.0);
    // Every second one will have expired when the node runs.
    let lifetime = config.value_lifetime.as_secs() as i64;
    let (stored, old) = (START - lifetime, START - 10);
    fill(&path, count, (stored, old, START + lifetime));
    let size = || fs::metadata(&path).expect("a file").len();
    let size_before = size();
    println!("{count} values of {SIZE} bytes");
    let line = |name: &str, number: f64, unit: &str| println!("{name:<46} {number:>10.2} {unit}");
    line("file", size_before as f64 / 1e6, "MB");
    let begun = Instant::now();
    let mut store = Store::open(&path);
    let opening = begun.elapsed();
    let lookup = look_up(&mut store, count, 0);
    let lookup_absent = look_up(&mut store, count, count);
    let by_rows: Vec<Value> = [10, 25, 50, 100, 200].map(|rows| expire_some(&mut store, rows)).into();
    drop(store);
    line("opening", opening.as_secs_f64(), "s");
    line("looking up a value", lookup, "µs");
    line("looking up a key without values", lookup_absent, "µs");
    println!(
        "{:<46} {:>10} {:>10} {:>10}",
        "rows expired at once: work, without the sync, ms", "usual", "99 %", "longest"
    );
    for row in &by_rows {
        let [usual, most, longest] =
            ["median", "p99", "longest"].map(|name| row[name].as_f64().unwrap_or(0.0));
        println!("  {:<44} {usual:>10.2} {most:>10.2} {longest:>10.2}", row["rows"].as_u64().unwrap_or(0));
    }
    let expiry = expire(&path, config, count);
    line("start of a node on it", expiry.start, "s");
    line("expiry of every second value", expiry.total.as_secs_f64(), "s");
    line("  turns of the loop of more than 0.1 ms", expiry.turns as f64, "");
    line("  longest turn", expiry.longest, "ms");
    line("  longest turn without the disk's sync", expiry.longest_own, "ms");
    line("  work of the longest turn, without the sync", expiry.longest_work, "ms");
    line("  work of the usual turn, without the sync", expiry.usual_work, "ms");
    line("  99 of 100 turns without the sync are below", expiry.most_own, "ms");
    line("file after that", size() as f64 / 1e6, "MB");
    told(
        "million",
        vec![json!({
            "values": count, "file_bytes": size_before,
            "opening_s": opening.as_secs_f64(), "lookup_us": lookup, "lookup_absent_us": lookup_absent,
            "expiry_s": expiry.total.as_secs_f64(), "expiry_longest_ms": expiry.longest,
            "expiry_longest_own_ms": expiry.longest_own, "expiry_longest_cpu_ms": expiry.longest_work,
            "expiry_median_cpu_ms": expiry.usual_work, "expiry_cpu_ms_by_rows": by_rows,
            "expiry_p99_own_ms": expiry.most_own,
            "node_start_s": expiry.start,
            "file_bytes_after": size(),
        })],
    );
}

/// Puts values into a new file, in the order of their numbers, that is, of no key; with more memory
/// than a node has. `times`: when they were stored, and when those of even and of odd numbers expire.
fn fill(path: &Path, count: u64, times: (i64, i64, i64)) {
    let id = Store::open(path).id();
    let connection = Connection::open(path).expect("a file");
    let settings = "PRAGMA cache_size = -400000; PRAGMA synchronous = OFF; PRAGMA wal_autocheckpoint = 0";
    connection.execute_batch(settings).expect("settings");
    connection.query_row("PRAGMA journal_mode = MEMORY", [], |_| Ok(())).expect("a setting");
    connection.execute_batch("BEGIN").expect("to begin");
    let mut statement = connection.prepare(store::ADD_VALUE).expect("a statement");
    for number in 0..count {
        let (key, value) = numbered(number);
        let expires = if number.is_multiple_of(2) { times.1 } else { times.2 };
        let [key_start, id_start] = [key, id].map(|id| id.as_bytes()[..8].try_into().expect("8 bytes"));
        let distance = (u64::from_be_bytes(key_start) ^ u64::from_be_bytes(id_start)) >> 1;
        let digest = Id::of(&value);
        let row = (key.as_bytes(), digest.as_bytes(), times.0, expires, distance as i64, value);
        statement.execute(row).expect("a row");
    }
    connection.execute_batch("COMMIT").expect("to commit");
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(())).expect("a setting");
}

/// What it takes of a processor to delete so many values and to commit that, two hundred times.
fn expire_some(store: &mut Store, rows: u32) -> Value {
    let mut works: Vec<f64> = (0..200)
        .map(|_| {
            let (begun, in_sync) = (processor::of_thread(), vfs::work_in_sync());
            store.expire(UnixTime(START), rows);
            1e3 * (processor::of_thread() - begun - (vfs::work_in_sync() - in_sync))
        })
        .collect();
    works.sort_by(f64::total_cmp);
    json!({ "rows": rows, "median": works[100], "p99": works[197], "longest": works[199] })
}

/// Microseconds for a lookup; `first`: of the numbers that are looked for.
fn look_up(store: &mut Store, count: u64, first: u64) -> f64 {
    const LOOKUPS: u64 = 50_000;
    let mut rng = seeded(seed_from_number(2));
    let keys: Vec<Id> = (0..LOOKUPS).map(|_| numbered(first + rng.random_range(0..count)).0).collect();
    let begun = Instant::now();
    let bytes: usize = keys.into_iter().map(|key| store.look_up(key)).sum();
    let took = begun.elapsed();
    assert_eq!(bytes, if first == 0 { LOOKUPS as usize * SIZE } else { 0 });
    took.as_secs_f64() * 1e6 / LOOKUPS as f64
}

struct Expiry {
    start: f64,
    total: Duration,
    turns: usize,
    longest: f64,
    longest_own: f64,
    longest_work: f64,
    usual_work: f64,
    most_own: f64,
}

/// A node deletes every second value; time is virtual, what it takes is not.
fn expire(path: &Path, config: Config, count: u64) -> Expiry {
    let mut engine =
        Engine::new(seed_from_number(1), UnixTime(START), Box::new(NoRoutes)).expect("an engine");
    let begun = Instant::now();
    let options = NodeOptions { config: Arc::new(config), id: None, store: Some(path.to_owned()) };
    let node = engine.add_node(Time::ZERO, ([127, 0, 0, 1], 4000).into(), options).expect("a node");
    let start = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    let (mut turns, mut own, mut works) = (Vec::new(), Vec::new(), Vec::new());
    let mut buffer = Vec::new();
    loop {
        let due = engine.next_deadline().expect("upkeep");
        let (began, in_sync) = (Instant::now(), vfs::in_sync());
        let (busy, busy_in_sync) = (processor::of_thread(), vfs::work_in_sync());
        engine.handle_timeout(due);
        while let Some(ready) = engine.poll_ready() {
            while engine.poll_transmit(due, ready, &mut buffer).is_some() {}
        }
        while engine.poll_event().is_some() {}
        let took = began.elapsed();
        works.push(processor::of_thread() - busy - (vfs::work_in_sync() - busy_in_sync));
        turns.push(took);
        own.push(took.saturating_sub(vfs::in_sync() - in_sync));
        let held = engine.stats(node).expect("a node").values;
        if held as u64 <= count / 2 {
            break;
        }
        assert!(due < Time::ZERO + Duration::from_secs(24 * 60 * 60), "{held} values are left");
    }
    let total = begun.elapsed();
    let busy = turns.iter().filter(|turn| turn.as_micros() > 100).count();
    own.sort();
    works.sort_by(f64::total_cmp);
    let ms = |span: Duration| span.as_secs_f64() * 1e3;
    Expiry {
        start,
        total,
        turns: busy,
        longest: ms(*turns.iter().max().expect("a turn")),
        longest_own: ms(*own.last().expect("a turn")),
        longest_work: works[works.len() - 1] * 1e3,
        usual_work: works[works.len() - 1 - busy / 2] * 1e3,
        most_own: ms(own[own.len() - 1 - busy / 100]),
    }
}
