//! The simulator with nodes on it: what they live through, and that it is the same for the same seed.

use std::sync::Arc;
use std::time::Duration;

use khashmir::engine::{NodeOptions, Outcome};
use khashmir::sim::{
    ALL, Bandwidth, Bursts, Conditions, Family, Happening, Host, Latency, Place, Reach, Regions, Setup,
    Simulation, Translation, seed_or,
};
use khashmir::time::Time;
use khashmir::{Config, Id, OperationError};

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn at(place: Place) -> Setup {
    Setup { place, ..Setup::default() }
}

fn configured(config: Config, place: Place) -> Setup {
    let options = NodeOptions { config: Arc::new(config), ..NodeOptions::default() };
    Setup { options, place }
}

/// Adds nodes one after the other; each joins by an earlier one that can be called, when those before
/// it are through.
fn join_all(sim: &mut Simulation, setups: impl IntoIterator<Item = Setup>) -> Vec<Host> {
    let mut hosts: Vec<Host> = Vec::new();
    let mut reachable: Vec<Host> = Vec::new();
    for setup in setups {
        let hidden = setup.place.translation.is_some();
        let host = sim.add_node(setup).expect("a node");
        if let Some(&by) = reachable.get(reachable.len() / 2) {
            sim.join(host, by).expect("to join");
        }
        hosts.push(host);
        if !hidden {
            reachable.push(host);
        }
    }
    hosts
}

fn network(seed: u64, nodes: usize) -> (Simulation, Vec<Host>) {
    let mut sim = Simulation::new(seed_or(seed)).expect("a database");
    let hosts = join_all(&mut sim, std::iter::repeat_n(Setup::default(), nodes));
    (sim, hosts)
}

#[test]
fn a_thousand_nodes_join_and_find_each_other() {
    let (mut sim, hosts) = network(1, 1000);
    let asked: Vec<_> = (0..200)
        .map(|n| {
            let wanted = sim.contact(hosts[n * 5]).expect("a node");
            (wanted, sim.find_node(hosts[(n * 7 + 13) % 1000], wanted.id).expect("a node"))
        })
        .collect();
    for (wanted, asked) in asked {
        let ended = sim.wait(asked).expect("an end");
        let Some(Outcome::Nodes(Ok(found))) = ended.outcomes.last() else { panic!("{ended:?}") };
        assert_eq!(found.first(), Some(&wanted));
    }
}

/// A little of everything that the simulator has.
fn eventful(seed: u64) -> String {
    let mut sim = Simulation::new(seed).expect("a database");
    sim.set_conditions(Conditions {
        latency: Latency::Regions(Regions::default()),
        jitter: Duration::from_millis(5),
        loss: 10_000,
        bursts: Some(Bursts { share: 10_000, length: Duration::from_millis(300), loss: ALL }),
        duplication: 10_000,
        reordering: 10_000,
        ..Conditions::default()
    })
    .expect("conditions as they may be");
    let line = Some(Bandwidth { rate: 100_000, queue: 30_000 });
    let hosts = join_all(
        &mut sim,
        (0..60).map(|n| {
            at(Place {
                region: n % 7,
                family: if n % 10 == 3 { Family::Both } else { Family::V4 },
                upload: line.filter(|_| n % 4 == 0),
                download: line.filter(|_| n % 4 == 1),
                translation: (n % 10 == 7).then(Translation::default),
                clock_offset: i64::from(n) * 1000,
                clock_drift: i32::from(n) * 10,
                ..Place::default()
            })
        }),
    );
    for (n, &host) in hosts.iter().enumerate().take(20) {
        let _ = sim.put(host, Id::of(&[n as u8]), vec![n as u8; 100 * n + 1]);
    }
    let partition = sim.partition(hosts[..20].iter().copied()).expect("one of 32");
    sim.freeze(hosts[30], secs(20));
    sim.crash(hosts[31]).expect("no file");
    sim.remove(hosts[32]).expect("no file");
    sim.set_link(hosts[1], hosts[2], Some(Conditions { loss: ALL, ..Conditions::default() }))
        .expect("good ones");
    for n in 0..20 {
        let _ = sim.get(hosts[40 + n], Id::of(&[n as u8]));
    }
    sim.heal(partition);
    sim.restart(hosts[31]).expect("a node");
    sim.cut_off(hosts[33], true);
    sim.run(secs(100));
    for n in 0..20 {
        let _ = sim.get(hosts[40 + n], Id::of(&[n as u8]));
    }
    sim.digest()
}

