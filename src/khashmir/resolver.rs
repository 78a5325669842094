//! Names of hosts, resolved on threads of their own: the system's resolver
//! blocks, for half a minute and more when a server does not answer.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::operation::{Reply, Resolving, Stage, Standing};
use crate::contact::Contact;
use crate::engine::NodeKey;
use crate::error::OperationError;
use crate::reactor::Reactor;

/// What resolves a name.
pub type Resolve = fn(&str, u16) -> io::Result<Vec<SocketAddr>>;

/// Names that are resolved at the same time.
const THREADS: usize = 4;
/// Names that may wait for that.
const QUEUE: usize = 256;

static RESOLVER: Mutex<Resolver> = Mutex::new(Resolver { jobs: VecDeque::new(), threads: 0 });

struct Resolver {
    jobs: VecDeque<Job>,
    /// Threads at work. They end when there is nothing left to do.
    threads: usize,
}

struct Job {
    resolve: Resolve,
    host: String,
    port: u16,
    done: Box<dyn FnOnce(io::Result<Vec<SocketAddr>>) + Send>,
}

/// Asks the system.
pub(super) fn system(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok((host, port).to_socket_addrs()?.collect())
}

/// A contact to add whose host is known by name.
pub(super) struct NamedContact {
    pub node: NodeKey,
    /// Where the node listens: what family of addresses it can use.
    pub local: SocketAddr,
    pub host: String,
    pub port: u16,
    pub deadline: Duration,
}

impl NamedContact {
    /// Has the name resolved elsewhere, and then the contact added, both within
    /// the deadline.
    pub fn begin(self, reactor: &mut Reactor<()>, resolve: Resolve, reply: Reply<Contact>, stage: Stage) {
        let NamedContact { node, local, host, port, deadline } = self;
        let abandoned = Abandoned(stage.clone());
        let timer = reactor.call_later(deadline, move |reactor, ()| {
            if let Some(waiting) = abandoned.0.take_resolving() {
                let closed = reactor.id(node).is_none();
                let error = if closed { OperationError::Closed } else { OperationError::Deadline };
                waiting.reply.send(Err(error));
            }
        });
        let until = reactor.now() + deadline;
        stage.set(Standing::Resolving(Resolving { reply, timer, until }));

        let (handle, later) = (reactor.handle(), stage.clone());
        let accepted = submit(resolve, host, port, move |result| {
            let _ =
                handle.call_from_thread(move |reactor, ()| resolved(reactor, node, local, &later, result));
        });
        if !accepted && let Some(waiting) = stage.take_resolving() {
            waiting.end(reactor, OperationError::QueueFull { limit: QUEUE });
        }
    }
}

/// On the loop's thread: the name has been resolved, or not.
fn resolved(
    reactor: &mut Reactor<()>,
    node: NodeKey,
    local: SocketAddr,
    stage: &Stage,
    result: io::Result<Vec<SocketAddr>>,
) {
    // Gone when it was cancelled, or its deadline has passed.
    let Some(waiting) = stage.take_resolving() else { return };
    let addr = result.map_err(|e| e.to_string()).and_then(|addrs| {
        let family = if local.is_ipv4() { "IPv4" } else { "IPv6" };
        choose(local, &addrs).ok_or_else(|| format!("the name has no {family} address"))
    });
    let addr = match addr {
        Ok(addr) => addr,
        Err(why) => return waiting.end(reactor, OperationError::Resolve(why)),
    };
    let Resolving { reply, timer, until } = waiting;
    reactor.cancel_call(timer);
    let remaining = until - reactor.now();
    let key = reactor.add_contact(node, addr, Some(remaining), |_, (), result| reply.send(result));
    stage.set(Standing::Started(key));
}

/// The first of these addresses that a socket at `local` can send to.
fn choose(local: SocketAddr, addrs: &[SocketAddr]) -> Option<SocketAddr> {
    let find = |v4: bool| addrs.iter().copied().find(|addr| addr.is_ipv4() == v4);
    match local {
        SocketAddr::V4(_) => find(true),
        // One that is not bound to an address takes both families.
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => find(false).or_else(|| find(true)),
        SocketAddr::V6(_) => find(false),
    }
}

/// Dropped with a timer that will not fire any more: if the name is still being
/// resolved then, the loop is gone, and the callback is told so.
struct Abandoned(Stage);

impl Drop for Abandoned {
    fn drop(&mut self) {
        drop(self.0.take_resolving());
    }
}

/// Resolves `host` and calls `done` on another thread. False when too many names
/// wait already; `done` is then dropped.
fn submit(
    resolve: Resolve,
    host: String,
    port: u16,
    done: impl FnOnce(io::Result<Vec<SocketAddr>>) + Send + 'static,
) -> bool {
    let job = Job { resolve, host, port, done: Box::new(done) };
    let mut resolver = lock();
    if resolver.jobs.len() >= QUEUE {
        return false;
    }
    if resolver.threads < THREADS {
        match thread::Builder::new().name("khashmir-names".into()).spawn(work) {
            Ok(_) => resolver.threads += 1,
            Err(e) => log::warn!("no thread to resolve names: {e}"),
        }
    }
    // Without any thread it would wait for ever.
    let accepted = resolver.threads > 0;
    if accepted {
        resolver.jobs.push_back(job);
    }
    accepted
}

fn work() {
    loop {
        let mut resolver = lock();
        let Some(Job { resolve, host, port, done }) = resolver.jobs.pop_front() else {
            resolver.threads -= 1;
            return;
        };
        drop(resolver);
        done(resolve(&host, port));
    }
}

fn lock() -> MutexGuard<'static, Resolver> {
    RESOLVER.lock().unwrap_or_else(PoisonError::into_inner)
}
