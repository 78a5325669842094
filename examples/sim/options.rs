//! The command line.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use khashmir::Config;
use khashmir::sim::{ALL, Bursts, Churn, Cut, Entry, Latency, Regions, Scenario, Session};

use crate::results::Part;

/// Runs a network of nodes in simulated time, and reports how it did.
///
/// It starts from a scenario that has a name, and changes in it what is given. The same options give
/// the same results, on every machine.
/// Times are whole numbers with a unit: 500us, 250ms, 90s, 15m, 24h.
#[derive(Parser)]
#[command(name = "sim", version)]
pub struct Options {
    /// The scenario to start from; --list says which there are.
    #[arg(long, value_name = "NAME", default_value = "fault-free")]
    scenario: String,
    /// List the scenarios that have a name.
    #[arg(long)]
    pub list: bool,

    /// How many nodes there are.
    #[arg(long, value_name = "N")]
    nodes: Option<u32>,
    /// Where all that is random comes from.
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,
    /// How many percent of the nodes are behind a translator of addresses.
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    translated: Option<u32>,
    /// Have nodes join, at most so many at a time, instead of filling their tables.
    #[arg(long, value_name = "AT_ONCE")]
    join: Option<u32>,
    /// Fill the nodes' tables instead of having them join.
    #[arg(long, conflicts_with = "join")]
    seeded: bool,
    /// How many percent of the nodes are peers as of 2003.
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    originals: Option<u32>,
    /// How long the network is left alone before anything is asked of it.
    #[arg(long, value_name = "TIME", value_parser = span)]
    settle: Option<Duration>,

    /// How long a datagram is under way, or between which two times it takes, or by where the hosts
    /// are: 40ms, 20ms-80ms, regions.
    #[arg(long, value_name = "TIME", value_parser = latency)]
    latency: Option<Latency>,
    /// How much longer than that it takes at most.
    #[arg(long, value_name = "TIME", value_parser = span)]
    jitter: Option<Duration>,
    /// How many percent of all datagrams are lost.
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    loss: Option<u32>,
    /// How many percent of the time all that comes to a host is lost, half a second at a time.
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    bursts: Option<u32>,
    /// How many percent of all datagrams arrive twice.
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    duplication: Option<u32>,
    /// How many percent of all datagrams are overtaken by others.
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    reordering: Option<u32>,
    /// Larger datagrams are lost.
    #[arg(long, value_name = "BYTES")]
    max_datagram: Option<usize>,

    /// How many percent of the nodes crash just before anything is asked.
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    dead: Option<u32>,
    /// Nodes come and go, and stay for so long on average.
    #[arg(long, value_name = "TIME", value_parser = span)]
    session: Option<Duration>,
    /// Most of them stay for less than that, a few for very long.
    #[arg(long, requires = "session")]
    heavy_tailed: bool,
    /// How many percent of the nodes are cut off from the others for a while.
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    cut_off: Option<u32>,
    /// When they are, from when the network has settled.
    #[arg(long, value_name = "TIME", value_parser = span, requires = "cut_off", default_value = "5m")]
    cut_off_from: Duration,
    /// For how long.
    #[arg(long, value_name = "TIME", value_parser = span, requires = "cut_off", default_value = "10m")]
    cut_off_for: Duration,

    /// How many nodes are looked up.
    #[arg(long, value_name = "N")]
    lookups: Option<u32>,
    /// When the first is, from when the network has settled.
    #[arg(long, value_name = "TIME", value_parser = span)]
    lookups_from: Option<Duration>,
    /// One lookup begins each so often.
    #[arg(long, value_name = "TIME", value_parser = span)]
    lookup_every: Option<Duration>,
    /// No more than so many are under way at a time.
    #[arg(long, value_name = "N")]
    lookups_at_once: Option<u32>,

