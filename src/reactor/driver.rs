//! What of the reactor does not depend on its user: the loop's parts around the
//! engine, so that they are compiled once.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token, Waker};

use super::clock::Clock;
use super::routes::SystemRoutes;
use super::sockets::Sockets;
use crate::engine::{Engine, NodeKey, NodeOptions};
use crate::error::{StartError, StoreError};
use crate::random::Seed;
use crate::time::Time;

/// The token of the waker; sockets count from 0.
const WAKER: Token = Token(usize::MAX);
/// What mio reports in one go. More stays with the system until the next turn.
const EVENTS_PER_TURN: usize = 256;
/// No wait is longer, so that no clock's oddity can stop the loop for good.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

pub(super) struct Driver {
    pub engine: Engine,
    poll: Poll,
    events: Events,
    sockets: Sockets,
    clock: Clock,
    /// When the clock was last read: what the engine is told as the present.
    now: Time,
    /// Whether a turn is under way.
    pub in_turn: bool,
    /// Whether the engine was given something since it was last drained.
    fed: bool,
}

impl Driver {
    pub fn new(seed: Seed) -> Result<(Self, Waker), StartError> {
        let poll = Poll::new().map_err(StartError::Loop)?;
        let waker = Waker::new(poll.registry(), WAKER).map_err(StartError::Loop)?;
        let clock = Clock::start();
        let routes = Box::new(SystemRoutes::new(clock));
        let driver = Driver {
            engine: Engine::new(seed, clock.unix(), routes)?,
            poll,
            events: Events::with_capacity(EVENTS_PER_TURN),
            sockets: Sockets::new(),
            clock,
            now: Time::ZERO,
            in_turn: false,
            fed: false,
        };
        Ok((driver, waker))
    }

    /// The time for a command: the turn's, when one is under way. Whoever asks
    /// is about to give the engine something.
    pub fn now(&mut self) -> Time {
        self.fed = true;
        if !self.in_turn {
            self.now = self.clock.now();
        }
        self.now
    }

    pub fn listen(&mut self, addr: SocketAddr, options: NodeOptions) -> Result<NodeKey, StartError> {
        let socket = UdpSocket::bind(addr).map_err(StartError::Bind)?;
        socket.set_nonblocking(true).map_err(StartError::Bind)?;
        let local = socket.local_addr().map_err(StartError::Bind)?;
        let now = self.now();
        let node = self.engine.add_node(now, local, options)?;
        let udp = mio::net::UdpSocket::from_std(socket);
        if let Err(e) = self.sockets.add(self.poll.registry(), udp, local, node) {
            self.engine.remove_node(now, node)?;
            return Err(StartError::Bind(e));
        }
        Ok(node)
    }

    pub fn close(&mut self, node: NodeKey) -> Result<(), StoreError> {
        let now = self.now();
        self.sockets.remove(self.poll.registry(), node);
        self.engine.remove_node(now, node)
    }

    pub fn nodes(&self) -> Vec<NodeKey> {
        self.sockets.nodes()
    }

    pub fn local_addr(&self, node: NodeKey) -> Option<SocketAddr> {
        self.sockets.local_addr(node)
    }

    pub fn socket_errors(&self, node: NodeKey) -> Option<u64> {
        self.sockets.errors(node)
    }

    /// Whether there is something to do without waiting for anything.
    pub fn is_busy(&self) -> bool {
        self.fed || self.sockets.any_readable()
    }

    /// When to act next, `calls` being when the next delayed call is due.
    pub fn deadline(&self, calls: Option<Time>) -> Option<Time> {
        match (self.engine.next_deadline(), calls) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    pub fn instant(&self, at: Time) -> Option<Instant> {
        self.clock.instant(at)
    }

    /// The present, as the last turn saw it.
    pub fn last_seen(&self) -> Time {
        self.now
    }

    /// Waits until there is something to do, at the latest until `deadline` or
    /// for `limit`; then the core phase: arrivals, timeouts, output.
    pub fn wait_and_serve(&mut self, limit: Option<Duration>, deadline: Option<Time>) -> io::Result<()> {
        let wait = self.wait_for(limit, deadline);
        match self.poll.poll(&mut self.events, Some(wait)) {
            Err(e) if e.kind() == ErrorKind::Interrupted => self.events.clear(),
            other => other?,
        }
        // The one reading that this turn goes by.
        self.now = self.clock.now();
        self.engine.set_unix(self.now, self.clock.unix());
        let registry = self.poll.registry();
        for event in &self.events {
            if event.is_readable() || event.is_error() {
                self.sockets.set_readable(event.token());
            }
            if event.is_writable() {
                self.sockets.set_writable(event.token(), self.now, &mut self.engine, registry);
            }
        }
        self.sockets.receive(self.now, &mut self.engine);
        // Asked for each turn, due or not: a wheel moves on only when asked.
        self.engine.handle_timeout(self.now);
        self.transmit();
        Ok(())
    }

    /// Sends all that there is to send.
    pub fn transmit(&mut self) {
        self.fed = false;
        self.sockets.transmit(self.now, &mut self.engine, self.poll.registry());
    }

    /// How long to wait. This reads the clock a second time, since the turn's
    /// time is as old as the work done since. Mio rounds a wait up to the
    /// system's grain, so one that is too short to express does not become none.
    fn wait_for(&self, limit: Option<Duration>, deadline: Option<Time>) -> Duration {
        let limit = limit.unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT);
        match deadline {
            Some(at) if !limit.is_zero() => limit.min(at - self.clock.now()),
            _ => limit,
        }
    }
}

#[cfg(unix)]
impl std::os::fd::AsFd for Driver {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.poll.registry().as_fd()
    }
}
