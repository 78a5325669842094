//! Lookups and publishing over a simulated network that stands still.

use std::collections::{HashMap, HashSet};

use khashmir::lookup::{Goal, Lookup, MAX_PER_ANSWER, MAX_REQUESTS, MAX_UNASKED, Step};
use khashmir::random::{Random, seed_from_number, seeded};
use khashmir::table::Table;
use khashmir::time::Time;
use khashmir::{Contact, Id};
use rand::RngExt;

const K: usize = 8;
const CONCURRENCY: usize = 4;
const NODES: usize = 300;

fn rng(seed: u64) -> Random {
    seeded(seed_from_number(seed))
}

fn contact(id: Id, port: u16) -> Contact {
    Contact { id, addr: ([10, 0, 0, 1], port).into() }
}

fn shuffle<T>(items: &mut [T], rng: &mut Random) {
    for at in (1..items.len()).rev() {
        items.swap(at, rng.random_range(0..=at));
    }
}

/// An id that shares `shared` bits with `target`, distinct for each number.
fn near(target: Id, shared: usize, number: u64) -> Id {
    target.random_sharing(shared, &mut rng(number))
}

/// Nodes that each know of all others what their table has room for.
struct Network {
    contacts: Vec<Contact>,
    tables: HashMap<Id, Table>,
    dead: HashSet<Id>,
}

impl Network {
    fn new(nodes: usize, rng: &mut Random) -> Self {
        let contacts: Vec<Contact> = (1..=nodes as u16).map(|port| contact(Id::random(rng), port)).collect();
        let mut met = contacts.clone();
        let mut tables = HashMap::new();
        for node in &contacts {
            let mut table = Table::new(node.id, K, Time::ZERO);
            shuffle(&mut met, rng);
            for &other in &met {
                table.heard(other, Time::ZERO);
            }
            tables.insert(node.id, table);
        }
        Network { contacts, tables, dead: HashSet::new() }
    }

    fn nearest_known(&self, node: &Id, target: &Id) -> Vec<Contact> {
        let mut nearest = Vec::new();
        self.tables[node].nearest(target, K, &mut nearest);
        nearest
    }

    fn lookup(&self, own: Id, target: Id, goal: Goal) -> Lookup {
        Lookup::new(target, own, goal, K, CONCURRENCY, self.nearest_known(&own, &target))
    }

    /// Those nearest to `target` of all the living, as seen by `own`.
    fn truly_nearest(&self, own: &Id, target: &Id) -> Vec<Contact> {
        let living = self.contacts.iter().filter(|node| node.id != *own && !self.dead.contains(&node.id));
        let mut nearest: Vec<Contact> = living.copied().collect();
        nearest.sort_by_key(|node| node.id.distance(target));
        nearest.truncate(K);
        nearest
    }

    /// Runs a lookup to its end; answers come in any order. Returns the peers that
    /// were asked.
    fn run(&self, lookup: &mut Lookup, rng: &mut Random) -> Vec<Id> {
        let target = *lookup.target();
        let mut in_flight: Vec<Id> = Vec::new();
        let mut asked: Vec<Id> = Vec::new();
        loop {
            match lookup.next() {
                Step::Query(peer) => {
                    assert!(!asked.contains(&peer.id), "asked twice");
                    asked.push(peer.id);
                    in_flight.push(peer.id);
                    assert!(in_flight.len() <= CONCURRENCY, "too many in flight");
                    assert_eq!(lookup.in_flight(), in_flight.len());
                    continue;
                }
                Step::Wait => assert!(!in_flight.is_empty(), "waits for nothing"),
                Step::Done => break,
            }
            let peer = in_flight.swap_remove(rng.random_range(0..in_flight.len()));
            if self.dead.contains(&peer) {
                lookup.on_failure(&peer);
            } else {
                lookup.on_reply(&peer, self.nearest_known(&peer, &target));
                if lookup.goal() == Goal::Exact && peer == target {
                    assert_eq!(lookup.next(), Step::Done);
                }
            }
            assert_eq!(lookup.asked(), asked.len());
            assert_eq!(lookup.answered() + lookup.failed() + lookup.in_flight(), asked.len());
            assert_eq!(lookup.in_flight(), in_flight.len());
        }
        asked
    }
}

