//! A flood of stores from one address, in the simulator: ten thousand values of 1 kB to one node, which
//! holds the values of others. Those stay where they are, and honest stores go on, whether a full store
//! refuses or makes room; and where it makes room, without any quota for addresses, too.

#[path = "support/client.rs"]
mod client;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use client::{Answer, Client};
use khashmir::config::WhenFull;
use khashmir::krpc::message::Method;
use khashmir::sim::{Host, Peer, Setup, Simulation, seed_or};
use khashmir::time::Time;
use khashmir::{Config, Contact, Id, NodeOptions};

const NODES: usize = 24;
/// Values of each honest node that the one under attack holds.
const EACH: usize = 5;
const FLOOD: u64 = 10_000;
/// Requests of the flood without an answer.
const UNDER_WAY: usize = 100;
/// What the node holds at the most: a sixth of the flood.
const ROOM: u64 = 2 << 20;

/// Asks one node for one thing after the other.
struct Speaker {
    client: Client,
    requests: Vec<Request>,
    asked: usize,
    answers: BTreeMap<u64, Answer>,
}

enum Request {
    Store(Id, Vec<u8>),
    Find(Id),
}

impl Speaker {
    fn new(own: SocketAddr, node: SocketAddr, requests: Vec<Request>) -> Self {
        let own = Contact { id: Id::of(own.to_string().as_bytes()), addr: own };
        let client = Client::new(Time::ZERO, own, node, u64::from(own.addr.port()) + requests.len() as u64);
        Speaker { client, requests, asked: 0, answers: BTreeMap::new() }
    }
}

impl Peer for Speaker {
    fn receive(&mut self, now: Time, from: SocketAddr, datagram: &[u8]) {
        self.client.receive(now, from, datagram);
        self.answers.extend(self.client.answers.drain(..));
    }

    fn next_deadline(&self) -> Option<Time> {
        self.client.next_deadline()
    }

    fn handle_timeout(&mut self, now: Time) {
        self.client.handle_timeout(now);
    }

    fn poll_transmit(&mut self, now: Time, buf: &mut Vec<u8>) -> Option<SocketAddr> {
        while self.client.is_connected() && self.asked - self.answers.len() < UNDER_WAY {
            let Some(request) = self.requests.get(self.asked) else { break };
            let method = match request {
                Request::Store(key, value) => Method::StoreValue { key: *key, value, life: None },
                Request::Find(key) => Method::FindValue { key: *key, from: None },
            };
            if !self.client.ask(now, self.asked as u64, &method) {
                break;
            }
            self.asked += 1;
        }
        self.client.poll_transmit(now, buf)
    }
}

/// A key as near to a node as `number` is small.
fn near(node: &Id, number: u32) -> Id {
    let mut bytes = *node.as_bytes();
    for (byte, change) in bytes[4..].iter_mut().zip(number.to_be_bytes()) {
        *byte ^= change;
    }
    Id::new(bytes)
}

struct Network {
    sim: Simulation,
    nodes: Vec<Host>,
    target: Host,
    /// What honest nodes have stored near the one under attack.
    honest: BTreeMap<Id, BTreeSet<Vec<u8>>>,
    count: u32,
}

impl Network {
    fn new(config: Config) -> Network {
        let mut sim = Simulation::new(seed_or(5)).expect("a database");
        let config = Arc::new(config);
        let mut nodes: Vec<Host> = Vec::new();
        for _ in 0..NODES {
            let options = NodeOptions { config: Arc::clone(&config), ..NodeOptions::default() };
            let host = sim.add_node(Setup { options, ..Setup::default() }).expect("a node");
            if let Some(&first) = nodes.first() {
                sim.join(host, first).expect("to join");
            }
            nodes.push(host);
        }
        let target = nodes[7];
        Network { sim, nodes, target, honest: BTreeMap::new(), count: 0 }
    }

    /// Each honest node stores something that belongs to the node under attack.
    fn store(&mut self, each: usize) {
        let target = self.sim.contact(self.target).expect("a node");
        for &node in self.nodes.clone().iter().filter(|&&node| node != self.target) {
            for _ in 0..each {
                self.count += 1;
                // Farther away than anything of the flood.
                let key = near(&target.id, self.count << 16);
                let mut value = vec![self.count as u8; 1000];
                value.extend(self.count.to_be_bytes());
                let holders = holders(&mut self.sim, node, key, value.clone());
                assert!(holders.contains(&target.id), "the node under attack has not taken it");
                self.honest.entry(key).or_default().insert(value);
            }
        }
    }

