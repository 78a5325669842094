//! `Khashmir`, the type that people use, from plain threads.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use khashmir::{Config, Contact, Id, Khashmir, NodeOptions, OperationError, StartError, StoreError};

const HERE: &str = "127.0.0.1";
/// A test that has not come to its end by then has failed.
const PATIENCE: Duration = Duration::from_secs(30);

fn node() -> Khashmir {
    Khashmir::new(HERE, 0).expect("a node")
}

/// Two nodes that know each other.
fn pair() -> (Khashmir, Khashmir) {
    let (a, b) = (node(), node());
    let near = b.join(HERE, a.local_addr().port()).expect("joined");
    assert!(near.contains(&contact(&a)));
    (a, b)
}

fn contact(k: &Khashmir) -> Contact {
    Contact { id: k.id(), addr: k.local_addr() }
}

/// An address at which nobody answers.
fn silence() -> (UdpSocket, u16) {
    let socket = UdpSocket::bind((HERE, 0)).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

/// A callback that says what it heard, and with what.
fn told<T: Send + 'static>() -> (impl FnOnce(T) + Send + 'static, Receiver<T>) {
    let (sender, receiver) = mpsc::channel();
    (move |result| drop(sender.send(result)), receiver)
}

fn hear<T>(receiver: &Receiver<T>) -> T {
    receiver.recv_timeout(PATIENCE).expect("the callback is called")
}

fn options(store: Option<std::path::PathBuf>) -> NodeOptions {
    NodeOptions { config: Arc::new(Config::default()), id: None, store }
}

#[test]
fn what_was_stored_can_be_withdrawn() {
    let (a, b) = pair();
    let key = Id::of(b"a key");
    a.put(key, "mine").unwrap();
    assert_eq!(a.stats().unwrap().values_published, 1);
    assert_eq!(b.withdraw(key, "mine"), Ok(false), "it is not b's");
    assert_eq!(a.withdraw(key, "mine"), Ok(true));
    assert_eq!(a.withdraw(key, "mine"), Ok(false));
    assert_eq!(a.stats().unwrap().values_published, 0);
    assert_eq!(b.get(key).unwrap(), [b"mine"], "its holders forget it in time");
    a.close().unwrap();
    assert_eq!(a.withdraw(key, "mine"), Err(OperationError::Closed));
}

#[test]
fn two_nodes_store_and_find() {
    let (a, b) = pair();
    let key = Id::of(b"a key");
    let accepted = a.put(key, "one").unwrap();
    assert!(!accepted.is_empty());
    b.put(key, "two").unwrap();
    for k in [&a, &b] {
        let mut values = k.get(key).unwrap();
        values.sort();
        assert_eq!(values, [b"one", b"two"]);
    }
    assert_eq!(a.get(Id::of(b"another")).unwrap(), Vec::<Vec<u8>>::new());
    assert_eq!(a.put(key, ""), Err(OperationError::ValueEmpty));

    let (f, found) = told();
    b.find_node(a.id(), f);
    assert_eq!(hear(&found).unwrap().first(), Some(&contact(&a)));

    a.refresh_table();
    a.checkpoint().unwrap();
    assert!(a.contacts().unwrap().iter().any(|known| known.contact == contact(&b)));
    assert_eq!(a.stats().unwrap().contacts, 1);
}

#[test]
fn values_come_in_batches_and_end_with_none() {
    let (a, b) = pair();
    let key = Id::of(b"several");
    for value in ["x", "y", "z"] {
        a.put(key, value).unwrap();
    }
    let (sender, batches) = mpsc::channel();
    b.value_for_key(key, move |result| sender.send(result.unwrap()).unwrap());
    let mut values = Vec::new();
    loop {
        let batch = hear(&batches);
        if batch.is_empty() {
            break;
        }
        values.extend(batch);
    }
    values.sort();
    assert_eq!(values, [b"x", b"y", b"z"]);
    // The callback is dropped, and its channel with it: nothing comes after the end.
    assert!(batches.recv_timeout(PATIENCE).is_err());
}

#[test]
fn a_node_on_a_thread_of_its_own() {
    let a = khashmir::test_one("localhost", 0).unwrap();
    let b = node();
    let (f, met) = told();
    b.add_contact(&a.local_addr().ip().to_string(), a.local_addr().port(), f);
    if a.local_addr().is_ipv4() {
        assert_eq!(hear(&met), Ok(contact(&a)));
    }
    a.close().unwrap();
    assert_eq!(a.stats(), Err(OperationError::Closed));
}