#[test]
fn finds_the_nearest_in_few_hops() {
    for seed in 0..3 {
        let mut rng = rng(seed);
        let network = Network::new(NODES, &mut rng);
        for _ in 0..50 {
            let own = network.contacts[rng.random_range(0..NODES)].id;
            let target = Id::random(&mut rng);
            let mut lookup = network.lookup(own, target, Goal::Closest);
            let asked = network.run(&mut lookup, &mut rng);
            let found: Vec<Contact> = lookup.closest().collect();
            assert_eq!(found, network.truly_nearest(&own, &target), "seed {seed}");
            // log2 of 300 is 8.2.
            assert!(lookup.hops() <= 9, "{} hops, seed {seed}", lookup.hops());
            assert!(asked.len() <= 40, "{} requests, seed {seed}", asked.len());
        }
    }
}

#[test]
fn finds_the_nearest_though_many_are_dead() {
    for seed in 0..3 {
        let mut rng = rng(seed);
        let mut network = Network::new(NODES, &mut rng);
        network.dead = network.contacts.iter().map(|c| c.id).filter(|_| rng.random_bool(0.3)).collect();
        let (mut found, mut lookups) = (0, 0);
        for own in network.contacts.iter().map(|c| c.id).filter(|id| !network.dead.contains(id)).take(50) {
            let target = Id::random(&mut rng);
            let mut lookup = network.lookup(own, target, Goal::Closest);
            network.run(&mut lookup, &mut rng);
            let nearest = network.truly_nearest(&own, &target);
            assert!(lookup.closest().all(|contact| !network.dead.contains(&contact.id)), "seed {seed}");
            assert!(lookup.failed() > 0 || lookup.asked() < 20, "seed {seed}");
            found += lookup.closest().filter(|contact| nearest.contains(contact)).count();
            lookups += 1;
        }
        // Tables full of dead contacts may hide a living one.
        assert!(found * 10 >= lookups * K * 9, "{found} of {}, seed {seed}", lookups * K);
    }
}

#[test]
fn a_small_network_is_found_whole() {
    let mut rng = rng(7);
    let network = Network::new(5, &mut rng);
    let own = network.contacts[0].id;
    let mut lookup = network.lookup(own, own, Goal::Closest);
    network.run(&mut lookup, &mut rng);
    assert!(lookup.closest().eq(network.truly_nearest(&own, &own)));
    assert_eq!(lookup.closest().count(), 4);
    assert_eq!(lookup.hops(), 0);
}

#[test]
fn nobody_to_ask() {
    let (target, own) = (Id::of(b"target"), Id::of(b"own"));
    let unreachable = Contact { id: Id::of(b"peer"), addr: ([0, 0, 0, 0], 1).into() };
    let mut lookup = Lookup::new(target, own, Goal::Closest, K, CONCURRENCY, [contact(own, 1), unreachable]);
    assert_eq!(lookup.next(), Step::Done);
    assert_eq!(lookup.closest().count(), 0);
}

#[test]
fn exact_stops_at_the_node_itself() {
    let mut rng = rng(8);
    let network = Network::new(NODES, &mut rng);
    let (mut exact, mut closest) = (0, 0);
    for nth in 1..40 {
        let (own, target) = (network.contacts[0].id, network.contacts[nth].id);
        let mut lookup = network.lookup(own, target, Goal::Exact);
        let asked = network.run(&mut lookup, &mut rng);
        assert_eq!(lookup.closest().next(), Some(network.contacts[nth]));
        exact += asked.len();
        let mut whole = network.lookup(own, target, Goal::Closest);
        closest += network.run(&mut whole, &mut rng).len();
    }
    assert!(exact * 5 < closest * 4, "{exact} requests, {closest} for all of the nearest");
    // A target that is not there ends the lookup all the same.
    let mut lookup = network.lookup(network.contacts[0].id, Id::random(&mut rng), Goal::Exact);
    network.run(&mut lookup, &mut rng);
    assert_eq!(lookup.closest().count(), K);
}