    /// How many values are stored.
    #[arg(long, value_name = "N")]
    values: Option<u32>,
    /// Bytes in each.
    #[arg(long, value_name = "BYTES")]
    value_size: Option<u32>,
    /// When the first is stored, from when the network has settled.
    #[arg(long, value_name = "TIME", value_parser = span)]
    values_from: Option<Duration>,
    /// Within what time they are stored.
    #[arg(long, value_name = "TIME", value_parser = span)]
    values_over: Option<Duration>,
    /// How often each is looked for.
    #[arg(long, value_name = "N")]
    searches: Option<u32>,
    /// How long after it was stored, at least.
    #[arg(long, value_name = "TIME", value_parser = span)]
    search_after: Option<Duration>,
    /// How long after it was stored, at most.
    #[arg(long, value_name = "TIME", value_parser = span)]
    search_until: Option<Duration>,

    /// How long it goes on at least.
    #[arg(long, value_name = "TIME", value_parser = span)]
    span: Option<Duration>,
    /// How often the state of the network is noted down.
    #[arg(long, value_name = "TIME", value_parser = span)]
    sample: Option<Duration>,

    /// Contacts in a bucket, and nodes that keep a value.
    #[arg(long, value_name = "N")]
    k: Option<usize>,
    /// Requests that a lookup has in flight.
    #[arg(long, value_name = "N")]
    concurrent_requests: Option<usize>,
    /// How long a request may go unanswered.
    #[arg(long, value_name = "TIME", value_parser = span)]
    request_timeout: Option<Duration>,
    /// How long a value is kept after it was last stored.
    #[arg(long, value_name = "TIME", value_parser = span)]
    value_lifetime: Option<Duration>,
    /// A bucket that no lookup has touched for so long is refreshed.
    #[arg(long, value_name = "TIME", value_parser = span)]
    bucket_staleness: Option<Duration>,

    /// Run it once for each of these numbers of nodes.
    #[arg(long, value_name = "N,N,…", value_delimiter = ',', conflicts_with = "nodes")]
    sweep: Vec<u32>,
    /// Print a line for each run, as in the tables of results.
    #[arg(long)]
    pub row: bool,
    /// Write what came of it to this file as JSON; -: to the standard output, instead of text.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Draw pictures into this folder: how long lookups take, hops against network size (of a sweep),
    /// values over time (with --sample).
    #[arg(long, value_name = "DIR")]
    pub svg: Option<PathBuf>,
    /// Run what takes longer than a test may, and write the tables of results and their pictures into
    /// this folder.
    #[arg(long, value_name = "DIR")]
    #[arg(conflicts_with_all = ["scenario", "nodes", "seed", "sweep", "row", "json", "svg"])]
    pub write_results: Option<PathBuf>,
    /// Only this part of them.
    #[arg(long, requires = "write_results")]
    pub part: Vec<Part>,
}

impl Options {
    /// The numbers of nodes to run it with.
    pub fn sizes(&self, scenario: &Scenario) -> Vec<u32> {
        if self.sweep.is_empty() { vec![scenario.nodes] } else { self.sweep.clone() }
    }

