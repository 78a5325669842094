//! The face's thread comes and goes with the nodes. A test binary of its own,
//! so that no other test's nodes keep the thread alive.
// Tests wait for sockets and processes, with a time limit of their own.
#![allow(clippy::disallowed_methods)]

#[test]
#[cfg(target_os = "linux")]
fn the_thread_lives_as_long_as_there_are_nodes() {
    use std::time::{Duration, Instant};

    use khashmir::Khashmir;

    fn threads() -> usize {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
        names.filter(|name| name.trim_end() == "khashmir").count()
    }
    fn wait_for(expected: usize) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while threads() != expected {
            assert!(Instant::now() < deadline, "{} threads, not {expected}", threads());
            std::thread::yield_now();
        }
    }

    assert_eq!(threads(), 0);
    let first = Khashmir::new("127.0.0.1", 0).unwrap();
    let second = Khashmir::new("127.0.0.1", 0).unwrap();
    assert_eq!(threads(), 1);
    let own = khashmir::test_one("127.0.0.1", 0).unwrap();
    assert_eq!(threads(), 2);
    drop(first);
    assert!(second.stats().is_ok());
    second.close().unwrap();
    wait_for(1);
    // `second` is still there, but its node is not.
    let third = Khashmir::new("127.0.0.1", 0).unwrap();
    drop(second);
    assert!(third.stats().is_ok());
    drop(own);
    wait_for(1);
    drop(third);
    wait_for(0);
    // One after the other, each perhaps while the thread of the one before ends.
    for _ in 0..50 {
        assert!(Khashmir::new("127.0.0.1", 0).unwrap().stats().is_ok());
    }
    wait_for(0);
}
