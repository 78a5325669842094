//! The clock by which values age, under a time of day that jumps and through restarts.

use std::collections::BTreeMap;
use std::time::Duration;

use khashmir::random::{Random, seed_from_number, seeded};
use khashmir::store::{Moment, SavedClock, ValueClock};
use khashmir::time::{Time, UnixTime};
use rand::RngExt;

const LIFE: i64 = 86_400;
const LIFETIME: Duration = Duration::from_secs(LIFE as u64);
const HOUR: i64 = 3600;
/// By so much the two clocks may be apart before that counts.
const SLACK: i64 = 2;

/// A node's host: a time of day that may jump, and one run of the program after the other.
struct Host {
    /// Since the program was started, in seconds.
    up: i64,
    /// What time of day it is.
    wall: i64,
    run: i64,
    clock: ValueClock,
}

impl Host {
    fn new() -> Host {
        let wall = 1_000_000_000;
        Host { up: 0, wall, run: 1, clock: ValueClock::new(Time::ZERO, UnixTime(wall)) }
    }

    fn time(&self) -> Time {
        Time::from_micros(self.up as u64 * 1_000_000)
    }

    fn look(&mut self) -> Moment {
        let (now, wall) = (self.time(), UnixTime(self.wall));
        self.clock.look(now, wall, LIFETIME, false)
    }

    fn now(&mut self) -> i64 {
        self.look().now.0
    }

    /// The program runs for a while.
    fn run_for(&mut self, seconds: i64) {
        self.up += seconds;
        self.wall += seconds;
    }

    fn save(&self) -> SavedClock {
        self.clock.save(self.time(), UnixTime(self.wall))
    }

    /// The program was away for so long, by the time of day, since it saved its clock.
    fn restart(&mut self, saved: SavedClock, newest: i64, away: i64) {
        self.wall = saved.wall.0 + away;
        (self.up, self.run) = (0, self.run + 1);
        let times = (Time::ZERO, UnixTime(self.wall));
        self.clock = ValueClock::resume(saved, UnixTime(newest), self.run, times, LIFETIME);
    }
}

#[test]
fn it_is_the_time_of_day_as_long_as_nothing_jumps() {
    let mut host = Host::new();
    for _ in 0..100 {
        host.run_for(HOUR);
        assert_eq!(host.now(), host.wall);
    }
    let saved = host.save();
    let wall = host.wall;
    host.restart(saved, 0, 8 * HOUR);
    assert_eq!(host.now(), wall + 8 * HOUR);
}

#[test]
fn a_jump_ahead_counts_for_half_a_life_at_the_most() {
    let mut host = Host::new();
    host.wall += 5 * HOUR;
    assert_eq!(host.now(), host.wall, "the host may have slept");
    let before = host.now();
    host.wall += 1000 * LIFE;
    assert_eq!(host.now(), before + LIFE / 2 - 5 * HOUR, "many jumps count as one");
    // It may sleep again when it has run for as long.
    host.run_for(LIFE);
    let before = host.now();
    host.wall += 3 * HOUR;
    assert_eq!(host.now(), before + 3 * HOUR);
}

#[test]
fn a_jump_back_changes_nothing() {
    let mut host = Host::new();
    let start = host.now();
    host.wall -= 1000 * LIFE;
    assert_eq!(host.now(), start);
    host.run_for(HOUR);
    assert_eq!(host.now(), start + HOUR);
    host.wall += 1000 * LIFE;
    assert_eq!(host.now(), start + HOUR, "it is where it was: no gap");
}

/// A clock that goes to and fro.
#[test]
fn a_clock_that_flaps_does_not_age_values() {
    let mut host = Host::new();
    let start = host.now();
    for _ in 0..100 {
        host.wall += 10 * LIFE;
        host.now();
        host.wall -= 10 * LIFE;
        host.now();
        host.run_for(60);
    }
    let passed = host.now() - start;
    assert!(passed <= 2 * 6000 + LIFE / 2, "{passed} s");
}

/// One that does so slowly, while the program runs or where it is put right only after each start.
#[test]
fn a_clock_that_is_wrong_again_and_again_does_not_age_values() {
    for restarts in [false, true] {
        let mut host = Host::new();
        let start = host.now();
        for _ in 0..20 {
            if restarts {
                let saved = host.save();
                host.restart(saved, i64::MIN, 10 * LIFE);
            } else {
                host.wall += 10 * LIFE;
            }
            host.now();
            host.run_for(LIFE / 2);
            host.wall -= 10 * LIFE;
            host.now();
        }
        let passed = host.now() - start;
        assert!(passed <= 10 * LIFE + LIFE / 2, "{passed} s, restarts: {restarts}");
        // It has its time of day back as soon as that has caught up.
        let saved = host.save();
        host.restart(saved, i64::MIN, LIFE / 2);
        let saved = host.save();
        let before = host.now();
        host.restart(saved, i64::MIN, LIFE / 2);
        assert_eq!(host.now(), before + LIFE / 2);
    }
}

/// Two clocks read in whole seconds are sometimes a second apart.
#[test]
fn a_second_here_or_there_is_nothing() {
    let mut host = Host::new();
    host.wall += 1000 * LIFE;
    let start = host.now();
    for second in 0..10_000 {
        host.run_for(1);
        host.wall += if second % 2 == 0 { 1 } else { -1 };
        host.now();
    }
    assert_eq!(host.now(), start + 10_000);
}

