//! Ends of a connection as the fuzzer drives them: single messages, a stream of frames, and
//! a socket's connections.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use khashmir::airhook::channel::Channel;
use khashmir::airhook::connection::{Carrier, Connection};
use khashmir::airhook::mux::Mux;
use khashmir::airhook::packet::MAX_PACKET;
use khashmir::context::{Due, Key};
use khashmir::time::Time;

use crate::support::{Framed, Ours, Party, Raw, World};

/// One end.
pub trait End: Party {
    fn new(side: u8, seed: u64) -> Self;
    /// Something to send, of about so many bytes; each is told from all others.
    fn write(&mut self, now: Time, number: u64, length: usize);
    /// The program starts again.
    fn restart(&mut self);
    fn break_off(&mut self, now: Time);
    /// A call waits, or none does.
    fn expect(&mut self, now: Time, expecting: bool);
    /// Nothing is to be sent or confirmed.
    fn settled(&mut self) -> bool;
    /// Whether this has arrived.
    fn has(&self, number: u64) -> bool;
    /// Somebody who knows the sessions, or one that was not proven, put in words of his own:
    /// what arrives may be wrong.
    fn doubt(&mut self, for_good: bool);
    /// What must hold at any time.
    fn check(&mut self);
}

/// What was sent arrived once or is lost, as was said.
pub fn account<E: End + 'static>(from: &mut E, to: &E, written: &[u64]) {
    let (from, to): (&mut dyn std::any::Any, &dyn std::any::Any) = (from, to);
    let (Some(from), Some(to)) = (from.downcast_mut::<Ours<Raw>>(), to.downcast_ref::<Ours<Raw>>()) else {
        return;
    };
    let delivered: HashSet<_> = to.carrier.all_delivered().collect();
    assert!(from.carrier.confirmed.iter().all(|m| delivered.contains(m)), "confirmed, but not delivered");
    let settled = from.carrier.confirmed.iter().chain(&from.carrier.lost_for_good);
    let mut settled: Vec<u64> = settled.map(|message| number_of(message)).collect();
    settled.sort();
    assert_eq!(settled, written, "not each settled once");
}

fn number_of(bytes: &[u8]) -> u64 {
    bytes.get(1..9).map_or(u64::MAX, |number| u64::from_be_bytes(number.try_into().unwrap()))
}

/// So many bytes that bear a number.
fn numbered(side: u8, number: u64, length: usize) -> Vec<u8> {
    crate::support::name(side, number, length)
}

fn restart_connection<C: Carrier>(end: &mut Ours<C>, now: Time) {
    end.world.now = now;
    end.connection.break_off(&mut end.world.context(), &mut end.carrier);
}

fn check_connection(connection: &Connection) {
    assert!(connection.unsettled() <= 255);
}

impl End for Ours<Raw> {
    fn new(side: u8, seed: u64) -> Self {
        Ours::new(seed * 2 + u64::from(side), Raw::default())
    }

    fn write(&mut self, _: Time, number: u64, length: usize) {
        self.carrier.queue.push_back(numbered(0, number, length.min(255)));
    }

    fn restart(&mut self) {
        Ours::restart(self, true);
    }

    fn break_off(&mut self, now: Time) {
        restart_connection(self, now);
    }

    fn expect(&mut self, now: Time, expecting: bool) {
        Ours::expect(self, expecting, now);
    }

    fn settled(&mut self) -> bool {
        self.carrier.settled()
    }

    fn has(&self, number: u64) -> bool {
        self.carrier.all_delivered().any(|message| number_of(message) == number)
    }

    fn doubt(&mut self, for_good: bool) {
        self.deceived = true;
        self.carrier.repeats |= for_good;
    }

    fn check(&mut self) {
        check_connection(&self.connection);
    }
}

/// A stream of frames, and what is known of those that came.
pub struct Framing {
    end: Ours<Framed>,
    doubted: bool,
    found: HashSet<u64>,
}

impl Party for Framing {
    fn receive(&mut self, now: Time, datagram: &[u8]) {
        self.end.receive(now, datagram);
        self.look();
    }

    fn deadline(&self) -> Option<Time> {
        self.end.deadline()
    }

    fn wake(&mut self, now: Time) {
        self.end.wake(now);
        self.look();
    }

