//! The simulation itself: an engine, its hosts, and what is going to happen.

use std::any::Any;
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::digest::Digest;
use super::event::{Event, Events};
use super::network::Conditions;
use crate::contact::Contact;
use crate::context::Routes;
use crate::engine::{Effort, Engine, Event as Told, NodeKey, NodeOptions, OperationKey, Outcome, Stats};
use crate::error::{StartError, StoreError};
use crate::id::Id;
use crate::random::{Random, seed_from_number, seeded};
use crate::time::{Time, UnixTime};

/// A host of a simulation: one node, or one foreign peer, runs on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(pub(super) u32);

/// How a node of a simulation is set up.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// As for any node.
    pub options: NodeOptions,
}

/// Something that is no node of ours, and speaks for itself. Driven as an engine is.
pub trait Peer: Any + Send {
    /// A datagram has come.
    fn receive(&mut self, now: Time, from: SocketAddr, datagram: &[u8]);
    /// When [`handle_timeout`](Self::handle_timeout) is to be called next.
    fn next_deadline(&self) -> Option<Time>;
    /// Does what is due.
    fn handle_timeout(&mut self, now: Time);
    /// Puts the next datagram into `buf`, which is emptied first, and says where to send it.
    fn poll_transmit(&mut self, now: Time, buf: &mut Vec<u8>) -> Option<SocketAddr>;
}

/// Something that the owner of a simulation is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Happening {
    /// The time for which this number was [scheduled](Simulation::schedule) has come.
    Alarm(u64),
    /// An operation has brought something.
    Operation {
        /// Whose it is.
        host: Host,
        /// The operation.
        operation: OperationKey,
        /// What it brought.
        outcome: Outcome,
        /// What it took, at its end.
        effort: Effort,
    },
}

enum Occupant {
    Node(NodeKey),
    Peer(Box<dyn Peer>),
    None,
}

/// A network of nodes in simulated time.
pub struct Simulation {
    engine: Engine,
    events: Events,
    /// What all datagrams go through.
    pub conditions: Conditions,
    hosts: Vec<Occupant>,
    /// The host of each node, by its place in the engine.
    host_of: Vec<u32>,
    /// Foreign peers that may have something to say.
    awake: VecDeque<u32>,
    happenings: VecDeque<Happening>,
    now: Time,
    seed: u64,
    rng: Random,
    digest: Digest,
    sent: u64,
    bytes: u64,
    buffer: Vec<u8>,
}

/// The time of day at which every simulation starts: 2003-03-03 00:00 UTC.
pub const START: UnixTime = UnixTime(1_046_649_600);

/// Host n has the first address of the nth block of 256 from here on: 11.0.0.1, 11.0.1.1, …
const FIRST_BLOCK: u32 = 11 << 16;
/// All blocks below those of 127.0.0.0/8.
const HOSTS: u32 = (127 << 16) - FIRST_BLOCK;
const PORT: u16 = 4444;

struct Seen;

impl Routes for Seen {
    fn local_address(&self, _: IpAddr) -> Option<IpAddr> {
        None
    }
}

impl Simulation {
    /// A simulation without hosts. All that happens in it follows from `seed` and from what is
    /// asked of it.
    ///
    /// # Errors
    ///
    /// When SQLite cannot make a database in memory.
    pub fn new(seed: u64) -> Result<Self, StoreError> {
        Ok(Simulation {
            engine: Engine::new(seed_from_number(seed), START, Box::new(Seen))?,
            events: Events::default(),
            conditions: Conditions::default(),
            hosts: Vec::new(),
            host_of: Vec::new(),
            awake: VecDeque::new(),
            happenings: VecDeque::new(),
            now: Time::ZERO,
            seed,
            rng: seeded(seed_from_number(!seed)),
            digest: Digest::default(),
            sent: 0,
            bytes: 0,
            buffer: Vec::new(),
        })
    }

    // -- hosts

    /// Starts a node on a host of its own.
    ///
    /// # Errors
    ///
    /// As [`Engine::add_node`].
    pub fn add_node(&mut self, setup: Setup) -> Result<Host, StartError> {
        let host = Host(self.hosts.len() as u32);
        let node = self.engine.add_node(self.now, address(host), setup.options)?;
        self.hosts.push(Occupant::Node(node));
        self.note_host(node, host);
        Ok(host)
    }

