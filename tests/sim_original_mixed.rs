//! The simulator's peers of 2003 among ours: each kind finds what the other stored.

use std::sync::Arc;
use std::time::Duration;

use khashmir::engine;
use khashmir::sim::original::{Operation, Original, Outcome};
use khashmir::sim::{Conditions, Happening, Host, Setup, Simulation};
use khashmir::{Config, Contact, Id, Role};

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

struct Mixed {
    sim: Simulation,
    ours: Vec<Host>,
    theirs: Vec<Host>,
}

impl Mixed {
    fn original(&mut self, host: Host) -> &mut Original {
        self.sim.peer_mut(host).unwrap()
    }

    /// What an operation of one of theirs brings, to its end.
    fn outcome(&mut self, host: Host, operation: Operation, within: Duration) -> Vec<Outcome> {
        let end = self.sim.now() + within;
        let mut outcomes = Vec::new();
        while self.sim.now() < end {
            self.sim.run(Duration::from_millis(200));
            while let Some((of, outcome)) = self.original(host).poll_outcome() {
                assert_eq!(of, operation);
                let more = matches!(&outcome, Outcome::Values(values) if !values.is_empty());
                outcomes.push(outcome);
                if !more {
                    return outcomes;
                }
            }
        }
        panic!("no end of it: {outcomes:?}");
    }

    fn ours_find(&mut self, host: Host, key: Id) -> Vec<Vec<u8>> {
        let operation = self.sim.find_values(host, key).unwrap();
        let mut found = Vec::new();
        let far = self.sim.now() + secs(600);
        loop {
            match self.sim.next(far).expect("an end") {
                Happening::Operation { operation: of, outcome, .. } if of == operation => match outcome {
                    engine::Outcome::Values(brought) => found.extend(brought.values),
                    _ => return found,
                },
                _ => {}
            }
        }
    }

    fn ours_store(&mut self, host: Host, key: Id, value: Vec<u8>) -> bool {
        let operation = self.sim.store_value(host, key, value, None).unwrap();
        let far = self.sim.now() + secs(600);
        loop {
            if let Happening::Operation { operation: of, outcome, .. } = self.sim.next(far).expect("an end")
                && of == operation
            {
                return matches!(outcome, engine::Outcome::Stored(Ok(_)));
            }
        }
    }

