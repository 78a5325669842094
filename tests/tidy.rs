//! The house rules that a compiler does not check: which file may import which,
//! what the core must not touch, and how files look.
//!
//! It reads text, not types, and so can be fooled. It is there for the slip, not
//! for the trick.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

const MOST_LINES: usize = 600;
const LONGEST_LINE: usize = 110;

/// Where a module stands. It may import from lower layers, and from its own
/// layer in its own room (the folder, or the file that is none).
fn layer(module: &str) -> Option<u32> {
    let room = module.split('/').next().unwrap_or(module);
    Some(match (module, room) {
        ("error" | "id" | "contact" | "time" | "random" | "validator" | "config" | "outcome", _) => 0,
        (_, "wheel") => 1,
        ("context" | "airhook/packet", _) | (_, "bencode") => 2,
        ("krpc/netstring", _) => 3,
        _ if module.starts_with("krpc/message") => 3,
        // A folder itself stands where the highest of its files does.
        ("airhook" | "publish", _) => 5,
        _ if module.starts_with("airhook/mux") || module == "airhook/endpoint" => 5,
        (_, "airhook" | "krpc" | "table" | "lookup" | "store") => 4,
        (_, "node") => 6,
        (_, "engine" | "udp") => 7,
        (_, "reactor" | "sim") => 8,
        (_, "khashmir") => 9,
        ("lib", _) => 10,
        _ => return None,
    })
}

fn room(module: &str) -> &str {
    if layer(module) == Some(0) { "ground" } else { module.split('/').next().unwrap_or(module) }
}

/// The files that may read clocks, open sockets and hold locks. (A simulation must not, but where the
/// seed of a test comes from the environment.)
fn is_driver(module: &str) -> bool {
    matches!(room(module), "reactor" | "khashmir" | "lib" | "udp") || module == "sim/seed"
}

/// The files whose results must be the same on every machine, and so are counted in integers.
fn is_exact(module: &str) -> bool {
    room(module) == "sim" && !module.starts_with("sim/report")
}

/// Paths that nothing but a driver may name, and why; with the rooms, if any, that
/// may all the same.
const NOT_IN_THE_CORE: [(&str, &str, &str); 21] = [
    ("std::time::Instant", "", "reads a clock"),
    ("std::time::SystemTime", "", "reads a clock"),
    // A simulated node that loses its file; the lock beside the store's.
    ("std::fs", "sim store", "does I/O"),
    ("std::process", "", "reaches outside"),
    ("std::env", "", "reaches outside"),
    ("std::thread", "", "starts or stops threads"),
    ("std::net::UdpSocket", "", "does I/O"),
    ("std::net::TcpStream", "", "does I/O"),
    ("std::net::TcpListener", "", "does I/O"),
    ("std::net::ToSocketAddrs", "", "does I/O"),
    ("std::rc", "", "is shared ownership, which the core has no need of"),
    ("std::cell", "", "is hidden mutation, which the core has no need of"),
    ("std::sync::Mutex", "", "is a lock"),
    ("std::sync::RwLock", "", "is a lock"),
    ("std::sync::Condvar", "", "is a lock"),
    ("std::sync::mpsc", "", "is a lock"),
    ("std::sync::atomic", "", "is shared state"),
    ("rand::rng", "", "draws randomness that was not handed in"),
    ("rand::rngs::SysRng", "", "draws randomness that was not handed in"),
    ("mio", "", "does I/O"),
    ("rusqlite", "store", "is the store's"),
];

/// Words that nothing but a driver may use.
const NOT_A_WORD_OF_THE_CORE: [(&str, &str); 15] = [
    ("Instant", "reads a clock"),
    ("SystemTime", "reads a clock"),
    ("UdpSocket", "does I/O"),
    ("thread_rng", "draws randomness that was not handed in"),
    ("SysRng", "draws randomness that was not handed in"),
    ("OsRng", "draws randomness that was not handed in"),
    ("getrandom", "draws randomness that was not handed in"),
    ("Rc", "is shared ownership, which the core has no need of"),
    ("RefCell", "is hidden mutation, which the core has no need of"),
    ("Mutex", "is a lock"),
    ("RwLock", "is a lock"),
    ("println!", "writes to the terminal"),
    ("eprintln!", "writes to the terminal"),
    ("print!", "writes to the terminal"),
    ("eprint!", "writes to the terminal"),
];

/// Words that no file of `src/` may use.
const NOWHERE: [(&str, &str); 4] = [
    ("unsafe", "is not allowed"),
    ("todo!", "is unfinished"),
    ("unimplemented!", "is unfinished"),
    ("dbg!", "is a leftover"),
];

