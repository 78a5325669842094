//! What becomes of what was sent: each ticket comes back once, and says the truth.

mod support;

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;

use khashmir::airhook::channel::Channel;
use khashmir::airhook::connection::Carrier;
use khashmir::airhook::flight::{Fate, Token};
use khashmir::airhook::messages::Messages;
use khashmir::airhook::mux::Mux;
use khashmir::airhook::stream::Stream;
use khashmir::random::{Random, seed_from_number, seeded};
use rand::RngExt;
use support::{Seed, World};

/// A channel, and messages of it on a network that loses some.
struct Rig<C> {
    channel: C,
    other: C,
    flying: Vec<(Token, Vec<u8>)>,
    inbox: Vec<u8>,
    /// What has come at the other side, since the last restart.
    arrived: Vec<Vec<u8>>,
    rng: Random,
}

impl<C: Channel> Rig<C> {
    fn new(seed: u64) -> Self {
        let rng = seeded(seed_from_number(seed));
        let (channel, other) = (C::default(), C::default());
        Rig { channel, other, flying: Vec::new(), inbox: Vec::new(), arrived: Vec::new(), rng }
    }

    fn send(&mut self) {
        let mut nothing = Vec::new();
        let mut port = self.channel.port(&mut nothing, 0);
        let room = self.rng.random_range(40..=255);
        let mut packet = Vec::new();
        while self.flying.len() < 255
            && self.rng.random_bool(0.8)
            && let Some(token) = port.fill(room, &mut packet)
        {
            self.flying.push((token, std::mem::take(&mut packet)));
        }
    }

    fn settle(&mut self) {
        if self.flying.is_empty() {
            return;
        }
        let at = self.rng.random_range(0..self.flying.len());
        let (token, message) = self.flying.swap_remove(at);
        let fate = if self.rng.random_bool(0.3) { Fate::Lost } else { Fate::Confirmed };
        if fate == Fate::Confirmed {
            self.other.port(&mut self.inbox, 1024).deliver(&message);
            self.arrived.extend(C::pieces(&self.inbox).map(<[u8]>::to_vec));
            self.inbox.clear();
        }
        self.channel.port(&mut Vec::new(), 0).settle(token, fate);
    }

    fn restart(&mut self) {
        self.flying.clear();
        self.arrived.clear();
        self.channel.port(&mut Vec::new(), 0).restart_outgoing();
        self.other.port(&mut self.inbox, 0).restart_incoming();
    }

    fn fates(&mut self) -> Vec<(u64, Fate)> {
        std::iter::from_fn(|| self.channel.poll_fate()).collect()
    }
}

/// Of a stream: confirmed as soon as all bytes up to the end of the write have arrived.
#[test]
fn tickets_of_a_stream() {
    for seed in 0..300 {
        let _seed = Seed(seed);
        let mut rig = Rig::<Stream>::new(seed);
        // The tickets under way, with the place in the stream where each ends.
        let mut waiting: Vec<(u64, usize)> = Vec::new();
        let (mut written, mut next, mut lost) = (0, 0, 0);
        for _ in 0..400 {
            match rig.rng.random_range(0..20) {
                0..4 => {
                    let length = [0, 1, 200, 3000][rig.rng.random_range(0..4)];
                    let ticket = rig.rng.random_bool(0.7).then_some(next);
                    rig.channel.write(&vec![1; length], ticket);
                    written += length;
                    waiting.extend(ticket.map(|ticket| (ticket, written)));
                    next += 1;
                }
                4..9 => rig.send(),
                9 if rig.rng.random_bool(0.2) => {
                    // First what had been settled before.
                    assert_eq!(settled(&mut rig, &mut waiting), 0);
                    rig.restart();
                    let wanted: Vec<_> = waiting.drain(..).map(|(ticket, _)| (ticket, Fate::Lost)).collect();
                    lost += wanted.len();
                    assert_eq!(rig.fates(), wanted);
                    written = 0;
                }
                _ => rig.settle(),
            }
            assert_eq!(settled(&mut rig, &mut waiting), 0);
        }
        while rig.channel.unconfirmed() > 0 {
            rig.send();
            rig.settle();
            settled(&mut rig, &mut waiting);
        }
        assert!(waiting.is_empty() && (lost > 0 || next > 20));
    }
}

/// Takes off what has come back, which must be what has arrived; how many should have and did not.
fn settled(rig: &mut Rig<Stream>, waiting: &mut Vec<(u64, usize)>) -> usize {
    let arrived: usize = rig.arrived.iter().map(Vec::len).sum();
    for (ticket, fate) in rig.fates() {
        assert_eq!(fate, Fate::Confirmed);
        assert_eq!(waiting.first().map(|first| first.0), Some(ticket), "not in order, or twice");
        assert!(waiting.remove(0).1 <= arrived, "confirmed before it came");
    }
    waiting.iter().filter(|&&(_, end)| end <= arrived).count()
}