#[test]
fn values_are_asked_of_all_the_nearest() {
    let mut rng = rng(9);
    let network = Network::new(NODES, &mut rng);
    for _ in 0..20 {
        let (own, target) = (network.contacts[0].id, Id::random(&mut rng));
        let nearest = network.truly_nearest(&own, &target);
        let mut lookup = network.lookup(own, target, Goal::Values);
        let mut asked = Vec::new();
        loop {
            match lookup.next() {
                Step::Query(peer) => {
                    asked.push(peer);
                    // The second nearest has values, and so names no contacts.
                    if peer == nearest[1] {
                        lookup.on_reply(&peer.id, []);
                    } else {
                        lookup.on_reply(&peer.id, network.nearest_known(&peer.id, &target));
                    }
                }
                Step::Wait => panic!("nothing is in flight"),
                Step::Done => break,
            }
        }
        assert!(nearest.iter().all(|node| asked.contains(node)));
        assert!(lookup.closest().eq(nearest));
    }
}

#[test]
fn late_repeated_and_foreign_answers() {
    let target = Id::of(b"target");
    let peer = |shared: usize| contact(near(target, shared, shared as u64), shared as u16 + 1);
    let (far, middle, close) = (peer(1), peer(5), peer(9));
    let mut lookup = Lookup::new(target, Id::of(b"own"), Goal::Closest, 2, 1, [far]);
    // Somebody who was not asked, not even known.
    lookup.on_reply(&close.id, [middle]);
    lookup.on_failure(&close.id);
    assert_eq!(lookup.next(), Step::Query(far));
    assert_eq!(lookup.next(), Step::Wait);
    lookup.on_reply(&far.id, [middle]);
    // Known, but not asked yet.
    lookup.on_reply(&middle.id, [close]);
    // A second answer.
    lookup.on_reply(&far.id, [close]);
    lookup.on_failure(&far.id);
    assert_eq!((lookup.answered(), lookup.failed()), (1, 0));
    assert_eq!(lookup.next(), Step::Query(middle));
    lookup.on_failure(&middle.id);
    lookup.on_failure(&middle.id);
    assert_eq!((lookup.answered(), lookup.failed(), lookup.in_flight()), (1, 1, 0));
    // It was only slow.
    lookup.on_reply(&middle.id, [close]);
    assert_eq!((lookup.answered(), lookup.failed(), lookup.in_flight()), (2, 0, 0));
    assert_eq!(lookup.next(), Step::Query(close));
    lookup.on_reply(&close.id, []);
    assert_eq!(lookup.next(), Step::Done);
    assert!(lookup.closest().eq([close, middle]));
    assert_eq!(lookup.hops(), 2);
    // After the end nothing changes any more.
    lookup.on_reply(&close.id, [peer(20)]);
    assert_eq!(lookup.next(), Step::Done);
}

#[test]
fn a_slow_peer_does_not_hold_the_others_up() {
    let target = Id::of(b"target");
    let peers: Vec<Contact> =
        (0..3u16).map(|n| contact(near(target, 9 - usize::from(n), 1), n + 1)).collect();
    let mut lookup = Lookup::new(target, Id::of(b"own"), Goal::Closest, 2, 1, peers.clone());
    assert_eq!(lookup.next(), Step::Query(peers[0]));
    assert_eq!(lookup.next(), Step::Wait);
    lookup.on_slow(&peers[0].id);
    lookup.on_slow(&peers[0].id);
    assert_eq!(lookup.in_flight(), 1);
    assert_eq!(lookup.next(), Step::Query(peers[1]));
    lookup.on_reply(&peers[1].id, []);
    // Its verdict is needed all the same.
    assert_eq!(lookup.next(), Step::Wait);
    lookup.on_failure(&peers[0].id);
    assert_eq!(lookup.next(), Step::Query(peers[2]));
    lookup.on_reply(&peers[2].id, []);
    assert_eq!(lookup.next(), Step::Done);
    assert!(lookup.closest().eq([peers[1], peers[2]]));
}

#[test]
fn a_lookup_that_is_astray_goes_on_with_all_it_knows() {
    let target = Id::new([0; 20]);
    let own = near(target, 0, 1);
    // All on our own side of the space; only the farthest knows anybody on the other.
    let mut seeds: Vec<Contact> =
        (0..20).map(|n| contact(near(target, 0, 100 + n), 100 + n as u16)).collect();
    seeds.sort_by_key(|seed| seed.id.distance(&target));
    let guide = seeds[19];
    let there = contact(near(target, 5, 7), 7);
    let run = |expecting: bool| {
        let seeds = seeds.iter().copied();
        let lookup = Lookup::new(target, own, Goal::Closest, K, CONCURRENCY, seeds);
        let mut lookup = if expecting { lookup.expecting_nearer() } else { lookup };
        while let Step::Query(peer) = lookup.next() {
            lookup.on_reply(&peer.id, (peer == guide).then_some(there));
        }
        assert_eq!(lookup.next(), Step::Done);
        (lookup.asked(), lookup.closest().next().unwrap())
    };
    assert_eq!(run(false), (K, seeds[0]));
    assert_eq!(run(true), (21, there), "each one, and the one that the last one knew");
}

