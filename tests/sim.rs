//! The simulator: the same for the same seed, and a thousand nodes that join for real.

use std::time::Duration;

use khashmir::engine::Outcome;
use khashmir::sim::{Happening, Setup, Simulation};
use khashmir::time::Time;

fn joined(seed: u64, nodes: u32) -> Simulation {
    let mut sim = Simulation::new(seed).expect("a database");
    let mut hosts = Vec::new();
    let far = Time::from_micros(u64::MAX);
    for n in 0..nodes {
        let host = sim.add_node(Setup::default()).expect("a node");
        if n > 0 {
            let by = sim.address(hosts[n as usize / 2]);
            sim.add_contact(host, by).expect("a node");
            while let Some(happening) = sim.next(far) {
                if matches!(happening, Happening::Operation { outcome: Outcome::Contact(Ok(_)), .. }) {
                    break;
                }
            }
            sim.find_close_nodes(host).expect("a node");
        }
        hosts.push(host);
    }
    sim.run(Duration::from_secs(10));
    sim
}

#[test]
fn one_seed_one_digest() {
    let digests = [1, 1, 2].map(|seed| joined(seed, 50).digest());
    assert_eq!(digests[0], digests[1]);
    assert_ne!(digests[0], digests[2]);
}
