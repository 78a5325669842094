//! The simulation itself: an engine, its hosts, and what is going to happen.

use std::any::Any;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::digest::Digest;
use super::event::{Event, Events, Flights};
use super::line::Line;
use super::link::{Loss, Network};
use super::outcome;
use super::place::{Family, Place};
use super::seed::Failure;
use crate::context::Routes;
use crate::engine::{Effort, Engine, Event as Told, NodeKey, NodeOptions, OperationKey, Outcome};
use crate::error::StoreError;
use crate::id::Id;
use crate::random::{seed_from_number, seeded};
use crate::time::{Time, UnixTime};

/// A host of a simulation: one node, or one foreign peer, runs on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(pub(super) u32);

impl Host {
    /// Its number: hosts are numbered as they are added, from 0 on.
    pub fn number(self) -> usize {
        self.0 as usize
    }
}

/// How a node of a simulation is set up.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// As for any node. A file survives a crash of the program only
    /// ([`Durability::Program`](crate::Durability::Program)), whatever the settings say: simulated
    /// machines lose no power.
    pub options: NodeOptions,
    /// Where it runs.
    pub place: Place,
}

/// Something that is no node of ours, and speaks for itself. Driven as an engine is.
pub trait Peer: Any + Send {
    /// A datagram has come.
    fn receive(&mut self, now: Time, from: SocketAddr, datagram: &[u8]);
    /// When [`handle_timeout`](Self::handle_timeout) is to be called next. After that call it must be
    /// another time, later than now, or time does not go on.
    fn next_deadline(&self) -> Option<Time>;
    /// Does what is due.
    fn handle_timeout(&mut self, now: Time);
    /// Puts the next datagram into `buf`, which is emptied first, and says where to send it. It is called
    /// until it returns `None`.
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

/// Datagrams that were lost, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Larger than [`Conditions::max_datagram`](super::Conditions::max_datagram).
    pub too_large: u64,
    /// Sent to an address that no host has, or that its sender cannot reach.
    pub nowhere: u64,
    /// A partition was in the way, or one of the hosts was cut off.
    pub cut: u64,
    /// No room in the queue of the sender's line.
    pub upload: u64,
    /// By chance.
    pub chance: u64,
    /// In a burst.
    pub burst: u64,
    /// No room in the queue of the receiver's line.
    pub download: u64,
    /// Nothing runs on the host, or not at that port.
    pub down: u64,
    /// The receiver's translator did not let it in.
    pub translation: u64,
    /// No room in the socket's buffer of a program that stands still.
    pub frozen: u64,
}

pub(super) enum Occupant {
    Node(NodeKey),
    Peer(Box<Foreign>),
    None,
}

pub(super) struct Foreign {
    pub peer: Box<dyn Peer>,
    /// The earliest time for which a wake is among the events.
    pub armed: Option<Time>,
}

/// What the owner of a simulation does to a host, as numbers for the digest.
#[derive(Clone, Copy)]
pub(super) enum Deed {
    Start = 1,
    Stop = 2,
    Crash = 3,
    Freeze = 4,
    CutOff = 5,
    BringBack = 6,
    Part = 7,
    Heal = 8,
}

/// What is kept for each host: little, for there may be a million, and most of them gone.
pub(super) struct Slot {
    pub occupant: Occupant,
    /// How it was set up, for its next start.
    pub setup: Option<Box<Setup>>,
    /// The id that it had when it stopped.
    pub id: Option<Box<Id>>,
    /// What is particular about it.
    pub line: Option<Box<Line>>,
    pub region: u16,
    pub family: Family,
    pub socket_buffer: u32,
}

/// A network of nodes in simulated time.
///
/// See the [module](super) for what it is for. Hosts are added with [`add_node`](Self::add_node), time
/// goes on in [`next`](Self::next) and in what is built on it.
pub struct Simulation {
    pub(super) engine: Engine,
    pub(super) events: Events,
    pub(super) flights: Flights,
    pub(super) network: Network,
    pub(super) hosts: Vec<Slot>,
    /// The host of each node, by its place in the engine.
    host_of: Vec<Host>,
    /// Foreign peers that may have something to say.
    pub(super) awake: VecDeque<Host>,
    /// Nodes that may, though the engine has named them already.
    thawed: Vec<(Host, NodeKey)>,
    pub(super) happenings: VecDeque<Happening>,
    pub(super) now: Time,
    seed: u64,
    pub(super) digest: Digest,
    pub(super) sent: u64,
    pub(super) bytes: u64,
    pub(super) losses: Losses,
    buffer: Vec<u8>,
    pub(super) failure: Failure,
}

