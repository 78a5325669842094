//! Openings of sessions from forged addresses, a hundred thousand of them, to a node on a real socket.
//! The addresses are others of this machine's own (127.0.0.0/8), so that what comes back can be counted.

// Its patience is measured by the clock.
#![allow(clippy::disallowed_methods)]

#[path = "support/openings.rs"]
mod openings;

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use khashmir::{Id, Khashmir, Stats};
use openings::{Kind, Openings};

const HERE: &str = "127.0.0.1";
/// How many must arrive.
const OPENINGS: u64 = 100_000;
/// From how many addresses, if there may be so many sockets.
const ADDRESSES: u64 = 4000;
/// The node is given time after so many: its socket's buffer does not hold many more.
const AT_ONCE: u64 = 40;
/// What has not come about by then does not.
const PATIENCE: Duration = Duration::from_secs(60);

/// An address that somebody else uses.
struct Forged {
    socket: UdpSocket,
    sent: usize,
    heard: usize,
}

impl Forged {
    fn new(number: u64) -> Option<Self> {
        // Spread over the blocks of addresses.
        let [.., a, b] = (number as u16).wrapping_mul(40_503).to_be_bytes();
        let address = Ipv4Addr::new(127, 1 + (number >> 16) as u8, a, b);
        let socket = UdpSocket::bind((address, 0)).ok()?;
        socket.set_nonblocking(true).expect("a socket that does not block");
        Some(Forged { socket, sent: 0, heard: 0 })
    }

    /// Counts what has come back.
    fn listen(&mut self, target: SocketAddr) {
        let mut buf = [0; 2048];
        loop {
            match self.socket.recv_from(&mut buf) {
                Ok((bytes, from)) => {
                    assert_eq!(from, target);
                    self.heard += bytes;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        assert!(self.heard <= 3 * self.sent, "{} bytes for {}", self.heard, self.sent);
    }
}

fn stats(node: &Khashmir) -> Stats {
    node.stats().expect("a node")
}

/// Stores values and gets them until `done`, at least five; how many.
fn work(nodes: &[&Khashmir; 2], done: &AtomicBool) -> u32 {
    for number in 0.. {
        if number >= 5 && done.load(Ordering::Relaxed) {
            return number;
        }
        let [stores, gets] = if number % 2 == 0 { *nodes } else { [nodes[1], nodes[0]] };
        let (key, value) = (Id::of(&number.to_be_bytes()), number.to_string().into_bytes());
        let stored = stores.put(key, value.clone()).expect("to store");
        assert_eq!(stored.accepted().count(), 3, "all hold it, the one under attack among them");
        assert_eq!(gets.get(key).expect("to search"), [value]);
    }
    unreachable!("numbers do not end")
}

#[test]
fn a_hundred_thousand_openings_from_forged_addresses() {
    if UdpSocket::bind("127.0.0.2:0").is_err() {
        eprintln!("skipped: this machine has no address but {HERE} on its loopback interface");
        return;
    }
    let _ = rlimit::increase_nofile_limit(ADDRESSES + 500);
    let target = Khashmir::new(HERE, 0).expect("a node");
    let addr = target.local_addr();
    let honest = [(); 2].map(|()| Khashmir::new(HERE, 0).expect("a node"));
    for node in &honest {
        node.join(HERE, addr.port()).expect("to join");
    }
    let openings = Openings::new();
    let mut forged: Vec<Forged> = (0..ADDRESSES).map_while(Forged::new).collect();
    // Other tests and the nodes need some.
    forged.truncate(forged.len().saturating_sub(100).max(1));
    let before = stats(&target);
    let others_before: u64 = honest.iter().map(|node| stats(node).packets_out).sum();
    let failed_before: Vec<u64> = honest.iter().map(|node| stats(node).calls_failed).collect();

    let done = AtomicBool::new(false);
    let (worked, sent) = thread::scope(|scope| {
        let worker = scope.spawn(|| work(&[&honest[0], &honest[1]], &done));
        let deadline = Instant::now() + PATIENCE;
        // Not counting what the honest ones send, as if all of that went to the target.
        let arrived = || {
            let others: u64 = honest.iter().map(|node| stats(node).packets_out).sum();
            (stats(&target).packets_in - before.packets_in).saturating_sub(others - others_before)
        };
        let (mut sent, mut dice, mut buf) = (0, 1u64, Vec::new());
        while arrived() < OPENINGS && Instant::now() < deadline {
            for _ in 0..AT_ONCE {
                // A generator of Knuth's (MMIX).
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let at = (dice >> 33) as usize % forged.len();
                let session = if dice.is_multiple_of(3) { at as u32 + 1 } else { (dice >> 32) as u32 };
                let from = &mut forged[at];
                openings.put(Kind::ALL[(dice >> 30) as usize % Kind::ALL.len()], session, &mut buf);
                from.sent += from.socket.send_to(&buf, addr).expect("to send");
                from.listen(addr);
                sent += 1;
            }
        }
        done.store(true, Ordering::Relaxed);
        assert!(Instant::now() < deadline, "only {} of {sent} arrived in {PATIENCE:?}", arrived());
        (worker.join().expect("honest nodes get on with their work"), sent)
    });

    let after = stats(&target);
    for (node, before) in honest.iter().zip(failed_before) {
        assert_eq!(stats(node).calls_failed, before, "calls of honest nodes failed");
    }
    forged.iter_mut().for_each(|forged| forged.listen(addr));
    let heard: usize = forged.iter().map(|forged| forged.heard).sum();
    println!(
        "{sent} openings from {} addresses, {} answered, {heard} bytes back for {}; {worked} values stored \
         and found",
        forged.len(),
        after.openings_answered,
        forged.iter().map(|forged| forged.sent).sum::<usize>(),
    );
    assert!(heard > 0, "nothing was heard");
    assert!(after.half_open <= 256 && after.connections <= 300, "{after:?}");
    for node in honest.into_iter().chain([target]) {
        node.close().expect("no file");
    }
}