#[test]
fn a_peer_that_has_moved_is_asked_where_it_is() {
    let target = Id::new([0; 20]);
    let (old, new) = (contact(near(target, 9, 1), 1), contact(near(target, 9, 1), 2));
    let other = contact(near(target, 3, 2), 3);
    for slow in [false, true] {
        let own = near(target, 0, 3);
        let mut lookup = Lookup::new(target, own, Goal::Closest, K, CONCURRENCY, [old, other]);
        assert_eq!(lookup.next(), Step::Query(old));
        assert_eq!(lookup.next(), Step::Query(other));
        lookup.on_reply(&other.id, [new]);
        assert_eq!(lookup.next(), Step::Wait, "while it may still answer where it was");
        if slow {
            lookup.on_slow(&old.id)
        } else {
            lookup.on_failure(&old.id)
        }
        assert_eq!(lookup.next(), Step::Query(new));
        assert_eq!(lookup.next(), Step::Wait);
        lookup.on_reply(&new.id, []);
        assert_eq!(lookup.next(), Step::Done);
        assert!(lookup.closest().eq([new, other]));
    }
}

/// Where it is may be heard after it was given up where it was. Nobody is chased from one
/// address to the next.
#[test]
fn a_peer_that_has_moved_is_asked_once_more() {
    let target = Id::new([0; 20]);
    let at = |port| contact(near(target, 9, 1), port);
    let others: Vec<Contact> = (0..3).map(|n| contact(near(target, 3, 2 + n), 10 + n as u16)).collect();
    for slow in [false, true] {
        let seeds = others.iter().copied().chain([at(1)]);
        let mut lookup = Lookup::new(target, near(target, 0, 9), Goal::Closest, K, CONCURRENCY, seeds);
        while let Step::Query(_) = lookup.next() {}
        if slow {
            lookup.on_slow(&at(1).id)
        } else {
            lookup.on_failure(&at(1).id)
        }
        lookup.on_reply(&others[0].id, [at(2)]);
        assert_eq!(lookup.next(), Step::Query(at(2)));
        lookup.on_failure(&at(2).id);
        lookup.on_reply(&others[1].id, [at(3), at(1)]);
        assert_eq!(lookup.next(), Step::Wait);
        lookup.on_reply(&others[2].id, []);
        assert_eq!(lookup.next(), Step::Done);
        assert_eq!(lookup.closest().count(), 3);
    }
}

