//! What is going to happen, in order of time, and the datagrams under way.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use super::simulation::Host;
use crate::time::Time;

/// Something that will happen.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    /// A datagram has come to the end of its way.
    Arrival(u32),
    /// It has come through the line of its receiver, too.
    Delivery(u32),
    /// A foreign peer may have something to do.
    Wake(Host),
    /// A frozen host may go on.
    Thaw(Host),
    /// What the owner of the simulation asked to be told.
    Alarm(u64),
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    at: Time,
    serial: u64,
    event: Event,
}

impl Entry {
    fn key(&self) -> (Time, u64) {
        (self.at, self.serial)
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

/// A slot lasts for 2¹⁰ µs, about a millisecond.
const SLOT_BITS: u32 = 10;
/// The slots ahead that have a list of their own: 4.2 s.
const SLOTS: usize = 4096;
const WORDS: usize = SLOTS / 64;
/// How many empty lists are kept for use again.
const SPARE: usize = 512;

/// Events to come. Those of one moment come in the order in which they were entered.
///
/// A calendar: most events are latencies away, so they go to the list of their slot of time without
/// being put in order; only the slot whose time has come is, in a heap that is small enough to stay
/// in the processor's cache.
#[derive(Debug)]
pub(super) struct Events {
    /// Those of the slot `slot` and of any before it.
    present: BinaryHeap<Reverse<Entry>>,
    slot: u64,
    /// Those of the next `SLOTS - 1` slots, each at its number modulo `SLOTS`.
    ring: Vec<Vec<Entry>>,
    /// When the first one of each is.
    first: Vec<Time>,
    /// Which of them hold any, and which words of that do.
    occupied: [u64; WORDS],
    words: u64,
    /// Those after that, when they were entered.
    far: BinaryHeap<Reverse<Entry>>,
    spare: Vec<Vec<Entry>>,
    serial: u64,
}

impl Default for Events {
    fn default() -> Self {
        Events {
            present: BinaryHeap::new(),
            slot: 0,
            ring: vec![Vec::new(); SLOTS],
            first: vec![Time::ZERO; SLOTS],
            occupied: [0; WORDS],
            words: 0,
            far: BinaryHeap::new(),
            spare: Vec::new(),
            serial: 0,
        }
    }
}

impl Events {
    /// When the next one is.
    pub fn next_time(&self) -> Option<Time> {
        if let Some(Reverse(entry)) = self.present.peek() {
            // All others are in later slots, or at least not before the end of this one; but for the
            // far ones, which nobody has looked at since they were entered.
            return Some(self.far.peek().map_or(entry.at, |Reverse(far)| far.at.min(entry.at)));
        }
        let near = self.next_slot().map(|slot| self.first[index(slot)]);
        let far = self.far.peek().map(|Reverse(entry)| entry.at);
        near.into_iter().chain(far).min()
    }

    pub fn insert(&mut self, at: Time, event: Event) {
        self.serial += 1;
        let entry = Entry { at, serial: self.serial, event };
        let slot = slot_of(at);
        if slot <= self.slot {
            self.present.push(Reverse(entry));
        } else if slot - self.slot >= SLOTS as u64 {
            self.far.push(Reverse(entry));
        } else {
            let index = index(slot);
            let list = &mut self.ring[index];
            if list.is_empty() {
                if list.capacity() == 0
                    && let Some(spare) = self.spare.pop()
                {
                    *list = spare;
                }
                self.first[index] = at;
                self.occupied[index / 64] |= 1 << (index % 64);
                self.words |= 1 << (index / 64);
            } else if at < self.first[index] {
                self.first[index] = at;
            }
            list.push(entry);
        }
    }

    /// The next one that is due. All that is entered later must not be due before `now`.
    pub fn take(&mut self, now: Time) -> Option<Event> {
        loop {
            let far = self.far.peek().map(|Reverse(entry)| slot_of(entry.at));
            if far.is_some_and(|far| far <= self.slot) {
                self.present.extend(self.far.pop());
                continue;
            }
            if let Some(Reverse(entry)) = self.present.peek()
                && entry.at <= now
            {
                return self.present.pop().map(|Reverse(entry)| entry.event);
            }
            let next = self.next_slot().into_iter().chain(far).min();
            match next.filter(|&next| next <= slot_of(now)) {
                Some(next) => self.come_up(next),
                None => {
                    // Nothing lies between.
                    self.slot = self.slot.max(slot_of(now));
                    return None;
                }
            }
        }
    }

    /// Goes on to a slot before which no other holds anything.
    fn come_up(&mut self, slot: u64) {
        self.slot = slot;
        let index = index(slot);
        let bit = 1 << (index % 64);
        if self.occupied[index / 64] & bit != 0 {
            self.occupied[index / 64] &= !bit;
            if self.occupied[index / 64] == 0 {
                self.words &= !(1 << (index / 64));
            }
            let mut list = std::mem::take(&mut self.ring[index]);
            self.present.extend(list.drain(..).map(Reverse));
            if self.spare.len() < SPARE {
                self.spare.push(list);
            }
        }
    }

    /// The first slot after the present one that holds anything.
    fn next_slot(&self) -> Option<u64> {
        if self.words == 0 {
            return None;
        }
        let start = index(self.slot + 1);
        let (word, bit) = (start / 64, start % 64);
        let here = self.occupied[word] & (u64::MAX << bit);
        let found = if here != 0 {
            word * 64 + here.trailing_zeros() as usize
        } else {
            // The words behind this one, then from the first one on round to this one again.
            let turned = self.words.rotate_right(word as u32 + 1);
            let word = (word + 1 + turned.trailing_zeros() as usize) % WORDS;
            word * 64 + self.occupied[word].trailing_zeros() as usize
        };
        Some(self.slot + 1 + ((found + SLOTS - start) % SLOTS) as u64)
    }
}

fn slot_of(at: Time) -> u64 {
    at.as_micros() >> SLOT_BITS
}

fn index(slot: u64) -> usize {
    slot as usize % SLOTS
}

/// One end of a datagram's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct End {
    pub host: Host,
    pub port: u16,
}

/// A datagram under way.
#[derive(Debug)]
pub(super) struct Flight {
    pub from: End,
    pub to: End,
    /// Over IPv6.
    pub v6: bool,
    pub bytes: Vec<u8>,
}

/// Datagrams under way. Those that have arrived leave their buffers to others.
#[derive(Debug, Default)]
pub(super) struct Flights {
    all: Vec<Flight>,
    free: Vec<u32>,
}

/// A buffer that is larger is given up with its datagram.
const LARGEST_KEPT: usize = 2048;

impl Flights {
    /// Takes what is in `bytes`, and leaves an empty buffer.
    pub fn insert(&mut self, from: End, to: End, v6: bool, bytes: &mut Vec<u8>) -> u32 {
        let place = match self.free.pop() {
            Some(place) => place,
            None => {
                self.all.push(Flight { from, to, v6, bytes: Vec::new() });
                (self.all.len() - 1) as u32
            }
        };
        let flight = &mut self.all[place as usize];
        (flight.from, flight.to, flight.v6) = (from, to, v6);
        std::mem::swap(&mut flight.bytes, bytes);
        bytes.clear();
        place
    }