    fn theirs_find(&mut self, host: Host, key: Id) -> Vec<Vec<u8>> {
        let now = self.sim.now();
        let operation = self.original(host).find_values(now, key);
        let outcomes = self.outcome(host, operation, secs(1200));
        outcomes
            .into_iter()
            .flat_map(|outcome| match outcome {
                Outcome::Values(values) => values,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    fn theirs_store(&mut self, host: Host, key: Id, value: Vec<u8>) -> usize {
        let now = self.sim.now();
        let operation = self.original(host).store_value(now, key, value);
        match self.outcome(host, operation, secs(1200)).pop() {
            Some(Outcome::Stored(count)) => count,
            other => panic!("{other:?}"),
        }
    }
}

/// Twelve of each kind, that joined in turn.
fn mixed(seed: u64, loss: u32) -> Mixed {
    let mut mixed = Mixed { sim: Simulation::new(seed).unwrap(), ours: Vec::new(), theirs: Vec::new() };
    for n in 0..12 {
        let host = mixed.sim.add_node(Setup::default()).unwrap();
        if n > 0 {
            let by = mixed.sim.address(mixed.ours[n / 2]);
            mixed.sim.add_contact(host, by).unwrap();
            mixed.sim.run(secs(2));
            mixed.sim.find_close_nodes(host).unwrap();
            mixed.sim.run(secs(2));
        }
        mixed.ours.push(host);
        let by = mixed.sim.address(mixed.ours[n / 3]);
        let theirs = mixed.sim.add_peer(|addr| Box::new(Original::new(addr, seed * 1000 + n as u64)));
        let now = mixed.sim.now();
        let joining = mixed.original(theirs).join(now, by);
        let joined = mixed.outcome(theirs, joining, secs(2));
        assert!(matches!(&joined[..], [Outcome::Nodes(nodes)] if n == 0 || !nodes.is_empty()));
        mixed.theirs.push(theirs);
    }
    mixed.sim.run(secs(60));
    let conditions = Conditions { loss, ..mixed.sim.conditions().clone() };
    mixed.sim.set_conditions(conditions).expect("a share");
    mixed
}

/// Stores 24 values, half with each kind, and looks with both. How many ours found, how many
/// theirs found, and how many were taken by at least one node.
fn exchange(mixed: &mut Mixed) -> [usize; 3] {
    let mut counts = [0; 3];
    for n in 0..12 {
        for kind in 0..2 {
            let key = Id::of(format!("{kind} {n}").as_bytes());
            let value = vec![n as u8; 10 + 300 * n];
            if kind == 0 {
                let host = mixed.ours[n];
                assert!(mixed.ours_store(host, key, value.clone()));
                counts[2] += 1;
            } else {
                let host = mixed.theirs[n];
                counts[2] += usize::from(mixed.theirs_store(host, key, value.clone()) > 0);
            }
            let (ours, theirs) = (mixed.ours[(n + 5) % 12], mixed.theirs[(n + 7) % 12]);
            counts[0] += usize::from(mixed.ours_find(ours, key).contains(&value));
            counts[1] += usize::from(mixed.theirs_find(theirs, key).contains(&value));
        }
    }
    counts
}

#[test]
fn both_kinds_find_what_either_stored() {
    let mut mixed = mixed(1, 0);
    for host in mixed.theirs.clone() {
        assert!(mixed.original(host).contacts().count() >= 8);
    }
    assert_eq!(exchange(&mut mixed), [24; 3]);
    let held: usize = mixed.theirs.clone().into_iter().map(|host| mixed.original(host).values()).sum();
    assert!(held >= 24, "{held} copies with peers of 2003");
    assert_eq!(mixed.theirs.clone().into_iter().map(|host| mixed.original(host).calls()).sum::<usize>(), 0);
}

#[test]
fn theirs_store_with_the_farthest_of_the_nearest() {
    let mut mixed = mixed(1, 0);
    let mut everybody: Vec<Contact> =
        mixed.ours.iter().map(|&host| mixed.sim.contact(host).unwrap()).collect();
    for host in mixed.theirs.clone() {
        everybody.push(mixed.original(host).contact());
    }
    let mut checked = 0;
    for n in 0..20 {
        let key = Id::of(&[n]);
        let host = mixed.theirs[usize::from(n) % 12];
        let own = mixed.original(host).contact();
        everybody.sort_by_key(|contact| contact.id.distance(&key));
        if everybody[..8].contains(&own) {
            continue;
        }
        assert_eq!(mixed.theirs_store(host, key, vec![n]), 3);
        for (rank, contact) in everybody.iter().enumerate() {
            let Some(&peer) = mixed.theirs.iter().find(|&&host| mixed.sim.address(host) == contact.addr)
            else {
                continue;
            };
            assert_eq!(mixed.original(peer).holds(&key, &[n]), (5..8).contains(&rank), "key {n} rank {rank}");
            checked += 1;
        }
    }
    assert!(checked > 100);
}

#[test]
fn nodes_of_either_kind_are_found() {
    let mut mixed = mixed(2, 0);
    for n in 0..12 {
        let ours = mixed.sim.contact(mixed.ours[n]).unwrap();
        let (asks, asked) = (mixed.theirs[(n + 3) % 12], mixed.theirs[n]);
        let theirs = mixed.original(asked).contact();
        for wanted in [ours, theirs] {
            let now = mixed.sim.now();
            let operation = mixed.original(asks).find_node(now, wanted.id);
            let outcomes = mixed.outcome(asks, operation, secs(600));
            assert!(matches!(&outcomes[..], [Outcome::Nodes(nodes)] if nodes[0] == wanted), "{outcomes:?}");
        }
        let operation = mixed.sim.find_node(mixed.ours[(n + 5) % 12], theirs.id).unwrap();
        let far = mixed.sim.now() + secs(60);
        let found = loop {
            if let Happening::Operation { operation: of, outcome, .. } = mixed.sim.next(far).expect("an end")
                && of == operation
            {
                break outcome;
            }
        };
        assert!(matches!(found, engine::Outcome::Nodes(Ok(nodes)) if nodes[0] == theirs));
    }
}

#[test]
fn both_kinds_find_what_was_taken_at_five_percent_loss() {
    for seed in [0, 1, 2] {
        let mut mixed = mixed(seed, 50_000);
        let [by_ours, by_theirs, taken] = exchange(&mut mixed);
        // Requests of theirs that are lost stay lost: some of their stores come to nothing.
        assert!(taken >= 22, "seed {seed}: {taken} of 24 values were taken by anyone");
        assert_eq!(by_ours, taken, "seed {seed}");
        assert!(by_theirs + 3 >= taken, "seed {seed}: {by_theirs} of {taken}");
    }
}

#[test]
fn one_seed_one_digest() {
    let digests = [4, 4, 5].map(|seed| {
        let mut mixed = mixed(seed, 20_000);
        let (host, key) = (mixed.theirs[3], Id::of(b"key"));
        mixed.theirs_store(host, key, vec![1; 3000]);
        let host = mixed.ours[3];
        mixed.ours_find(host, key);
        mixed.sim.digest()
    });
    assert_eq!(digests[0], digests[1]);
    assert_ne!(digests[0], digests[2]);
}

/// Theirs says what it has missed two seconds after a loss: who knows nobody else waits for
/// a second loss to be mended, too.
#[test]
fn a_single_peer_of_2003_is_waited_for() {
    let (mut lost, mut tried) = (0, 0);
    for seed in 0..20 {
        let mut pair = Mixed { sim: Simulation::new(seed).unwrap(), ours: Vec::new(), theirs: Vec::new() };
        let ours = pair.sim.add_node(Setup::default()).unwrap();
        let theirs = pair.sim.add_peer(|addr| Box::new(Original::new(addr, 1000 + seed)));
        let (now, by) = (pair.sim.now(), pair.sim.address(ours));
        let joining = pair.original(theirs).join(now, by);
        pair.outcome(theirs, joining, secs(2));
        pair.sim.run(secs(60));
        assert_eq!(pair.sim.stats(ours).unwrap().contacts, 1);
        let conditions = Conditions { loss: 100_000, ..pair.sim.conditions().clone() };
        pair.sim.set_conditions(conditions).expect("a share");
        for n in 0..50u64 {
            let key = Id::of(format!("{seed} {n}").as_bytes());
            lost += u32::from(!pair.ours_store(ours, key, vec![1; 200]));
            tried += 1;
            pair.sim.run(secs(3));
        }
    }
    assert!(lost * 50 <= tried, "{lost} of {tried} values were not taken");
}

/// Of more than fits into one answer theirs get what fits, ours all of it; whoever holds it.
#[test]
fn theirs_are_given_what_fits_and_ours_the_rest_too() {
    let mut mixed = mixed(6, 0);
    let key = Id::of(b"key");
    let value = |n: usize| vec![n as u8; 8000];
    for n in 0..30 {
        let host = mixed.ours[n % 12];
        assert!(mixed.ours_store(host, key, value(n)));
    }
    for n in 0..4 {
        let (ours, theirs) = (mixed.ours[n], mixed.theirs[n + 5]);
        let found = mixed.theirs_find(theirs, key);
        assert!(found.len() >= 12 && found.iter().all(|found| *found == value(found[0].into())));
        let mut found: Vec<u8> = mixed.ours_find(ours, key).iter().map(|value| value[0]).collect();
        found.sort_unstable();
        assert!(found.into_iter().eq(0..30));
    }
    assert_eq!(mixed.theirs.clone().into_iter().map(|host| mixed.original(host).calls()).sum::<usize>(), 0);
}

/// Theirs enter whoever calls; that some of these answer with errors, or take no values, costs
/// them nothing but that.
#[test]
fn theirs_live_with_clients_and_with_nodes_that_only_answer() {
    let mut mixed = mixed(7, 0);
    for role in [Role::Client, Role::ReadOnly] {
        for n in 0..3 {
            let mut setup = Setup::default();
            setup.options.config = Arc::new(Config { role, ..Config::default() });
            let host = mixed.sim.add_node(setup).unwrap();
            let by = mixed.sim.address(mixed.theirs[n]);
            mixed.sim.add_contact(host, by).unwrap();
            mixed.sim.run(secs(2));
            mixed.sim.find_close_nodes(host).unwrap();
            mixed.sim.run(secs(2));
            let key = Id::of(format!("{role:?} {n}").as_bytes());
            assert!(mixed.ours_store(host, key, vec![1; 1000]));
            assert_eq!(mixed.ours_find(host, key), [vec![1; 1000]]);
            let theirs = mixed.theirs[n + 4];
            assert_eq!(mixed.theirs_find(theirs, key), [vec![1; 1000]]);
            if role == Role::Client {
                assert_eq!(mixed.sim.stats(host).unwrap().values, 0);
            }
        }
    }
    mixed.sim.run(secs(600));
    assert_eq!(exchange(&mut mixed)[..2], [24; 2]);
}