/// Parts of paths that exist on one machine only.
const MACHINE_PATHS: [&str; 6] = ["/home/", "/tmp/", "/root/", "/work/", "/Users/", "C:\\"];

/// The ways to go over a hash map, whose order differs from run to run.
const GOES_OVER: [&str; 12] = [
    "iter",
    "iter_mut",
    "keys",
    "values",
    "values_mut",
    "drain",
    "retain",
    "into_iter",
    "into_keys",
    "into_values",
    "extract_if",
    "difference",
];

#[test]
fn the_house_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = BTreeMap::new();
    for folder in ["src", "tests", "benches", "examples"] {
        gather(&root.join(folder), folder, &mut files);
    }
    let modules: BTreeSet<String> = files.keys().filter_map(|file| module_of(file)).collect();
    assert!(modules.contains("lib"), "src/lib.rs was not found below {}", root.display());
    let mut faults = Vec::new();
    for (file, text) in &files {
        faults.extend(looks(file, text));
        if let Some(module) = module_of(file) {
            faults.extend(manners(file, &module, text, &modules));
        }
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

fn gather(folder: &Path, name: &str, files: &mut BTreeMap<String, String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("an entry").path();
        let name = format!("{name}/{}", path.file_name().expect("a name").to_string_lossy());
        if path.is_dir() {
            gather(&path, &name, files);
        } else if name.ends_with(".rs") {
            files.insert(name, fs::read_to_string(&path).expect("a file that can be read"));
        }
    }
}

/// `src/store/schema.rs` is `store/schema`, and `src/store/mod.rs` is `store`.
fn module_of(file: &str) -> Option<String> {
    let module = file.strip_prefix("src/")?.strip_suffix(".rs")?;
    Some(module.strip_suffix("/mod").unwrap_or(module).to_owned())
}

/// What is wrong with how a file looks.
fn looks(file: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let mut fault = |line: usize, what: &str| faults.push(format!("{file}:{line}: {what}"));
    for (at, line) in text.split('\n').enumerate() {
        if line.contains('\t') {
            fault(at + 1, "a tab");
        }
        if line.ends_with([' ', '\r']) {
            fault(at + 1, "blanks at the end of the line");
        }
        if line.chars().count() > LONGEST_LINE {
            fault(at + 1, &format!("more than {LONGEST_LINE} characters"));
        }
        // This file has to name them.
        let own_path =
            MACHINE_PATHS.iter().find(|path| line.contains(*path)).filter(|_| file != "tests/tidy.rs");
        if let Some(path) = own_path {
            fault(at + 1, &format!("a path of one machine: {path}"));
        }
    }
    let lines = text.lines().count();
    if lines > MOST_LINES {
        fault(lines, &format!("more than {MOST_LINES} lines"));
    }
    if !text.ends_with('\n') || text.ends_with("\n\n") {
        fault(lines, "it must end with one line feed");
    }
    faults
}

/// What is wrong with what a file of `src/` does.
fn manners(file: &str, module: &str, text: &str, modules: &BTreeSet<String>) -> Vec<String> {
    let code = without_tests(&without_comments(text)).to_owned();
    let mut faults = Vec::new();
    let mut fault = |at: usize, what: String| {
        let line = code[..at].matches('\n').count() + 1;
        faults.push((line, format!("{file}:{line}: {what}")));
    };
    let Some(own) = layer(module) else {
        return vec![format!("{file}:1: it has no layer yet: give it one in tests/tidy.rs")];
    };
    for (at, path) in paths(&code) {
        if path[0] == "crate" || path[0] == "super" {
            let Some(target) = absolute(module, &path, modules) else {
                fault(at, format!("`{}` goes through lib.rs: name the module", path.join("::")));
                continue;
            };
            match layer(&target) {
                Some(theirs) if theirs < own || theirs == own && room(&target) == room(module) => {}
                Some(_) => fault(at, format!("{module} must not import from {target}: layers")),
                None => {}
            }
        } else if !is_driver(module) {
            let path = path.join("::");
            let names = |banned: &str| path == banned || path.starts_with(&format!("{banned}::"));
            for (_, _, why) in NOT_IN_THE_CORE.iter().filter(|(b, but_in, _)| {
                names(b) && !but_in.split(' ').any(|room_of| room_of == room(module))
            }) {
                fault(at, format!("`{path}` {why}"));
            }
        }
    }
    for (word, why) in NOWHERE {
        words(&code, word).for_each(|at| fault(at, format!("`{word}` {why}")));
    }
    if is_exact(module) {
        for word in ["f32", "f64", "as_secs_f32", "as_secs_f64", "from_secs_f32", "from_secs_f64", "mul_f64"]
        {
            words(&code, word).for_each(|at| fault(at, format!("`{word}` may differ between machines")));
        }
    }
    if !is_driver(module) {
        for (word, why) in NOT_A_WORD_OF_THE_CORE {
            words(&code, word).for_each(|at| fault(at, format!("`{word}` {why}")));
        }
        for (at, name) in iterations(&code) {
            fault(at, format!("goes over the hash map `{name}`, whose order differs from run to run"));
        }
    }
    faults.sort();
    faults.dedup();
    faults.into_iter().map(|(_, fault)| fault).collect()
}

