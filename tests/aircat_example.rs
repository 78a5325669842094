//! The example `aircat`, run as people run it.
// Tests wait for sockets and processes, with a time limit of their own.
#![allow(clippy::disallowed_methods)]
#![cfg(unix)]

mod programs;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::UdpSocket;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

static PROGRAM: LazyLock<std::path::PathBuf> = LazyLock::new(|| programs::example("aircat"));

/// A test that has not come to its end by then has failed.
const PATIENCE: Duration = Duration::from_secs(60);

struct Cat {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Cat {
    fn start(arguments: &[&str]) -> Cat {
        let mut command = Command::new(&*PROGRAM);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Cat { child, input, lines }
    }

    /// Two that speak to each other over this address.
    fn pair(address: &str, more: &[&str]) -> [Cat; 2] {
        // Free until somebody else takes one.
        let sockets = [0; 2].map(|_| UdpSocket::bind((address, 0)).unwrap());
        let ports = sockets.map(|socket| socket.local_addr().unwrap().port().to_string());
        [(&ports[0], &ports[1]), (&ports[1], &ports[0])]
            .map(|(own, other)| Cat::start(&[&[own.as_str(), address, other.as_str()], more].concat()))
    }

    fn write(&mut self, text: &str) {
        self.input.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("a line of output")
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Its exit status, and what it has said on standard error.
    fn end(mut self) -> (Option<i32>, String) {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "it does not end");
            thread::sleep(Duration::from_millis(5));
        };
        let mut text = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        (status.code(), text)
    }
}

impl Drop for Cat {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn both_ways(address: &str) {
    let [mut a, mut b] = Cat::pair(address, &["--stats"]);
    let long = "long ".repeat(150);
    a.write(&format!("one\n\n{long}\n"));
    b.write("eins\n");
    assert_eq!([b.line(), b.line(), b.line()], ["one".into(), String::new(), long]);
    assert_eq!(a.line(), "eins");
    b.write("zwei\ndrei");
    drop(b.input.take());
    assert_eq!([a.line(), a.line()], ["zwei", "drei"]);
    let (status, text) = b.end();
    assert_eq!(status, Some(0), "{text}");
    assert!(text.contains("messages: 3 sent, 3 confirmed, 0 lost, 5 received"), "{text}");
    drop(a.input.take());
    let (status, text) = a.end();
    assert_eq!(status, Some(0), "{text}");
    assert!(text.contains("messages: 5 sent, 5 confirmed, 0 lost, 3 received"), "{text}");
    assert!(text.contains("round trip: ") && text.contains(" ms"), "{text}");
}

#[test]
fn they_speak_to_each_other() {
    both_ways("127.0.0.1");
}

#[test]
fn they_speak_over_ipv6() {
    if UdpSocket::bind("::1:0").is_ok() || UdpSocket::bind("[::1]:0").is_ok() {
        both_ways("::1");
    }
}

#[test]
fn much_at_once() {
    let [mut a, mut b] = Cat::pair("127.0.0.1", &[]);
    let lines: Vec<_> = (0..20_000).map(|number| format!("line {number}")).collect();
    let mut input = a.input.take().unwrap();
    let text = lines.join("\n");
    let writer = thread::spawn(move || input.write_all(text.as_bytes()));
    // In any order, if the system dropped some on the way.
    let mut got: Vec<_> = (0..lines.len()).map(|_| b.line()).collect();
    writer.join().unwrap().unwrap();
    assert_eq!(a.end(), (Some(0), String::new()));
    let mut wanted = lines;
    got.sort_unstable();
    wanted.sort_unstable();
    assert!(got == wanted);
    drop(b.input.take());
    assert_eq!(b.end(), (Some(0), String::new()));
}

/// Who has nothing more to say goes on listening.
#[test]
fn both_hear_the_other_to_the_end() {
    const LINES: usize = 20_000;
    let [mut a, mut b] = Cat::pair("127.0.0.1", &["--wait", "20"]);
    let mut input = b.input.take().unwrap();
    let writer = thread::spawn(move || (0..LINES).try_for_each(|number| writeln!(input, "{number}")));
    a.line();
    a.write("that will do\n");
    drop(a.input.take());
    assert_eq!(b.line(), "that will do");
    for _ in 1..LINES {
        a.line();
    }
    writer.join().unwrap().unwrap();
    assert_eq!(a.end(), (Some(0), String::new()));
    assert_eq!(b.end(), (Some(0), String::new()));
}

#[test]
fn nobody_there_is_an_error() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port().to_string();
    let mut cat = Cat::start(&["0", "127.0.0.1", &port, "--wait", "1"]);
    cat.write("is anybody there?\n");
    drop(cat.input.take());
    let (status, text) = cat.end();
    assert_eq!(status, Some(1));
    assert!(text.contains("never answered"), "{text}");
}

#[test]
fn a_signal_ends_it_in_order() {
    let [mut a, b] = Cat::pair("127.0.0.1", &["--stats"]);
    a.write("x\n");
    assert_eq!(b.line(), "x");
    b.signal("INT");
    let (status, text) = b.end();
    assert_eq!(status, Some(0), "{text}");
    assert!(text.contains("1 received"), "{text}");
    a.signal("TERM");
    a.end();
}

#[test]
fn what_cannot_be_used_is_refused() {
    for arguments in [
        &["0", "127.0.0.1"][..],
        &["0", "127.0.0.1", "x"],
        &["0", "127.0.0.1", "0"],
        &["0", "127.0.0.1", "1", "-6"],
    ] {
        let (status, text) = Cat::start(arguments).end();
        assert_eq!(status, Some(2), "{text}");
        assert!(!text.is_empty());
    }
}
