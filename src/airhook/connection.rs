//! One end of an Airhook connection: sessions, sequence and message numbers,
//! acknowledgement, repetition.
//!
//! A machine without I/O. Input: [`Connection::receive`] and
//! [`Connection::handle_timeout`]; then drain [`Connection::transmit`] until it
//! has nothing to say, and come back at [`Connection::deadline`]. Messages come
//! from and go to a [`Carrier`], the layer above.
//!
//! # Sessions
//!
//! Each side names its session by a random 32-bit number. The other side has
//! *proven* itself once it has shown ours: then it receives what we send. From
//! before that moment hardly anything is taken on trust:
//!
//! * While nothing is proven, the newest session that a packet shows is answered,
//!   and its messages are taken (they cost nobody else anything), but no more is
//!   sent than three times what came in.
//! * Once a session is proven, a packet with another one changes nothing. It is
//!   answered from a session made up for it, the *candidate*, and only when the
//!   sender shows that one does it replace the proven one.
//!
//! Our packets always bear both sessions and the next message number; the
//! implementations of 2003 left them out when they could, and mistook each other
//! after restarts.

mod sessions;
mod transmit;

use std::time::Duration;

use rand::Rng;

use crate::airhook::flight::{Fate, Flight, Numbers, Token};
use crate::airhook::packet::Packet;
use crate::airhook::round_trip::RoundTrip;
use crate::config::Config;
use crate::context::Context;
use crate::random::Random;
use crate::time::Time;

/// The furthest that a sequence number may be ahead of the newest accepted one.
const MAX_AHEAD: u16 = 255;
/// No messages into a packet this far ahead, so that bare packets still may go.
const MAX_AHEAD_MESSAGES: u16 = 224;
/// No answers to strangers this far ahead of a proven peer.
const MAX_AHEAD_REFUSALS: u16 = 64;
/// So often an opening is repeated at the same distance, if it is known how long answers
/// take, before each waits twice as long as the last.
const EARLY_OPENINGS: u8 = 3;
/// Acknowledge at the latest after so many messages: at 255 unconfirmed ones a
/// Python peer of 2003 and its partner both fall silent.
const MAX_UNACKNOWLEDGED: u8 = 64;
/// The peers of 2003 answer what tells them nothing new only when their own last
/// packet is over a second old.
const ORIGINAL_PAUSE: Duration = Duration::from_millis(1100);
/// An unproven sender gets at most this many times what it sent (RFC 9000, 8.1).
const AMPLIFICATION: usize = 3;
/// More credit than this is never needed: a KRPC message with its framing.
const MAX_CREDIT: usize = 128 * 1024;
/// How many misses an unproven sender may claim: each costs a byte in the answer.
const MAX_UNPROVEN_MISSES: usize = 8;
/// The size of an answer without messages to an unproven sender.
const MAX_BARE: usize = 4 + 8 + 1 + 1 + MAX_UNPROVEN_MISSES;

/// The layer above a connection: where messages come from and go to.
pub trait Carrier {
    /// Whether there is a message to send now.
    fn ready(&self) -> bool;
    /// Appends the next message, of 1 to `room` bytes, to `packet`, and names
    /// it; `None`, and nothing appended, when there is none or it does not fit.
    fn fill(&mut self, room: usize, packet: &mut Vec<u8>) -> Option<Token>;
    /// A message is settled: it arrived, or must be sent again.
    fn settle(&mut self, token: Token, fate: Fate);
    /// Whether the carrier at the other end passes over messages that come twice.
    fn tells_apart(&self) -> bool {
        false
    }
    /// A message arrived.
    fn deliver(&mut self, message: &[u8]);
    /// The other side's numbering starts afresh.
    fn restart_incoming(&mut self);
    /// Our numbering starts afresh: whatever was not settled is lost for good.
    fn restart_outgoing(&mut self);
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was accepted; its messages have been delivered.
    Accepted,
    /// It was overtaken by a later one, or repeats one; nothing was delivered.
    Stale,
    /// It speaks of other sessions than ours; at most it is answered.
    Foreign,
    /// It says what cannot be, and changed nothing.
    Invalid,
}