/// The module that a path from `crate` or `super` leads into; none if that is
/// the root.
fn absolute(module: &str, path: &[&str], modules: &BTreeSet<String>) -> Option<String> {
    let mut at: Vec<&str> = if path[0] == "crate" { vec![] } else { module.split('/').collect() };
    for &segment in path {
        match segment {
            "crate" => {}
            "super" => drop(at.pop()),
            _ => at.push(segment),
        }
    }
    (1..=at.len()).rev().map(|length| at[..length].join("/")).find(|prefix| modules.contains(prefix))
}

/// All paths that begin with one of these names, those in braces spelled out,
/// and where.
fn paths(code: &str) -> Vec<(usize, Vec<&str>)> {
    let mut found = Vec::new();
    for root in ["crate", "super", "std", "core", "rand", "mio", "rusqlite"] {
        for at in words(code, root) {
            let before = code[..at].trim_end();
            // In the middle of a longer path it begins none.
            if !before.ends_with("::") && code[at + root.len()..].trim_start().starts_with("::") {
                branches(code, at, &mut vec![], &mut found);
            }
        }
    }
    for (_, path) in &mut found {
        if path[0] == "core" {
            path[0] = "std";
        }
    }
    found
}

/// Reads one branch of a tree of paths; says where it ends.
fn branches<'c>(
    code: &'c str,
    start: usize,
    path: &mut Vec<&'c str>,
    found: &mut Vec<(usize, Vec<&'c str>)>,
) -> usize {
    let depth = path.len();
    let mut at = start;
    loop {
        at += blanks(&code[at..]);
        if code[at..].starts_with('{') {
            at += 1;
            loop {
                at += blanks(&code[at..]);
                match code.as_bytes().get(at) {
                    Some(b',') => at += 1,
                    Some(b'}') => break at += 1,
                    Some(_) => {
                        let end = branches(code, at, path, found);
                        // Something that is no tree of paths: do not stay here.
                        at = if end > at { end } else { at + 1 };
                    }
                    None => break,
                }
            }
            break;
        }
        let length = code[at..].find(|c: char| !is_of_word(c)).unwrap_or(code.len() - at);
        if length == 0 {
            found.push((start, path.clone()));
            break;
        }
        path.push(&code[at..at + length]);
        at += length;
        let rest = code[at..].trim_start();
        match rest.strip_prefix("::") {
            Some(next) => at = code.len() - next.len(),
            None => {
                found.push((start, path.clone()));
                // `as` and the new name.
                if let Some(next) = rest.strip_prefix("as ") {
                    at = code.len() - next.len();
                    at += code[at..].find(|c: char| !is_of_word(c)).unwrap_or(code.len() - at);
                }
                break;
            }
        }
    }
    path.truncate(depth);
    at
}

