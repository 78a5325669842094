//! Many nodes, one timer wheel, one random source: the whole core, for a driver
//! to drive.
//!
//! The core does no I/O and reads no clock. Its methods are of four kinds:
//!
//! * **getters** ([`id`](Engine::id), [`stats`](Engine::stats), …);
//! * **input**: [`receive`](Engine::receive) for a datagram that came,
//!   [`handle_timeout`](Engine::handle_timeout) when
//!   [`next_deadline`](Engine::next_deadline) is reached;
//! * **commands** ([`find_node`](Engine::find_node), …), whose outcome comes as an event;
//! * **output**: [`poll_ready`](Engine::poll_ready) and
//!   [`poll_transmit`](Engine::poll_transmit) for datagrams that are to go out,
//!   [`poll_event`](Engine::poll_event) for events.
//!
//! Feed one input (or a few that are at hand), then drain all outputs. What was
//! written to the stores is committed when the first output is asked for, before
//! any answer that promises it goes out.

mod commands;
mod reads;
#[cfg(feature = "sim")]
mod rig;
mod sweep;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;

use crate::config::Config;
use crate::context::{Alarm, Context, Due, Key};
use crate::error::{StartError, StoreError};
use crate::id::Id;
use crate::node::{Node, World};
use crate::random::{Random, Seed, seeded};
use crate::store::{Database, Limits};
use crate::time::{Time, UnixTime};
use crate::wheel::Wheel;

pub use crate::context::Routes;
pub use crate::node::operation::{Event, OperationKey, Outcome};
pub use crate::node::{ContactInfo, Stats};
pub use crate::outcome::Effort;
#[cfg(feature = "sim")]
pub use rig::Standing;

/// Names a node of an engine. The key of a node that was removed names none.
pub type NodeKey = Key;

/// How a node is to be set up.
#[derive(Clone, Debug, Default)]
pub struct NodeOptions {
    /// Its settings.
    pub config: Arc<Config>,
    /// Its id. None: the one in its file, or else a random one.
    pub id: Option<Id>,
    /// The file of its store. None: its store is in memory, and goes with it.
    pub store: Option<PathBuf>,
}

/// The core: any number of nodes.
pub struct Engine {
    nodes: Slab<Slot>,
    generation: u32,
    wheel: Wheel<Alarm>,
    rng: Random,
    routes: Box<dyn Routes + Send>,
    databases: Slab<Database>,
    /// Databases that may have something to commit.
    written: Vec<usize>,
    /// Nodes that owe somebody an answer once that is done.
    promising: Vec<Key>,
    /// Nodes that may have datagrams to send.
    ready: VecDeque<Key>,
    events: VecDeque<Event>,
    /// The newest time that the driver has told.
    now: Time,
    /// When the log may say again that a store cannot be written.
    may_complain_at: Time,
    /// What time of day it was at some time on the core's clock.
    day: (Time, UnixTime),
    /// The timer for what nodes that have gone held is armed.
    sweeping: bool,
    buffer: Vec<u8>,
    inbox: Vec<u8>,
    #[cfg(feature = "sim")]
    rig: rig::Rig,
}

struct Slot {
    generation: u32,
    config: Arc<Config>,
    database: usize,
    /// Stands in the engine's `ready`.
    ready: bool,
    /// Stands in the engine's `promising`.
    promising: bool,
    node: Node,
}

/// Timers that are so late, or a time of day so far ahead, mean that the host has slept.
const SLEPT: Duration = Duration::from_secs(120);

/// While a store cannot be written, the log says so so often.
const COMPLAINT_PAUSE: Duration = Duration::from_secs(60);

/// The database of all nodes without a file. The first one, and never removed.
const SHARED: usize = 0;

