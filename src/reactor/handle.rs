//! The reactor from other threads.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mio::Waker;

use super::Reactor;

/// Code that another thread wants run on the reactor's.
pub(super) type Posted<D> = Box<dyn FnOnce(&mut Reactor<D>, &mut D) + Send>;

/// A way into a reactor from any thread. Cheap to clone; does not keep the
/// reactor alive.
pub struct Handle<D> {
    inbox: Arc<Inbox<D>>,
}

/// The reactor was dropped: what was handed to it will not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the event loop has ended")
    }
}

impl std::error::Error for Gone {}

impl<D> Clone for Handle<D> {
    fn clone(&self) -> Self {
        Handle { inbox: Arc::clone(&self.inbox) }
    }
}

impl<D> fmt::Debug for Handle<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

impl<D> Handle<D> {
    pub(super) fn new(inbox: Arc<Inbox<D>>) -> Self {
        Handle { inbox }
    }

    /// Has the reactor's thread call `f` in its next turn, and wakes it. What one
    /// thread posts runs in the order in which it was posted. May be called on
    /// the reactor's own thread too.
    ///
    /// # Errors
    ///
    /// [`Gone`] when the reactor was dropped; `f` is then dropped too. It is also
    /// dropped, uncalled, when the reactor is dropped after it was posted.
    pub fn call_from_thread(
        &self,
        f: impl FnOnce(&mut Reactor<D>, &mut D) + Send + 'static,
    ) -> Result<(), Gone> {
        self.inbox.post(Box::new(f))
    }
}

/// What has been posted and not yet taken.
pub(super) struct Inbox<D> {
    state: Mutex<State<D>>,
    waker: Waker,
}

struct State<D> {
    posted: VecDeque<Posted<D>>,
    open: bool,
}

impl<D> Inbox<D> {
    pub fn new(waker: Waker) -> Self {
        Inbox { state: Mutex::new(State { posted: VecDeque::new(), open: true }), waker }
    }

    fn post(&self, f: Posted<D>) -> Result<(), Gone> {
        let mut state = self.lock();
        if !state.open {
            // `f` is user code's: it must not be dropped under the lock.
            drop(state);
            return Err(Gone);
        }
        let first = state.posted.is_empty();
        state.posted.push_back(f);
        drop(state);
        // Whoever posted before has woken the loop, and it has not yet come.
        if first && let Err(e) = self.waker.wake() {
            log::error!("the event loop cannot be woken: {e}");
        }
        Ok(())
    }

    /// Moves everything that was posted to the end of `into`.
    pub fn take(&self, into: &mut VecDeque<Posted<D>>) {
        let mut state = self.lock();
        if into.is_empty() {
            std::mem::swap(&mut state.posted, into);
        } else {
            into.append(&mut state.posted);
        }
    }

    /// Takes nothing more, and drops what was posted.
    pub fn close(&self) {
        let mut state = self.lock();
        state.open = false;
        let posted = std::mem::take(&mut state.posted);
        drop(state);
        drop(posted);
    }

    fn lock(&self) -> MutexGuard<'_, State<D>> {
        // No foreign code runs under this lock, so nothing is ever half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
