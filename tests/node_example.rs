//! The example `node`, run as people and scripts run it.
// Tests wait for sockets and processes, with a time limit of their own.
#![allow(clippy::disallowed_methods)]
#![cfg(unix)]

mod programs;

use std::io::{BufRead, BufReader, Write};
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

static PROGRAM: LazyLock<std::path::PathBuf> = LazyLock::new(|| programs::example("node"));

/// A test that has not come to its end by then has failed.
const PATIENCE: Duration = Duration::from_secs(60);
const KEY: &str = "0123456789abcdef0123456789abcdef01234567";
const OTHER_KEY: &str = "89abcdef0123456789abcdef0123456789abcdef";

struct Node {
    child: Child,
    input: Option<ChildStdin>,
    answers: Receiver<String>,
    id: String,
    address: String,
}

impl Node {
    fn start(listen: &str, more: &[&str]) -> Node {
        let mut command = Command::new(&*PROGRAM);
        command.args(["--listen", listen]).args(more);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, answers) = mpsc::channel();
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let (id, address) = (String::new(), String::new());
        let mut node = Node { child, input, answers, id, address };
        let first = node.answer();
        node.id = first["id"].as_str().expect("an id").to_owned();
        node.address = first["listening"].as_str().expect("an address").to_owned();
        node
    }

    fn with_file(file: &Path, contacts: &[&Node]) -> Node {
        let mut more = vec!["--db", file.to_str().unwrap()];
        for contact in contacts {
            more.extend(["--contact", &contact.address]);
        }
        Node::start("127.0.0.1:0", &more)
    }

    fn answer(&self) -> Value {
        let line = self.answers.recv_timeout(PATIENCE).expect("a line of output");
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{line:?} is no JSON: {e}"))
    }

    fn write(&mut self, bytes: &[u8]) {
        self.input.as_mut().unwrap().write_all(bytes).unwrap();
    }

    fn ask(&mut self, command: &str) -> Value {
        self.write(format!("{command}\n").as_bytes());
        self.answer()
    }

    /// What it found under a key, sorted.
    fn get(&mut self, key: &str) -> Vec<String> {
        let answer = self.ask(&format!("get {key}"));
        let values = answer["values"].as_array().unwrap_or_else(|| panic!("{answer}"));
        let mut values: Vec<_> = values.iter().map(|value| value.as_str().unwrap().to_owned()).collect();
        values.sort();
        values
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Waits for its end, which must be in order.
    fn ends(mut self) {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "it does not end");
            thread::sleep(Duration::from_millis(5));
        };
        assert!(status.success(), "{status}");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn error(answer: &Value) -> &str {
    answer["error"].as_str().unwrap_or_else(|| panic!("no error: {answer}"))
}