/// The newest session that came from elsewhere while ours was proven. It is answered
/// from one that we make up for it.
#[derive(Debug)]
struct Candidate {
    /// What the sessions that we make up depend on. A new one with each proven session,
    /// so that nobody can repeat what was shown before.
    secret: u64,
    theirs: u32,
    /// It has not been answered yet.
    challenge: bool,
}

/// One end of a connection. About 200 bytes when nothing is in flight.
#[derive(Debug)]
pub struct Connection {
    ours: u32,
    /// The other side's session; 0: unknown.
    theirs: u32,
    /// The number of our next packet.
    next_sequence: u16,
    /// The newest of our packets that the other side has observed.
    observed: u16,
    /// The newest packet accepted from the other side.
    newest: u16,
    /// The first of our packets that acknowledged the newest thing that asked for it.
    owed: Option<u16>,
    /// The first of our packets after the other side could take messages: it bore the
    /// other side's session. Messages sent before that are settled by nothing older.
    early_until: Option<u16>,
    /// How many messages those are.
    early: u8,
    next_message: u8,
    expected: u8,
    /// Messages taken since our last packet.
    unacknowledged: u8,
    /// Probes since the other side was last heard.
    silent: u8,
    proven: bool,
    /// Any sequence number of theirs will do, as it is the first of its session.
    fresh: bool,
    /// Nothing is taken before the other side shows our session.
    guarded: bool,
    /// We spoke first.
    opened: bool,
    /// Leaves out what we always send: an implementation of 2003.
    original: bool,
    /// Puts messages into packets without their number: the C library.
    numbers_omitted: bool,
    /// A call of ours waits for its answer.
    expecting: bool,
    /// A packet is to go out at once, even a bare one.
    answer: bool,
    /// The other side has proven itself, and does not know yet that we know.
    proof_due: bool,
    /// Something came that our next packet is the first to acknowledge.
    news: bool,
    /// Bytes that may yet be sent to an unproven sender.
    credit: usize,
    round_trip: RoundTrip,
    /// How long an answer may take while nothing is measured, in microseconds; 0: as in the
    /// settings.
    usual: u32,
    /// Messages wait until the other side has proven itself.
    held: bool,
    last_sent: Time,
    acknowledge_at: Option<Time>,
    probe_at: Option<Time>,
    flight: Option<Box<Flight>>,
    /// Of the messages that are settled: those that were lost.
    lost: Numbers,
    candidate: Option<Box<Candidate>>,
}

fn random_session(rng: &mut Random) -> u32 {
    usual_session(rng.next_u32())
}

/// The session that some random number makes.
pub(super) fn usual_session(random: u32) -> u32 {
    // 0 means "none". Below 2³¹: a C peer on a 64-bit machine takes no answer to
    // itself from a larger one, and costs us nothing to humour.
    (random >> 1).max(1)
}

/// Whether `a` is `b` or comes after it, both being close together on the circle.
fn reaches(a: u16, b: u16) -> bool {
    a.wrapping_sub(b) < 0x8000
}

impl Connection {
    /// A connection that knows nothing of the other side. `opened`: we are about
    /// to speak first; otherwise a packet of theirs is about to be received.
    pub fn new(opened: bool, rng: &mut Random) -> Self {
        Connection {
            ours: random_session(rng),
            theirs: 0,
            next_sequence: 0,
            observed: u16::MAX,
            newest: 0,
            owed: None,
            early_until: None,
            early: 0,
            next_message: 0,
            expected: 0,
            unacknowledged: 0,
            silent: 0,
            proven: false,
            fresh: true,
            guarded: false,
            opened,
            original: false,
            numbers_omitted: false,
            expecting: false,
            answer: false,
            news: false,
            proof_due: false,
            credit: 0,
            round_trip: RoundTrip::default(),
            usual: 0,
            held: false,
            last_sent: Time::ZERO,
            acknowledge_at: None,
            probe_at: None,
            flight: None,
            lost: Numbers::default(),
            candidate: None,
        }
    }

