//! Openings of sessions from forged addresses, many of them, in the simulator: what they cost the node
//! that they go to, and that everybody else gets on with their work.
//!
//! Memory is what this process has allocated, all of the simulation together.

#[path = "support/openings.rs"]
mod openings;

use std::alloc::{GlobalAlloc, Layout, System};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use khashmir::Id;
use khashmir::engine::Outcome;
use khashmir::sim::{Happening, Host, Peer, Setup, Simulation, seed_or};
use khashmir::time::Time;
use openings::{Kind, Openings};

/// Counts what is allocated.
struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

fn count(more: usize, less: usize) {
    let before = ALLOCATED.fetch_add(more.wrapping_sub(less), Ordering::Relaxed);
    MOST.fetch_max(before.wrapping_add(more).wrapping_sub(less), Ordering::Relaxed);
}

// SAFETY: everything is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(0, layout.size());
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size, layout.size());
        unsafe { System.realloc(place, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Somebody's address that another one uses: it hears the answers, and never says anything of its own.
struct Forged {
    openings: Arc<Openings>,
    target: SocketAddr,
    next: Option<(Kind, u32)>,
    sent: u32,
    heard: u32,
}

impl Peer for Forged {
    fn receive(&mut self, _: Time, _: SocketAddr, datagram: &[u8]) {
        self.heard += datagram.len() as u32;
        assert!(self.heard <= 3 * self.sent, "{} bytes for {}", self.heard, self.sent);
    }

    fn next_deadline(&self) -> Option<Time> {
        None
    }

    fn handle_timeout(&mut self, _: Time) {}

    fn poll_transmit(&mut self, _: Time, buf: &mut Vec<u8>) -> Option<SocketAddr> {
        let (kind, number) = self.next.take()?;
        self.openings.put(kind, number, buf);
        self.sent += buf.len() as u32;
        Some(self.target)
    }
}

const NODES: u64 = 24;
/// Openings within a millisecond.
const AT_ONCE: u64 = 10;
/// What honest nodes do comes between so many.
const BETWEEN: u64 = 1000;
/// New nodes that come meanwhile.
const VISITORS: u64 = 10;
/// How much more memory there may be at any time.
const MOST_MORE: usize = 4 << 20;

/// The value under a key, and the number of the node that stores it.
fn value(number: u64) -> Vec<u8> {
    format!("the value with the number {number}").into_bytes()
}

fn key(number: u64) -> Id {
    Id::of(&number.to_be_bytes())
}

struct Flood {
    sim: Simulation,
    nodes: Vec<Host>,
    target: Host,
    forged: Vec<Host>,
    /// Values that were stored, and found.
    stored: u64,
    found: u64,
}

impl Flood {
    fn new(addresses: u64) -> Self {
        let mut sim = Simulation::new(seed_or(4)).expect("a database");
        let mut nodes: Vec<Host> = Vec::new();
        for _ in 0..NODES {
            let host = sim.add_node(Setup::default()).expect("a node");
            if let Some(&first) = nodes.first() {
                sim.join(host, first).expect("to join");
            }
            nodes.push(host);
        }
        let target = nodes[7];
        let openings = Arc::new(Openings::new());
        let addr = sim.address(target);
        let forged = (0..addresses)
            .map(|_| {
                let openings = Arc::clone(&openings);
                sim.add_peer(|_| Box::new(Forged { openings, target: addr, next: None, sent: 0, heard: 0 }))
            })
            .collect();
        let mut flood = Flood { sim, nodes, target, forged, stored: 0, found: 0 };
        // Some of what is kept comes only with work.
        (0..10).for_each(|number| flood.work(number));
        flood.go_on(Duration::from_secs(60));
        flood
    }

    /// Lets time go on; whatever ends must have been a success.
    fn go_on(&mut self, span: Duration) {
        let until = self.sim.now() + span;
        while let Some(happening) = self.sim.next(until) {
            let Happening::Operation { outcome, effort, .. } = happening else { continue };
            assert_eq!(effort.failed, 0, "a node did not answer: {outcome:?} {effort:?}");
            match outcome {
                Outcome::Stored(stored) => {
                    stored.expect("to store");
                    self.stored += 1;
                }
                Outcome::Values(found) => self.found += found.values.len() as u64,
                Outcome::ValuesEnd(ended) => drop(ended.expect("to search")),
                other => panic!("{other:?} {effort:?}"),
            }
        }
    }

    /// One node stores a value, and another looks for an earlier one.
    fn work(&mut self, number: u64) {
        let node = |number: u64| self.nodes[(number % NODES) as usize];
        let (stores, looks) = (node(number), node(number * 5 + 3));
        self.sim.store_value(stores, key(number), value(number), None).expect("a node");
        if let Some(earlier) = number.checked_sub(5) {
            self.sim.find_values(looks, key(earlier)).expect("a node");
        }
    }

    /// A node that nobody knows joins by the one under attack, and stores something.
    fn visit(&mut self) {
        let visitor = self.sim.add_node(Setup::default()).expect("a node");
        assert!(self.sim.join(visitor, self.target).expect("to join") > 0);
        self.sim.put(visitor, Id::of(b"visitor"), "was here").expect("to store");
        self.nodes.push(visitor);
    }

    /// Calls that failed, but for the target's: it calls back some of those who seem to call it.
    fn failed_calls(&self) -> u64 {
        let others = self.nodes.iter().filter(|&&node| node != self.target);
        others.map(|&node| self.sim.stats(node).expect("a node").calls_failed).sum()
    }

    fn run(&mut self, openings: u64) {
        let before = self.sim.stats(self.target).expect("a node");
        let (stored, found, failed) = (self.stored, self.found, self.failed_calls());
        let mut dice = 1u64;
        let allocated = ALLOCATED.load(Ordering::Relaxed);
        MOST.store(allocated, Ordering::Relaxed);
        let mut rounds = 0;
        for number in 0..openings {
            // A generator of Knuth's (MMIX).
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = ((dice >> 33) * self.forged.len() as u64) >> 31;
            let kind = Kind::ALL[(dice >> 30) as usize % Kind::ALL.len()];
            // Some open the same session over and over.
            let session = if dice.is_multiple_of(3) { at as u32 + 1 } else { (dice >> 32) as u32 };
            let forged: &mut Forged = self.sim.peer_mut(self.forged[at as usize]).expect("a peer");
            forged.next = Some((kind, session));
            if number % AT_ONCE == 0 {
                self.go_on(Duration::from_millis(1));
            }
            if number % BETWEEN == BETWEEN - 1 {
                rounds += 1;
                self.work(9 + rounds);
                let after = self.sim.stats(self.target).expect("a node");
                assert!(after.half_open <= 256, "{} half open", after.half_open);
                if rounds.is_multiple_of(openings / BETWEEN / VISITORS) {
                    self.visit();
                }
            }
        }
        self.go_on(Duration::from_secs(60));
        let more = MOST.load(Ordering::Relaxed) - allocated;
        let after = self.sim.stats(self.target).expect("a node");
        println!(
            "{openings} openings from {}: {} kB more at the most, {} bytes came and {} went, {} answered, \
             {} dropped, {} refused, {} evicted; {} values stored and {} found",
            self.forged.len(),
            more / 1000,
            after.bytes_in - before.bytes_in,
            after.bytes_out - before.bytes_out,
            after.openings_answered,
            after.openings_dropped,
            after.connections_refused,
            after.connections_evicted,
            self.stored - stored,
            self.found - found,
        );
        assert!(more < MOST_MORE, "{more} bytes more");
        assert!(after.packets_in - before.packets_in > openings);
        assert_eq!(self.failed_calls() - failed, 0, "calls of honest nodes failed");
        assert_eq!(self.stored - stored, rounds);
        assert!(self.found - found == rounds, "{} of {rounds} found", self.found - found);
        // Nothing of theirs is left.
        assert!(after.connections < 100, "{} connections", after.connections);
        assert_eq!(after.half_open, 0);
        let forged = std::mem::take(&mut self.forged);
        let (mut sent, mut heard, mut worst) = (0, 0, 0);
        for host in forged {
            let forged: &mut Forged = self.sim.peer_mut(host).expect("a peer");
            assert!(forged.heard <= 3 * forged.sent, "{} bytes for {}", forged.heard, forged.sent);
            sent += u64::from(forged.sent);
            heard += u64::from(forged.heard);
            worst = worst.max(forged.heard * 100 / forged.sent.max(1));
        }
        println!("{heard} bytes to forged addresses for {sent}, {worst} % of what it sent to one");
    }
}

/// Memory is counted for all of the process.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn flood(addresses: u64, openings: u64) {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    Flood::new(addresses).run(openings);
}

#[test]
fn openings_from_forged_addresses_cost_little() {
    flood(50_000, 100_000);
}

/// Takes a quarter of a minute without optimisation, two seconds with it:
/// `cargo test --release --test flood -- --ignored`.
#[test]
#[ignore = "takes a while without optimisation"]
fn a_million_openings_from_forged_addresses_cost_little() {
    flood(100_000, 1_000_000);
}
