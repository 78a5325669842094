//! Lookups against the number of nodes.

use khashmir::random::{seed_from_number, seeded};
use khashmir::sim::{Host, Setup, Simulation};
use khashmir::{Contact, Id, NodeOptions};
use rand::RngExt;

use super::{Growth, processor};

const LOOKUPS: usize = 200;
const K: usize = 8;

pub fn lookups(most: usize) -> Growth {
    let sizes = (8..).map(|power| 1usize << power).step_by(2).take_while(|&nodes| nodes <= most);
    let rows = sizes.map(|nodes| (nodes as u64, measure(nodes)));
    let cost = |name: &str, unit| (name.to_owned(), unit);
    Growth {
        part: "lookups",
        title: "A lookup, against the size of the network",
        things: "nodes",
        costs: vec![
            cost("hops", "number"),
            cost("nodes asked", "number"),
            cost("datagrams, the first time", "number"),
            cost("datagrams, sessions open", "number"),
            cost("the first time", "µs"),
            cost("sessions open", "µs"),
        ],
        rows: rows.collect(),
    }
}

fn measure(nodes: usize) -> Vec<f64> {
    let mut rng = seeded(seed_from_number(nodes as u64));
    let mut sim = Simulation::new(1).expect("a database");
    let hosts: Vec<Host> = (0..nodes)
        .map(|_| {
            let options = NodeOptions { id: Some(Id::random(&mut rng)), ..NodeOptions::default() };
            sim.add_node(Setup { options, ..Setup::default() }).expect("a node")
        })
        .collect();
    let mut sorted: Vec<Contact> = hosts.iter().map(|&host| sim.contact(host).expect("a node")).collect();
    sorted.sort_unstable_by_key(|contact| contact.id);
    for &host in &hosts {
        let own = sim.contact(host).expect("a node").id;
        let mut contacts = Vec::new();
        // Those that share so many bits with it stand side by side; of all but the last of them that share
        // one more on the other side of the next bit.
        let mut range = &sorted[..];
        for bit in 0..160 {
            let is_one = |id: &Id| id.as_bytes()[bit / 8] & 0x80 >> (bit % 8) != 0;
            let (zeros, ones) = range.split_at(range.partition_point(|contact| !is_one(&contact.id)));
            let (others, mine) = if is_one(&own) { (zeros, ones) } else { (ones, zeros) };
            if others.len() <= K {
                contacts.extend_from_slice(others);
            } else {
                let mut chosen: Vec<usize> = Vec::new();
                while chosen.len() < K {
                    let place = rng.random_range(0..others.len());
                    if !chosen.contains(&place) {
                        chosen.push(place);
                    }
                }
                contacts.extend(chosen.into_iter().map(|place| others[place]));
            }
            if mine.len() <= 1 {
                break;
            }
            range = mine;
        }
        sim.assume_contacts(host, contacts);
    }
    // Ids that nobody has: each lookup goes on until the nodes nearest to it are known.
    let lookups: Vec<(Host, Id)> =
        (0..LOOKUPS).map(|_| (hosts[rng.random_range(0..nodes)], Id::random(&mut rng))).collect();
    let (mut hops, mut asked) = (0, 0);
    let mut all = |sim: &mut Simulation| {
        let (datagrams, begun) = (sim.traffic().0, processor::of_thread());
        // All at once: time in which nodes look after their tables is no part of it.
        let operations: Vec<_> = lookups.iter().map(|&(host, target)| sim.find_node(host, target)).collect();
        for operation in operations {
            let operation = operation.expect("a node");
            let ended = sim.wait(operation).expect("an end");
            hops += u64::from(ended.effort.hops);
            asked += u64::from(ended.effort.asked);
        }
        let each = |all: f64| all / LOOKUPS as f64;
        (each((sim.traffic().0 - datagrams) as f64), each((processor::of_thread() - begun) * 1e6))
    };
    let first = all(&mut sim);
    let again = all(&mut sim);
    let each = |all: u64| all as f64 / (2 * LOOKUPS) as f64;
    vec![each(hops), each(asked), first.0, again.0, first.1, again.1]
}
