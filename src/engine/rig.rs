//! What a simulation does to nodes that no program would.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Engine, NodeKey, NodeOptions, OperationKey, Routes, SHARED, unix_at};
use crate::contact::Contact;
use crate::context::Due;
use crate::error::{StartError, StoreError};
use crate::time::{Time, UnixTime};

/// How a node's host differs from that of the engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// By how many seconds its time of day is ahead of the engine's.
    pub clock_offset: i64,
    /// By how many seconds in a million it gains further ones, from [`Time::ZERO`] on.
    pub clock_drift: i32,
    /// Its addresses, where it has one of each kind: what its routes tell.
    pub addresses: Option<(Ipv4Addr, Ipv6Addr)>,
}

impl Standing {
    /// The time of day on the host's clock.
    pub fn unix(&self, now: Time, unix: UnixTime) -> UnixTime {
        let gained = i128::from(now.as_micros()) * i128::from(self.clock_drift) / 1_000_000_000_000;
        let gained = i64::try_from(gained).unwrap_or(i64::MAX);
        UnixTime(unix.0.saturating_add(self.clock_offset).saturating_add(gained))
    }
}

impl Routes for Standing {
    fn local_address(&self, peer: IpAddr) -> Option<IpAddr> {
        let (v4, v6) = self.addresses?;
        Some(if peer.to_canonical().is_ipv4() { v4.into() } else { v6.into() })
    }
}

/// What is out of the ordinary about nodes.
#[derive(Debug, Default)]
pub(super) struct Rig {
    /// By the node's place. Empty as long as all are alike.
    standings: Vec<Option<Box<Standing>>>,
    /// That of the node which is being started.
    next: Option<Box<Standing>>,
    /// What has become due for nodes that stand still, by their place.
    held: BTreeMap<u32, Vec<Due>>,
}

impl Rig {
    /// As [`see`](Self::see), for a node that has just been given its place.
    pub fn start<'a>(
        &'a mut self,
        node: NodeKey,
        now: Time,
        unix: UnixTime,
        routes: &'a (dyn Routes + Send),
    ) -> (UnixTime, &'a (dyn Routes + Send)) {
        let next = self.next.take();
        let place = node.place();
        if next.is_some() && self.standings.len() <= place {
            self.standings.resize(place + 1, None);
        }
        if let Some(standing) = self.standings.get_mut(place) {
            *standing = next;
        }
        self.held.remove(&node.index);
        self.see(node, now, unix, routes)
    }

    /// The time of day and the routes, as a node's host has them.
    pub fn see<'a>(
        &'a self,
        node: NodeKey,
        now: Time,
        unix: UnixTime,
        routes: &'a (dyn Routes + Send),
    ) -> (UnixTime, &'a (dyn Routes + Send)) {
        match self.standings.get(node.place()) {
            Some(Some(standing)) => {
                let own = standing.addresses.is_some();
                (standing.unix(now, unix), if own { &**standing } else { routes })
            }
            _ => (unix, routes),
        }
    }

    /// Puts aside what is due for a node that stands still; whether it does.
    pub fn hold(&mut self, node: NodeKey, due: Due) -> bool {
        if self.held.is_empty() {
            return false;
        }
        let held = self.held.get_mut(&node.index);
        held.map(|held| held.push(due)).is_some()
    }
}

impl Engine {
    /// As [`add_node`](Engine::add_node), for a node whose host differs from the others.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn add_node_standing(
        &mut self,
        now: Time,
        local: SocketAddr,
        options: NodeOptions,
        standing: Standing,
    ) -> Result<NodeKey, StartError> {
        self.rig.next = (standing != Standing::default()).then(|| Box::new(standing));
        let added = self.add_node(now, local, options);
        self.rig.next = None;
        added
    }

    /// What time of day it is at `now`, on a clock that is right.
    pub fn unix(&self, now: Time) -> UnixTime {
        unix_at(self.day, now)
    }

    /// Whether an operation has not ended yet.
    pub fn is_under_way(&mut self, operation: OperationKey) -> bool {
        let slot = self.slot_mut(operation.node);
        slot.is_some_and(|slot| slot.node.is_under_way(operation.operation))
    }

    /// Lets a node stand still: what becomes due is put aside. It is up to the driver to hand it
    /// nothing, and to take nothing from it.
    pub fn freeze_node(&mut self, node: NodeKey) {
        if self.slot(node).is_some() {
            self.rig.held.entry(node.index).or_default();
        }
    }

    /// Lets it go on: does what has become due in the meantime.
    pub fn thaw_node(&mut self, now: Time, node: NodeKey) {
        self.tell_time(now);
        if self.slot(node).is_some() {
            for due in self.rig.held.remove(&node.index).unwrap_or_default() {
                self.with(node, |node, world| node.handle_timeout(world, due));
            }
        }
    }

    /// Ends a node as a crash does: nothing is saved that was not committed, and nobody is told.
    ///
    /// # Errors
    ///
    /// When the rows of a node in memory could not be deleted; the node is gone all the same.
    pub fn crash_node(&mut self, now: Time, node: NodeKey) -> Result<(), StoreError> {
        self.tell_time(now);
        let _ = self.commit();
        if self.with(node, |node, world| node.crash(world)).is_none() {
            return Ok(());
        }
        let slot = self.nodes.remove(node.index as usize);
        if slot.database != SHARED {
            self.databases.remove(slot.database);
            self.written.retain(|&written| written != slot.database);
            return Ok(());
        }
        let database = &mut self.databases[slot.database];
        let moved = database.move_out(slot.node.into_resident()).and_then(|()| database.commit());
        self.arm_sweep();
        moved
    }

    /// Puts contacts into a node's table, where there is room, as if they had just answered.
    pub fn assume_contacts(&mut self, now: Time, node: NodeKey, contacts: impl IntoIterator<Item = Contact>) {
        self.tell_time(now);
        self.with(node, |node, world| contacts.into_iter().for_each(|contact| node.assume(world, contact)));
    }
}
