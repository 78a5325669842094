//! Calls against open connections.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use khashmir::context::Routes;
use khashmir::engine::Engine;
use khashmir::random::{seed_from_number, seeded};
use khashmir::time::{Time, UnixTime};
use khashmir::{Config, NodeKey, NodeOptions};
use rand::RngExt;

use super::{Growth, nanoseconds};

const CALLS: usize = 4000;
const RUNS: usize = 3;
/// Between calls.
const PAUSE: Duration = Duration::from_micros(500);

pub fn calls() -> Growth {
    let cost = |name: &str, unit| (name.to_owned(), unit);
    Growth {
        part: "calls",
        title: "A ping and its answer, both ends, against open connections",
        things: "connections",
        costs: vec![cost("all peers in turn", "µs"), cost("ten of the peers", "µs")],
        rows: [10, 100, 1000, 10_000].map(|peers| (u64::from(peers), measure(peers))).into(),
    }
}

struct NoRoutes;

impl Routes for NoRoutes {
    fn local_address(&self, _: IpAddr) -> Option<IpAddr> {
        None
    }
}

/// A node, and its peers in the same engine.
struct Net {
    engine: Engine,
    nodes: Vec<NodeKey>,
    now: Time,
    buffer: Vec<u8>,
}

fn address(number: u32) -> SocketAddr {
    // Each in a network of its own.
    SocketAddr::from(((0x0b00_0000 | number << 8 | 1).to_be_bytes(), 4000))
}

fn number(addr: SocketAddr) -> usize {
    match addr.ip() {
        IpAddr::V4(ip) => (u32::from(ip) >> 8 & 0xffff) as usize,
        IpAddr::V6(_) => unreachable!("all are of IPv4"),
    }
}

impl Net {
    /// Lets all be said that there is to say now.
    fn drain(&mut self) {
        while let Some(node) = self.engine.poll_ready() {
            let from = address(node.place() as u32);
            while let Some(to) = self.engine.poll_transmit(self.now, node, &mut self.buffer) {
                self.engine.receive(self.now, self.nodes[number(to)], from, &self.buffer);
            }
        }
        while self.engine.poll_event().is_some() {}
    }

    fn ping(&mut self, peer: u32) {
        self.engine.add_contact(self.now, self.nodes[0], address(peer), None);
        self.drain();
        self.now += PAUSE;
        while self.engine.next_deadline().is_some_and(|due| due <= self.now) {
            self.engine.handle_timeout(self.now);
            self.drain();
        }
    }
}

fn measure(peers: u32) -> Vec<f64> {
    let config = Arc::new(Config {
        max_connections: 20_000,
        connection_idle: Duration::from_secs(86_400),
        ..Config::default()
    });
    let mut engine =
        Engine::new(seed_from_number(1), UnixTime(1_000_000_000), Box::new(NoRoutes)).expect("an engine");
    let nodes = (0..=peers).map(|number| {
        let options = NodeOptions { config: Arc::clone(&config), ..NodeOptions::default() };
        engine.add_node(Time::ZERO, address(number), options).expect("a node")
    });
    let nodes: Vec<NodeKey> = nodes.collect();
    let mut net = Net { engine, nodes, now: Time::ZERO, buffer: Vec::new() };
    (1..=peers).for_each(|peer| net.ping(peer));
    let open = net.engine.stats(net.nodes[0]).expect("a node").connections;
    assert_eq!(open, peers as usize);
    let mut rng = seeded(seed_from_number(2));
    let of_all = nanoseconds(RUNS, CALLS, || net.ping(rng.random_range(1..=peers)));
    let of_ten = nanoseconds(RUNS, CALLS, || net.ping(rng.random_range(1..=10)));
    vec![of_all / 1e3, of_ten / 1e3]
}
