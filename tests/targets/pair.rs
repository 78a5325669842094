//! Two ends of a connection, and a network that does what a script says; afterwards it is good.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use khashmir::airhook::packet::{Messages, Packet};
use khashmir::time::Time;

use super::ends::{End, FORGED, Framing, Host, account};
use super::script::Script;
use crate::support::{Ours, Raw, ms, secs};

/// The first byte says what the ends carry, the second is their seed.
pub fn pair(script: &[u8]) {
    let mut script = Script(script);
    match script.byte() % 3 {
        0 => Play::<Ours<Raw>>::run(script),
        1 => Play::<Framing>::run(script),
        _ => Play::<Host>::run(script),
    }
}

/// As many datagrams are remembered, to come once more.
const MOST_SEEN: usize = 256;
/// As many datagrams are under way to one side at the most, as in a queue that is full.
const MOST_ON_WIRE: usize = 1000;

struct Play<E> {
    ends: [E; 2],
    now: Time,
    /// What is under way to each side.
    wire: [VecDeque<Vec<u8>>; 2],
    seen: VecDeque<(usize, Vec<u8>)>,
    /// All sessions that were ever shown.
    sessions: HashSet<u32>,
    written: [Vec<u64>; 2],
    number: u64,
    forgeries: u16,
    /// Somebody who knows the sessions has meddled.
    tainted: bool,
    packets: u64,
    ending: bool,
    /// Prints each datagram that arrives.
    trace: bool,
}

