//! Operations on nodes, and the closures that their outcomes go to.

use std::net::SocketAddr;
use std::time::Duration;

use super::Reactor;
use crate::contact::Contact;
use crate::engine::{ContactInfo, Event, NodeKey, OperationKey, Outcome, Stats};
use crate::error::{OperationError, StoreError};
use crate::id::Id;
use crate::outcome::{Found, FoundNodes, Stored};

type Once<D, T> = Box<dyn FnOnce(&mut Reactor<D>, &mut D, Result<T, OperationError>)>;
type Many<D, T> = Box<dyn FnMut(&mut Reactor<D>, &mut D, Result<T, OperationError>)>;

/// Who is told of an outcome.
pub(super) enum Callback<D> {
    Contact(Once<D, Contact>),
    Nodes(Once<D, FoundNodes>),
    Stored(Once<D, Stored>),
    Values(Many<D, Found>),
}

/// # Operations
///
/// Each starts at once and returns its key. Its outcome goes to the closure `f`,
/// in a later turn, never before the method has returned. `timeout` is how long
/// it may take in all; `None` stands for
/// [`Config::operation_timeout`](crate::Config::operation_timeout). On a node
/// that was closed the outcome is [`OperationError::Closed`].
impl<D> Reactor<D> {
    /// Asks the node at `addr` who it is. If it answers, it is a contact of
    /// `node` from then on.
    pub fn add_contact(
        &mut self,
        node: NodeKey,
        addr: SocketAddr,
        timeout: Option<Duration>,
        f: impl FnOnce(&mut Self, &mut D, Result<Contact, OperationError>) + 'static,
    ) -> OperationKey {
        let now = self.driver.now();
        let key = self.driver.engine.add_contact(now, node, addr, timeout);
        self.remember(key, Callback::Contact(Box::new(f)))
    }

    /// Looks for the nodes that are nearest to `node` itself: how a node that has
    /// a contact joins the network. They come nearest first.
    pub fn find_close_nodes(
        &mut self,
        node: NodeKey,
        timeout: Option<Duration>,
        f: impl FnOnce(&mut Self, &mut D, Result<FoundNodes, OperationError>) + 'static,
    ) -> OperationKey {
        let now = self.driver.now();
        let key = self.driver.engine.find_close_nodes(now, node, timeout);
        self.remember(key, Callback::Nodes(Box::new(f)))
    }

    /// Looks for the node `id`. The nodes found come nearest first, so it is the
    /// first one if it was found.
    pub fn find_node(
        &mut self,
        node: NodeKey,
        id: Id,
        timeout: Option<Duration>,
        f: impl FnOnce(&mut Self, &mut D, Result<FoundNodes, OperationError>) + 'static,
    ) -> OperationKey {
        let now = self.driver.now();
        let key = self.driver.engine.find_node(now, node, id, timeout);
        self.remember(key, Callback::Nodes(Box::new(f)))
    }

    /// Stores `value` under `key` on the nodes nearest to it. The outcome is what each of them
    /// said, and at which address it was reached; it is a success when
    /// [`Config::store_redundancy`](crate::Config::store_redundancy) of them have the value, or
    /// all that were found, if those are fewer. Then the value is stored again every
    /// [`Config::renew_interval`](crate::Config::renew_interval) until it is
    /// [withdrawn](Self::withdraw) or the node is closed; a node with a file takes
    /// that up again when it is started anew.
    ///
    /// With a `life` of its own (1 s to
    /// [`Config::value_lifetime`](crate::Config::value_lifetime), counted in whole seconds) it
    /// is not renewed, and its holders forget it after that; those of 2003 only when they forget
    /// any.
    pub fn store_value(
        &mut self,
        node: NodeKey,
        key: Id,
        value: Vec<u8>,
        life: Option<Duration>,
        timeout: Option<Duration>,
        f: impl FnOnce(&mut Self, &mut D, Result<Stored, OperationError>) + 'static,
    ) -> OperationKey {
        let now = self.driver.now();
        let key = self.driver.engine.store_value(now, node, key, value, life, timeout);
        self.remember(key, Callback::Stored(Box::new(f)))
    }

