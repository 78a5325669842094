//! Random spans of time, the same on every machine: distributions drawn through integer tables.
//!
//! A draw is a number of 64 bits, taken for a probability q above 0 and up to 1. Its quantile is read
//! out of a table with linear interpolation. The tables go by octaves (q between ½ and ¼, between ¼
//! and ⅛, …) so that tails are as exact as the middle: log₂ q needs but one octave, the normal
//! quantile has 32 steps in each of 32 octaves. Beyond q = 2⁻³³, which is 6.3 standard deviations, the
//! normal distribution is cut off. Errors stay below 0.0002 of a standard deviation, and below
//! 0.000,003 of a power or logarithm.

use std::time::Duration;

use rand::Rng;

use super::tables::{EXP2, LOG2, NORMAL};

/// 24 bits behind the point.
const POINT: u32 = 24;
const ONE: u64 = 1 << POINT;
/// ln 2 and log₂ e, with as many.
const LN_2: u64 = 11_629_080;
const LOG2_E: i128 = 24_204_406;

/// A number below `end`, each with the same chance, or nearly: the high half of a product. 0 for 0.
pub fn below(rng: &mut impl Rng, end: u64) -> u64 {
    scaled(rng.next_u64(), end)
}

/// True `millionths` times in a million.
pub fn chance(rng: &mut impl Rng, millionths: u32) -> bool {
    millionths > 0 && below(rng, 1_000_000) < u64::from(millionths)
}

/// Anything between the two, both included, with the same chance.
pub fn uniform(rng: &mut impl Rng, least: Duration, most: Duration) -> Duration {
    uniform_of(rng.next_u64(), least, most)
}

/// What comes at a constant rate is waited for so long: `mean` on average, whatever went before.
/// Shorter than `mean` 63 times in 100.
pub fn exponential(rng: &mut impl Rng, mean: Duration) -> Duration {
    span(times(times(micros(mean), LN_2), octaves(rng.next_u64())))
}

/// Many short ones and a few very long ones, `mean` on average: Weibull's distribution with shape ½,
/// which is `mean` / 2 times the square of an exponential variable. Half of all are shorter than 0.24
/// times `mean`, one in a hundred is longer than ten times.
///
/// Sessions in peer-to-peer networks look like that, neither exponential nor Pareto: Stutzbach and
/// Rejaie, *Understanding churn in peer-to-peer networks* (2006), fit Weibull distributions with shapes
/// from 0.3 to 0.6.
pub fn heavy_tailed(rng: &mut impl Rng, mean: Duration) -> Duration {
    span(squared(mean, octaves(rng.next_u64())))
}

/// What is left of a session with a [`heavy_tailed`] length when one looks at a random moment: longer
/// than a whole one is on average (three times), since long sessions are met more often. For a network
/// that is to look as if it had been running for ever.
pub fn heavy_tailed_rest(rng: &mut impl Rng, mean: Duration) -> Duration {
    // The density of √(rest / scale) is x·e⁻ˣ: a sum of two exponential variables.
    span(squared(mean, octaves(rng.next_u64()) + octaves(rng.next_u64())))
}

/// As often below `median` as above; its logarithm is normal with a standard deviation of
/// `sigma_thousandths` thousandths. (250 says: two thirds are within a factor of 1.28.)
pub fn log_normal(rng: &mut impl Rng, median: Duration, sigma_thousandths: u32) -> Duration {
    log_normal_of(rng.next_u64(), median, sigma_thousandths)
}

/// As [`log_normal`], from a draw of the caller's.
pub(super) fn log_normal_of(draw: u64, median: Duration, sigma_thousandths: u32) -> Duration {
    let exponent = i128::from(normal(draw)) * i128::from(sigma_thousandths) * LOG2_E / (1000 << POINT);
    let whole = exponent >> POINT;
    let fraction = (exponent & i128::from(ONE - 1)) as u64;
    let power = interpolate(&EXP2, fraction << (64 - POINT));
    let mantissa = u128::from(micros(median)) * u128::from(power);
    span(match u32::try_from(whole) {
        // The mantissa has less than 89 bits.
        Ok(left) if left < 39 => mantissa << left >> POINT,
        Ok(_) if mantissa > 0 => u128::MAX,
        Ok(_) => 0,
        Err(_) => {
            let right = u32::try_from(-whole).unwrap_or(u32::MAX);
            mantissa.checked_shr(right.saturating_add(POINT)).unwrap_or(0)
        }
    })
}