#[test]
fn two_nodes_keep_values_through_signals() {
    let directory = tempfile::tempdir().unwrap();
    let [file_a, file_b] = ["a.db", "b.db"].map(|name| directory.path().join(name));
    let mut a = Node::with_file(&file_a, &[]);
    let mut b = Node::with_file(&file_b, &[&a]);
    let stored = a.ask(&format!("store {KEY} 76616c7565"));
    assert!(stored["accepted"].as_u64() > Some(0), "{stored}");
    assert_eq!(b.get(KEY), ["76616c7565"]);
    let stored = b.ask(&format!("store {KEY} 00ff"));
    assert_eq!((&stored["accepted"], &stored["needed"]), (&2.into(), &2.into()), "{stored}");
    let receipts = stored["receipts"].as_array().unwrap();
    assert!(receipts.iter().all(|receipt| receipt["reply"] == "accepted" && receipt["until"].is_u64()));
    assert!(receipts.iter().any(|receipt| receipt["address"] == *a.address && receipt["id"] == *a.id));
    assert_eq!(a.get(KEY), ["00ff", "76616c7565"]);
    assert_eq!(a.get(OTHER_KEY), [""; 0]);

    let found = a.ask(&format!("find {}", b.id));
    assert_eq!(found["found"], true);
    assert_eq!(found["nodes"][0]["id"], *b.id);
    assert_eq!(found["nodes"][0]["address"], *b.address);
    let near = b.ask("closest");
    assert_eq!(near["nodes"][0]["id"], *a.id);
    assert_eq!((&near["asked"], &near["answered"], &near["failed"]), (&1.into(), &1.into(), &0.into()));
    let found = b.ask(&format!("get {KEY}"));
    assert_eq!(found["by"][0]["id"], *b.id);
    let of_a = &found["by"][1];
    assert_eq!(of_a["id"], *a.id);
    assert!(of_a["known"] == 2 || of_a["values"].as_array().unwrap().len() == 1, "{found}");
    assert_eq!(b.ask("table")["contacts"][0]["address"], *a.address);
    assert_eq!(b.ask("stats")["contacts"], 1);

    let (id_a, id_b, address_a, address_b) =
        (a.id.clone(), b.id.clone(), a.address.clone(), b.address.clone());
    a.signal("TERM");
    b.signal("INT");
    a.ends();
    b.ends();

    // At their old addresses they find each other by what is in their files.
    let mut a = Node::start(&address_a, &["--db", file_a.to_str().unwrap()]);
    let mut b = Node::start(&address_b, &["--db", file_b.to_str().unwrap()]);
    assert_eq!((&a.id, &b.id), (&id_a, &id_b));
    assert_eq!(a.get(KEY), ["00ff", "76616c7565"]);
    assert_eq!(b.get(KEY), ["00ff", "76616c7565"]);
    assert_eq!(b.ask("table")["contacts"][0]["id"], *id_a);
    assert_eq!(a.ask("quit")["command"], "quit");
    a.ends();
    drop(b.input.take());
    b.ends();
}

#[test]
fn answers_come_in_the_order_of_the_commands() {
    let a = Node::start("127.0.0.1:0", &[]);
    let mut b = Node::start("127.0.0.1:0", &["--contact", &a.address]);
    let script =
        format!("stats\nclosest\nwhat\nstore {KEY} aa\r\nget {KEY}\ntable\n  get  {OTHER_KEY} \nhelp");
    b.write(script.as_bytes());
    drop(b.input.take());
    let answers: Vec<_> = (0..8).map(|_| b.answer()).collect();
    let commands = ["stats", "closest", "", "store", "get", "table", "get", "help"];
    for (answer, command) in answers.iter().zip(commands) {
        assert_eq!(answer["command"].as_str().unwrap_or_default(), command);
    }
    assert_eq!(answers[4]["values"][0], "aa");
    assert_eq!(answers[6]["key"], OTHER_KEY);
    b.ends();
}

#[test]
fn a_bad_command_gets_an_error_and_changes_nothing() {
    let mut node = Node::start("127.0.0.1:0", &[]);
    let mut bad = vec![
        "".into(),
        "nonsense".into(),
        "GET".into(),
        "get".into(),
        "get 12".into(),
        format!("get {KEY} {KEY}"),
        format!("get {}x", &KEY[1..]),
        format!("store {KEY}"),
        format!("store {KEY} abc"),
        format!("store {KEY} xy"),
        format!("store {KEY} äö"),
        "contact 127.0.0.1".into(),
        "contact 127.0.0.1 0".into(),
        "contact 127.0.0.1 65536".into(),
        "quit now".into(),
        "x".repeat(3 * 1024 * 1024),
    ];
    bad.push(format!("store {KEY} {}", "a".repeat(1024 * 1024)));
    for line in bad {
        let answer = node.ask(&line);
        assert!(!error(&answer).is_empty());
        assert_eq!(answer["kind"], "input");
    }
    node.write(b"\xff\xfe\n");
    error(&node.answer());
    // Well-formed, but not to be done.
    error(&node.ask(&format!("store {KEY} {}", "aa".repeat(64 * 1024 + 1))));
    let unknown = node.ask("contact no-such-host.invalid 4711");
    assert_eq!(unknown["command"], "contact");
    error(&unknown);
    assert_eq!(node.ask("table")["contacts"].as_array().unwrap().len(), 0);
    assert_eq!(node.ask("stats")["values"], 0);
    drop(node.input.take());
    node.ends();
}

