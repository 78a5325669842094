//! A hierarchical timer wheel: every timer of an engine, however many.
//!
//! Arming, cancelling and moving take constant time, and the next deadline is
//! found in as many steps as there are levels. Most timers are cancelled or
//! postponed long before they fire, so those are the cheap cases: to postpone
//! one only writes its new deadline, and the wheel looks again when the old one
//! comes up.
//!
//! Time is cut into ticks of 1,024 µs. A level has 64 slots; a slot of the
//! lowest level is one tick, a slot of the next is a whole rotation of the level
//! below it. A timer is filed by the highest group of six bits in which its tick
//! differs from the current one: the group's place is the level, its value the
//! slot. So all timers of a slot belong to the same rotation, and two timers of
//! the same tick are always in the same slot. (Varghese and Lauck, *Hashed and
//! hierarchical timing wheels*, 1987; the placement is that of Tokio's wheel.)

use std::num::NonZeroU32;

use crate::time::Time;

/// A tick is 2^10 µs.
const TICK_BITS: u32 = 10;
/// A level has 2^6 slots, one for each bit of a word.
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
/// The 54 bits of the largest tick, in groups of six: all of [`Time`] fits.
const LEVELS: usize = (u64::BITS - TICK_BITS).div_ceil(SLOT_BITS) as usize;
const LAST_TICK: u64 = u64::MAX >> TICK_BITS;

/// No entry: the end of a list.
const NONE: u32 = u32::MAX;
/// The place of what is due. A slot that timers are filed in lies beyond the
/// current slot of its level, so slot 0 is free on each of them; this is the
/// lowest level's.
const DUE: u16 = 0;
/// The place of an unused entry.
const FREE: u16 = u16::MAX;

/// A timer that was armed. It stays the name of that one timer after it has
/// fired or was cancelled (until 2^32 others have used the same entry).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timer {
    index: u32,
    generation: NonZeroU32,
}

struct Entry<K> {
    deadline: Time,
    /// The entry before it in its list; in a list's first, the last one.
    prev: u32,
    /// The entry after it in its list, or in the list of unused ones.
    next: u32,
    generation: NonZeroU32,
    /// Level × 64 + slot, or [`FREE`].
    place: u16,
    key: K,
}

/// Timers, each with a key that says what it is for.
///
/// A timer never fires early, and up to a tick (1.024 ms) late: it fires in the
/// first tick that begins at or after its deadline. A deadline that has passed
/// when it is set fires with the next [`expire`](Self::expire).
///
/// Timers come out by tick, and in a fixed order within a tick, which depends on
/// nothing but the calls made before: those that were never moved come in the
/// order in which they were armed, a moved one somewhere among them. A deadline
/// that has passed counts as one in the tick which is being worked off.
pub struct Wheel<K> {
    entries: Vec<Entry<K>>,
    /// The first unused entry.
    free: u32,
    len: usize,
    /// The first entry of each list, by place.
    heads: Box<[u32]>,
    /// For each level, which of its lists have entries.
    occupied: [u64; LEVELS],
    /// The tick that is being worked off: what was due before it has come out.
    current: u64,
    /// The latest time seen; its tick is `current` or after it.
    now: Time,
}

impl<K: Copy> Default for Wheel<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Copy> Wheel<K> {
    /// An empty wheel, at the beginning of time.
    pub fn new() -> Self {
        Wheel {
            entries: Vec::new(),
            free: NONE,
            len: 0,
            heads: vec![NONE; LEVELS * SLOTS].into_boxed_slice(),
            occupied: [0; LEVELS],
            current: 0,
            now: Time::ZERO,
        }
    }

    /// How many timers are armed.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no timer is armed.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Sets a timer that fires at `at`.
    ///
    /// # Panics
    ///
    /// With 2^32 - 1 timers armed already.
    pub fn arm(&mut self, at: Time, key: K) -> Timer {
        let deadline = self.clamp(at);
        let place = self.place(tick(deadline));
        let index = if self.free == NONE {
            assert!(self.entries.len() < NONE as usize, "too many timers");
            let index = self.entries.len() as u32;
            let generation = NonZeroU32::MIN;
            self.entries.push(Entry { deadline, prev: NONE, next: NONE, generation, place, key });
            index
        } else {
            let index = self.free;
            let entry = &mut self.entries[index as usize];
            self.free = entry.next;
            entry.deadline = deadline;
            entry.key = key;
            index
        };
        self.len += 1;
        self.link(index, place);
        Timer { index, generation: self.entries[index as usize].generation }
    }

    /// Takes a timer back, and returns its key; `None` when it has fired or was
    /// cancelled before.
    pub fn cancel(&mut self, timer: Timer) -> Option<K> {
        self.entry(timer)?;
        self.unlink(timer.index);
        Some(self.release(timer.index))
    }

    /// Gives a timer another deadline, earlier or later; false when it has fired
    /// or was cancelled.
    pub fn move_to(&mut self, timer: Timer, at: Time) -> bool {
        let Some(old) = self.entry(timer).map(|entry| entry.place) else {
            return false;
        };
        let deadline = self.clamp(at);
        let new = self.place(tick(deadline));
        self.entries[timer.index as usize].deadline = deadline;
        // Places are in order of time. In a place that comes up no later than the
        // new one the timer can stay: it is filed anew when that comes up. What is
        // due already is not looked at again, so it cannot stay.
        if new < old || (old == DUE && new != DUE) {
            self.unlink(timer.index);
            self.link(timer.index, new);
        }
        true
    }

