//! The timer wheel against a plain sorted map, and at the edges of its levels.

use std::collections::BTreeMap;

use khashmir::random::{Random, seed_from_number, seeded};
use khashmir::time::Time;
use khashmir::wheel::{Timer, Wheel};
use rand::RngExt;

/// Microseconds in a tick.
const TICK: u64 = 1024;

fn at_tick(tick: u64) -> Time {
    Time::from_micros(tick * TICK)
}

/// Says which seed failed.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed with seed {}", self.0);
        }
    }
}

#[derive(Clone, Copy)]
struct Expected {
    timer: Timer,
    deadline: Time,
    /// The tick in which it fires.
    tick: u64,
    moved: bool,
}

/// What a wheel ought to do, done slowly.
struct Model {
    wheel: Wheel<u32>,
    rng: Random,
    armed: BTreeMap<u32, Expected>,
    gone: Vec<Timer>,
    next_key: u32,
    now: Time,
    /// The tick that is being worked off.
    current: u64,
}

impl Model {
    fn new(seed: u64) -> Self {
        Model {
            wheel: Wheel::new(),
            rng: seeded(seed_from_number(seed)),
            armed: BTreeMap::new(),
            gone: Vec::new(),
            next_key: 0,
            now: Time::ZERO,
            current: 0,
        }
    }

    /// The tick in which a timer fires that is set to `at` now.
    fn tick(&self, at: Time) -> u64 {
        let up = at.as_micros().div_ceil(TICK);
        let up = if at <= self.now { up.min(self.now.as_micros() / TICK) } else { up };
        up.max(self.current)
    }

    /// A deadline of one of the kinds that have ever broken a wheel.
    fn deadline(&mut self) -> Time {
        let now = self.now.as_micros();
        let rotation = TICK << (6 * self.rng.random_range(1..=5));
        let jitter = self.rng.random_range(0..4 * TICK);
        Time::from_micros(match self.rng.random_range(0..8) {
            0 => now.saturating_sub(self.rng.random_range(0..200_000)),
            1 => now,
            2 | 3 => now + self.rng.random_range(0..50 * TICK),
            4 => now + self.rng.random_range(0..10_000_000),
            5 => (now + rotation).saturating_sub(jitter),
            6 => now + rotation + jitter,
            _ => now + self.span(50),
        })
    }

    /// Microseconds of any order of magnitude.
    fn span(&mut self, max_bits: u32) -> u64 {
        let bits = self.rng.random_range(10..max_bits);
        self.rng.random_range(0..1 << bits)
    }

    fn some_key(&mut self) -> Option<u32> {
        let all = self.armed.len();
        let nth = (all > 0).then(|| self.rng.random_range(0..all))?;
        self.armed.keys().nth(nth).copied()
    }

    fn arm(&mut self, at: Time) {
        let key = self.next_key;
        self.next_key += 1;
        let timer = self.wheel.arm(at, key);
        let tick = self.tick(at);
        self.armed.insert(key, Expected { timer, deadline: at, tick, moved: false });
    }

    fn cancel(&mut self) {
        if let Some(key) = self.some_key() {
            let expected = self.armed.remove(&key).unwrap();
            assert_eq!(self.wheel.cancel(expected.timer), Some(key));
            self.gone.push(expected.timer);
        }
    }

    fn move_to(&mut self, at: impl FnOnce(&mut Self, Time) -> Time) {
        if let Some(key) = self.some_key() {
            let old = self.armed[&key];
            let deadline = at(self, old.deadline);
            assert!(self.wheel.move_to(old.timer, deadline));
            let tick = self.tick(deadline);
            self.armed.insert(key, Expected { deadline, tick, moved: true, ..old });
        }
    }

    fn stale(&mut self) {
        if !self.gone.is_empty() {
            let timer = self.gone[self.rng.random_range(0..self.gone.len())];
            assert_eq!(self.wheel.cancel(timer), None);
            assert!(!self.wheel.move_to(timer, self.now));
            assert_eq!(self.wheel.deadline(timer), None);
        }
    }

    fn earliest(&self) -> Option<u64> {
        self.armed.values().map(|e| e.tick).min()
    }

