//! All the tables.

use super::{calls, lossy, outage, shared};

/// How often each kind of run is made, with seeds from 0 on.
pub struct Extent {
    /// Transfers in rows that have a limit, and in others.
    limited: u64,
    lossy: u64,
    calls: u64,
    outage: u64,
    shared: u64,
    shared_rows: Vec<shared::Row>,
}

impl Extent {
    /// So many of each, fewer of those that take long.
    pub fn full(seeds: u64) -> Self {
        let [calls, shared] = [10, 20].map(|part| seeds.div_ceil(part));
        Extent { limited: seeds, lossy: seeds, calls, outage: seeds, shared, shared_rows: shared::rows() }
    }

    /// What a test can repeat.
    pub fn brief() -> Self {
        Extent {
            limited: 100,
            lossy: 20,
            calls: 2,
            outage: 100,
            shared: 1,
            shared_rows: shared::brief_rows(),
        }
    }
}

/// Prints the tables, with those rows whose name contains `wanted`.
pub fn tables(wanted: &str, extent: &Extent, mut print: impl FnMut(&str)) {
    let wanted = |name: &str| name.contains(wanted);
    let Extent { limited, lossy, calls, outage, shared, shared_rows } = extent;
    let seeds = |row: &lossy::Row| if row.limit.is_some() { *limited } else { *lossy };
    table(
        &format!(
            "50 ms one way, {limited} seeds, {lossy} where there is no limit: ms until all has arrived, \
             datagrams each way, bytes sent again"
        ),
        &lossy::head(),
        lossy::rows().iter().filter(|row| wanted(row.name)).map(|row| row.line(&row.figures(seeds(row)))),
        &mut print,
    );
    table(
        &format!("200 calls, one after another, {calls} seeds: ms, and datagrams for each"),
        &calls::head(),
        calls::rows().iter().filter(|row| wanted(row.name)).map(|row| row.line(*calls)),
        &mut print,
    );
    table(
        &format!("The network is out for 30 s, {outage} seeds: ms after its return"),
        &outage::head(),
        outage::rows().iter().filter(|row| wanted(row.name)).map(|row| row.line(*outage)),
        &mut print,
    );
    table(
        "Several send all they can through one line, 50 ms one way",
        "",
        shared_rows.iter().filter(|row| wanted(row.name)).map(|row| row.report(*shared)),
        &mut print,
    );
}

/// A table, if there is anything in it.
fn table(title: &str, head: &str, lines: impl Iterator<Item = String>, print: &mut impl FnMut(&str)) {
    let mut lines = lines.peekable();
    if lines.peek().is_some() {
        print(title);
        print(head);
        lines.for_each(|line| print(line.trim_end()));
        print("");
    }
}

/// Prints every datagram of a run of the first row whose name contains `name`. False: there is none.
pub fn trace(name: &str, seed: u64) -> bool {
    if let Some(row) = lossy::rows().iter().find(|row| row.name.contains(name)) {
        row.trace(seed);
    } else if let Some(row) = calls::rows().iter().find(|row| row.name.contains(name)) {
        row.trace(seed);
    } else if let Some(row) = outage::rows().iter().find(|row| row.name.contains(name)) {
        row.trace(seed);
    } else if let Some(row) = shared::rows().iter().find(|row| row.name.contains(name)) {
        row.trace(seed);
    } else {
        return false;
    }
    true
}