/// As [`uniform`], from a draw of the caller's.
pub(super) fn uniform_of(draw: u64, least: Duration, most: Duration) -> Duration {
    let (least, most) = (micros(least), micros(most));
    Duration::from_micros(least + scaled(draw, most.saturating_sub(least).saturating_add(1)))
}

/// e to the power of -`span` / `unit`, in units of 2⁻³², so 2³² at most.
pub(super) fn decay(span: u128, unit: u128) -> u64 {
    let octaves = span.saturating_mul(LOG2_E as u128) / unit.max(1);
    // The next octave, and from there up again.
    let whole = (octaves >> POINT) + 1;
    let missing = (whole << POINT) - octaves;
    let power = interpolate(&EXP2, (missing as u64) << (64 - POINT));
    // All of the way up is the first one of the next octave.
    let power = if missing == u128::from(ONE) { 2 * ONE } else { power };
    match u32::try_from(whole) {
        Ok(whole) if whole < 33 => (power << (32 - POINT)) >> whole,
        _ => 0,
    }
}

/// A number below `end` out of a draw.
pub(super) fn scaled(draw: u64, end: u64) -> u64 {
    ((u128::from(draw) * u128::from(end)) >> 64) as u64
}

/// A standard normal variable, 24 bits behind the point.
fn normal(draw: u64) -> i64 {
    // One bit for the sign; the others are q, from 2⁻¹ down.
    let q = draw << 1 | 1;
    let octave = q.leading_zeros();
    let size = if octave >= 32 {
        i64::from(NORMAL[32 * 32])
    } else {
        // How far q has come down in its octave.
        let fallen = !(q << octave << 1);
        let step = (fallen >> 59) as usize;
        let at = octave as usize * 32 + step;
        between(NORMAL[at], NORMAL[at + 1], fallen << 5) as i64
    };
    if draw >> 63 == 0 { size } else { -size }
}

/// -log₂ q, 24 bits behind the point.
fn octaves(draw: u64) -> u64 {
    let q = draw | 1;
    let octave = q.leading_zeros();
    (u64::from(octave) + 1) * ONE - interpolate(&LOG2, q << octave << 1)
}

/// What a table over one octave has at `at` / 2⁶⁴ of its length.
fn interpolate(table: &[u32; 257], at: u64) -> u64 {
    let step = (at >> 56) as usize;
    between(table[step], table[step + 1], at << 8)
}

/// What is at `part` / 2⁶⁴ of the way from one number to another.
fn between(from: u32, to: u32, part: u64) -> u64 {
    let way = (i128::from(to) - i128::from(from)) * i128::from(part);
    (i128::from(from) + (way >> 64)) as u64
}

/// `mean` / 2 times the square of an exponential variable, given in octaves.
fn squared(mean: Duration, octaves: u64) -> u64 {
    let exponential = u128::from(times(octaves, LN_2));
    let twice = u128::from(micros(mean)) * exponential * exponential;
    span_of(twice >> (2 * POINT + 1))
}

/// A product of a number and one that has 24 bits behind the point.
fn times(number: u64, factor: u64) -> u64 {
    span_of((u128::from(number) * u128::from(factor)) >> POINT)
}

fn span_of(micros: u128) -> u64 {
    u64::try_from(micros).unwrap_or(u64::MAX)
}

fn span(micros: impl TryInto<u64>) -> Duration {
    Duration::from_micros(micros.try_into().unwrap_or(u64::MAX))
}

