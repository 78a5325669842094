//! The example `airproxy`: TCP connections through two of it.
// Tests wait for sockets and processes, with a time limit of their own.
#![allow(clippy::disallowed_methods)]
#![cfg(unix)]

mod programs;

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

static PROGRAM: LazyLock<std::path::PathBuf> = LazyLock::new(|| programs::example("airproxy"));

/// A test that has not come to its end by then has failed.
const PATIENCE: Duration = Duration::from_secs(60);

struct Proxy {
    child: Child,
    udp: String,
    tcp: String,
}

impl Proxy {
    fn start(arguments: &[&str]) -> Proxy {
        let mut command = Command::new(&*PROGRAM);
        let mut child = command.args(arguments).stdout(Stdio::piped()).spawn().expect("the program starts");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut value = |name: &str| {
            let line = lines.next().expect("a line of output");
            line.strip_prefix(name).unwrap_or_else(|| panic!("no {name:?}: {line}")).to_owned()
        };
        let udp = value("udp ");
        let tcp = if arguments.contains(&"--listen-tcp") { value("tcp ") } else { String::new() };
        Proxy { child, udp, tcp }
    }

    fn connects_to(server: &TcpListener, udp: &str) -> Proxy {
        let target = server.local_addr().unwrap().to_string();
        Proxy::start(&["--to-tcp", &target, "--bind", udp])
    }

    fn accepts(remote: &str, udp: &str) -> Proxy {
        Proxy::start(&["--listen-tcp", "127.0.0.1:0", "--remote", remote, "--bind", udp])
    }