    pub fn get(&self, place: u32) -> &Flight {
        &self.all[place as usize]
    }

    pub fn remove(&mut self, place: u32) {
        let bytes = &mut self.all[place as usize].bytes;
        if bytes.capacity() > LARGEST_KEPT {
            *bytes = Vec::new();
        }
        bytes.clear();
        self.free.push(place);
    }

    /// How many are under way.
    pub fn len(&self) -> usize {
        self.all.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::random::{seed_from_number, seeded};
    use crate::sim::quantile::below;

    /// Against a map in order: waits from none to hours, and jumps of the clock between the events.
    #[test]
    fn events_come_in_order() {
        for seed in 0..20 {
            let mut rng = seeded(seed_from_number(seed));
            let (mut events, mut model) = (Events::default(), BTreeMap::new());
            let (mut now, mut serial) = (0, 0);
            for _ in 0..3000 {
                for _ in 0..below(&mut rng, 4) {
                    let longest =
                        [1, 1 << 10, 1 << 16, 1 << 22, 1 << 23, 1 << 33][below(&mut rng, 6) as usize];
                    let at = now + below(&mut rng, longest);
                    serial += 1;
                    events.insert(Time::from_micros(at), Event::Alarm(serial));
                    model.insert((at, serial), serial);
                }
                let next = model.keys().next().map(|&(at, _)| at);
                assert_eq!(events.next_time(), next.map(Time::from_micros), "seed {seed}");
                let longest = 1 << below(&mut rng, 24);
                now = match next {
                    Some(next) if below(&mut rng, 3) > 0 => next,
                    _ => now + below(&mut rng, longest),
                };
                // Some of what is due is entered meanwhile.
                loop {
                    let due = model.first_entry().filter(|entry| entry.key().0 <= now);
                    let due = due.map(|entry| entry.remove());
                    let taken = events.take(Time::from_micros(now)).map(|event| match event {
                        Event::Alarm(number) => number,
                        other => panic!("{other:?}"),
                    });
                    assert_eq!(taken, due, "seed {seed}, at {now}");
                    if taken.is_none() {
                        break;
                    }
                    if below(&mut rng, 4) == 0 {
                        serial += 1;
                        events.insert(Time::from_micros(now), Event::Alarm(serial));
                        model.insert((now, serial), serial);
                    }
                }
            }
        }
    }
}
