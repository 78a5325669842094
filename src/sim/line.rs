//! What is particular about a host: a slow line, a translator, a program that stands still.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::event::End;
use super::place::{Bandwidth, PORT, Reach, Translation};
use super::quantile::below;
use crate::random::Random;
use crate::time::Time;

/// What is kept of a host that is not like most.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub upload: Option<Pipe>,
    pub download: Option<Pipe>,
    pub translator: Option<Translator>,
    pub frozen: Option<Frozen>,
    /// Nothing comes in or goes out.
    pub cut_off: bool,
}

/// One direction of a line, with those who wait for it.
#[derive(Debug)]
pub(super) struct Pipe {
    bandwidth: Bandwidth,
    /// When it is through with all that it has taken: nanoseconds, since a byte may take less than a
    /// microsecond.
    free: u128,
}

impl Pipe {
    pub fn new(bandwidth: Bandwidth) -> Self {
        Pipe { bandwidth, free: 0 }
    }

    /// When a datagram with so many bytes in it is through that comes now; `None`: there is no room for it.
    pub fn take(&mut self, now: Time, bytes: usize, v6: bool) -> Option<Time> {
        let size = bytes as u128 + if v6 { 48 } else { 28 };
        let rate = u128::from(self.bandwidth.rate);
        let now = u128::from(now.as_micros()) * 1000;
        let waiting = self.free.saturating_sub(now) * rate / 1_000_000_000;
        if waiting > 0 && waiting + size > u128::from(self.bandwidth.queue) {
            return None;
        }
        self.free = self.free.max(now) + size * 1_000_000_000 / rate;
        Some(Time::from_micros(u64::try_from(self.free.div_ceil(1000)).unwrap_or(u64::MAX)))
    }
}

/// How many correspondents a translator remembers.
const MOST_ENTRIES: usize = 4096;

/// What a translator knows of the host behind it.
#[derive(Debug)]
pub(super) struct Translator {
    how: Translation,
    /// The public port.
    pub port: u16,
    /// When the host last called anyone.
    called: Option<Time>,
    /// Whom it called, and when: addresses, with or without their ports.
    entries: BTreeMap<End, Time>,
}

impl Translator {
    pub fn new(how: Translation) -> Self {
        Translator { how, port: PORT, called: None, entries: BTreeMap::new() }
    }

    /// The host calls somebody, or nobody that is there.
    pub fn call(&mut self, now: Time, to: Option<End>, rng: &mut Random) {
        let open = |called| is_open(now, called, self.how.lifetime);
        if let Some(called) = self.called
            && !open(called)
        {
            self.entries.clear();
            if self.how.moves {
                // Another one, above those that are well known.
                let step = 1 + below(rng, u64::from(u16::MAX) - 1024) as u16;
                self.port = 1024 + ((u32::from(self.port - 1024) + u32::from(step)) % (65_536 - 1024)) as u16;
            }
        }
        self.called = Some(now);
        let Some(to) = to.and_then(|to| self.entry(to)) else { return };
        if self.entries.len() >= MOST_ENTRIES && !self.entries.contains_key(&to) {
            let lifetime = self.how.lifetime;
            self.entries.retain(|_, &mut called| is_open(now, called, lifetime));
            if self.entries.len() >= MOST_ENTRIES {
                return;
            }
        }
        self.entries.insert(to, now);
    }

    /// Whether somebody's datagram to this port gets in.
    pub fn lets_in(&self, now: Time, from: End, port: u16) -> bool {
        let called = match self.entry(from) {
            Some(entry) => self.entries.get(&entry).copied(),
            None => self.called,
        };
        port == self.port && called.is_some_and(|called| is_open(now, called, self.how.lifetime))
    }

    /// What is noted of a correspondent, if anything is.
    fn entry(&self, end: End) -> Option<End> {
        match self.how.reach {
            Reach::Anyone => None,
            Reach::Address => Some(End { port: 0, ..end }),
            Reach::AddressAndPort => Some(end),
        }
    }
}

fn is_open(now: Time, called: Time, lifetime: Duration) -> bool {
    now.since(called) < lifetime
}

/// What waits for a program that stands still.
#[derive(Debug)]
pub(super) struct Frozen {
    pub until: Time,
    /// Datagrams in the socket's buffer, and their bytes.
    pub waiting: VecDeque<u32>,
    pub bytes: usize,
    /// How many there is room for.
    pub room: usize,
}

/// What the system's bookkeeping takes of a socket's buffer for each datagram.
pub(super) const BOOKKEEPING: usize = 512;
