//! What is on its way from a machine without I/O to a socket.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

/// The most that goes out by one call, in bytes: with the headers of UDP and IP it must fit into a
/// datagram, as it is one until it is cut. 48 of Airhook's packets do.
const LONGEST: usize = 65_000;

/// Where datagrams go: a [`Socket`](super::Socket), or a test.
pub trait Wire {
    /// How many datagrams one call may send, 1 at least.
    fn segments(&self) -> usize;

    /// Sends datagrams of `size` bytes each, the last of which may be shorter; all or none. No more of them
    /// than [`segments`](Self::segments) says.
    ///
    /// # Errors
    ///
    /// What the system says; [`ErrorKind::WouldBlock`] when it has no room.
    fn send(&mut self, to: SocketAddr, datagrams: &[u8], size: usize) -> io::Result<()>;

    /// A datagram was refused, for this reason. It counts as lost.
    fn refused(&mut self, error: &io::Error);
}

/// Whether all has gone that was to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It is gone, or was refused, which for a datagram is the same as lost.
    Done,
    /// The system has no room for the rest.
    Blocked,
}

/// Datagrams that wait for their call, in order: those that can go by one, and the next, which cannot go
/// with them. One is enough for all sockets of a loop; what one of them has no room for is kept with
/// [`rest`](Self::rest).
#[derive(Debug, Default)]
pub struct Outbox {
    /// Datagrams to `to`, one behind the other.
    train: Vec<u8>,
    to: Option<SocketAddr>,
    /// How long each of them is, but the last, which may be shorter.
    size: usize,
    /// How many bytes of them have gone.
    gone: usize,
    next: Vec<u8>,
    next_to: Option<SocketAddr>,
}

impl Outbox {
    /// With nothing in it.
    pub fn new() -> Self {
        Outbox::default()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.to.is_none() && self.next_to.is_none()
    }

    /// Sends what waits, and then all that `poll` has: it puts a datagram into the buffer, which it
    /// empties first, and says where to send it. After [`Sent::Blocked`] the rest waits, up to 64 KiB of
    /// what was polled; call it again when there is room.
    pub fn send(
        &mut self,
        wire: &mut impl Wire,
        mut poll: impl FnMut(&mut Vec<u8>) -> Option<SocketAddr>,
    ) -> Sent {
        loop {
            while self.next_to.is_none() {
                self.next_to = poll(&mut self.next);
                if self.next_to.is_none() || !self.join(wire.segments()) {
                    break;
                }
            }
            if self.flush(wire) == Sent::Blocked {
                return Sent::Blocked;
            }
            if !self.join(wire.segments()) {
                return Sent::Done;
            }
        }
    }

    /// Takes out what waits, with no more memory than it needs.
    pub fn rest(&mut self) -> Outbox {
        let rest = Outbox {
            train: self.train[self.gone..].into(),
            next: self.next.as_slice().into(),
            gone: 0,
            ..*self
        };
        self.train.clear();
        (self.to, self.gone, self.next_to) = (None, 0, None);
        rest
    }

    /// Puts the next datagram to those that go by one call, if it can go with them.
    fn join(&mut self, segments: usize) -> bool {
        let Some(to) = self.next_to else { return false };
        if self.to.is_none() {
            std::mem::swap(&mut self.train, &mut self.next);
            (self.to, self.size, self.gone) = (Some(to), self.train.len(), 0);
        } else {
            let length = self.train.len();
            let fits = self.to == Some(to)
                && (1..=self.size).contains(&self.next.len())
                // None is shorter yet.
                && length.is_multiple_of(self.size)
                && length + self.next.len() <= LONGEST
                && length / self.size < segments;
            if !fits {
                return false;
            }
            self.train.extend_from_slice(&self.next);
        }
        self.next_to = None;
        true
    }

    /// Sends those that go by one call; by one each, where that is refused.
    fn flush(&mut self, wire: &mut impl Wire) -> Sent {
        let Some(to) = self.to else { return Sent::Done };
        let mut together = true;
        loop {
            let left = &self.train[self.gone..];
            let several = together && left.len() > self.size && wire.segments() > 1;
            let part = if several { left } else { &left[..self.size.min(left.len())] };
            match wire.send(to, part, self.size) {
                Ok(()) => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Sent::Blocked,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(_) if several => {
                    together = false;
                    continue;
                }
                Err(e) => wire.refused(&e),
            }
            self.gone += part.len();
            if self.gone >= self.train.len() {
                self.train.clear();
                self.to = None;
                return Sent::Done;
            }
        }
    }
}