/// Whatever becomes of each request, in any order: the counts agree, nobody is asked twice,
/// and it ends with the nearest of those that have answered.
#[test]
fn slow_silent_failed_and_late_in_any_order() {
    for seed in 0..60 {
        let mut rng = rng(seed);
        let own = Id::random(&mut rng);
        let target = Id::random(&mut rng);
        let goal = if rng.random_bool(0.5) { Goal::Closest } else { Goal::Exact };
        let fresh = |rng: &mut Random| {
            let (id, port) = (target.random_sharing(rng.random_range(0..12), rng), rng.random_range(1..9));
            let addr = match rng.random_bool(0.5) {
                true => ([10, 0, 0, 1], port).into(),
                false => ([0x2001u16, 0, 0, 0, 0, 0, 0, 1], port).into(),
            };
            Contact { id, addr }
        };
        let seeds: Vec<Contact> = (0..20).map(|_| fresh(&mut rng)).collect();
        let mut lookup = Lookup::new(target, own, goal, K, CONCURRENCY, seeds);
        let (mut open, mut asked, mut answered) = (Vec::<Contact>::new(), HashSet::new(), Vec::new());
        loop {
            match lookup.next() {
                Step::Query(peer) => {
                    assert!(asked.insert(peer.id), "asked twice, seed {seed}");
                    open.push(peer);
                    continue;
                }
                Step::Wait => assert!(lookup.in_flight() > 0 && !open.is_empty(), "seed {seed}"),
                Step::Done => break,
            }
            let at = rng.random_range(0..open.len());
            let peer = open[at];
            match rng.random_range(0..5) {
                0 => lookup.on_slow(&peer.id),
                1 => lookup.on_silence(&peer.id),
                2 => lookup.on_failure(&peer.id),
                _ => {
                    open.swap_remove(at);
                    answered.push(peer);
                    let named: Vec<_> =
                        (0..if asked.len() > 60 { 0 } else { 4 }).map(|_| fresh(&mut rng)).collect();
                    lookup.on_reply(&peer.id, named);
                }
            }
            assert_eq!(lookup.answered(), answered.len(), "seed {seed}");
            let ended = lookup.answered() + lookup.failed() + lookup.in_flight();
            assert_eq!(ended, asked.len(), "seed {seed}");
        }
        answered.sort_by_key(|peer| peer.id.distance(&target));
        for ipv4 in [true, false] {
            let of = |peer: &&Contact| peer.addr.is_ipv4() == ipv4;
            let expected: Vec<Contact> = answered.iter().filter(of).take(K).copied().collect();
            let found: Vec<Contact> = lookup.closest().filter(|peer| of(&peer)).collect();
            assert_eq!(found, expected, "seed {seed}");
        }
    }
}

#[test]
fn the_one_that_is_looked_for_is_waited_for() {
    let (target, own) = (Id::of(b"target"), Id::of(b"own"));
    let wanted = contact(target, 1);
    let others: Vec<Contact> = (0..K / 2).map(|n| contact(near(target, 3, n as u64), 2 + n as u16)).collect();
    for goal in [Goal::Exact, Goal::Closest] {
        let seeds = others.iter().copied().chain([wanted]);
        let mut lookup = Lookup::new(target, own, goal, K, CONCURRENCY, seeds);
        assert_eq!(lookup.next(), Step::Query(wanted));
        if goal == Goal::Exact {
            // Nobody else is asked before it is late.
            assert_eq!(lookup.next(), Step::Wait);
        }
        lookup.on_slow(&target);
        while let Step::Query(_) = lookup.next() {}
        for other in &others {
            lookup.on_reply(&other.id, []);
            while let Step::Query(_) = lookup.next() {}
        }
        lookup.on_silence(&target);
        let expected = if goal == Goal::Exact { Step::Wait } else { Step::Done };
        assert_eq!(lookup.next(), expected);
        if goal == Goal::Exact {
            // Once, not for ever.
            lookup.on_unreachable(&target);
            assert_eq!(lookup.next(), Step::Query(wanted));
            assert!(lookup.insists_on(&target));
            lookup.on_unreachable(&target);
        }
        assert_eq!(lookup.next(), Step::Done);
    }
}

#[test]
fn the_silent_are_waited_for_while_too_few_have_answered() {
    let (target, own) = (Id::of(b"target"), Id::of(b"own"));
    let peers: Vec<Contact> = (0..=K / 2).map(|n| contact(near(target, 3, n as u64), 2 + n as u16)).collect();
    let (silent, others) = peers.split_first().expect("peers");
    for late in [false, true] {
        let mut lookup = Lookup::new(target, own, Goal::Closest, K, CONCURRENCY, peers.iter().copied());
        while let Step::Query(_) = lookup.next() {}
        lookup.on_silence(&silent.id);
        for (n, other) in others.iter().enumerate() {
            while let Step::Query(_) = lookup.next() {}
            if late && n + 1 == others.len() {
                lookup.on_failure(&other.id);
            } else {
                lookup.on_reply(&other.id, []);
            }
        }
        // Half of K have answered, or one less.
        assert_eq!(lookup.next(), if late { Step::Wait } else { Step::Done });
        if late {
            lookup.on_reply(&silent.id, []);
            assert_eq!(lookup.next(), Step::Done);
            assert!(lookup.closest().any(|peer| peer == *silent));
        }
    }
}

