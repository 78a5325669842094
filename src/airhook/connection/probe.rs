//! Asking after what should have come, and giving up.

use std::time::Duration;

use super::{Carrier, Connection, EARLY_OPENINGS, ORIGINAL_PAUSE};
use crate::airhook::packet::MAX_MESSAGES;
use crate::config::Config;
use crate::context::Context;
use crate::time::Time;

/// So many of the longest messages fit into a narrow packet.
const MAX_AGAIN: usize = 4;
/// So many probes go out at the same distance before each waits twice as long as the last.
const EARLY_PROBES: u8 = 2;
/// After so many probes in a row nothing gets through any more (RFC 9002, 7.6: persistent
/// congestion, after three of its probe times).
const MANY_PROBES: u8 = 3;
/// Openings may be so many times further apart: whoever does not answer may never have been there.
const OPENING: u32 = 4;
/// Where nobody waits for an answer, probes may be so many times further apart.
const IDLY: u32 = 40;

impl Connection {
    /// Does what is due at `now`. False when the other side has not answered the
    /// opening for good: the connection is to be dropped.
    #[must_use]
    pub fn handle_timeout(&mut self, ctx: &mut Context<'_>, carrier: &mut impl Carrier) -> bool {
        let is_past = |at: &mut Time| *at <= ctx.now;
        if let Some(busy) = &mut self.busy {
            busy.send_at.take_if(is_past);
        }
        if let Some(trouble) = &mut self.trouble
            && trouble.release_at.take_if(is_past).is_some()
        {
            self.release(false, ctx, carrier);
        }
        let is_past = |at: &mut Time| *at <= ctx.now;
        self.answer |= self.acknowledge_at.take_past(ctx.now);
        let mut goes_on = true;
        if let Some(busy) = &mut self.busy
            && busy.probe_at.take_if(is_past).is_some()
            && self.is_due()
        {
            goes_on = self.probe(ctx, carrier);
        }
        self.tidy();
        goes_on
    }

    /// What was due has not come: asks after it, or gives up.
    fn probe(&mut self, ctx: &mut Context<'_>, carrier: &mut impl Carrier) -> bool {
        let config = ctx.config;
        let busy = self.busy.get_or_insert_default();
        if self.silent == 0 {
            busy.silent_since = ctx.now;
        }
        let silence = ctx.now.since(busy.silent_since);
        self.silent = self.silent.saturating_add(1);
        let given_up =
            if self.original { self.silent > config.max_heartbeats } else { silence >= config.max_silence };
        if !self.proven {
            if self.silent > config.max_openings {
                return false;
            }
        } else if given_up {
            self.restart(ctx.rng, carrier);
        } else {
            if self.silent > MANY_PROBES + 1 {
                self.write_off();
            }
            // What asks after them may as well bring them (RFC 9002, 6.2.4); when that has not
            // helped, it is the network that is out, and asking is enough.
            self.send_oldest_again(if self.silent < MANY_PROBES { MAX_AGAIN } else { 1 }, carrier);
        }
        self.answer = true;
        self.busy.get_or_insert_default().probing = true;
        self.arm_probe(ctx);
        true
    }

    /// What is on its way is taken for lost, and the window for too large.
    fn write_off(&mut self) {
        if let Some(flight) = self.busy.as_mut().and_then(|busy| busy.flight.as_mut()) {
            flight.write_off();
        }
        if let Some(window) = &mut self.window
            && !self.original
        {
            window.collapse();
        }
    }

    /// Sends the oldest messages that are on their way again, without waiting to hear what became
    /// of them, if the other side can tell.
    fn send_oldest_again(&mut self, count: usize, carrier: &mut impl Carrier) {
        // Each takes a number of its own.
        let count = count.min(MAX_MESSAGES.saturating_sub(self.unsettled()));
        // One of 2003 whose stream repeats itself is deaf from then on.
        if !self.original
            && carrier.tells_apart()
            && let Some(flight) = self.busy.as_mut().and_then(|busy| busy.flight.as_mut())
        {
            flight.lose_oldest(count, |token, fate| carrier.settle(token, fate));
        }
    }

