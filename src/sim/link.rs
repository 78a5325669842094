//! What becomes of a datagram between two hosts.

use std::collections::HashMap;
use std::time::Duration;

use super::digest::mix;
use super::network::{ALL, Bursts, Conditions, Latency, Regions};
use super::quantile::{below, chance, decay, log_normal_of, micros, uniform, uniform_of};
use super::simulation::Host;
use crate::random::Random;
use crate::time::Time;

/// Why a datagram was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    TooLarge,
    Nowhere,
    Cut,
    Upload,
    Random,
    Burst,
    Download,
    Down,
    Translation,
    Frozen,
}

/// What lies between hosts.
#[derive(Debug)]
pub(super) struct Network {
    /// For all links that have none of their own.
    pub conditions: Conditions,
    links: HashMap<(Host, Host), Link>,
    /// The state of each host's line, where it was ever looked at.
    lines: Vec<Line>,
    /// For each host, on which side of each partition it is.
    sides: Vec<u32>,
    /// Which partitions there are.
    partitions: u32,
    /// Which of all that ever were is at each place, and how many those are.
    serials: [u64; 32],
    parted: u64,
    key: u64,
    rng: Random,
}

#[derive(Debug)]
struct Link {
    conditions: Conditions,
    line: Line,
}

/// Whether a line is in the bad state, and when that was found; packed, since there may be many.
#[derive(Clone, Copy, Debug, Default)]
struct Line(u64);

/// When the copies of a datagram arrive: one, or two.
pub(super) type Arrivals = (Time, Option<Time>);

impl Network {
    pub fn new(key: u64, rng: Random) -> Self {
        Network {
            conditions: Conditions::default(),
            links: HashMap::new(),
            lines: Vec::new(),
            sides: Vec::new(),
            partitions: 0,
            serials: [0; 32],
            parted: 0,
            key: mix(key.wrapping_add(GOLDEN)),
            rng,
        }
    }

    pub fn rng(&mut self) -> &mut Random {
        &mut self.rng
    }

    /// The conditions between two hosts, in this direction.
    pub fn conditions(&self, from: Host, to: Host) -> &Conditions {
        if self.links.is_empty() {
            return &self.conditions;
        }
        self.links.get(&(from, to)).map_or(&self.conditions, |link| &link.conditions)
    }

    pub fn set_link(&mut self, from: Host, to: Host, conditions: Option<Conditions>) {
        match conditions {
            Some(conditions) => {
                self.links.insert((from, to), Link { conditions, line: Line::default() });
            }
            None => drop(self.links.remove(&(from, to))),
        }
    }

    // -- partitions

    /// Cuts these hosts off from all others: the partition's place among the 32, and which it is of all
    /// that ever were. `None`: there are 32 already.
    pub fn part(&mut self, hosts: impl IntoIterator<Item = Host>) -> Option<(u32, u64)> {
        let partition = self.partitions.trailing_ones();
        let bit = 1u32.checked_shl(partition)?;
        self.parted += 1;
        self.serials[partition as usize] = self.parted;
        self.partitions |= bit;
        for Host(host) in hosts {
            let host = host as usize;
            if self.sides.len() <= host {
                self.sides.resize(host + 1, 0);
            }
            self.sides[host] |= bit;
        }
        Some((partition, self.parted))
    }

    pub fn heal(&mut self, partition: u32, serial: u64) {
        let bit = 1u32.checked_shl(partition).unwrap_or(0);
        // Its place may be another's by now.
        if self.partitions & bit != 0 && self.serials.get(partition as usize) == Some(&serial) {
            self.partitions &= !bit;
            self.sides.iter_mut().for_each(|sides| *sides &= !bit);
        }
    }

    /// Whether a partition lies between two hosts.
    pub fn is_cut(&self, a: Host, b: Host) -> bool {
        self.partitions != 0 && self.sides(a) != self.sides(b)
    }

    fn sides(&self, Host(host): Host) -> u32 {
        self.sides.get(host as usize).copied().unwrap_or(0)
    }

    // -- datagrams

