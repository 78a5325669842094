//! Who speaks with whom: agreeing on sessions, and noticing restarts.

use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;
use std::time::Duration;

use rand::Rng;

use super::early::{Early, Overtaken};
use super::parts::Deadline;
use super::{Candidate, Carrier, Connection, MAX_AHEAD, MAX_AHEAD_REFUSALS, random_session, usual_session};
use crate::airhook::packet::{Messages, Packet};
use crate::context::Context;
use crate::random::Random;
use crate::time::Time;

/// The number of every packet that offers a session. A Python peer that has
/// restarted takes numbers up to 255 only, or up to 255 above that of a packet
/// of our proven session that came before: this one it takes in both cases.
const OFFER: u16 = MAX_AHEAD;

impl Connection {
    /// Gives a connection that has neither sent nor received anything this session of ours, of
    /// which a bare packet with the number 0 went out before it was made. `original`: in answer
    /// to one who left out what the implementations of 2003 do.
    pub fn adopt(&mut self, session: u32, original: bool) {
        self.ours = session;
        self.next_sequence = 1;
        self.original = original;
    }

    /// The packet bears the session that we know, or none. Whether it is to be taken.
    pub(super) fn agree_on_known(
        &mut self,
        packet: &Packet<'_>,
        ctx: &mut Context<'_>,
        carrier: &mut impl Carrier,
    ) -> bool {
        let shows_other = packet.observed_session != 0 && packet.observed_session != self.ours;
        let shows_us = packet.observed_session == self.ours;
        if shows_other && self.proven && packet.session != 0 {
            let ahead = packet.sequence.wrapping_sub(self.newest);
            if !(1..=MAX_AHEAD).contains(&ahead) {
                // From before it heard of our present session, or somebody repeats that.
                return false;
            }
            // Those of 2003 that have reset themselves begin with message 0; the C library says so by
            // leaving the number out.
            let is_reset = self.agreed || self.original || packet.next.is_none_or(|next| next == 0);
            if is_reset || self.ahead() >= MAX_AHEAD_REFUSALS {
                // It has reset itself and kept its session: start over, at once, since what we went
                // on to send it would take for new.
                self.restart(ctx.rng, carrier);
            }
            // Otherwise it has heard a stranger's session after ours, and before it heard that we
            // know its own, which our answer tells it.
        }
        let taken = if self.theirs == 0 || shows_other {
            // We have restarted, and it does not know.
            false
        } else {
            self.proven || shows_us || (packet.session != 0 && !self.guarded)
        };
        taken || self.refuse(ctx.now)
    }

    /// The packet bears a session that is not the one we know. Whether it is to be taken.
    pub(super) fn agree_on_new(
        &mut self,
        packet: &Packet<'_>,
        ctx: &mut Context<'_>,
        carrier: &mut impl Carrier,
    ) -> bool {
        let shows_us = packet.observed_session == self.ours;
        let shows_other = packet.observed_session != 0 && !shows_us;
        if !self.proven && self.theirs != 0 {
            // What was seen of somebody else says nothing about this one.
            (self.original, self.numbers_omitted) = (false, false);
        }
        match (self.proven, shows_us) {
            (true, true) => {
                // It has restarted, and what we sent to its old life reached it.
                self.restart(ctx.rng, carrier);
                self.learn(packet.session, carrier);
                self.answer = true;
                // The C library sends what we did not confirm again, in our new session.
                !self.original
            }
            (false, true) => {
                self.learn(packet.session, carrier);
                true
            }
            (false, false) => {
                // What speaks to an earlier life of ours is answered by our session alone:
                // that makes all others start over. And who has heard two sessions takes nothing
                // before one shows ours: what was said to the first may yet be acted on.
                self.guarded |= self.theirs != 0;
                self.learn(if shows_other { 0 } else { packet.session }, carrier);
                !(shows_other || self.guarded) || self.refuse(ctx.now)
            }
            (true, false) => self.consider(packet, shows_other, ctx, carrier),
        }
    }

    /// We have a proven session; somebody else, or the past, speaks from the same
    /// address. Whether the packet is to be taken.
    fn consider(
        &mut self,
        packet: &Packet<'_>,
        shows_other: bool,
        ctx: &mut Context<'_>,
        carrier: &mut impl Carrier,
    ) -> bool {
        let candidate = self.trouble.as_ref().and_then(|trouble| trouble.candidate.as_ref());
        if candidate.is_some_and(|c| c.offer(packet.session) == packet.observed_session) {
            self.restart(ctx.rng, carrier);
            self.ours = packet.observed_session;
            self.next_sequence = OFFER.wrapping_add(1);
            self.observed = OFFER.wrapping_sub(1);
            self.learn(packet.session, carrier);
            return true;
        }
        if shows_other && self.silent == 0 {
            // Answered from the proven session: the past takes that for an ordinary
            // packet, and a new life of the peer learns our session from it.
            return self.refuse(ctx.now);
        }
        // Or both sides have proven themselves in two sessions that crossed, and neither is heard
        // in its own any more.
        let candidate = self.trouble.get_or_insert_default().candidate.get_or_insert_with(|| Candidate {
            secret: ctx.rng.next_u64(),
            theirs: 0,
            challenge: false,
        });
        candidate.theirs = packet.session;
        candidate.challenge = true;
        false
    }

