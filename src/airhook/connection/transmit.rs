//! What goes out, and when.

use super::parts::Deadline;
use super::{Carrier, Connection, MAX_AHEAD, MAX_AHEAD_MESSAGES, MAX_BARE};
use crate::airhook::packet::{MAX_MESSAGE, MAX_MESSAGES, MAX_PACKET, Messages, Packet};
use crate::airhook::window::Window;
use crate::config::Config;
use crate::context::Context;
use crate::time::Time;

impl Connection {
    /// Whether [`transmit`](Self::transmit) has something to say now.
    pub fn wants_to_send(&self, carrier: &impl Carrier) -> bool {
        let candidate = self.trouble.as_ref().and_then(|trouble| trouble.candidate.as_ref());
        candidate.is_some_and(|candidate| candidate.challenge)
            || (self.ahead() < MAX_AHEAD
                && (self.may_answer()
                    || (self.send_at().is_none() && carrier.ready() && self.room_for_messages() > 0)))
    }

    /// Appends the next packet to `out`, if there is something to say now.
    pub fn transmit(&mut self, ctx: &Context<'_>, carrier: &mut impl Carrier, out: &mut Vec<u8>) -> bool {
        let candidate = self.trouble.as_mut().and_then(|trouble| trouble.candidate.as_mut());
        if let Some(candidate) = candidate.filter(|candidate| candidate.challenge) {
            candidate.challenge = false;
            candidate.emit(out);
            return true;
        }
        if !self.wants_to_send(carrier) {
            return false;
        }
        let start = out.len();
        let sequence = self.next_sequence;
        self.rest(ctx);
        // The C library takes a new session of ours together with its own only if we
        // have observed its newest packet; alone, it takes it.
        // (Not for ever: two of ours that take each other for it would never agree.)
        let alone = self.guarded && self.original && sequence < 16;
        let mut room = self.room_for_messages().min(self.packet_size(ctx.config));
        if self.send_at().is_some() && !self.answer {
            room = 0;
        }
        Packet {
            observed_sequence: self.observed_byte(),
            sequence,
            observed_session: if alone { 0 } else { self.theirs },
            session: self.ours,
            next: Some(self.next_message),
            missed: self.flight().map_or(&[], |flight| flight.missed()),
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
        let size = out.len() - start;
        if messages > 0 {
            self.pace(size, ctx.now);
        }
        if let Some(flight) = self.busy.as_mut().and_then(|busy| busy.flight.as_mut()) {
            // Acknowledged promptly is what calls for an answer, and everything before the proof;
            // a peer of 2003 acknowledges our answers when it next has something to say.
            let measures = if self.proven { messages > 0 && (self.expecting || self.strict) } else { true };
            flight.sent(sequence, self.next_message, if messages > 0 { size } else { 0 }, measures, ctx.now);
        }
        if !self.agreed && self.theirs != 0 && !alone {
            self.told.get_or_insert(sequence);
        }
        if self.marked.is_none() && !self.strict && self.proven && self.bears_both {
            self.marked = Some(sequence);
        }
        if std::mem::take(&mut self.news) {
            self.owed = Some(sequence);
        }
        self.answer = false;
        self.proof_due = false;
        self.unacknowledged = 0;
        self.credit = self.credit.saturating_sub(u32::try_from(size).unwrap_or(u32::MAX));
        self.last_sent = ctx.now;
        self.acknowledge_at = Deadline::NONE;
        let (missed, again_at) = (self.missed(), ctx.now + self.ack_delay(ctx));
        if let Some(busy) = &mut self.busy {
            busy.probing = false;
            if std::mem::take(&mut busy.say_again) && missed > 0 && !self.original {
                self.acknowledge_at.bring_forward(again_at);
            }
            if messages > 0 {
                busy.probe_at = None;
            }
        }
        self.arm_probe(ctx);
        self.wait_for_turn(carrier, ctx.now);
        self.tidy();
        true
    }

    /// A packet of so many bytes, with messages, goes out.
    fn pace(&mut self, size: usize, now: Time) {
        // One packet at a time needs no window.
        let in_flight = self.in_flight();
        if self.window.is_none() && in_flight > 0 {
            self.window = Some(Box::new(Window::new(self.next_sequence, self.round_trip.smoothed(), now)));
        }
        if let Some(window) = &mut self.window {
            if self.original && !self.numbers_omitted {
                window.be_patient();
            }
            window.sent(size, self.round_trip.smoothed(), now);
        }
    }

    /// Notes what keeps back what there is to send.
    fn wait_for_turn(&mut self, carrier: &impl Carrier, now: Time) {
        let in_flight = self.in_flight();
        if let Some(window) = &mut self.window
            && carrier.ready()
        {
            if !window.has_room(in_flight) {
                window.note_limited();
            } else if self.busy.as_ref().is_none_or(|busy| busy.send_at.is_none())
                && let Some(at) = window.waits_until(now)
            {
                self.busy.get_or_insert_default().send_at = Some(at);
            }
        }
    }

    /// What was known of the path is worth less after a pause.
    fn rest(&mut self, ctx: &Context<'_>) {
        let idle = ctx.now.since(self.last_sent);
        let patience = self.patience(ctx.config);
        let in_flight = self.in_flight();
        if let Some(window) = &mut self.window
            && in_flight == 0
        {
            window.rest(idle, patience, self.next_sequence);
        }
    }

    /// Bytes that are on their way.
    fn in_flight(&self) -> usize {
        self.flight().map_or(0, |flight| flight.bytes())
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
            self.make_flight().put(token);
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
        self.answer && (self.proven || self.opened || self.credit as usize >= MAX_BARE)
    }

    /// How large a packet with messages may be now; 0: none may go.
    fn room_for_messages(&self) -> usize {
        // With nothing unsettled no bare packet asks after it: then all numbers may be used.
        let limit = if self.unsettled() == 0 { MAX_AHEAD } else { MAX_AHEAD_MESSAGES };
        if self.held || self.ahead() >= limit || self.unsettled() >= MAX_MESSAGES {
            0
        } else if self.proven {
            let in_flight = self.in_flight();
            let fits = self.is_probing()
                || match &self.window {
                    Some(window) => window.has_room(in_flight),
                    None => true,
                };
            if fits { MAX_PACKET } else { 0 }
        } else if self.opened && self.next_message == 0 {
            MAX_PACKET
        } else {
            (self.credit as usize).min(MAX_PACKET)
        }
    }

    /// How large a packet may be for the path, as far as that is known.
    fn packet_size(&self, config: &Config) -> usize {
        // Who asks whether the other side is there must not fail for that.
        if self.narrow || self.is_probing() || !self.proven {
            config.narrow_packet
        } else {
            config.max_packet
        }
    }
}
