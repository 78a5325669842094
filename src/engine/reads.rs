//! Nodes answer what had to wait: for a commit, or for others who ask for values, too.

use super::Engine;
use crate::context::Key;
use crate::node::Node;
use crate::node::asked::{Asked, MAX_ASKED};

impl Engine {
    /// What was written is committed: has the nodes that promised something keep it, and answer
    /// who has asked for values. Nodes that share a database read together.
    pub(super) fn keep_promises(&mut self) {
        let nodes = std::mem::take(&mut self.promising);
        let mut asked: Vec<(usize, Key, Asked)> = Vec::new();
        for key in nodes {
            let Some(slot) = self.slot_mut(key) else { continue };
            slot.promising = false;
            let database = slot.database;
            asked.extend(slot.node.take_asked().into_iter().map(|asked| (database, key, asked)));
            self.with(key, Node::settle_promises);
        }
        // After that, for a read that fails undoes what was written meanwhile.
        asked.sort_by_key(|(database, ..)| *database);
        let mut asked = asked.into_iter().peekable();
        while let Some(&(database, ..)) = asked.peek() {
            let mut together: Vec<(Key, Asked)> = Vec::new();
            while together.len() < MAX_ASKED
                && let Some((_, key, next)) = asked.next_if(|next| next.0 == database)
            {
                match self.with(key, |node, world| node.can_answer(world, &next)) {
                    Some(true) => together.push((key, next)),
                    // Nothing need be read for that.
                    _ => {
                        self.with(key, |node, world| node.answer_asked(world, &next, None));
                    }
                }
            }
            let Some(store) = self.databases.get_mut(database).filter(|_| !together.is_empty()) else {
                continue;
            };
            let read = store.read_all(together.iter_mut().map(|(_, asked)| asked.reading()));
            for (key, asked) in together {
                self.with(key, |node, world| node.answer_asked(world, &asked, read.as_ref().err()));
            }
        }
    }
}
