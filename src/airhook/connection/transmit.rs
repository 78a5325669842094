//! What goes out, and when.

use super::{Carrier, Connection, MAX_AHEAD, MAX_AHEAD_MESSAGES, MAX_BARE};
use crate::airhook::packet::{MAX_MESSAGE, MAX_MESSAGES, MAX_PACKET, Messages, Packet};
use crate::context::Context;

impl Connection {
    /// Whether [`transmit`](Self::transmit) has something to say now.
    pub fn wants_to_send(&self, carrier: &impl Carrier) -> bool {
        self.candidate.as_ref().is_some_and(|candidate| candidate.challenge)
            || (self.ahead() < MAX_AHEAD
                && (self.may_answer() || (carrier.ready() && self.room_for_messages() > 0)))
    }

    /// Appends the next packet to `out`, if there is something to say now.
    pub fn transmit(&mut self, ctx: &Context<'_>, carrier: &mut impl Carrier, out: &mut Vec<u8>) -> bool {
        if let Some(candidate) = self.candidate.as_mut().filter(|candidate| candidate.challenge) {
            candidate.challenge = false;
            candidate.emit(out);
            return true;
        }
        if !self.wants_to_send(carrier) {
            return false;
        }
        let start = out.len();
        let sequence = self.next_sequence;
        let room = self.room_for_messages();
        Packet {
            observed_sequence: self.observed_byte(),
            sequence,
            // The C library takes a new session of ours together with its own only if we
            // have observed its newest packet; alone, it takes it.
            observed_session: if self.guarded && self.original { 0 } else { self.theirs },
            session: self.ours,
            next: Some(self.next_message),
            missed: self.flight.as_ref().map_or(&[], |flight| flight.missed()),
            messages: Messages::default(),
        }
        .emit(out);
        let messages = self.fill(room, start, carrier, out);
        if messages == 0 && !self.may_answer() {
            // What there was to send did not fit into what may be sent.
            out.truncate(start);
            return false;
        }
        self.next_sequence = sequence.wrapping_add(1);
        if let Some(flight) = &mut self.flight {
            // Only messages are acknowledged promptly, and everything before the proof.
            let measures = messages > 0 || !self.proven;
            flight.sent(sequence, self.next_message, measures, ctx.now);
        }
        if std::mem::take(&mut self.news) {
            self.owed = Some(sequence);
        }
        self.answer = false;
        self.proof_due = false;
        self.acknowledge_at = None;
        self.unacknowledged = 0;
        self.credit = self.credit.saturating_sub(out.len() - start);
        self.last_sent = ctx.now;
        if messages > 0 {
            self.probe_at = None;
        }
        self.arm_probe(ctx);
        true
    }

    /// Puts messages into the packet that begins at `start`, up to `room` bytes in all.
    fn fill(&mut self, room: usize, start: usize, carrier: &mut impl Carrier, out: &mut Vec<u8>) -> usize {
        let mut messages = 0;
        while carrier.ready() && self.unsettled() < MAX_MESSAGES {
            let at = out.len();
            let left = (start + room).saturating_sub(at + 1).min(MAX_MESSAGE);
            out.push(0);
            let Some(token) = (if left > 0 { carrier.fill(left, out) } else { None }) else {
                out.truncate(at);
                break;
            };
            // `fill` has appended 1 to `left` bytes.
            out[at] = (out.len() - at - 2) as u8;
            self.flight.get_or_insert_default().put(token);
            self.next_message = self.next_message.wrapping_add(1);
            messages += 1;
        }
        messages
    }

    /// What our next packet observes.
    fn observed_byte(&self) -> u8 {
        // A Python peer that has sent number 65,535 rejects packets that observe it, and
        // waits for ever; it takes those that observe what it has not sent yet.
        let wrapped = self.newest == u16::MAX && self.original && !self.numbers_omitted;
        // 0 while there is none, as the C library does: it starts at 1.
        if self.fresh || wrapped { 0 } else { self.newest as u8 }
    }

    /// How many packets of ours the other side has not observed.
    pub(super) fn ahead(&self) -> u16 {
        self.next_sequence.wrapping_sub(1).wrapping_sub(self.observed)
    }

    /// Whether a packet without messages is to go out, and may.
    fn may_answer(&self) -> bool {
        self.answer && (self.proven || self.opened || self.credit >= MAX_BARE)
    }

    /// How large a packet with messages may be now; 0: none may go.
    fn room_for_messages(&self) -> usize {
        // With nothing unsettled no bare packet asks after it: then all numbers may be used.
        let limit = if self.unsettled() == 0 { MAX_AHEAD } else { MAX_AHEAD_MESSAGES };
        if self.held || self.ahead() >= limit || self.unsettled() >= MAX_MESSAGES {
            0
        } else if self.proven || (self.opened && self.next_message == 0) {
            MAX_PACKET
        } else {
            self.credit.min(MAX_PACKET)
        }
    }
}
