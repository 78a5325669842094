//! Whole experiments: a network, what befalls it, and what is asked of it meanwhile.

mod alarm;
mod asked;
mod build;
mod measured;
mod presets;
mod roster;
mod run;

use std::sync::Arc;
use std::time::Duration;

use super::network::{ALL, Conditions, first_fault};
use super::place::Place;
use super::quantile::{exponential, heavy_tailed, heavy_tailed_rest};
use super::report::Report;
use crate::config::Config;
use crate::error::{ConfigError, StartError};
use crate::random::Random;

/// An experiment. All that happens follows from what is written here.
///
/// It goes in this order: the network comes about ([`entry`](Self::entry)); nothing is asked of it for
/// [`settle`](Self::settle), and the traffic of the second half of that time is taken for what it does
/// by itself; then a share of the nodes dies ([`dead`](Self::dead)), nodes begin to come and go
/// ([`churn`](Self::churn)), and lookups, values and searches are asked for, until all have ended and
/// [`span`](Self::span) is over.
///
/// ```
/// use khashmir::sim::{Lookups, Scenario};
///
/// let lookups = Lookups { count: 20, ..Lookups::default() };
/// let scenario = Scenario { nodes: 50, seed: 7, lookups, ..Scenario::default() };
/// let report = scenario.run()?;
/// assert_eq!(report.lookups().found, 20);
/// assert_eq!(scenario.run()?.digest, report.digest);
/// # Ok::<(), khashmir::StartError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What it is called in its report.
    pub name: String,
    /// How many nodes there are, peers of 2003 included. 2 to 7,000,000; nodes that come in the place of
    /// others need further addresses, of which there are some 600,000 more.
    pub nodes: u32,
    /// Where all that is random comes from.
    pub seed: u64,
    /// The settings of all nodes.
    pub config: Arc<Config>,
    /// What all datagrams go through. With latencies by region, each host is in a random one.
    pub conditions: Conditions,
    /// Where all hosts are, but for their region, and for how they are reached.
    pub place: Place,
    /// How many in a million of the nodes are behind a translator of addresses. (Not the first ones:
    /// somebody must be reachable when the others join.)
    pub translated: u32,
    /// How nodes get into the network.
    pub entry: Entry,
    /// How long the network is left alone before anything is asked of it.
    pub settle: Duration,
    /// How many in a million of the nodes are peers as of 2003.
    pub originals: u32,
    /// How many in a million of the nodes crash at once, with nobody told, before anything is asked.
    pub dead: u32,
    /// Nodes that come and go. None: all stay.
    pub churn: Option<Churn>,
    /// A time in which some cannot reach the others.
    pub cut: Option<Cut>,
    /// Lookups of nodes.
    pub lookups: Lookups,
    /// Values, and searches for them.
    pub values: Values,
    /// How long it goes on at least, from when the network has settled. It goes on longer while
    /// lookups or searches are still to come.
    pub span: Duration,
    /// How often the state of the network is noted down. Never when zero.
    pub sample: Duration,
}

/// How nodes get into the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Each asks one to three random ones that are in already for what they know, and looks for its
    /// neighbours, as a program would have it do. At most so many do at a time, and at first fewer: no
    /// more than half of those that are in.
    Joining(u32),
    /// Each is given the contacts that a Kademlia table would have: as many random ones for each of its
    /// buckets as there is room for, or all that there are.
    Seeded,
}

/// How long nodes stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// Exponential with this mean: how long a node stays says nothing about how long it will.
    Exponential(Duration),
    /// Heavy-tailed with this mean: most stay for much less, a few for very long. Those that are there
    /// at the beginning have been for long. ([`quantile::heavy_tailed`](super::quantile::heavy_tailed))
    HeavyTailed(Duration),
}

/// Nodes that come and go. Each crash is followed at once by a newcomer of another id, which joins
/// through up to three random nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Churn {
    /// How long nodes stay. The mean is 1 s or more.
    pub session: Session,
}

/// A time in which some cannot reach the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// How many in a million of the nodes are on the one side.
    pub share: u32,
    /// When it begins, from when the network has settled.
    pub from: Duration,
    /// How long it lasts.
    pub span: Duration,
}

/// Lookups of existing, living nodes by others, both random. While the network is apart, both are on
/// the same side. One that found its target, or its searcher, dead at the end does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lookups {
    /// How many. At most 100,000,000.
    pub count: u32,
    /// When the first begins, from when the network has settled.
    pub from: Duration,
    /// One begins each so often.
    pub every: Duration,
    /// No more than so many at a time; those that are late wait. At least 1.
    pub at_once: u32,
}

/// Values, and searches for them, by random nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Values {
    /// How many values, each under a key of its own. They and their searches together: at most
    /// 100,000,000.
    pub count: u32,
    /// Bytes in each. 1 to [`Config::max_value_size`].
    pub size: u32,
    /// When the first is stored, from when the network has settled.
    pub from: Duration,
    /// They are stored within this time, one after another at even steps.
    pub over: Duration,
    /// How often each is looked for.
    pub searches: u32,
    /// How long after it was stored it is first looked for, at least.
    pub after: Duration,
    /// How long after it was stored it is last looked for, at most, and before
    /// [`Scenario::span`] is over, if there is one. The searches for a value are at random times between
    /// the two.
    pub until: Duration,
}