    /// When a timer is to fire, as it was set; `None` when it has fired or was
    /// cancelled. A deadline that had passed when it was set may read as up to a
    /// tick earlier.
    pub fn deadline(&self, timer: Timer) -> Option<Time> {
        self.entry(timer).map(|entry| entry.deadline)
    }

    /// When to call [`expire`](Self::expire) next; `None` when no timer is armed.
    ///
    /// Never later than the beginning of the tick in which the next timer fires
    /// (or the present, for what is due). It may be earlier: then `expire` yields
    /// nothing, and a later time stands here.
    pub fn next_deadline(&self) -> Option<Time> {
        let tick = if self.heads[DUE as usize] != NONE { self.current } else { self.next_slot()?.1 };
        Some(Time::from_micros(tick << TICK_BITS))
    }

    /// Takes one timer that is due at `now` out, and returns its key. Call it
    /// until it returns `None`.
    ///
    /// What is armed or moved meanwhile comes out too when it is due at `now`. A
    /// `now` before the latest one counts as that.
    pub fn expire(&mut self, now: Time) -> Option<K> {
        self.now = self.now.max(now);
        let until = self.now.as_micros() >> TICK_BITS;
        loop {
            let index = self.heads[DUE as usize];
            if index != NONE {
                self.unlink(index);
                return Some(self.release(index));
            }
            match self.next_slot() {
                Some((place, start)) if start <= until => self.come_up(place, start),
                _ => {
                    // No list begins before this, so all stay where they belong.
                    self.current = until;
                    return None;
                }
            }
        }
    }

    /// The first list after the current tick, and the tick at which it begins.
    fn next_slot(&self) -> Option<(u16, u64)> {
        // Whatever is on a level comes before all that is on the levels above.
        let level = self.occupied.iter().position(|&slots| slots != 0)?;
        let slot = self.occupied[level].trailing_zeros();
        let shift = level as u32 * SLOT_BITS;
        let rotation = u64::MAX << shift << SLOT_BITS;
        let start = (self.current & rotation) | (u64::from(slot) << shift);
        Some(((level * SLOTS) as u16 + slot as u16, start))
    }

    /// Goes on to the tick `start`, at which the list at `place` begins: what is
    /// due then is marked so, the others go to where they belong now.
    fn come_up(&mut self, place: u16, start: u64) {
        self.current = start;
        let mut index = std::mem::replace(&mut self.heads[place as usize], NONE);
        let (level, bit) = occupancy(place);
        self.occupied[level] &= !bit;
        while index != NONE {
            let entry = &self.entries[index as usize];
            let next = entry.next;
            let place = self.place(tick(entry.deadline));
            self.link(index, place);
            index = next;
        }
    }

    /// Where a timer of this tick belongs now.
    fn place(&self, tick: u64) -> u16 {
        if tick <= self.current {
            return DUE;
        }
        let level = (tick ^ self.current).ilog2() / SLOT_BITS;
        let slot = (tick >> (level * SLOT_BITS)) as u16 % SLOTS as u16;
        level as u16 * SLOTS as u16 + slot
    }

    /// A deadline that has passed is drawn to the beginning of the current tick,
    /// so that rounding it up does not make it one to come.
    fn clamp(&self, at: Time) -> Time {
        if at > self.now {
            return at;
        }
        at.min(Time::from_micros(self.now.as_micros() >> TICK_BITS << TICK_BITS))
    }

    fn entry(&self, timer: Timer) -> Option<&Entry<K>> {
        let entry = self.entries.get(timer.index as usize)?;
        (entry.generation == timer.generation && entry.place != FREE).then_some(entry)
    }

    /// Appends an entry that is in no list to the one at `place`.
    fn link(&mut self, index: u32, place: u16) {
        let head = self.heads[place as usize];
        let last = if head == NONE {
            self.heads[place as usize] = index;
            let (level, bit) = occupancy(place);
            self.occupied[level] |= bit;
            index
        } else {
            let last = std::mem::replace(&mut self.entries[head as usize].prev, index);
            self.entries[last as usize].next = index;
            last
        };
        let entry = &mut self.entries[index as usize];
        entry.prev = last;
        entry.next = NONE;
        entry.place = place;
    }

    /// Takes an entry out of its list.
    fn unlink(&mut self, index: u32) {
        let Entry { prev, next, place, .. } = self.entries[index as usize];
        let head = self.heads[place as usize];
        if head == index {
            self.heads[place as usize] = next;
            if next == NONE {
                let (level, bit) = occupancy(place);
                self.occupied[level] &= !bit;
            }
        } else {
            self.entries[prev as usize].next = next;
        }
        if next != NONE {
            self.entries[next as usize].prev = prev;
        } else if head != index {
            self.entries[head as usize].prev = prev;
        }
    }

    /// Puts an entry that is in no list among the unused ones.
    fn release(&mut self, index: u32) -> K {
        let entry = &mut self.entries[index as usize];
        entry.generation = entry.generation.checked_add(1).unwrap_or(NonZeroU32::MIN);
        entry.place = FREE;
        entry.next = self.free;
        self.free = index;
        self.len -= 1;
        entry.key
    }
}

/// The first tick that begins at or after `at`. (The last one of all stands in
/// for the one after it, which no clock can show.)
fn tick(at: Time) -> u64 {
    at.as_micros().div_ceil(1 << TICK_BITS).min(LAST_TICK)
}

/// The level of a place, and the bit of its slot.
fn occupancy(place: u16) -> (usize, u64) {
    (place as usize / SLOTS, 1 << (place as usize % SLOTS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_small() {
        assert!(size_of::<Entry<[u32; 2]>>() <= 32);
        assert!(size_of::<Entry<[u32; 3]>>() <= 40);
    }
}
