//! A network in memory: one engine with many nodes, foreign peers whose messages
//! a test makes up, and what lies between them, all in virtual time.
#![allow(dead_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hasher};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use khashmir::airhook::mux::Mux;
use khashmir::context::{Alarm, Context, Due, Key, Routes};
use khashmir::engine::{Engine, Event, Outcome};
use khashmir::krpc::message::{self, Message, Method, Request};
use khashmir::krpc::netstring;
use khashmir::random::{Random, seed_from_number, seeded};
use khashmir::time::{Time, UnixTime};
use khashmir::wheel::Wheel;
use khashmir::{Config, Contact, Id, NodeKey, NodeOptions, OperationError, OperationKey, Stats};
use rand::RngExt;

pub const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// The time of day at the start of a network.
pub const START: UnixTime = UnixTime(1_000_000_000);
/// What the network's routes say that peers see.
pub const SEEN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);

/// Says which seed failed.
pub struct Seed(pub u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed with seed {}", self.0);
        }
    }
}

/// A different address for each number.
pub fn address(number: u32) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::from(0x0a00_0001 + number)), 4000)
}

struct Seen;

impl Routes for Seen {
    fn local_address(&self, peer: IpAddr) -> Option<IpAddr> {
        peer.is_ipv4().then_some(SEEN.into())
    }
}