#[test]
fn one_seed_one_digest() {
    let digests = [1, 1, 2].map(eventful);
    assert_eq!(digests[0], digests[1]);
    assert_ne!(digests[0], digests[2]);
    assert_eq!(digests[0].len(), 32);
}

#[test]
fn digests_tell_what_happened_apart() {
    let digest = |act: fn(&mut Simulation, &[Host])| {
        let (mut sim, hosts) = network(5, 8);
        act(&mut sim, &hosts);
        sim.run(secs(60));
        sim.digest()
    };
    let get = |sim: &mut Simulation, hosts: &[Host]| drop(sim.get(hosts[1], Id::of(b"nothing")));
    let all: [fn(&mut Simulation, &[Host]); 5] = [
        |_, _| {},
        get,
        |sim, hosts| sim.cut_off(hosts[2], true),
        |sim, hosts| sim.crash(hosts[2]).expect("no file"),
        |sim, hosts| sim.remove(hosts[2]).expect("no file"),
    ];
    let mut digests: Vec<String> = all.into_iter().map(digest).collect();
    assert_eq!(digests[0], digest(all[0]));
    digests.sort();
    digests.dedup();
    assert_eq!(digests.len(), all.len());
}

#[test]
fn operations_of_nodes_that_go_end_or_do_not() {
    let (mut sim, hosts) = network(2, 10);
    let leaving = sim.find_close_nodes(hosts[3]).expect("a node");
    sim.remove(hosts[3]).expect("no file");
    // Its place in the engine is used again before anybody has asked what it had to tell.
    let newcomer = sim.add_node(Setup::default()).expect("a node");
    let told = sim.next(sim.now());
    let Some(Happening::Operation { host, operation, outcome, .. }) = told else { panic!("{told:?}") };
    assert_eq!((host, operation), (hosts[3], leaving));
    assert_eq!(outcome, Outcome::Nodes(Err(OperationError::Closed)));
    assert_eq!(sim.wait(leaving), None, "it was told");

    let leaving = sim.find_close_nodes(hosts[4]).expect("a node");
    sim.remove(hosts[4]).expect("no file");
    let ended = sim.wait(leaving).expect("an end");
    assert_eq!(ended.outcomes, [Outcome::Nodes(Err(OperationError::Closed))]);

    let crashing = sim.find_close_nodes(hosts[5]).expect("a node");
    sim.crash(hosts[5]).expect("no file");
    assert_eq!(sim.wait(crashing), None);
    assert_eq!(sim.next(sim.now() + secs(5)), None);
    assert_eq!(sim.find_close_nodes(hosts[5]), None);
    assert_eq!(sim.get(hosts[5], Id::of(b"key")), Err(OperationError::Closed));
    assert!(sim.join(newcomer, hosts[0]).is_ok());
}

#[test]
fn what_happens_while_one_waits_is_kept() {
    let (mut sim, hosts) = network(3, 10);
    sim.schedule(sim.now(), 7);
    let one = sim.find_close_nodes(hosts[1]).expect("a node");
    let two = sim.find_close_nodes(hosts[2]).expect("a node");
    assert!(sim.wait(two).is_some());
    assert!(sim.wait(one).is_some());
    assert_eq!(sim.next(sim.now()), Some(Happening::Alarm(7)));
    assert_eq!(sim.next(sim.now()), None);
    let end = sim.now() + secs(10);
    let sent = sim.traffic().0;
    sim.find_close_nodes(hosts[1]).expect("a node");
    assert!(sim.run_until(end, |sim| sim.traffic().0 >= sent + 3) && sim.now() < end);
    assert!(!sim.run_until(end, |_| false) && sim.now() == end);
}

