//! The conditions under which datagrams travel.

use std::time::Duration;

use crate::error::ConfigError;

/// Shares are given in millionths, so that no fraction is needed: this is all of them.
pub const ALL: u32 = 1_000_000;

/// How long a datagram is under way, one way.
///
/// All but the first are drawn once for every pair of hosts, out of the simulation's seed and the two
/// hosts' numbers: a pair keeps its latency, both ways, and nothing has to be remembered for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Latency {
    /// The same for all.
    Constant(Duration),
    /// Anything between the two, both included, with the same chance.
    Uniform(Duration, Duration),
    /// A few pairs are far apart: a logarithm that is normal.
    LogNormal {
        /// Half of all pairs are nearer than this.
        median: Duration,
        /// The standard deviation of the natural logarithm, in thousandths. At most 10,000.
        sigma: u32,
    },
    /// By where the two hosts are.
    Regions(Regions),
}

/// Round trips between regions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Regions {
    /// The median round trip from a host of one region (the outer index) to one of another (the inner
    /// one), there and back. As many rows as columns, 1 to 256.
    pub round_trips: Vec<Vec<Duration>>,
    /// How pairs of hosts differ within that: log-normal, the standard deviation of the natural
    /// logarithm in thousandths. 0: not at all; at most 10,000.
    pub sigma: u32,
}

impl Default for Regions {
    /// Six regions: western Europe, eastern and western North America, South America, Japan and
    /// Australia. Between them, rounded, what providers publish for the round trips between their data
    /// centres there; within one, 30 ms, as between home lines. Two thirds of all pairs are within a
    /// quarter of it.
    fn default() -> Self {
        const BETWEEN: [[u64; 6]; 6] = [
            [30, 75, 130, 180, 210, 260],
            [75, 30, 65, 115, 150, 200],
            [130, 65, 30, 175, 100, 140],
            [180, 115, 175, 30, 260, 310],
            [210, 150, 100, 260, 30, 105],
            [260, 200, 140, 310, 105, 30],
        ];
        let round_trips = BETWEEN.iter().map(|row| row.iter().map(|&ms| Duration::from_millis(ms)).collect());
        Regions { round_trips: round_trips.collect(), sigma: 250 }
    }
}

/// Losses that come together (Gilbert and Elliott's model, in continuous time): the line of a host is
/// in one of two states, and in the bad one what comes over it is lost.
///
/// The state belongs to the line by which a datagram arrives, so hosts do not have their bursts at the
/// same time, but all that is sent to one host has. On a [single link](super::Simulation::set_link) it
/// belongs to the link. How long a line stays in a state is exponential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bursts {
    /// The share of the time that a line is in the bad state, in millionths. At most 999,999.
    pub share: u32,
    /// How long it stays there, on average. 1 µs to 1 h.
    pub length: Duration,
    /// How many datagrams in a million are lost then. At most [`ALL`], which is usual.
    pub loss: u32,
}

/// The conditions under which datagrams travel, for all hosts or for one link.
///
/// Start from the default, 40 ms and nothing else, and change what you need:
///
/// ```
/// use khashmir::sim::{Conditions, Latency, Regions};
///
/// let latency = Latency::Regions(Regions::default());
/// let bad = Conditions { latency, loss: 50_000, ..Conditions::default() };
/// assert!(bad.validate().is_ok());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conditions {
    /// How long they are under way. No more than an hour. Default: 40 ms for all.
    pub latency: Latency,
    /// Each datagram takes longer by anything up to this. No more than an hour. Default: 0.
    pub jitter: Duration,
    /// How many in a million are lost, each independently of the others. At most [`ALL`]. Default: 0.
    pub loss: u32,
    /// Losses that come together, beside the others. Default: none.
    pub bursts: Option<Bursts>,
    /// How many in a million arrive twice, each copy with a jitter of its own. At most [`ALL`].
    /// Default: 0.
    pub duplication: u32,
    /// How many in a million are held up, and so overtaken by others. At most [`ALL`]. Default: 0.
    pub reordering: u32,
    /// For how long those are. No more than an hour. Default: 20 ms.
    pub reordering_delay: Duration,
    /// Larger datagrams are lost. Bytes, without the headers of IP and UDP; default: 65,507, the
    /// largest that there are over IPv4.
    pub max_datagram: usize,
}

impl Default for Conditions {
    fn default() -> Self {
        Conditions {
            latency: Latency::Constant(Duration::from_millis(40)),
            jitter: Duration::ZERO,
            loss: 0,
            bursts: None,
            duplication: 0,
            reordering: 0,
            reordering_delay: Duration::from_millis(20),
            max_datagram: 65_507,
        }
    }
}

impl Conditions {
    /// Checks every setting.
    ///
    /// # Errors
    ///
    /// The first setting that is out of bounds, and what is allowed for it.
    pub fn validate(&self) -> Result<(), ConfigError> {
        const HOUR: Duration = Duration::from_secs(3600);
        const SHARE: &str = "millionths: 0 to 1,000,000";
        const SPAN: &str = "at most an hour";
        let latency = match &self.latency {
            Latency::Constant(latency) => (*latency <= HOUR, "latency", SPAN),
            Latency::Uniform(least, most) => {
                (least <= most && *most <= HOUR, "latency", "the least first, then the most, at most an hour")
            }
            Latency::LogNormal { median, sigma } => {
                let fits = *median <= HOUR && *sigma <= 10_000;
                (fits, "latency", "at most an hour, with a sigma of at most 10,000 thousandths")
            }
            Latency::Regions(regions) => {
                let count = regions.round_trips.len();
                let square = regions.round_trips.iter().all(|row| row.len() == count);
                let short = regions.round_trips.iter().flatten().all(|&span| span <= HOUR);
                let fits = (1..=256).contains(&count) && square && short && regions.sigma <= 10_000;
                let allowed = "as many rows as columns, 1 to 256, of at most an hour each, with a sigma \
                    of at most 10,000 thousandths";
                (fits, "latency", allowed)
            }
        };
        let bursts = self.bursts.unwrap_or(Bursts { share: 0, length: HOUR, loss: 0 });
        let length = Duration::from_micros(1)..=HOUR;
        let checks = [
            latency,
            (self.jitter <= HOUR, "jitter", SPAN),
            (self.loss <= ALL, "loss", SHARE),
            (bursts.share < ALL, "bursts.share", "millionths: 0 to 999,999"),
            (length.contains(&bursts.length), "bursts.length", "1 µs to 1 h"),
            (bursts.loss <= ALL, "bursts.loss", SHARE),
            (self.duplication <= ALL, "duplication", SHARE),
            (self.reordering <= ALL, "reordering", SHARE),
            (self.reordering_delay <= HOUR, "reordering_delay", SPAN),
        ];
        first_fault(&checks)
    }
}

/// The first setting that is not as it must be.
pub(super) fn first_fault(checks: &[(bool, &'static str, &'static str)]) -> Result<(), ConfigError> {
    match checks.iter().find(|(holds, ..)| !holds) {
        Some(&(_, setting, allowed)) => Err(ConfigError { setting, allowed }),
        None => Ok(()),
    }
}
