//! What a node takes of memory.

use std::process::Command;

use super::*;

pub fn memory() {
    println!("memory of a node, in kB");
    println!("{:<26} {:>8} {:>12} {:>12}", "", "nodes", "resident", "SQLite's");
    let mut rows = Vec::new();
    for (kind, nodes, values) in
        [("memory", 2000, 0), ("memory", 2000, 100), ("file", 200, 0), ("file", 200, 100)]
    {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["--one-memory", kind, &nodes.to_string(), &values.to_string()]);
        let output = command.output().expect("a process");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let row: Value = serde_json::from_slice(&output.stdout).expect("a line");
        let name = format!("in {kind}, {values} values");
        let [resident, sqlite] = ["resident_bytes", "sqlite_bytes"].map(|name| row[name].as_f64());
        let kb = |bytes: Option<f64>| bytes.unwrap_or(f64::NAN) / 1e3;
        println!("{name:<26} {nodes:>8} {:>12.1} {:>12.1}", kb(resident), kb(sqlite));
        rows.push(row);
    }
    told("memory", rows);
}

/// In a process of its own: what a node takes.
pub fn one_memory() {
    let words: Vec<String> = std::env::args().skip(2).collect();
    let [kind, nodes, values] = &words[..] else { panic!("a kind, how many nodes, how many values") };
    let (nodes, values): (u64, u64) = (nodes.parse().expect("a number"), values.parse().expect("a number"));
    let directory = TempDir::new().expect("a directory");
    let mut engine =
        Engine::new(seed_from_number(1), UnixTime(START), Box::new(NoRoutes)).expect("an engine");
    let config = Arc::new(store::config(store::PROGRAM.0));
    let mut buffer = Vec::new();
    let before = (resident(), sqlite_memory());
    for number in 0..nodes {
        let path = (kind == "file").then(|| directory.path().join(format!("{number}.db")));
        let options = NodeOptions { config: Arc::clone(&config), id: None, store: path };
        let addr = SocketAddr::from(([10, 0, (number >> 8) as u8, number as u8], 4000));
        let node = engine.add_node(Time::ZERO, addr, options).expect("a node");
        // Alone in its network, the node holds what its owner stores.
        for value in 0..values {
            let (key, value) = numbered(number << 32 | value);
            engine.store_value(Time::ZERO, node, key, value.to_vec(), None, None);
            while engine.poll_event().is_some() {}
        }
        while let Some(ready) = engine.poll_ready() {
            while engine.poll_transmit(Time::ZERO, ready, &mut buffer).is_some() {}
        }
        while engine.poll_event().is_some() {}
        let held = engine.stats(node).expect("a node").values;
        assert_eq!(held as u64, values);
    }
    let per_node = |now: u64, before: u64| (now - before) / nodes;
    println!(
        "{}",
        json!({
            "store": kind, "nodes": nodes, "values": values,
            "resident_bytes": per_node(resident(), before.0),
            "sqlite_bytes": per_node(sqlite_memory(), before.1),
        })
    );
}

/// Bytes of this process that are in memory.
fn resident() -> u64 {
    let text = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * 4096
}

fn sqlite_memory() -> u64 {
    // SAFETY: it takes no argument, and may be called at any time by any thread.
    unsafe { rusqlite::ffi::sqlite3_memory_used() as u64 }
}