fn blanks(text: &str) -> usize {
    text.len() - text.trim_start().len()
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where a word stands, not as a part of a longer one.
fn words<'c>(code: &'c str, word: &'c str) -> impl Iterator<Item = usize> + 'c {
    let starts = code.match_indices(word).map(|(at, _)| at);
    starts.filter(move |&at| {
        let goes_on = word.ends_with(is_of_word) && code[at + word.len()..].starts_with(is_of_word);
        !code[..at].ends_with(is_of_word) && !goes_on
    })
}

/// Where a hash map or set that is declared in this file is gone over.
fn iterations(code: &str) -> Vec<(usize, &str)> {
    let mut names = BTreeSet::new();
    for at in words(code, "HashMap").chain(words(code, "HashSet")) {
        // `name: HashMap<…>`, `name: &mut HashMap<…>`, `let name = HashMap::new()`.
        let before =
            code[..at].trim_end().trim_end_matches("mut").trim_end().trim_end_matches('&').trim_end();
        if let Some(before) = before.strip_suffix([':', '=']).map(str::trim_end) {
            let name = &before[before.rfind(|c| !is_of_word(c)).map_or(0, |at| at + 1)..];
            if !name.is_empty() && !before.ends_with(':') {
                names.insert(name);
            }
        }
    }
    let mut found = Vec::new();
    for name in names {
        for at in words(code, name) {
            let rest = code[at + name.len()..].trim_start();
            let called = rest.strip_prefix('.').map(str::trim_start).unwrap_or("");
            let method = &called[..called.find(|c| !is_of_word(c)).unwrap_or(called.len())];
            let owner = code[..at].trim_end().trim_end_matches("self.").trim_end();
            let owner = owner.trim_end_matches("mut").trim_end().trim_end_matches('&').trim_end();
            let looped = rest.starts_with('{') && words(owner, "in").any(|at| at + 2 == owner.len());
            let calls = called[method.len()..].starts_with('(');
            if looped || calls && GOES_OVER.contains(&method) {
                found.push((at, name));
            }
        }
    }
    found
}

/// A module for tests at the end of a file may do what it likes.
fn without_tests(code: &str) -> &str {
    let tests = code
        .match_indices("#[cfg(test)]")
        .find(|(at, mark)| code[at + mark.len()..].trim_start().starts_with("mod "));
    tests.map_or(code, |(at, _)| &code[..at])
}

/// The text with blanks in place of comments and of what is in quotes, so that
/// all lines stay where they are.
fn without_comments(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let after_word = code.ends_with(is_of_word);
        let length = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |at| at + 2),
            '"' => quoted(rest, '"'),
            'r' if !after_word || code.ends_with('b') => raw(rest),
            // A character; else it is a lifetime.
            '\'' if rest[1..].starts_with('\\') || rest.chars().nth(2) == Some('\'') => quoted(rest, '\''),
            _ => 0,
        };
        if length == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            code.extend(rest[..length].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            rest = &rest[length..];
        }
    }
    code
}

