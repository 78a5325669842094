//! What the other side has observed of ours, and when we say what we have of theirs.

use std::time::Duration;

use super::{Carrier, Connection, MAX_UNACKNOWLEDGED, SIGNS, reaches};
use crate::airhook::flight::{Numbers, Seen};
use crate::context::Context;
use crate::time::Time;

/// However long round trips seem to be, whoever asks again is answered after this.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// After so many large packets lost in a row, while small ones pass, ours are small: where none
/// has ever got through,
const MAX_FIRST_LARGE_LOST: u8 = 2;
/// and where one has. (A path that changes; a fifth lost by chance does this once in 15,000.)
const MAX_LARGE_LOST: u8 = 6;

impl Connection {
    /// The other side has observed our packet `observed`; `prompt`: at once.
    pub(super) fn observe(
        &mut self,
        observed: u16,
        missed: &[u8],
        prompt: bool,
        ctx: &Context<'_>,
        carrier: &mut impl Carrier,
    ) {
        let oldest = self.next_message.wrapping_sub(self.unsettled() as u8);
        let ack_delay = self.ack_delay(ctx);
        if let Some(flight) = self.busy.as_mut().and_then(|busy| busy.flight.as_mut()) {
            if observed != self.observed
                && let Some(sent) = flight.measured(observed)
            {
                let sample = ctx.now.since(sent);
                if prompt {
                    self.round_trip.measure(sample);
                }
                if let Some(window) = self.window.as_mut().filter(|_| prompt || !self.original) {
                    window.measured(sample, self.round_trip.variation(), ctx.now);
                }
            }
            let mut settle = |token, fate| carrier.settle(token, fate);
            let early = self.trouble.as_ref().and_then(|trouble| Some((trouble.early_until?, trouble.early)));
            if let Some((_, early)) = early {
                flight.lose_early(oldest, early, missed, &mut settle);
            }
            if early.is_none_or(|(until, _)| reaches(observed, until)) {
                // Of those that a peer of 2003 would not take yet, none was lost on its way.
                let was_early = early.is_some();
                let large = ctx.config.narrow_packet;
                let mut lost = self.trouble.as_ref().map_or(Numbers::default(), |trouble| trouble.lost);
                let mut seen = flight.observed(observed, oldest, missed, large, &mut lost, &mut settle);
                if lost != Numbers::default() {
                    self.trouble.get_or_insert_default().lost = lost;
                }
                if let Some(trouble) = &mut self.trouble {
                    (trouble.early_until, trouble.lost) = (None, lost);
                }
                if self.note_sizes(&seen) || was_early {
                    seen.settled.lost = 0;
                }
                if let Some(window) = &mut self.window {
                    window.observed(seen.settled, observed, self.next_sequence, ack_delay, ctx.now);
                    if self.original && !self.numbers_omitted {
                        window.be_patient();
                    }
                }
            }
        }
        self.owed = self.owed.filter(|&owed| !reaches(observed, owed));
        self.observed = observed;
        self.agreed |= self.told.take_if(|told| reaches(observed, *told)).is_some();
        if self.bears_both && self.marked.take_if(|marked| reaches(observed, *marked)).is_some() {
            self.signs += 1;
            self.strict = self.signs >= SIGNS;
            if self.strict {
                // Whoever said so was not this peer.
                (self.original, self.numbers_omitted) = (false, false);
            }
        }
    }

    /// Learns whether large packets get through. True when those that were lost say nothing about
    /// congestion, since no large one does.
    fn note_sizes(&mut self, seen: &Seen) -> bool {
        if seen.large_passed {
            self.wide = true;
            self.large_lost = 0;
        } else {
            self.large_lost = self.large_lost.saturating_add(seen.large_lost);
        }
        let most = if self.wide { MAX_LARGE_LOST } else { MAX_FIRST_LARGE_LOST };
        // What says so was small, and the answer to something small.
        self.narrow |= self.large_lost >= most;
        self.narrow && seen.large_lost > 0 && !seen.large_passed
    }

    /// Decides when what just came is acknowledged: so many messages, and a gap of so many.
    /// `progress`: it observed what we had not been told.
    pub(super) fn schedule_acknowledgement(
        &mut self,
        messages: u8,
        gap: u8,
        progress: bool,
        ctx: &Context<'_>,
    ) {
        let now = ctx.now;
        self.unacknowledged = self.unacknowledged.saturating_add(messages);
        if !self.proven {
            // Both sides wait for the sessions to be agreed.
            self.news |= messages > 0;
            self.answer = true;
        } else if gap > 0
            || self.unacknowledged
                >= if self.missed() == 0 { MAX_UNACKNOWLEDGED } else { MAX_UNACKNOWLEDGED / 2 }
        {
            // Whoever loses packets one way loses them the other way, too.
            if gap > 0 {
                self.busy.get_or_insert_default().say_again = true;
            }
            self.acknowledge(Duration::ZERO, now);
        } else if messages > 0 {
            self.acknowledge(self.ack_delay(ctx), now);
        } else if self.owed.is_some() || (self.bears_both && !progress) {
            // Nothing new, but our acknowledgement has not arrived; or one of our kind asks
            // whether we are there, which our answer tells it: that brings it news, so it is not
            // answered in turn.
            let trip = self.round_trip.smoothed().unwrap_or(ctx.config.ack_delay);
            let again = self.last_sent + trip.min(LONGEST_PAUSE);
            self.answer_at(again.max(now));
        }
    }

    /// How long an acknowledgement waits for something to ride on: a quarter of a round trip at
    /// the most, so that whoever waits for it is not held up.
    pub(super) fn ack_delay(&self, ctx: &Context<'_>) -> Duration {
        let most = ctx.config.ack_delay;
        self.round_trip.smoothed().map_or(most, |trip| most.min(trip / 4))
    }

    /// The next packet acknowledges something new; it goes out after `wait` at the latest.
    pub(super) fn acknowledge(&mut self, wait: Duration, now: Time) {
        self.news = true;
        if wait.is_zero() {
            self.answer = true;
        } else {
            self.answer_at(now + wait);
        }
    }

    fn answer_at(&mut self, at: Time) {
        self.acknowledge_at.bring_forward(at);
    }

    /// Whether a message is reported missed that was confirmed before, or never sent.
    pub(super) fn is_contradicted(&self, missed: &[u8]) -> bool {
        let unsettled = self.unsettled();
        let oldest = self.next_message.wrapping_sub(unsettled as u8);
        let settled = |number: u8| usize::from(number.wrapping_sub(oldest)) >= unsettled;
        let lost = |number| self.trouble.as_ref().is_some_and(|trouble| trouble.lost.has(number));
        missed.iter().any(|&number| settled(number) && !lost(number))
    }

    /// The low byte of a sequence number of ours, widened to the newest that is
    /// meant; `None` when it cannot be one between the last observed and the newest.
    pub(super) fn widen(&self, low: u8) -> Option<u16> {
        let newest = self.next_sequence.wrapping_sub(1);
        let back = u16::from((newest as u8).wrapping_sub(low));
        (back <= newest.wrapping_sub(self.observed)).then(|| newest.wrapping_sub(back))
    }
}
