//! Calls that wait for answers over the connections.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use super::Mux;
use super::addresses::Hashed;
use crate::airhook::channel::Channel;
use crate::context::{Context, Key};
use crate::error::CallError;

/// The first call that waits for an answer from a peer, if one does; in 8 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FirstCall(Key);

impl FirstCall {
    pub(super) const NONE: FirstCall = FirstCall(Key::new(u32::MAX, 0));

    fn of(call: Option<Key>) -> Self {
        call.map_or(Self::NONE, FirstCall)
    }

    fn get(self) -> Option<Key> {
        (self != Self::NONE).then_some(self.0)
    }
}

/// Calls to a peer beside the first, in their order, by the place of its connection: most often there are
/// none, and a connection takes no room for them.
#[derive(Debug, Default)]
pub(super) struct MoreCalls(HashMap<u32, VecDeque<Key>, Hashed>);

impl MoreCalls {
    fn push(&mut self, place: u32, call: Key) {
        self.0.entry(place).or_default().push_back(call);
    }

    /// The first of them, which is the connection's only one, or its first one, from now on.
    fn pop(&mut self, place: u32) -> Option<Key> {
        let calls = self.0.get_mut(&place)?;
        let first = calls.pop_front();
        if calls.is_empty() {
            self.0.remove(&place);
        }
        first
    }

    fn remove(&mut self, place: u32, call: Key) {
        if let Some(calls) = self.0.get_mut(&place) {
            calls.retain(|&waiting| waiting != call);
            if calls.is_empty() {
                self.0.remove(&place);
            }
        }
    }

    /// There are no connections any more.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// After so many calls in a row without an answer a peer of 2003 gets a new session.
const MAX_DOUBTS: u8 = 2;

impl<C: Channel> Mux<C> {
    /// Whether a call to this address waits for its answer.
    pub fn is_expecting(&self, addr: &SocketAddr) -> bool {
        self.place_of(addr).is_some_and(|index| {
            self.entries.get(index as usize).is_some_and(|entry| entry.call.get().is_some())
        })
    }

    /// A call to this peer waits for its answer; it fails with the session.
    pub fn expect(&mut self, ctx: &mut Context<'_>, key: Key, call: Key) {
        if let Some(entry) = self.get_mut(key) {
            let is_first = entry.call.get().is_none();
            if is_first {
                entry.call = FirstCall(call);
            }
            entry.connection.set_expecting(true, ctx);
            if !is_first {
                self.more_calls.push(key.index, call);
            }
            self.arm(ctx, key);
        }
    }

    /// The call waits no longer.
    pub fn expect_no_more(&mut self, ctx: &mut Context<'_>, key: Key, call: Key) {
        let entry = self.entries.get_mut(key.index as usize);
        let Some(entry) = entry.filter(|entry| entry.generation == key.generation) else {
            return;
        };
        if entry.call != FirstCall(call) {
            self.more_calls.remove(key.index, call);
        } else {
            entry.call = FirstCall::of(self.more_calls.pop(key.index));
        }
        if entry.call.get().is_none() {
            entry.connection.set_expecting(false, ctx);
        }
    }

    /// The calls that wait over this connection have failed, and this is why.
    pub(super) fn fail_all(&mut self, place: u32, first: FirstCall, why: &CallError) {
        let mut next = first.get();
        while let Some(call) = next {
            self.failed.push((call, why.clone()));
            next = self.more_calls.pop(place);
        }
    }

    /// A call that never went out: [`poll_failed`](Self::poll_failed) tells of it.
    pub fn fail(&mut self, call: Key, why: CallError) {
        self.failed.push((call, why));
    }

    /// A call that was lost with its connection or session, or was [failed](Self::fail), and
    /// why. Drain after every input.
    pub fn poll_failed(&mut self) -> Option<(Key, CallError)> {
        self.failed.pop()
    }

    /// A call over this connection has gone unanswered. A Python peer of 2003 whose
    /// stream has broken may acknowledge everything and answer nothing: a new session
    /// heals it.
    pub fn doubt(&mut self, ctx: &mut Context<'_>, key: Key) {
        if let Some(entry) = self.get_mut(key)
            && entry.connection.is_proven()
            && entry.connection.is_original()
        {
            entry.doubts += 1;
            if entry.doubts >= MAX_DOUBTS {
                self.renew(ctx, key);
            }
        }
    }
}
