//! What came of a scenario, in whole numbers.

mod text;

use std::time::Duration;

/// What came of a [`Scenario`](super::Scenario). Prints as text, with the digest in its last line.
///
/// All numbers are whole, so that they are the same on all machines. Times are microseconds of virtual
/// time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What the scenario is called.
    pub name: String,
    /// Its seed.
    pub seed: u64,
    /// How many nodes it began with.
    pub nodes: u32,
    /// The usual time to a node and back, in microseconds.
    pub round_trip: u64,
    /// How nodes got into the network, newcomers included. Empty when tables were seeded.
    pub joins: Tally,
    /// What was asked, by what the network went through at the time it was: one phase, or with a
    /// partition three.
    pub phases: Vec<Phase>,
    /// How the values were stored.
    pub stores: Tally,
    /// How many nodes have crashed.
    pub crashed: u64,
    /// What was sent while nothing was asked.
    pub idle: Traffic,
    /// What was sent from when the network had settled.
    pub busy: Traffic,
    /// What was sent from the first lookup to the end of the last, when nothing else went on at the time.
    pub looking: Option<Traffic>,
    /// The state of the network over time.
    pub samples: Vec<Sample>,
    /// What the tables of the living nodes look like at the end, by depth.
    pub table: Vec<Depth>,
    /// How many nodes' tables were looked at.
    pub tables: u64,
    /// Microseconds from the beginning of it all to its end.
    pub span: u64,
    /// Names everything that has happened: each datagram and its time, each outcome.
    pub digest: String,
}

/// What was asked of the network at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Phase {
    /// What the network went through: `all`, or `before`, `apart` and `healed`.
    pub name: &'static str,
    /// Lookups of living nodes. Found: the very contact came back.
    pub lookups: Tally,
    /// Searches for values that were stored. Found: the search brought the value.
    pub searches: Tally,
}

/// Operations of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many counted.
    pub tried: u64,
    /// How many of these did what they were to.
    pub found: u64,
    /// How many did not count, since their node, or their target, was gone by their end.
    pub void: u64,
    /// How long each that counted took, the shortest first. A search counts up to the value it found.
    pub latencies: Vec<u64>,
    /// How many of those that counted took so many steps, one after another: referrals, and the last
    /// request itself.
    pub hops: Vec<u64>,
    /// Requests to nodes that they made in all.
    pub asked: u64,
    /// How many of these failed.
    pub failed: u64,
}

/// What was sent in some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Datagrams, those that were lost included.
    pub datagrams: u64,
    /// Bytes in them, without the headers of UDP and IP.
    pub bytes: u64,
    /// The time, in microseconds.
    pub span: u64,
    /// The same times the number of nodes: microseconds that nodes have lived in it.
    pub lived: u128,
}

/// The state of the network at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Microseconds from when the network had settled.
    pub at: u64,
    /// Nodes that are alive and have joined.
    pub nodes: u64,
    /// Values stored so far.
    pub stored: u64,
    /// Copies of them in all stores, expired ones included until they are deleted.
    pub copies: u64,
    /// Searches that have ended since the last sample.
    pub searched: u64,
    /// How many of these have found their value.
    pub found: u64,
    /// Datagrams sent since the last sample.
    pub datagrams: u64,
    /// Bytes sent since the last sample.
    pub bytes: u64,
}

/// The buckets of one depth, in all tables: those for nodes that share so many leading bits with the
/// table's own. (A table keeps its deepest buckets together; they are told apart here.)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Contacts in all these buckets.
    pub contacts: u64,
    /// How many of these are dead.
    pub dead: u64,
    /// How many contacts there would be if each bucket had all the living nodes that fit in.
    pub room: u64,
}

impl Report {
    /// All lookups, of all phases.
    pub fn lookups(&self) -> Tally {
        self.phases.iter().fold(Tally::default(), |sum, phase| sum.and(&phase.lookups))
    }

    /// All searches for values, of all phases.
    pub fn searches(&self) -> Tally {
        self.phases.iter().fold(Tally::default(), |sum, phase| sum.and(&phase.searches))
    }