#[test]
fn nodes_come_back_with_their_file_or_without() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut sim = Simulation::new(seed_or(4)).expect("a database");
    let stored = |n: usize| {
        let store = (n < 3).then(|| folder.path().join(n.to_string()));
        Setup { options: NodeOptions { store, ..NodeOptions::default() }, place: Place::default() }
    };
    let hosts = join_all(&mut sim, (0..6).map(stored));
    let key = Id::of(b"key");
    sim.put(hosts[5], key, "value").expect("to be stored");
    let before: Vec<_> = hosts.iter().map(|&host| sim.contact(host).expect("a node")).collect();
    assert!(hosts.iter().all(|&host| sim.stats(host).is_some_and(|stats| stats.values == 1)));
    // 0 leaves, and comes back; 1 and 4 crash; 2 loses its file; 5 runs when it is restarted.
    sim.remove(hosts[0]).expect("to save its contacts");
    sim.crash(hosts[1]).expect("a crash");
    sim.crash(hosts[2]).expect("a crash");
    sim.crash(hosts[4]).expect("a crash");
    assert_eq!(sim.contact(hosts[4]), None);
    sim.run(secs(30));
    for n in [0, 1, 4, 5] {
        sim.restart(hosts[n]).expect("a node");
        assert_eq!(sim.contact(hosts[n]), Some(before[n]), "the same id at the same address");
    }
    sim.restart_afresh(hosts[2]).expect("a node");
    let after = sim.contact(hosts[2]).expect("a node");
    assert!(after.addr == before[2].addr && after.id != before[2].id);
    let kept = |sim: &Simulation, n: usize| {
        let stats = sim.stats(hosts[n]).expect("a node");
        (stats.values, stats.contacts > 0)
    };
    assert_eq!(kept(&sim, 0), (1, true), "its values and contacts");
    assert_eq!(kept(&sim, 1), (1, false), "its values; its contacts were not saved yet");
    assert_eq!(kept(&sim, 2), (0, false));
    assert_eq!(kept(&sim, 4), (0, false));
    assert_eq!(kept(&sim, 5), (0, false));
    // A host that is forgotten does not come back.
    sim.forget(hosts[3]);
    assert!(sim.restart(hosts[3]).is_ok(), "it ran, so it was not forgotten");
    sim.crash(hosts[3]).expect("a crash");
    sim.forget(hosts[3]);
    assert!(sim.restart(hosts[3]).is_err());
}

#[test]
fn values_live_their_time_whatever_the_clocks_say() {
    let config = Config { value_lifetime: secs(3600), ..Config::default() };
    let mut sim = Simulation::new(seed_or(5)).expect("a database");
    let days = |n: i64| n * 86_400;
    let places = (0..8).map(|n| Place {
        clock_offset: days(n - 4) * 100,
        clock_drift: (n as i32 - 4) * 100,
        ..Place::default()
    });
    let hosts = join_all(&mut sim, places.map(|place| configured(config.clone(), place)));
    let start = sim.unix(hosts[4]);
    assert_eq!(sim.unix(hosts[0]).0 - start.0, days(-400));
    sim.put(hosts[7], Id::of(b"key"), "value").expect("to be stored");
    sim.crash(hosts[7]).expect("no file");
    let stored = sim.now();
    // Until shortly before its hour is over (those who ask wait for the one that is gone).
    sim.run(secs(3500));
    for &host in &hosts[..7] {
        assert_eq!(sim.get(host, Id::of(b"key")), Ok(vec![b"value".to_vec()]), "{host:?}");
    }
    assert!(sim.now() < stored + secs(3600));
    // A clock that loses 400 s in a million is 1.44 s behind after an hour.
    sim.run_until(stored + secs(3602), |_| false);
    for &host in &hosts[..7] {
        assert_eq!(sim.get(host, Id::of(b"key")), Ok(vec![]), "{host:?}");
    }
    sim.run(secs(1_000_000));
    assert_eq!(sim.unix(hosts[0]).0 - sim.unix(hosts[4]).0, days(-400) - 401);
}

#[test]
fn a_frozen_node_is_silent_and_then_goes_on() {
    let (mut sim, hosts) = network(6, 10);
    sim.run(secs(10));
    sim.freeze(hosts[1], secs(4));
    let before = sim.stats(hosts[1]).expect("a node").packets_out;
    let sent = sim.now();
    // Asked by it: begun when it goes on.
    let own = sim.find_close_nodes(hosts[1]).expect("a node");
    let asked = sim.add_contact(hosts[2], sim.address(hosts[1])).expect("a node");
    sim.run_until(sent + secs(3), |_| false);
    assert_eq!(sim.stats(hosts[1]).expect("a node").packets_out, before);
    let Some(Outcome::Contact(Ok(found))) = sim.wait(asked).expect("an end").outcomes.pop() else {
        panic!("it answers once it goes on");
    };
    assert_eq!(Some(found), sim.contact(hosts[1]));
    assert!(sim.now() >= sent + secs(4) && sim.now() < sent + secs(5));
    assert!(matches!(sim.wait(own).expect("an end").outcomes[..], [Outcome::Nodes(Ok(_))]));
    // One that goes while it is frozen takes with it what waits.
    sim.freeze(hosts[3], secs(60));
    sim.add_contact(hosts[2], sim.address(hosts[3])).expect("a node");
    sim.run(secs(1));
    assert!(sim.under_way() > 0);
    sim.crash(hosts[3]).expect("no file");
    sim.restart(hosts[3]).expect("a node");
    sim.join(hosts[3], hosts[2]).expect("to join: it is not frozen any more");
}

