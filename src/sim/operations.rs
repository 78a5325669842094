//! What nodes of a simulation are asked to do, and waiting for it.

use std::net::SocketAddr;
use std::time::Duration;

use super::simulation::{Happening, Host, Simulation};
use crate::engine::{Effort, OperationKey, Outcome};
use crate::error::{OperationError, StoreError};
use crate::id::Id;
use crate::outcome::Stored;
use crate::time::Time;

/// An operation that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// All that it brought, the last outcome last.
    pub outcomes: Vec<Outcome>,
    /// What it took.
    pub effort: Effort,
}

const FOR_EVER: Time = Time::from_micros(u64::MAX);

impl Simulation {
    // -- to be heard of in `next`

    /// As [`Engine::add_contact`](crate::engine::Engine::add_contact). `None`: no node runs there.
    pub fn add_contact(&mut self, host: Host, addr: SocketAddr) -> Option<OperationKey> {
        let node = self.node(host)?;
        Some(self.engine.add_contact(self.now, node, addr, None))
    }

    /// As [`Engine::find_close_nodes`](crate::engine::Engine::find_close_nodes).
    pub fn find_close_nodes(&mut self, host: Host) -> Option<OperationKey> {
        let node = self.node(host)?;
        Some(self.engine.find_close_nodes(self.now, node, None))
    }

    /// As [`Engine::find_node`](crate::engine::Engine::find_node).
    pub fn find_node(&mut self, host: Host, id: Id) -> Option<OperationKey> {
        let node = self.node(host)?;
        Some(self.engine.find_node(self.now, node, id, None))
    }

    /// As [`Engine::store_value`](crate::engine::Engine::store_value).
    pub fn store_value(
        &mut self,
        host: Host,
        key: Id,
        value: Vec<u8>,
        life: Option<Duration>,
    ) -> Option<OperationKey> {
        let node = self.node(host)?;
        Some(self.engine.store_value(self.now, node, key, value, life, None))
    }

    /// As [`Engine::find_values`](crate::engine::Engine::find_values).
    pub fn find_values(&mut self, host: Host, key: Id) -> Option<OperationKey> {
        let node = self.node(host)?;
        Some(self.engine.find_values(self.now, node, key, None))
    }

    /// As [`Engine::cancel`](crate::engine::Engine::cancel).
    pub fn cancel(&mut self, operation: OperationKey) -> bool {
        self.engine.cancel(self.now, operation)
    }

    /// As [`Engine::withdraw`](crate::engine::Engine::withdraw). False, too: no node runs there.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn withdraw(&mut self, host: Host, key: Id, value: &[u8]) -> Result<bool, StoreError> {
        match self.node(host) {
            Some(node) => self.engine.withdraw(self.now, node, key, value),
            None => Ok(false),
        }
    }

    /// As [`Engine::refresh_table`](crate::engine::Engine::refresh_table).
    pub fn refresh_table(&mut self, host: Host) {
        if let Some(node) = self.node(host) {
            self.engine.refresh_table(self.now, node);
        }
    }

    // -- waited for

    /// Lets time go on until an operation has ended. What else happens is kept for
    /// [`next`](Self::next). `None`: it never will, since its node has crashed, or its end was told by
    /// `next` before.
    pub fn wait(&mut self, operation: OperationKey) -> Option<Ended> {
        let mut outcomes = Vec::new();
        let mut seen = 0;
        self.hear();
        loop {
            while let Some(happening) = self.happenings.get(seen) {
                let is_one =
                    matches!(happening, Happening::Operation { operation: o, .. } if *o == operation);
                if !is_one {
                    seen += 1;
                    continue;
                }
                if let Some(Happening::Operation { outcome, effort, .. }) = self.happenings.remove(seen) {
                    let more = matches!(outcome, Outcome::Values(_));
                    outcomes.push(outcome);
                    if !more {
                        return Some(Ended { outcomes, effort });
                    }
                }
            }
            if !self.engine.is_under_way(operation) || !self.step(FOR_EVER) {
                return None;
            }
        }
    }

    /// Lets time go on until `reached` says so, which is asked after each moment at which something
    /// happened, or until `until`; whether it did. What happens is kept for [`next`](Self::next).
    pub fn run_until(&mut self, until: Time, mut reached: impl FnMut(&Simulation) -> bool) -> bool {
        loop {
            if reached(self) {
                return true;
            }
            if !self.step(until) {
                return false;
            }
        }
    }

    /// Makes a host's node join the network that another host is part of, and waits for it: how many
    /// neighbours it has found.
    ///
    /// # Errors
    ///
    /// As of [`add_contact`](Self::add_contact), then [`find_close_nodes`](Self::find_close_nodes).
    /// [`OperationError::Closed`]: no node runs on the host.
    pub fn join(&mut self, host: Host, by: Host) -> Result<usize, OperationError> {
        let asked = self.add_contact(host, self.address(by));
        if let Some(Outcome::Contact(Err(error))) = self.last_of(asked) {
            return Err(error);
        }
        let asked = self.find_close_nodes(host);
        match self.last_of(asked) {
            Some(Outcome::Nodes(found)) => found.map(|nodes| nodes.len()),
            _ => Err(OperationError::Closed),
        }
    }

    /// Stores a value through a host's node, and waits for it: what each node said.
    ///
    /// # Errors
    ///
    /// As of [`store_value`](Self::store_value). [`OperationError::Closed`]: no node runs on the host.
    pub fn put(&mut self, host: Host, key: Id, value: impl Into<Vec<u8>>) -> Result<Stored, OperationError> {
        let asked = self.store_value(host, key, value.into(), None);
        match self.last_of(asked) {
            Some(Outcome::Stored(stored)) => stored,
            _ => Err(OperationError::Closed),
        }
    }

    /// Looks for the values of a key through a host's node, and waits for all of them. Where some were
    /// found, it is no error that the search failed later.
    ///
    /// # Errors
    ///
    /// As of [`find_values`](Self::find_values). [`OperationError::Closed`]: no node runs on the host.
    pub fn get(&mut self, host: Host, key: Id) -> Result<Vec<Vec<u8>>, OperationError> {
        let asked = self.find_values(host, key).ok_or(OperationError::Closed)?;
        let ended = self.wait(asked).ok_or(OperationError::Closed)?;
        let mut found = Vec::new();
        for outcome in ended.outcomes {
            match outcome {
                Outcome::Values(brought) => found.extend(brought.values),
                Outcome::ValuesEnd(Err(error)) if found.is_empty() => return Err(error),
                _ => {}
            }
        }
        Ok(found)
    }

    fn last_of(&mut self, operation: Option<OperationKey>) -> Option<Outcome> {
        self.wait(operation?)?.outcomes.pop()
    }

    // -- failures

    /// How to repeat what happens here, in one line: the seed and a command.
    pub fn repetition(&self) -> String {
        self.failure.text()
    }

    /// Sets the command that [`repetition`](Self::repetition) names, and a panic prints. Without, it is
    /// `cargo test` with the name of the thread, which is that of the test.
    pub fn set_command(&mut self, command: impl Into<String>) {
        self.failure.command = Some(command.into());
    }
}
