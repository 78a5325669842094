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

mod early;
mod parts;
mod probe;
mod sessions;
mod settle;
mod transmit;

use std::time::Duration;

use rand::Rng;

use self::parts::{Busy, Deadline, Trouble};
use crate::airhook::flight::{Fate, Numbers, Token};
use crate::airhook::packet::Packet;
use crate::airhook::round_trip::RoundTrip;
use crate::airhook::window::Window;
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
/// Acknowledge at the latest after so many messages, those of five packets: round trips show
/// whether there is a queue only where some acknowledgements do not wait. (At 255 unconfirmed
/// ones a Python peer of 2003 and its partner both fall silent.)
const MAX_UNACKNOWLEDGED: u8 = 24;
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

/// A peer that bears both sessions in its answer to a packet of ours that does may be one of
/// 2003 that has just come to know our session. One that then does so again is not: it has seen
/// that we know that it does.
const SIGNS: u8 = 2;

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
    /// It came ahead of its turn, and waits a moment for those before it.
    Held,
    /// It was overtaken by a later one, or repeats one; nothing was delivered.
    Stale,
    /// It speaks of other sessions than ours; at most it is answered.
    Foreign,
    /// It says what cannot be, and changed nothing.
    Invalid,
}

/// Whether a packet leaves out what we always send. The implementations of 2003 do so in each
/// that they send before they have seen their session, and later in most.
pub fn is_original(packet: &Packet<'_>) -> bool {
    packet.session == 0 || packet.next.is_none()
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

/// One end of a connection: 104 bytes when nothing is in flight, and its network has done it no harm.
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
    /// The first packet of this session of ours that bore theirs, while no such one is observed.
    told: Option<u16>,
    /// The other side has observed one: it knows us, and that we know it.
    agreed: bool,
    /// We spoke first.
    opened: bool,
    /// Leaves out what we always send: an implementation of 2003.
    original: bool,
    /// The newest accepted packet bore both sessions.
    bears_both: bool,
    /// Only packets that bear both sessions are taken: this peer always sends them.
    strict: bool,
    /// A packet of ours with both sessions. Where the other side goes on sending both although it
    /// has seen this one,
    marked: Option<u16>,
    /// and this has happened so often, it always sends them.
    signs: u8,
    /// Puts messages into packets without their number: the C library.
    numbers_omitted: bool,
    /// A call of ours waits for its answer.
    expecting: bool,
    /// A packet is to go out at once, even a bare one.
    answer: bool,
    /// Large packets do not get through: ours are small.
    narrow: bool,
    /// A large one has got through.
    wide: bool,
    /// How many large ones in a row have not.
    large_lost: u8,
    /// The other side has proven itself, and does not know yet that we know.
    proof_due: bool,
    /// Something came that our next packet is the first to acknowledge.
    news: bool,
    /// Bytes that may yet be sent to an unproven sender.
    credit: u32,
    round_trip: RoundTrip,
    /// How long an answer may take while nothing is measured, in microseconds; 0: as in the
    /// settings.
    usual: u32,
    /// Messages wait until the other side has proven itself.
    held: bool,
    last_sent: Time,
    acknowledge_at: Deadline,
    busy: Option<Box<Busy>>,
    /// The congestion window, if it is not the usual one of a connection that sends little.
    window: Option<Box<Window>>,
    trouble: Option<Box<Trouble>>,
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
            next_message: 0,
            expected: 0,
            unacknowledged: 0,
            silent: 0,
            proven: false,
            fresh: true,
            guarded: false,
            told: None,
            agreed: false,
            opened,
            original: false,
            bears_both: false,
            strict: false,
            marked: None,
            signs: 0,
            numbers_omitted: false,
            expecting: false,
            answer: false,
            narrow: false,
            wide: false,
            large_lost: 0,
            news: false,
            proof_due: false,
            credit: 0,
            round_trip: RoundTrip::default(),
            usual: 0,
            held: false,
            last_sent: Time::ZERO,
            acknowledge_at: Deadline::NONE,
            busy: None,
            window: None,
            trouble: None,
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
            // Else the opening is on its way.
            let has_opened = self.opened && self.next_sequence > 0 && self.last_sent != Time::ZERO;
            self.answer |= !has_opened;
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
        self.trouble.get_or_insert_default().lost = Numbers::ALL;
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
        self.flight().map_or(0, |flight| flight.unsettled())
    }

    /// How many misses are to be reported.
    fn missed(&self) -> usize {
        self.flight().map_or(0, |flight| flight.missed().len())
    }

    /// Says whether a call waits for its answer. A Python peer of 2003 repeats
    /// nothing by itself: it is then asked by heartbeats whether all arrived.
    pub fn set_expecting(&mut self, expecting: bool, ctx: &Context<'_>) {
        self.expecting = expecting;
        self.arm_probe_after(false, ctx);
        self.tidy();
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called next.
    pub fn deadline(&self) -> Option<Time> {
        let busy = self.busy.as_ref().map(|busy| [busy.probe_at, busy.send_at]);
        let release_at = self.trouble.as_ref().and_then(|trouble| trouble.release_at);
        busy.into_iter().flatten().chain([self.acknowledge_at.get(), release_at]).flatten().min()
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
            let credit = self.credit as usize + AMPLIFICATION * datagram.len();
            self.credit = credit.min(MAX_CREDIT) as u32;
        }
        if !self.proven && self.ahead() >= MAX_AHEAD_MESSAGES {
            // So many answers that nobody agreed to: with numbers used up there would be no other.
            self.restart(ctx.rng, carrier);
        }
        let shows_us = packet.observed_session == self.ours;
        let known = packet.session == 0 || packet.session == self.theirs;
        if self.strict && known && !(shows_us && packet.session == self.theirs) {
            // Somebody has guessed less than both sessions.
            return Verdict::Foreign;
        }
        let agreed = if known {
            self.agree_on_known(packet, ctx, carrier)
        } else {
            self.agree_on_new(packet, ctx, carrier)
        };
        if !agreed {
            return Verdict::Foreign;
        }
        // From here on the packet belongs to the session that we know.
        let ahead = packet.sequence.wrapping_sub(self.newest);
        if !self.fresh && ahead > MAX_AHEAD {
            return self.note_stale(packet.sequence, ctx);
        }
        if !self.fresh && self.proven && ahead > 1 && self.hold_early(packet.sequence, datagram, ctx) {
            return Verdict::Held;
        }
        let verdict = self.take(packet, false, ctx, carrier);
        self.release(verdict == Verdict::Accepted, ctx, carrier);
        verdict
    }

    /// Takes a packet of the session that we know, which is not stale. `late`: it was held.
    fn take(
        &mut self,
        packet: &Packet<'_>,
        late: bool,
        ctx: &mut Context<'_>,
        carrier: &mut impl Carrier,
    ) -> Verdict {
        let known = packet.session == 0 || packet.session == self.theirs;
        let shows_us = packet.observed_session == self.ours;
        let ahead = packet.sequence.wrapping_sub(self.newest);
        let repeats = !self.fresh && ahead == 0;
        // If one before it was lost, it may be the second that acknowledges something, and
        // says nothing about round trips.
        let prompt = !late && if self.fresh { packet.sequence <= 1 } else { ahead == 1 };
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
        if let (Some(observed), Some(busy)) = (observed, &mut self.busy)
            && let Some(flight) = &mut busy.flight
        {
            // First, for what was missed before makes room for what is now.
            flight.missed_seen(observed);
        }
        let expected = self.expected;
        if gap > 0 && !self.make_flight().miss(expected, gap) {
            return Verdict::Invalid;
        }
        self.original |= is_original(packet);
        self.numbers_omitted |= packet.next.is_none() && packet.messages.count() > 0;
        if !self.fresh {
            self.step_over(ahead);
        }
        self.fresh = false;
        self.newest = packet.sequence;
        self.bears_both = shows_us && packet.session == self.theirs;
        if shows_us && !self.proven {
            self.prove(packet, ctx);
        }
        let progress = observed.is_some_and(|observed| observed != self.observed);
        if let Some(observed) = observed {
            self.observe(observed, packet.missed, prompt, ctx, carrier);
        }
        if !repeats {
            packet.messages.iter().for_each(|message| carrier.deliver(message));
            self.expected = next.wrapping_add(packet.messages.count());
        }
        let messages = if repeats { 0 } else { packet.messages.count() };
        // A repetition asks nothing that its original did not ask: a network that brings everything
        // twice would keep both ends talking.
        self.schedule_acknowledgement(messages, gap, progress || repeats, ctx);
        if let Some(busy) = &mut self.busy
            && busy.flight.take_if(|flight| flight.is_empty()).is_some()
        {
            self.window.take_if(|window| window.is_usual());
        }
        self.end_silence(carrier);
        self.arm_probe_after(progress || messages > 0, ctx);
        self.tidy();
        if repeats { Verdict::Stale } else { Verdict::Accepted }
    }
}
