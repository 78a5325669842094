//! UDP sockets that send and receive many datagrams at a time, where the system can.
//!
//! For programs that drive an [`Endpoint`](crate::airhook::Endpoint) themselves; the
//! [reactor](crate::reactor) has the sockets of its nodes by it, too.
//!
//! With the crate's feature `offload`, datagrams of one size to one address go out by one call, and
//! arrive by one: segmentation offload, which Linux has since version 4.18 for sending (`UDP_SEGMENT`)
//! and since 5.0 for receiving (`UDP_GRO`). Without the feature, or elsewhere, each takes a call of its
//! own. The datagrams are the same. What differs with the feature: none is fragmented on its way (one
//! that is too large for it is lost, and [`Config::narrow_packet`](crate::Config::narrow_packet) is for
//! that), and to receive one alone takes a little longer. A network interface that refuses datagrams
//! together is given them one by one from then on.

#[cfg(feature = "offload")]
mod offload;
mod outbox;

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use mio::event::Source;
use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};

#[cfg(feature = "offload")]
use self::offload::Offload;
pub use self::outbox::{Outbox, Sent, Wire};

/// How large a buffer for [`Socket::receive`] is to be, in bytes: the length field of UDP has 16 bits,
/// and what the system puts together is no longer than that.
pub const LARGEST: usize = 1 << 16;

/// A UDP socket, which mio can watch.
#[derive(Debug)]
pub struct Socket {
    udp: UdpSocket,
    offload: Option<Offload>,
    errors: u64,
}

/// What [`Socket::receive`] has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// So many datagrams.
    Some(usize),
    /// There is nothing at present.
    Nothing,
    /// An error, which was counted; mostly, an earlier datagram of ours could not be delivered.
    Failed,
}

impl Socket {
    /// Takes over a socket.
    pub fn new(udp: UdpSocket) -> Self {
        let offload = Offload::new(&udp);
        Socket { udp, offload, errors: 0 }
    }

    /// Takes over a socket, each datagram of which takes a call of its own.
    pub fn plain(udp: UdpSocket) -> Self {
        Socket { udp, offload: None, errors: 0 }
    }

    /// Where it is bound.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.udp.local_addr()
    }

    /// How often the system refused to send or to receive.
    pub fn errors(&self) -> u64 {
        self.errors
    }

    /// Has `each` take what one call of the system brings: datagrams and their sender, in the order in
    /// which they have come, up to 64 of them. What does not fit into `buffer`, which should have
    /// [`LARGEST`] bytes, is cut off.
    pub fn receive(&mut self, buffer: &mut [u8], mut each: impl FnMut(SocketAddr, &[u8])) -> Received {
        let received = loop {
            let received = match &self.offload {
                Some(offload) => offload.receive(&self.udp, buffer),
                None => self.udp.recv_from(buffer).map(|(length, from)| (length, length, from)),
            };
            if !received.as_ref().is_err_and(|e| e.kind() == ErrorKind::Interrupted) {
                break received;
            }
        };
        match received {
            Ok((length, size, from)) => {
                // An empty one is one, too.
                let (first, others) = buffer[..length].split_at(size.min(length));
                let others = others.chunks(size.max(1));
                let count = 1 + others.len();
                each(from, first);
                others.for_each(|datagram| each(from, datagram));
                Received::Some(count)
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => Received::Nothing,
            Err(e) => {
                self.count_error("receiving", &e);
                Received::Failed
            }
        }
    }

    fn count_error(&mut self, doing: &str, error: &io::Error) {
        self.errors += 1;
        log::debug!("{:?}: {doing}: {error}", self.udp.local_addr().ok());
    }
}

impl Wire for Socket {
    fn segments(&self) -> usize {
        self.offload.as_ref().map_or(1, Offload::segments)
    }

    fn send(&mut self, to: SocketAddr, datagrams: &[u8], size: usize) -> io::Result<()> {
        match &self.offload {
            Some(offload) if datagrams.len() > size => offload.send(&self.udp, to, datagrams, size),
            _ => self.udp.send_to(datagrams, to).map(|_| ()),
        }
    }

    fn refused(&mut self, error: &io::Error) {
        self.count_error("sending", error);
    }
}

impl Source for Socket {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.udp.register(registry, token, interests)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.udp.reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.udp.deregister(registry)
    }
}

/// There is none without the feature.
#[cfg(not(feature = "offload"))]
#[derive(Debug)]
enum Offload {}

#[cfg(not(feature = "offload"))]
impl Offload {
    fn new(_: &UdpSocket) -> Option<Self> {
        None
    }

    fn segments(&self) -> usize {
        match *self {}
    }

    fn send(&self, _: &UdpSocket, _: SocketAddr, _: &[u8], _: usize) -> io::Result<()> {
        match *self {}
    }

    fn receive(&self, _: &UdpSocket, _: &mut [u8]) -> io::Result<(usize, usize, SocketAddr)> {
        match *self {}
    }
}