    /// What to run.
    pub fn scenario(&self) -> Result<Scenario, String> {
        let name = &self.scenario;
        let named = Scenario::named(name);
        let mut scenario = named.ok_or_else(|| format!("no scenario is called {name}: see --list"))?;
        scenario.seed = self.seed;
        set(&mut scenario.entry, self.join.map(Entry::Joining));
        set(&mut scenario.entry, self.seeded.then_some(Entry::Seeded));
        set(&mut scenario.originals, self.originals);
        set(&mut scenario.translated, self.translated);
        set(&mut scenario.settle, self.settle);
        set(&mut scenario.conditions.latency, self.latency.clone());
        set(&mut scenario.nodes, self.nodes);
        let conditions = &mut scenario.conditions;
        set(&mut conditions.jitter, self.jitter);
        set(&mut conditions.loss, self.loss);
        let length = Duration::from_millis(500);
        set(&mut conditions.bursts, self.bursts.map(|share| Some(Bursts { share, length, loss: ALL })));
        set(&mut conditions.duplication, self.duplication);
        set(&mut conditions.reordering, self.reordering);
        set(&mut conditions.max_datagram, self.max_datagram);
        set(&mut scenario.dead, self.dead);
        if let Some(mean) = self.session {
            let session =
                if self.heavy_tailed { Session::HeavyTailed(mean) } else { Session::Exponential(mean) };
            scenario.churn = Some(Churn { session });
        }
        if let Some(share) = self.cut_off {
            let (from, span) = (self.cut_off_from, self.cut_off_for);
            scenario.cut = Some(Cut { share, from, span });
        }
        set(&mut scenario.lookups.count, self.lookups);
        set(&mut scenario.lookups.from, self.lookups_from);
        set(&mut scenario.lookups.every, self.lookup_every);
        set(&mut scenario.lookups.at_once, self.lookups_at_once);
        set(&mut scenario.values.count, self.values);
        set(&mut scenario.values.size, self.value_size);
        set(&mut scenario.values.from, self.values_from);
        set(&mut scenario.values.over, self.values_over);
        set(&mut scenario.values.searches, self.searches);
        set(&mut scenario.values.after, self.search_after);
        set(&mut scenario.values.until, self.search_until);
        set(&mut scenario.span, self.span);
        set(&mut scenario.sample, self.sample);
        let mut config = Config::clone(&scenario.config);
        set(&mut config.k, self.k);
        set(&mut config.concurrent_requests, self.concurrent_requests);
        set(&mut config.request_timeout, self.request_timeout);
        set(&mut config.value_lifetime, self.value_lifetime);
        set(&mut config.bucket_staleness, self.bucket_staleness);
        scenario.config = Arc::new(config);
        Ok(scenario)
    }

    /// The command that does all this again.
    pub fn command(&self, scenario: &Scenario) -> String {
        let mut command = scenario.command();
        let mut given = std::env::args_os().skip(1).map(|given| given.to_string_lossy().into_owned());
        while let Some(option) = given.next() {
            let (name, value) = match option.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (option, None),
            };
            if matches!(name.as_str(), "--seeded" | "--heavy-tailed" | "--row") {
                if name != "--row" {
                    command += &format!(" {name}");
                }
                continue;
            }
            let value = value.or_else(|| given.next()).unwrap_or_default();
            if !matches!(name.as_str(), "--scenario" | "--nodes" | "--seed" | "--sweep" | "--json" | "--svg")
            {
                command += &format!(" {name} {value}");
            }
        }
        command
    }
}

fn set<T>(setting: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *setting = given;
    }
}

/// A share in a million.
fn percent(text: &str) -> Result<u32, String> {
    let percent: f64 = text.parse().map_err(|_| "it must be a number".to_owned())?;
    if (0.0..=100.0).contains(&percent) {
        Ok((percent * 10_000.0).round() as u32)
    } else {
        Err("it must be 0 to 100".to_owned())
    }
}

fn span(text: &str) -> Result<Duration, String> {
    let unit = text.find(|c: char| c.is_ascii_alphabetic()).ok_or("it needs a unit: us, ms, s, m or h")?;
    let number: u64 = text[..unit].parse().map_err(|_| "it must be a whole number with a unit".to_owned())?;
    let micros: u64 = match &text[unit..] {
        "us" => 1,
        "ms" => 1000,
        "s" => 1_000_000,
        "m" => 60_000_000,
        "h" => 3_600_000_000,
        _ => return Err("the unit must be us, ms, s, m or h".to_owned()),
    };
    number.checked_mul(micros).map(Duration::from_micros).ok_or_else(|| "it is too long".to_owned())
}

fn latency(text: &str) -> Result<Latency, String> {
    if text == "regions" {
        return Ok(Latency::Regions(Regions::default()));
    }
    match text.split_once('-') {
        Some((least, most)) => {
            let (least, most) = (span(least)?, span(most)?);
            if least > most {
                return Err("the first time must be the shorter one".to_owned());
            }
            Ok(Latency::Uniform(least, most))
        }
        None => span(text).map(Latency::Constant),
    }
}