/// What a foreign peer does with a message: what it appends goes back.
pub type Habit = Box<dyn FnMut(&Contact, SocketAddr, &Message<'_>, &mut Vec<u8>)>;

/// Answers every request as an empty node would.
pub fn polite() -> Habit {
    Box::new(|own, _, message, out| {
        if let Message::Request(Request { tid, method, .. }) = message {
            match method {
                Method::Ping | Method::StoreValue { .. } | Method::HandOn { .. } => {
                    message::response_empty(out, tid, own);
                }
                Method::FindNode { .. } | Method::OfferValues { .. } | Method::FindValue { .. } => {
                    message::response_nodes(out, tid, own, &[]);
                }
            }
        }
    })
}

/// Answers nothing.
pub fn silent() -> Habit {
    Box::new(|_, _, _, _| {})
}

/// Names these nodes to whoever asks for any.
pub fn names(nodes: Vec<Contact>) -> Habit {
    let mut polite = polite();
    Box::new(move |own, from, message, out| match message {
        Message::Request(Request {
            tid,
            method: Method::FindNode { .. } | Method::OfferValues { .. } | Method::FindValue { .. },
            ..
        }) => {
            message::response_nodes(out, tid, own, &nodes);
        }
        _ => polite(own, from, message, out),
    })
}

/// A peer that is no node: connections, and a habit.
pub struct Peer {
    pub contact: Contact,
    pub habit: Habit,
    /// Every message that came, without its frame.
    pub received: Vec<(SocketAddr, Vec<u8>)>,
    mux: Mux,
    config: Config,
    rng: Random,
    wheel: Wheel<Alarm>,
    buffer: Vec<u8>,
}

impl Peer {
    fn new(contact: Contact, seed: u64, habit: Habit) -> Self {
        let mut rng = seeded(seed_from_number(seed));
        let mux = Mux::new(&mut rng);
        let (config, wheel) = (Config::default(), Wheel::new());
        Peer { contact, habit, received: Vec::new(), mux, config, rng, wheel, buffer: Vec::new() }
    }

    fn with<R>(&mut self, now: Time, act: impl FnOnce(&mut Mux, &mut Context<'_>) -> R) -> R {
        let mut ctx = Context {
            now,
            unix: START,
            config: &self.config,
            rng: &mut self.rng,
            wheel: &mut self.wheel,
            node: Key::new(0, 0),
            routes: &Seen,
            buffer: &mut self.buffer,
        };
        act(&mut self.mux, &mut ctx)
    }

    fn say(&mut self, now: Time, to: SocketAddr, bytes: &[u8]) {
        self.with(now, |mux, ctx| {
            let key = mux.connect(ctx, to);
            mux.send(ctx, key, bytes, None).expect("room");
        });
    }

    fn receive(&mut self, now: Time, from: SocketAddr, datagram: &[u8]) {
        let mut inbox = Vec::new();
        if let Some(key) = self.with(now, |mux, ctx| mux.receive(ctx, from, datagram, &mut inbox)) {
            self.read(now, from, key, inbox);
        }
    }

    fn read(&mut self, now: Time, from: SocketAddr, key: Key, mut inbox: Vec<u8>) {
        let (mut used, mut answer) = (0, Vec::new());
        while let Ok(Some(taken)) = netstring::take(&inbox[used..], 99_999) {
            let body = &inbox[used + taken.body.start..used + taken.body.end];
            used += taken.consumed;
            let message = Message::parse(body).expect("nodes send nothing but messages");
            (self.habit)(&self.contact, from, &message, &mut answer);
            self.received.push((from, body.to_vec()));
        }
        self.with(now, |mux, ctx| {
            if used < inbox.len() {
                mux.keep(ctx, key, &mut inbox, used);
            }
            if !answer.is_empty() {
                mux.send(ctx, key, &answer, None).expect("room");
            }
            while mux.poll_failed().is_some() {}
        });
    }

    fn handle_timeout(&mut self, now: Time) {
        while let Some(Alarm { due, .. }) = self.wheel.expire(now) {
            let mut inbox = Vec::new();
            let came = self.with(now, |mux, ctx| match due {
                Due::Connection(key) => Some((mux.addr(key)?, mux.handle_timeout(ctx, key, &mut inbox)?)),
                _ => {
                    mux.handle_idle(ctx);
                    None
                }
            });
            if let Some((from, key)) = came {
                self.read(now, from, key, inbox);
            }
        }
    }

    /// What came since this was last asked, as messages read by `read`.
    pub fn take<R>(&mut self, read: impl Fn(&Message<'_>) -> Option<R>) -> Vec<R> {
        let received = std::mem::take(&mut self.received);
        received.iter().filter_map(|(_, body)| read(&Message::parse(body).expect("a message"))).collect()
    }
}

/// How bad the network is: chances of 0 to 1.
#[derive(Clone, Copy, Default)]
pub struct Badness {
    pub loss: f64,
    pub duplicate: f64,
    pub reorder: f64,
}

pub struct Network {
    pub engine: Engine,
    pub now: Time,
    pub bad: Badness,
    /// The shortest and the longest round trip between two of them, in milliseconds; each
    /// pair has its own. None: about 11.
    pub round_trips: Option<(u64, u64)>,
    /// Whoever is here neither receives nor sends.
    pub dead: BTreeSet<SocketAddr>,
    /// Whoever is here sends, and receives nothing: a sender of forged addresses.
    pub deaf: BTreeSet<SocketAddr>,
    pub peers: BTreeMap<SocketAddr, Peer>,
    /// What operations have brought that was not asked for yet.
    pub outcomes: BTreeMap<OperationKey, Vec<Outcome>>,
    /// How many datagrams were sent, and their bytes.
    pub sent: u64,
    pub bytes: u64,
    seed: u64,
    rng: Random,
    nodes: BTreeMap<SocketAddr, NodeKey>,
    addresses: BTreeMap<NodeKey, SocketAddr>,
    /// The IPv6 addresses of those that have one of each.
    second: BTreeMap<NodeKey, SocketAddr>,
    wire: BTreeMap<(Time, u64), (SocketAddr, SocketAddr, Vec<u8>)>,
    hash: DefaultHasher,
    buffer: Vec<u8>,
}

impl Network {
    pub fn new(seed: u64) -> Self {
        Network {
            engine: Engine::new(seed_from_number(seed), START, Box::new(Seen)).expect("a database"),
            now: Time::ZERO,
            bad: Badness::default(),
            round_trips: None,
            dead: BTreeSet::new(),
            deaf: BTreeSet::new(),
            peers: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            sent: 0,
            bytes: 0,
            seed,
            rng: seeded(seed_from_number(seed ^ 0x5eed)),
            nodes: BTreeMap::new(),
            addresses: BTreeMap::new(),
            second: BTreeMap::new(),
            wire: BTreeMap::new(),
            hash: DefaultHasher::new(),
            buffer: Vec::new(),
        }
    }

    /// A network of nodes that have all joined, each by way of three others.
    pub fn joined(seed: u64, count: u32, config: &Config) -> (Self, Vec<NodeKey>) {
        let mut network = Network::new(seed);
        let nodes: Vec<NodeKey> = (0..count).map(|n| network.node(address(n), config.clone())).collect();
        network.join(&nodes);
        (network, nodes)
    }

    /// Lets each of these nodes join by way of three of those before it.
    pub fn join(&mut self, nodes: &[NodeKey]) {
        for (index, &node) in nodes.iter().enumerate().skip(1) {
            let operations: Vec<_> = (0..3)
                .map(|_| {
                    let by = nodes[self.rng.random_range(0..index)];
                    self.engine.add_contact(self.now, node, self.addresses[&by], None)
                })
                .collect();
            operations.into_iter().for_each(|operation| drop(self.wait(operation)));
            let close = self.engine.find_close_nodes(self.now, node, None);
            assert!(matches!(self.wait(close)[..], [Outcome::Nodes(Ok(_))]));
        }
    }

    pub fn node(&mut self, addr: SocketAddr, config: Config) -> NodeKey {
        self.node_with(addr, addr, NodeOptions { config: Arc::new(config), id: None, store: None })
    }

    /// A node with that id.
    pub fn node_named(&mut self, addr: SocketAddr, id: Id, config: Config) -> NodeKey {
        self.node_with(addr, addr, NodeOptions { config: Arc::new(config), id: Some(id), store: None })
    }

    /// A node at `addr` that believes to be bound to `local`.
    pub fn node_with(&mut self, addr: SocketAddr, local: SocketAddr, options: NodeOptions) -> NodeKey {
        let node = self.engine.add_node(self.now, local, options).expect("a node");
        self.nodes.insert(addr, node);
        self.addresses.insert(node, addr);
        node
    }

    /// Gives a node that is bound to all an IPv6 address, too.
    pub fn add_address(&mut self, node: NodeKey, addr: SocketAddr) {
        self.nodes.insert(addr, node);
        self.second.insert(node, addr);
    }

    pub fn remove(&mut self, node: NodeKey) {
        self.engine.remove_node(self.now, node).expect("saved");
        self.forget(node);
    }

    /// The node is gone from the engine.
    pub fn forget(&mut self, node: NodeKey) {
        if let Some(addr) = self.addresses.remove(&node) {
            self.nodes.remove(&addr);
        }
    }

    pub fn address(&self, node: NodeKey) -> SocketAddr {
        self.addresses[&node]
    }

    pub fn contact(&self, node: NodeKey) -> Contact {
        Contact { id: self.engine.id(node).expect("a node"), addr: self.address(node) }
    }

    pub fn stats(&self, node: NodeKey) -> Stats {
        self.engine.stats(node).expect("a node")
    }

    /// The contacts in a node's table.
    pub fn table(&self, node: NodeKey) -> Vec<Contact> {
        self.engine.contacts(node).into_iter().map(|info| info.contact).collect()
    }

    /// A foreign peer.
    pub fn peer(&mut self, addr: SocketAddr, id: Id, habit: Habit) -> Contact {
        let contact = Contact { id, addr };
        let seed = self.seed ^ u64::from(addr.port()) << 32 ^ self.peers.len() as u64 ^ self.now.as_micros();
        self.peers.insert(addr, Peer::new(contact, seed, habit));
        contact
    }

    pub fn at(&mut self, addr: SocketAddr) -> &mut Peer {
        self.peers.get_mut(&addr).expect("a peer")
    }

    /// Lets a foreign peer send bytes.
    pub fn say(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let now = self.now;
        self.at(from).say(now, to, bytes);
    }

    /// Lets a foreign peer send a request.
    pub fn ask(&mut self, from: SocketAddr, to: SocketAddr, tid: &[u8], method: &Method<'_>) {
        let mut bytes = Vec::new();
        let sender = self.at(from).contact;
        message::request(&mut bytes, tid, &sender, method).expect("not too long");
        self.say(from, to, &bytes);
        if matches!(method, Method::StoreValue { .. }) {
            let now = self.now;
            self.at(from).with(now, |mux, ctx| {
                let key = mux.connect(ctx, to);
                mux.hold(ctx, key);
            });
        }
    }

    /// A node's table learns of a peer.
    pub fn introduce(&mut self, node: NodeKey, addr: SocketAddr) -> Vec<Outcome> {
        let operation = self.engine.add_contact(self.now, node, addr, None);
        self.wait(operation)
    }

    /// Puts a datagram on its way.
    pub fn put(&mut self, from: SocketAddr, to: SocketAddr, datagram: &[u8]) {
        self.sent += 1;
        self.bytes += datagram.len() as u64;
        self.hash.write_u64(self.now.as_micros());
        self.hash.write(format!("{from} {to}").as_bytes());
        self.hash.write(datagram);
        if self.dead.contains(&from) || self.dead.contains(&to) || self.deaf.contains(&to) {
            return;
        }
        let copies = if self.rng.random_bool(self.bad.duplicate) { 2 } else { 1 };
        for _ in 0..copies {
            if self.rng.random_bool(self.bad.loss) {
                continue;
            }
            let least = self.round_trips.map_or(5000, |range| one_way(range, from, to));
            let mut delay = least + self.rng.random_range(0..1000);
            if self.rng.random_bool(self.bad.reorder) {
                delay += self.rng.random_range(0..20_000);
            }
            let at = self.now + Duration::from_micros(delay);
            self.wire.insert((at, self.sent << 1 | copies & 1), (from, to, datagram.to_vec()));
        }
    }

    /// What is on its way to an address, taken off it.
    pub fn intercept(&mut self, addr: SocketAddr) -> Vec<Vec<u8>> {
        self.drain();
        let taken = self.wire.extract_if(.., |_, (_, to, _)| *to == addr);
        taken.map(|(_, (_, _, datagram))| datagram).collect()
    }

    /// Names everything that was sent so far, and when.
    pub fn fingerprint(&self) -> u64 {
        self.hash.finish()
    }

    /// Lets everybody say what they have to say now.
    pub fn drain(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        for round in 0.. {
            assert!(round < 1000, "they do not stop speaking");
            let mut quiet = true;
            while let Some(node) = self.engine.poll_ready() {
                while let Some(to) = self.engine.poll_transmit(self.now, node, &mut buffer) {
                    quiet = false;
                    let to = SocketAddr::new(to.ip().to_canonical(), to.port());
                    let second = self.second.get(&node).filter(|_| to.is_ipv6());
                    if let Some(&from) = second.or(self.addresses.get(&node)) {
                        self.put(from, to, &buffer);
                    }
                }
            }
            while let Some(Event::Operation { operation, outcome, .. }) = self.engine.poll_event() {
                quiet = false;
                self.outcomes.entry(operation).or_default().push(outcome);
            }
            let mut said = Vec::new();
            for peer in self.peers.values_mut() {
                while let Some(to) = peer.with(self.now, |mux, ctx| mux.poll_transmit(ctx, &mut buffer)) {
                    said.push((peer.contact.addr, to, buffer.clone()));
                }
            }
            quiet &= said.is_empty();
            said.into_iter().for_each(|(from, to, datagram)| self.put(from, to, &datagram));
            if quiet {
                break;
            }
        }
        self.buffer = buffer;
    }

    /// When something happens next.
    fn next(&self) -> Option<Time> {
        let wire = self.wire.first_key_value().map(|((at, _), _)| *at);
        let peers = self.peers.values().filter_map(|peer| peer.wheel.next_deadline());
        wire.into_iter().chain(self.engine.next_deadline()).chain(peers).min()
    }

    /// Lets the next thing happen; false when nothing will until `end`.
    pub fn step(&mut self, end: Time) -> bool {
        self.drain();
        let Some(next) = self.next().filter(|&next| next <= end) else {
            self.now = self.now.max(end);
            return false;
        };
        self.now = self.now.max(next);
        self.deliver();
        self.engine.handle_timeout(self.now);
        self.peers.values_mut().for_each(|peer| peer.handle_timeout(self.now));
        self.drain();
        true
    }

    /// Delivers what has arrived, and lets nobody speak yet.
    pub fn deliver(&mut self) {
        while let Some(entry) = self.wire.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let (from, to, datagram) = entry.remove();
            if self.dead.contains(&to) {
            } else if let Some(&node) = self.nodes.get(&to) {
                self.engine.receive(self.now, node, from, &datagram);
            } else if let Some(peer) = self.peers.get_mut(&to) {
                peer.receive(self.now, from, &datagram);
            }
        }
    }

    /// Runs for `span`.
    pub fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while self.step(end) {}
    }

    /// Runs until `done`; false when that has not come about within `span`.
    pub fn run_until(&mut self, span: Duration, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let end = self.now + span;
        loop {
            self.drain();
            if done(self) {
                return true;
            }
            if !self.step(end) {
                return done(self);
            }
        }
    }

    /// Runs until an operation has ended, and says what it brought.
    pub fn wait(&mut self, operation: OperationKey) -> Vec<Outcome> {
        let ended = self.run_until(secs(120), |network| {
            network.outcomes.get(&operation).is_some_and(|outcomes| outcomes.last().is_some_and(ends))
        });
        assert!(ended, "the operation does not end");
        self.outcomes.remove(&operation).expect("outcomes")
    }

    /// What is found under a key: each value as often as it is reported.
    pub fn find_values(&mut self, node: NodeKey, key: Id) -> Vec<Vec<u8>> {
        let operation = self.engine.find_values(self.now, node, key, None);
        let mut outcomes = self.wait(operation);
        // Who is alone, or cut off, has what it holds itself.
        let end = outcomes.pop();
        assert!(
            matches!(
                end,
                Some(Outcome::ValuesEnd(
                    Ok(_) | Err(OperationError::NoContacts | OperationError::NobodyAnswered { .. })
                ))
            ),
            "{end:?}"
        );
        outcomes
            .into_iter()
            .flat_map(|outcome| match outcome {
                Outcome::Values(found) => found.values,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    pub fn store(&mut self, node: NodeKey, key: Id, value: &[u8]) -> Outcome {
        let operation = self.engine.store_value(self.now, node, key, value.to_vec(), None, None);
        the_one(self.wait(operation))
    }

    /// Who took a value, nearest first.
    pub fn holders(&mut self, node: NodeKey, key: Id, value: &[u8]) -> Vec<Contact> {
        match self.store(node, key, value) {
            Outcome::Stored(Ok(stored)) => stored.accepted().copied().collect(),
            other => panic!("{other:?}"),
        }
    }

    pub fn find_node(&mut self, node: NodeKey, id: Id) -> Vec<Contact> {
        let operation = self.engine.find_node(self.now, node, id, None);
        match the_one(self.wait(operation)) {
            Outcome::Nodes(Ok(found)) => found.nodes,
            Outcome::Nodes(Err(OperationError::NoContacts | OperationError::NobodyAnswered { .. })) => {
                Vec::new()
            }
            other => panic!("{other:?}"),
        }
    }
}

/// How long a datagram takes between these two, in microseconds.
fn one_way((least, most): (u64, u64), from: SocketAddr, to: SocketAddr) -> u64 {
    let mut hash = DefaultHasher::new();
    hash.write(format!("{} {}", from.min(to), from.max(to)).as_bytes());
    500 * least + hash.finish() % (500 * (most - least) + 1)
}

/// How many took a value, and how many had to, when these were too few.
#[track_caller]
pub fn too_few(outcome: &Outcome) -> (usize, usize) {
    match outcome {
        Outcome::Stored(Err(OperationError::TooFew(stored))) => (stored.accepted().count(), stored.needed),
        other => panic!("{other:?}"),
    }
}

/// Whether this is the last that an operation brings.
pub fn ends(outcome: &Outcome) -> bool {
    !matches!(outcome, Outcome::Values(_))
}

pub fn the_one(mut outcomes: Vec<Outcome>) -> Outcome {
    assert_eq!(outcomes.len(), 1, "{outcomes:?}");
    outcomes.remove(0)
}
