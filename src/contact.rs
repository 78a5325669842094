//! A contact: the id of a node and the address at which it is reached.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::id::Id;

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
