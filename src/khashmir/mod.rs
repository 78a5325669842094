//! The face: a node as most programs use it, from any thread.

mod home;
mod operation;
mod resolver;

use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use self::home::{Home, Place, SHARED, on_loop_thread};
pub use self::operation::Operation;
use self::operation::{Replies, Reply, Standing};
use self::resolver::NamedContact;
#[doc(hidden)]
pub use self::resolver::Resolve;
use crate::contact::Contact;
use crate::engine::{ContactInfo, NodeKey, NodeOptions, OperationKey, Stats};
use crate::error::{OperationError, StartError, StoreError};
use crate::id::Id;
use crate::outcome::{Found, FoundNodes, FoundValues, Search, Stored};
use crate::reactor::{Handle, Reactor};

/// A node of the network, on a thread of the crate's own.
///
/// The first `Khashmir` of a process starts that thread, others join it, and it
/// ends when the last node is closed. A clone is another handle to the same node;
/// all methods may be called from any thread. When the last clone is dropped, the
/// node is saved and closed soon after, without the dropping thread waiting for
/// it: [`close`](Self::close) waits.
///
/// ```
/// use khashmir::{Id, Khashmir};
///
/// let a = Khashmir::new("127.0.0.1", 0)?;
/// let b = Khashmir::new("127.0.0.1", 0)?;
/// b.join("127.0.0.1", a.local_addr().port())?;
/// b.put(Id::of(b"greeting"), "hello")?;
/// assert_eq!(a.get(Id::of(b"greeting"))?, [b"hello"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Callbacks
///
/// The methods that take a closure return at once. The closure is called on the
/// loop's thread, exactly once where it is `FnOnce`, with no lock held; it may
/// start further operations and drop nodes, but should not take long, since all
/// nodes of the thread wait meanwhile. A closure that panics is logged as an error and not
/// called again; the loop goes on. When the node is closed first, the closure
/// hears [`OperationError::Closed`]; when the loop has ended, it does so at once,
/// on the calling thread.
///
/// # Blocking calls
///
/// The others wait for the outcome. On the loop's thread, in a callback, they
/// would wait for themselves: there they return [`OperationError::WouldBlock`].
///
/// # Deadlines
///
/// Every operation has one: [`Config::operation_timeout`](crate::Config::operation_timeout),
/// or that of the clone it was started on, see [`with_deadline`](Self::with_deadline).
#[derive(Clone)]
pub struct Khashmir {
    node: Arc<Node>,
    deadline: Duration,
    life: Option<Duration>,
    resolve: Resolve,
}

struct Node {
    key: NodeKey,
    id: Id,
    local: SocketAddr,
    handle: Handle<()>,
    /// Its place on the thread, until it is closed.
    place: Mutex<Option<Place>>,
}

/// A node on a thread of its own, with the default settings: for trying things
/// out. It ends as any other, when the last clone is dropped.
///
/// # Errors
///
/// As for [`Khashmir::with`].
pub fn test_one(host: &str, port: u16) -> Result<Khashmir, StartError> {
    Khashmir::start(&Home::new(), host, port, NodeOptions::default())
}

impl Khashmir {
    /// A node at this address with the default settings and its values in memory.
    ///
    /// # Errors
    ///
    /// As for [`with`](Self::with).
    pub fn new(host: &str, port: u16) -> Result<Khashmir, StartError> {
        Self::with(host, port, NodeOptions::default())
    }

    /// A node at this address with these settings. `host` is an address of this
    /// machine or a name for one (it is resolved at once, so this may block);
    /// empty means all its IPv4 addresses, `::` all there are. Port 0 means any
    /// free one.
    ///
    /// # Errors
    ///
    /// The address or the store cannot be used, a setting is out of bounds, or
    /// the loop cannot be started. On the loop's thread, where this would wait
    /// for itself, it is always [`StartError::Loop`].
    pub fn with(host: &str, port: u16, options: NodeOptions) -> Result<Khashmir, StartError> {
        Self::start(&SHARED, host, port, options)
    }

    fn start(home: &Arc<Home>, host: &str, port: u16, options: NodeOptions) -> Result<Self, StartError> {
        let host = if host.is_empty() { "0.0.0.0" } else { unbracketed(host) };
        let addrs: Vec<_> = (host, port).to_socket_addrs().map_err(StartError::Bind)?.collect();
        let deadline = options.config.operation_timeout;
        let place = home.enter()?;
        let handle = place.handle.clone();
        let (started, result) = mpsc::sync_channel(1);
        let _ = handle.call_from_thread(move |reactor, ()| {
            let _ = started.send(listen(reactor, &addrs, &options));
        });
        let ended = || StartError::Loop(std::io::Error::other("the event loop has ended"));
        let (key, id, local) = result.recv().map_err(|_| ended())??;
        let place = Mutex::new(Some(place));
        let node = Node { key, id, local, handle, place };
        Ok(Khashmir { node: Arc::new(node), deadline, life: None, resolve: resolver::system })
    }

