//! All connections of a peer of 2003, by address, and when each is to send.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Bound::{Excluded, Unbounded};

use rand::RngExt;

use super::connection::{Connection, Heard};
use crate::random::Random;
use crate::time::Time;

/// Connections, at most. The original never forgot one.
const MAX_CONNECTIONS: usize = 16_384;

#[derive(Debug)]
struct Link {
    connection: Connection,
    /// The beginning of a message that is not there as a whole.
    inbox: Vec<u8>,
    /// Something came that it cannot read, and it stumbles over it again and again.
    is_poisoned: bool,
}

#[derive(Debug, Default)]
pub(super) struct Links {
    links: BTreeMap<SocketAddr, Link>,
    /// When each connection is to send; those of one moment in the order in which they asked.
    due: BTreeMap<(Time, u64), SocketAddr>,
    serial: u64,
    /// Who went last to make room.
    forgotten: Option<SocketAddr>,
}

impl Links {
    fn link(&mut self, addr: SocketAddr, rng: &mut Random) -> &mut Link {
        if self.links.len() >= MAX_CONNECTIONS && !self.links.contains_key(&addr) {
            let after = self.forgotten.map_or(Unbounded, Excluded);
            let next = self.links.range((after, Unbounded)).next().or_else(|| self.links.iter().next());
            self.forgotten = next.map(|(addr, _)| *addr);
            self.forgotten.and_then(|addr| self.links.remove(&addr));
        }
        self.links.entry(addr).or_insert_with(|| Link {
            connection: Connection::new(rng.random_range(1..=u32::MAX)),
            inbox: Vec::new(),
            is_poisoned: false,
        })
    }

    fn note_timer(&mut self, addr: SocketAddr) {
        if let Some(at) = self.links.get_mut(&addr).and_then(|link| link.connection.take_timer()) {
            self.serial += 1;
            self.due.insert((at, self.serial), addr);
        }
    }

    /// Takes a datagram. What there is to be read is to be given back with [`keep`](Self::keep).
    pub fn receive(
        &mut self,
        now: Time,
        from: SocketAddr,
        datagram: &[u8],
        rng: &mut Random,
    ) -> Option<Vec<u8>> {
        let link = self.link(from, rng);
        let mut inbox = std::mem::take(&mut link.inbox);
        let before = inbox.len();
        match link.connection.receive(now, datagram, &mut inbox) {
            Heard::Nothing => link.inbox = inbox,
            Heard::Packet if link.is_poisoned => {
                // It gives up before it comes to decide what to send.
                if inbox.is_empty() {
                    link.connection.schedule(now);
                }
            }
            Heard::Packet if inbox.len() > before => return Some(inbox),
            Heard::Packet => {
                link.inbox = inbox;
                link.connection.schedule(now);
            }
            Heard::Reset => {}
        }
        self.note_timer(from);
        None
    }

    /// What was left of what there was to be read; `None`: it was poison.
    pub fn keep(&mut self, now: Time, addr: SocketAddr, rest: Option<Vec<u8>>) {
        let Some(link) = self.links.get_mut(&addr) else { return };
        match rest {
            Some(rest) => {
                link.inbox = rest;
                link.connection.schedule(now);
            }
            None => link.is_poisoned = true,
        }
        self.note_timer(addr);
    }

    pub fn write(&mut self, now: Time, addr: SocketAddr, bytes: &[u8], rng: &mut Random) {
        self.link(addr, rng).connection.write(now, bytes);
        self.note_timer(addr);
    }

    pub fn next_deadline(&self) -> Option<Time> {
        self.due.first_key_value().map(|((at, _), _)| *at)
    }

    pub fn transmit(&mut self, now: Time, buf: &mut Vec<u8>) -> Option<SocketAddr> {
        buf.clear();
        loop {
            let next = self.due.first_entry().filter(|next| next.key().0 <= now)?;
            let addr = next.remove();
            let Some(link) = self.links.get_mut(&addr) else { continue };
            link.connection.send_next(now, buf);
            self.note_timer(addr);
            return Some(addr);
        }
    }
}
