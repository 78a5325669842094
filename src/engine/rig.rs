//! What a simulation does to nodes that no program would.

use super::{Engine, NodeKey, SHARED};
use crate::contact::Contact;
use crate::error::StoreError;
use crate::time::Time;

impl Engine {
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
        database.move_out(slot.node.into_resident()).and_then(|()| database.commit())
    }

    /// Puts a contact into a node's table, if there is room, as if it had just answered.
    pub fn assume_contact(&mut self, now: Time, node: NodeKey, contact: Contact) {
        self.tell_time(now);
        self.with(node, |node, world| node.assume(world, contact));
    }
}