/// Microseconds; the most there are, for more.
pub(super) fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{seed_from_number, seeded};

    const UNIT: f64 = ONE as f64;

    /// How often a standard normal variable exceeds z: Gauss's integral, by Simpson's rule.
    fn exceeded(z: f64) -> f64 {
        let density = |x: f64| (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt();
        let (steps, end) = (600, z + 12.0);
        let h = (end - z) / f64::from(steps);
        let inner: f64 = (1..steps).map(|i| f64::from(2 + 2 * (i % 2)) * density(z + f64::from(i) * h)).sum();
        (density(z) + inner + density(end)) * h / 3.0
    }

    #[test]
    fn tables_are_what_they_say() {
        for i in 0..=256 {
            let part = f64::from(i as u32) / 256.0;
            assert!((f64::from(LOG2[i]) / UNIT - (1.0 + part).log2()).abs() < 1.0 / UNIT, "LOG2[{i}]");
            assert!((f64::from(EXP2[i]) / UNIT - part.exp2()).abs() < 1.0 / UNIT, "EXP2[{i}]");
        }
        for (i, &z) in NORMAL.iter().enumerate() {
            let q = 0.5f64.powi(i as i32 / 32 + 1) * (1.0 - (i % 32) as f64 / 64.0);
            let ratio = exceeded(f64::from(z) / UNIT) / q;
            assert!((ratio - 1.0).abs() < 5e-6, "NORMAL[{i}] is exceeded {ratio} times as often");
        }
        assert!(NORMAL.is_sorted());
    }

    #[test]
    fn draws_follow_the_formulas() {
        let second = Duration::from_secs(1);
        for n in 0..2000u64 {
            let draw = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (n % 40);
            let q = (draw | 1) as f64 / 2f64.powi(64);
            assert!((octaves(draw) as f64 / UNIT + q.log2()).abs() < 1e-5, "{draw:x}");
            let z = normal(draw) as f64 / UNIT;
            let tail = ((draw << 1) | 1) as f64 / 2f64.powi(65);
            if tail > 2f64.powi(-33) {
                // Within 0.0002 of the right z, to both sides.
                assert!(exceeded(z.abs() - 2e-4) > tail && exceeded(z.abs() + 2e-4) < tail, "{draw:x}");
            }
            let span = log_normal_of(draw, second, 700).as_secs_f64();
            assert!((span / (0.7 * z).exp() - 1.0).abs() < 1e-5, "{draw:x}: {span}");
        }
    }

    #[test]
    fn means_and_medians_are_as_asked() {
        let mut rng = seeded(seed_from_number(7));
        let hour = Duration::from_secs(3600);
        let mut draws = |draw: fn(&mut crate::random::Random, Duration) -> Duration| {
            let mut all: Vec<f64> =
                (0..50_000).map(|_| draw(&mut rng, hour).as_secs_f64() / 3600.0).collect();
            all.sort_by(f64::total_cmp);
            (all.iter().sum::<f64>() / all.len() as f64, all[all.len() / 2])
        };
        for (what, (mean, median), mean_expected, median_expected) in [
            ("exponential", draws(exponential), 1.0, 0.693),
            ("heavy_tailed", draws(heavy_tailed), 1.0, 0.240),
            ("heavy_tailed_rest", draws(heavy_tailed_rest), 3.0, 1.408),
            ("log_normal", draws(|rng, median| log_normal(rng, median, 500)), 1.133, 1.0),
            ("uniform", draws(|rng, most| uniform(rng, most / 2, most)), 0.75, 0.75),
        ] {
            assert!((mean / mean_expected - 1.0f64).abs() < 0.04, "{what}: mean {mean}");
            assert!((median / median_expected - 1.0f64).abs() < 0.03, "{what}: median {median}");
        }
    }

    #[test]
    fn decay_follows_its_formula() {
        for span in (0..3000).chain([10_000, 1 << 40, u128::MAX]) {
            let right = (-(span as f64) / 100.0).exp();
            let found = decay(span, 100) as f64 / 2f64.powi(32);
            assert!((found - right).abs() < 1e-5, "{span}: {found}, not {right}");
        }
    }

    #[test]
    fn ends_of_the_range_do_no_harm() {
        for draw in [0, 1, u64::MAX, 1 << 63, (1 << 63) - 1] {
            for sigma in [0, 1, 1000, u32::MAX] {
                for median in [Duration::ZERO, Duration::from_micros(1), Duration::MAX] {
                    log_normal_of(draw, median, sigma);
                }
            }
            assert_eq!(uniform_of(draw, Duration::MAX, Duration::ZERO), Duration::from_micros(u64::MAX));
            squared(Duration::MAX, octaves(draw) * 2);
        }
        assert_eq!(log_normal_of(u64::MAX, Duration::from_secs(1), 0), Duration::from_secs(1));
    }
}