    /// The node's id.
    pub fn id(&self) -> Id {
        self.node.id
    }

    /// Where the node listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.node.local
    }

    /// The same node; operations started on this clone end with
    /// [`OperationError::Deadline`] when they are not done after `deadline`. (A store whose
    /// holders were being asked by then ends with what they have said.)
    #[must_use]
    pub fn with_deadline(&self, deadline: Duration) -> Khashmir {
        Khashmir { deadline, ..self.clone() }
    }

    /// The same node; values stored through this clone have a life of their own, from 1 s to
    /// [`Config::value_lifetime`](crate::Config::value_lifetime), counted in whole seconds. They
    /// are not renewed, and their holders forget them after that; those of 2003, which do not
    /// know of it, only when they forget any.
    #[must_use]
    pub fn with_life(&self, life: Duration) -> Khashmir {
        Khashmir { life: Some(life), ..self.clone() }
    }

    /// The same node; names given to this clone are resolved by `resolve`.
    #[doc(hidden)]
    #[must_use]
    pub fn with_resolver(&self, resolve: Resolve) -> Khashmir {
        Khashmir { resolve, ..self.clone() }
    }

    /// Asks the node at this address who it is; if it answers, it is a contact
    /// from then on. A name is resolved meanwhile, within the same deadline.
    pub fn add_contact(
        &self,
        host: &str,
        port: u16,
        f: impl FnOnce(Result<Contact, OperationError>) + Send + 'static,
    ) -> Operation {
        let reply = Reply::new(f);
        if let Ok(ip) = unbracketed(host).parse::<IpAddr>() {
            let addr = SocketAddr::new(ip, port);
            return self.begin(move |reactor, node, deadline| {
                reactor.add_contact(node, addr, deadline, |_, (), result| reply.send(result))
            });
        }
        let operation = Operation::new(self.node.handle.clone());
        let named = NamedContact {
            node: self.node.key,
            local: self.node.local,
            host: host.to_owned(),
            port,
            deadline: self.deadline,
        };
        let (stage, resolve) = (operation.stage(), self.resolve);
        let _ = self.node.handle.call_from_thread(move |reactor, ()| {
            named.begin(reactor, resolve, reply, stage);
        });
        operation
    }

    /// Looks for the nodes nearest to this one, which come nearest first. With a
    /// contact at hand, this is how a node joins the network.
    pub fn find_close_nodes(
        &self,
        f: impl FnOnce(Result<FoundNodes, OperationError>) + Send + 'static,
    ) -> Operation {
        let reply = Reply::new(f);
        self.begin(move |reactor, node, deadline| {
            reactor.find_close_nodes(node, deadline, |_, (), result| reply.send(result))
        })
    }

    /// Looks for the node `id`. The nodes found come nearest first, so it is the
    /// first one if it was found.
    pub fn find_node(
        &self,
        id: Id,
        f: impl FnOnce(Result<FoundNodes, OperationError>) + Send + 'static,
    ) -> Operation {
        let reply = Reply::new(f);
        self.begin(move |reactor, node, deadline| {
            reactor.find_node(node, id, deadline, |_, (), result| reply.send(result))
        })
    }

    /// Stores `value` under `key` on the nodes nearest to it, beside what else is
    /// there. The callback hears what each of them said, and at which address it was
    /// reached. It is a success when
    /// [`Config::store_redundancy`](crate::Config::store_redundancy) of them have the value, or
    /// all that were found, if those are fewer. Then the value is stored again every
    /// [`Config::renew_interval`](crate::Config::renew_interval) until it is
    /// [withdrawn](Self::withdraw) or the node is closed; a node with a file takes that
    /// up again when it is started anew. Not so where it has [a life of its
    /// own](Self::with_life).
    pub fn store_value_for_key(
        &self,
        key: Id,
        value: impl Into<Vec<u8>>,
        f: impl FnOnce(Result<Stored, OperationError>) + Send + 'static,
    ) -> Operation {
        let (reply, value, life) = (Reply::new(f), value.into(), self.life);
        self.begin(move |reactor, node, deadline| {
            reactor.store_value(node, key, value, life, deadline, |_, (), result| reply.send(result))
        })
    }

    /// Looks for the values under `key`. The callback is called for each node
    /// that brings some, and a last time with [`Found::End`], or with an error. Each
    /// value comes once. (Of more than 65,536 values the rest are left out.)
    pub fn value_for_key(
        &self,
        key: Id,
        f: impl FnMut(Result<Found, OperationError>) + Send + 'static,
    ) -> Operation {
        let mut replies = Replies::new(f);
        self.begin(move |reactor, node, deadline| {
            reactor.find_values(node, key, deadline, move |_, (), result| replies.send(result))
        })
    }

    /// Blocking: has the node at this address as contact and looks for the nodes
    /// nearest to this one.
    ///
    /// # Errors
    ///
    /// Those of either step; each has the whole deadline.
    pub fn join(&self, host: &str, port: u16) -> Result<FoundNodes, OperationError> {
        wait(|f| self.add_contact(host, port, f))?;
        wait(|f| self.find_close_nodes(f))
    }

    /// Blocking: all values that were found under `key`, in the order in which
    /// they came. That others have none is no error.
    ///
    /// # Errors
    ///
    /// The search has failed, and had found nothing until then. [`search`](Self::search) tells
    /// both, and who had which value.
    pub fn get(&self, key: Id) -> Result<Vec<Vec<u8>>, OperationError> {
        let (found, end) = self.search(key);
        match end {
            Err(e) if found.is_empty() => Err(e),
            _ => Ok(found.into_iter().flat_map(|found| found.values).collect()),
        }
    }

    /// Blocking: [`value_for_key`](Self::value_for_key). What was found, node by node, and how
    /// the search ended.
    pub fn search(&self, key: Id) -> (Vec<FoundValues>, Result<Search, OperationError>) {
        let mut found = Vec::new();
        if on_loop_thread() {
            return (found, Err(OperationError::WouldBlock));
        }
        let (sender, steps) = mpsc::channel();
        self.value_for_key(key, move |result| {
            let _ = sender.send(result);
        });
        loop {
            match steps.recv().unwrap_or(Err(OperationError::Closed)) {
                Ok(Found::Values(values)) => found.push(values),
                Ok(Found::End(search)) => return (found, Ok(search)),
                Err(e) => return (found, Err(e)),
            }
        }
    }

    /// Blocking: [`store_value_for_key`](Self::store_value_for_key).
    ///
    /// # Errors
    ///
    /// Too few nodes took it, among others: [`OperationError::TooFew`] has what each of them
    /// said.
    pub fn put(&self, key: Id, value: impl Into<Vec<u8>>) -> Result<Stored, OperationError> {
        wait(|f| self.store_value_for_key(key, value, f))
    }

    /// Blocking, for a moment: renews a value no more that was stored through this node.
    /// Its holders are not told: each keeps it, gives it out and hands it on until
    /// [`Config::value_lifetime`](crate::Config::value_lifetime) has passed since it was last
    /// stored, and then forgets it. Says whether it was renewed until now: not while the
    /// operation that stores it is still under way.
    ///
    /// # Errors
    ///
    /// The node is closed, or its store cannot be written; then the value may be renewed as
    /// before.
    pub fn withdraw(&self, key: Id, value: impl Into<Vec<u8>>) -> Result<bool, OperationError> {
        let value = value.into();
        let withdraw = move |reactor: &mut Reactor<()>, node| {
            reactor.id(node).map(|_| reactor.withdraw(node, key, &value))
        };
        let result = self.node.ask(withdraw)?.ok_or(OperationError::Closed)?;
        result.map_err(OperationError::Store)
    }

    /// Looks for a random id in each of the table's buckets, and for the node's own,
    /// one after the other. What no lookup has touched for
    /// [`Config::bucket_staleness`](crate::Config::bucket_staleness) the node
    /// refreshes by itself.
    pub fn refresh_table(&self) {
        let key = self.node.key;
        let _ = self.node.handle.call_from_thread(move |reactor, ()| reactor.refresh_table(key));
    }

    /// Blocking, for a moment: the node's counters.
    ///
    /// # Errors
    ///
    /// The node is closed.
    pub fn stats(&self) -> Result<Stats, OperationError> {
        self.node.ask(|reactor, key| reactor.stats(key))?.ok_or(OperationError::Closed)
    }

    /// Blocking, for a moment: the contacts in the node's table.
    ///
    /// # Errors
    ///
    /// The node is closed.
    pub fn contacts(&self) -> Result<Vec<ContactInfo>, OperationError> {
        let contacts = |reactor: &mut Reactor<()>, key| reactor.id(key).map(|_| reactor.contacts(key));
        self.node.ask(contacts)?.ok_or(OperationError::Closed)
    }

    /// Blocking, for a moment: saves the contacts now. (Values are saved as they
    /// come, contacts every [`Config::checkpoint_interval`](crate::Config::checkpoint_interval).)
    ///
    /// # Errors
    ///
    /// What the store says.
    pub fn checkpoint(&self) -> Result<(), OperationError> {
        let checkpoint = |reactor: &mut Reactor<()>, key| reactor.id(key).map(|_| reactor.checkpoint(key));
        let result = self.node.ask(checkpoint)?.ok_or(OperationError::Closed)?;
        result.map_err(OperationError::Store)
    }

    /// Blocking, for a moment: saves and closes the node, for all its clones.
    /// Their operations end with [`OperationError::Closed`]. Nothing happens when
    /// it was closed before.
    ///
    /// # Errors
    ///
    /// It could not be saved; it is closed nevertheless.
    /// [`OperationError::Closed`]: the loop had failed and taken the node with it.
    /// [`OperationError::WouldBlock`]: this is the loop's thread; it is not closed.
    pub fn close(&self) -> Result<(), OperationError> {
        if on_loop_thread() {
            return Err(OperationError::WouldBlock);
        }
        let (sender, result) = mpsc::sync_channel(1);
        if !self.node.close(move |outcome| drop(sender.send(outcome))) {
            return Ok(());
        }
        result.recv().map_err(|_| OperationError::Closed)?.map_err(OperationError::Store)
    }

    /// Starts an operation on the loop's thread.
    fn begin(
        &self,
        start: impl FnOnce(&mut Reactor<()>, NodeKey, Option<Duration>) -> OperationKey + Send + 'static,
    ) -> Operation {
        let operation = Operation::new(self.node.handle.clone());
        let (stage, key, deadline) = (operation.stage(), self.node.key, self.deadline);
        // When the loop is gone, the closure is dropped, and says so to its callback.
        let _ = self.node.handle.call_from_thread(move |reactor, ()| {
            stage.set(Standing::Started(start(reactor, key, Some(deadline))));
        });
        operation
    }
}

