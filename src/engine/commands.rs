//! What a node's owner has it do.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Engine, Event, NodeKey, OperationKey, Outcome};
use crate::context::Key;
use crate::error::{OperationError, StoreError};
use crate::id::Id;
use crate::node::{Node, World};
use crate::outcome::Effort;
use crate::time::Time;

impl Engine {
    /// Asks for the node at `addr`. → [`Outcome::Contact`]
    pub fn add_contact(
        &mut self,
        now: Time,
        node: NodeKey,
        addr: SocketAddr,
        timeout: Option<Duration>,
    ) -> OperationKey {
        self.command(now, node, Outcome::Contact(Err(OperationError::Closed)), |node, world| {
            node.add_contact(world, addr, timeout)
        })
    }

    /// Looks for the nodes nearest to this one. → [`Outcome::Nodes`]
    pub fn find_close_nodes(&mut self, now: Time, node: NodeKey, timeout: Option<Duration>) -> OperationKey {
        self.command(now, node, Outcome::Nodes(Err(OperationError::Closed)), |node, world| {
            node.find_close_nodes(world, timeout)
        })
    }

    /// Looks for the node `id`, or else the nearest ones to it. → [`Outcome::Nodes`]
    pub fn find_node(&mut self, now: Time, node: NodeKey, id: Id, timeout: Option<Duration>) -> OperationKey {
        self.command(now, node, Outcome::Nodes(Err(OperationError::Closed)), |node, world| {
            node.find_node(world, id, timeout)
        })
    }

    /// Stores a value with the nodes nearest to its key, and again every
    /// [`Config::renew_interval`] until it is [withdrawn](Self::withdraw) or the node is
    /// removed. With a `life` of its own (1 s to [`Config::value_lifetime`], counted in whole
    /// seconds) it is not renewed, and its holders forget it after that; those of 2003 only
    /// when they forget any. → [`Outcome::Stored`]
    ///
    /// [`Config::renew_interval`]: crate::Config::renew_interval
    /// [`Config::value_lifetime`]: crate::Config::value_lifetime
    pub fn store_value(
        &mut self,
        now: Time,
        node: NodeKey,
        key: Id,
        value: Vec<u8>,
        life: Option<Duration>,
        timeout: Option<Duration>,
    ) -> OperationKey {
        self.command(now, node, Outcome::Stored(Err(OperationError::Closed)), |node, world| {
            node.store_value(world, key, value, life, timeout)
        })
    }

    /// Renews a value no more that [`store_value`](Self::store_value) has stored. Its holders
    /// are not told: each keeps it, gives it out and hands it on until
    /// [`Config::value_lifetime`] has passed since it was last stored, and then forgets it. Says
    /// whether it was renewed until now: not while an operation that stores it is still under way.
    ///
    /// # Errors
    ///
    /// When the store cannot be written; the value may be renewed as before.
    ///
    /// [`Config::value_lifetime`]: crate::Config::value_lifetime
    pub fn withdraw(&mut self, now: Time, node: NodeKey, key: Id, value: &[u8]) -> Result<bool, StoreError> {
        self.tell_time(now);
        let withdrawn = self.with(node, |node, world| node.withdraw(world, &key, value)).unwrap_or(Ok(false));
        let committed = self.commit();
        withdrawn.and_then(|withdrawn| committed.map(|()| withdrawn))
    }

    /// Looks for the values of a key. → [`Outcome::Values`], any number of times,
    /// then [`Outcome::ValuesEnd`]
    pub fn find_values(
        &mut self,
        now: Time,
        node: NodeKey,
        key: Id,
        timeout: Option<Duration>,
    ) -> OperationKey {
        self.command(now, node, Outcome::ValuesEnd(Err(OperationError::Closed)), |node, world| {
            node.find_values(world, key, timeout)
        })
    }

    /// Ends an operation before its time, with [`OperationError::Cancelled`] as its
    /// outcome. False when it has ended already.
    pub fn cancel(&mut self, now: Time, operation: OperationKey) -> bool {
        self.tell_time(now);
        self.with(operation.node, |node, world| node.cancel(world, operation.operation)).unwrap_or(false)
    }

    /// Refreshes every bucket of a node's table.
    pub fn refresh_table(&mut self, now: Time, node: NodeKey) {
        self.tell_time(now);
        self.with(node, |node, world| node.refresh_table(world));
    }

    /// Saves a node's contacts now, and commits everything that was written.
    ///
    /// # Errors
    ///
    /// When the store cannot be written.
    pub fn checkpoint(&mut self, now: Time, node: NodeKey) -> Result<(), StoreError> {
        self.tell_time(now);
        let saved = self.with(node, |node, world| node.checkpoint(world)).unwrap_or(Ok(()));
        saved.and(self.commit())
    }

    fn command(
        &mut self,
        now: Time,
        node: NodeKey,
        closed: Outcome,
        act: impl FnOnce(&mut Node, &mut World<'_>) -> Key,
    ) -> OperationKey {
        self.tell_time(now);
        if let Some(operation) = self.with(node, act) {
            return OperationKey { node, operation };
        }
        // A key that no operation of any node has, since the node is gone.
        self.generation = self.generation.wrapping_add(1);
        let operation =
            OperationKey { node, operation: Key { index: u32::MAX, generation: self.generation } };
        let effort = Effort::default();
        self.events.push_back(Event::Operation { node, operation, outcome: closed, effort });
        operation
    }
}