    /// How many datagrams and how many bytes a lookup took, both times 100, all of the network's less
    /// what it sends by itself. `None` when something else went on at the time.
    pub fn per_lookup(&self) -> Option<(u64, u64)> {
        let looking = self.looking?;
        let tally = self.lookups();
        let lookups = u128::from(tally.tried + tally.void);
        if lookups == 0 {
            return None;
        }
        let of_its_own =
            |sent: u64| (u128::from(sent) * looking.lived).checked_div(self.idle.lived).unwrap_or(0);
        let each =
            |sent: u64, idle: u64| (u128::from(sent).saturating_sub(of_its_own(idle)) * 100 / lookups) as u64;
        Some((each(looking.datagrams, self.idle.datagrams), each(looking.bytes, self.idle.bytes)))
    }

    /// The share of contacts in tables that are dead, in a million.
    pub fn dead_contacts(&self) -> u64 {
        let (dead, all) = self.table.iter().fold((0, 0), |(dead, all), d| (dead + d.dead, all + d.contacts));
        (dead * 1_000_000).checked_div(all).unwrap_or(0)
    }

    /// Contacts in a table, times 100, on average.
    pub fn contacts_per_table(&self) -> u64 {
        let all: u64 = self.table.iter().map(|depth| depth.contacts).sum();
        (all * 100).checked_div(self.tables).unwrap_or(0)
    }
}

impl Traffic {
    /// Bytes a second that a node sent on average, times 100.
    pub fn bytes_per_second(&self) -> u64 {
        (u128::from(self.bytes) * 100_000_000).checked_div(self.lived).unwrap_or(0) as u64
    }

    /// What was sent since `earlier`, both being counted from the same time.
    pub(super) fn since(&self, earlier: &Traffic) -> Traffic {
        Traffic {
            datagrams: self.datagrams - earlier.datagrams,
            bytes: self.bytes - earlier.bytes,
            span: self.span - earlier.span,
            lived: self.lived - earlier.lived,
        }
    }
}

impl Tally {
    /// How long the given share of them took at most, in a thousand: 500 is the median, 1,000 the longest.
    /// Zero when there are none. (Nearest rank.)
    pub fn latency(&self, thousandths: u64) -> u64 {
        let rank = (self.latencies.len() as u64 * thousandths).div_ceil(1000);
        self.latencies.get(rank.saturating_sub(1) as usize).copied().unwrap_or(0)
    }

    /// How many steps the given share of them took at most, in a thousand.
    pub fn hops(&self, thousandths: u64) -> u64 {
        let rank = (self.hops.iter().sum::<u64>() * thousandths).div_ceil(1000);
        let mut so_far = 0;
        let at = self.hops.iter().position(|&count| {
            so_far += count;
            so_far >= rank
        });
        at.unwrap_or(0) as u64
    }

    /// Steps that they took on average, times 100.
    pub fn mean_hops(&self) -> u64 {
        let steps: u64 = self.hops.iter().zip(0..).map(|(&count, hops): (&u64, u64)| count * hops).sum();
        (steps * 100).checked_div(self.hops.iter().sum()).unwrap_or(0)
    }

    /// Requests that they made on average, times 100.
    pub fn mean_asked(&self) -> u64 {
        (self.asked * 100).checked_div(self.tried).unwrap_or(0)
    }

    /// How many in a million did what they were to; a million when there were none.
    pub fn share_found(&self) -> u64 {
        (self.found * 1_000_000).checked_div(self.tried).unwrap_or(1_000_000)
    }

    pub(super) fn count(&mut self, found: bool, latency: Duration) {
        self.tried += 1;
        self.found += u64::from(found);
        self.latencies.push(latency.as_micros() as u64);
    }

    pub(super) fn count_hops(&mut self, hops: usize) {
        if self.hops.len() <= hops {
            self.hops.resize(hops + 1, 0);
        }
        self.hops[hops] += 1;
    }

    pub(super) fn sort(&mut self) {
        self.latencies.sort_unstable();
    }

    fn and(mut self, other: &Tally) -> Tally {
        self.tried += other.tried;
        self.found += other.found;
        self.void += other.void;
        self.asked += other.asked;
        self.failed += other.failed;
        self.latencies.extend(&other.latencies);
        self.sort();
        if self.hops.len() < other.hops.len() {
            self.hops.resize(other.hops.len(), 0);
        }
        for (sum, more) in self.hops.iter_mut().zip(&other.hops) {
            *sum += more;
        }
        self
    }
}