/// Of messages: confirmed with its message, lost with the session.
#[test]
fn tickets_of_messages() {
    for seed in 0..300 {
        let _seed = Seed(seed);
        let mut rig = Rig::<Messages>::new(seed);
        let mut waiting: HashMap<u64, Vec<u8>> = HashMap::new();
        let mut next = 0;
        for step in 0..800 {
            match rig.rng.random_range(0..20) {
                0..4 if step < 400 => {
                    let mut message = vec![0; rig.rng.random_range(8..=255)];
                    message[..8].copy_from_slice(&u64::to_be_bytes(next));
                    rig.channel.write(&message, Some(next));
                    waiting.insert(next, message);
                    next += 1;
                }
                4..9 => rig.send(),
                9 if rig.rng.random_bool(0.1) => {
                    rig.restart();
                    let lost: BTreeSet<_> = rig.fates().into_iter().collect_lost();
                    assert_eq!(lost, waiting.drain().map(|(ticket, _)| ticket).collect());
                    assert_eq!(rig.channel.unconfirmed(), 0);
                }
                _ => rig.settle(),
            }
            let fates = rig.fates();
            assert_eq!(fates.len(), rig.arrived.len());
            for ((ticket, fate), message) in fates.into_iter().zip(std::mem::take(&mut rig.arrived)) {
                assert_eq!(fate, Fate::Confirmed);
                assert_eq!(waiting.remove(&ticket), Some(message));
            }
        }
        while rig.channel.unconfirmed() > 0 {
            rig.send();
            rig.settle();
            for (ticket, _) in rig.fates() {
                assert!(waiting.remove(&ticket).is_some());
            }
        }
        assert!(waiting.is_empty());
        assert_eq!((rig.channel.buffered(), rig.other.buffered()), (0, 0));
    }
}

trait CollectLost {
    fn collect_lost(self) -> BTreeSet<u64>;
}

impl<I: Iterator<Item = (u64, Fate)>> CollectLost for I {
    /// All tickets, none of which was confirmed.
    fn collect_lost(self) -> BTreeSet<u64> {
        self.inspect(|&(_, fate)| assert_eq!(fate, Fate::Lost)).map(|(ticket, _)| ticket).collect()
    }
}

#[test]
fn what_is_no_message_is_lost_at_once() {
    let mut messages = Messages::default();
    for (ticket, length) in [0, 256, 1000].into_iter().enumerate() {
        messages.write(&vec![0; length], Some(ticket as u64));
        assert_eq!(messages.poll_fate(), Some((ticket as u64, Fate::Lost)));
    }
    assert_eq!((messages.unconfirmed(), messages.poll_fate()), (0, None));
    assert!(!messages.port(&mut Vec::new(), 0).ready());
}

/// Messages that could not be used yet come first the next time, whole.
#[test]
fn messages_are_kept_and_come_again() {
    let (mut messages, mut inbox) = (Messages::default(), Vec::new());
    for message in [&[1; 255][..], &[2], b"three"] {
        messages.port(&mut inbox, 0).deliver(message);
    }
    assert!(messages.take_arrived() && !messages.take_arrived());
    // The first is used.
    messages.keep(&mut inbox, 256);
    assert!(inbox.is_empty() && messages.waiting() >= 8 && messages.begin_waiting(7));
    assert_eq!(messages.waits_since(), Some(7));
    messages.resume(&mut inbox);
    messages.port(&mut inbox, 0).deliver(b"4");
    assert_eq!(Messages::pieces(&inbox).collect::<Vec<_>>(), [&[2][..], b"three", b"4"]);
    let used = inbox.len();
    messages.keep(&mut inbox, used);
    assert_eq!((messages.waiting(), messages.waits_since()), (0, None));
    messages.port(&mut inbox, 0).deliver(b"5");
    messages.port(&mut inbox, 0).restart_incoming();
    assert!(inbox.is_empty() && !messages.take_arrived());
}

/// However a connection goes, its tickets come back.
#[test]
fn tickets_of_connections_that_go() {
    let mut world = World::new(1);
    world.config.max_connections = 16;
    let mut mux = Mux::<Stream>::new(&mut world.rng);
    let address = |number: u64| SocketAddr::from(([10, 0, 0, number as u8], 4000));
    let mut keys = Vec::new();
    for number in 0..20 {
        let mut ctx = world.context();
        let key = mux.connect(&mut ctx, address(number));
        mux.send(&mut ctx, key, &[1; 100], Some(number)).unwrap();
        keys.push(key);
    }
    // The first had to make room.
    for number in 0..4 {
        assert_eq!(mux.poll_fate(), Some((keys[number as usize], number, Fate::Lost)));
    }
    assert_eq!(mux.poll_fate(), None);
    mux.forget(&mut world.context(), keys[9]);
    assert_eq!(mux.poll_fate(), Some((keys[9], 9, Fate::Lost)));
    mux.reset(&mut world.context(), keys[10]);
    assert_eq!(mux.poll_fate(), Some((keys[10], 10, Fate::Lost)));
    mux.clear(&mut world.context());
    let left: BTreeSet<_> =
        std::iter::from_fn(|| mux.poll_fate()).map(|(_, ticket, fate)| (ticket, fate)).collect_lost();
    assert_eq!(left, (4..20).filter(|number| ![9, 10].contains(number)).collect());
    assert_eq!(mux.buffered(), 0);
}
