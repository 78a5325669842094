//! Nodes on the sockets of this machine, and what they are made to do.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use khashmir::random::{seed_from_number, seeded};
use khashmir::reactor::Reactor;
use khashmir::{Config, Contact, Found, Id, NodeKey, NodeOptions};
use rand::RngExt;

use crate::measure::{Moment, Span};

pub const CONTACTS_EACH: usize = 3;
/// Nodes that join at the same time.
const JOINING_AT_ONCE: usize = 32;

/// Something for a node to do, named by their numbers.
#[derive(Clone, Copy)]
pub enum Job {
    Contact { from: usize, to: usize },
    Close { from: usize },
    Find { from: usize, to: usize },
    Store { from: usize, key: Id, value: [u8; 20] },
    Get { from: usize, key: Id, value: [u8; 20] },
}

/// What the outcomes of operations are noted in.
#[derive(Clone, Copy, Default)]
struct Outcomes {
    under_way: usize,
    /// Operations that ended without what was looked for.
    missed: usize,
}

impl Outcomes {
    fn end(&mut self, found: bool) {
        self.under_way -= 1;
        self.missed += usize::from(!found);
    }
}

pub struct Network {
    reactor: Reactor<Outcomes>,
    outcomes: Outcomes,
    config: Arc<Config>,
    pub nodes: Vec<(NodeKey, Contact)>,
    /// How often the loop has waited and been woken.
    pub turns: u64,
}

/// What all nodes together have sent.
#[derive(Clone, Copy, Default)]
pub struct Traffic {
    pub requests: u64,
    pub datagrams: u64,
    pub bytes: u64,
}

impl Traffic {
    pub fn since(self, before: Traffic) -> Traffic {
        Traffic {
            requests: self.requests - before.requests,
            datagrams: self.datagrams - before.datagrams,
            bytes: self.bytes - before.bytes,
        }
    }
}

impl Network {
    pub fn new(seed: u64) -> Self {
        let reactor = Reactor::with_seed(seed_from_number(seed)).expect("an event loop");
        Network {
            reactor,
            outcomes: Outcomes::default(),
            config: Arc::new(Config::default()),
            nodes: vec![],
            turns: 0,
        }
    }

    /// A node more; its number.
    pub fn listen(&mut self) -> usize {
        let options = NodeOptions { config: Arc::clone(&self.config), id: None, store: None };
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let node = self.reactor.listen(addr, options).expect("a node");
        let id = self.reactor.id(node).expect("a node");
        let addr = self.reactor.local_addr(node).expect("a node");
        self.nodes.push((node, Contact { id, addr }));
        self.nodes.len() - 1
    }

    /// So many nodes, which contact three others each at random and find their neighbours. What the
    /// first took, and what the second.
    pub fn join(&mut self, count: usize, rng: &mut impl RngExt) -> [Span; 2] {
        rlimit::increase_nofile_limit(count as u64 + 64).expect("file descriptors");
        for _ in 0..count {
            self.listen();
        }
        let contacts = (0..count)
            .flat_map(|from| others(rng, count, from).into_iter().map(move |to| Job::Contact { from, to }));
        let contacts: Vec<Job> = contacts.collect();
        let contacts = self.run(contacts, JOINING_AT_ONCE);
        let close = self.run((0..count).map(|from| Job::Close { from }), JOINING_AT_ONCE);
        [contacts, close]
    }

    /// Does these, so many at once.
    pub fn run(&mut self, jobs: impl IntoIterator<Item = Job>, at_once: usize) -> Span {
        let begun = Moment::now();
        let mut jobs = jobs.into_iter();
        loop {
            while self.outcomes.under_way < at_once
                && let Some(job) = jobs.next()
            {
                self.start(job);
            }
            if self.outcomes.under_way == 0 {
                return begun.span();
            }
            self.turn();
        }
    }

    /// Leaves the nodes to themselves.
    pub fn rest(&mut self, time: Duration) -> Span {
        let begun = Moment::now();
        self.outcomes.under_way += 1;
        self.reactor.call_later(time, |_, outcomes| outcomes.end(true));
        while self.outcomes.under_way > 0 {
            self.turn();
        }
        begun.span()
    }

    fn turn(&mut self) {
        self.turns += 1;
        self.reactor.turn(&mut self.outcomes, None).expect("a turn");
    }

    fn start(&mut self, job: Job) {
        self.outcomes.under_way += 1;
        let (reactor, nodes) = (&mut self.reactor, &self.nodes);
        match job {
            Job::Contact { from, to } => {
                let to = nodes[to].1;
                reactor.add_contact(nodes[from].0, to.addr, None, move |_, outcomes, result| {
                    outcomes.end(result.is_ok_and(|contact| contact == to));
                });
            }
            Job::Close { from } => {
                reactor.find_close_nodes(nodes[from].0, None, |_, outcomes, result| {
                    outcomes.end(result.is_ok_and(|nodes| !nodes.is_empty()));
                });
            }
            Job::Find { from, to } => {
                let to = nodes[to].1;
                reactor.find_node(nodes[from].0, to.id, None, move |_, outcomes, result| {
                    outcomes.end(result.is_ok_and(|nodes| nodes.contains(&to)));
                });
            }
            Job::Store { from, key, value } => {
                let value = value.to_vec();
                reactor.store_value(nodes[from].0, key, value, None, None, |_, outcomes, result| {
                    outcomes.end(result.is_ok());
                });
            }
            Job::Get { from, key, value } => {
                let mut found = false;
                reactor.find_values(nodes[from].0, key, None, move |_, outcomes, result| match result {
                    Ok(Found::Values(brought)) => found |= brought.values.iter().any(|v| v[..] == value),
                    Ok(Found::End(_)) => outcomes.end(found),
                    Err(_) => outcomes.end(false),
                });
            }
        }
    }

    /// How many operations have ended without what was looked for, since this was asked last.
    pub fn missed(&mut self) -> usize {
        std::mem::take(&mut self.outcomes.missed)
    }

    pub fn traffic(&self) -> Traffic {
        let mut sum = Traffic::default();
        for stats in self.nodes.iter().filter_map(|(node, _)| self.reactor.stats(*node)) {
            sum.requests += stats.calls_sent;
            sum.datagrams += stats.packets_out;
            sum.bytes += stats.bytes_out;
        }
        sum
    }
}

/// The choices of a run: other numbers than the nodes draw.
pub fn choices(seed: u64) -> impl RngExt {
    let mut seed = seed_from_number(seed);
    seed[31] = 1;
    seeded(seed)
}

/// Three different nodes of `0..count`, at random, without `except`.
pub fn others(rng: &mut impl RngExt, count: usize, except: usize) -> [usize; CONTACTS_EACH] {
    let mut chosen = [except; CONTACTS_EACH];
    for place in 0..chosen.len() {
        while chosen[place] == except || chosen[..place].contains(&chosen[place]) {
            chosen[place] = rng.random_range(0..count);
        }
    }
    chosen
}