    /// Renews a value no more that [`store_value`](Self::store_value) has stored. Its holders
    /// are not told: each keeps it, gives it out and hands it on until
    /// [`Config::value_lifetime`](crate::Config::value_lifetime) has passed since it was last
    /// stored, and then forgets it. Says whether it was renewed until now: not
    /// while the operation that stores it is still under way.
    ///
    /// # Errors
    ///
    /// When the store cannot be written; the value may be renewed as before.
    pub fn withdraw(&mut self, node: NodeKey, key: Id, value: &[u8]) -> Result<bool, StoreError> {
        let now = self.driver.now();
        self.driver.engine.withdraw(now, node, key, value)
    }

    /// Looks for the values under `key`. `f` is called for each node that brings some, as they
    /// arrive, and a last time with [`Found::End`], or with an error. Each value is reported
    /// once. (Of more than 65,536 values the rest are left out.)
    pub fn find_values(
        &mut self,
        node: NodeKey,
        key: Id,
        timeout: Option<Duration>,
        f: impl FnMut(&mut Self, &mut D, Result<Found, OperationError>) + 'static,
    ) -> OperationKey {
        let now = self.driver.now();
        let key = self.driver.engine.find_values(now, node, key, timeout);
        self.remember(key, Callback::Values(Box::new(f)))
    }

    /// Ends an operation with [`OperationError::Cancelled`], of which its closure
    /// is told in a later turn. False when it has ended already.
    pub fn cancel(&mut self, operation: OperationKey) -> bool {
        let now = self.driver.now();
        self.driver.engine.cancel(now, operation)
    }

    /// Looks for a random id in each bucket of the node's table, and for its own,
    /// one after the other. What no lookup has touched for
    /// [`Config::bucket_staleness`](crate::Config::bucket_staleness) it refreshes
    /// by itself.
    pub fn refresh_table(&mut self, node: NodeKey) {
        let now = self.driver.now();
        self.driver.engine.refresh_table(now, node);
    }

    /// Saves the node's contacts now.
    ///
    /// # Errors
    ///
    /// What the store says.
    pub fn checkpoint(&mut self, node: NodeKey) -> Result<(), StoreError> {
        let now = self.driver.now();
        self.driver.engine.checkpoint(now, node)
    }

    /// The node's id; `None` when it was closed.
    pub fn id(&self, node: NodeKey) -> Option<Id> {
        self.driver.engine.id(node)
    }

    /// The node's counters; `None` when it was closed.
    pub fn stats(&self, node: NodeKey) -> Option<Stats> {
        self.driver.engine.stats(node)
    }

    /// The contacts in the node's table; none when it was closed.
    pub fn contacts(&self, node: NodeKey) -> Vec<ContactInfo> {
        self.driver.engine.contacts(node)
    }

    fn remember(&mut self, key: OperationKey, callback: Callback<D>) -> OperationKey {
        self.callbacks.insert(key, callback);
        key
    }

    /// Tells whoever waits for it. The closure is out of the table while it runs.
    pub(super) fn deliver(&mut self, data: &mut D, event: Event) {
        let Event::Operation { operation, outcome, .. } = event;
        match (self.callbacks.remove(&operation), outcome) {
            (Some(Callback::Contact(f)), Outcome::Contact(result)) => f(self, data, result),
            (Some(Callback::Nodes(f)), Outcome::Nodes(result)) => f(self, data, result),
            (Some(Callback::Stored(f)), Outcome::Stored(result)) => f(self, data, result),
            (Some(Callback::Values(mut f)), Outcome::Values(values)) => {
                f(self, data, Ok(Found::Values(values)));
                self.callbacks.insert(operation, Callback::Values(f));
            }
            (Some(Callback::Values(mut f)), Outcome::ValuesEnd(result)) => {
                f(self, data, result.map(Found::End));
            }
            (None, _) => {} // Its closure panicked at an earlier batch.
            (Some(_), _) => debug_assert!(false, "an outcome of another kind of operation"),
        }
    }
}