impl fmt::Debug for Khashmir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Khashmir({} at {})", self.node.id, self.node.local)
    }
}

impl Node {
    /// Has the loop save and close it, the first time; says whether this was it.
    fn close(&self, done: impl FnOnce(Result<(), StoreError>) + Send + 'static) -> bool {
        let place = self.place.lock().unwrap_or_else(PoisonError::into_inner).take();
        let key = self.key;
        if place.is_some() {
            let _ = self.handle.call_from_thread(move |reactor, ()| done(reactor.close(key)));
        }
        // With `place` goes perhaps the thread, after the node is closed.
        place.is_some()
    }

    /// Waits for what `f` says on the loop's thread.
    fn ask<T: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Reactor<()>, NodeKey) -> T + Send + 'static,
    ) -> Result<T, OperationError> {
        if on_loop_thread() {
            return Err(OperationError::WouldBlock);
        }
        let (sender, result) = mpsc::sync_channel(1);
        let key = self.key;
        let _ = self.handle.call_from_thread(move |reactor, ()| {
            let _ = sender.send(f(reactor, key));
        });
        result.recv().map_err(|_| OperationError::Closed)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let local = self.local;
        self.close(move |outcome| {
            if let Err(e) = outcome {
                log::error!("the node at {local} could not be saved: {e}");
            }
        });
    }
}

