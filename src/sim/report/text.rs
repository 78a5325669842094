//! How reports look in print.

use std::fmt;

use super::{Report, Sample, Tally};

/// Samples that are printed at most; of more, evenly many are left out.
const SAMPLES: usize = 48;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "scenario {}: {} nodes, seed {}", self.name, self.nodes, self.seed)?;
        let (span, trip) = (Seconds(self.span), Millis(self.round_trip));
        writeln!(
            f,
            "virtual time: {span} s; the usual round trip: {trip} ms; crashed nodes: {}",
            self.crashed
        )?;
        self.tally(f, "joined", &self.joins)?;
        for phase in &self.phases {
            let when = if phase.name == "all" { String::new() } else { format!(" ({})", phase.name) };
            self.tally(f, &format!("nodes found{when}"), &phase.lookups)?;
            self.tally(f, &format!("values found{when}"), &phase.searches)?;
        }
        self.tally(f, "values stored", &self.stores)?;
        if let Some((datagrams, bytes)) = self.per_lookup() {
            let (datagrams, bytes) = (Hundredths(datagrams), Hundredths(bytes));
            writeln!(f, "a lookup of a node: {datagrams} datagrams, {bytes} bytes in them")?;
        }
        for (what, traffic) in [("at rest", self.idle), ("since then", self.busy)] {
            let rate = Hundredths(traffic.bytes_per_second());
            let (datagrams, span) = (traffic.datagrams, Seconds(traffic.span));
            writeln!(f, "sent {what}: {rate} bytes/s per node, {datagrams} datagrams in {span} s")?;
        }
        self.tables(f)?;
        self.series(f)?;
        write!(f, "digest: {}", self.digest)
    }
}

impl Report {
    /// What a [`row`](Self::row) holds.
    pub fn head() -> String {
        let names = [
            "scenario",
            "nodes",
            "seed",
            "found",
            "hops",
            "asked",
            "datagrams",
            "bytes",
            "p50",
            "p90",
            "p99",
            "p99.9",
            "max",
            "stored",
            "values",
            "B/s",
            "dead",
            "digest",
        ];
        line(&names.map(str::to_owned))
    }

