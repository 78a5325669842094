//! The peers, and what they are made to do.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use khashmir::reactor::Reactor;
use khashmir::{Config, Contact, Found, Id, NodeKey, NodeOptions, OperationError};

use crate::show::{Progress, Show};

/// One thing for one peer to do.
pub enum Job {
    Contact { from: usize, to: usize },
    Close { from: usize },
    Find { from: usize, to: usize },
    Store { from: usize, key: Id, value: Vec<u8> },
    Get { from: usize, key: Id, value: Vec<u8> },
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Job::Contact { from, to } => write!(f, "peer {from}: contact peer {to}"),
            Job::Close { from } => write!(f, "peer {from}: find close nodes"),
            Job::Find { from, to } => write!(f, "peer {from}: find peer {to}"),
            Job::Store { from, key, .. } => write!(f, "peer {from}: store under {key}"),
            Job::Get { from, key, .. } => write!(f, "peer {from}: find values of {key}"),
        }
    }
}

/// What came of all jobs of one kind.
pub struct Phase {
    pub name: &'static str,
    pub tried: usize,
    pub found: usize,
    /// Why the others were not, and how many for that reason.
    pub failures: BTreeMap<String, usize>,
    pub latencies: Vec<Duration>,
    /// From the first job's start to the last one's end, less what other phases took
    /// in between.
    pub took: Duration,
    pub traffic: Traffic,
}

impl Phase {
    pub fn new(name: &'static str) -> Self {
        Phase {
            name,
            tried: 0,
            found: 0,
            failures: BTreeMap::new(),
            latencies: Vec::new(),
            took: Duration::ZERO,
            traffic: Traffic::default(),
        }
    }

    pub fn is_complete(&self) -> bool {
        self.found == self.tried
    }
}

/// What all peers together have sent.
#[derive(Clone, Copy, Default)]
pub struct Traffic {
    pub requests: u64,
    pub datagrams: u64,
    pub bytes: u64,
}

/// What the outcomes of operations are written into.
#[derive(Default)]
pub struct Outcomes {
    under_way: usize,
    done: Vec<Outcome>,
}

struct Outcome {
    latency: Duration,
    /// Why it found nothing.
    failure: Option<String>,
}

impl Outcomes {
    fn add(&mut self, what: &str, started: Instant, failure: Option<String>) {
        let latency = started.elapsed();
        log::debug!("{what}: {} after {latency:.1?}", failure.as_deref().unwrap_or("done"));
        self.under_way -= 1;
        self.done.push(Outcome { latency, failure });
    }
}

pub struct Network {
    reactor: Reactor<Outcomes>,
    outcomes: Outcomes,
    config: Arc<Config>,
    peers: Vec<(NodeKey, Contact)>,
    /// Resident memory before there were peers, in bytes.
    memory_before: Option<u64>,
    memory_after: Option<u64>,
}

impl Network {
    pub fn new(reactor: Reactor<Outcomes>, config: Arc<Config>) -> Self {
        Network {
            reactor,
            outcomes: Outcomes::default(),
            config,
            peers: Vec::new(),
            memory_before: resident_memory(),
            memory_after: None,
        }
    }

    /// Starts `count` peers, on the ports from `port` on if that is not 0, with
    /// their files in `directory` if there is one.
    pub fn create(
        &mut self,
        count: usize,
        port: u16,
        directory: Option<&Path>,
        show: Show,
    ) -> Result<(), String> {
        if let Some(directory) = directory {
            let cannot = |e| format!("{}: {e}", directory.display());
            std::fs::create_dir_all(directory).map_err(cannot)?;
        }
        let started = Instant::now();
        let progress = show.begin("create peers", count);
        for peer in 0..count {
            let port = if port == 0 { 0 } else { port + peer as u16 };
            let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let options = NodeOptions {
                config: Arc::clone(&self.config),
                id: None,
                store: directory.map(|directory| directory.join(format!("peer-{peer:05}.db"))),
            };
            let cannot = |e| format!("peer {} of {count}, at {addr}: {e}", peer + 1);
            let node = self.reactor.listen(addr, options).map_err(cannot)?;
            let id = self.reactor.id(node).ok_or("a peer has gone")?;
            let addr = self.reactor.local_addr(node).ok_or("a peer has gone")?;
            log::debug!("peer {peer}: {id} at {addr}");
            self.peers.push((node, Contact { id, addr }));
            progress.advance(1);
        }
        let took = started.elapsed();
        progress.end(&[&Phase { tried: count, found: count, took, ..Phase::new("create peers") }]);
        Ok(())
    }

