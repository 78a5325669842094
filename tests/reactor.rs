//! The event loop: timers, threads, re-entrancy, and nodes on real sockets.
// Tests wait for sockets and processes, with a time limit of their own.
#![allow(clippy::disallowed_methods)]

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use khashmir::random::seed_from_number;
use khashmir::reactor::{Gone, Reactor};
use khashmir::{Config, Contact, Id, NodeKey, NodeOptions, OperationError, StartError};
use khashmir::{Effort, Found, FoundNodes, FoundValues, OperationKey, Search, Stored};

const MS: Duration = Duration::from_millis(1);
/// A test that has not come to its end by then has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// Turns until `done`.
fn turn_until<D>(reactor: &mut Reactor<D>, data: &mut D, mut done: impl FnMut(&D) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done(data) {
        assert!(Instant::now() < deadline, "nothing came of it in {PATIENCE:?}");
        reactor.turn(data, Some(100 * MS)).expect("a turn");
    }
}

fn options() -> NodeOptions {
    NodeOptions { config: Arc::new(Config::default()), id: None, store: None }
}

fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn listen<D>(reactor: &mut Reactor<D>) -> NodeKey {
    reactor.listen(loopback(), options()).expect("a node")
}

/// The contact by which others know a node.
fn contact<D>(reactor: &Reactor<D>, node: NodeKey) -> Contact {
    Contact { id: reactor.id(node).unwrap(), addr: reactor.local_addr(node).unwrap() }
}

type Log = Vec<String>;

fn logger(text: &'static str) -> impl FnOnce(&mut Reactor<Log>, &mut Log) {
    move |_, log| log.push(text.into())
}

// Timers

#[test]
fn calls_come_in_order_and_can_be_taken_back_and_moved() {
    let mut reactor = Reactor::<Log>::new().unwrap();
    let mut log = Log::new();
    reactor.call_later(12 * MS, logger("third"));
    reactor.call_later(2 * MS, logger("first"));
    let moved = reactor.call_later(Duration::ZERO, logger("last"));
    let gone = reactor.call_later(3 * MS, logger("never"));
    let second = reactor.call_later(40 * MS, logger("second"));
    assert!(reactor.cancel_call(gone));
    assert!(!reactor.cancel_call(gone));
    assert!(!reactor.reset_call(gone, MS));
    assert!(reactor.reset_call(moved, 60 * MS));
    assert!(reactor.reset_call(second, 7 * MS));
    turn_until(&mut reactor, &mut log, |log| log.len() == 4);
    assert_eq!(log, ["first", "second", "third", "last"]);
    assert!(!reactor.cancel_call(second));
    assert_eq!(reactor.next_deadline(), None);
}

#[test]
fn a_call_that_is_due_can_be_taken_back_or_moved_by_the_one_before_it() {
    let mut reactor = Reactor::<Log>::new().unwrap();
    let mut log = Log::new();
    // Made in one turn, for the same moment, so they are due in one turn too.
    reactor.call_later(Duration::ZERO, |reactor, _: &mut Log| {
        let (sender, keys) = std::sync::mpsc::channel();
        reactor.call_later(Duration::ZERO, move |reactor, log: &mut Log| {
            log.push("a".into());
            assert!(reactor.cancel_call(keys.recv().unwrap()));
            assert!(reactor.reset_call(keys.recv().unwrap(), 5 * MS));
        });
        sender.send(reactor.call_later(Duration::ZERO, logger("b"))).unwrap();
        sender.send(reactor.call_later(Duration::ZERO, logger("c"))).unwrap();
        reactor.call_later(Duration::ZERO, logger("d"));
    });
    turn_until(&mut reactor, &mut log, |log| log.len() == 3);
    assert_eq!(log, ["a", "d", "c"]);
}