    fn transmit(&mut self, now: Time) -> Option<Vec<u8>> {
        self.end.transmit(now)
    }
}

impl Framing {
    /// What has come in this session: whole frames, one after the other.
    fn look(&mut self) {
        let frames = &mut self.end.carrier.frames;
        let mut last = None;
        for frame in frames.iter() {
            let number = number_of(frame);
            self.found.insert(number);
            // What an unproven stranger says is his own.
            let strange = self.doubted || frame.first() == Some(&FORGED);
            assert!(strange || last.is_none_or(|last: u64| last < number), "not in order");
            assert!(strange || frame[9..].iter().all(|byte| *byte == frame[0]), "a mixed frame");
            last = Some(number);
        }
        frames.drain(..frames.len().saturating_sub(1));
    }
}

/// The first byte of what somebody else says.
pub const FORGED: u8 = 0xf5;

impl End for Framing {
    fn new(side: u8, seed: u64) -> Self {
        let end = Ours::new(seed * 2 + u64::from(side), Framed::default());
        Framing { end, doubted: false, found: HashSet::new() }
    }

    fn write(&mut self, _: Time, number: u64, length: usize) {
        self.end.carrier.write(&numbered(0, number, length));
    }

    fn restart(&mut self) {
        self.end.restart(true);
    }

    fn break_off(&mut self, now: Time) {
        restart_connection(&mut self.end, now);
    }

    fn expect(&mut self, now: Time, expecting: bool) {
        self.end.expect(expecting, now);
    }

    fn settled(&mut self) -> bool {
        self.end.carrier.stream().unconfirmed() == 0
    }

    fn has(&self, number: u64) -> bool {
        self.found.contains(&number)
    }

    fn doubt(&mut self, for_good: bool) {
        self.end.deceived = true;
        self.doubted |= for_good;
    }

    fn check(&mut self) {
        check_connection(&self.end.connection);
        let stream = self.end.carrier.stream();
        assert!(stream.waiting() <= 1024 * (32 + 253) + 8192);
    }
}

/// A socket with one peer.
pub struct Host {
    mux: Mux,
    world: World,
    peer: SocketAddr,
    key: Option<Key>,
    /// Where the newest writing went.
    writes_to: Option<Key>,
    /// The newest number that came while the peer was proven.
    last: Option<u64>,
    found: HashSet<u64>,
    doubted: bool,
    /// Over which connection each call went.
    calls: Vec<Key>,
    failed: HashSet<Key>,
}

impl Host {
    /// Takes in what stands in the inbox: frames behind their length.
    fn take(&mut self, key: Key, mut inbox: Vec<u8>, proven: bool) {
        let (mut rest, mut broken) = (&inbox[..], false);
        // With a restart of the peer another session of ours begins, in which its earlier life
        // may be heard once more.
        if !(proven && self.mux.is_proven(key)) || self.key != Some(key) {
            self.last = None;
        }
        self.key = Some(key);
        while let Some((&[high, low], body)) = rest.split_first_chunk() {
            let length = usize::from(u16::from_be_bytes([high, low]));
            // Shorter ones nobody honest sends.
            broken |= length < 9;
            let Some((frame, after)) = body.split_at_checked(length).filter(|_| !broken) else { break };
            let number = number_of(frame);
            self.found.insert(number);
            let whole = frame[9..].iter().all(|byte| *byte == frame[0]);
            assert!(self.doubted || frame[0] == FORGED || whole, "a mixed frame");
            assert!(self.doubted || self.last.is_none_or(|last| last < number), "not in order, or twice");
            self.last = Some(number);
            rest = after;
        }
        let used = inbox.len() - rest.len();
        let mut ctx = self.world.context();
        if broken {
            assert!(self.doubted || !proven, "no frame, from a proven peer");
            self.mux.break_off(&mut ctx, key);
        } else {
            self.mux.keep(&mut ctx, key, &mut inbox, used);
        }
    }

    /// With a session of ours what came in it is over: it may come once more.
    fn forget_if_unproven(&mut self) {
        if !self.key.is_some_and(|key| self.mux.is_proven(key)) {
            self.last = None;
        }
    }

