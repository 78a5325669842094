//! Operations of the face: how they are cancelled, and how their callbacks are
//! called.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::contact::Contact;
use crate::engine::OperationKey;
use crate::error::OperationError;
use crate::outcome::Found;
use crate::reactor::{CallKey, Handle, Reactor};
use crate::time::Time;

/// An operation that was started on a [`Khashmir`](crate::Khashmir). Dropping
/// this does not end it.
#[derive(Clone)]
pub struct Operation {
    handle: Handle<()>,
    stage: Stage,
}

impl Operation {
    pub(super) fn new(handle: Handle<()>) -> Self {
        Operation { handle, stage: Stage::default() }
    }

    /// Where it stands; to be changed on the loop's thread only.
    pub(super) fn stage(&self) -> Stage {
        self.stage.clone()
    }

    /// Ends the operation: its callback is called with
    /// [`OperationError::Cancelled`], on the loop's thread. Nothing happens when
    /// it has ended already.
    pub fn cancel(&self) {
        let stage = self.stage.clone();
        // What was posted before has run by then: the operation has been started.
        // A loop that is gone has ended its operations.
        let _ = self.handle.call_from_thread(move |reactor, ()| match stage.take() {
            Standing::Started(key) => {
                reactor.cancel(key);
            }
            Standing::Resolving(waiting) => waiting.end(reactor, OperationError::Cancelled),
            Standing::Idle => {}
        });
    }
}

impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operation").finish_non_exhaustive()
    }
}

/// How far an operation has come. Only the loop's thread looks at it; the lock is
/// there since the handles to it wander between threads.
#[derive(Clone, Default)]
pub(super) struct Stage(Arc<Mutex<Standing>>);

#[derive(Default)]
pub(super) enum Standing {
    /// Not yet started, or ended before it was.
    #[default]
    Idle,
    /// It waits for a name to be resolved.
    Resolving(Resolving),
    /// The engine has it. (It may have ended since.)
    Started(OperationKey),
}

pub(super) struct Resolving {
    pub reply: Reply<Contact>,
    /// Ends it at its deadline.
    pub timer: CallKey,
    pub until: Time,
}

impl Resolving {
    pub fn end(self, reactor: &mut Reactor<()>, error: OperationError) {
        reactor.cancel_call(self.timer);
        self.reply.send(Err(error));
    }
}

impl Stage {
    pub fn set(&self, standing: Standing) {
        // The old one may hold a callback: not to be dropped under the lock.
        let old = std::mem::replace(&mut *self.lock(), standing);
        drop(old);
    }

    pub fn take(&self) -> Standing {
        std::mem::take(&mut *self.lock())
    }

    /// What is being resolved, once.
    pub fn take_resolving(&self) -> Option<Resolving> {
        match self.take() {
            Standing::Resolving(waiting) => Some(waiting),
            other => {
                self.set(other);
                None
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Standing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A callback that is called exactly once: with [`OperationError::Closed`] if
/// whoever should call it is dropped before.
pub(super) struct Reply<T>(Option<Callback<T>>);

type Callback<T> = Box<dyn FnOnce(Result<T, OperationError>) + Send>;

impl<T> Reply<T> {
    pub fn new(f: impl FnOnce(Result<T, OperationError>) + Send + 'static) -> Self {
        Reply(Some(Box::new(f)))
    }

    pub fn send(mut self, result: Result<T, OperationError>) {
        if let Some(f) = self.0.take() {
            guarded(|| f(result));
        }
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        if let Some(f) = self.0.take() {
            guarded(|| f(Err(OperationError::Closed)));
        }
    }
}

/// The same for one that is called for each step of a search, until its end or an error.
pub(super) struct Replies(Option<RepeatedCallback>);

type RepeatedCallback = Box<dyn FnMut(Result<Found, OperationError>) + Send>;

impl Replies {
    pub fn new(f: impl FnMut(Result<Found, OperationError>) + Send + 'static) -> Self {
        Replies(Some(Box::new(f)))
    }

    pub fn send(&mut self, result: Result<Found, OperationError>) {
        let last = !matches!(result, Ok(Found::Values(_)));
        let Some(mut f) = self.0.take() else { return };
        if guarded(|| f(result)) && !last {
            self.0 = Some(f);
        }
    }
}

impl Drop for Replies {
    fn drop(&mut self) {
        self.send(Err(OperationError::Closed));
    }
}

/// Calls user code; says whether it came back. One callback that panics must not
/// take the nodes of others with it.
fn guarded(f: impl FnOnce()) -> bool {
    let result = catch_unwind(AssertUnwindSafe(f));
    if let Err(panic) = &result {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        log::error!("a callback panicked: {}", text.unwrap_or("(no message)"));
    }
    result.is_ok()
}
