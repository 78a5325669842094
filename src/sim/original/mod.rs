//! Peers of 2003: they do as the Python Khashmir of March 2003 did, as far as others can tell.
//!
//! Its slips are kept: a lost datagram is noticed when the next one comes, which may be never;
//! a silent node costs 60 s; values go to the farthest of the nodes found; a failure counts
//! against whoever is nearest in the table. Let go, because nothing known depends on it: further keys in
//! contacts, which the original kept and passed on, names of hosts, and the exact words of errors. What
//! others can make it keep is bounded, which the original's was not.
//!
//! ```
//! use std::time::Duration;
//! use khashmir::Id;
//! use khashmir::sim::{Setup, Simulation, original::{Original, Outcome}};
//!
//! let mut sim = Simulation::new(1)?;
//! let ours = sim.add_node(Setup::default()).expect("a node");
//! let there = sim.address(ours);
//! let theirs = sim.add_peer(|addr| Box::new(Original::new(addr, 1)));
//! let now = sim.now();
//! sim.peer_mut::<Original>(theirs).expect("a peer").join(now, there);
//! sim.run(Duration::from_secs(5));
//! let joined = sim.peer_mut::<Original>(theirs).and_then(Original::poll_outcome);
//! assert!(matches!(joined, Some((_, Outcome::Nodes(_)))));
//! # Ok::<(), khashmir::StoreError>(())
//! ```

#[doc(hidden)]
pub mod connection;
mod links;
mod messages;
mod requests;
mod search;
mod serve;
mod table;
mod values;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use self::links::Links;
use self::requests::{Call, Purpose, TID_BYTES};
use self::search::{Goal, Search, Storing};
use self::table::Table;
use self::values::Values;
use super::Peer;
use crate::contact::Contact;
use crate::id::{ID_BYTES, Id};
use crate::random::{Random, seed_from_number, seeded};
use crate::time::Time;

/// What stands for the id of a node while it is not known.
const UNKNOWN: Id = Id::new([0; ID_BYTES]);
/// Buckets not used for this long are refreshed.
const STALENESS: Duration = Duration::from_secs(60);

/// Names an operation of one [`Original`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Operation(u64);

/// What an operation of an [`Original`] has brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Whether the contact has answered; the end of adding one, and of joining when it has not.
    Contact(bool),
    /// The nearest nodes heard of, nearest first, dead ones among them; or just the one that
    /// was looked for. The end of a search for nodes, and of joining.
    Nodes(Vec<Contact>),
    /// Values not told before; an empty list is the end of a search for values.
    Values(Vec<Vec<u8>>),
    /// How many nodes have said that they took the value; the end of a store.
    Stored(usize),
}

#[derive(Debug)]
enum Running {
    Search(Search),
    Storing(Storing),
}

/// A peer of 2003, for a host of a [`Simulation`](super::Simulation).
///
/// Commands return at once and name an operation; what comes of it is taken with
/// [`poll_outcome`](Self::poll_outcome). A malformed answer can leave an operation without an
/// end, as it did in 2003.
#[derive(Debug)]
pub struct Original {
    own: Contact,
    rng: Random,
    links: Links,
    table: Table,
    values: Values,
    calls: BTreeMap<[u8; TID_BYTES], Call>,
    /// When each call is given up, in order.
    patience: VecDeque<(Time, [u8; TID_BYTES])>,
    running: BTreeMap<Operation, Running>,
    operations: u64,
    outcomes: VecDeque<(Operation, Outcome)>,
}

impl Original {
    /// A peer at `addr` that knows nobody. All that is random about it follows from `seed`.
    /// Its clock begins when the simulation's does.
    pub fn new(addr: SocketAddr, seed: u64) -> Self {
        let mut rng = seeded(seed_from_number(seed));
        let id = Id::random(&mut rng);
        Original {
            own: Contact { id, addr },
            rng,
            links: Links::default(),
            table: Table::new(Time::ZERO, id),
            values: Values::new(Time::ZERO),
            calls: BTreeMap::new(),
            patience: VecDeque::new(),
            running: BTreeMap::new(),
            operations: 0,
            outcomes: VecDeque::new(),
        }
    }

    /// The same peer by another id, and with an empty table.
    #[must_use]
    pub fn with_id(mut self, id: Id) -> Self {
        self.own.id = id;
        self.table = Table::new(Time::ZERO, id);
        self
    }

