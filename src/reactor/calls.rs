//! Calls that were put off to a later time.

use std::collections::VecDeque;

use slab::Slab;

use crate::time::Time;
use crate::wheel::{Timer, Wheel};

/// A call that was put off with [`Reactor::call_later`](super::Reactor::call_later).
/// It stays the name of that one call after it was made or cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallKey {
    slot: usize,
    /// Counts all calls, so that a slot's next occupant has another.
    number: u64,
}

struct Call<F> {
    number: u64,
    at: Time,
    /// `None` when it is due and waits in `due`.
    timer: Option<Timer>,
    f: F,
}

/// Closures of type `F`, each with the time at which it is due.
pub(super) struct Calls<F> {
    slots: Slab<Call<F>>,
    wheel: Wheel<usize>,
    /// Those that are due, in order. One that was cancelled or moved since has
    /// left its key here, which is then passed over.
    due: VecDeque<CallKey>,
    next_number: u64,
}

impl<F> Calls<F> {
    pub fn new() -> Self {
        Calls { slots: Slab::new(), wheel: Wheel::new(), due: VecDeque::new(), next_number: 0 }
    }

    pub fn add(&mut self, at: Time, f: F) -> CallKey {
        let number = self.next_number;
        self.next_number += 1;
        let entry = self.slots.vacant_entry();
        let key = CallKey { slot: entry.key(), number };
        let timer = Some(self.wheel.arm(at, key.slot));
        entry.insert(Call { number, at, timer, f });
        key
    }

    /// Takes a call out that has not been made.
    pub fn cancel(&mut self, key: CallKey) -> Option<F> {
        self.get_mut(key)?;
        let call = self.slots.remove(key.slot);
        if let Some(timer) = call.timer {
            self.wheel.cancel(timer);
        }
        Some(call.f)
    }

    /// Gives a call that has not been made another time.
    pub fn reset(&mut self, key: CallKey, at: Time) -> bool {
        let Some(call) = self.slots.get_mut(key.slot).filter(|call| call.number == key.number) else {
            return false;
        };
        call.at = at;
        match call.timer {
            Some(timer) => {
                self.wheel.move_to(timer, at);
            }
            None => call.timer = Some(self.wheel.arm(at, key.slot)),
        }
        true
    }

    pub fn next_deadline(&self) -> Option<Time> {
        self.wheel.next_deadline()
    }

    /// Marks what is due at `now`: what is added after this is not among it.
    pub fn mark_due(&mut self, now: Time) {
        let old = self.due.len();
        while let Some(slot) = self.wheel.expire(now) {
            let call = &mut self.slots[slot];
            call.timer = None;
            self.due.push_back(CallKey { slot, number: call.number });
        }
        // The wheel is exact to about a millisecond; within it, the earlier goes
        // first, and of two for the same moment the one that was made first.
        let slots = &self.slots;
        self.due.make_contiguous()[old..].sort_by_key(|key| (slots[key.slot].at, key.number));
    }

    pub fn any_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// Takes out the next one of those that were marked.
    pub fn pop_due(&mut self) -> Option<F> {
        while let Some(key) = self.due.pop_front() {
            if self.get_mut(key).is_some_and(|call| call.timer.is_none()) {
                return Some(self.slots.remove(key.slot).f);
            }
        }
        None
    }

    fn get_mut(&mut self, key: CallKey) -> Option<&mut Call<F>> {
        self.slots.get_mut(key.slot).filter(|call| call.number == key.number)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn due(calls: &mut Calls<char>, now: Time) -> String {
        calls.mark_due(now);
        std::iter::from_fn(|| calls.pop_due()).collect()
    }

    #[test]
    fn in_order_of_time_then_of_making() {
        let mut calls = Calls::new();
        let at = |ms| Time::ZERO + ms * MS;
        for (ms, name) in [(30, 'd'), (10, 'a'), (20, 'b'), (20, 'c'), (5000, 'e')] {
            calls.add(at(ms), name);
        }
        assert_eq!(due(&mut calls, at(9)), "");
        assert_eq!(due(&mut calls, at(100)), "abcd");
        assert_eq!(due(&mut calls, at(5002)), "e");
        assert_eq!(calls.next_deadline(), None);
    }

    #[test]
    fn one_that_is_due_can_still_be_cancelled_or_moved() {
        let mut calls = Calls::new();
        let keys = ['a', 'b', 'c'].map(|name| calls.add(Time::ZERO, name));
        calls.mark_due(Time::ZERO);
        assert_eq!(calls.pop_due(), Some('a'));
        assert_eq!(calls.cancel(keys[0]), None);
        assert_eq!(calls.cancel(keys[1]), Some('b'));
        assert!(!calls.reset(keys[1], Time::ZERO));
        assert!(calls.reset(keys[2], Time::ZERO + 50 * MS));
        assert_eq!(calls.pop_due(), None);
        assert_eq!(due(&mut calls, Time::ZERO + 100 * MS), "c");
    }

    #[test]
    fn an_old_key_does_not_hit_the_slots_next_occupant() {
        let mut calls = Calls::new();
        let old = calls.add(Time::ZERO, 'a');
        assert_eq!(calls.cancel(old), Some('a'));
        let new = calls.add(Time::ZERO, 'b');
        assert_eq!(old.slot, new.slot);
        assert_eq!(calls.cancel(old), None);
        assert!(!calls.reset(old, Time::ZERO + MS));
        assert_eq!(due(&mut calls, Time::ZERO), "b");
    }
}