/// A host whose clock is set only after the start: nothing is there yet that it could age.
#[test]
fn an_empty_store_follows_the_time_of_day() {
    for jump in [1_000 * LIFE, -1_000 * LIFE] {
        let mut host = Host::new();
        host.wall += jump;
        let moment = host.clock.look(host.time(), UnixTime(host.wall), LIFETIME, true);
        assert_eq!(moment.now, UnixTime(host.wall));
    }
}

/// A host that comes back after long, or whose clock is wrong: who knows?
#[test]
fn what_is_in_doubt_is_hidden_until_the_clock_is_put_back() {
    let mut host = Host::new();
    let end = host.now() + LIFE;
    let first_run = host.run;
    let saved = host.save();
    host.restart(saved, i64::MIN, 10 * LIFE);
    let moment = host.look();
    assert_eq!(moment.now.0, saved.clock.0 + LIFE / 2);
    assert!(moment.end(first_run, UnixTime(end)) <= moment.now, "it is hidden");
    assert_eq!(moment.end(host.run, UnixTime(end)).0, end, "what is stored now is not");
    // A second restart does not bring it back.
    let saved = host.save();
    host.restart(saved, i64::MIN, 60);
    let moment = host.look();
    assert!(moment.end(first_run, UnixTime(end)) <= moment.now);
    assert_eq!(moment.end(host.run - 1, UnixTime(end)).0, end);
    // A clock that is put right does, while it runs and over a restart.
    let (wrong, away) = (host.save(), -10 * LIFE);
    host.wall += away;
    let moment = host.look();
    assert!(moment.end(first_run, UnixTime(end)) > moment.now);
    host.restart(wrong, i64::MIN, away);
    let moment = host.look();
    assert!(moment.end(first_run, UnixTime(end)) > moment.now);
}

/// A crash loses what the clock has shown since it was saved, but values tell of it.
#[test]
fn it_does_not_go_back_before_the_newest_value() {
    let mut host = Host::new();
    let saved = host.save();
    host.run_for(HOUR);
    let newest = host.now();
    host.restart(saved, newest, -LIFE);
    assert_eq!(host.now(), newest);
}

/// A stored value, and what it has gone through.
#[derive(Debug)]
struct Held {
    run: i64,
    end: i64,
    /// Seconds that the program has run since, and gaps that may have been credited.
    ran: i64,
    gaps: i64,
}

/// Whatever happens: no value goes before its time is over by running time and credited gaps;
/// none lives longer than its life of running time; and no single jump takes a fresh one.
#[test]
fn values_live_for_their_time() {
    for seed in 0..300 {
        live(seed, &mut seeded(seed_from_number(seed)));
    }
}

fn live(seed: u64, rng: &mut Random) {
    let mut host = Host::new();
    let mut held: BTreeMap<u32, Held> = BTreeMap::new();
    let mut newest = i64::MIN;
    let far = |rng: &mut Random| {
        let span = [10, HOUR, LIFE / 2, 3 * LIFE, 10_000 * LIFE][rng.random_range(0..5usize)];
        rng.random_range(3..=span)
    };
    for step in 0..400 {
        let before = host.now();
        let mut may_be_credited = 0;
        match rng.random_range(0..10) {
            0..5 => {
                let most = [60, HOUR, 6 * HOUR][rng.random_range(0..3usize)];
                let span = rng.random_range(1..most);
                host.run_for(span);
                held.values_mut().for_each(|held| held.ran += span);
                assert_eq!(host.now(), before + span, "seed {seed}, step {step}");
            }
            5 => {
                let jump = far(rng);
                host.wall += jump;
                may_be_credited = jump.min(LIFE / 2);
            }
            6 => host.wall -= far(rng),
            7 => {
                let saved = host.save();
                let away = if rng.random_bool(0.8) { far(rng) } else { -far(rng) };
                host.restart(saved, newest, away);
                may_be_credited = away.clamp(0, LIFE / 2);
            }
            _ => {
                newest = host.now();
                held.insert(step, Held { run: host.run, end: newest + LIFE, ran: 0, gaps: 0 });
            }
        }
        held.values_mut().for_each(|held| held.gaps += may_be_credited);
        let moment = host.look();
        assert!(moment.now.0 >= before, "seed {seed}, step {step}: it went back");
        let jumped = moment.now.0 - before;
        held.retain(|_, held| {
            let is_over = held.end <= moment.now.0;
            if is_over {
                let lived = held.ran + held.gaps + SLACK;
                assert!(lived >= LIFE, "seed {seed}, step {step}: gone too soon, {held:?}");
            } else {
                assert!(held.ran < LIFE, "seed {seed}, step {step}: there for too long, {held:?}");
            }
            let is_fresh = held.end - before > LIFE / 2 + 1;
            assert!(!(is_fresh && is_over && may_be_credited > 0), "seed {seed}, step {step}: {jumped} s");
            // What is hidden is there, and what is not expires no sooner than it is deleted.
            assert!(moment.end(held.run, UnixTime(held.end)).0 <= held.end);
            assert_eq!(moment.end(host.run, UnixTime(held.end)).0, held.end, "seed {seed}, step {step}");
            !is_over
        });
    }
}
