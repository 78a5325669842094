//! The event loop: many nodes on one thread.
//!
//! ```
//! use khashmir::reactor::Reactor;
//! use std::time::Duration;
//!
//! // What the program's own code works on is handed to it, call by call.
//! let mut log = Vec::new();
//! let mut reactor = Reactor::new()?;
//! reactor.call_later(Duration::from_millis(2), |reactor, log: &mut Vec<_>| {
//!     log.push("called");
//!     reactor.stop();
//! });
//! reactor.run(&mut log)?;
//! assert_eq!(log, ["called"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod calls;
mod clock;
mod driver;
mod handle;
mod operations;
mod routes;
mod sockets;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::TryRng;
use rand::rngs::SysRng;

pub use self::calls::CallKey;
use self::calls::Calls;
use self::driver::Driver;
pub use self::handle::{Gone, Handle};
use self::handle::{Inbox, Posted};
use self::operations::Callback;
use crate::engine::{Event, NodeKey, NodeOptions, OperationKey};
use crate::error::{StartError, StoreError};
use crate::random::Seed;
use crate::time::Time;

type Delayed<D> = Box<dyn FnOnce(&mut Reactor<D>, &mut D)>;

/// An event loop with its nodes, modelled on Twisted's.
///
/// It works in turns. In a turn it waits until something has arrived or is due,
/// serves the network, and then runs the program's own closures: the outcomes of
/// operations, calls that were put off, calls from other threads. A closure gets
/// the reactor and the program's data `D`, and may do with them what it likes:
/// start and cancel operations, add and close nodes, set timers, stop the loop.
/// Only another turn inside it is refused.
///
/// - A program without a loop of its own calls [`run`](Self::run), or
///   [`turn`](Self::turn) again and again.
/// - In a foreign loop: watch the file descriptor (it is
///   [`AsFd`](std::os::fd::AsFd)) for reading and call
///   `turn(data, Some(Duration::ZERO))` when it is ready or
///   [`next_deadline`](Self::next_deadline) has come; again at once while
///   [`Turn::more`] says so.
/// - From other threads: [`handle`](Self::handle).
///
/// A closure that panics takes the panic up through `turn`. What else was to run
/// is still there, and runs in the next turn if there is one. A reactor that is
/// dropped closes its nodes, and drops what was not run.
pub struct Reactor<D> {
    driver: Driver,
    callbacks: HashMap<OperationKey, Callback<D>>,
    calls: Calls<Delayed<D>>,
    inbox: Arc<Inbox<D>>,
    /// What waits for the user phase: outcomes, and closures of other threads.
    events: VecDeque<Event>,
    posted: VecDeque<Posted<D>>,
    stopping: bool,
}

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// More is waiting already: the next turn has something to do at once.
    pub more: bool,
    /// [`Reactor::stop`] was called.
    pub stopped: bool,
}

impl<D> fmt::Debug for Reactor<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reactor").field("nodes", &self.driver.nodes().len()).finish_non_exhaustive()
    }
}

impl<D> Reactor<D> {
    /// A loop without nodes, with a seed from the operating system.
    ///
    /// # Errors
    ///
    /// [`StartError::Loop`] when the system has no event queue (or no file
    /// descriptor) or no random numbers to give, [`StartError::Store`] when the
    /// store in memory cannot be set up.
    pub fn new() -> Result<Self, StartError> {
        let mut seed = Seed::default();
        SysRng.try_fill_bytes(&mut seed).map_err(|e| StartError::Loop(io::Error::other(e)))?;
        Self::with_seed(seed)
    }