#[test]
fn a_call_that_renews_itself_runs_once_per_turn() {
    fn again(reactor: &mut Reactor<usize>, count: &mut usize) {
        *count += 1;
        reactor.call_later(Duration::ZERO, again);
    }
    let mut reactor = Reactor::new().unwrap();
    let mut count = 0;
    reactor.call_later(Duration::ZERO, again);
    for turns in 1..=20 {
        // The first one has to wait for the next tick, which may be a turn away.
        let before = count;
        while count == before {
            reactor.turn(&mut count, None).unwrap();
        }
        assert_eq!(count, turns);
    }
}

#[test]
fn waiting_for_a_call_takes_few_turns() {
    let mut reactor = Reactor::<bool>::new().unwrap();
    for wait in [Duration::from_micros(300), Duration::from_micros(1100), 30 * MS, 150 * MS] {
        let (mut called, mut turns) = (false, 0);
        reactor.call_later(wait, |_, called| *called = true);
        while !called {
            reactor.turn(&mut called, None).unwrap();
            turns += 1;
        }
        // The wheel may want a look at each of its levels.
        assert!(turns <= 10, "{turns} turns to wait {wait:?}");
    }
}

// Stopping, nesting, panics

#[test]
fn stop_ends_run_after_its_turn() {
    let mut reactor = Reactor::<Log>::new().unwrap();
    let mut log = Log::new();
    reactor.call_later(Duration::ZERO, |reactor, log: &mut Log| {
        log.push("stop".into());
        reactor.stop();
    });
    reactor.call_later(Duration::ZERO, logger("same turn"));
    reactor.call_later(20 * MS, logger("later"));
    reactor.run(&mut log).unwrap();
    assert_eq!(log, ["stop", "same turn"]);
    // It can be run again.
    let handle = reactor.handle();
    reactor.call_later(30 * MS, move |_, _| {
        thread::spawn(move || handle.call_from_thread(|reactor, _| reactor.stop()));
    });
    reactor.run(&mut log).unwrap();
    assert_eq!(log.last().unwrap(), "later");
    // Stopped before it runs: one turn, without waiting.
    reactor.stop();
    reactor.run(&mut log).unwrap();
}

#[test]
fn a_turn_within_a_turn_is_refused() {
    let mut reactor = Reactor::<Vec<std::io::ErrorKind>>::new().unwrap();
    reactor.call_later(Duration::ZERO, |reactor, refused: &mut Vec<_>| {
        let mut inner = Vec::new();
        refused.push(reactor.turn(&mut inner, None).unwrap_err().kind());
        refused.push(reactor.run(&mut inner).unwrap_err().kind());
    });
    let mut refused = Vec::new();
    turn_until(&mut reactor, &mut refused, |refused| !refused.is_empty());
    assert_eq!(refused, [std::io::ErrorKind::Deadlock; 2]);
}

#[test]
fn a_panic_in_a_closure_leaves_the_reactor_whole() {
    let mut reactor = Reactor::<Log>::new().unwrap();
    let mut log = Log::new();
    let node = listen(&mut reactor);
    reactor.call_later(Duration::ZERO, |reactor, _| {
        // All in one turn.
        reactor.call_later(Duration::ZERO, logger("before"));
        reactor.call_later(Duration::ZERO, |_, _| std::panic::resume_unwind(Box::new("on purpose")));
        reactor.call_later(Duration::ZERO, logger("after"));
        reactor.handle().call_from_thread(logger("posted")).unwrap();
    });
    let panic = catch_unwind(AssertUnwindSafe(|| reactor.run(&mut log))).unwrap_err();
    assert_eq!(panic.downcast_ref(), Some(&"on purpose"));
    assert_eq!(log, ["before"]);
    turn_until(&mut reactor, &mut log, |log| log.len() == 3);
    assert_eq!(log, ["before", "after", "posted"]);
    assert!(reactor.id(node).is_some());
    reactor.close(node).unwrap();
}

// Threads

