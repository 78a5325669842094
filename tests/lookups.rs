//! What lost datagrams and dead contacts cost lookups, where round trips are long.

#[path = "support/network.rs"]
mod network;

use std::time::Duration;

use khashmir::engine::Outcome;
use khashmir::{Config, Contact, NodeKey};
use network::*;
use rand::RngExt;

/// A network with round trips of 50 to 200 ms, whose connections are forgotten.
fn distant(seed: u64, count: u32) -> (Network, Vec<NodeKey>) {
    let mut network = Network::new(seed);
    network.round_trips = Some((50, 200));
    let nodes: Vec<_> = (0..count).map(|n| network.node(address(n), Config::default())).collect();
    network.join(&nodes);
    network.run(secs(11 * 60));
    (network, nodes)
}

/// What lookups for nodes that exist came to.
#[derive(Default)]
struct Tally {
    times: Vec<Duration>,
    found: usize,
}

impl Tally {
    fn percentile(&mut self, percent: usize) -> Duration {
        self.times.sort();
        self.times[(self.times.len() - 1) * percent / 100]
    }

    /// Looks for living nodes `count` times, a few lookups at once.
    fn look(&mut self, network: &mut Network, living: &[NodeKey], count: usize, seed: u64) {
        let mut rng = khashmir::random::seeded(khashmir::random::seed_from_number(seed));
        for _ in 0..count {
            let from = living[rng.random_range(0..living.len())];
            let target: Contact = network.contact(living[rng.random_range(0..living.len())]);
            if network.contact(from) == target {
                continue;
            }
            let begun = network.now;
            let operation = network.engine.find_node(network.now, from, target.id, None);
            let Outcome::Nodes(Ok(nodes)) = the_one(network.wait(operation)) else { panic!("no nodes") };
            self.found += usize::from(nodes.first() == Some(&target));
            self.times.push(network.now - begun);
            network.run(secs(20));
        }
    }

    fn show(&mut self, what: &str) {
        let [median, p90, p99, most] = [50, 90, 99, 100].map(|percent| self.percentile(percent));
        let trips = |time: Duration| time.as_secs_f64() / 0.125;
        println!(
            "{what}: found {} of {}, median {median:?} ({:.1} RT), p90 {p90:?}, p99 {p99:?} ({:.1} RT), max {most:?}",
            self.found,
            self.times.len(),
            trips(median),
            trips(p99),
        );
    }
}

#[test]
fn measure() {
    let count = 200;
    for (what, loss, dead) in [("clean", 0.0, 0), ("20% loss", 0.2, 0), ("30% dead", 0.0, 60)] {
        let mut tally = Tally::default();
        for seed in 1..4 {
            let (mut network, mut nodes) = distant(seed, count);
            network.bad.loss = loss;
            for _ in 0..dead {
                let node = nodes.swap_remove((seed as usize * 31) % nodes.len());
                let addr = network.address(node);
                network.dead.insert(addr);
            }
            tally.look(&mut network, &nodes, 200, seed);
        }
        tally.show(what);
    }
}