impl Engine {
    /// An engine without nodes. `seed`: of all its randomness; an outsider must not
    /// know it. `unix`: what time of day it is at [`Time::ZERO`].
    ///
    /// # Errors
    ///
    /// When SQLite cannot make a database in memory.
    pub fn new(seed: Seed, unix: UnixTime, routes: Box<dyn Routes + Send>) -> Result<Self, StoreError> {
        let mut databases = Slab::new();
        // The first place of a slab is SHARED.
        databases.insert(Database::in_memory()?);
        Ok(Engine {
            nodes: Slab::new(),
            generation: 0,
            wheel: Wheel::new(),
            rng: seeded(seed),
            routes,
            databases,
            written: Vec::new(),
            promising: Vec::new(),
            ready: VecDeque::new(),
            events: VecDeque::new(),
            now: Time::ZERO,
            may_complain_at: Time::ZERO,
            day: (Time::ZERO, unix),
            sweeping: false,
            buffer: Vec::new(),
            inbox: Vec::new(),
            #[cfg(feature = "sim")]
            rig: rig::Rig::default(),
        })
    }

    /// Starts a node whose socket is bound to `local`.
    ///
    /// # Errors
    ///
    /// When a setting is out of bounds, or the store cannot be used.
    pub fn add_node(
        &mut self,
        now: Time,
        local: SocketAddr,
        options: NodeOptions,
    ) -> Result<NodeKey, StartError> {
        self.tell_time(now);
        let config = options.config;
        config.validate()?;
        let database = match &options.store {
            Some(path) => {
                let opened = Database::open_with(path, config.durability, config.value_lifetime)?;
                self.databases.insert(opened)
            }
            None => SHARED,
        };
        let added = self.add_node_in(database, local, config, options.id);
        if added.is_err() && database != SHARED {
            self.databases.remove(database);
        }
        Ok(added?)
    }

    fn add_node_in(
        &mut self,
        database: usize,
        local: SocketAddr,
        config: Arc<Config>,
        id: Option<Id>,
    ) -> Result<NodeKey, StoreError> {
        let fallback = Id::random(&mut self.rng);
        // Moving in commits, and with that what others have written: they must hear of it.
        let _ = self.commit();
        let store = &mut self.databases[database];
        let resident = store.move_in(id, fallback, Limits::from(&*config))?;
        let read = store.clock().and_then(|clock| Ok((clock, store.contacts(&resident)?)));
        let (clock, saved) = match read {
            Ok(saved) => saved,
            Err(error) => {
                let _ = store.move_out(resident);
                return Err(error);
            }
        };
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let entry = self.nodes.vacant_entry();
        let key = Key { index: entry.key() as u32, generation };
        let (unix, routes) = (unix_at(self.day, self.now), &*self.routes);
        #[cfg(feature = "sim")]
        let (unix, routes) = self.rig.start(key, self.now, unix, routes);
        let mut world = World {
            ctx: Context {
                now: self.now,
                unix,
                config: &config,
                rng: &mut self.rng,
                wheel: &mut self.wheel,
                node: key,
                routes,
                buffer: &mut self.buffer,
            },
            store: &mut self.databases[database],
            events: &mut self.events,
            inbox: &mut self.inbox,
        };
        let node = Node::new(&mut world, local, resident, clock, saved);
        if world.store.has_uncommitted() {
            self.written.push(database);
        }
        let ready = node.has_output();
        entry.insert(Slot { generation, config, database, ready, promising: false, node });
        if ready {
            self.ready.push_back(key);
        }
        Ok(key)
    }

    /// Stops a node: saves its contacts, ends its operations with
    /// [`OperationError::Closed`](crate::OperationError::Closed), forgets its connections. What it had to say
    /// and has not said stays unsaid.
    ///
    /// # Errors
    ///
    /// When its contacts could not be saved; the node is gone all the same.
    pub fn remove_node(&mut self, now: Time, node: NodeKey) -> Result<(), StoreError> {
        self.tell_time(now);
        let _ = self.commit();
        let Some(saved) = self.with(node, |node, world| node.close(world)) else {
            return Ok(());
        };
        let slot = self.nodes.remove(node.index as usize);
        let database = &mut self.databases[slot.database];
        let moved = database.move_out(slot.node.into_resident());
        let committed = database.commit();
        if slot.database != SHARED {
            self.databases.remove(slot.database);
            self.written.retain(|&written| written != slot.database);
        }
        self.arm_sweep();
        saved.and(moved).and(committed)
    }