#[test]
fn what_cannot_be_started_is_told() {
    let a = node();
    let taken = a.local_addr().port();
    assert!(matches!(Khashmir::new(HERE, taken), Err(StartError::Bind(_))));
    assert!(matches!(Khashmir::new("no such host.invalid", 0), Err(StartError::Bind(_))));
    let config = Arc::new(Config { k: 0, ..Config::default() });
    let wrong = NodeOptions { config, ..options(None) };
    assert!(matches!(Khashmir::with(HERE, 0, wrong), Err(StartError::Config(_))));
    // The port is free when the node is closed.
    a.close().unwrap();
    Khashmir::new(HERE, taken).unwrap();
}

#[test]
fn operations_end_at_their_deadline_or_when_cancelled() {
    let (_silent, port) = silence();
    let k = node();
    let (f, late) = told();
    k.with_deadline(Duration::from_millis(50)).add_contact(HERE, port, f);
    assert_eq!(hear(&late), Err(OperationError::Deadline));

    let (f, cancelled) = told();
    let operation = k.add_contact(HERE, port, f);
    operation.cancel();
    operation.cancel();
    assert_eq!(hear(&cancelled), Err(OperationError::Cancelled));
    operation.cancel();
    assert!(k.stats().is_ok());
}

#[test]
fn closing_ends_what_is_under_way() {
    let (_silent, port) = silence();
    let k = node();
    let (f, closed) = told();
    let operation = k.add_contact(HERE, port, f);
    let other = k.clone();
    k.close().unwrap();
    assert_eq!(hear(&closed), Err(OperationError::Closed));
    other.close().unwrap();
    assert_eq!(other.get(Id::of(b"x")), Err(OperationError::Closed));
    assert_eq!(other.put(Id::of(b"x"), "y"), Err(OperationError::Closed));
    assert_eq!(other.checkpoint(), Err(OperationError::Closed));
    let (f, closed) = told();
    other.find_close_nodes(f);
    assert_eq!(hear(&closed), Err(OperationError::Closed));
    operation.cancel();

    // The same by dropping all clones.
    let k = node();
    let (f, closed) = told();
    k.add_contact(HERE, port, f);
    drop(k.clone());
    assert!(closed.try_recv().is_err());
    drop(k);
    assert_eq!(hear(&closed), Err(OperationError::Closed));
}

// On the loop's thread

/// What `f` returns when a callback of `k` calls it.
fn on_loop<T: Send + 'static>(k: &Khashmir, f: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, result) = mpsc::channel();
    k.find_close_nodes(move |_| sender.send(f()).unwrap());
    hear(&result)
}

#[test]
fn blocking_calls_are_refused_on_the_loops_thread() {
    let k = node();
    let inner = k.clone();
    let refused = on_loop(&k, move || {
        [
            inner.get(Id::of(b"x")).map(drop),
            inner.put(Id::of(b"x"), "y").map(drop),
            inner.join(HERE, 9).map(drop),
            inner.stats().map(drop),
            inner.contacts().map(drop),
            inner.checkpoint(),
            inner.close(),
        ]
    });
    assert_eq!(refused, [const { Err(OperationError::WouldBlock) }; 7]);
    assert!(on_loop(&k, || matches!(Khashmir::new(HERE, 0), Err(StartError::Loop(_)))));
    assert!(on_loop(&k, || matches!(khashmir::test_one(HERE, 0), Err(StartError::Loop(_)))));
    assert!(k.stats().is_ok());
}

#[test]
fn a_callback_may_start_others_and_drop_nodes_its_own_too() {
    let (a, b) = pair();
    let (sender, results) = mpsc::channel();
    let (addr, other) = (b.local_addr(), node());
    let inner = a.clone();
    a.with_deadline(Duration::from_secs(1)).add_contact(HERE, addr.port(), move |result| {
        let report = |sender: &Sender<_>| {
            let sender = sender.clone();
            move |result: Result<Vec<Contact>, _>| sender.send(result.map(drop)).unwrap()
        };
        inner.find_close_nodes(report(&sender)).cancel();
        inner.find_node(Id::of(b"x"), report(&sender));
        drop(other);
        drop(inner);
        sender.send(result.map(drop)).unwrap();
    });
    drop(a);
    drop(b);
    // The contact may have come or not: its node went while it was asked.
    let outcomes = [hear(&results), hear(&results), hear(&results)];
    for outcome in outcomes {
        assert!(
            matches!(
                outcome,
                Ok(()) | Err(OperationError::Closed | OperationError::Cancelled | OperationError::Deadline)
            ),
            "{outcome:?}"
        );
    }
}

