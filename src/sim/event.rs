//! What is going to happen, in order of time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;

use slab::Slab;

use crate::time::Time;

/// Something that will happen.
#[derive(Debug)]
pub(super) enum Event {
    /// A datagram arrives.
    Arrival {
        /// Where it came from, as its receiver sees it.
        from: SocketAddr,
        /// Where it was sent to.
        to: SocketAddr,
        /// What is in it.
        bytes: Vec<u8>,
    },
    /// A foreign peer may have something to do.
    Wake(u32),
    /// What the owner of the simulation asked to be told.
    Alarm(u64),
}

/// Events to come. Those of one moment come in the order in which they were entered.
#[derive(Debug, Default)]
pub(super) struct Events {
    order: BinaryHeap<Reverse<(Time, u64, u32)>>,
    events: Slab<Event>,
    serial: u64,
}

impl Events {
    /// When the next one is.
    pub fn next_time(&self) -> Option<Time> {
        self.order.peek().map(|Reverse((at, ..))| *at)
    }

    pub fn insert(&mut self, at: Time, event: Event) {
        let place = self.events.insert(event) as u32;
        self.serial += 1;
        self.order.push(Reverse((at, self.serial, place)));
    }

    /// The next one that is due.
    pub fn take(&mut self, now: Time) -> Option<Event> {
        if self.next_time()? > now {
            return None;
        }
        let Reverse((.., place)) = self.order.pop()?;
        Some(self.events.remove(place as usize))
    }
}