/// Waits for the outcome of the operation that `start` starts with the callback
/// it is given.
fn wait<T: Send + 'static>(
    start: impl FnOnce(Box<dyn FnOnce(Result<T, OperationError>) + Send>) -> Operation,
) -> Result<T, OperationError> {
    if on_loop_thread() {
        return Err(OperationError::WouldBlock);
    }
    let (sender, result) = mpsc::sync_channel(1);
    start(Box::new(move |outcome| drop(sender.send(outcome))));
    result.recv().unwrap_or(Err(OperationError::Closed))
}

/// Starts a node on the first of these addresses that can be used.
fn listen(
    reactor: &mut Reactor<()>,
    addrs: &[SocketAddr],
    options: &NodeOptions,
) -> Result<(NodeKey, Id, SocketAddr), StartError> {
    let nowhere = std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address");
    let mut result = Err(StartError::Bind(nowhere));
    for &addr in addrs {
        result = reactor.listen(addr, options.clone());
        if !matches!(result, Err(StartError::Bind(_))) {
            break;
        }
    }
    let key = result?;
    match (reactor.id(key), reactor.local_addr(key)) {
        (Some(id), Some(local)) => Ok((key, id, local)),
        _ => Err(StartError::Loop(std::io::Error::other("the node is gone already"))),
    }
}

/// An IPv6 address may be written as in a URL.
fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}
