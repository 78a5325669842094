//! The thread that nodes live on: started for the first, ended after the last.

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;

use crate::error::StartError;
use crate::reactor::{Handle, Reactor};

/// The home of all nodes that were not given one of their own.
pub(super) static SHARED: LazyLock<Arc<Home>> = LazyLock::new(Home::new);

thread_local! {
    static ON_LOOP: Cell<bool> = const { Cell::new(false) };
}

/// Whether this is the thread of a loop, which must not wait for a loop.
pub(super) fn on_loop_thread() -> bool {
    ON_LOOP.get()
}

/// A place for nodes, with a thread as long as there are any.
pub(super) struct Home {
    state: Mutex<State>,
    /// Signalled when the thread has ended.
    ended: Condvar,
}

struct State {
    phase: Phase,
    /// Counts the threads that there were.
    epoch: u64,
}

enum Phase {
    Idle,
    Running { handle: Handle<()>, nodes: usize },
    Stopping,
}

/// A node's place in its home. Dropping it gives it up.
pub(super) struct Place {
    home: Arc<Home>,
    epoch: u64,
    pub handle: Handle<()>,
}

impl Home {
    pub fn new() -> Arc<Home> {
        let state = Mutex::new(State { phase: Phase::Idle, epoch: 0 });
        Arc::new(Home { state, ended: Condvar::new() })
    }

    /// A place for one more node, on the thread that runs, or on a new one.
    pub fn enter(self: &Arc<Self>) -> Result<Place, StartError> {
        if on_loop_thread() {
            let refused = "a node cannot be started by a callback, which would wait for itself";
            return Err(StartError::Loop(io::Error::new(ErrorKind::WouldBlock, refused)));
        }
        let mut state = self.lock();
        // A thread that is about to end may still have files open that the new
        // node wants.
        while matches!(state.phase, Phase::Stopping) {
            state = self.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let handle = if let Phase::Running { handle, nodes } = &mut state.phase {
            *nodes += 1;
            handle.clone()
        } else {
            state.epoch += 1;
            let handle = start_thread(Arc::clone(self), state.epoch)?;
            state.phase = Phase::Running { handle: handle.clone(), nodes: 1 };
            handle
        };
        Ok(Place { home: Arc::clone(self), epoch: state.epoch, handle })
    }

    /// On the loop's thread: ends it when it has no nodes any more.
    fn stop_if_empty(&self, epoch: u64, reactor: &mut Reactor<()>) {
        let mut state = self.lock();
        if state.epoch == epoch && matches!(state.phase, Phase::Running { nodes: 0, .. }) {
            state.phase = Phase::Stopping;
            reactor.stop();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Place { home, epoch, handle } = self;
        let mut state = home.lock();
        // When the thread ended before its time, another may run by now.
        if state.epoch != *epoch {
            return;
        }
        let Phase::Running { nodes, .. } = &mut state.phase else { return };
        *nodes -= 1;
        let last = *nodes == 0;
        drop(state);
        if last {
            // Looked at again over there: a node may have come in the meantime.
            let (home, epoch) = (Arc::clone(home), *epoch);
            let _ = handle.call_from_thread(move |reactor, ()| home.stop_if_empty(epoch, reactor));
        }
    }
}

/// Starts the thread of a home and waits until it has a loop. The home is locked
/// meanwhile, so the thread must not lock it before that.
fn start_thread(home: Arc<Home>, epoch: u64) -> Result<Handle<()>, StartError> {
    let (started, result) = mpsc::sync_channel(1);
    let body = move || {
        ON_LOOP.set(true);
        match Reactor::new() {
            Ok(reactor) => {
                let _ = started.send(Ok(reactor.handle()));
                Running { home, epoch }.run(reactor);
            }
            Err(e) => {
                let _ = started.send(Err(e));
            }
        }
    };
    thread::Builder::new().name("khashmir".into()).spawn(body).map_err(StartError::Loop)?;
    let died = || StartError::Loop(io::Error::other("the thread of the event loop died"));
    result.recv().map_err(|_| died())?
}

/// A home's thread that has a loop; dropped at its very end.
struct Running {
    home: Arc<Home>,
    epoch: u64,
}

impl Running {
    fn run(self, mut reactor: Reactor<()>) {
        if let Err(e) = reactor.run(&mut ()) {
            log::error!("the event loop failed: {e}");
        }
        // Before `self`: here nodes are closed, and callbacks hear of it.
        drop(reactor);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if thread::panicking() {
            log::error!("the event loop panicked: its nodes are gone");
        }
        let mut state = self.home.lock();
        if state.epoch == self.epoch {
            state.phase = Phase::Idle;
        }
        drop(state);
        self.home.ended.notify_all();
    }
}