    /// When a datagram arrives that gets on its way at `now`, from a host in one region to one in another.
    pub fn pass(&mut self, now: Time, from: (Host, u16), to: (Host, u16)) -> Result<Arrivals, Loss> {
        let Network { conditions, links, lines, key, rng, .. } = self;
        let link = if links.is_empty() { None } else { links.get_mut(&(from.0, to.0)) };
        let (conditions, own_line) = match link {
            Some(Link { conditions, line }) => (&*conditions, Some(line)),
            None => (&*conditions, None),
        };
        if let Some(bursts) = &conditions.bursts {
            let line = match own_line {
                Some(line) => line,
                None => {
                    let host = to.0.0 as usize;
                    if lines.len() <= host {
                        lines.resize(host + 1, Line::default());
                    }
                    &mut lines[host]
                }
            };
            if line.is_bad(now, bursts, rng) && chance(rng, bursts.loss) {
                return Err(Loss::Burst);
            }
        }
        if chance(rng, conditions.loss) {
            return Err(Loss::Random);
        }
        let at = now + latency(&conditions.latency, *key, from, to);
        let first = at + more(conditions, rng);
        let second = chance(rng, conditions.duplication).then(|| at + more(conditions, rng));
        Ok((first, second))
    }
}

/// What a single datagram takes longer than its link's latency.
fn more(conditions: &Conditions, rng: &mut Random) -> Duration {
    let mut more = Duration::ZERO;
    if !conditions.jitter.is_zero() {
        more += uniform(rng, Duration::ZERO, conditions.jitter);
    }
    if chance(rng, conditions.reordering) {
        more += conditions.reordering_delay;
    }
    more
}

/// The latency between two hosts, each with its region.
fn latency(latency: &Latency, key: u64, a: (Host, u16), b: (Host, u16)) -> Duration {
    match latency {
        Latency::Constant(latency) => *latency,
        Latency::Uniform(least, most) => uniform_of(draw(key, a.0, b.0), *least, *most),
        Latency::LogNormal { median, sigma } => log_normal_of(draw(key, a.0, b.0), *median, *sigma),
        Latency::Regions(Regions { round_trips, sigma }) => {
            let row = round_trips.get(usize::from(a.1) % round_trips.len().max(1));
            let round_trip = row.and_then(|row| row.get(usize::from(b.1) % row.len().max(1)));
            let median = round_trip.copied().unwrap_or_default() / 2;
            if *sigma == 0 { median } else { log_normal_of(draw(key, a.0, b.0), median, *sigma) }
        }
    }
}

/// 2⁶⁴ divided by the golden ratio: SplitMix64's step.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// A number that belongs to a pair of hosts.
fn draw(key: u64, Host(a): Host, Host(b): Host) -> u64 {
    let pair = u64::from(a.min(b)) << 32 | u64::from(a.max(b));
    mix(mix(pair.wrapping_mul(GOLDEN).wrapping_add(key)) ^ key)
}

impl Line {
    /// Finds out whether the line is bad by now.
    ///
    /// With B and G the mean lengths of the states and s = B / (B + G), a line that was bad a span d ago
    /// is bad now with the probability s + (1 - s)·e^(-d/B - d/G), and one that was good with
    /// s - s·e^(-d/B - d/G): the Markov chain with two states, solved. So nothing needs to be done for
    /// the time between.
    fn is_bad(&mut self, now: Time, bursts: &Bursts, rng: &mut Random) -> bool {
        let share = u64::from(bursts.share);
        let now = now.as_micros();
        // A line that was never looked at is in either state by chance, as if that was long ago.
        let kept = if self.0 == 0 {
            0
        } else {
            // 1/B + 1/G = 1/(B·(1 - s)).
            let span = u128::from(now - (self.0 >> 1).min(now)) * u128::from(ALL);
            let unit = u128::from(micros(bursts.length)) * u128::from(ALL - bursts.share);
            decay(span, unit)
        };
        // In units of 2⁻³² / 10⁶.
        let was_bad = self.0 & 1 == 1;
        let all = u64::from(ALL);
        let forgotten = share * ((1 << 32) - kept);
        let bad = if was_bad { forgotten + kept * all } else { forgotten };
        let is_bad = below(rng, all << 32) < bad;
        self.0 = now << 1 | u64::from(is_bad);
        is_bad
    }
}