/// The time of day at which every simulation starts: 2003-03-03 00:00 UTC.
pub const START: UnixTime = UnixTime(1_046_649_600);

struct NoRoutes;

impl Routes for NoRoutes {
    fn local_address(&self, _: IpAddr) -> Option<IpAddr> {
        None
    }
}

impl Simulation {
    /// A simulation without hosts. All that happens in it follows from `seed` and from what is
    /// asked of it. When the thread panics with it at hand, the seed is printed, and how to use it
    /// again (see [`seed_or`](super::seed_or)).
    ///
    /// # Errors
    ///
    /// When SQLite cannot make a database in memory.
    pub fn new(seed: u64) -> Result<Self, StoreError> {
        Ok(Simulation {
            engine: Engine::new(seed_from_number(seed), START, Box::new(NoRoutes))?,
            events: Events::default(),
            flights: Flights::default(),
            network: Network::new(seed, seeded(seed_from_number(!seed))),
            hosts: Vec::new(),
            host_of: Vec::new(),
            awake: VecDeque::new(),
            thawed: Vec::new(),
            happenings: VecDeque::new(),
            now: Time::ZERO,
            seed,
            digest: Digest::default(),
            sent: 0,
            bytes: 0,
            losses: Losses::default(),
            buffer: Vec::new(),
            failure: Failure::new(seed),
        })
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
            if let Some(happening) = self.happenings.pop_front() {
                return Some(happening);
            }
            if !self.step(until) && self.happenings.is_empty() {
                return None;
            }
        }
    }

    /// Lets time go on for `span`; what happens goes by unheard. Nodes always have
    /// something to do sooner or later, so the longest spans do not end in practice.
    pub fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while self.next(end).is_some() {}
    }

    /// Does what is to be done now, and then all that happens at the next moment at which anything
    /// does. False: that would be after `until`, which it is now.
    pub(super) fn step(&mut self, until: Time) -> bool {
        self.drain();
        let next = self.events.next_time().into_iter().chain(self.engine.next_deadline()).min();
        let Some(next) = next.filter(|&next| next <= until) else {
            self.now = self.now.max(until);
            return false;
        };
        self.now = self.now.max(next);
        while let Some(event) = self.events.take(self.now) {
            self.happen(event);
        }
        self.engine.handle_timeout(self.now);
        self.drain();
        true
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

    /// Datagrams lost so far.
    pub fn losses(&self) -> Losses {
        self.losses
    }

    /// Datagrams that are under way or wait for a frozen program.
    pub fn under_way(&self) -> usize {
        self.flights.len()
    }

    /// Names everything that has happened so far: each datagram with its time, what became of it, and
    /// each outcome. 32 hexadecimal digits, the same on every machine.
    pub fn digest(&self) -> String {
        self.digest.text()
    }

    // -- hosts, inside

    pub(super) fn note_host(&mut self, node: NodeKey, host: Host) {
        let place = node.place();
        if self.host_of.len() <= place {
            self.host_of.resize(place + 1, Host(u32::MAX));
        }
        self.host_of[place] = host;
    }

    /// Enters into the digest what the owner does to a host.
    pub(super) fn note(&mut self, what: Deed, host: Host) {
        self.digest.number(self.now.as_micros());
        self.digest.number((what as u64) << 32 | u64::from(host.0));
    }

    pub(super) fn line_mut(&mut self, host: Host) -> Option<&mut Line> {
        self.hosts.get_mut(host.number()).map(|slot| &mut **slot.line.get_or_insert_default())
    }

    /// Throws away what waits for a program that will not go on, and lets it be frozen no longer.
    pub(super) fn discard_waiting(&mut self, host: Host) {
        let line = self.hosts.get_mut(host.number()).and_then(|slot| slot.line.as_mut());
        for flight in line.and_then(|line| line.frozen.take()).into_iter().flat_map(|frozen| frozen.waiting) {
            self.lose(Loss::Down);
            self.flights.remove(flight);
        }
    }

    pub(super) fn schedule_thaw(&mut self, host: Host, until: Time) {
        self.events.insert(until, Event::Thaw(host));
    }

    /// A frozen program goes on: first it reads its socket, then it does what has become due (as the
    /// reactor's turn has it).
    fn thaw(&mut self, host: Host) {
        let Some(line) = self.hosts.get_mut(host.number()).and_then(|slot| slot.line.as_mut()) else {
            return;
        };
        if line.frozen.as_ref().is_none_or(|frozen| frozen.until > self.now) {
            return;
        }
        let frozen = line.frozen.take();
        for flight in frozen.into_iter().flat_map(|frozen| frozen.waiting) {
            self.hand_over(host, flight);
        }
        match &mut self.hosts[host.number()].occupant {
            &mut Occupant::Node(node) => {
                self.engine.thaw_node(self.now, node);
                self.thawed.push((host, node));
            }
            Occupant::Peer(foreign) => {
                foreign.peer.handle_timeout(self.now);
                self.awake.push_back(host);
            }
            Occupant::None => {}
        }
    }

    // -- what happens

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrival(flight) => self.arrive(flight),
            Event::Delivery(flight) => self.deliver(flight),
            Event::Wake(host) => self.wake(host),
            Event::Thaw(host) => self.thaw(host),
            Event::Alarm(number) => self.happenings.push_back(Happening::Alarm(number)),
        }
    }

    fn wake(&mut self, host: Host) {
        let Some(slot) = self.hosts.get_mut(host.number()) else { return };
        let Occupant::Peer(foreign) = &mut slot.occupant else { return };
        if foreign.armed.is_some_and(|armed| armed <= self.now) {
            foreign.armed = None;
        }
        if slot.line.as_ref().is_some_and(|line| line.frozen.is_some()) {
            return;
        }
        if foreign.peer.next_deadline().is_some_and(|due| due <= self.now) {
            foreign.peer.handle_timeout(self.now);
        }
        self.awake.push_back(host);
    }

    /// Lets everybody say what they have to say now.
    fn drain(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        while let Some(node) = self.engine.poll_ready() {
            self.drain_node(self.host_of[node.place()], node, &mut buffer);
        }
        while let Some((host, node)) = self.thawed.pop() {
            self.drain_node(host, node, &mut buffer);
        }
        self.buffer = buffer;
        self.hear();
        while let Some(host) = self.awake.pop_front() {
            self.drain_peer(host);
        }
    }

    fn drain_node(&mut self, host: Host, node: NodeKey, buffer: &mut Vec<u8>) {
        // What a program that stands still has to say, it will say then.
        if !self.is_frozen(host) {
            while let Some(to) = self.engine.poll_transmit(self.now, node, buffer) {
                self.send(host, to, buffer);
            }
        }
    }

    fn drain_peer(&mut self, host: Host) {
        if self.is_frozen(host) {
            return;
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        // Asked for again each time, since what it says may have an effect here.
        while let Some(slot) = self.hosts.get_mut(host.number()) {
            let Occupant::Peer(foreign) = &mut slot.occupant else { break };
            buffer.clear();
            match foreign.peer.poll_transmit(self.now, &mut buffer) {
                Some(to) => self.send(host, to, &mut buffer),
                None => {
                    let due = foreign.peer.next_deadline().map(|due| due.max(self.now));
                    if let Some(due) = due.filter(|&due| foreign.armed.is_none_or(|armed| due < armed)) {
                        foreign.armed = Some(due);
                        self.events.insert(due, Event::Wake(host));
                    }
                    break;
                }
            }
        }
        self.buffer = buffer;
    }

    pub(super) fn is_frozen(&self, host: Host) -> bool {
        let line = self.hosts.get(host.number()).and_then(|slot| slot.line.as_ref());
        line.is_some_and(|line| line.frozen.is_some())
    }

    /// Takes note of what nodes tell their owners. To be called before a node's place is used again.
    pub(super) fn hear(&mut self) {
        while let Some(Told::Operation { node, operation, outcome, effort }) = self.engine.poll_event() {
            let host = self.host_of.get(node.place()).copied().unwrap_or(Host(u32::MAX));
            outcome::enter(&mut self.digest, self.now, host, &outcome);
            self.happenings.push_back(Happening::Operation { host, operation, outcome, effort });
        }
    }
}
