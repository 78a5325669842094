//! From which local address packets to a peer leave.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use super::clock::Clock;
use crate::engine::Routes;
use crate::time::Time;

/// Answers kept. A node talks to few peers at a time, and all of them are behind
/// the same few routes; when this is full it starts over.
const CAPACITY: usize = 1024;
/// How long an answer holds: a machine that changes its network says the right
/// address again after this.
const LIFETIME: Duration = Duration::from_secs(60);
/// How long "no route" holds. Short, since it may only mean that the process had
/// no file descriptor left just then.
const LIFETIME_OF_NONE: Duration = Duration::from_secs(1);
/// The port that the throw-away socket is connected to: discard (RFC 863). A
/// connected datagram socket sends nothing by that.
const DISCARD: u16 = 9;

/// Asks the system's routing table, through a throw-away socket, and remembers
/// what it said for a while.
pub(super) struct SystemRoutes {
    clock: Clock,
    known: RefCell<HashMap<IpAddr, Route>>,
}

#[derive(Clone, Copy)]
struct Route {
    local: Option<IpAddr>,
    until: Time,
}

impl SystemRoutes {
    pub fn new(clock: Clock) -> Self {
        SystemRoutes { clock, known: RefCell::default() }
    }
}

impl Routes for SystemRoutes {
    fn local_address(&self, peer: IpAddr) -> Option<IpAddr> {
        let now = self.clock.now();
        let mut known = self.known.borrow_mut();
        if let Some(route) = known.get(&peer).filter(|route| now < route.until) {
            return route.local;
        }
        let local = ask_system(peer);
        let lifetime = if local.is_some() { LIFETIME } else { LIFETIME_OF_NONE };
        if known.len() >= CAPACITY {
            known.clear();
        }
        known.insert(peer, Route { local, until: now + lifetime });
        local
    }
}

fn ask_system(peer: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = match peer {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
    socket.connect(SocketAddr::new(peer, DISCARD)).ok()?;
    let local = socket.local_addr().ok()?.ip();
    (!local.is_unspecified()).then_some(local)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_route_to_this_machine_is_itself() {
        let routes = SystemRoutes::new(Clock::start());
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert_eq!(routes.local_address(loopback), Some(loopback));
        assert_eq!(routes.local_address(loopback), Some(loopback));
    }

    #[test]
    fn no_more_answers_are_kept_than_fit() {
        let routes = SystemRoutes::new(Clock::start());
        for last in 0..CAPACITY as u32 + 10 {
            routes.local_address(Ipv4Addr::from_bits(0x7f00_0001 + last).into());
        }
        assert!(routes.known.borrow().len() <= CAPACITY);
    }
}