    // -- what it knows

    /// Itself, as others know it.
    pub fn contact(&self) -> Contact {
        self.own
    }

    /// What is in its table.
    pub fn contacts(&self) -> impl Iterator<Item = Contact> {
        self.table.contacts()
    }

    /// How many values it holds.
    pub fn values(&self) -> usize {
        self.values.len()
    }

    /// Whether it holds this value under this key.
    pub fn holds(&self, key: &Id, value: &[u8]) -> bool {
        self.values.of(key.as_bytes()).any(|held| held == value)
    }

    /// Requests of its own that wait for an answer.
    pub fn calls(&self) -> usize {
        self.calls.len()
    }

    /// The next thing that an operation has brought, and which one it was.
    pub fn poll_outcome(&mut self) -> Option<(Operation, Outcome)> {
        self.outcomes.pop_front()
    }

    // -- commands

    /// Puts a contact into its table, if there is room, as if it had answered.
    pub fn assume_contact(&mut self, now: Time, contact: Contact) {
        self.table.insert(now, contact, true);
    }

    /// Asks who is at `addr`, and takes him into the table.
    pub fn add_contact(&mut self, now: Time, addr: SocketAddr) -> Operation {
        let operation = self.operation();
        self.ping(now, addr, UNKNOWN, Purpose::Contact { operation, joins: false });
        operation
    }

    /// The same, and then [looks for nodes close to itself](Self::find_close_nodes).
    pub fn join(&mut self, now: Time, addr: SocketAddr) -> Operation {
        let operation = self.operation();
        self.ping(now, addr, UNKNOWN, Purpose::Contact { operation, joins: true });
        operation
    }

    /// Looks for the nodes nearest to the id after its own.
    pub fn find_close_nodes(&mut self, now: Time) -> Operation {
        let operation = self.operation();
        self.search_close(now, operation);
        operation
    }

    /// Looks for the node with this id, or for those nearest to it.
    pub fn find_node(&mut self, now: Time, id: Id) -> Operation {
        let operation = self.operation();
        self.search(now, operation, id, Goal::Nodes);
        operation
    }

    /// Looks for nodes near to the key and gives the value to three of them.
    pub fn store_value(&mut self, now: Time, key: Id, value: Vec<u8>) -> Operation {
        let operation = self.operation();
        self.search(now, operation, key, Goal::Store(value));
        operation
    }

    /// Looks for values, its own first.
    pub fn find_values(&mut self, now: Time, key: Id) -> Operation {
        let operation = self.operation();
        let own: Vec<Vec<u8>> = self.values.of(key.as_bytes()).map(<[u8]>::to_vec).collect();
        if !own.is_empty() {
            self.outcomes.push_back((operation, Outcome::Values(own.clone())));
        }
        self.search(now, operation, key, Goal::Values(own));
        operation
    }

    /// Looks for a random id in each bucket that was not used for a minute, or in all. The
    /// original did so only when its program asked for it.
    pub fn refresh_table(&mut self, now: Time, all: bool) -> Vec<Operation> {
        let before = Time::from_micros(now.since(Time::ZERO + STALENESS).as_micros() as u64);
        if !all && now < Time::ZERO + STALENESS {
            return Vec::new();
        }
        let stale = self.table.stale((!all).then_some(before), &mut self.rng);
        stale.into_iter().map(|id| self.find_node(now, id)).collect()
    }

    fn operation(&mut self) -> Operation {
        self.operations += 1;
        Operation(self.operations)
    }
}

impl Peer for Original {
    fn receive(&mut self, now: Time, from: SocketAddr, datagram: &[u8]) {
        if let Some(mut inbox) = self.links.receive(now, from, datagram, &mut self.rng) {
            let read = self.read(now, from, &mut inbox);
            self.links.keep(now, from, read.ok().map(|()| inbox));
        }
    }

    fn next_deadline(&self) -> Option<Time> {
        let patience = self.patience.front().map(|(at, _)| *at);
        [patience, self.links.next_deadline(), self.values.next_deadline()].into_iter().flatten().min()
    }

    fn handle_timeout(&mut self, now: Time) {
        self.give_up(now);
        self.values.expire(now);
    }

    fn poll_transmit(&mut self, now: Time, buf: &mut Vec<u8>) -> Option<SocketAddr> {
        self.links.transmit(now, buf)
    }
}