impl<E: End + 'static> Play<E> {
    fn run(mut script: Script<'_>) {
        let seed = script.byte().into();
        let mut play = Play {
            ends: [E::new(0, seed), E::new(1, seed)],
            now: Time::ZERO,
            wire: [VecDeque::new(), VecDeque::new()],
            seen: VecDeque::new(),
            sessions: HashSet::new(),
            written: [Vec::new(), Vec::new()],
            number: 0,
            forgeries: 0,
            tainted: false,
            packets: 0,
            ending: false,
            trace: std::env::var_os("TRACE").is_some(),
        };
        while let Some(op) = script.next() {
            play.step(op, &mut script);
            play.drain();
        }
        play.end();
    }

    fn step(&mut self, op: u8, script: &mut Script<'_>) {
        let side = usize::from(op >> 7);
        let under_way = self.wire[side].len();
        match op & 15 {
            0 => {
                let length = script.byte();
                self.write(side, usize::from(length) * if length > 250 { 40 } else { 1 });
            }
            1 => (0..script.byte() % 64).for_each(|_| self.write(side, 20)),
            2 if under_way > 0 => self.deliver(side, 0),
            3 => {
                let count = script.below(under_way + 1);
                (0..count).for_each(|_| self.deliver(side, 0));
            }
            4 => (0..1 + script.byte() % 8).for_each(|_| self.round()),
            5 if under_way > 0 => drop(self.wire[side].remove(script.below(under_way))),
            6 if under_way > 0 => self.deliver(side, script.below(under_way)),
            7 if under_way > 0 => {
                let again = self.wire[side][script.below(under_way)].clone();
                self.arrive(side, &again);
            }
            8 if !self.seen.is_empty() => {
                let (to, datagram) = self.seen[script.below(self.seen.len())].clone();
                self.arrive(to, &datagram);
            }
            9 if under_way > 0 => {
                let datagram = &mut self.wire[side][0];
                let bit = usize::from(script.short()) % (8 * datagram.len());
                datagram[bit / 8] ^= 1 << (bit % 8);
                self.doubt(true);
            }
            10 | 11 => {
                let datagram = self.forged(op & 1 != 0, script);
                self.arrive(side, &datagram);
            }
            12 => self.pass(ms(1 + u64::from(script.byte()))),
            13 => self.pass(ms(100 * u64::from(script.byte()))),
            14 => match script.byte() {
                0..160 => self.wire[side].clear(),
                _ => self.ends[side].restart(),
            },
            15 => match script.byte() {
                0..100 => self.ends[side].expect(self.now, true),
                100..200 => self.ends[side].expect(self.now, false),
                200..250 => self.ends[side].break_off(self.now),
                _ => self.pass(secs(700)),
            },
            _ => {}
        }
    }

    fn write(&mut self, side: usize, length: usize) {
        // In the end one more each must go.
        if self.written[side].len() < if self.ending { 4000 } else { 3000 } {
            self.number += 1;
            self.written[side].push(self.number);
            self.ends[side].write(self.now, self.number, length);
        }
    }

    fn deliver(&mut self, to: usize, at: usize) {
        if let Some(datagram) = self.wire[to].remove(at) {
            self.arrive(to, &datagram);
            // What it says to that has its place among what else is under way.
            self.drain();
        }
    }

    fn arrive(&mut self, to: usize, datagram: &[u8]) {
        if self.trace {
            let packet = Packet::parse(datagram).map(|packet| {
                let Packet { observed_sequence, sequence, observed_session, session, .. } = packet;
                let (next, missed, count) = (packet.next, packet.missed, packet.messages.count());
                format!(
                    "o={observed_sequence} s={sequence} O={observed_session:x} S={session:x} \
                    E={next:?} M={missed:?} messages={count}"
                )
            });
            eprintln!("{:>9} to {to}: {packet:?}", self.now.as_micros());
        }
        self.ends[to].receive(self.now, datagram);
        self.ends[to].check();
    }

    fn doubt(&mut self, for_good: bool) {
        self.tainted |= for_good;
        self.ends.iter_mut().for_each(|end| end.doubt(for_good));
    }

    /// A datagram from somebody else, who may `know` what was said before.
    fn forged(&mut self, knows: bool, script: &mut Script<'_>) -> Vec<u8> {
        let base = if self.seen.is_empty() { None } else { Some(script.below(self.seen.len())) };
        let (_, base) = base.map_or((0, Vec::new()), |at| self.seen[at].clone());
        let base = Packet::parse(&base).ok().filter(|_| knows);
        let flags = script.byte();
        let session = |known: Option<u32>, bit: u8, script: &mut Script<'_>| match known {
            _ if flags & bit != 0 => 0,
            Some(known) if flags & bit << 1 == 0 => known,
            _ => script.long() >> 1,
        };
        let observed_session = session(base.map(|base| base.observed_session), 1, script);
        let session = session(base.map(|base| base.session), 4, script);
        let near = script.byte() as i8;
        let mut messages = Vec::new();
        for _ in 0..flags >> 4 & 3 {
            // As a message of a stream, at its beginning or elsewhere.
            let number = if script.byte() < 128 { 0 } else { script.short() };
            messages.push(script.byte() % 32 + 5);
            let start = messages.len();
            messages.extend(number.to_be_bytes());
            messages.extend([FORGED; 2]);
            // No two are the same.
            self.forgeries = self.forgeries.wrapping_add(1);
            messages.extend(self.forgeries.to_be_bytes());
            messages.resize(start + usize::from(messages[start - 1]) + 1, FORGED);
        }
        let missed = if flags & 64 != 0 { script.bytes(script.0.len().min(5)) } else { &[] };
        let packet = Packet {
            observed_sequence: base.map_or(0, |base| base.observed_sequence).wrapping_add(script.byte()),
            sequence: base.map_or(0, |base| base.sequence).wrapping_add_signed(near.into()),
            observed_session,
            session,
            next: (flags & 128 == 0)
                .then(|| base.and_then(|base| base.next).unwrap_or(0).wrapping_add(script.byte())),
            missed,
            messages: Messages::parse(&messages).expect("whole messages"),
        };
        // Without a session a packet is taken by its number alone: that is the protocol.
        let none = observed_session == 0 && session == 0;
        let known = [observed_session, session].iter().any(|session| self.sessions.contains(session));
        self.doubt(none || known);
        let mut out = Vec::new();
        packet.emit(&mut out);
        out
    }

    /// Everything that goes out now is put on the wire.
    fn drain(&mut self) {
        for rounds in 0.. {
            assert!(rounds < 3000, "they do not stop speaking");
            let mut any = false;
            for side in [0, 1] {
                let Some(datagram) = self.ends[side].transmit(self.now) else { continue };
                any = true;
                self.packets += 1;
                if let Ok(packet) = Packet::parse(&datagram) {
                    self.sessions.insert(packet.session);
                    self.sessions.remove(&0);
                }
                if self.seen.len() == MOST_SEEN {
                    self.seen.pop_front();
                }
                self.seen.push_back((1 - side, datagram.clone()));
                if self.wire[1 - side].len() < MOST_ON_WIRE {
                    self.wire[1 - side].push_back(datagram);
                }
            }
            if !any {
                return;
            }
        }
    }

    /// Time passes, and nothing arrives meanwhile.
    fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        for steps in 0.. {
            assert!(steps < 20_000, "timers without end");
            self.drain();
            let next = self.ends.iter().filter_map(|end| end.deadline()).min();
            let Some(next) = next.filter(|&next| next <= end) else { break };
            self.now = self.now.max(next);
            for end in &mut self.ends {
                if end.deadline().is_some_and(|at| at <= self.now) {
                    end.wake(self.now);
                    end.check();
                }
            }
        }
        self.now = end;
    }

    /// All that is under way arrives, 5 ms later.
    fn round(&mut self) {
        self.drain();
        let wire = std::mem::take(&mut self.wire);
        self.pass(ms(5));
        for (to, datagrams) in wire.into_iter().enumerate() {
            for datagram in datagrams {
                self.arrive(to, &datagram);
            }
        }
        self.drain();
    }

    /// The network is good, until `done`.
    fn good(&mut self, span: Duration, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let end = self.now + span;
        while self.now < end {
            if done(self) {
                return true;
            }
            self.drain();
            if self.wire.iter().all(|wire| wire.is_empty()) {
                // Nothing happens before the next deadline.
                let next = self.ends.iter().filter_map(|end| end.deadline()).min();
                self.pass(next.unwrap_or(end).min(end).since(self.now));
            } else {
                self.round();
            }
        }
        done(self)
    }

    /// The script is over: everything settles, both reach each other, and then they are silent.
    fn end(mut self) {
        self.ending = true;
        for end in &mut self.ends {
            end.expect(self.now, false);
        }
        if self.tainted {
            // Who knows the sessions may make either side believe anything, until there are others.
            self.wire.iter_mut().for_each(|wire| wire.clear());
            self.ends[0].break_off(self.now);
        }
        let settled = self.good(secs(300), |play| play.ends.iter_mut().all(|end| end.settled()));
        assert!(settled, "something is stuck");
        // Whoever is in the middle of giving up may lose a first attempt.
        let mut last = [None; 2];
        let reached = self.good(secs(120), |play| {
            for side in [0, 1] {
                let heard = last[side].is_some_and(|number| play.ends[1 - side].has(number));
                if !heard && play.ends[side].settled() {
                    play.write(side, 20);
                    last[side] = play.written[side].last().copied();
                }
            }
            [0, 1].iter().all(|&side| {
                last[side].is_some_and(|number| play.ends[1 - side].has(number)) && play.ends[side].settled()
            })
        });
        let settled = self.ends.each_mut().map(|end| end.settled());
        assert!(reached, "they do not reach each other: {last:?}, settled: {settled:?}");
        // A last acknowledgement may wait a round trip, and a datagram may have taken minutes.
        self.good(secs(600), |_| false);
        let before = self.packets;
        self.good(secs(5 * 3600), |_| false);
        assert_eq!(self.packets, before, "packets on an idle connection");
        if !self.tainted {
            let [a, b] = &mut self.ends;
            account(a, b, &self.written[0]);
            account(b, a, &self.written[1]);
        }
    }
}