#[test]
fn useless_contacts_are_passed_over() {
    let (target, own) = (Id::of(b"target"), Id::of(b"own"));
    let first = contact(near(target, 3, 1), 1);
    let mut lookup = Lookup::new(target, own, Goal::Closest, K, CONCURRENCY, [first]);
    assert_eq!(lookup.next(), Step::Query(first));
    let good = contact(near(target, 9, 2), 2);
    let mut elsewhere = good;
    elsewhere.addr.set_port(3);
    let mut nowhere = contact(near(target, 8, 3), 4);
    nowhere.addr.set_port(0);
    lookup.on_reply(&first.id, [contact(own, 5), nowhere, good, elsewhere, good, first]);
    assert_eq!(lookup.next(), Step::Query(good));
    assert_eq!(lookup.next(), Step::Wait);
}

#[test]
fn a_liar_without_end_is_cut_off() {
    for answers in [true, false] {
        let target = Id::of(b"target");
        let seed = contact(near(target, 0, 0), 1);
        let mut lookup = Lookup::new(target, Id::of(b"own"), Goal::Closest, K, CONCURRENCY, [seed]);
        let mut invented = 0u64;
        let mut in_flight: Vec<Contact> = Vec::new();
        let mut asked = 0;
        loop {
            match lookup.next() {
                Step::Query(peer) => {
                    asked += 1;
                    in_flight.push(peer);
                    assert!(asked <= MAX_REQUESTS && in_flight.len() <= CONCURRENCY);
                    continue;
                }
                Step::Wait => assert!(!in_flight.is_empty()),
                Step::Done => break,
            }
            let peer = in_flight.remove(0);
            if !answers && asked % 3 == 0 {
                lookup.on_failure(&peer.id);
                continue;
            }
            let nearer = std::iter::repeat_with(|| {
                invented += 1;
                // Ever nearer, as far as there are ids.
                contact(near(target, (invented as usize / 50).min(150), invented), 2)
            });
            lookup.on_reply(&peer.id, nearer);
        }
        assert_eq!(lookup.asked(), asked);
        assert_eq!(asked, MAX_REQUESTS, "the liar should have got that far");
        assert!(lookup.closest().count() <= K);
        assert!(invented <= (MAX_REQUESTS * MAX_PER_ANSWER) as u64);
    }
}

#[test]
fn one_liar_does_not_crowd_out_the_honest() {
    let mut rng = rng(10);
    let network = Network::new(NODES, &mut rng);
    for number in 0..10 {
        let (own, target) = (network.contacts[0].id, Id::random(&mut rng));
        let nearest = network.truly_nearest(&own, &target);
        let liar = contact(near(target, 2, number), 9);
        let mut seeds = network.nearest_known(&own, &target);
        seeds.push(liar);
        let mut lookup = Lookup::new(target, own, Goal::Closest, K, CONCURRENCY, seeds);
        let mut wasted = 0;
        while let Step::Query(peer) = lookup.next() {
            if peer == liar {
                // Nodes that do not exist, nearer than any that does.
                let made_up = (0..MAX_PER_ANSWER as u64).map(|nth| contact(near(target, 60, nth), 9));
                lookup.on_reply(&peer.id, made_up);
            } else if network.tables.contains_key(&peer.id) {
                lookup.on_reply(&peer.id, network.nearest_known(&peer.id, &target));
            } else {
                wasted += 1;
                lookup.on_failure(&peer.id);
            }
        }
        let found = lookup.closest().filter(|contact| nearest.contains(contact)).count();
        assert!(found >= K - 1, "{found} found, number {number}");
        assert!(wasted <= K, "{wasted} requests wasted, number {number}");
    }
}

#[test]
fn of_too_many_candidates_the_nearest_are_kept() {
    let target = Id::of(b"target");
    let mut all: Vec<Contact> = (0..1000u16).map(|n| contact(Id::of(&n.to_be_bytes()), n + 1)).collect();
    let mut lookup = Lookup::new(target, Id::of(b"own"), Goal::Closest, 64, 64, all.clone());
    all.sort_by_key(|peer| peer.id.distance(&target));
    // All fail, so that each candidate there is gets its turn.
    let mut asked = Vec::new();
    while let Step::Query(peer) = lookup.next() {
        lookup.on_failure(&peer.id);
        asked.push(peer);
    }
    assert_eq!(asked, all[..MAX_UNASKED]);
    assert_eq!(lookup.failed(), MAX_UNASKED);
    assert_eq!(lookup.next(), Step::Done);
}