    /// Takes nothing of a packet, but lets its sender know our sessions; false. To a proven
    /// peer at most once a round trip, and not so often that numbers run short: it has
    /// no reason to observe such packets, and whoever made us send them may be a stranger.
    fn refuse(&mut self, now: Time) -> bool {
        self.answer |= !self.proven
            || (self.ahead() < MAX_AHEAD_REFUSALS
                && now.since(self.last_sent) >= self.round_trip.smoothed().unwrap_or_default());
        false
    }

    /// The other side is in a new session of its own: its numbers start afresh.
    fn learn(&mut self, session: u32, carrier: &mut impl Carrier) {
        self.theirs = session;
        (self.told, self.agreed) = (None, false);
        self.doubt_early();
        self.forget_incoming(carrier);
    }

    /// A Python peer that has not seen its session from us observes packets without
    /// taking their messages, and reports them missed later.
    fn doubt_early(&mut self) {
        if self.unsettled() > 0 {
            let trouble = self.trouble.get_or_insert_default();
            trouble.early_until = Some(self.next_sequence);
            trouble.early = self.next_message;
        }
    }

    fn forget_incoming(&mut self, carrier: &mut impl Carrier) {
        self.fresh = true;
        self.expected = 0;
        self.owed = None;
        self.news = false;
        self.unacknowledged = 0;
        self.acknowledge_at = Deadline::NONE;
        if let Some(busy) = &mut self.busy {
            busy.say_again = false;
            busy.flight.iter_mut().for_each(|flight| flight.forget_missed());
        }
        if let Some(trouble) = &mut self.trouble {
            (trouble.early_packets, trouble.release_at) = (Early::default(), None);
            trouble.overtaken = Overtaken::default();
        }
        carrier.restart_incoming();
    }

    /// Opens a new session of ours; what was not settled is lost for good. The
    /// other side starts afresh too when it hears of that.
    pub(super) fn restart(&mut self, rng: &mut Random, carrier: &mut impl Carrier) {
        self.ours = random_session(rng);
        self.next_sequence = 0;
        self.observed = u16::MAX;
        self.next_message = 0;
        self.silent = 0;
        // Who was never proven does not become so dear to us by what he sends.
        self.opened |= self.proven;
        self.proven = false;
        (self.told, self.agreed) = (None, false);
        self.held = false;
        self.guarded = true;
        self.credit = 0;
        self.busy = None;
        self.window = None;
        (self.strict, self.marked, self.signs, self.bears_both) = (false, None, 0, false);
        (self.wide, self.narrow, self.large_lost) = (false, false, 0);
        self.trouble = None;
        self.forget_incoming(carrier);
        carrier.restart_outgoing();
    }

    /// The other side has shown our session.
    pub(super) fn prove(&mut self, packet: &Packet<'_>, ctx: &Context<'_>) {
        self.proven = true;
        if self.flight().is_none()
            && self.last_sent != Time::ZERO
            && self.widen(packet.observed_sequence) == Some(self.next_sequence.wrapping_sub(1))
        {
            // Our newest packet was answered at once, since it showed our session.
            self.round_trip.measure(ctx.now.since(self.last_sent));
        }
        self.held = false;
        self.proof_due = true;
        if std::mem::take(&mut self.guarded) {
            // It knew us before: a Python peer then forgot all, and took nothing yet.
            self.doubt_early();
        }
        // That it may know that we know: a Python peer takes our first messages only
        // then, and those in doubt wait for it. Who sends messages can wait.
        let wait = if packet.messages.count() == 0 { Duration::ZERO } else { self.ack_delay(ctx) };
        self.acknowledge(wait, ctx.now);
    }
}

impl Candidate {
    /// The session that we offer to theirs. It is not kept for each: then those whom a
    /// stranger makes up would push the peer's out.
    fn offer(&self, theirs: u32) -> u32 {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.secret);
        hasher.write_u32(theirs);
        usual_session(hasher.finish() as u32)
    }

    /// The one packet of that session, until it is ours: nothing of theirs was taken.
    pub(super) fn emit(&self, out: &mut Vec<u8>) {
        Packet {
            observed_sequence: 0,
            sequence: OFFER,
            observed_session: self.theirs,
            session: self.offer(self.theirs),
            next: Some(0),
            missed: &[],
            messages: Messages::default(),
        }
        .emit(out);
    }
}