    // -- getters

    /// A node's id.
    pub fn id(&self, node: NodeKey) -> Option<Id> {
        Some(*self.slot(node)?.node.id())
    }

    /// Counts and sizes of a node.
    pub fn stats(&self, node: NodeKey) -> Option<Stats> {
        Some(self.slot(node)?.node.stats())
    }

    /// The contacts in a node's table.
    pub fn contacts(&self, node: NodeKey) -> Vec<ContactInfo> {
        self.slot(node).map_or_else(Vec::new, |slot| slot.node.contacts(self.now))
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// How many timers are armed, for tests.
    #[doc(hidden)]
    pub fn timers(&self) -> usize {
        self.wheel.len()
    }

    /// How many bytes a node keeps for the streams of its peers, for tests.
    #[doc(hidden)]
    pub fn buffered(&self, node: NodeKey) -> usize {
        self.slot(node).map_or(0, |slot| slot.node.buffered())
    }

    /// How many keys a node looks after, for tests.
    #[doc(hidden)]
    pub fn keys_looked_after(&self, node: NodeKey) -> usize {
        self.slot(node).map_or(0, |slot| slot.node.keys_looked_after())
    }

    // -- input

    /// What time of day it is at `now`. The core remembers it; tell it again
    /// whenever the two clocks may have come apart. Where it has jumped ahead by minutes,
    /// the host has slept, and all nodes look for their neighbours again.
    pub fn set_unix(&mut self, now: Time, unix: UnixTime) {
        self.tell_time(now);
        let expected = unix_at(self.day, now);
        self.day = (now, unix);
        if unix.0.saturating_sub(expected.0) >= SLEPT.as_secs() as i64 {
            // A clock that stands still while the host sleeps.
            self.wake();
        }
    }

    /// A datagram has come to a node's socket.
    pub fn receive(&mut self, now: Time, node: NodeKey, from: SocketAddr, datagram: &[u8]) {
        self.tell_time(now);
        self.with(node, |node, world| node.receive(world, from, datagram));
    }

    /// Does everything that is due. Where that is minutes late, the host has slept, and all
    /// nodes look for their neighbours again.
    pub fn handle_timeout(&mut self, now: Time) {
        self.tell_time(now);
        let slept = self.wheel.next_deadline().is_some_and(|due| now.since(due) >= SLEPT);
        while let Some(Alarm { node, due }) = self.wheel.expire(now) {
            if due == Due::Sweep {
                self.sweep();
                continue;
            }
            #[cfg(feature = "sim")]
            if self.rig.hold(node, due) {
                continue;
            }
            self.with(node, |node, world| node.handle_timeout(world, due));
        }
        if slept {
            self.wake();
        }
    }

    // -- output

    /// When [`handle_timeout`](Self::handle_timeout) is to be called next, at the latest. It may
    /// turn out that nothing is due yet.
    pub fn next_deadline(&self) -> Option<Time> {
        self.wheel.next_deadline()
    }

    /// A node that has datagrams to send. Each is named once: drain its
    /// [`poll_transmit`](Self::poll_transmit), or remember it until its socket can take more.
    pub fn poll_ready(&mut self) -> Option<NodeKey> {
        let _ = self.commit();
        while let Some(key) = self.ready.pop_front() {
            if let Some(slot) = self.slot_mut(key) {
                slot.ready = false;
                return Some(key);
            }
        }
        None
    }

    /// Puts the next datagram of a node into `buf`, which is emptied first, and
    /// says where to send it. The datagram is the driver's from then on.
    pub fn poll_transmit(&mut self, now: Time, node: NodeKey, buf: &mut Vec<u8>) -> Option<SocketAddr> {
        self.tell_time(now);
        let _ = self.commit();
        let slot = self.nodes.get_mut(node.index as usize)?;
        if slot.generation != node.generation || !slot.node.has_output() {
            return None;
        }
        // Not `with`: the driver is at this node already, so it is not named again.
        let was_ready = std::mem::replace(&mut slot.ready, true);
        let to = self.with(node, |node, world| node.poll_transmit(world, buf))?;
        if let Some(slot) = self.slot_mut(node) {
            slot.ready = was_ready;
        }
        to
    }

    /// Something that a node's owner is to be told.
    pub fn poll_event(&mut self) -> Option<Event> {
        let _ = self.commit();
        self.events.pop_front()
    }

    // -- inside

    /// The host has slept: what its nodes know of others may be long out of date.
    fn wake(&mut self) {
        for index in 0..self.nodes.capacity() {
            if let Some(generation) = self.nodes.get(index).map(|slot| slot.generation) {
                self.with(Key { index: index as u32, generation }, Node::wake);
            }
        }
    }

    fn tell_time(&mut self, now: Time) {
        self.now = self.now.max(now);
    }

    fn slot(&self, key: NodeKey) -> Option<&Slot> {
        self.nodes.get(key.index as usize).filter(|slot| slot.generation == key.generation)
    }

    fn slot_mut(&mut self, key: NodeKey) -> Option<&mut Slot> {
        self.nodes.get_mut(key.index as usize).filter(|slot| slot.generation == key.generation)
    }

    /// Lets a node do something in its world, and notes what follows from it.
    fn with<R>(&mut self, key: NodeKey, act: impl FnOnce(&mut Node, &mut World<'_>) -> R) -> Option<R> {
        let slot = self.nodes.get_mut(key.index as usize)?;
        if slot.generation != key.generation {
            return None;
        }
        let (unix, routes) = (unix_at(self.day, self.now), &*self.routes);
        #[cfg(feature = "sim")]
        let (unix, routes) = self.rig.see(key, self.now, unix, routes);
        let mut world = World {
            ctx: Context {
                now: self.now,
                unix,
                config: &slot.config,
                rng: &mut self.rng,
                wheel: &mut self.wheel,
                node: key,
                routes,
                buffer: &mut self.buffer,
            },
            store: self.databases.get_mut(slot.database)?,
            events: &mut self.events,
            inbox: &mut self.inbox,
        };
        let result = act(&mut slot.node, &mut world);
        if world.store.has_uncommitted() && !self.written.contains(&slot.database) {
            self.written.push(slot.database);
        }
        if !slot.promising && slot.node.has_promises() {
            slot.promising = true;
            self.promising.push(key);
        }
        if !slot.ready && slot.node.has_output() {
            slot.ready = true;
            self.ready.push_back(key);
        }
        Some(result)
    }

    /// Commits what was written, and lets nodes keep their promises, or take them back.
    fn commit(&mut self) -> Result<(), StoreError> {
        let mut result = Ok(());
        // Again, when an operation that goes on with that has written something: its
        // answers must not wait for whatever happens next.
        while !(self.written.is_empty() && self.promising.is_empty()) {
            for database in std::mem::take(&mut self.written) {
                let Some(store) = self.databases.get_mut(database) else {
                    continue;
                };
                if let Err(error) = store.commit() {
                    if self.may_complain_at <= self.now {
                        self.may_complain_at = self.now + COMPLAINT_PAUSE;
                        log::error!("what was written to a store is lost: {error}");
                    }
                    result = Err(error);
                }
            }
            self.keep_promises();
        }
        result
    }
}

fn unix_at(day: (Time, UnixTime), now: Time) -> UnixTime {
    let (time, unix) = day;
    UnixTime(unix.0.saturating_add(i64::try_from(now.since(time).as_secs()).unwrap_or(i64::MAX)))
}
