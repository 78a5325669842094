//! Searches of keys with more values than fit into one answer: a peer that says so is asked on,
//! one page after the other, beside the search.
//!
//! A peer is asked for as long as it brings what was not known: the holders of a key begin
//! anywhere, so that each has another part of the way, and where one comes upon what another
//! has brought, that one has gone on from there.

use std::ops::ControlFlow;
use std::time::Duration;

use crate::contact::Contact;
use crate::context::{Context, Due, Key};
use crate::error::OperationError;
use crate::id::Id;
use crate::krpc::message::{Method, Page, Response};
use crate::node::client::MAX_VALUES;
use crate::node::operation::{Operation, Task};
use crate::node::peers::Waiter;
use crate::node::{Node, World};
use crate::time::Time;

/// How many pages more one peer is asked for, at the most: with the longest messages, six
/// times the values of one key that a node keeps by default.
const MAX_PAGES: u16 = 64;

/// After this, the next ones. Not at once, which would be the same turn.
const OWN_PAUSE: Duration = Duration::from_millis(1);
/// How many bytes of its own values a node reports in one turn, if it has more than one.
const OWN_BYTES: usize = 1 << 20;

/// The peers that a search asks for more.
#[derive(Debug, Default)]
pub(super) struct Pages {
    peers: Vec<Asked>,
    /// From where on what this node holds itself is still to be looked at.
    own: Option<Id>,
}

#[derive(Debug)]
struct Asked {
    peer: Contact,
    /// What it was asked for last.
    place: Vec<u8>,
    /// How often it was asked, and since when.
    times: u16,
    since: Time,
    /// It has taken so long that the search does not wait for it.
    silent: bool,
}

impl Pages {
    /// Whether the search has to wait for one of them, or for this node itself.
    pub fn is_waiting(&self) -> bool {
        self.own.is_some() || self.peers.iter().any(|asked| !asked.silent)
    }

    /// What this peer was asked for last.
    pub fn place(&self, peer: &Contact) -> Option<Page<'_>> {
        self.peers.iter().find(|asked| asked.peer == *peer).and_then(|asked| Page::new(&asked.place))
    }

    /// Notes that a peer is asked for this page; false when it was asked for enough of them, or
    /// takes longer for them than for any other request: nobody keeps a search from its end.
    fn ask(&mut self, ctx: &Context<'_>, peer: &Contact, page: Page<'_>) -> bool {
        let at = self.peers.iter().position(|asked| asked.peer == *peer).unwrap_or_else(|| {
            let (place, since) = (Vec::new(), ctx.now);
            self.peers.push(Asked { peer: *peer, place, times: 0, since, silent: false });
            self.peers.len() - 1
        });
        let asked = &mut self.peers[at];
        if asked.times >= MAX_PAGES || ctx.now.since(asked.since) >= ctx.config.request_timeout {
            return false;
        }
        asked.place.clear();
        asked.place.extend_from_slice(page.as_bytes());
        asked.times += 1;
        asked.silent = false;
        true
    }

    /// Nothing more is expected of a peer.
    fn end(&mut self, peer: &Contact) {
        self.peers.retain(|asked| asked.peer != *peer);
    }

    /// A peer takes so long that the search ends without it, unless it answers before.
    pub fn note_silence(&mut self, peer: &Contact) {
        if let Some(asked) = self.peers.iter_mut().find(|asked| asked.peer == *peer) {
            asked.silent = true;
        }
    }
}

impl Node {
    /// Reports what the node holds itself, from one of its values on; of a great many, or long ones,
    /// only some in a turn.
    pub(super) fn report_own(&mut self, world: &mut World<'_>, operation: Key, start: Id) {
        let Some(Operation { task: Task::Values { lookup, pages, .. }, .. }) =
            self.operations.get_mut(operation)
        else {
            return;
        };
        pages.own = None;
        let key = *lookup.target();
        let (mut values, mut bytes, mut rest) = (Vec::new(), 0, None);
        let at = self.value_time(&world.ctx);
        // All the way round from the first one is what comes after the start: those before were there.
        let first = Id::new([0; 20]);
        let read = world.store.values(&mut self.resident, &key, &at, (&start, &first), |value| {
            if bytes > 0 && bytes + value.len() > OWN_BYTES {
                rest = Some(Id::of(value));
                return ControlFlow::Break(());
            }
            bytes += value.len();
            if !value.is_empty() {
                values.push(value.to_vec());
            }
            ControlFlow::Continue(())
        });
        match read {
            Ok(unread) => rest = rest.or(unread),
            Err(error) => {
                self.fail(world, operation, OperationError::Store(error));
                return;
            }
        }
        let own = self.peers.own_contact(&world.ctx);
        self.report(world, operation, own, values.iter().map(Vec::as_slice));
        if let Some(Operation { task: Task::Values { seen, pages, .. }, .. }) =
            self.operations.get_mut(operation)
            && rest.is_some()
            && seen.len() < MAX_VALUES
        {
            pages.own = rest;
            world.ctx.arm(world.ctx.now + OWN_PAUSE, Due::OwnPage(operation));
        }
    }

    /// It is time for more of what the node holds itself.
    pub(super) fn own_page_due(&mut self, world: &mut World<'_>, operation: Key) {
        if let Some(Operation { task: Task::Values { pages, .. }, .. }) = self.operations.get_mut(operation)
            && let Some(start) = pages.own
        {
            self.report_own(world, operation, start);
            self.advance(world, operation);
        }
    }

    /// A peer has brought values, `news` among them or not, and says where there are more.
    pub(super) fn ask_for_more(
        &mut self,
        world: &mut World<'_>,
        key: Key,
        from: &Contact,
        more: Option<Page<'_>>,
        news: bool,
    ) {
        let Some(Operation { task: Task::Values { lookup, seen, pages, .. }, .. }) =
            self.operations.get_mut(key)
        else {
            return;
        };
        let useful = news && seen.len() < MAX_VALUES;
        match more.filter(|page| useful && pages.ask(&world.ctx, from, *page)) {
            Some(page) => {
                let method = Method::FindValue { key: *lookup.target(), from: Some(page) };
                self.peers.call(&mut world.ctx, from.addr, Some(from.id), Waiter::Page(key), &method);
            }
            None => pages.end(from),
        }
    }

    /// A peer that was asked for more has answered.
    pub(super) fn page_answered(
        &mut self,
        world: &mut World<'_>,
        key: Key,
        from: &Contact,
        response: &Response<'_>,
    ) {
        let values = response.values().into_iter().flatten();
        let news = self.report(world, key, *from, values.filter(|value| !value.is_empty()));
        let news = news || response.has_none_so_far();
        self.ask_for_more(world, key, from, response.more(), news);
        self.advance(world, key);
    }

    /// A peer that was asked for more has not answered, or has refused.
    pub(super) fn page_failed(&mut self, world: &mut World<'_>, key: Key, asked: &Contact) {
        if let Some(Operation { task: Task::Values { pages, .. }, .. }) = self.operations.get_mut(key) {
            pages.end(asked);
            self.advance(world, key);
        }
    }
}