    /// Says how long an answer usually takes, for as long as nothing is measured.
    pub fn set_usual(&mut self, usual: Duration) {
        self.usual = u32::try_from(usual.as_micros()).unwrap_or(0);
    }

    /// From now until the other side has proven itself no messages go out: what is to be
    /// sent is not for others.
    pub fn hold(&mut self, ctx: &Context<'_>) {
        if !self.proven {
            self.held = true;
            // The opening is on its way, or is an answer that shows our session.
            self.answer |= self.next_sequence == 0 || !self.opened;
            self.arm_probe(ctx);
        }
    }

    /// The round trip, as far as it was measured.
    pub fn round_trip(&self) -> RoundTrip {
        self.round_trip
    }

    /// What has come is not the whole of what the other side has to say: when it
    /// may only go on once we have shown its session, we do so at once.
    pub fn hasten(&mut self) {
        self.answer |= self.proof_due;
    }

    /// For replays of recorded packets: takes it that we have sent the packet
    /// `sequence`, in this session of ours, and that any message may have been lost.
    #[doc(hidden)]
    pub fn replay_sent(&mut self, session: u32, sequence: u16) {
        self.ours = session;
        self.lost = Numbers::ALL;
        self.next_sequence = sequence.wrapping_add(1);
    }

    /// Gives the session up, because the other side's stream makes no sense, and
    /// opens a new one.
    pub fn break_off(&mut self, ctx: &mut Context<'_>, carrier: &mut impl Carrier) {
        self.restart(ctx.rng, carrier);
        self.answer = true;
    }

    /// Whether the other side has shown that it receives what we send.
    pub fn is_proven(&self) -> bool {
        self.proven
    }

    /// Whether the other side was asked whether it is there, and has said nothing since.
    pub fn is_silent(&self) -> bool {
        self.silent > 0
    }

    /// Whether the other side leaves out session ids or message numbers, as the
    /// implementations of 2003 do. Such a peer loses a request when it is forgotten.
    pub fn is_original(&self) -> bool {
        self.original
    }

    /// How many messages are sent and not settled.
    pub fn unsettled(&self) -> usize {
        self.flight.as_ref().map_or(0, |flight| flight.unsettled())
    }

    /// How many misses are to be reported.
    fn missed(&self) -> usize {
        self.flight.as_ref().map_or(0, |flight| flight.missed().len())
    }

