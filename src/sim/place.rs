//! Where a host is, and how it is attached to the network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::network::first_fault;
use super::simulation::Host;
use crate::error::ConfigError;

/// Which addresses a host has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// One of IPv4.
    #[default]
    V4,
    /// One of IPv6.
    V6,
    /// One of each, and a socket for both.
    Both,
}

/// How fast one direction of a host's line is.
///
/// A datagram counts with its headers: 28 bytes more than are in it over IPv4, 48 over IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bandwidth {
    /// Bytes per second. 100 or more.
    pub rate: u64,
    /// How many bytes wait for their turn; what comes then is lost. A datagram that finds nobody
    /// waiting is always taken.
    pub queue: u64,
}

/// Who gets in to a host behind address translation, while its mapping lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Anybody, once the host has called anyone at all.
    Anyone,
    /// Whoever has an address that the host has called.
    Address,
    /// Whoever has an address and port that the host has called.
    AddressAndPort,
}

/// A host that has a private address, and calls through a translator which has the public one.
///
/// Everybody sees the host at one public port (RFC 4787, section 4.1: endpoint-independent mapping).
/// Only what the host sends keeps the way open. The translator remembers 4,096 correspondents of a
/// host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// Who gets in. Default: whoever was called at that address and port, as most home routers have it.
    pub reach: Reach,
    /// How long after a call. More than 0; default 2 min (the least that RFC 4787, section 4.3, allows).
    pub lifetime: Duration,
    /// Whether the host has another public port when it calls again after all its calls have lapsed.
    /// Default: no.
    pub moves: bool,
}

impl Default for Translation {
    fn default() -> Self {
        Translation { reach: Reach::AddressAndPort, lifetime: Duration::from_secs(120), moves: false }
    }
}

/// Where a host is, and how it is attached to the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which addresses it has. Default: one of IPv4.
    pub family: Family,
    /// Its region, for [`Latency::Regions`](super::Latency::Regions); there, counted on from the first
    /// one when there are fewer. Default: 0.
    pub region: u16,
    /// How fast it sends. Default: at once.
    pub upload: Option<Bandwidth>,
    /// How fast it receives. Default: at once.
    pub download: Option<Bandwidth>,
    /// Whether it is behind address translation. Only with [`Family::V4`]. Default: no.
    pub translation: Option<Translation>,
    /// By how many seconds its time of day is ahead of the right one. Default: 0.
    pub clock_offset: i64,
    /// By how many seconds in a million it gains further ones, from the simulation's start on.
    /// From -500,000 to 500,000. Default: 0.
    pub clock_drift: i32,
    /// Bytes that its socket keeps while its program is [frozen](super::Simulation::freeze), each
    /// datagram counted with 512 more for the system's bookkeeping; what comes then is lost. Default:
    /// 212,992 (as on Linux).
    pub socket_buffer: usize,
}

impl Default for Place {
    fn default() -> Self {
        Place {
            family: Family::V4,
            region: 0,
            upload: None,
            download: None,
            translation: None,
            clock_offset: 0,
            clock_drift: 0,
            socket_buffer: 212_992,
        }
    }
}

impl Place {
    /// Checks every setting.
    ///
    /// # Errors
    ///
    /// The first setting that is out of bounds, and what is allowed for it.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let fast = |line: Option<Bandwidth>| line.is_none_or(|line| line.rate >= 100);
        let lasts = |by: Translation| !by.lifetime.is_zero();
        first_fault(&[
            (fast(self.upload), "upload", "at least 100 bytes per second"),
            (fast(self.download), "download", "at least 100 bytes per second"),
            (
                self.translation.is_none() || self.family == Family::V4,
                "translation",
                "none for a host that has an address of IPv6",
            ),
            (self.translation.is_none_or(lasts), "translation.lifetime", "more than 0"),
            (self.clock_drift.unsigned_abs() <= 500_000, "clock_drift", "-500,000 to 500,000"),
        ])
    }
}

/// The port of every host, unless a translator gives it another.
pub(super) const PORT: u16 = 4444;
/// What a host behind a translator has for an address.
pub(super) const PRIVATE: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 2);
/// Host n has the first address of the nth block of 256 from here on: 11.0.0.1, 11.0.1.1, …
const FIRST_BLOCK: u32 = 11 << 16;
/// All blocks below those of 127.0.0.0/8.
pub(super) const HOSTS: u32 = (127 << 16) - FIRST_BLOCK;
/// And of IPv6, the first address of the nth /64 from here on: 2600::1, 2600:0:0:1::1, …
const FIRST_NETWORK: u64 = 0x2600 << 48;

/// A host's address of one family or the other, whether it has it or not.
pub(super) fn ip(host: Host, v6: bool) -> IpAddr {
    debug_assert!(host.0 < HOSTS);
    if v6 {
        Ipv6Addr::from_bits((u128::from(FIRST_NETWORK | u64::from(host.0)) << 64) | 1).into()
    } else {
        Ipv4Addr::from_bits((FIRST_BLOCK + host.0) << 8 | 1).into()
    }
}

/// Which host has this address, if it has one of that family: its number, and whether that is IPv6.
pub(super) fn host_at(addr: &SocketAddr) -> Option<(Host, bool)> {
    let (number, v6) = match addr.ip().to_canonical() {
        IpAddr::V4(ip) if ip.to_bits() & 0xff == 1 => ((ip.to_bits() >> 8).checked_sub(FIRST_BLOCK)?, false),
        IpAddr::V6(ip) if ip.to_bits() as u64 == 1 => {
            let number = ((ip.to_bits() >> 64) as u64).checked_sub(FIRST_NETWORK)?;
            (u32::try_from(number).ok()?, true)
        }
        _ => return None,
    };
    (number < HOSTS).then_some((Host(number), v6))
}

impl Family {
    pub(super) fn has(self, v6: bool) -> bool {
        match self {
            Family::V4 => !v6,
            Family::V6 => v6,
            Family::Both => true,
        }
    }
}
