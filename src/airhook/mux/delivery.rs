//! What has become of what was sent, and of connections.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::room::Kept;
use super::{Entry, Mux};
use crate::airhook::channel::Channel;
use crate::airhook::connection::Carrier;
use crate::airhook::flight::Fate;
use crate::context::{Context, Key};
use crate::error::CallError;

/// What has happened to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The peer has shown that it receives what we send.
    Proven,
    /// Both directions start afresh; what was under way is lost.
    Reset,
    /// There is room again after [`Mux::want_room`].
    Room,
    /// It is gone.
    Forgotten,
}

/// What has happened and not been asked for.
#[derive(Debug, Default)]
pub(super) struct Reports {
    /// Changes are asked for.
    watched: bool,
    fates: VecDeque<(Key, SocketAddr, u64, Fate)>,
    changes: VecDeque<(SocketAddr, Change)>,
}

/// What is asked about a connection.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Its last change was that it was proven.
    proven: bool,
    /// Whether the layer above waits for something of this peer.
    waiting: bool,
    /// Room was asked for: to be told of when no more than so many bytes are unconfirmed.
    wants_room: bool,
    room: u32,
    /// The address of ours that this peer sees, once asked for, by its place in the list of
    /// them, counted from 1.
    pub(super) local: u8,
}

impl Reports {
    /// The connection goes, and what was to be sent with it.
    pub(super) fn gone<C: Channel>(&mut self, key: Key, entry: &mut Entry<C>) {
        entry.channel.port(&mut Vec::new(), 0).restart_outgoing();
        self.settle(key, entry);
        if self.watched {
            self.changes.push_back((entry.addr, Change::Forgotten));
        }
    }

    fn settle<C: Channel>(&mut self, key: Key, entry: &mut Entry<C>) {
        while let Some((ticket, fate)) = entry.channel.poll_fate() {
            self.fates.push_back((key, entry.addr, ticket, fate));
        }
    }
}

impl<C: Channel> Mux<C> {
    /// A ticket that was given to [`send`](Self::send), with what became of what was sent:
    /// the peer has confirmed all of it, or it is lost with its session or connection.
    /// Whoever gives tickets drains this after every input.
    pub fn poll_fate(&mut self) -> Option<(Key, u64, Fate)> {
        self.reports.fates.pop_front().map(|(key, _, ticket, fate)| (key, ticket, fate))
    }

    /// The same, with the address of a connection that may be gone.
    pub fn poll_fate_at(&mut self) -> Option<(SocketAddr, u64, Fate)> {
        self.reports.fates.pop_front().map(|(_, addr, ticket, fate)| (addr, ticket, fate))
    }

    /// From now on changes are told by [`poll_change`](Self::poll_change), and peers are
    /// asked after what is unconfirmed for as long as it is.
    pub fn watch(&mut self) {
        self.reports.watched = true;
    }

    /// What has happened to a connection. Drain after every input and command.
    pub fn poll_change(&mut self) -> Option<(SocketAddr, Change)> {
        self.reports.changes.pop_front()
    }

    /// The connection to `addr`, if there is one.
    pub fn find(&self, addr: &SocketAddr) -> Option<Key> {
        self.place_of(addr).map(|index| self.key(index))
    }

    /// Says that the layer above waits for something of this peer, or no longer.
    pub fn set_waiting(&mut self, ctx: &mut Context<'_>, key: Key, waiting: bool) {
        if let Some(entry) = self.get_mut(key) {
            entry.watch.waiting = waiting;
            self.report(ctx, key, false);
            self.arm(ctx, key);
        }
    }

    /// Has a change reported once at most `bytes` are unconfirmed.
    pub fn want_room(&mut self, ctx: &Context<'_>, key: Key, bytes: usize) {
        if let Some(entry) = self.get_mut(key) {
            entry.watch.wants_room = true;
            entry.watch.room = u32::try_from(bytes).unwrap_or(u32::MAX);
            self.report(ctx, key, false);
        }
    }

    /// Puts what was kept into `inbox`, which must be empty.
    pub fn resume(&mut self, key: Key, inbox: &mut Vec<u8>) {
        if let Some(entry) = self.get_mut(key) {
            let before = Kept::of(&entry.channel);
            entry.channel.resume(inbox);
            let after = Kept::of(&entry.channel);
            self.kept.change(before, after);
        }
    }

    /// Opens a new session; what was under way in the old one is lost.
    pub fn reset(&mut self, ctx: &mut Context<'_>, key: Key) {
        self.renew(ctx, key);
    }

    /// Forgets a connection; what was under way is lost.
    pub fn forget(&mut self, ctx: &mut Context<'_>, key: Key) {
        self.remove(ctx, key, CallError::Forgotten);
    }

    /// Notes what has happened to a connection.
    pub(super) fn report(&mut self, ctx: &Context<'_>, key: Key, restarted: bool) {
        // Not by `Mux::get_mut`, which would borrow the reports, too.
        let entry = self.entries.get_mut(key.index as usize);
        let Some(entry) = entry.filter(|entry| entry.generation == key.generation) else {
            return;
        };
        self.reports.settle(key, entry);
        if !self.reports.watched {
            return;
        }
        let mut change = |change| self.reports.changes.push_back((entry.addr, change));
        let watch = &mut entry.watch;
        if restarted {
            watch.proven = false;
            change(Change::Reset);
        }
        if !watch.proven && entry.connection.is_proven() {
            watch.proven = true;
            change(Change::Proven);
        }
        let unconfirmed = entry.channel.unconfirmed();
        if watch.wants_room && unconfirmed <= watch.room as usize {
            watch.wants_room = false;
            change(Change::Room);
        }
        entry.connection.set_expecting(watch.waiting || unconfirmed > 0, ctx);
    }
}