#[test]
fn what_a_thread_posts_runs_in_its_order() {
    const THREADS: usize = 8;
    const CALLS: usize = 500;
    let mut reactor = Reactor::<Vec<(usize, usize)>>::new().unwrap();
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let handle = reactor.handle();
            thread::spawn(move || {
                for call in 0..CALLS {
                    handle.call_from_thread(move |_, seen: &mut Vec<_>| seen.push((thread, call))).unwrap();
                }
            })
        })
        .collect();
    let mut seen = Vec::new();
    turn_until(&mut reactor, &mut seen, |seen| seen.len() == THREADS * CALLS);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    for thread in 0..THREADS {
        let calls = seen.iter().filter(|(by, _)| *by == thread).map(|(_, call)| *call);
        assert!(calls.eq(0..CALLS));
    }
}

#[test]
fn a_handle_says_when_the_reactor_is_gone() {
    struct Tell(std::sync::mpsc::Sender<()>);
    impl Drop for Tell {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }
    let (sender, dropped) = std::sync::mpsc::channel();
    let reactor = Reactor::<()>::new().unwrap();
    let handle = reactor.handle();
    let waiting = Tell(sender.clone());
    handle.call_from_thread(move |_, ()| drop(waiting)).unwrap();
    assert!(dropped.try_recv().is_err());
    drop(reactor);
    dropped.try_recv().expect("what was posted is dropped with the reactor");
    let refused = Tell(sender);
    assert_eq!(handle.call_from_thread(move |_, ()| drop(refused)), Err(Gone));
    dropped.try_recv().expect("what is refused is dropped");
}

#[test]
fn a_thread_wakes_a_loop_that_waits() {
    let mut reactor = Reactor::<()>::new().unwrap();
    let handle = reactor.handle();
    let thread = thread::spawn(move || {
        for _ in 0..100 {
            handle.call_from_thread(|_, ()| ()).unwrap();
            thread::yield_now();
        }
        handle.call_from_thread(|reactor, ()| reactor.stop())
    });
    reactor.run(&mut ()).unwrap();
    thread.join().unwrap().unwrap();
}

// Nodes

#[test]
fn nodes_meet_store_and_find() {
    #[derive(Default)]
    struct Seen {
        contact: Option<Contact>,
        close: Option<FoundNodes>,
        found: Option<FoundNodes>,
        stored: Option<Stored>,
        steps: Vec<Found>,
    }
    let mut reactor = Reactor::<Seen>::with_seed(seed_from_number(1)).unwrap();
    let mut seen = Seen::default();
    let (a, b) = (listen(&mut reactor), listen(&mut reactor));
    let (contact_a, contact_b) = (contact(&reactor, a), contact(&reactor, b));
    let key = Id::of(b"key");

    reactor.add_contact(b, contact_a.addr, None, move |reactor, seen, result| {
        seen.contact = Some(result.unwrap());
        reactor.find_close_nodes(b, None, move |reactor, seen, result| {
            seen.close = Some(result.unwrap());
            reactor.find_node(b, contact_a.id, None, |_, seen, result| seen.found = Some(result.unwrap()));
            reactor.store_value(b, key, b"value".to_vec(), None, None, move |reactor, seen, result| {
                seen.stored = Some(result.unwrap());
                reactor.find_values(a, key, None, |_, seen, step| seen.steps.push(step.unwrap()));
            });
        });
    });
    turn_until(&mut reactor, &mut seen, |seen| {
        seen.found.is_some() && matches!(seen.steps.last(), Some(Found::End(_)))
    });
    assert_eq!(seen.contact, Some(contact_a));
    assert!(seen.close.unwrap().contains(&contact_a));
    assert_eq!(seen.found.unwrap().first(), Some(&contact_a));
    assert_eq!(seen.stored.unwrap().accepted().count(), 2);
    // Both hold it: the one that searches tells of its own first.
    let found = |by, values: &[&[u8]], known| {
        let values = values.iter().map(|value| value.to_vec()).collect();
        Found::Values(FoundValues { by, values, known })
    };
    let expected = [found(contact_a, &[b"value"], 0), found(contact_b, &[], 1)];
    assert_eq!(seen.steps[..2], expected);
    assert!(matches!(
        seen.steps[2..],
        [Found::End(Search { effort: Effort { answered: 1, failed: 0, .. } })]
    ));
    assert!(reactor.contacts(a).iter().any(|known| known.contact == contact_b));
    let stats = reactor.stats(b).unwrap();
    assert!(stats.packets_out > 0 && stats.bytes_in > 0 && stats.contacts == 1);
    assert_eq!(reactor.socket_errors(b), Some(0));
}