#[test]
fn nodes_behind_translators_can_call() {
    let (mut sim, hosts) = network(7, 12);
    for reach in [Reach::Anyone, Reach::Address, Reach::AddressAndPort] {
        let translation = Some(Translation { reach, ..Translation::default() });
        let inside = sim.add_node(at(Place { translation, ..Place::default() })).expect("a node");
        sim.join(inside, hosts[0]).expect("to join");
        let key = Id::of(format!("{reach:?}").as_bytes());
        sim.put(inside, key, "from inside").expect("to be stored");
        assert_eq!(sim.get(hosts[3], key), Ok(vec![b"from inside".to_vec()]));
        assert_eq!(sim.get(inside, key), Ok(vec![b"from inside".to_vec()]));
    }
}

#[test]
fn nodes_of_both_families_speak_to_each() {
    let mut sim = Simulation::new(seed_or(8)).expect("a database");
    let add = |sim: &mut Simulation, family| {
        sim.add_node(at(Place { family, ..Place::default() })).expect("a node")
    };
    let both = add(&mut sim, Family::Both);
    let v4 = add(&mut sim, Family::V4);
    let v6 = add(&mut sim, Family::V6);
    sim.join(v4, both).expect("to join");
    let to = sim.address_v6(both).expect("an address of IPv6");
    let asked = sim.add_contact(v6, to).expect("a node");
    let found = sim.wait(asked).expect("an end").outcomes;
    let id = sim.contact(both).expect("a node").id;
    assert!(matches!(&found[..], [Outcome::Contact(Ok(contact))] if contact.id == id && contact.addr == to));
    // Each way on.
    for other in [v4, v6] {
        let asked = sim.add_contact(both, sim.address(other)).expect("a node");
        let found = sim.wait(asked).expect("an end").outcomes;
        assert!(matches!(found[..], [Outcome::Contact(Ok(contact))] if contact.addr == sim.address(other)));
    }
    let asked = sim.add_contact(v4, sim.address(v6)).expect("a node");
    assert!(matches!(sim.wait(asked).expect("an end").outcomes[..], [Outcome::Contact(Err(_))]));
}

#[test]
fn failures_name_the_seed_and_a_command() {
    let mut sim = Simulation::new(17).expect("a database");
    let text = sim.repetition();
    assert!(text.contains("seed 17"), "{text}");
    assert!(text.contains("KHASHMIR_SEED=17 cargo test failures_name_the_seed_and_a_command"), "{text}");
    sim.set_command("do it again --seed 17");
    assert!(sim.repetition().ends_with(": do it again --seed 17"));
    assert_eq!((sim.seed(), sim.now()), (17, Time::ZERO));
}

#[test]
fn a_value_stays_until_it_is_withdrawn() {
    let config = Config { value_lifetime: secs(600), renew_interval: secs(120), ..Config::default() };
    let mut sim = Simulation::new(seed_or(9)).expect("a database");
    let setup = configured(config, Place::default());
    let hosts = join_all(&mut sim, [setup.clone(), setup]);
    let (first, second) = (hosts[0], hosts[1]);
    let key = Id::of(b"key");
    sim.put(first, key, "value").expect("holders");
    sim.run(secs(1800));
    assert_eq!(sim.get(second, key), Ok(vec![b"value".to_vec()]));
    assert!(sim.withdraw(first, key, b"value").expect("a store"));
    sim.run(secs(1800));
    assert_eq!(sim.get(second, key), Ok(vec![]));
    sim.crash(first).expect("a store");
    assert!(!sim.withdraw(first, key, b"value").expect("nothing to write"));
}
