//! A contact: the id of a node and the address at which it is reached.

use std::fmt;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use crate::id::Id;

/// An IPv4 address that a socket for IPv6 has dressed as one, undressed; any other as
/// it is, with its scope.
pub(crate) fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(ip) => SocketAddr::new(ip.into(), v6.port()),
            // The flow says nothing about who it is.
            None => SocketAddrV6::new(*v6.ip(), v6.port(), 0, v6.scope_id()).into(),
        },
        SocketAddr::V4(_) => addr,
    }
}

/// The block of an address: a /24 of IPv4, a /64 of IPv6, which is what one customer has.
pub(crate) fn block(ip: IpAddr) -> u64 {
    match ip.to_canonical() {
        // Where the networks of IPv6 multicast are, from which nobody sends.
        IpAddr::V4(ip) => 0xff00_0000_0000_0000 | u64::from(u32::from(ip) >> 8),
        IpAddr::V6(ip) => (u128::from(ip) >> 64) as u64,
    }
}

/// A node as others know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Contact {
    /// Its name in the key space.
    pub id: Id,
    /// The UDP address at which it is reached.
    pub addr: SocketAddr,
}

impl Contact {
    /// Whether a datagram to this address can make sense at all: a port that is
    /// not 0 and a host that is neither unspecified, multicast nor broadcast.
    /// Contacts that come from the network are held against this.
    pub fn is_reachable(&self) -> bool {
        let host = match self.addr.ip() {
            IpAddr::V4(ip) => !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast(),
            IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_multicast(),
        };
        host && self.addr.port() != 0
    }
}

impl fmt::Display for Contact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.id, self.addr)
    }
}