#[test]
fn a_closure_may_start_and_cancel_operations_and_drop_nodes_its_own_too() {
    #[derive(Default)]
    struct Seen {
        outcomes: Vec<(&'static str, Result<(), OperationError>)>,
    }
    fn note<T>(seen: &mut Seen, what: &'static str, result: Result<T, OperationError>) {
        seen.outcomes.push((what, result.map(|_| ())));
    }
    let mut reactor = Reactor::<Seen>::with_seed(seed_from_number(2)).unwrap();
    let mut seen = Seen::default();
    let (a, b, c) = (listen(&mut reactor), listen(&mut reactor), listen(&mut reactor));
    let [addr_a, addr_b] = [a, b].map(|node| reactor.local_addr(node).unwrap());
    // A socket that never answers.
    let silent = UdpSocket::bind(loopback()).unwrap();
    let silence = silent.local_addr().unwrap();
    let other = reactor.add_contact(a, silence, None, |_, seen, result| note(seen, "cancelled", result));
    reactor.add_contact(c, silence, None, |reactor, seen, result| {
        note(seen, "other node's", result);
        // An outcome may itself start something.
        reactor.call_later(Duration::ZERO, |_, seen| seen.outcomes.push(("late", Ok(()))));
    });
    reactor.add_contact(a, addr_b, None, move |reactor, seen, result| {
        note(seen, "first", result);
        reactor.find_close_nodes(a, None, |_, seen, result| note(seen, "own node's", result));
        assert!(reactor.cancel(other));
        assert!(!reactor.cancel(other));
        reactor.close(c).unwrap();
        let d = reactor.listen(loopback(), options()).unwrap();
        reactor.add_contact(d, addr_b, None, |_, seen, result| note(seen, "new node's", result));
        reactor.close(a).unwrap();
        reactor.close(a).unwrap();
        assert_eq!(reactor.id(a), None);
        assert_eq!(reactor.local_addr(a), None);
        assert!(reactor.stats(a).is_none() && reactor.contacts(a).is_empty());
        reactor.find_node(a, Id::of(b"x"), None, |_, seen, result| note(seen, "closed node's", result));
        reactor.find_values(a, Id::of(b"x"), None, |_, seen, result| note(seen, "closed values", result));
        // Its address is free again.
        reactor.listen(addr_a, options()).unwrap();
    });
    turn_until(&mut reactor, &mut seen, |seen| seen.outcomes.len() == 8);
    for _ in 0..3 {
        reactor.turn(&mut seen, Some(Duration::ZERO)).unwrap();
    }
    seen.outcomes.sort_by_key(|(what, _)| *what);
    let closed = || Err(OperationError::Closed);
    let expected = [
        ("cancelled", Err(OperationError::Cancelled)),
        ("closed node's", closed()),
        ("closed values", closed()),
        ("first", Ok(())),
        ("late", Ok(())),
        ("new node's", Ok(())),
        ("other node's", closed()),
        ("own node's", closed()),
    ];
    assert_eq!(seen.outcomes, expected);
}

#[test]
fn a_search_may_be_ended_by_its_own_closure() {
    type Steps = (Option<OperationKey>, Vec<Result<Found, OperationError>>);
    let mut reactor = Reactor::<Steps>::with_seed(seed_from_number(3)).unwrap();
    let mut seen = Steps::default();
    let (a, b) = (listen(&mut reactor), listen(&mut reactor));
    let addr_b = reactor.local_addr(b).unwrap();
    let key = Id::of(b"key");
    reactor.add_contact(a, addr_b, None, move |reactor, _, _| {
        reactor.store_value(
            a,
            key,
            b"value".to_vec(),
            None,
            None,
            move |reactor, seen: &mut Steps, stored| {
                assert_eq!(stored.unwrap().accepted().count(), 2);
                let search = reactor.find_values(a, key, None, move |reactor, (search, steps), step| {
                    if matches!(step, Ok(Found::Values(_))) {
                        // It is told of more than this, if the engine had it before: no further end.
                        reactor.cancel(search.unwrap());
                        reactor.store_value(a, key, b"more".to_vec(), None, None, |_, _, _| ());
                    }
                    steps.push(step);
                });
                seen.0 = Some(search);
            },
        );
    });
    turn_until(&mut reactor, &mut seen, |(_, steps)| steps.last().is_some_and(Result::is_err));
    for _ in 0..3 {
        reactor.turn(&mut seen, Some(Duration::ZERO)).unwrap();
    }
    let [Ok(Found::Values(first)), .., Err(OperationError::Cancelled)] = &seen.1[..] else {
        panic!("{:?}", seen.1)
    };
    assert_eq!(first.values, [b"value"]);
    assert_eq!(seen.1.iter().filter(|step| !matches!(step, Ok(Found::Values(_)))).count(), 1);
}

#[test]
fn an_operation_ends_at_its_deadline() {
    let mut reactor = Reactor::<Vec<OperationError>>::new().unwrap();
    let mut errors = Vec::new();
    let node = listen(&mut reactor);
    let silent = UdpSocket::bind(loopback()).unwrap();
    let addr = silent.local_addr().unwrap();
    reactor.add_contact(node, addr, Some(50 * MS), |_, errors: &mut Vec<_>, result| {
        errors.push(result.unwrap_err());
    });
    let mut turns = 0;
    turn_until(&mut reactor, &mut errors, |errors| {
        turns += 1;
        !errors.is_empty()
    });
    assert_eq!(errors, [OperationError::Deadline]);
    assert!(turns < 50, "{turns} turns to wait for one deadline");
}

#[test]
fn a_peer_that_cannot_be_reached_does_not_stop_the_loop() {
    let mut reactor = Reactor::<usize>::new().unwrap();
    let node = listen(&mut reactor);
    let nobody = UdpSocket::bind(loopback()).unwrap().local_addr().unwrap();
    // Nobody listens, no such family on this socket, broadcast without leave.
    let addrs = [nobody, "[::1]:9".parse().unwrap(), "255.255.255.255:9".parse().unwrap()];
    let mut failed = 0;
    for addr in addrs {
        reactor.add_contact(node, addr, Some(200 * MS), |_, failed, result| {
            result.unwrap_err();
            *failed += 1;
        });
    }
    turn_until(&mut reactor, &mut failed, |&failed| failed == 3);
    assert!(reactor.id(node).is_some());
}

#[test]
fn what_cannot_be_started_is_told() {
    let mut reactor = Reactor::<()>::new().unwrap();
    let node = listen(&mut reactor);
    let taken = reactor.local_addr(node).unwrap();
    assert!(matches!(reactor.listen(taken, options()), Err(StartError::Bind(_))));
    let config = Arc::new(Config { k: 0, ..Config::default() });
    let wrong = NodeOptions { config, ..options() };
    assert!(matches!(reactor.listen(loopback(), wrong), Err(StartError::Config(_))));
    let nowhere = NodeOptions { store: Some("/nonexistent/directory/node.db".into()), ..options() };
    assert!(matches!(reactor.listen(loopback(), nowhere), Err(StartError::Store(_))));
}

#[test]
fn what_a_turn_leaves_unread_is_read_in_the_next() {
    const DATAGRAMS: u64 = 150;
    let mut reactor = Reactor::<()>::new().unwrap();
    let node = listen(&mut reactor);
    let addr = reactor.local_addr(node).unwrap();
    let sender = UdpSocket::bind(loopback()).unwrap();
    for _ in 0..DATAGRAMS {
        sender.send_to(b"d no packet of ours", addr).unwrap();
    }
    let read = |reactor: &mut Reactor<()>| {
        let stats = reactor.stats(node).unwrap();
        stats.packets_in.max(stats.dropped)
    };
    let turn = reactor.turn(&mut (), None).unwrap();
    assert!(turn.more);
    assert!((1..DATAGRAMS).contains(&read(&mut reactor)));
    // Nothing new arrives, so nothing but its own memory can tell the loop.
    while reactor.turn(&mut (), Some(Duration::ZERO)).unwrap().more {}
    assert_eq!(read(&mut reactor), DATAGRAMS);
}

#[test]
fn nodes_of_both_families_meet_on_a_socket_for_both() {
    let mut reactor = Reactor::<Vec<Contact>>::new().unwrap();
    let Ok(both) = reactor.listen("[::]:0".parse().unwrap(), options()) else {
        return; // A machine without IPv6.
    };
    let v4 = listen(&mut reactor);
    let id = reactor.id(both).unwrap();
    let port = reactor.local_addr(both).unwrap().port();
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut met = Vec::new();
    reactor.add_contact(v4, addr, None, |_, met: &mut Vec<_>, result| met.push(result.unwrap()));
    turn_until(&mut reactor, &mut met, |met| !met.is_empty());
    assert_eq!(met, [Contact { id, addr }]);
    let there = contact(&reactor, v4);
    reactor.add_contact(both, there.addr, None, |_, met, result| met.push(result.unwrap()));
    turn_until(&mut reactor, &mut met, |met| met.len() == 2);
    assert_eq!(met[1], there);
}

#[test]
#[cfg(target_os = "linux")]
fn a_foreign_loop_drives_it_by_its_file_descriptor() {
    use std::os::fd::AsFd;

    // The foreign loop watches a duplicate of the descriptor. (Mio can watch any
    // that it takes for a socket, and does nothing else with it.)
    let mut reactor = Reactor::<Vec<&'static str>>::new().unwrap();
    let watched = UdpSocket::from(reactor.as_fd().try_clone_to_owned().unwrap());
    let mut watched = mio::net::UdpSocket::from_std(watched);
    let mut outer = mio::Poll::new().unwrap();
    outer.registry().register(&mut watched, mio::Token(0), mio::Interest::READABLE).unwrap();

    let (a, b) = (listen(&mut reactor), listen(&mut reactor));
    let addr = reactor.local_addr(a).unwrap();
    let mut log = Vec::new();
    reactor.call_later(20 * MS, |_, log: &mut Vec<_>| log.push("timer"));
    reactor.add_contact(b, addr, None, |_, log, result| {
        result.unwrap();
        log.push("contact");
    });
    let handle = reactor.handle();
    let thread = thread::spawn(move || handle.call_from_thread(|_, log| log.push("thread")));

    let mut events = mio::Events::with_capacity(4);
    let deadline = Instant::now() + PATIENCE;
    while log.len() < 3 {
        assert!(Instant::now() < deadline, "only {log:?}");
        let next = reactor.next_deadline().unwrap_or(deadline);
        outer.poll(&mut events, Some(next.saturating_duration_since(Instant::now()))).unwrap();
        while reactor.turn(&mut log, Some(Duration::ZERO)).unwrap().more {}
    }
    thread.join().unwrap().unwrap();
    log.sort_unstable();
    assert_eq!(log, ["contact", "thread", "timer"]);
}