    /// The most important of it in a line, for a table of many, with phases in a line for each: nodes
    /// found, of how many; mean hops and requests; mean datagrams and bytes; milliseconds within which
    /// shares of the lookups have ended; values stored, and values found; bytes a second that a node
    /// sent on average; how many percent of contacts are dead.
    pub fn row(&self) -> String {
        let lines = self.phases.iter().map(|phase| {
            let Report { name, nodes, seed, digest, .. } = self;
            let name = if phase.name == "all" { name.clone() } else { format!("{name}/{}", phase.name) };
            let (lookups, searches) = (&phase.lookups, &phase.searches);
            let (datagrams, bytes) = self.per_lookup().unzip();
            let each = |each: Option<u64>| each.map_or_else(|| "-".to_owned(), hundredths);
            let [p50, p90, p99, p999, max] =
                [500, 900, 990, 999, 1000].map(|share| (lookups.latency(share) / 1000).to_string());
            line(&[
                name,
                nodes.to_string(),
                seed.to_string(),
                of(lookups),
                hundredths(lookups.mean_hops()),
                hundredths(lookups.mean_asked()),
                each(datagrams),
                each(bytes),
                p50,
                p90,
                p99,
                p999,
                max,
                of(&self.stores),
                of(searches),
                hundredths(self.busy.bytes_per_second()),
                hundredths(self.dead_contacts() / 100),
                digest.clone(),
            ])
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    fn tally(&self, f: &mut fmt::Formatter<'_>, what: &str, tally: &Tally) -> fmt::Result {
        if tally.tried + tally.void == 0 {
            return Ok(());
        }
        write!(f, "{what}: {}", of(tally))?;
        if tally.void > 0 {
            write!(f, " (and {} that do not count)", tally.void)?;
        }
        writeln!(f)?;
        let shares = [("median", 500), ("90 %", 900), ("99 %", 990), ("99.9 %", 999), ("all", 1000)];
        write!(f, "  within, ms (round trips):")?;
        for (share, thousandths) in shares {
            let latency = tally.latency(thousandths);
            let trips = (latency * 100).checked_div(self.round_trip).unwrap_or(0);
            write!(f, " {share} {} ({})", Millis(latency), Hundredths(trips))?;
        }
        writeln!(f)?;
        if !tally.hops.is_empty() {
            let (mean, asked) = (Hundredths(tally.mean_hops()), Hundredths(tally.mean_asked()));
            let failed = Hundredths((tally.failed * 100).checked_div(tally.tried).unwrap_or(0));
            write!(f, "  {asked} requests each, of which {failed} fail; {mean} hops:")?;
            for (hops, count) in tally.hops.iter().enumerate().filter(|(_, count)| **count > 0) {
                write!(f, " {hops}: {count}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }

    fn tables(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mean, dead) = (Hundredths(self.contacts_per_table()), Hundredths(self.dead_contacts() / 100));
        writeln!(f, "{} tables: {mean} contacts on average, {dead} % of them dead", self.tables)?;
        writeln!(f, "  {:>5} {:>9} {:>9} {:>7}", "depth", "contacts", "of", "dead %")?;
        for (depth, row) in self.table.iter().enumerate().filter(|(_, row)| row.room + row.contacts > 0) {
            let mean = |all: u64| Hundredths((all * 100).checked_div(self.tables).unwrap_or(0)).to_string();
            let dead = Hundredths((row.dead * 10_000).checked_div(row.contacts).unwrap_or(0)).to_string();
            writeln!(f, "  {depth:>5} {:>9} {:>9} {dead:>7}", mean(row.contacts), mean(row.room))?;
        }
        Ok(())
    }

    fn series(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.samples.is_empty() {
            return Ok(());
        }
        let lot = self.samples.len().div_ceil(SAMPLES);
        writeln!(f, "over time:")?;
        writeln!(
            f,
            "  {:>9} {:>7} {:>8} {:>8} {:>15} {:>10} {:>12}",
            "second", "nodes", "stored", "copies", "values found", "datagrams", "bytes"
        )?;
        for lot in self.samples.chunks(lot) {
            let sum = |of: fn(&Sample) -> u64| lot.iter().map(of).sum::<u64>();
            let found = format!("{}/{}", sum(|s| s.found), sum(|s| s.searched));
            let Some(last) = lot.last() else { continue };
            writeln!(
                f,
                "  {:>9} {:>7} {:>8} {:>8} {found:>15} {:>10} {:>12}",
                last.at / 1_000_000,
                last.nodes,
                last.stored,
                last.copies,
                sum(|s| s.datagrams),
                sum(|s| s.bytes),
            )?;
        }
        Ok(())
    }
}

/// A line of a table.
fn line(columns: &[String; 18]) -> String {
    const WIDTHS: [usize; 17] = [22, 6, 4, 9, 5, 6, 9, 8, 5, 5, 6, 6, 6, 9, 11, 7, 6];
    let mut line = String::new();
    for (at, (column, width)) in columns.iter().zip(WIDTHS).enumerate() {
        let column = if at == 0 { format!("{column:width$}") } else { format!(" {column:>width$}") };
        line.push_str(&column);
    }
    format!("{line}  {}", columns[17])
}

fn hundredths(number: u64) -> String {
    Hundredths(number).to_string()
}

/// How many of how many.
fn of(tally: &Tally) -> String {
    format!("{}/{}", tally.found, tally.tried)
}

/// A number that was multiplied by 100.
struct Hundredths(u64);

impl fmt::Display for Hundredths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

/// Microseconds, to be read as milliseconds.
struct Millis(u64);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 / 1000, self.0 / 100 % 10)
    }
}

/// Microseconds, to be read as seconds.
struct Seconds(u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 / 1_000_000, self.0 / 100_000 % 10)
    }
}