/// How long a text in quotes is.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// How long a raw text is, `r"…"` or `r#"…"#`; 0 if it is none.
fn raw(text: &str) -> usize {
    let hashes = text[1..].chars().take_while(|&c| c == '#').count();
    if !text[1 + hashes..].starts_with('"') {
        return 0;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let start = hashes + 2;
    text[start..].find(&end).map_or(text.len(), |at| start + at + end.len())
}

/// The faults of a snippet, as the file of that name.
fn faults(file: &str, text: &str) -> Vec<String> {
    let modules = "lib error id time wheel bencode airhook airhook/packet airhook/mux airhook/stream krpc \
        krpc/message table table/bucket lookup store store/schema node engine reactor sim khashmir";
    let modules = modules.split(' ').map(str::to_owned).collect();
    let module = module_of(file).expect("a file of src/");
    manners(file, &module, text, &modules)
}

#[test]
fn imports_against_the_layers_are_found() {
    for (file, text, line) in [
        ("src/id.rs", "use crate::wheel::Wheel;\n", 1),
        ("src/wheel.rs", "use crate::bencode;\n", 1),
        ("src/airhook/packet.rs", "use std::fmt;\n\nuse super::mux::Mux;\n", 3),
        ("src/airhook/stream.rs", "fn f() { super::mux::go() }\n", 1),
        ("src/lookup.rs", "use crate::table::Table;\n", 1),
        ("src/table/bucket.rs", "use crate::{\n    id::Id,\n    node::{Node, serve},\n};\n", 3),
        ("src/node/serve.rs", "fn f(e: &mut crate::engine::Engine) {}\n", 1),
        ("src/engine.rs", "use crate::{id::Id as Key, reactor::Reactor as R};\n", 1),
        ("src/sim/net.rs", "use crate::reactor::Reactor;\n", 1),
        ("src/node/serve.rs", "use crate::Config;\n", 1),
        ("src/node/serve.rs", "use super::super::Config;\n", 1),
        ("src/newcomer.rs", "", 1),
    ] {
        let found = faults(file, text);
        assert!(found.len() == 1 && found[0].starts_with(&format!("{file}:{line}: ")), "{text}{found:?}");
    }
}

#[test]
fn imports_along_the_layers_are_let_pass() {
    for (file, text) in [
        ("src/error.rs", "use crate::id::Id;\n"),
        ("src/wheel.rs", "use crate::{id::Id, time::{self, Time}};\n"),
        ("src/krpc/message.rs", "use crate::bencode::Reader;\n"),
        ("src/airhook/mux.rs", "use super::stream::Stream;\nuse super::packet;\n"),
        ("src/store/mod.rs", "mod schema;\npub use schema::TABLES;\n"),
        ("src/store/schema.rs", "use super::Database;\nuse rusqlite::Connection;\nuse std::path::Path;\n"),
        ("src/reactor/mod.rs", "use std::time::Instant;\nuse mio::Poll;\nuse crate::engine::Engine;\n"),
        (
            "src/id.rs",
            "/// See [`Config`](crate::Config).\n// crate::engine\nconst A: &str = \"crate::engine\";\n",
        ),
        ("src/id.rs", "#[cfg(test)]\nmod tests {\n    use crate::engine::Engine;\n}\n"),
    ] {
        assert_eq!(faults(file, text), [""; 0], "{text}");
    }
}

#[test]
fn what_the_core_must_not_touch_is_found() {
    for text in [
        "fn f() { let now = Instant::now(); }",
        "use std::time::{Duration, SystemTime as S};",
        "use std::{collections::BTreeMap, fs};",
        "fn f() { std::fs::read(p) }",
        "use std::thread;",
        "use std::net::{IpAddr, UdpSocket};",
        "fn f() { rand::rng() }",
        "use rand::rngs::SysRng;",
        "fn f() { println!(\"x\") }",
        "struct S { a: Rc<u8> }",
        "struct S<'a> { a: &'a RefCell<u8> }",
        "fn f() { unsafe { g() } }",
        "fn f() { todo!() }",
        "use rusqlite::Connection;",
        "use mio::{Poll, Token};",
        "struct S { map: HashMap<u8, u8> }\nfn f(s: &S) { s.map\n    .iter(); }",
        "struct S { map: HashMap<u8, u8> }\nimpl S { fn f(&self) { for (a, b) in &self.map {} } }",
        "fn f() { let mut set = HashSet::new(); set.retain(|x| true); }",
    ] {
        assert!(!faults("src/node/serve.rs", text).is_empty(), "{text}");
    }
}

#[test]
fn what_a_simulation_must_not_do_is_found() {
    for text in [
        "fn f() { let now = Instant::now(); }",
        "fn f() { std::env::var(\"SEED\") }",
        "fn f() { println!(\"x\") }",
        "fn f(share: f64) {}",
        "fn f(span: Duration) -> bool { span.as_secs_f64() > g() }",
        "struct S { map: HashMap<u8, u8> }\nfn f(s: &S) { s.map.values(); }",
        "use rand::rngs::SysRng;",
    ] {
        assert!(!faults("src/sim/network.rs", text).is_empty(), "{text}");
    }
    assert_eq!(faults("src/sim/hosts.rs", "fn f() { std::fs::remove_file(p) }"), [""; 0]);
    assert_eq!(faults("src/sim/report/text.rs", "fn f(share: f64) {}"), [""; 0]);
    assert_eq!(faults("src/sim/seed.rs", "fn f() { std::env::var(\"SEED\") }"), [""; 0]);
}

#[test]
fn what_the_core_may_do_is_let_pass() {
    for text in [
        "use std::time::Duration;\nuse std::path::Path;\nuse std::net::SocketAddr;\nuse std::sync::Arc;",
        "// Instant::now, unsafe, todo!\nfn f() -> &'static str { \"unsafe println! std::fs\" }",
        "fn f() { g(r#\"a \"unsafe\" word\"#, '\"', '\\'', b'\\\\'); }",
        "struct S { map: HashMap<u8, u8>, list: Vec<u8> }\nfn f(s: &S) { s.map.get(&1); s.list.iter(); }",
        "fn f(instant: Time, unsafely: u8, map: BTreeMap<u8, u8>) { for x in &map {} }",
        "fn f(rng: &mut impl rand::Rng) { rand::RngExt::random(rng) }",
    ] {
        assert_eq!(faults("src/node/serve.rs", text), [""; 0], "{text}");
    }
}

#[test]
fn bad_looks_are_found() {
    let long = format!("// {}\n", "x".repeat(LONGEST_LINE));
    let many = "\n".repeat(MOST_LINES) + "x\n";
    for (text, line) in [
        ("a\n\tb\n", 2),
        ("a \n", 1),
        ("a\r\n", 1),
        ("// see /home/me/notes\n", 1),
        (long.as_str(), 1),
        (many.as_str(), MOST_LINES + 1),
        ("a", 1),
        ("a\n\n", 2),
    ] {
        let found = looks("src/x.rs", text);
        assert!(found.len() == 1 && found[0].starts_with(&format!("src/x.rs:{line}: ")), "{found:?}");
    }
    let just_right = "ä".repeat(LONGEST_LINE) + "\n";
    assert_eq!(looks("src/x.rs", &just_right), [""; 0]);
}
