//! The example `khashmir`: a whole network in one process.

mod programs;

use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| programs::example("khashmir"));

fn run(arguments: &[&str]) -> Output {
    Command::new(&*PROGRAM).args(arguments).stdin(Stdio::null()).output().expect("the program runs")
}

#[track_caller]
fn finds_everything(arguments: &[&str]) {
    let output = run(arguments);
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{text}\n{errors}", output.status);
    for part in ["find close nodes", "find a peer", "10/10", "30/30", "contacts per node", "memory per node"]
    {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
}

#[test]
fn networks_of_several_sizes_find_everything() {
    for peers in ["2", "3", "5", "24"] {
        finds_everything(&[peers]);
    }
}

#[test]
fn a_log_says_what_peers_do() {
    let output = run(&["3", "-v"]);
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("find close nodes: done"));
}

#[test]
fn nobody_to_read_is_no_panic() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = Command::new(&*PROGRAM).args(["3"]).stdin(Stdio::null()).stdout(writer).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn an_idle_network_says_what_it_takes() {
    let output = run(&["3", "--idle", "1"]);
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("idle for 1 s"));
}

#[test]
fn a_network_finds_everything_although_datagrams_are_lost() {
    finds_everything(&["24", "--loss", "10", "--seed", "7"]);
}

#[test]
fn a_network_in_files_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path().to_str().unwrap();
    // Five ports in a row that are free, twice: somebody may be faster.
    for _ in 0..20 {
        let base = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let base = base.min(u16::MAX - 5).to_string();
        let arguments = ["5", "--db", directory, "--port", &base];
        let first = run(&arguments);
        if first.status.code() == Some(2) {
            continue;
        }
        assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stdout));
        let second = run(&arguments);
        if second.status.code() == Some(2) {
            continue;
        }
        assert!(second.status.success(), "{}", String::from_utf8_lossy(&second.stdout));
        return;
    }
    panic!("no five ports in a row were free");
}

#[test]
fn what_cannot_be_set_up_is_said() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().port().to_string();
    let wrong: [(&[&str], &str); 11] = [
        (&[], "NUM_PEERS"),
        (&["0"], "two"),
        (&["1"], "two"),
        (&["-1"], "number of peers"),
        (&["abc"], "number of peers"),
        (&["2", "--loss", "-5"], "100"),
        (&["2", "--port", &taken], "in use"),
        (&["24", "--port", "65530"], "65535"),
        (&["2", "--loss", "101"], "100"),
        (&["2", "--db", "/dev/null/x"], "/dev/null/x"),
        (&["18000000000000000000"], "file descriptors"),
    ];
    for (arguments, said) in wrong {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.contains(said), "{arguments:?}: {errors}");
    }
}
