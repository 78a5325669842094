//! Packets from addresses that there is no connection with.
//!
//! Who has not shown that he receives what we send costs nothing: he is answered by one small
//! packet, whose session is a keyed hash, and forgotten. Whoever shows that session is there,
//! and gets a connection. Only an opening that brings messages, or did so before it was
//! repeated, is taken in at once, while there is room: so a request to a stranger is answered
//! within one round trip.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use super::Mux;
use crate::airhook::channel::Channel;
use crate::airhook::connection::is_original;
use crate::airhook::lru::Class;
use crate::airhook::opening::{Answer, Kind};
use crate::airhook::packet::{Messages, Packet};
use crate::context::{Context, Key};
use crate::time::Time;

/// So many answers wait at the most: what a driver takes in before it lets any out.
const MOST_ANSWERS: usize = 256;
/// The highest number of a packet that may be the first after our answer, by one who has sent
/// nothing to an earlier life of ours.
const MAX_FIRST: u16 = 255;

/// So many answers are remembered,
const MOST_LATE: usize = 64;
/// for this long: who speaks to a stranger just after answering him goes on in the same session.
/// A Python peer of 2003 that has heard it loses its request when it hears another.
const LATELY: Duration = Duration::from_secs(3);

/// Answers to strangers.
#[derive(Debug, Default)]
pub struct Answers {
    /// Those that wait to go out.
    waiting: VecDeque<(SocketAddr, Sessions)>,
    /// The last ones.
    late: VecDeque<(SocketAddr, Session, Time)>,
}

/// A session of ours that somebody has heard of.
#[derive(Clone, Copy, Debug)]
pub struct Session {
    id: u32,
    /// He has left out what the implementations of 2003 do.
    original: bool,
}

#[derive(Clone, Copy, Debug)]
struct Sessions {
    /// 0: ours alone.
    theirs: u32,
    ours: Session,
}

impl Answers {
    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Appends the next to `out`, and says where to send it.
    pub fn pop(&mut self, out: &mut Vec<u8>) -> Option<SocketAddr> {
        let (to, Sessions { theirs, ours }) = self.waiting.pop_front()?;
        Packet {
            observed_sequence: 0,
            sequence: 0,
            observed_session: theirs,
            session: ours.id,
            next: Some(0),
            missed: &[],
            messages: Messages::default(),
        }
        .emit(out);
        if self.waiting.is_empty() {
            // After a flood, not to be kept by each of many nodes.
            self.waiting = VecDeque::new();
        }
        Some(to)
    }

    /// The session that an answer to this address has shown just now, and forgets that.
    pub fn take_late(&mut self, addr: &SocketAddr, now: Time) -> Option<Session> {
        while self.late.front().is_some_and(|&(_, _, at)| now.since(at) >= LATELY) {
            self.late.pop_front();
        }
        let place = self.late.iter().rposition(|(to, ..)| to == addr)?;
        self.late.remove(place).map(|(_, ours, _)| ours)
    }

    fn note(&mut self, to: SocketAddr, ours: Session, now: Time) {
        self.take_late(&to, now);
        if self.late.len() >= MOST_LATE {
            self.late.pop_front();
        }
        self.late.push_back((to, ours, now));
    }
}

impl<C: Channel> Mux<C> {
    /// A packet has come from an address that we have no connection with. The connection that
    /// is to take it in, if one is.
    pub(super) fn meet(
        &mut self,
        ctx: &mut Context<'_>,
        from: SocketAddr,
        packet: &Packet<'_>,
    ) -> Option<Key> {
        if !self.blocks.has_room(&from, ctx.config) {
            self.traffic.refused += 1;
            return None;
        }
        let (theirs, shown) = (packet.session, packet.observed_session);
        let proof = match (theirs, shown) {
            (0, _) | (_, 0) => None,
            _ => self.openings.find(from, theirs, shown, ctx.now),
        };
        // Nothing but that one bare packet of ours has been seen.
        let is_first = packet.observed_sequence == 0 && packet.missed.is_empty();
        let original = is_original(packet);
        let session = |answer: Answer, id| Session { id, original: answer.original };
        match proof {
            // One who has heard our session alone may have had numbers before, and keep them.
            Some(answer @ Answer { kind: Kind::Bare, .. }) if is_first && packet.sequence <= MAX_FIRST => {
                self.admit(ctx, from, Class::Usual, Some(session(answer, shown)))
            }
            Some(answer @ Answer { kind: Kind::Alone, .. }) if is_first => {
                self.admit(ctx, from, Class::Usual, Some(session(answer, shown)))
            }
            // We have forgotten what he is talking about, but he is there. The id that makes him
            // start over must be one that he has never seen.
            Some(_) => self.admit(ctx, from, Class::Unproven, None),
            None if theirs == 0 || shown != 0 => {
                self.traffic.foreign += 1;
                self.traffic.dropped += 1;
                // Our session alone makes all others start over.
                let answer = Answer { kind: Kind::Alone, original };
                let ours = session(answer, self.openings.session(answer, from, 0, ctx.now));
                self.answer(ctx, from, Sessions { theirs: 0, ours });
                None
            }
            None => {
                let answer = Answer { kind: Kind::Bare, original };
                let ours = session(answer, self.openings.session(answer, from, theirs, ctx.now));
                // One that says that messages went before it has been repeated.
                let brings = packet.messages.count() > 0 || packet.next.is_some_and(|next| next > 0);
                if brings && self.has_room_for_unproven(ctx, &from) {
                    // A bare answer, with the number 0, may have gone out before.
                    return self.admit(ctx, from, Class::Unproven, Some(ours));
                }
                self.answer(ctx, from, Sessions { theirs, ours });
                None
            }
        }
    }

    /// A connection that we open.
    pub(super) fn reach(&mut self, ctx: &mut Context<'_>, addr: SocketAddr) -> Option<Key> {
        let session = self.answers.take_late(&addr, ctx.now);
        let key = self.open(ctx, addr, Class::Opened)?;
        self.adopt(key, session);
        Some(key)
    }

    fn has_room_for_unproven(&self, ctx: &Context<'_>, from: &SocketAddr) -> bool {
        self.lists.len(Class::Unproven) < ctx.config.max_unproven
            && self.entries.len() < ctx.config.max_connections
            && self.blocks.has_room_for_unproven(from, ctx.config)
    }

    /// A connection for a sender, who has heard of this session of ours.
    fn admit(
        &mut self,
        ctx: &mut Context<'_>,
        from: SocketAddr,
        class: Class,
        session: Option<Session>,
    ) -> Option<Key> {
        self.answers.take_late(&from, ctx.now);
        let key = self.open(ctx, from, class);
        match key {
            None => self.traffic.refused += 1,
            Some(key) => self.adopt(key, session),
        }
        key
    }

    fn adopt(&mut self, key: Key, session: Option<Session>) {
        if let (Some(Session { id, original }), Some(entry)) = (session, self.get_mut(key)) {
            entry.connection.adopt(id, original);
            entry.adopted = true;
        }
    }

    fn answer(&mut self, ctx: &Context<'_>, to: SocketAddr, sessions: Sessions) {
        if self.answers.waiting.len() < MOST_ANSWERS {
            self.answers.waiting.push_back((to, sessions));
            self.answers.note(to, sessions.ours, ctx.now);
            self.traffic.openings_answered += 1;
        } else {
            self.traffic.openings_dropped += 1;
        }
    }
}
