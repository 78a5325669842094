//! What the simulator itself takes for a datagram, and for seeding tables: foreign peers that pass
//! datagrams of 300 bytes on, under conditions from none to all that there are.

use std::net::SocketAddr;
use std::time::Duration;

use divan::Bencher;
use divan::counter::ItemsCount;
use khashmir::Contact;
use khashmir::sim::{ALL, Bursts, Conditions, Latency, Peer, Regions, Setup, Simulation};
use khashmir::time::Time;

fn main() {
    divan::main();
}

/// Sends what comes on to the next one.
struct Relay {
    next: SocketAddr,
    waiting: Vec<Vec<u8>>,
}

impl Peer for Relay {
    fn receive(&mut self, _: Time, _: SocketAddr, datagram: &[u8]) {
        let mut bytes = self.waiting.pop().unwrap_or_default();
        bytes.clear();
        bytes.extend_from_slice(datagram);
        self.waiting.push(bytes);
    }

    fn next_deadline(&self) -> Option<Time> {
        None
    }

    fn handle_timeout(&mut self, _: Time) {}

    fn poll_transmit(&mut self, _: Time, buf: &mut Vec<u8>) -> Option<SocketAddr> {
        buf.extend(self.waiting.pop()?);
        Some(self.next)
    }
}

fn conditions(which: &str) -> Conditions {
    match which {
        "constant" => Conditions::default(),
        "regions" => Conditions { latency: Latency::Regions(Regions::default()), ..Conditions::default() },
        _ => Conditions {
            latency: Latency::Regions(Regions::default()),
            jitter: Duration::from_millis(5),
            loss: 1,
            bursts: Some(Bursts { share: 1, length: Duration::from_millis(100), loss: ALL }),
            duplication: 1,
            reordering: 10_000,
            ..Conditions::default()
        },
    }
}

#[divan::bench(args = ["constant", "regions", "all"], sample_count = 5)]
fn datagrams(bencher: Bencher, which: &str) {
    const PEERS: u32 = 10_000;
    const SPAN: Duration = Duration::from_secs(5);
    let set_up = || {
        let mut sim = Simulation::new(1).expect("a database");
        sim.set_conditions(conditions(which)).expect("conditions as they may be");
        for n in 0..PEERS {
            // Host n has the address 11.x.y.1.
            let next = (n + 1) % PEERS;
            let next = SocketAddr::from(([11, (next >> 8) as u8, next as u8, 1], 4444));
            sim.add_peer(|_| Box::new(Relay { next, waiting: vec![vec![n as u8; 300]] }));
        }
        sim.run(Duration::from_millis(100));
        sim
    };
    let mut sim = set_up();
    let before = sim.traffic().0;
    sim.run(SPAN);
    let count = sim.traffic().0 - before;
    bencher.with_inputs(set_up).counter(ItemsCount::new(count)).bench_local_refs(|sim| sim.run(SPAN));
}

#[divan::bench(sample_count = 3)]
fn contacts_assumed(bencher: Bencher) {
    const NODES: usize = 1000;
    let set_up = || {
        let mut sim = Simulation::new(1).expect("a database");
        let hosts: Vec<_> = (0..NODES).map(|_| sim.add_node(Setup::default()).expect("a node")).collect();
        let contacts: Vec<Contact> = hosts.iter().map(|&host| sim.contact(host).expect("a node")).collect();
        (sim, hosts, contacts)
    };
    let count = ItemsCount::new(NODES * 120);
    bencher.with_inputs(set_up).counter(count).bench_local_refs(|(sim, hosts, contacts)| {
        for (n, &host) in hosts.iter().enumerate() {
            sim.assume_contacts(host, contacts.iter().cycle().skip(n).step_by(7).take(120).copied());
        }
    });
}
