//! What nodes in memory leave behind is deleted bit by bit.

use std::time::Duration;

use super::{Engine, SHARED};
use crate::context::{Alarm, Due, Key};

/// The time for everything else between two lots of rows that are deleted.
const SWEEP_PAUSE: Duration = Duration::from_millis(20);

/// A key that no node has.
const NOBODY: Key = Key { index: u32::MAX, generation: 0 };

impl Engine {
    /// Nodes in memory have left more than is deleted at once: the rest goes bit by bit.
    pub(super) fn arm_sweep(&mut self) {
        if !self.sweeping && self.databases[SHARED].has_leavers() {
            self.sweeping = true;
            self.wheel.arm(self.now + SWEEP_PAUSE, Alarm { node: NOBODY, due: Due::Sweep });
        }
    }

    pub(super) fn sweep(&mut self) {
        self.sweeping = false;
        let store = &mut self.databases[SHARED];
        if let Err(error) = store.sweep() {
            log::error!("what nodes that have gone held is not deleted: {error}");
        }
        if store.has_uncommitted() && !self.written.contains(&SHARED) {
            self.written.push(SHARED);
        }
        self.arm_sweep();
    }
}