    /// One call of `expire`; whether it gave a timer.
    fn expire_one(&mut self, now: Time) -> bool {
        self.now = self.now.max(now);
        let earliest = self.earliest().filter(|&tick| tick <= self.now.as_micros() / TICK);
        let Some(key) = self.wheel.expire(now) else {
            assert_eq!(earliest, None, "a due timer was kept back at {now:?}");
            self.current = self.now.as_micros() / TICK;
            return false;
        };
        let fired = self.armed.remove(&key).expect("an armed timer");
        assert_eq!(Some(fired.tick), earliest, "fired out of order, or too early, at {now:?}");
        assert!(fired.deadline <= self.now, "fired early");
        if !fired.moved {
            let first = self.armed.iter().find(|(_, e)| e.tick == fired.tick && !e.moved);
            assert!(first.is_none_or(|(&other, _)| key < other), "fired before one armed earlier");
        }
        self.current = fired.tick;
        self.gone.push(fired.timer);
        true
    }

    fn expire(&mut self, now: Time) {
        let mut rearm = 20;
        while self.expire_one(now) {
            // Handlers arm, cancel and move timers, also ones that are due.
            if rearm > 0 && self.rng.random_bool(0.3) {
                rearm -= 1;
                let at = self.deadline();
                match self.rng.random_range(0..4) {
                    0 => self.cancel(),
                    1 => self.move_to(|_, _| at),
                    _ => self.arm(at),
                }
            }
        }
    }

    fn check(&mut self) {
        assert_eq!(self.wheel.len(), self.armed.len());
        assert_eq!(self.wheel.is_empty(), self.armed.is_empty());
        let next = self.wheel.next_deadline();
        assert_eq!(next.is_some(), !self.armed.is_empty());
        if let (Some(next), Some(earliest)) = (next, self.earliest()) {
            assert!(next <= at_tick(earliest), "next deadline {next:?} is later than tick {earliest}");
        }
        if let Some(key) = self.some_key() {
            let expected = self.armed[&key];
            let deadline = self.wheel.deadline(expected.timer).expect("an armed timer has a deadline");
            assert!(deadline <= expected.deadline);
            assert!(expected.deadline - deadline < std::time::Duration::from_micros(TICK));
        }
    }

    fn step(&mut self) {
        match self.rng.random_range(0..20) {
            0..=6 => {
                let at = self.deadline();
                self.arm(at);
            }
            7 | 8 => self.cancel(),
            9 => self.move_to(|model, _| model.deadline()),
            10 | 11 => {
                self.move_to(|model, old| {
                    Time::from_micros(old.as_micros() + model.rng.random_range(0..300_000))
                });
            }
            12 => self.move_to(|model, old| {
                Time::from_micros(old.as_micros().saturating_sub(model.rng.random_range(0..300_000)))
            }),
            13 => self.stale(),
            14 => {
                // A driver that stops half way through.
                let now = self.now.as_micros() + self.rng.random_range(0..100 * TICK);
                for _ in 0..self.rng.random_range(1..5) {
                    self.expire_one(Time::from_micros(now));
                }
            }
            15 => {
                let now = self.now.as_micros() + self.span(45);
                self.expire(Time::from_micros(now));
            }
            16 => {
                // A clock that went backwards.
                let now = self.now.as_micros().saturating_sub(self.rng.random_range(0..100_000));
                self.expire(Time::from_micros(now));
            }
            _ => {
                let now = self.now.as_micros() + self.rng.random_range(0..20 * TICK);
                self.expire(Time::from_micros(now));
            }
        }
        self.check();
    }

    /// Follows `next_deadline` until the wheel is empty.
    fn run_out(&mut self) {
        while let Some(next) = self.wheel.next_deadline() {
            let fired = self.expire_one(next);
            let after = self.wheel.next_deadline();
            assert!(fired || after > Some(next), "neither fired nor came nearer at {next:?}");
            self.check();
        }
        assert!(self.armed.is_empty());
    }
}

#[test]
fn agrees_with_a_sorted_map() {
    for seed in 0..150 {
        let _seed = Seed(seed);
        let mut model = Model::new(seed);
        for _ in 0..1500 {
            model.step();
        }
        model.run_out();
    }
}

/// Everything that comes out up to `now`.
fn drain(wheel: &mut Wheel<u32>, now: Time) -> Vec<u32> {
    std::iter::from_fn(|| wheel.expire(now)).collect()
}