    fn expire(&mut self, now: Time) {
        self.world.now = now;
        for steps in 0.. {
            assert!(steps < 1000, "timers without end");
            let Some(alarm) = self.world.wheel.expire(now) else { break };
            let mut ctx = self.world.context();
            match alarm.due {
                Due::Connection(key) => {
                    let mut inbox = Vec::new();
                    let proven = self.mux.is_proven(key);
                    if let Some(key) = self.mux.handle_timeout(&mut ctx, key, &mut inbox) {
                        self.take(key, inbox, proven);
                    }
                }
                Due::Idle => self.mux.handle_idle(&mut ctx),
                _ => unreachable!(),
            }
            self.forget_if_unproven();
        }
    }
}

impl Party for Host {
    fn receive(&mut self, now: Time, datagram: &[u8]) {
        self.world.now = now;
        let proven = self.key.is_some_and(|key| self.mux.is_proven(key));
        let mut inbox = Vec::new();
        let key = self.mux.receive(&mut self.world.context(), self.peer, datagram, &mut inbox);
        match key {
            Some(key) => self.take(key, inbox, proven),
            None => assert!(inbox.is_empty()),
        }
        self.forget_if_unproven();
    }

    fn deadline(&self) -> Option<Time> {
        // The wheel may look before it finds something to do.
        self.world.wheel.next_deadline().map(|at| at.max(self.world.now + crate::support::ms(1)))
    }

    fn wake(&mut self, now: Time) {
        self.expire(now);
    }

    fn transmit(&mut self, now: Time) -> Option<Vec<u8>> {
        self.world.now = now;
        let mut out = Vec::new();
        let to = self.mux.poll_transmit(&mut self.world.context(), &mut out)?;
        assert!(to == self.peer && !out.is_empty() && out.len() <= MAX_PACKET);
        Some(out)
    }
}

impl End for Host {
    fn new(side: u8, seed: u64) -> Self {
        let mut world = World::new(seed * 2 + u64::from(side));
        let mux = Mux::new(&mut world.rng);
        let peer = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1 + side)), 4000);
        let (found, failed) = (HashSet::new(), HashSet::new());
        Host {
            mux,
            world,
            peer,
            key: None,
            writes_to: None,
            last: None,
            found,
            doubted: false,
            calls: Vec::new(),
            failed,
        }
    }

    fn write(&mut self, now: Time, number: u64, length: usize) {
        self.world.now = now;
        let frame = crate::support::originals::frame(&numbered(0, number, length));
        let mut ctx = self.world.context();
        let key = self.mux.connect(&mut ctx, self.peer);
        self.writes_to = Some(key);
        let _ = self.mux.send(&mut ctx, key, &frame, None);
    }

    fn restart(&mut self) {
        self.mux.clear(&mut self.world.context());
        assert!(self.mux.is_empty() && self.world.wheel.is_empty() && self.mux.buffered() == 0);
        self.mux = Mux::new(&mut self.world.rng);
        (self.key, self.writes_to) = (None, None);
    }

    fn break_off(&mut self, now: Time) {
        self.world.now = now;
        let mut ctx = self.world.context();
        let key = self.mux.connect(&mut ctx, self.peer);
        self.mux.break_off(&mut ctx, key);
        self.last = None;
    }

    fn expect(&mut self, now: Time, expecting: bool) {
        self.world.now = now;
        let mut ctx = self.world.context();
        if expecting {
            let key = self.mux.connect(&mut ctx, self.peer);
            self.calls.push(key);
            self.mux.expect(&mut ctx, key, Key::new(self.calls.len() as u32, 7));
        } else {
            for (call, &key) in self.calls.iter().enumerate() {
                self.mux.expect_no_more(&mut ctx, key, Key::new(call as u32 + 1, 7));
            }
        }
    }

    fn settled(&mut self) -> bool {
        self.writes_to.is_none_or(|key| self.mux.unconfirmed(key) == 0)
    }

    fn has(&self, number: u64) -> bool {
        self.found.contains(&number)
    }

    fn doubt(&mut self, for_good: bool) {
        self.doubted |= for_good;
    }

    fn check(&mut self) {
        while let Some((call, _)) = self.mux.poll_failed() {
            assert!(call.place() <= self.calls.len() && self.failed.insert(call), "a call failed twice");
        }
        assert!(self.mux.len() <= 1);
        assert!(self.world.wheel.len() <= self.mux.len() + 1);
        assert!(self.mux.buffered() <= self.world.config.max_buffered);
    }
}