    /// A loop whose nodes draw their random choices from `seed`: for trying
    /// things out, and for tests. Whoever knows the seed can forge packets.
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new).
    pub fn with_seed(seed: Seed) -> Result<Self, StartError> {
        let (driver, waker) = Driver::new(seed)?;
        Ok(Reactor {
            driver,
            callbacks: HashMap::new(),
            calls: Calls::new(),
            inbox: Arc::new(Inbox::new(waker)),
            events: VecDeque::new(),
            posted: VecDeque::new(),
            stopping: false,
        })
    }

    /// Starts a node on a UDP socket at `addr`; port 0 means any free one.
    ///
    /// # Errors
    ///
    /// An address that cannot be bound, a setting out of bounds, or a store that
    /// cannot be opened.
    pub fn listen(&mut self, addr: SocketAddr, options: NodeOptions) -> Result<NodeKey, StartError> {
        self.driver.listen(addr, options)
    }

    /// Where the node listens; `None` when it was closed.
    pub fn local_addr(&self, node: NodeKey) -> Option<SocketAddr> {
        self.driver.local_addr(node)
    }

    /// How many datagrams the system refused to send for this node, or reported
    /// as undelivered; `None` when it was closed.
    pub fn socket_errors(&self, node: NodeKey) -> Option<u64> {
        self.driver.socket_errors(node)
    }

    /// Saves and closes a node. Its operations end with
    /// [`OperationError::Closed`](crate::OperationError::Closed). Nothing happens
    /// when it was closed before.
    ///
    /// # Errors
    ///
    /// It could not be saved. It is closed nevertheless.
    pub fn close(&mut self, node: NodeKey) -> Result<(), StoreError> {
        self.driver.close(node)
    }

    /// Has `f` called once, `delay` from now, never earlier and about a
    /// millisecond later. Of two calls for the same moment, the one that was
    /// asked for first is made first. In a closure, now is when its turn began.
    pub fn call_later(&mut self, delay: Duration, f: impl FnOnce(&mut Self, &mut D) + 'static) -> CallKey {
        let at = self.driver.now() + delay;
        self.calls.add(at, Box::new(f))
    }

    /// Takes a call back; false when it was made or taken back before.
    pub fn cancel_call(&mut self, call: CallKey) -> bool {
        self.calls.cancel(call).is_some()
    }

    /// Puts a call off (or forward) to `delay` from now; false when it was made
    /// or taken back before.
    pub fn reset_call(&mut self, call: CallKey, delay: Duration) -> bool {
        let at = self.driver.now() + delay;
        self.calls.reset(call, at)
    }

    /// A way in for other threads.
    pub fn handle(&self) -> Handle<D> {
        Handle::new(Arc::clone(&self.inbox))
    }

    /// What time it is on the loop's clock; within a turn, when it began.
    pub fn now(&mut self) -> Time {
        self.driver.now()
    }

    /// Has the turn that is under way be the last one of [`run`](Self::run);
    /// called between turns, the next one.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// Turns until [`stop`](Self::stop) is called.
    ///
    /// # Errors
    ///
    /// As for [`turn`](Self::turn).
    pub fn run(&mut self, data: &mut D) -> io::Result<()> {
        while !self.turn(data, None)?.stopped {}
        Ok(())
    }

    /// One turn. Waits until something has arrived or is due, but no longer than
    /// `limit` (`None`: no limit of the caller's; zero: not at all). It may also
    /// return without having found anything to do.
    ///
    /// # Errors
    ///
    /// The system's event queue failed, or this was called by a closure that the
    /// reactor runs ([`io::ErrorKind::Deadlock`]). A peer that cannot be reached
    /// is no error here.
    pub fn turn(&mut self, data: &mut D, limit: Option<Duration>) -> io::Result<Turn> {
        if self.driver.in_turn {
            let refused = "a turn of the event loop within a turn";
            return Err(io::Error::new(io::ErrorKind::Deadlock, refused));
        }
        let limit = if self.begin() { Some(Duration::ZERO) } else { limit };
        let deadline = self.driver.deadline(self.calls.next_deadline());
        self.driver.wait_and_serve(limit, deadline)?;
        self.run_closures(data);
        let more = self.begin();
        Ok(Turn { more, stopped: std::mem::take(&mut self.stopping) })
    }

    /// When the next turn has something to do even if nothing arrives; a moment
    /// that has passed when it has something to do now. `None`: never.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.has_work() {
            return self.driver.instant(self.driver.last_seen());
        }
        self.driver.instant(self.driver.deadline(self.calls.next_deadline())?)
    }

    /// Sends what commands since the last turn have brought up, and says whether
    /// there is something to do without waiting.
    fn begin(&mut self) -> bool {
        self.driver.transmit();
        self.events.extend(std::iter::from_fn(|| self.driver.engine.poll_event()));
        self.has_work()
    }

    fn has_work(&self) -> bool {
        let waiting = !self.events.is_empty() || !self.posted.is_empty() || self.calls.any_due();
        waiting || self.stopping || self.driver.is_busy()
    }

    /// The user phase: as much as there is at its start, so that closures which
    /// bring up others cannot keep the network waiting.
    fn run_closures(&mut self, data: &mut D) {
        self.events.extend(std::iter::from_fn(|| self.driver.engine.poll_event()));
        self.calls.mark_due(self.driver.last_seen());
        self.inbox.take(&mut self.posted);
        let turn = InTurn::enter(self);
        let reactor = &mut *turn.0;
        // Nothing else adds to these three queues, and each closure is out of its
        // queue when it runs: should it panic, the rest is in order.
        while let Some(event) = reactor.events.pop_front() {
            reactor.deliver(data, event);
        }
        while let Some(f) = reactor.calls.pop_due() {
            f(reactor, data);
        }
        while let Some(f) = reactor.posted.pop_front() {
            f(reactor, data);
        }
    }
}

/// A turn is under way as long as this lives, whether it ends well or not.
struct InTurn<'a, D>(&'a mut Reactor<D>);

impl<'a, D> InTurn<'a, D> {
    fn enter(reactor: &'a mut Reactor<D>) -> Self {
        reactor.driver.in_turn = true;
        InTurn(reactor)
    }
}

impl<D> Drop for InTurn<'_, D> {
    fn drop(&mut self) {
        self.0.driver.in_turn = false;
    }
}

impl<D> Drop for Reactor<D> {
    fn drop(&mut self) {
        self.inbox.close();
        for node in self.driver.nodes() {
            if let Err(e) = self.driver.close(node) {
                log::error!("a node could not be saved: {e}");
            }
        }
    }
}

#[cfg(unix)]
impl<D> std::os::fd::AsFd for Reactor<D> {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.driver.as_fd()
    }
}

#[cfg(unix)]
impl<D> std::os::fd::AsRawFd for Reactor<D> {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        std::os::fd::AsFd::as_fd(self).as_raw_fd()
    }
}
