//! The simulator's network, by what becomes of datagrams that foreign peers send each other.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use khashmir::sim::{
    ALL, Bandwidth, Bursts, Conditions, Family, Host, Latency, Peer, Place, Reach, Regions, Simulation,
    Translation, seed_or,
};
use khashmir::time::Time;

/// Sends what it is told to when it is told to, and notes what comes.
#[derive(Default)]
struct Talker {
    outbox: VecDeque<(Time, SocketAddr, Vec<u8>)>,
    heard: Vec<(Time, SocketAddr, Vec<u8>)>,
    awoken: Vec<Time>,
}

impl Peer for Talker {
    fn receive(&mut self, now: Time, from: SocketAddr, datagram: &[u8]) {
        self.heard.push((now, from, datagram.to_vec()));
    }

    fn next_deadline(&self) -> Option<Time> {
        self.outbox.front().map(|(at, ..)| *at)
    }

    fn handle_timeout(&mut self, now: Time) {
        self.awoken.push(now);
    }

    fn poll_transmit(&mut self, now: Time, buf: &mut Vec<u8>) -> Option<SocketAddr> {
        let (_, to, bytes) = self.outbox.pop_front_if(|(at, ..)| *at <= now)?;
        buf.clear();
        buf.extend(bytes);
        Some(to)
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn at(ms: u64) -> Time {
    Time::from_micros(ms * 1000)
}

fn network(conditions: Conditions) -> Simulation {
    let mut sim = Simulation::new(seed_or(3)).expect("a database");
    sim.set_conditions(conditions).expect("conditions as they may be");
    sim
}

fn talker(sim: &mut Simulation, place: Place) -> Host {
    sim.add_peer_at(place, |_| Box::<Talker>::default()).expect("a place as it may be")
}

fn pair(conditions: Conditions) -> (Simulation, Host, Host) {
    let mut sim = network(conditions);
    let (a, b) = (talker(&mut sim, Place::default()), talker(&mut sim, Place::default()));
    (sim, a, b)
}

/// Has one host send another `count` datagrams of `size` bytes, one each `every`, from now on; each
/// begins with its number.
fn say(sim: &mut Simulation, from: Host, to: Host, count: u64, every: Duration, size: usize) {
    let (mut when, to) = (sim.now(), sim.address(to));
    let talker: &mut Talker = sim.peer_mut(from).expect("a talker");
    for n in 0..count {
        let mut bytes = n.to_be_bytes().to_vec();
        bytes.resize(size.max(8), 0);
        talker.outbox.push_back((when, to, bytes));
        when += every;
    }
}

/// What has come to a host: when, and the number in it.
fn heard(sim: &mut Simulation, host: Host) -> Vec<(Time, u64)> {
    let talker: &mut Talker = sim.peer_mut(host).expect("a talker");
    let number = |bytes: &[u8]| u64::from_be_bytes(bytes[..8].try_into().expect("eight"));
    talker.heard.drain(..).map(|(at, _, bytes)| (at, number(&bytes))).collect()
}

fn assert_near(what: &str, found: f64, right: f64, tolerance: f64) {
    assert!((found / right - 1.0).abs() < tolerance, "{what}: {found}, not {right}");
}

#[test]
fn losses_are_as_many_as_asked() {
    let (mut sim, a, b) = pair(Conditions { loss: 50_000, ..Conditions::default() });
    say(&mut sim, a, b, 40_000, ms(1), 8);
    sim.run(ms(41_000));
    let lost = 40_000 - heard(&mut sim, b).len() as u64;
    assert_eq!(sim.losses().chance, lost);
    assert_near("losses", lost as f64, 2000.0, 0.1);
}

#[test]
fn bursts_are_as_long_and_as_many_as_asked() {
    let bursts = Bursts { share: 50_000, length: ms(200), loss: ALL };
    let conditions = Conditions { bursts: Some(bursts), ..Conditions::default() };
    // The line of a host, and a link of its own.
    for own_link in [false, true] {
        let (mut sim, a, b) = if own_link {
            let (mut sim, a, b) = pair(Conditions::default());
            sim.set_link(a, b, Some(conditions.clone())).expect("conditions as they may be");
            (sim, a, b)
        } else {
            pair(conditions.clone())
        };
        say(&mut sim, a, b, 100_000, ms(10), 8);
        sim.run(ms(1_001_000));
        let heard: Vec<u64> = heard(&mut sim, b).into_iter().map(|(_, n)| n).collect();
        let runs: Vec<u64> = heard.windows(2).map(|two| two[1] - two[0] - 1).filter(|&run| run > 0).collect();
        let lost: u64 = runs.iter().sum();
        assert_near("lost", lost as f64, 5000.0, 0.2);
        // A burst goes on for another 10 ms with the probability s + (1 - s)·e^(-d/B(1 - s)) = 0.9513.
        assert_near("length", lost as f64 / runs.len() as f64, 1.0 / (1.0 - 0.9513), 0.2);
        // Those for the sender's line are others.
        assert_eq!(sim.losses().burst, 100_000 - heard.len() as u64);
    }
}

/// The latencies from one host to each of many, in milliseconds, in order.
fn latencies(latency: Latency, hosts: usize) -> Vec<f64> {
    let mut sim = network(Conditions { latency, ..Conditions::default() });
    let one = talker(&mut sim, Place::default());
    let many: Vec<Host> = (0..hosts).map(|_| talker(&mut sim, Place::default())).collect();
    let mut found = Vec::new();
    let mut there = Vec::new();
    for &other in &many {
        say(&mut sim, one, other, 2, ms(1000), 8);
    }
    // In order of time, as a talker has them.
    let talker: &mut Talker = sim.peer_mut(one).expect("a talker");
    talker.outbox.make_contiguous().sort_by_key(|(at, ..)| *at);
    sim.run(ms(100_000));
    for &other in &many {
        let heard = heard(&mut sim, other);
        assert_eq!(heard[1].0 - heard[0].0, ms(1000), "a pair keeps its latency");
        there.push(heard[0].0 - Time::ZERO);
        found.push((heard[0].0 - Time::ZERO).as_secs_f64() * 1000.0);
    }
    let start = sim.now();
    for &other in &many {
        say(&mut sim, other, one, 1, ms(1), 8);
    }
    sim.run(ms(100_000));
    let mut back: Vec<Duration> = heard(&mut sim, one).into_iter().map(|(at, _)| at - start).collect();
    there.sort();
    back.sort();
    assert_eq!(there, back, "latencies are the same both ways");
    found.sort_by(f64::total_cmp);
    found
}

#[test]
fn latencies_are_distributed_as_asked() {
    let constant = latencies(Latency::Constant(ms(30)), 10);
    assert_eq!((constant[0], constant[9]), (30.0, 30.0));
    let uniform = latencies(Latency::Uniform(ms(10), ms(50)), 2000);
    assert!(uniform[0] >= 10.0 && uniform[1999] <= 50.0);
    assert_near("the first tenth", uniform[200], 14.0, 0.05);
    assert_near("the last tenth", uniform[1800], 46.0, 0.05);
    let log_normal = latencies(Latency::LogNormal { median: ms(50), sigma: 500 }, 2000);
    assert_near("the median", log_normal[1000], 50.0, 0.05);
    // e to the power of 0.5 × 1.2816.
    assert_near("the last tenth", log_normal[1800], 50.0 * 1.898, 0.06);
    assert_near("the first tenth", log_normal[200], 50.0 / 1.898, 0.06);
}

#[test]
fn regions_have_their_round_trips() {
    let round_trips = vec![vec![ms(20), ms(100)], vec![ms(100), ms(30)]];
    let latency = Latency::Regions(Regions { round_trips, sigma: 0 });
    let mut sim = network(Conditions { latency, ..Conditions::default() });
    let hosts = [0, 0, 1, 1, 2].map(|region| talker(&mut sim, Place { region, ..Place::default() }));
    // The third region is the first one, since there are but two.
    for (from, to, one_way) in [(0, 1, 10), (0, 2, 50), (2, 0, 50), (2, 3, 15), (4, 1, 10), (4, 2, 50)] {
        let start = sim.now();
        say(&mut sim, hosts[from], hosts[to], 1, ms(1), 8);
        sim.run(ms(1000));
        assert_eq!(heard(&mut sim, hosts[to])[0].0 - start, ms(one_way), "{from} to {to}");
    }
}

#[test]
fn single_datagrams_are_late_doubled_and_overtaken() {
    let conditions = Conditions {
        jitter: ms(8),
        duplication: 100_000,
        reordering: 20_000,
        reordering_delay: ms(500),
        ..Conditions::default()
    };
    let (mut sim, a, b) = pair(conditions);
    say(&mut sim, a, b, 20_000, ms(10), 8);
    sim.run(ms(210_000));
    let heard = heard(&mut sim, b);
    assert_near("duplicates", heard.len() as f64 - 20_000.0, 2000.0, 0.1);
    let late: Vec<f64> =
        heard.iter().map(|&(at, n)| at.as_micros() as f64 / 1000.0 - n as f64 * 10.0).collect();
    let held: Vec<f64> = late.iter().copied().filter(|&late| late >= 540.0).collect();
    assert_near("held up", held.len() as f64, 22_000.0 * 0.02, 0.2);
    let usual: Vec<f64> = late.iter().copied().filter(|&late| late < 540.0).collect();
    assert!(usual.iter().all(|late| (40.0..=48.0).contains(late)));
    assert_near("jitter", usual.iter().sum::<f64>() / usual.len() as f64, 44.0, 0.01);
}

#[test]
fn too_large_datagrams_are_lost() {
    let (mut sim, a, b) = pair(Conditions { max_datagram: 1200, ..Conditions::default() });
    say(&mut sim, a, b, 1, ms(1), 1200);
    sim.run(ms(100));
    say(&mut sim, a, b, 1, ms(1), 1201);
    sim.run(ms(100));
    assert_eq!(heard(&mut sim, b).len(), 1);
    assert_eq!(sim.losses().too_large, 1);
}

#[test]
fn lines_have_their_bandwidth_and_their_queue() {
    let bandwidth = Some(Bandwidth { rate: 100_000, queue: 20_000 });
    for (sender, receiver) in [
        (Place { upload: bandwidth, ..Place::default() }, Place::default()),
        (Place::default(), Place { download: bandwidth, ..Place::default() }),
    ] {
        let mut sim = network(Conditions::default());
        let (a, b) = (talker(&mut sim, sender), talker(&mut sim, receiver));
        // 1,000 bytes each with their headers, all at once: 20 wait, or are being sent.
        say(&mut sim, a, b, 100, Duration::ZERO, 972);
        sim.run(ms(1000));
        let times: Vec<Time> = heard(&mut sim, b).into_iter().map(|(at, _)| at).collect();
        assert_eq!(times.len(), 20);
        assert!(times.windows(2).all(|two| two[1] - two[0] == ms(10)), "each takes 10 ms");
        assert_eq!(times[0], at(50));
        // Twice as much as there is room for: half of it comes through.
        say(&mut sim, a, b, 2000, ms(5), 972);
        sim.run(ms(11_000));
        let through = heard(&mut sim, b).len() as u64;
        assert_near("throughput", through as f64, 1020.0, 0.01);
        let losses = sim.losses();
        assert_eq!(losses.upload + losses.download, 80 + 2000 - through);
    }
}

#[test]
fn a_lone_datagram_passes_any_queue() {
    let mut sim = network(Conditions::default());
    let a = talker(&mut sim, Place { upload: Some(Bandwidth { rate: 100, queue: 0 }), ..Place::default() });
    let b = talker(&mut sim, Place::default());
    say(&mut sim, a, b, 2, ms(1), 972);
    sim.run(ms(60_000));
    let heard = heard(&mut sim, b);
    assert_eq!(heard, [(at(10_040), 0)], "and the one behind it does not");
}

#[test]
fn a_translator_lets_in_whom_its_host_has_called() {
    for (reach, others_get_in, other_ports_get_in) in
        [(Reach::Anyone, true, true), (Reach::Address, false, true), (Reach::AddressAndPort, false, false)]
    {
        let translation = Some(Translation { reach, lifetime: ms(30_000), moves: true });
        let mut sim = network(Conditions::default());
        let inside = talker(&mut sim, Place { translation, ..Place::default() });
        // Its other port is that of a translator which has moved on.
        let moving = Some(Translation { reach: Reach::Anyone, lifetime: ms(1), moves: true });
        let called = talker(&mut sim, Place { translation: moving, ..Place::default() });
        let stranger = talker(&mut sim, Place::default());
        say(&mut sim, stranger, inside, 1, ms(1), 8);
        sim.run(ms(1000));
        assert_eq!(heard(&mut sim, inside).len(), 0, "{reach:?}: it has called nobody");
        say(&mut sim, inside, called, 1, ms(1), 8);
        say(&mut sim, called, inside, 1, ms(1), 8);
        sim.run(ms(1000));
        assert_eq!(heard(&mut sim, inside).len(), 1, "{reach:?}: it has called this one");
        say(&mut sim, stranger, inside, 1, ms(1), 8);
        sim.run(ms(1000));
        assert_eq!(heard(&mut sim, inside).len(), usize::from(others_get_in), "{reach:?}: a stranger");
        say(&mut sim, called, inside, 1, ms(1), 8);
        sim.run(ms(1000));
        assert_eq!(heard(&mut sim, inside).len(), usize::from(other_ports_get_in), "{reach:?}: another port");
        // After its time nobody gets in, whoever was called.
        sim.run(ms(30_000));
        for host in [called, stranger] {
            say(&mut sim, host, inside, 1, ms(1), 8);
        }
        sim.run(ms(1000));
        assert_eq!(heard(&mut sim, inside).len(), 0, "{reach:?}: lapsed");
        // When it calls again it has another port; at the old one nobody gets in.
        let before = sim.address(inside);
        say(&mut sim, stranger, inside, 1, ms(1), 8);
        say(&mut sim, inside, stranger, 1, ms(1), 8);
        sim.run(ms(1000));
        assert_eq!(heard(&mut sim, inside).len(), 0, "{reach:?}: an old port");
        let after = sim.address(inside);
        assert!(before.ip() == after.ip() && before.port() != after.port() && after.port() >= 1024);
        say(&mut sim, stranger, inside, 1, ms(1), 8);
        sim.run(ms(1000));
        assert_eq!(heard(&mut sim, inside).len(), 1, "{reach:?}: the new port");
        let talker: &mut Talker = sim.peer_mut(stranger).expect("a talker");
        assert_eq!(talker.heard[0].1, after, "others see the public address");
    }
}

#[test]
fn partitions_come_and_heal() {
    let (mut sim, a, b) = pair(Conditions::default());
    let c = talker(&mut sim, Place::default());
    let reached = |sim: &mut Simulation, from: Host, to: Host| {
        say(sim, from, to, 1, ms(1), 8);
        sim.run(ms(100));
        heard(sim, to).len() == 1
    };
    let first = sim.partition([a, b]).expect("one of 32");
    assert!(reached(&mut sim, a, b) && !reached(&mut sim, a, c) && !reached(&mut sim, c, b));
    let second = sim.partition([b]).expect("one of 32");
    assert!(!reached(&mut sim, a, b) && !reached(&mut sim, c, b));
    sim.heal(first);
    assert!(reached(&mut sim, a, c) && !reached(&mut sim, c, b));
    sim.heal(second);
    sim.heal(second);
    assert!(reached(&mut sim, a, b) && reached(&mut sim, c, b));
    // What is under way when it comes is lost.
    say(&mut sim, a, b, 1, ms(1), 8);
    sim.run(ms(20));
    let third = sim.partition([b]).expect("one of 32");
    sim.run(ms(100));
    sim.heal(third);
    sim.run(ms(100));
    assert_eq!((heard(&mut sim, b).len(), sim.losses().cut), (0, 6));
    // The next one takes the place of those that have ended; that they have, is of no effect on it.
    let fourth = sim.partition([b]).expect("one of 32");
    for ended in [first, third] {
        sim.heal(ended);
    }
    assert!(!reached(&mut sim, a, b) && fourth != third);
    sim.heal(fourth);
    let all: Vec<_> = (0..40).map(|_| sim.partition([c])).collect();
    assert_eq!(all.iter().flatten().count(), 32);
    for partition in all.into_iter().flatten() {
        sim.heal(partition);
    }
    assert!(reached(&mut sim, a, c));
    sim.cut_off(c, true);
    assert!(!reached(&mut sim, a, c) && !reached(&mut sim, c, a));
    sim.cut_off(c, false);
    assert!(reached(&mut sim, a, c));
}

#[test]
fn one_link_may_differ_in_one_direction() {
    let (mut sim, a, b) = pair(Conditions::default());
    let worse = Conditions { latency: Latency::Constant(ms(300)), ..Conditions::default() };
    sim.set_link(a, b, Some(worse)).expect("conditions as they may be");
    for (from, to, one_way) in [(a, b, 300), (b, a, 40)] {
        let start = sim.now();
        say(&mut sim, from, to, 1, ms(1), 8);
        sim.run(ms(1000));
        assert_eq!(heard(&mut sim, to)[0].0 - start, ms(one_way));
    }
    sim.set_link(a, b, None).expect("conditions as they may be");
    let start = sim.now();
    say(&mut sim, a, b, 1, ms(1), 8);
    sim.run(ms(1000));
    assert_eq!(heard(&mut sim, b)[0].0 - start, ms(40));
}

#[test]
fn a_frozen_program_finds_what_fits_its_socket() {
    let mut sim = network(Conditions::default());
    let a = talker(&mut sim, Place::default());
    let b = talker(&mut sim, Place::default());
    // Room for ten datagrams of 488 bytes.
    let small = talker(&mut sim, Place { socket_buffer: 10_000, ..Place::default() });
    say(&mut sim, a, b, 300, ms(10), 488);
    say(&mut sim, b, a, 2, ms(1500), 8);
    sim.run(ms(1000));
    sim.freeze(b, ms(1000));
    sim.freeze(b, ms(200));
    let before = heard(&mut sim, b).len();
    sim.run(ms(995));
    assert_eq!(heard(&mut sim, b).len(), 0);
    sim.run(ms(10));
    let after = heard(&mut sim, b);
    assert!(after.len() >= 100 && after.iter().take(100).all(|&(when, _)| when == at(2000)));
    sim.run(ms(2000));
    assert_eq!(before + after.len() + heard(&mut sim, b).len(), 300);
    // What it had to do in the meantime is done then.
    let talker: &mut Talker = sim.peer_mut(b).expect("a talker");
    assert!(talker.awoken.contains(&at(2000)));
    assert_eq!(heard(&mut sim, a).iter().map(|&(when, _)| when).collect::<Vec<_>>(), [at(40), at(2040)]);
    // 212,992 bytes are room for 212 datagrams of 488 + 512.
    sim.freeze(b, ms(10_000));
    say(&mut sim, a, b, 300, ms(1), 488);
    sim.run(ms(11_000));
    assert_eq!((heard(&mut sim, b).len(), sim.losses().frozen), (212, 88));
    sim.freeze(small, ms(1000));
    say(&mut sim, a, small, 20, ms(1), 488);
    sim.run(ms(2000));
    assert_eq!((heard(&mut sim, small).len(), sim.losses().frozen), (10, 98));
    assert_eq!(sim.under_way(), 0);
}

#[test]
fn datagrams_find_nobody_where_nobody_is() {
    let (mut sim, a, b) = pair(Conditions::default());
    let v6 = talker(&mut sim, Place { family: Family::V6, ..Place::default() });
    let both = talker(&mut sim, Place { family: Family::Both, ..Place::default() });
    for (from, to) in [(a, v6), (v6, a), (v6, both), (both, v6), (both, a), (a, both)] {
        say(&mut sim, from, to, 1, ms(1), 8);
    }
    sim.run(ms(1000));
    // `address` names a host of both by its address of IPv4, so the one of IPv6 alone has not reached it.
    assert_eq!([a, b, v6, both].map(|host| heard(&mut sim, host).len()), [1, 0, 1, 1]);
    let to = sim.address_v6(both).expect("an address of IPv6");
    sim.peer_mut::<Talker>(v6).expect("a talker").outbox.push_back((Time::ZERO, to, vec![0; 8]));
    sim.run(ms(1000));
    assert_eq!(heard(&mut sim, both).len(), 1);
    assert_eq!(sim.host_at(&to), Some(both));
    assert_eq!(sim.losses().nowhere, 3);
    for nowhere in
        ["192.168.1.2:4444", "11.0.200.1:4444", "11.0.0.2:4444", "[2600::9:0:0:0:1]:4444", "1.1.1.1:1"]
    {
        let to = nowhere.parse().expect("an address");
        sim.peer_mut::<Talker>(a).expect("a talker").outbox.push_back((Time::ZERO, to, vec![0; 8]));
        assert_eq!(sim.host_at(&to), None, "{nowhere}");
    }
    let closed = SocketAddr::new(sim.address(b).ip(), 80);
    sim.peer_mut::<Talker>(a).expect("a talker").outbox.push_back((Time::ZERO, closed, vec![0; 8]));
    sim.remove(b).expect("a peer");
    say(&mut sim, a, b, 1, ms(1), 8);
    sim.run(ms(1000));
    assert_eq!((sim.losses().nowhere, sim.losses().down), (8, 2));
    sim.replace_peer(b, |_| Box::<Talker>::default());
    say(&mut sim, a, b, 1, ms(1), 8);
    sim.run(ms(1000));
    assert_eq!(heard(&mut sim, b).len(), 1);
}

/// The outcome is fixed on every machine: here it is. It changes only when the simulator is meant to go
/// another way (no node has a part in it), and then all results that were ever published change.
#[test]
fn the_digest_of_a_small_network_is_known() {
    let mut sim = Simulation::new(2003).expect("a database");
    sim.set_conditions(Conditions {
        latency: Latency::Regions(Regions::default()),
        jitter: ms(5),
        loss: 20_000,
        bursts: Some(Bursts { share: 20_000, length: ms(300), loss: 900_000 }),
        duplication: 20_000,
        reordering: 20_000,
        reordering_delay: ms(100),
        max_datagram: 1400,
    })
    .expect("conditions as they may be");
    let line = Some(Bandwidth { rate: 20_000, queue: 5_000 });
    let hosts: Vec<Host> = (0..20)
        .map(|n| {
            let place = Place {
                region: n % 6,
                upload: line.filter(|_| n % 5 == 0),
                download: line.filter(|_| n % 5 == 1),
                translation: (n % 7 == 3)
                    .then_some(Translation { lifetime: ms(500), ..Translation::default() }),
                ..Place::default()
            };
            talker(&mut sim, place)
        })
        .collect();
    sim.set_link(hosts[1], hosts[2], Some(Conditions::default())).expect("conditions as they may be");
    for round in 0..10 {
        for (n, &from) in hosts.iter().enumerate() {
            say(&mut sim, from, hosts[(n * 3 + round) % 20], 40, ms(17), 100 + 75 * n);
        }
        let partition = sim.partition(hosts[round..round + 4].iter().copied()).expect("one of 32");
        sim.freeze(hosts[round + 5], ms(300));
        sim.run(ms(500));
        sim.heal(partition);
        sim.run(ms(500));
    }
    sim.run(ms(10_000));
    assert_eq!(sim.digest(), "538ca0451b886d8e4f5505da1a853d2f");
}

#[test]
fn settings_out_of_bounds_are_refused() {
    let good = Conditions::default;
    let long = Duration::from_secs(3601);
    let bursts = Bursts { share: 0, length: ms(1), loss: ALL };
    let regions = |round_trips| Latency::Regions(Regions { round_trips, sigma: 0 });
    let bad = [
        ("loss", Conditions { loss: ALL + 1, ..good() }),
        ("duplication", Conditions { duplication: u32::MAX, ..good() }),
        ("reordering", Conditions { reordering: ALL + 1, ..good() }),
        ("reordering_delay", Conditions { reordering_delay: Duration::MAX, ..good() }),
        ("jitter", Conditions { jitter: long, ..good() }),
        ("bursts.share", Conditions { bursts: Some(Bursts { share: ALL, ..bursts }), ..good() }),
        ("bursts.length", Conditions { bursts: Some(Bursts { length: Duration::ZERO, ..bursts }), ..good() }),
        ("bursts.loss", Conditions { bursts: Some(Bursts { loss: ALL + 1, ..bursts }), ..good() }),
        ("latency", Conditions { latency: Latency::Constant(Duration::MAX), ..good() }),
        ("latency", Conditions { latency: Latency::Uniform(ms(2), ms(1)), ..good() }),
        ("latency", Conditions { latency: Latency::LogNormal { median: ms(1), sigma: 10_001 }, ..good() }),
        ("latency", Conditions { latency: regions(vec![]), ..good() }),
        ("latency", Conditions { latency: regions(vec![vec![ms(1)], vec![]]), ..good() }),
        ("latency", Conditions { latency: regions(vec![vec![long]]), ..good() }),
    ];
    let (mut sim, a, b) = pair(good());
    for (setting, conditions) in bad {
        let error = sim.set_conditions(conditions.clone()).expect_err(setting);
        assert_eq!((error.setting, error.allowed.is_empty()), (setting, false));
        assert_eq!(sim.set_link(a, b, Some(conditions)).expect_err(setting).setting, setting);
    }
    assert_eq!(*sim.conditions(), good());
    let place = Place::default;
    let slow = Some(Bandwidth { rate: 99, queue: u64::MAX });
    let translation = Some(Translation { lifetime: Duration::ZERO, ..Translation::default() });
    for (setting, bad) in [
        ("upload", Place { upload: slow, ..place() }),
        ("download", Place { download: slow, ..place() }),
        ("translation.lifetime", Place { translation, ..place() }),
        ("translation", Place { translation: Some(Translation::default()), family: Family::V6, ..place() }),
        ("clock_drift", Place { clock_drift: i32::MIN, ..place() }),
    ] {
        assert_eq!(bad.validate().expect_err(setting).setting, setting);
        assert!(sim.add_peer_at(bad, |_| Box::<Talker>::default()).is_err());
    }
    assert_eq!(sim.hosts(), 2);
    // All at their ends do no harm.
    let extreme = Conditions {
        latency: Latency::LogNormal { median: Duration::from_secs(3600), sigma: 10_000 },
        jitter: Duration::from_secs(3600),
        loss: 0,
        bursts: Some(Bursts { share: ALL - 1, length: Duration::from_micros(1), loss: 0 }),
        duplication: ALL,
        reordering: ALL,
        reordering_delay: Duration::from_secs(3600),
        max_datagram: usize::MAX,
    };
    sim.set_conditions(extreme).expect("conditions as they may be");
    say(&mut sim, a, b, 1000, ms(1), 8);
    sim.run(Duration::MAX);
    assert!(heard(&mut sim, b).len() > 1000);
    sim.freeze(a, Duration::MAX);
    sim.schedule(Time::from_micros(u64::MAX), 1);
    sim.run(Duration::MAX);
}

#[test]
fn strangers_among_hosts_do_no_harm() {
    let (mut small, a, _) = pair(Conditions::default());
    let (mut large, ..) = pair(Conditions::default());
    let unknown = talker(&mut large, Place::default());
    small.freeze(unknown, ms(1));
    small.cut_off(unknown, true);
    small.forget(unknown);
    small.remove(unknown).expect("nothing");
    small.crash(unknown).expect("nothing");
    assert!(small.restart(unknown).is_err() && small.restart(a).is_err());
    assert!(small.partition([unknown]).is_some());
    assert!(small.node(unknown).is_none() && small.peer_mut::<Talker>(unknown).is_none());
    small.replace_peer(unknown, |_| Box::<Talker>::default());
    assert_eq!(small.add_contact(unknown, small.address(unknown)), None);
    assert!(small.get(unknown, khashmir::Id::of(b"key")).is_err());
    small.run(ms(1000));
}