#[test]
fn timers_almost_a_rotation_away_do_not_fire_with_nearer_ones() {
    for level in 0..9 {
        let slot = 1u64 << (6 * level);
        let rotation = slot << 6;
        // Start at the beginning, in the middle and at the end of a slot.
        for start in [0, slot / 2, slot - 1, 5 * slot + slot / 3, 63 * slot] {
            if start + rotation >= 1 << 54 {
                continue;
            }
            let mut wheel = Wheel::new();
            assert_eq!(wheel.expire(at_tick(start)), None);
            let offsets =
                [1, slot, slot + 1, rotation - slot, rotation - 1, rotation, rotation + 1, rotation + slot];
            let mut ticks: Vec<u64> = offsets.iter().map(|offset| start + offset).collect();
            for (key, &tick) in ticks.iter().enumerate() {
                wheel.arm(at_tick(tick), key as u32);
            }
            ticks.sort_unstable();
            ticks.dedup();
            for &tick in &ticks {
                let due = offsets.iter().filter(|&&offset| start + offset == tick).count();
                let context = format!("level {level}, start {start}, tick {tick}");
                let early = Time::from_micros(tick * TICK - 1);
                assert_eq!(wheel.expire(early), None, "{context}");
                assert_eq!(drain(&mut wheel, at_tick(tick)).len(), due, "{context}");
            }
            assert!(wheel.is_empty());
        }
    }
}

#[test]
fn never_early_and_at_most_a_tick_late() {
    for micros in [1, 1023, 1024, 1025, 99_999, 65_536 * 1024 - 1] {
        let mut wheel = Wheel::new();
        wheel.arm(Time::from_micros(micros), 7);
        assert_eq!(wheel.expire(Time::from_micros(micros - 1)), None);
        assert_eq!(wheel.expire(Time::from_micros(micros + TICK - 1)), Some(7));
    }
}

#[test]
fn the_end_of_time_fits() {
    let end = Time::from_micros(u64::MAX);
    let mut wheel = Wheel::new();
    let never = wheel.arm(end, 1);
    let soon = wheel.arm(at_tick(3), 2);
    assert_eq!(wheel.deadline(never), Some(end));
    assert_eq!(drain(&mut wheel, at_tick(1 << 50)), [2]);
    assert!(wheel.next_deadline() <= Some(end));
    assert_eq!(wheel.cancel(soon), None);
    assert_eq!(drain(&mut wheel, end), [1]);
    wheel.arm(end, 3);
    assert_eq!(drain(&mut wheel, end), [3]);
}

#[test]
fn postponing_over_and_over_keeps_a_timer_from_firing() {
    let mut wheel = Wheel::new();
    let timer = wheel.arm(at_tick(20), 9);
    for now in 0..10_000 {
        assert!(wheel.move_to(timer, at_tick(now + 20)));
        assert_eq!(wheel.expire(at_tick(now)), None);
    }
    assert_eq!(wheel.expire(at_tick(10_018)), None);
    assert_eq!(wheel.expire(at_tick(10_019)), Some(9));
}

#[test]
fn a_drain_ends_for_handlers_that_rearm_in_the_future() {
    let mut wheel = Wheel::new();
    let now = Time::from_micros(5 * TICK + 17);
    for key in 0..100u32 {
        wheel.arm(Time::from_micros(u64::from(key) * 50), key);
    }
    let mut fired = 0;
    while let Some(key) = wheel.expire(now) {
        fired += 1;
        assert!(fired <= 100);
        wheel.arm(now + std::time::Duration::from_micros(1), key);
    }
    assert_eq!(fired, 100);
    assert_eq!(wheel.len(), 100);
}

#[test]
fn what_falls_due_while_draining_comes_out_too() {
    let mut wheel = Wheel::new();
    let now = Time::from_micros(100 * TICK + 500);
    wheel.arm(at_tick(10), 1);
    wheel.arm(at_tick(30), 3);
    let late = wheel.arm(at_tick(500), 4);
    assert_eq!(wheel.expire(now), Some(1));
    wheel.arm(at_tick(20), 2);
    assert!(wheel.move_to(late, now));
    wheel.arm(at_tick(5), 0);
    assert_eq!(drain(&mut wheel, now), [0, 2, 3, 4]);
    // The current moment has passed, though its tick is not over.
    wheel.arm(now, 5);
    assert_eq!(drain(&mut wheel, now), [5]);
}

#[test]
fn a_stale_handle_never_hits_the_next_occupant() {
    let mut wheel = Wheel::new();
    let first = wheel.arm(at_tick(1), 1);
    assert_eq!(wheel.cancel(first), Some(1));
    let second = wheel.arm(at_tick(2), 2);
    assert_ne!(first, second);
    assert_eq!(wheel.cancel(first), None);
    assert!(!wheel.move_to(first, at_tick(9)));
    assert_eq!(wheel.deadline(second), Some(at_tick(2)));
    assert_eq!(wheel.expire(at_tick(2)), Some(2));
    assert_eq!(wheel.cancel(second), None);
}

#[test]
fn handles_are_small() {
    assert_eq!(size_of::<Timer>(), 8);
    assert_eq!(size_of::<Option<Timer>>(), 8);
}