    /// Has somebody ask the node under attack, and waits for all answers.
    fn ask(&mut self, requests: Vec<Request>) -> BTreeMap<u64, Answer> {
        let (node, count) = (self.sim.address(self.target), requests.len());
        let host = self.sim.add_peer(|own| Box::new(Speaker::new(own, node, requests)));
        let until = self.sim.now() + Duration::from_secs(600);
        while self.speaker(host).answers.len() < count {
            assert!(self.sim.now() < until, "{} of {count} answers", self.speaker(host).answers.len());
            self.sim.run(Duration::from_millis(100));
        }
        std::mem::take(&mut self.speaker(host).answers)
    }

    fn speaker(&mut self, host: Host) -> &mut Speaker {
        self.sim.peer_mut(host).expect("a peer")
    }

    /// All that the honest have stored is where it was.
    fn examine(&mut self) {
        let keys: Vec<Id> = self.honest.keys().copied().collect();
        let answers = self.ask(keys.iter().map(|&key| Request::Find(key)).collect());
        for (number, answer) in answers {
            let key = keys[number as usize];
            let Answer::Values(values) = answer else { panic!("{answer:?} for {key}") };
            assert!(self.honest[&key].is_subset(&values.into_iter().collect()), "a value is gone");
        }
    }

    /// The flood. Says how many values were taken.
    fn flood(&mut self) -> usize {
        let target = self.sim.contact(self.target).expect("a node");
        let requests = (0..FLOOD).map(|number| {
            let mut value = vec![0; 992];
            value.extend(number.to_be_bytes());
            Request::Store(near(&target.id, number as u32), value)
        });
        let answers = self.ask(requests.collect());
        let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
        let mut taken = 0;
        for (_, answer) in answers {
            match answer {
                Answer::Done => taken += 1,
                Answer::Refused(why) => *reasons.entry(why).or_default() += 1,
                other => panic!("{other:?}"),
            }
        }
        println!("{taken} taken; refused: {reasons:?}");
        taken
    }
}

/// Stores a value through a node: the ids of those who took it.
fn holders(sim: &mut Simulation, node: Host, key: Id, value: Vec<u8>) -> BTreeSet<Id> {
    sim.put(node, key, value).expect("to store").accepted().map(|holder| holder.id).collect()
}

fn config(when_full: WhenFull, per_address: u64) -> Config {
    Config {
        max_stored_bytes: ROOM,
        max_bytes_per_address: per_address,
        max_bytes_per_block: per_address,
        when_full,
        // Whatever is there was stored there.
        hand_on_interval: Duration::ZERO,
        renew_interval: Duration::ZERO,
        ..Config::default()
    }
}

/// The flood between honest stores; how much of it was taken, and how many values gave way.
fn flood(config: Config) -> (usize, u64) {
    let mut network = Network::new(config);
    network.store(EACH);
    network.examine();
    let taken = network.flood();
    network.examine();
    network.store(EACH);
    network.flood();
    network.store(EACH);
    network.examine();
    let stats = network.sim.stats(network.target).expect("a node");
    println!("{} values, {} gave way", stats.values, stats.values_displaced);
    (taken, stats.values_displaced)
}

#[test]
fn a_flood_ends_at_its_addresses_quota() {
    let (taken, displaced) = flood(config(WhenFull::Refuse, ROOM / 4));
    assert!((200..600).contains(&taken), "{taken} taken");
    assert_eq!(displaced, 0);
}

#[test]
fn a_flood_ends_at_its_quota_where_room_is_made() {
    let (taken, displaced) = flood(config(WhenFull::MakeRoom, ROOM / 4));
    assert!((200..600).contains(&taken), "{taken} taken");
    assert_eq!(displaced, 0, "there was room for all");
}

#[test]
fn a_flood_without_a_quota_gives_way_to_others() {
    let (taken, displaced) = flood(config(WhenFull::MakeRoom, ROOM));
    assert!(taken > 1000, "{taken} taken");
    assert!(displaced > 0);
}
