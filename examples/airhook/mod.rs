//! What `aircat` and `airproxy` share: an Airhook endpoint on a UDP socket, and names.
#![allow(dead_code)]

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use khashmir::Config;
use khashmir::airhook::{Channel, Endpoint};
use khashmir::time::Time;
use khashmir::udp::{LARGEST, Outbox, Received, Sent, Socket};
use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use rand::TryRng;
use rand::rngs::SysRng;

/// Datagrams that are taken in before others get their turn.
const BATCH: usize = 64;

/// An endpoint and its socket. Mio is asked to watch it; then, in each turn:
/// [`receive`](Link::receive), what events say, and [`transmit`](Link::transmit).
pub struct Link<C> {
    pub endpoint: Endpoint<C>,
    udp: Socket,
    token: Token,
    began: Instant,
    /// There may be more to read: mio tells only of new arrivals.
    readable: bool,
    /// The system has no room for what is in `output`; it goes out first.
    blocked: bool,
    input: Box<[u8]>,
    output: Outbox,
}

impl<C: Channel> Link<C> {
    pub fn bind(addr: SocketAddr, config: Config, registry: &Registry, token: Token) -> io::Result<Self> {
        Self::over(Socket::new(UdpSocket::bind(addr)?), config, registry, token)
    }

    pub fn over(mut udp: Socket, config: Config, registry: &Registry, token: Token) -> io::Result<Self> {
        let mut seed = [0; 32];
        SysRng.try_fill_bytes(&mut seed).map_err(io::Error::other)?;
        let endpoint = Endpoint::new(config, seed).map_err(io::Error::other)?;
        registry.register(&mut udp, token, Interest::READABLE)?;
        let (input, output) = (vec![0; LARGEST].into(), Outbox::new());
        Ok(Link { endpoint, udp, token, began: now(), readable: true, blocked: false, input, output })
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.udp.local_addr()
    }

    /// The time, as the endpoint counts it.
    pub fn now(&self) -> Time {
        Time::ZERO + now().duration_since(self.began)
    }

    /// How long there is nothing to do but to wait.
    pub fn timeout(&self) -> Option<Duration> {
        if self.readable {
            return Some(Duration::ZERO);
        }
        self.endpoint.next_deadline().map(|at| at.since(self.now()))
    }

    /// Whether the endpoint has something to do soon.
    pub fn is_due_within(&self, span: Duration) -> bool {
        self.timeout().is_some_and(|timeout| timeout < span)
    }

    /// Mio says something about the socket.
    pub fn handle(&mut self, event: &mio::event::Event, registry: &Registry) {
        self.readable |= event.is_readable();
        if event.is_writable() && self.blocked {
            self.blocked = self.output.send(&mut self.udp, |_| None) == Sent::Blocked;
            if !self.blocked {
                let _ = registry.reregister(&mut self.udp, self.token, Interest::READABLE);
            }
        }
    }

    /// Takes in what there is, 64 datagrams or a few more; from nobody but `only`, if that is given.
    pub fn receive(&mut self, only: Option<SocketAddr>) {
        let now = self.now();
        let endpoint = &mut self.endpoint;
        let mut take = |from, datagram: &[u8]| {
            if only.is_none_or(|only| same(only, from)) {
                endpoint.receive(now, from, datagram);
            }
        };
        let mut taken = 0;
        while self.readable && taken < BATCH {
            match self.udp.receive(&mut self.input, &mut take) {
                Received::Some(count) => taken += count,
                Received::Nothing => self.readable = false,
                Received::Failed => {}
            }
        }
    }

    /// Sends all there is to send, or as much as the system has room for.
    pub fn transmit(&mut self, registry: &Registry) {
        if self.blocked {
            return;
        }
        let now = self.now();
        let endpoint = &mut self.endpoint;
        let poll = |datagram: &mut Vec<u8>| endpoint.poll_transmit(now, datagram);
        self.blocked = self.output.send(&mut self.udp, poll) == Sent::Blocked;
        if self.blocked {
            let interest = Interest::READABLE | Interest::WRITABLE;
            let _ = registry.reregister(&mut self.udp, self.token, interest);
        }
    }
}

/// Whether two addresses are one, whatever else the system says about it. (A socket for both
/// families writes those of IPv4 as ::ffff:192.0.2.1.)
fn same(a: SocketAddr, b: SocketAddr) -> bool {
    (a.ip().to_canonical(), a.port()) == (b.ip().to_canonical(), b.port())
}

// Programs read clocks; the library is told the time.
#[allow(clippy::disallowed_methods)]
pub fn now() -> Instant {
    Instant::now()
}

/// The first address of a name, of those that `wanted` takes.
pub fn resolve(host: &str, port: u16, wanted: impl Fn(&SocketAddr) -> bool) -> Result<SocketAddr, String> {
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let mut found = (host, port).to_socket_addrs().map_err(|e| format!("{host}: {e}"))?;
    found.find(wanted).ok_or_else(|| format!("{host} has no address of that kind"))
}

/// Has SIGINT and SIGTERM come as events; a second one ends the program at once.
#[cfg(unix)]
pub fn watch_signals(registry: &Registry, token: Token) -> io::Result<mio::net::UnixStream> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    let (signals, notify) = std::os::unix::net::UnixStream::pair()?;
    signals.set_nonblocking(true)?;
    let mut signals = mio::net::UnixStream::from_std(signals);
    let caught = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&caught))?;
        signal_hook::flag::register(signal, Arc::clone(&caught))?;
        signal_hook::low_level::pipe::register(signal, notify.try_clone()?)?;
    }
    registry.register(&mut signals, token, Interest::READABLE)?;
    Ok(signals)
}

/// Elsewhere the end of the input, or of the program, has to do.
#[cfg(not(unix))]
pub fn watch_signals(_: &Registry, _: Token) -> io::Result<()> {
    Ok(())
}