#[test]
fn a_callback_that_panics_harms_nobody() {
    let k = node();
    k.find_close_nodes(|_| std::panic::resume_unwind(Box::new("on purpose")));
    k.value_for_key(Id::of(b"x"), |_| std::panic::resume_unwind(Box::new("on purpose")));
    assert!(k.stats().is_ok());
    k.get(Id::of(b"x")).ok();
    assert!(k.stats().is_ok());
}

#[test]
fn callbacks_hold_no_lock() {
    // A callback takes a lock that the thread which drops the node holds.
    let shared = Arc::new(Mutex::new(Some(node())));
    let (sender, called) = mpsc::channel();
    let held = shared.lock().unwrap();
    let k = held.as_ref().unwrap().clone();
    let inner = Arc::clone(&shared);
    k.find_close_nodes(move |_| {
        inner.lock().unwrap().take();
        sender.send(()).unwrap();
    });
    drop(k);
    drop(held);
    hear(&called);
}

// Files

#[test]
fn a_node_comes_back_from_its_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("node.db");
    let (a, key) = (node(), Id::of(b"kept"));
    let b = Khashmir::with(HERE, 0, options(Some(file.clone()))).unwrap();
    b.join(HERE, a.local_addr().port()).unwrap();
    a.put(key, "value").unwrap();
    let in_use = Khashmir::with(HERE, 0, options(Some(file.clone())));
    assert!(matches!(in_use, Err(StartError::Store(StoreError::InUse(_)))), "{in_use:?}");
    let id = b.id();
    drop(b);
    // Not closed, only dropped: whoever opens the file next waits for that.
    for _ in 0..3 {
        let b = Khashmir::with(HERE, 0, options(Some(file.clone()))).unwrap();
        assert_eq!(b.id(), id);
        assert!(b.contacts().unwrap().iter().any(|known| known.contact == contact(&a)));
        assert_eq!(b.get(key).unwrap(), [b"value"]);
    }
}

// Names

#[test]
fn a_contact_is_added_by_name() {
    fn both_families(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        assert_eq!(host, "a.name.of.ours");
        Ok(vec![(Ipv6Addr::LOCALHOST, port).into(), (Ipv4Addr::LOCALHOST, port).into()])
    }
    fn unknown(_: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        Err(io::Error::other("never heard of it"))
    }
    fn other_family(_: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(vec![(Ipv6Addr::LOCALHOST, port).into()])
    }
    let (a, b) = (node(), node());
    let port = a.local_addr().port();
    let (f, met) = told();
    b.with_resolver(both_families).add_contact("a.name.of.ours", port, f);
    assert_eq!(hear(&met), Ok(contact(&a)));
    for resolve in [unknown, other_family] {
        let (f, failed) = told();
        b.with_resolver(resolve).add_contact("a name", port, f);
        assert!(matches!(hear(&failed), Err(OperationError::Resolve(_))));
    }
    // By the system's own resolver.
    let near = b.join("localhost", port).unwrap();
    assert!(near.contains(&contact(&a)));
}

#[test]
fn a_resolver_that_hangs_holds_nothing_up() {
    fn hang(_: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        loop {
            thread::park();
        }
    }
    let k = node().with_resolver(hang);
    let (f, late) = told();
    k.with_deadline(Duration::from_millis(50)).add_contact("a name", 9, f);
    assert_eq!(hear(&late), Err(OperationError::Deadline));
    let (f, cancelled) = told();
    let operation = k.add_contact("a name", 9, f);
    operation.cancel();
    assert_eq!(hear(&cancelled), Err(OperationError::Cancelled));
    operation.cancel();
    // The handle to the operation must not keep the callback from hearing this.
    let own = khashmir::test_one(HERE, 0).unwrap().with_resolver(hang);
    let (f, closed) = told();
    let _operation = own.add_contact("a name", 9, f);
    drop(own);
    assert_eq!(hear(&closed), Err(OperationError::Closed));
}