#[test]
fn errors_have_a_kind_and_receipts() {
    let mut node = Node::start("127.0.0.1:0", &[]);
    let kind = |answer: &Value| answer["kind"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
    assert_eq!(kind(&node.ask(&format!("get {KEY}"))), "no_contacts");
    assert_eq!(kind(&node.ask(&format!("find {KEY}"))), "no_contacts");
    assert_eq!(kind(&node.ask("closest")), "no_contacts");
    assert_eq!(kind(&node.ask("contact no-such-host.invalid 4711")), "resolve");
    let large = node.ask(&format!("store {KEY} {}", "aa".repeat(64 * 1024 + 1)));
    assert_eq!((kind(&large).as_str(), &large["key"]), ("value_too_large", &KEY.into()));
    assert_eq!(kind(&node.ask(&format!("store {KEY} aa 0"))), "life_out_of_bounds");
    assert!(error(&node.ask(&format!("store {KEY} aa soon"))).contains("seconds"));
    // Somebody is known, but not there any more.
    let other = Node::start("127.0.0.1:0", &[]);
    node.ask(&format!("contact {}", other.address.replace(':', " ")));
    assert_eq!(node.ask(&format!("store {KEY} aa 60"))["accepted"], 2);
    assert_eq!(node.ask(&format!("withdraw {KEY} aa"))["withdrawn"], false, "it was not renewed");
    assert_eq!(node.ask(&format!("store {KEY} aa"))["accepted"], 2);
    assert_eq!(node.ask(&format!("withdraw {KEY} aa"))["withdrawn"], true);
    drop(other);
    let few = node.ask(&format!("store {KEY} bb"));
    assert_eq!(kind(&few), "too_few");
    assert_eq!((&few["accepted"], &few["needed"]), (&1.into(), &2.into()), "{few}");
    assert_eq!((&few["receipts"][0]["id"], &few["answered"]), (&node.id.as_str().into(), &0.into()));
    let own = node.ask(&format!("get {KEY}"));
    assert_eq!((kind(&own).as_str(), own["values"].as_array().unwrap().len()), ("nobody_answered", 2));
}

#[test]
fn a_signal_does_not_wait_for_what_is_under_way() {
    // Nobody answers there, so this would take long.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut node = Node::start("127.0.0.1:0", &[]);
    node.write(format!("contact 127.0.0.1 {}\n", silent.local_addr().unwrap().port()).as_bytes());
    // It is under way when its first packet arrives.
    silent.set_read_timeout(Some(PATIENCE)).unwrap();
    silent.recv(&mut [0; 2048]).unwrap();
    node.signal("TERM");
    node.ends();
}

#[test]
fn it_listens_on_ipv6_and_under_a_given_id() {
    if UdpSocket::bind("[::1]:0").is_err() {
        return;
    }
    let a = Node::start("[::1]:0", &["--id", KEY]);
    assert_eq!(a.id, KEY);
    assert!(a.address.starts_with("[::1]:"));
    let mut b = Node::start("[::1]:0", &["--contact", &a.address]);
    assert_eq!(b.ask("table")["contacts"][0]["id"], KEY);
    assert_eq!(b.ask("table")["contacts"][0]["address"], *a.address);
}

#[test]
fn what_keeps_it_from_starting_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let text = directory.path().join("notes.txt");
    std::fs::write(&text, "This is not a database, but long enough to look at. ".repeat(100)).unwrap();
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let wrong: [&[&str]; 8] = [
        &[],
        &["--listen", &taken],
        &["--listen", "127.0.0.1"],
        &["--listen", "::1:4711"],
        &["--listen", "127.0.0.1:70000"],
        &["--listen", "127.0.0.1:0", "--id", "abc"],
        &["--listen", "127.0.0.1:0", "--db", text.to_str().unwrap()],
        &["--listen", "127.0.0.1:0", "--contact", "nowhere"],
    ];
    for arguments in wrong {
        let output = Command::new(&*PROGRAM).args(arguments).stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty(), "{arguments:?}");
    }
    assert!(std::fs::read_to_string(&text).unwrap().starts_with("This is not"));
}
