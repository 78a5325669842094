//! Scenarios: what they do to networks too small or too broken for them, and what they count.

use std::time::Duration;

use khashmir::sim::{Churn, Conditions, Cut, Entry, Lookups, Scenario, Session, Tally, Values};

const MINUTE: Duration = Duration::from_secs(60);

/// A hundred nodes, 50 lookups, and 10 values that are looked for twice each.
fn small() -> Scenario {
    Scenario {
        nodes: 100,
        settle: Duration::from_secs(2),
        lookups: Lookups { count: 50, ..Lookups::default() },
        values: Values { count: 10, searches: 2, from: 2 * MINUTE, ..Values::default() },
        ..Scenario::default()
    }
}

#[test]
fn seeded_tables_have_all_that_there_is_room_for() {
    let report = Scenario { nodes: 300, ..small() }.run().expect("a run");
    assert_eq!(report.tables, 300);
    for (depth, row) in report.table.iter().enumerate() {
        assert_eq!((row.contacts, row.dead), (row.room, 0), "depth {depth}");
    }
    // Half of all others are in the first bucket, which holds eight.
    assert_eq!(report.table[0].contacts, 300 * 8);
}

#[test]
fn everything_asked_for_is_counted() {
    let sound = small().run().expect("a run");
    assert_eq!((sound.lookups().tried, sound.lookups().found), (50, 50));
    assert_eq!((sound.stores.tried, sound.stores.found), (10, 10));
    assert_eq!((sound.searches().tried, sound.searches().found), (20, 20));
    assert_eq!(sound.lookups().hops.iter().sum::<u64>(), 50);
    let (datagrams, bytes) = sound.per_lookup().expect("nothing else went on");
    assert!(datagrams >= 200 && bytes >= 50 * datagrams, "{datagrams} datagrams, {bytes} bytes, times 100");

    let churn = Some(Churn { session: Session::Exponential(MINUTE) });
    let restless = Scenario { churn, span: 3 * MINUTE, sample: MINUTE, ..small() }.run().expect("a run");
    let all = restless.lookups();
    assert_eq!(all.tried + all.void, 50);
    assert_eq!(restless.stores.tried + restless.stores.void, 10);
    assert!(restless.crashed > 100, "{} crashed", restless.crashed);
    assert!(restless.samples.iter().all(|sample| (80..=100).contains(&sample.nodes)));
    assert_eq!(restless.per_lookup(), None);
}

#[test]
fn a_network_that_falls_apart_is_counted_in_three_phases() {
    let cut = Some(Cut { share: 300_000, from: MINUTE, span: MINUTE });
    let lookups = Lookups { count: 60, every: Duration::from_secs(3), ..Lookups::default() };
    let report = Scenario { cut, lookups, span: 3 * MINUTE, ..small() }.run().expect("a run");
    let phases: Vec<_> = report.phases.iter().map(|phase| (phase.name, phase.lookups.tried)).collect();
    assert_eq!(phases, [("before", 20), ("apart", 20), ("healed", 20)]);
}

#[test]
fn it_ends_when_nobody_is_left() {
    let report = Scenario { dead: 1_000_000, ..small() }.run().expect("a run");
    assert_eq!((report.crashed, report.lookups().tried, report.stores.tried), (100, 0, 0));
    // Nor can anybody join when everything is lost.
    let conditions = Conditions { loss: 1_000_000, ..Conditions::default() };
    let report = Scenario { entry: Entry::Joining(8), conditions, ..small() }.run().expect("a run");
    assert_eq!((report.joins.found, report.lookups().tried), (0, 0));
}

#[test]
fn all_ways_in_lead_to_the_same_network() {
    for (entry, originals, translated) in [
        (Entry::Seeded, 0, 0),
        (Entry::Joining(4), 0, 0),
        (Entry::Joining(4), 300_000, 0),
        (Entry::Joining(4), 0, 200_000),
    ] {
        let scenario = Scenario { entry, originals, translated, ..small() };
        let report = scenario.run().expect("a run");
        let lookups = report.lookups();
        assert_eq!(lookups.tried, 50, "{entry:?}, {originals} originals, {translated} translated");
        // Who is behind a translator may be out of reach.
        assert!(translated > 0 || lookups.found == 50, "{}/50 with {originals} originals", lookups.found);
    }
}

#[test]
fn shares_are_nearest_ranks() {
    let tally = Tally { latencies: (1..=200).collect(), hops: vec![0, 50, 100, 50], ..Tally::default() };
    let shares = [0, 1, 5, 6, 500, 990, 999, 1000].map(|share| tally.latency(share));
    assert_eq!(shares, [1, 1, 1, 2, 100, 198, 200, 200]);
    assert_eq!([1, 250, 251, 750, 751, 1000].map(|share| tally.hops(share)), [1, 1, 2, 2, 3, 3]);
    assert_eq!(tally.mean_hops(), 200);
    assert_eq!((Tally::default().latency(500), Tally::default().hops(500)), (0, 0));
}

#[test]
fn settings_out_of_bounds_are_refused() {
    let faults = |scenario: Scenario| scenario.validate().map_err(|error| error.setting);
    let values = small().values;
    assert_eq!(faults(small()), Ok(()));
    assert_eq!(faults(Scenario { nodes: 1, ..small() }), Err("nodes"));
    assert_eq!(faults(Scenario { nodes: u32::MAX, ..small() }), Err("nodes"));
    assert_eq!(faults(Scenario { dead: 1_000_001, ..small() }), Err("dead"));
    for session in [Session::Exponential(Duration::ZERO), Session::HeavyTailed(Duration::MAX)] {
        assert_eq!(faults(Scenario { churn: Some(Churn { session }), ..small() }), Err("churn.session"));
    }
    let cut = Some(Cut { share: 1, from: Duration::MAX, span: Duration::MAX });
    assert_eq!(faults(Scenario { cut, ..small() }), Err("cut.from"));
    for size in [0, 64 * 1024 + 1] {
        assert_eq!(faults(Scenario { values: Values { size, ..values }, ..small() }), Err("values.size"));
    }
    for (count, searches) in [(u32::MAX, 0), (2, u32::MAX)] {
        let values = Values { count, searches, ..values };
        assert_eq!(faults(Scenario { values, ..small() }), Err("values.count"));
    }
    let over = Duration::MAX;
    assert_eq!(faults(Scenario { values: Values { over, ..values }, ..small() }), Err("values.over"));
    let conditions = Conditions { loss: 1_000_001, ..Conditions::default() };
    assert_eq!(faults(Scenario { conditions, ..small() }), Err("loss"));
    assert!(Scenario { nodes: 0, ..small() }.run().is_err());
}

#[test]
fn samples_are_taken_until_all_is_over() {
    // Lookups and values go on behind the span.
    let report = Scenario { sample: MINUTE / 2, ..small() }.run().expect("a run");
    let times: Vec<u64> = report.samples.iter().map(|sample| sample.at / 1_000_000).collect();
    assert_eq!(times, [30, 60, 90, 120]);
    assert_eq!(small().run().expect("a run").digest, report.digest);
}
