//! Names that are being resolved are bounded. A test binary of its own, since the resolver is
//! the whole process's.
// Tests wait for what other threads do, with a time limit of their own.
#![allow(clippy::disallowed_methods)]

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use khashmir::{Khashmir, OperationError};

#[test]
fn too_many_names_at_once_are_refused() {
    fn hang(_: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        loop {
            thread::park();
        }
    }
    let node = Khashmir::new("127.0.0.1", 0).unwrap().with_resolver(hang);
    let (sender, heard) = mpsc::channel();
    // Four are being resolved, unless their threads are late, and 256 wait.
    for n in 0..300 {
        let sender = sender.clone();
        node.add_contact(&format!("name {n}"), 9, move |result| drop(sender.send(result)));
    }
    for _ in 0..40 {
        let refused = heard.recv_timeout(Duration::from_secs(30)).unwrap();
        assert_eq!(refused, Err(OperationError::QueueFull { limit: 256 }));
    }
    node.close().unwrap();
}