impl Default for Scenario {
    /// A thousand nodes with seeded tables, at rest.
    fn default() -> Self {
        Scenario {
            name: "unnamed".to_owned(),
            nodes: 1000,
            seed: 1,
            config: Arc::default(),
            conditions: Conditions::default(),
            place: Place::default(),
            translated: 0,
            entry: Entry::Seeded,
            settle: Duration::from_secs(60),
            originals: 0,
            dead: 0,
            churn: None,
            cut: None,
            lookups: Lookups::default(),
            values: Values::default(),
            span: Duration::ZERO,
            sample: Duration::ZERO,
        }
    }
}

impl Default for Lookups {
    /// None; a tenth of a second apart if there are any.
    fn default() -> Self {
        Lookups { count: 0, from: Duration::ZERO, every: Duration::from_millis(100), at_once: 64 }
    }
}

impl Default for Values {
    /// None; of 1 kB if there are any, all at once.
    fn default() -> Self {
        Values {
            count: 0,
            size: 1000,
            from: Duration::ZERO,
            over: Duration::ZERO,
            searches: 1,
            after: Duration::from_secs(10),
            until: Duration::from_secs(20),
        }
    }
}

impl Session {
    /// How long a node stays; of one that was there before, how much longer.
    fn draw(&self, rng: &mut Random, was_there: bool) -> Duration {
        match *self {
            Session::Exponential(mean) => exponential(rng, mean),
            Session::HeavyTailed(mean) if was_there => heavy_tailed_rest(rng, mean),
            Session::HeavyTailed(mean) => heavy_tailed(rng, mean),
        }
    }
}

impl Scenario {
    /// The command that repeats it, when it is [`named`](Self::named) and nothing but its nodes and its
    /// seed was changed.
    pub fn command(&self) -> String {
        let Scenario { name, nodes, seed, .. } = self;
        let example = "cargo run --release --features sim --example sim --";
        format!("{example} --scenario {name} --nodes {nodes} --seed {seed}")
    }

    /// Checks every setting. No time may be longer than a million hours; shares are millionths.
    ///
    /// # Errors
    ///
    /// The first setting that is out of bounds, and what is allowed for it.
    pub fn validate(&self) -> Result<(), ConfigError> {
        const LONGEST: Duration = Duration::from_secs(3_600_000_000);
        /// What is noted down of each takes some tens of bytes.
        const MOST: u32 = 100_000_000;
        const SHARE: &str = "millionths: 0 to 1,000,000";
        const SPAN: &str = "at most a million hours";
        self.config.validate()?;
        self.conditions.validate()?;
        self.place.validate()?;
        let Scenario { lookups, values, .. } = self;
        let cut = self.cut.unwrap_or(Cut { share: 0, from: Duration::ZERO, span: Duration::ZERO });
        let searched = u64::from(values.count) * (1 + u64::from(values.searches));
        let sizes = 1..=self.config.max_value_size as u64;
        // Shorter ones would let hardly anything but coming and going happen.
        let sessions = Duration::from_secs(1)..=LONGEST;
        let stays = self.churn.is_none_or(|churn| match churn.session {
            Session::Exponential(mean) | Session::HeavyTailed(mean) => sessions.contains(&mean),
        });
        first_fault(&[
            ((2..=7_000_000).contains(&self.nodes), "nodes", "2 to 7,000,000"),
            (self.translated <= ALL, "translated", SHARE),
            (self.originals <= ALL, "originals", SHARE),
            (self.dead <= ALL, "dead", SHARE),
            (self.settle <= LONGEST, "settle", SPAN),
            (self.span <= LONGEST, "span", SPAN),
            (self.sample <= LONGEST, "sample", SPAN),
            (stays, "churn.session", "1 s to a million hours"),
            (cut.share <= ALL, "cut.share", SHARE),
            (cut.from <= LONGEST, "cut.from", SPAN),
            (cut.span <= LONGEST, "cut.span", SPAN),
            (lookups.count <= MOST, "lookups.count", "at most 100,000,000"),
            (lookups.from <= LONGEST, "lookups.from", SPAN),
            (lookups.every <= LONGEST, "lookups.every", SPAN),
            (
                values.count == 0 || sizes.contains(&values.size.into()),
                "values.size",
                "at least 1 byte, and at most the setting max_value_size",
            ),
            (
                searched <= u64::from(MOST),
                "values.count",
                "at most 100,000,000, each counted once and for each of its searches",
            ),
            (values.from <= LONGEST, "values.from", SPAN),
            (values.over <= LONGEST, "values.over", SPAN),
            (values.after <= LONGEST, "values.after", SPAN),
            (values.until <= LONGEST, "values.until", SPAN),
        ])
    }

    /// Lets it happen.
    ///
    /// # Errors
    ///
    /// When a setting is out of bounds (see [`validate`](Self::validate)), or SQLite cannot make a
    /// database in memory.
    pub fn run(&self) -> Result<Report, StartError> {
        self.validate()?;
        run::Run::new(self)?.finish()
    }
}