    /// The other side is heard again.
    pub(super) fn end_silence(&mut self, carrier: &mut impl Carrier) {
        if std::mem::take(&mut self.silent) >= MANY_PROBES && self.proven && self.unsettled() > 0 {
            // It has just told that the network is back, and need not be asked for that.
            self.send_oldest_again(MAX_AGAIN, carrier);
            self.answer = true;
            self.busy.get_or_insert_default().probing = true;
        }
    }

    /// Whether the other side owes us something, so that its silence means a loss.
    fn is_due(&self) -> bool {
        let in_flight = self.flight().is_some_and(|flight| !flight.is_empty());
        // An unproven sender asks by itself.
        (self.proven || self.opened) && (in_flight || self.held || (self.expecting && self.proven))
    }

    /// Sees to it that the other side is asked in time after what is due. Unless it has taken
    /// something in (`progress`), the time that it was to be asked at before stands.
    pub(super) fn arm_probe_after(&mut self, progress: bool, ctx: &Context<'_>) {
        let before = self.busy.as_mut().and_then(|busy| busy.probe_at.take()).filter(|_| !progress);
        self.arm_probe(ctx);
        if let (Some(busy), Some(before)) = (&mut self.busy, before) {
            busy.probe_at = busy.probe_at.map(|at| before.min(at));
        }
    }

    pub(super) fn arm_probe(&mut self, ctx: &Context<'_>) {
        if self.probe_at().is_some() || !self.is_due() {
            return;
        }
        let config = ctx.config;
        // An answer comes at once, a mere acknowledgement may wait.
        let ack_delay = if self.expecting { Duration::ZERO } else { config.ack_delay };
        let mut wait = self.patience_with(ack_delay, config);
        let known = self.usual > 0 && Duration::from_micros(self.usual.into()) < config.initial_probe;
        let early = match self.proven {
            true if self.original => 0,
            true => EARLY_PROBES,
            false if known => EARLY_OPENINGS,
            false => 1,
        };
        let doublings = self.silent.saturating_sub(early);
        if self.proven && self.flight().is_none() {
            // Only an answer is due, and its sender may still be working on it.
            wait = wait.max(config.initial_probe);
        }
        wait = wait.saturating_mul(1 << doublings.min(16)).min(self.longest_probe(config).max(wait));
        // They have not said a word: the last opening is for those of 2003, too.
        let last = !self.proven && self.silent.saturating_add(1) >= config.max_openings;
        if (self.original || last) && self.silent > 0 {
            wait = wait.max(ORIGINAL_PAUSE);
        }
        self.busy.get_or_insert_default().probe_at = Some(ctx.now + wait);
    }

    /// How long a probe waits at the most.
    fn longest_probe(&self, config: &Config) -> Duration {
        let trip = self.round_trip.smoothed().unwrap_or_default();
        if !self.proven {
            config.max_probe.saturating_mul(OPENING)
        } else if self.expecting {
            // After an outage a second is enough for one to arrive, its answer, and what was
            // lost, up to round trips of 300 ms.
            config.max_probe.min(Duration::from_secs(1).saturating_sub(trip * 2)).max(trip)
        } else {
            config.max_probe.saturating_mul(IDLY)
        }
    }

    /// How long to wait for an answer before asking after it.
    pub fn patience(&self, config: &Config) -> Duration {
        self.patience_with(config.ack_delay, config)
    }

    fn patience_with(&self, ack_delay: Duration, config: &Config) -> Duration {
        let initial = match self.usual {
            0 => config.initial_probe,
            usual => Duration::from_micros(usual.into()),
        };
        self.round_trip.patience(ack_delay, initial)
    }
}