    /// Says whether a call waits for its answer. A Python peer of 2003 repeats
    /// nothing by itself: it is then asked by heartbeats whether all arrived.
    pub fn set_expecting(&mut self, expecting: bool, ctx: &Context<'_>) {
        self.expecting = expecting;
        self.arm_probe(ctx);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called next.
    pub fn deadline(&self) -> Option<Time> {
        match (self.acknowledge_at, self.probe_at) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    // -- input

    /// Takes a packet in, which is what `datagram` holds.
    pub fn receive(
        &mut self,
        packet: &Packet<'_>,
        datagram: &[u8],
        ctx: &mut Context<'_>,
        carrier: &mut impl Carrier,
    ) -> Verdict {
        if !self.proven {
            self.credit = (self.credit + AMPLIFICATION * datagram.len()).min(MAX_CREDIT);
        }
        let known = packet.session == 0 || packet.session == self.theirs;
        let agreed = if known {
            self.agree_on_known(packet, ctx, carrier)
        } else {
            self.agree_on_new(packet, ctx, carrier)
        };
        if !agreed {
            return Verdict::Foreign;
        }
        // From here on the packet belongs to the session that we know.
        let shows_us = packet.observed_session == self.ours;
        let ahead = packet.sequence.wrapping_sub(self.newest);
        if !self.fresh && ahead > MAX_AHEAD {
            return Verdict::Stale;
        }
        let repeats = !self.fresh && ahead == 0;
        // If one before it was lost, it may be the second that acknowledges something, and
        // says nothing about round trips.
        let prompt = if self.fresh { packet.sequence <= 1 } else { ahead == 1 };
        // The observed sequence counts only once its sender has shown our session.
        let counts = self.proven || shows_us;
        let observed = if counts { self.widen(packet.observed_sequence) } else { None };
        if counts && known && observed.is_none() {
            return Verdict::Invalid;
        }
        if counts && !repeats && self.is_contradicted(packet.missed) {
            // A Python peer that took a packet twice, or started afresh unnoticed: its
            // stream stands still until both start afresh.
            self.break_off(ctx, carrier);
            return Verdict::Invalid;
        }
        let next = match packet.next {
            Some(next) => next,
            None if packet.messages.count() > 0 || self.numbers_omitted => 0,
            None => self.expected,
        };
        let gap = if repeats { 0 } else { next.wrapping_sub(self.expected) };
        if !counts && self.missed() + usize::from(gap) > MAX_UNPROVEN_MISSES {
            // Our bare answer shows the sender our session; the rest comes again.
            self.answer = true;
            return Verdict::Foreign;
        }
        if let (Some(observed), Some(flight)) = (observed, &mut self.flight) {
            // First, for what was missed before makes room for what is now.
            flight.missed_seen(observed);
        }
        if gap > 0 && !self.flight.get_or_insert_default().miss(self.expected, gap) {
            return Verdict::Invalid;
        }
        self.original |= packet.next.is_none() || packet.session == 0;
        self.numbers_omitted |= packet.next.is_none() && packet.messages.count() > 0;
        self.fresh = false;
        self.newest = packet.sequence;
        self.silent = 0;
        if shows_us && !self.proven {
            self.prove(packet, ctx);
        }
        if let Some(observed) = observed {
            self.observe(observed, packet.missed, prompt, ctx.now, carrier);
        }
        if !repeats {
            packet.messages.iter().for_each(|message| carrier.deliver(message));
            self.expected = next.wrapping_add(packet.messages.count());
        }
        let messages = if repeats { 0 } else { packet.messages.count() };
        self.schedule_acknowledgement(messages, gap, ctx);
        if self.flight.as_ref().is_some_and(|flight| flight.is_empty()) {
            self.flight = None;
        }
        self.probe_at = None;
        self.arm_probe(ctx);
        if repeats { Verdict::Stale } else { Verdict::Accepted }
    }

    /// The other side has observed our packet `observed`; `prompt`: at once.
    fn observe(&mut self, observed: u16, missed: &[u8], prompt: bool, now: Time, carrier: &mut impl Carrier) {
        let oldest = self.next_message.wrapping_sub(self.unsettled() as u8);
        if let Some(flight) = &mut self.flight {
            if prompt
                && observed != self.observed
                && let Some(sent) = flight.measured(observed)
            {
                self.round_trip.measure(now.since(sent));
            }
            let mut settle = |token, fate| carrier.settle(token, fate);
            if self.early_until.is_some() {
                flight.lose_early(oldest, self.early, missed, &mut settle);
            }
            if self.early_until.is_none_or(|until| reaches(observed, until)) {
                self.early_until = None;
                flight.observed(observed, oldest, missed, &mut self.lost, &mut settle);
            }
        }
        self.owed = self.owed.filter(|&owed| !reaches(observed, owed));
        self.observed = observed;
    }

    /// Decides when what just came is acknowledged.
    fn schedule_acknowledgement(&mut self, messages: u8, gap: u8, ctx: &Context<'_>) {
        let now = ctx.now;
        self.unacknowledged = self.unacknowledged.saturating_add(messages);
        if !self.proven {
            // Both sides wait for the sessions to be agreed.
            self.news |= messages > 0;
            self.answer = true;
        } else if gap > 0 || self.unacknowledged >= MAX_UNACKNOWLEDGED {
            self.acknowledge(Duration::ZERO, now);
        } else if messages > 0 {
            self.acknowledge(ctx.config.ack_delay, now);
        } else if self.owed.is_some() {
            // Nothing new, but our acknowledgement has not arrived.
            let again = self.last_sent + self.round_trip.smoothed().unwrap_or(ctx.config.ack_delay);
            self.answer_at(again.max(now));
        }
    }

    /// The next packet acknowledges something new; it goes out after `wait` at the latest.
    fn acknowledge(&mut self, wait: Duration, now: Time) {
        self.news = true;
        if wait.is_zero() {
            self.answer = true;
        } else {
            self.answer_at(now + wait);
        }
    }

    fn answer_at(&mut self, at: Time) {
        self.acknowledge_at = Some(self.acknowledge_at.map_or(at, |before| before.min(at)));
    }

    /// Whether a message is reported missed that was confirmed before, or never sent.
    fn is_contradicted(&self, missed: &[u8]) -> bool {
        let unsettled = self.unsettled();
        let oldest = self.next_message.wrapping_sub(unsettled as u8);
        let settled = |number: u8| usize::from(number.wrapping_sub(oldest)) >= unsettled;
        missed.iter().any(|&number| settled(number) && !self.lost.has(number))
    }

    /// The low byte of a sequence number of ours, widened to the newest that is
    /// meant; `None` when it cannot be one between the last observed and the newest.
    fn widen(&self, low: u8) -> Option<u16> {
        let newest = self.next_sequence.wrapping_sub(1);
        let back = u16::from((newest as u8).wrapping_sub(low));
        (back <= newest.wrapping_sub(self.observed)).then(|| newest.wrapping_sub(back))
    }

    /// Does what is due at `now`. False when the other side has not answered the
    /// opening for good: the connection is to be dropped.
    #[must_use]
    pub fn handle_timeout(&mut self, ctx: &mut Context<'_>, carrier: &mut impl Carrier) -> bool {
        if self.acknowledge_at.take_if(|at| *at <= ctx.now).is_some() {
            self.answer = true;
        }
        if self.probe_at.is_some_and(|at| at <= ctx.now) {
            self.probe_at = None;
            if !self.is_due() {
                return true;
            }
            self.silent = self.silent.saturating_add(1);
            if self.proven && self.silent > ctx.config.max_heartbeats {
                self.restart(ctx.rng, carrier);
            } else if !self.proven && self.silent > ctx.config.max_openings {
                return false;
            }
            if self.proven
                && !self.original
                && carrier.tells_apart()
                && let Some(flight) = &mut self.flight
            {
                // What asks after them may as well bring them (RFC 9002, 6.2.4).
                flight.lose_oldest(|token, fate| carrier.settle(token, fate));
            }
            self.answer = true;
            self.arm_probe(ctx);
        }
        true
    }

    /// Whether the other side owes us something, so that its silence means a loss.
    fn is_due(&self) -> bool {
        let in_flight = self.flight.as_ref().is_some_and(|flight| !flight.is_empty());
        // An unproven sender asks by itself.
        (self.proven || self.opened) && (in_flight || self.held || (self.expecting && self.original))
    }

    fn arm_probe(&mut self, ctx: &Context<'_>) {
        if self.probe_at.is_some() || !self.is_due() {
            return;
        }
        let config = ctx.config;
        let mut wait = self.patience(config);
        let known = self.usual > 0 && Duration::from_micros(self.usual.into()) < config.initial_probe;
        let early = match self.proven {
            true if self.original => 0,
            true => 2,
            false if known => EARLY_OPENINGS,
            false => 0,
        };
        let doublings = self.silent.saturating_sub(early);
        if self.proven && self.flight.is_none() {
            // Only an answer is due, and its sender may still be working on it.
            wait = wait.max(config.initial_probe);
        }
        wait = wait.saturating_mul(1 << doublings.min(16)).min(config.max_probe);
        // They have not said a word: the last opening is for those of 2003, too.
        let last = !self.proven && self.silent.saturating_add(1) >= config.max_openings;
        if (self.original || last) && self.silent > 0 {
            wait = wait.max(ORIGINAL_PAUSE);
        }
        self.probe_at = Some(ctx.now + wait);
    }

    /// How long to wait for an answer before asking after it.
    pub fn patience(&self, config: &Config) -> Duration {
        let initial = match self.usual {
            0 => config.initial_probe,
            usual => Duration::from_micros(usual.into()),
        };
        self.round_trip.patience(config.ack_delay, initial)
    }
}
