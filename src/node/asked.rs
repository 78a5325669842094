//! Requests for values that the node has: all that have come at about the same time are read together.

use std::net::SocketAddr;

use super::serve::{TOO_BUSY, is_useful};
use super::{Node, World};
use crate::context::Key;
use crate::error::StoreError;
use crate::id::Id;
use crate::krpc::message::{self, Method, NodesAnswer, Page, Request, ValuesAnswer};
use crate::store::Reading;

/// For so many at the most values are read together, before any of them is answered: with the longest
/// answers these are 1.6 MB. Each then pays for a sixteenth of making the statement.
pub const MAX_ASKED: usize = 16;
/// What a contact takes in an answer at the most (that of an IPv6 host), in bytes.
const MAX_CONTACT: usize = 90;

/// Who has asked for the values of a key.
#[derive(Debug)]
pub struct Asked {
    pub(super) connection: Key,
    pub(super) from: SocketAddr,
    pub(super) tid: Vec<u8>,
    pub(super) sender: Id,
    pub(super) key: Id,
    /// Where the way round the key's values began.
    pub(super) first: Id,
    /// It is the first that he asks for.
    pub(super) is_first: bool,
    pub(super) reading: Reading,
}

impl Asked {
    /// What is to be read for it.
    pub fn reading(&mut self) -> &mut Reading {
        &mut self.reading
    }
}

impl Node {
    /// Those who wait for values to be read.
    pub fn take_asked(&mut self) -> Vec<Asked> {
        std::mem::take(&mut self.asked)
    }

    /// Reads for those who wait, and answers them.
    pub(super) fn read_asked(&mut self, world: &mut World<'_>) {
        let (mut asked, others): (Vec<_>, Vec<_>) =
            self.take_asked().into_iter().partition(|asked| self.can_answer(world, asked));
        others.iter().for_each(|asked| self.tell(world, asked, None));
        let read = world.store.read_all(asked.iter_mut().map(Asked::reading));
        asked.iter().for_each(|asked| self.tell(world, asked, read.as_ref().err()));
    }

    /// Whether there is room for an answer with values by now.
    pub fn can_answer(&self, world: &World<'_>, asked: &Asked) -> bool {
        !self.peers.is_congested(&world.ctx, asked.connection) && !self.peers.is_full(&world.ctx)
    }

    /// Tells who has asked what was read for him, or that it could not be, or that there is no room
    /// for it.
    pub fn answer_asked(&mut self, world: &mut World<'_>, asked: &Asked, error: Option<&StoreError>) {
        self.tell(world, asked, error);
        self.settle(world);
    }

    fn tell(&mut self, world: &mut World<'_>, asked: &Asked, error: Option<&StoreError>) {
        if self.peers.is_congested(&world.ctx, asked.connection) {
            self.dropped += 1;
            return;
        }
        // The answers to others may have taken the room.
        if self.peers.is_full(&world.ctx) {
            self.refuse(world, asked.connection, &asked.tid, TOO_BUSY);
        } else if let Some(error) = error {
            self.report_failure(world, "values cannot be read", error);
            let text = "this node cannot read its values now";
            self.refuse(world, asked.connection, &asked.tid, text);
        } else {
            self.answer_with_values(world, asked);
        }
        self.greet(world, asked.connection, asked.sender, asked.from);
    }

    fn answer_with_values(&mut self, world: &mut World<'_>, asked: &Asked) {
        let &Asked { connection, from, ref tid, sender, key, first, is_first, ref reading } = asked;
        let request = Request { tid, sender, method: Method::FindValue { key, from: None } };
        let more = reading.next().map(|next| Page::bytes_of(&next, &first));
        let more = more.as_ref().and_then(|more| Page::new(more));
        if reading.values().is_empty() {
            // All that was looked at may have expired: there may be others.
            let beside = NodesAnswer { wants: None, more };
            return self.answer_with_nodes(world, connection, from, &request, &key, beside);
        }
        // Others nearby may hold other values. They are named only where that takes no value's
        // room: whoever is told of none asks for them.
        let k = world.ctx.config.k;
        let mut closer = Vec::new();
        if is_first && reading.next().is_none() && reading.room() >= k * MAX_CONTACT {
            self.table.nearest_of(&key, k, &mut closer, |entry| is_useful(entry, &request, from));
        }
        let beside = ValuesAnswer { closer: &closer, more };
        self.peers.reply(&mut world.ctx, connection, |out, own| {
            message::response_page(out, tid, own, reading.values(), beside);
        });
    }
}