    /// Puts a foreign peer on a host of its own. `make` is told the host's address.
    pub fn add_peer(&mut self, make: impl FnOnce(SocketAddr) -> Box<dyn Peer>) -> Host {
        let host = Host(self.hosts.len() as u32);
        self.hosts.push(Occupant::Peer(make(address(host))));
        self.awake.push_back(host.0);
        host
    }

    /// Stops a node as its program would, or takes a foreign peer away. Datagrams to the host
    /// are lost from now on.
    ///
    /// # Errors
    ///
    /// When its contacts could not be saved; the node is gone all the same.
    pub fn remove(&mut self, host: Host) -> Result<(), StoreError> {
        match std::mem::replace(&mut self.hosts[host.0 as usize], Occupant::None) {
            Occupant::Node(node) => self.engine.remove_node(self.now, node),
            Occupant::Peer(_) | Occupant::None => Ok(()),
        }
    }

    /// Ends a node, or a foreign peer, as a crash does.
    ///
    /// # Errors
    ///
    /// As [`Engine::crash_node`].
    pub fn crash(&mut self, host: Host) -> Result<(), StoreError> {
        match std::mem::replace(&mut self.hosts[host.0 as usize], Occupant::None) {
            Occupant::Node(node) => self.engine.crash_node(self.now, node),
            Occupant::Peer(_) | Occupant::None => Ok(()),
        }
    }

    /// Where a host is.
    pub fn address(&self, host: Host) -> SocketAddr {
        address(host)
    }

    /// The node that runs on a host.
    pub fn node(&self, host: Host) -> Option<NodeKey> {
        match self.hosts.get(host.0 as usize) {
            Some(Occupant::Node(node)) => Some(*node),
            _ => None,
        }
    }

    /// The foreign peer that runs on a host, to be asked or told something; what it then has to
    /// say goes out as time goes on. `None`: there is none, or it is not a `P`.
    pub fn peer_mut<P: Peer>(&mut self, host: Host) -> Option<&mut P> {
        let Some(Occupant::Peer(peer)) = self.hosts.get_mut(host.0 as usize) else { return None };
        let peer: &mut dyn Any = peer.as_mut();
        let peer = peer.downcast_mut()?;
        self.awake.push_back(host.0);
        Some(peer)
    }

    /// The node on a host, as others know it.
    pub fn contact(&self, host: Host) -> Option<Contact> {
        Some(Contact { id: self.engine.id(self.node(host)?)?, addr: address(host) })
    }

    /// Counts and sizes of a host's node.
    pub fn stats(&self, host: Host) -> Option<Stats> {
        self.engine.stats(self.node(host)?)
    }

    /// The nodes themselves.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Puts a contact into the table of a host's node, if there is room, as if it had answered.
    pub fn assume_contact(&mut self, host: Host, contact: Contact) {
        if let Some(node) = self.node(host) {
            self.engine.assume_contact(self.now, node, contact);
        }
    }

    // -- operations

    /// As [`Engine::add_contact`]. `None`: no node runs there.
    pub fn add_contact(&mut self, host: Host, addr: SocketAddr) -> Option<OperationKey> {
        let node = self.node(host)?;
        Some(self.engine.add_contact(self.now, node, addr, None))
    }

    /// As [`Engine::find_close_nodes`].
    pub fn find_close_nodes(&mut self, host: Host) -> Option<OperationKey> {
        let node = self.node(host)?;
        Some(self.engine.find_close_nodes(self.now, node, None))
    }

    /// As [`Engine::find_node`].
    pub fn find_node(&mut self, host: Host, id: Id) -> Option<OperationKey> {
        let node = self.node(host)?;
        Some(self.engine.find_node(self.now, node, id, None))
    }

    /// As [`Engine::store_value`].
    pub fn store_value(&mut self, host: Host, key: Id, value: Vec<u8>) -> Option<OperationKey> {
        let node = self.node(host)?;
        Some(self.engine.store_value(self.now, node, key, value, None))
    }

    /// As [`Engine::find_values`].
    pub fn find_values(&mut self, host: Host, key: Id) -> Option<OperationKey> {
        let node = self.node(host)?;
        Some(self.engine.find_values(self.now, node, key, None))
    }

    // -- time

    /// What time it is.
    pub fn now(&self) -> Time {
        self.now
    }

    /// Has [`next`](Self::next) tell of `number` at the time `at`.
    pub fn schedule(&mut self, at: Time, number: u64) {
        self.events.insert(at.max(self.now), Event::Alarm(number));
    }