    fn connect(&self) -> TcpStream {
        limited(TcpStream::connect(&self.tcp).expect("the proxy takes connections"))
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
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

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn limited(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A server and two proxies on the way to it; the one that accepts is the second.
fn chain() -> (TcpListener, Proxy, Proxy) {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let far = Proxy::connects_to(&server, "127.0.0.1:0");
    let near = Proxy::accepts(&far.udp, "127.0.0.1:0");
    (server, far, near)
}

/// The next connection that a server gets.
fn accepted(server: &TcpListener) -> TcpStream {
    let (sender, receiver) = mpsc::channel();
    let server = server.try_clone().unwrap();
    thread::spawn(move || sender.send(server.accept()));
    limited(receiver.recv_timeout(PATIENCE).expect("a connection").unwrap().0)
}

/// Answers each connection with what came, when all of it has come.
fn answer_all(server: &TcpListener) {
    let server = server.try_clone().unwrap();
    thread::spawn(move || {
        for stream in server.incoming() {
            let mut stream = limited(stream.unwrap());
            thread::spawn(move || {
                let mut all = Vec::new();
                // A connection that fails is not answered; its test will say so.
                if stream.read_to_end(&mut all).is_ok() {
                    let _ = stream.write_all(&all);
                }
            });
        }
    });
}

/// Bytes that differ from place to place.
fn bytes(length: usize, salt: u64) -> Vec<u8> {
    let mut state = salt.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// Sends bytes, says that there are no more, and reads the answer to its end.
fn ask(mut stream: TcpStream, question: Vec<u8>) -> std::io::Result<Vec<u8>> {
    stream.write_all(&question)?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

fn assert_reset(stream: &mut TcpStream) {
    match stream.read(&mut [0; 16]) {
        Err(e) if e.kind() == ErrorKind::ConnectionReset => {}
        other => panic!("not a reset: {other:?}"),
    }
}

#[test]
fn megabytes_come_through_unchanged() {
    let (server, far, near) = chain();
    answer_all(&server);
    let question = bytes(4 * 1024 * 1024 + 17, 1);
    assert!(ask(near.connect(), question.clone()).unwrap() == question);
    // And nothing at all.
    assert_eq!(ask(near.connect(), Vec::new()).unwrap(), b"");
    far.signal("TERM");
    near.signal("INT");
    far.ends();
    near.ends();
}

#[test]
fn over_ipv6() {
    if UdpSocket::bind("[::1]:0").is_err() {
        return;
    }
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    answer_all(&server);
    let far = Proxy::connects_to(&server, "[::1]:0");
    let near = Proxy::accepts(&far.udp, "[::1]:0");
    let question = bytes(100_000, 6);
    assert!(ask(near.connect(), question.clone()).unwrap() == question);
}

#[test]
fn ten_connections_at_once() {
    let (server, _far, near) = chain();
    answer_all(&server);
    let askers: Vec<_> = (0..10)
        .map(|number| {
            let stream = near.connect();
            thread::spawn(move || {
                let question = bytes(300_000 + number * 1111, number as u64);
                ask(stream, question.clone()).unwrap() == question
            })
        })
        .collect();
    assert!(askers.into_iter().all(|asker| asker.join().unwrap()));
}

#[test]
fn each_direction_ends_by_itself() {
    let (server, _far, near) = chain();
    let mut client = near.connect();
    client.write_all(b"question").unwrap();
    let mut served = accepted(&server);
    // The server says its last first.
    served.write_all(b"early").unwrap();
    served.shutdown(Shutdown::Write).unwrap();
    let mut got = Vec::new();
    client.read_to_end(&mut got).unwrap();
    assert_eq!(got, b"early");
    client.write_all(b", and more").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut got = Vec::new();
    served.read_to_end(&mut got).unwrap();
    assert_eq!(got, b"question, and more");
}

#[test]
fn resets_are_passed_on() {
    let (server, _far, near) = chain();
    for at_client in [true, false] {
        let mut client = near.connect();
        let mut served = accepted(&server);
        client.write_all(b"x").unwrap();
        served.read_exact(&mut [0]).unwrap();
        let (gone, mut left) = if at_client { (client, served) } else { (served, client) };
        socket2::SockRef::from(&gone).set_linger(Some(Duration::ZERO)).unwrap();
        drop(gone);
        assert_reset(&mut left);
    }
    // Nobody takes connections there any more.
    drop(server);
    assert_reset(&mut near.connect());
}

/// A program that does not read stops its own connection, and no other.
#[test]
fn a_slow_reader_stops_only_itself() {
    // More than the system and the proxies keep.
    const MUCH: usize = 48 * 1024 * 1024;
    let (server, _far, near) = chain();
    let mut writer = near.connect();
    let mut slow = accepted(&server);
    let (sender, done) = mpsc::channel();
    thread::spawn(move || {
        writer.write_all(&vec![5; MUCH]).unwrap();
        sender.send(()).unwrap();
    });
    answer_all(&server);
    for number in 0..5 {
        let question = bytes(300_000, number);
        assert!(ask(near.connect(), question.clone()).unwrap() == question);
    }
    assert!(done.try_recv().is_err(), "so much cannot have been taken");
    let mut got = 0;
    let mut buffer = vec![0; 1 << 16];
    loop {
        match slow.read(&mut buffer).unwrap() {
            0 => break,
            length => {
                assert!(buffer[..length].iter().all(|&byte| byte == 5));
                got += length;
            }
        }
    }
    assert_eq!(got, MUCH);
    done.recv_timeout(PATIENCE).unwrap();
}

fn echo_once(server: &TcpListener) -> Receiver<()> {
    let (sender, receiver) = mpsc::channel();
    let server = server.try_clone().unwrap();
    thread::spawn(move || {
        let mut stream = limited(server.accept().unwrap().0);
        let mut byte = [0];
        while stream.read(&mut byte).is_ok_and(|length| length > 0) {
            let _ = stream.write_all(&byte);
        }
        let _ = sender.send(());
    });
    receiver
}

#[test]
fn when_the_far_proxy_is_restarted_connections_end_and_new_ones_work() {
    let (server, mut far, near) = chain();
    let mut clients: Vec<_> = (0..3)
        .map(|_| {
            let done = echo_once(&server);
            let mut client = near.connect();
            client.write_all(b"x").unwrap();
            client.read_exact(&mut [0]).unwrap();
            (client, done)
        })
        .collect();
    far.kill();
    // The programs behind it see the end at once.
    for (_, done) in &clients {
        done.recv_timeout(PATIENCE).expect("the connection ends");
    }
    let far = Proxy::connects_to(&server, &far.udp.clone());
    clients[0].0.write_all(b"y").unwrap();
    // All of them, also those that say nothing.
    for (client, _) in &mut clients {
        assert_reset(client);
    }
    answer_all(&server);
    let question = bytes(200_000, 3);
    assert!(ask(near.connect(), question.clone()).unwrap() == question);
    far.signal("TERM");
    far.ends();
}

#[test]
fn when_the_near_proxy_is_restarted_connections_end_and_new_ones_work() {
    let (server, far, mut near) = chain();
    let mut client = near.connect();
    let mut served = accepted(&server);
    client.write_all(b"x").unwrap();
    served.read_exact(&mut [0]).unwrap();
    near.kill();
    assert_reset(&mut client);
    let near = Proxy::accepts(&far.udp, &near.udp.clone());
    let mut client = near.connect();
    // It is heard of when the new one speaks.
    assert_reset(&mut served);
    let mut served = accepted(&server);
    client.write_all(b"again").unwrap();
    let mut got = [0; 5];
    served.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"again");
}

/// When it is told to end, it says so.
#[test]
fn a_signal_resets_what_is_open() {
    let (server, far, near) = chain();
    let mut client = near.connect();
    let mut served = accepted(&server);
    client.write_all(b"x").unwrap();
    served.read_exact(&mut [0]).unwrap();
    far.signal("INT");
    far.ends();
    assert_reset(&mut served);
    assert_reset(&mut client);
}

/// Somebody who speaks Airhook, and not as a proxy does, ends nothing but his own session.
#[test]
fn nonsense_is_harmless() {
    let (server, far, near) = chain();
    answer_all(&server);
    let port = far.udp.rsplit(':').next().unwrap();
    let mut child = Command::new(programs::example("aircat"))
        .args(["0", "127.0.0.1", port, "--wait", "2"])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"  a line of text\n  another one\n").unwrap();
    drop(input);
    child.wait().unwrap();
    let question = bytes(100_000, 9);
    assert!(ask(near.connect(), question.clone()).unwrap() == question);
}

#[test]
fn arguments_that_make_no_sense_are_refused() {
    for arguments in [
        &[][..],
        &["--listen-tcp", "127.0.0.1:0"],
        &["--remote", "127.0.0.1:1"],
        &["--listen-tcp", "127.0.0.1:0", "--remote", "127.0.0.1:1", "--to-tcp", "127.0.0.1:2"],
        &["--to-tcp", "127.0.0.1:1", "--remote", "127.0.0.1:2"],
        &["--listen-tcp", "127.0.0.1:0", "--remote", "127.0.0.1:0"],
        &["--to-tcp", "::1:80"],
        &["--to-tcp", "127.0.0.1:1", "--listen", "70000"],
        &["--to-tcp", "127.0.0.1:1", "--bind", "192.0.2.1:0"],
    ] {
        let output = Command::new(&*PROGRAM).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty());
    }
}