    /// Does these jobs, so many at once, and adds to `phase` what came of them.
    pub fn run(
        &mut self,
        phase: &mut Phase,
        jobs: Vec<Job>,
        at_once: usize,
        progress: &Progress,
    ) -> Result<(), String> {
        let before = self.traffic();
        let started = Instant::now();
        let mut jobs = jobs.into_iter();
        loop {
            while self.outcomes.under_way < at_once
                && let Some(job) = jobs.next()
            {
                self.start(job);
            }
            if self.outcomes.under_way == 0 {
                break;
            }
            self.reactor.turn(&mut self.outcomes, None).map_err(|e| format!("the event loop: {e}"))?;
            progress.advance(self.outcomes.done.len());
            for Outcome { latency, failure } in self.outcomes.done.drain(..) {
                phase.tried += 1;
                phase.latencies.push(latency);
                match failure {
                    None => phase.found += 1,
                    Some(why) => *phase.failures.entry(why).or_default() += 1,
                }
            }
        }
        phase.took += started.elapsed();
        let after = self.traffic();
        phase.traffic.requests += after.requests - before.requests;
        phase.traffic.datagrams += after.datagrams - before.datagrams;
        phase.traffic.bytes += after.bytes - before.bytes;
        Ok(())
    }

    fn start(&mut self, job: Job) {
        self.outcomes.under_way += 1;
        let what = job.to_string();
        log::trace!("{what}");
        let started = Instant::now();
        let reactor = &mut self.reactor;
        match job {
            Job::Contact { from, to } => {
                let ((node, _), (_, to)) = (self.peers[from], self.peers[to]);
                reactor.add_contact(node, to.addr, None, move |_, outcomes, result| {
                    outcomes.add(&what, started, failure(result, |contact| *contact == to));
                });
            }
            Job::Close { from } => {
                let (node, _) = self.peers[from];
                reactor.find_close_nodes(node, None, move |_, outcomes, result| {
                    outcomes.add(&what, started, failure(result, |nodes| !nodes.is_empty()));
                });
            }
            Job::Find { from, to } => {
                let ((node, _), (_, to)) = (self.peers[from], self.peers[to]);
                reactor.find_node(node, to.id, None, move |_, outcomes, result| {
                    outcomes.add(&what, started, failure(result, |nodes| nodes.contains(&to)));
                });
            }
            Job::Store { from, key, value } => {
                let (node, _) = self.peers[from];
                reactor.store_value(node, key, value, None, None, move |_, outcomes, result| {
                    outcomes.add(&what, started, failure(result, |_| true));
                });
            }
            Job::Get { from, key, value } => {
                let (node, _) = self.peers[from];
                let mut found = false;
                reactor.find_values(node, key, None, move |_, outcomes, result| match result {
                    Ok(Found::Values(brought)) => found |= brought.values.contains(&value),
                    last => outcomes.add(&what, started, failure(last, |_| found)),
                });
            }
        }
    }

    /// Leaves the peers to themselves. Says how long the processor worked for that,
    /// where the system tells.
    pub fn idle(&mut self, time: Duration) -> Result<Option<Duration>, String> {
        let before = processor_time();
        self.outcomes.under_way += 1;
        self.reactor.call_later(time, |_, outcomes| outcomes.under_way -= 1);
        while self.outcomes.under_way > 0 {
            self.reactor.turn(&mut self.outcomes, None).map_err(|e| format!("the event loop: {e}"))?;
        }
        let after = processor_time();
        Ok(after.zip(before).map(|(after, before)| after.saturating_sub(before)))
    }

    /// To be called when all is done: how much memory it took.
    pub fn finish(&mut self) {
        self.memory_after = resident_memory();
    }

    /// Bytes of resident memory that a peer has taken, where that can be told.
    pub fn memory_per_peer(&self) -> Option<u64> {
        let grown = self.memory_after?.saturating_sub(self.memory_before?);
        Some(grown / self.peers.len() as u64)
    }

    /// Bytes of resident memory of the whole process.
    pub fn memory(&self) -> Option<u64> {
        self.memory_after
    }

    /// The number of contacts of each peer.
    pub fn contact_counts(&self) -> Vec<usize> {
        self.peers.iter().map(|(node, _)| self.reactor.contacts(*node).len()).collect()
    }

    fn traffic(&mut self) -> Traffic {
        let mut sum = Traffic::default();
        for (node, _) in &self.peers {
            if let Some(stats) = self.reactor.stats(*node) {
                sum.requests += stats.calls_sent;
                sum.datagrams += stats.packets_out;
                sum.bytes += stats.bytes_out;
            }
        }
        sum
    }
}

/// Why this is no success; `None` when it is one.
fn failure<T>(result: Result<T, OperationError>, found: impl FnOnce(&T) -> bool) -> Option<String> {
    match result {
        Ok(outcome) if found(&outcome) => None,
        Ok(_) => Some("not found".into()),
        Err(e) => Some(e.to_string()),
    }
}

/// What this process has in memory, where the system tells (Linux).
fn resident_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// For how long this thread has had a processor, where the system tells (Linux).
fn processor_time() -> Option<Duration> {
    let times = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(Duration::from_nanos(times.split(' ').next()?.parse().ok()?))
}
