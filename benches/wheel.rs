//! What a timer costs, with a few armed and with very many, in time and allocations.
//!
//! `cargo bench --bench wheel`

use std::time::Duration;

use divan::{AllocProfiler, Bencher, black_box};
use khashmir::random::{Random, seed_from_number, seeded};
use khashmir::time::Time;
use khashmir::wheel::{Timer, Wheel};
use rand::RngExt;

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

const ARMED: [usize; 3] = [100, 10_000, 1_000_000];
const MINUTE: u64 = 60_000_000;

/// A wheel of timers spread over the next ten minutes.
fn wheel(armed: usize) -> (Wheel<[u32; 2]>, Vec<Timer>, Random) {
    let mut rng = seeded(seed_from_number(1));
    let mut wheel = Wheel::new();
    let timers = (0..armed)
        .map(|key| wheel.arm(Time::from_micros(rng.random_range(0..10 * MINUTE)), [key as u32, 0]))
        .collect();
    (wheel, timers, rng)
}

/// The fate of most timers: a request's, whose answer comes.
#[divan::bench(args = ARMED)]
fn arm_and_cancel(bencher: Bencher, armed: usize) {
    let (mut wheel, _, _) = wheel(armed);
    let mut at = Time::ZERO;
    bencher.bench_local(|| {
        at = Time::from_micros((at.as_micros() + 7919) % MINUTE);
        let timer = wheel.arm(black_box(at), [1, 2]);
        wheel.cancel(black_box(timer))
    });
}

/// A connection's idle timer, with each packet.
#[divan::bench(args = ARMED)]
fn postpone(bencher: Bencher, armed: usize) {
    let (mut wheel, timers, _) = wheel(armed);
    let mut nth = 0;
    bencher.bench_local(|| {
        nth = (nth + 7919) % timers.len();
        let timer = timers[nth];
        let at = wheel.deadline(timer).unwrap_or_default() + Duration::from_micros(500);
        wheel.move_to(black_box(timer), at)
    });
}

#[divan::bench(args = ARMED)]
fn next_deadline(bencher: Bencher, armed: usize) {
    let (wheel, _, _) = wheel(armed);
    bencher.bench_local(|| black_box(&wheel).next_deadline());
}

/// One timer fires and is armed anew: all that it costs on its way down through
/// the levels.
#[divan::bench(args = ARMED)]
fn fire_and_rearm(bencher: Bencher, armed: usize) {
    let (mut wheel, _, mut rng) = wheel(armed);
    let mut now = Time::ZERO;
    bencher.bench_local(|| {
        loop {
            if let Some(key) = wheel.expire(now) {
                wheel.arm(now + Duration::from_micros(rng.random_range(1..10 * MINUTE)), key);
                break;
            }
            now = wheel.next_deadline().unwrap_or_default();
        }
    });
}