    /// Lets time go on until something happens that its owner is to be told, but no further than
    /// `until`; `None`: it is `until`, and nothing has.
    pub fn next(&mut self, until: Time) -> Option<Happening> {
        loop {
            self.drain();
            if let Some(happening) = self.happenings.pop_front() {
                return Some(happening);
            }
            let next = self.events.next_time().into_iter().chain(self.engine.next_deadline()).min();
            let Some(next) = next.filter(|&next| next <= until) else {
                self.now = self.now.max(until);
                return None;
            };
            self.now = self.now.max(next);
            while let Some(event) = self.events.take(self.now) {
                self.happen(event);
            }
            self.engine.handle_timeout(self.now);
        }
    }

    /// Lets time go on for `span`; what happens goes by unheard.
    pub fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while self.next(end).is_some() {}
    }

    // -- what happened

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Datagrams sent so far, and the bytes in them.
    pub fn traffic(&self) -> (u64, u64) {
        (self.sent, self.bytes)
    }

    /// Names everything that has happened so far: each datagram and its time, each outcome.
    pub fn digest(&self) -> String {
        self.digest.text()
    }

    // -- inside

    fn note_host(&mut self, node: NodeKey, host: Host) {
        let place = node.place();
        if self.host_of.len() <= place {
            self.host_of.resize(place + 1, u32::MAX);
        }
        self.host_of[place] = host.0;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrival { from, to, bytes } => {
                let Some(host) = host_at(to) else { return };
                match self.hosts.get_mut(host.0 as usize) {
                    Some(Occupant::Node(node)) => self.engine.receive(self.now, *node, from, &bytes),
                    Some(Occupant::Peer(peer)) => {
                        peer.receive(self.now, from, &bytes);
                        self.awake.push_back(host.0);
                    }
                    Some(Occupant::None) | None => {}
                }
            }
            Event::Wake(host) => {
                if let Some(Occupant::Peer(peer)) = self.hosts.get_mut(host as usize)
                    && peer.next_deadline().is_some_and(|due| due <= self.now)
                {
                    peer.handle_timeout(self.now);
                    self.awake.push_back(host);
                }
            }
            Event::Alarm(number) => self.happenings.push_back(Happening::Alarm(number)),
        }
    }

    /// Lets everybody say what they have to say now.
    fn drain(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        while let Some(node) = self.engine.poll_ready() {
            let host = Host(self.host_of[node.place()]);
            while let Some(to) = self.engine.poll_transmit(self.now, node, &mut buffer) {
                self.send(host, to, &buffer);
            }
        }
        while let Some(Told::Operation { node, operation, outcome, effort }) = self.engine.poll_event() {
            let host = Host(self.host_of[node.place()]);
            self.happenings.push_back(Happening::Operation { host, operation, outcome, effort });
        }
        while let Some(host) = self.awake.pop_front() {
            let mut said = Vec::new();
            if let Some(Occupant::Peer(peer)) = self.hosts.get_mut(host as usize) {
                while let Some(to) = peer.poll_transmit(self.now, &mut buffer) {
                    said.push((to, buffer.clone()));
                }
                if let Some(due) = peer.next_deadline() {
                    self.events.insert(due.max(self.now), Event::Wake(host));
                }
            }
            for (to, bytes) in said {
                self.send(Host(host), to, &bytes);
            }
        }
        self.buffer = buffer;
    }

    fn send(&mut self, host: Host, to: SocketAddr, bytes: &[u8]) {
        self.sent += 1;
        self.bytes += bytes.len() as u64;
        self.digest.number(self.now.as_micros());
        self.digest.number(host.0.into());
        self.digest.number(host_at(to).map_or(u64::MAX, |host| host.0.into()));
        self.digest.bytes(bytes);
        if let Some(at) = self.conditions.arrival(self.now, &mut self.rng) {
            let arrival = Event::Arrival { from: address(host), to, bytes: bytes.to_vec() };
            self.events.insert(at, arrival);
        }
    }
}

fn address(host: Host) -> SocketAddr {
    debug_assert!(host.0 < HOSTS);
    SocketAddr::new(Ipv4Addr::from_bits((FIRST_BLOCK + host.0) << 8 | 1).into(), PORT)
}

fn host_at(addr: SocketAddr) -> Option<Host> {
    let IpAddr::V4(ip) = addr.ip().to_canonical() else { return None };
    let bits = ip.to_bits();
    let number = (bits >> 8).checked_sub(FIRST_BLOCK)?;
    (bits & 0xff == 1 && addr.port() == PORT && number < HOSTS).then_some(Host(number))
}
