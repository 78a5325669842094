//! Timers against those that are armed.

use std::hint::black_box;
use std::time::Duration;

use khashmir::random::{seed_from_number, seeded};
use khashmir::time::Time;
use khashmir::wheel::Wheel;
use rand::RngExt;

use super::{Growth, nanoseconds};

const TIMES: usize = 200_000;
const RUNS: usize = 3;
/// Timers are spread over so many microseconds.
const SPAN: u64 = 600_000_000;

pub fn timers() -> Growth {
    let cost = |name: &str, unit| (name.to_owned(), unit);
    Growth {
        part: "timers",
        title: "A timer, against those that are armed",
        things: "timers",
        costs: vec![
            cost("armed and cancelled", "ns"),
            cost("fired and armed anew", "ns"),
            cost("memory: one place", "ns"),
        ],
        rows: [100, 1000, 10_000, 100_000, 1_000_000].map(|armed| (armed, measure(armed))).into(),
    }
}

fn measure(armed: u64) -> Vec<f64> {
    let mut rng = seeded(seed_from_number(armed));
    let mut wheel = Wheel::new();
    for key in 0..armed {
        wheel.arm(Time::from_micros(rng.random_range(0..SPAN)), [key as u32, 0, 0]);
    }
    // Drawing a number is no part of it.
    let spans: Vec<u64> = (0..4096).map(|_| rng.random_range(1..SPAN)).collect();
    let mut nth = 0;
    let mut span = || {
        nth = (nth + 1) % spans.len();
        spans[nth]
    };
    let arm_and_cancel = nanoseconds(RUNS, TIMES, || {
        let timer = wheel.arm(Time::from_micros(span()), [1, 2, 3]);
        wheel.cancel(black_box(timer));
    });
    let mut now = Time::ZERO;
    let fire = nanoseconds(RUNS, TIMES, || {
        loop {
            if let Some(key) = wheel.expire(now) {
                wheel.arm(now + Duration::from_micros(span()), key);
                break;
            }
            now = wheel.next_deadline().expect("a timer");
        }
    });
    let places = vec![[1u8; 40]; armed as usize];
    let order: Vec<u32> = (0..TIMES).map(|_| rng.random_range(0..armed) as u32).collect();
    let (mut nth, mut last) = (0, 0);
    let memory = nanoseconds(RUNS, TIMES, || {
        nth = (nth + 1) % TIMES;
        // Each place is known only when the one before has been seen.
        let place = (order[nth] as usize + last) % places.len();
        last = usize::from(black_box(places[place][8]));
    });
    vec![arm_and_cancel, fire, memory]
}
