//! What lost datagrams and dead contacts cost lookups, where round trips are long.

#[path = "support/network.rs"]
mod network;

use std::time::Duration;

use khashmir::engine::Outcome;
use khashmir::lookup::{Goal, Lookup, Step};
use khashmir::random::{seed_from_number, seeded};
use khashmir::{Config, Contact, Id, NodeKey};
use network::*;
use rand::RngExt;

/// How long lookups for nodes that exist took, and how many found them.
#[derive(Default)]
struct Tally {
    times: Vec<Duration>,
    found: usize,
}

impl Tally {
    fn look(&mut self, network: &mut Network, living: &[NodeKey], count: usize, seed: u64) {
        let mut rng = seeded(seed_from_number(seed));
        for _ in 0..count {
            let from = rng.random_range(0..living.len());
            let target = living[(from + rng.random_range(1..living.len())) % living.len()];
            let target: Contact = network.contact(target);
            let begun = network.now;
            let operation = network.engine.find_node(network.now, living[from], target.id, None);
            let Outcome::Nodes(Ok(nodes)) = the_one(network.wait(operation)) else { panic!("no nodes") };
            self.found += usize::from(nodes.first() == Some(&target));
            self.times.push(network.now - begun);
            network.run(secs(5));
        }
    }

    fn percentile(&mut self, percent: usize) -> Duration {
        self.times.sort();
        self.times[(self.times.len() - 1) * percent / 100]
    }

    /// Says how it went, in round trips of 125 ms.
    fn show(&mut self, what: &str) {
        let [median, p90, p99, most] =
            [50, 90, 99, 100].map(|percent| self.percentile(percent).as_secs_f64() / 0.125);
        let (found, tried) = (self.found, self.times.len());
        println!("{what}: {found} of {tried}, {median:.1} {p90:.1} {p99:.1} {most:.1} round trips");
    }
}

/// Round trips of 50 to 200 ms, and connections that are forgotten before each trial.
fn trial(nodes: u32, lookups: usize, seeds: std::ops::Range<u64>) -> [Tally; 3] {
    let mut tallies = <[Tally; 3]>::default();
    for seed in seeds {
        let _seed = Seed(seed);
        let mut network = Network::new(seed);
        network.round_trips = Some((50, 200));
        let mut living: Vec<_> = (0..nodes).map(|n| network.node(address(n), Config::default())).collect();
        network.join(&living);
        for (n, tally) in tallies.iter_mut().enumerate() {
            network.run(secs(11 * 60));
            network.bad.loss = if n == 1 { 0.2 } else { 0.0 };
            if n == 2 {
                for dead in living.split_off(nodes as usize * 7 / 10) {
                    let addr = network.address(dead);
                    network.dead.insert(addr);
                }
            }
            tally.look(&mut network, &living, lookups, seed ^ n as u64);
        }
    }
    tallies
}

#[test]
fn lookups_find_whoever_is_there_in_time() {
    let [mut clean, mut lossy, mut dead] = trial(200, 120, 1..3);
    clean.show("no loss");
    lossy.show("20 % loss");
    dead.show("30 % dead");
    let usual = clean.percentile(50);
    for tally in [&mut clean, &mut lossy, &mut dead] {
        assert_eq!(tally.found, tally.times.len());
        assert!(tally.percentile(99) < usual * 6);
    }
}

#[test]
#[ignore = "takes minutes; the figures are for those who change how long is waited"]
fn figures_of_larger_networks() {
    let [mut clean, mut lossy, mut dead] = trial(300, 600, 1..4);
    clean.show("no loss");
    lossy.show("20 % loss");
    dead.show("30 % dead");
}

/// An id whose distance from zero begins with this byte.
fn at(first: u8) -> Id {
    let mut bytes = [0; 20];
    (bytes[0], bytes[1]) = (first, first);
    Id::new(bytes)
}

/// One node that knows peers at round trips of 100 ms, and how long its lookup takes if the
/// `dead` nearest to the target are; `known`: it has called them before.
fn cost(dead: u32, known: bool) -> Duration {
    let mut network = Network::new(1);
    network.round_trips = Some((100, 100));
    let node = network.node_named(address(0), Id::new([0xff; 20]), Config::default());
    let near: Vec<Contact> = (1..=8u8).map(|n| network.peer(address(n.into()), at(n), polite())).collect();
    let guides: Vec<Contact> = (1..=8u8)
        .map(|n| network.peer(address(100 + u32::from(n)), at(0x80 | n), names(near.clone())))
        .collect();
    guides.iter().for_each(|guide| drop(network.introduce(node, guide.addr)));
    if known {
        network.find_node(node, at(0));
        network.run(secs(60));
    }
    network.dead.extend(near.iter().take(dead as usize).map(|peer| peer.addr));
    let begun = network.now;
    let operation = network.engine.find_close_nodes(network.now, node, None);
    network.wait(operation);
    let begun_nearest = network.now;
    let found = network.find_node(node, at(0));
    assert!(begun <= begun_nearest);
    assert_eq!(found.len(), 8, "{found:?}");
    network.now - begun_nearest
}

/// Neither a stranger nor a contact that has just died costs three round trips, alone or
/// together with others.
#[test]
fn the_dead_cost_less_than_three_round_trips() {
    for known in [false, true] {
        let usual = cost(0, known);
        for dead in 1..=4 {
            let more = cost(dead, known) - usual;
            println!("{dead} dead, known {known}: {more:?} more than {usual:?}");
            assert!(more < ms(300), "{dead} dead, known {known}: {more:?} more than {usual:?}");
        }
    }
}

/// It was only slow: what comes from where it was asked first counts, whether it was asked at
/// the second address meanwhile or not; and what becomes of the first request no longer does.
#[test]
fn a_peer_that_was_said_to_have_moved_is_found_where_it_answers() {
    let target = Id::new([0; 20]);
    let [old, new] = [1, 2].map(|n| Contact { id: at(1), addr: address(n) });
    let other = Contact { id: at(0x40), addr: address(3) };
    for (asked_again, failed_there) in [(false, false), (true, false), (true, true)] {
        let own = at(0xff);
        let mut lookup = Lookup::new(target, own, Goal::Closest, 8, 4, [old, other]);
        while let Step::Query(_) = lookup.next() {}
        lookup.on_slow(&old.id);
        assert!(lookup.was_last_asked_at(&old) && !lookup.was_last_asked_at(&new));
        lookup.on_reply(&other.id, [new]);
        if asked_again {
            assert_eq!(lookup.next(), Step::Query(new));
            assert!(lookup.was_last_asked_at(&new) && !lookup.was_last_asked_at(&old));
        }
        if failed_there {
            lookup.on_failure(&new.id);
        }
        lookup.on_found_at(&old);
        lookup.on_reply(&old.id, []);
        assert_eq!(lookup.next(), Step::Done);
        assert!(lookup.closest().eq([old, other]));
        assert_eq!((lookup.answered(), lookup.in_flight()), (2, 0));
        assert_eq!(lookup.asked(), 2 + usize::from(asked_again));
        // Nothing moves after that.
        lookup.on_found_at(&new);
        assert!(lookup.closest().eq([old, other]));
    }
}
