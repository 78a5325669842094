//! Publishing: all holders are asked, and those that do not answer are not waited for.

use std::collections::HashSet;

use khashmir::lookup::Step;
use khashmir::publish::Publish;
use khashmir::random::{Random, seed_from_number, seeded};
use khashmir::time::UnixTime;
use khashmir::{CallError, Contact, Id, StoreReply};
use rand::RngExt;

const UNTIL: UnixTime = UnixTime(1_000_000_000);

/// Those with a receipt that says so.
fn accepted(publish: &Publish) -> Vec<Contact> {
    let took = |reply: &StoreReply| *reply == StoreReply::Accepted { until: UNTIL };
    let receipts = publish.receipts();
    receipts.iter().filter(|receipt| took(&receipt.reply)).map(|receipt| receipt.contact).collect()
}

fn rng(seed: u64) -> Random {
    seeded(seed_from_number(seed))
}

fn contact(id: Id, port: u16) -> Contact {
    Contact { id, addr: ([10, 0, 0, 1], port).into() }
}

#[test]
fn a_silent_holder_is_not_waited_for_when_enough_have_accepted() {
    let holders: Vec<Contact> =
        (1..5).map(|n| Contact { id: Id::of(&[n]), addr: ([10, 0, 0, n], 1).into() }).collect();
    let mut publish = Publish::new(holders.clone(), 1, 2);
    assert_eq!(publish.next(), Step::Query(holders[0]));
    assert_eq!(publish.next(), Step::Wait);
    publish.on_slow(&holders[0].id);
    for holder in &holders[1..3] {
        assert_eq!(publish.next(), Step::Query(*holder));
        publish.on_accept(&holder.id, UNTIL);
        assert!(!publish.is_decided(), "not all have been asked");
    }
    assert_eq!(publish.next(), Step::Query(holders[3]));
    publish.on_failure(&holders[3].id, CallError::Timeout);
    assert!(!publish.is_decided(), "one is only late");
    publish.on_silence(&holders[0].id);
    assert!(publish.is_decided());
    assert_eq!(publish.next(), Step::Wait);
    assert_eq!(publish.receipts()[0].reply, StoreReply::Silent);
    publish.on_accept(&holders[0].id, UNTIL);
    assert_eq!(publish.next(), Step::Done);
    assert_eq!(accepted(&publish), &holders[..3]);
    assert_eq!(publish.receipts()[3].reply, StoreReply::NoAnswer(CallError::Timeout));
}

#[test]
fn all_holders_are_asked_and_those_that_accept_stay_in_order() {
    for seed in 0..50 {
        let mut rng = rng(seed);
        let count = rng.random_range(0..12u16);
        let concurrency = rng.random_range(1..5);
        let holders: Vec<Contact> = (0..count).map(|n| contact(Id::random(&mut rng), n + 1)).collect();
        let twice = holders.iter().chain(holders.first());
        let mut publish = Publish::new(twice.copied(), concurrency, 3);
        let (mut asked, mut in_flight, mut taken) = (Vec::new(), Vec::new(), HashSet::new());
        loop {
            match publish.next() {
                Step::Query(peer) => {
                    asked.push(peer);
                    in_flight.push(peer);
                    assert!(in_flight.len() <= concurrency, "seed {seed}");
                    continue;
                }
                Step::Wait => assert!(!in_flight.is_empty(), "seed {seed}"),
                Step::Done => break,
            }
            let peer = in_flight.swap_remove(rng.random_range(0..in_flight.len()));
            if rng.random_bool(0.5) {
                publish.on_failure(&peer.id, CallError::Refused("no".into()));
            }
            // A late acceptance is one, too; what comes after it changes nothing.
            if rng.random_bool(0.5) {
                publish.on_accept(&peer.id, UNTIL);
                taken.insert(peer);
            }
            publish.on_failure(&peer.id, CallError::Timeout);
            publish.on_accept(&Id::of(b"a stranger"), UNTIL);
        }
        assert_eq!(asked, holders, "seed {seed}");
        let expected: Vec<Contact> = holders.iter().copied().filter(|c| taken.contains(c)).collect();
        assert_eq!(accepted(&publish), expected, "seed {seed}");
        assert_eq!(publish.accepted(), expected.len(), "seed {seed}");
        let asked: Vec<Contact> = publish.receipts().iter().map(|receipt| receipt.contact).collect();
        assert_eq!(asked, holders, "seed {seed}");
        assert_eq!(publish.needed(), 3);
        assert_eq!(publish.enough(), expected.len() >= 3, "seed {seed}");
    }
}

#[test]
fn a_holder_that_was_not_asked_yet_cannot_accept() {
    let holders = [contact(Id::of(b"first"), 1), contact(Id::of(b"second"), 2)];
    let mut publish = Publish::new(holders, 1, 1);
    assert_eq!(publish.next(), Step::Query(holders[0]));
    publish.on_accept(&holders[1].id, UNTIL);
    publish.on_failure(&holders[1].id, CallError::Timeout);
    assert!(publish.accepted() == 0 && !publish.enough());
    assert_eq!(publish.receipts().len(), 1, "the other has not been asked");
    assert_eq!(publish.next(), Step::Wait);
    publish.on_failure(&holders[0].id, CallError::Timeout);
    assert_eq!(publish.next(), Step::Query(holders[1]));
    publish.on_accept(&holders[1].id, UNTIL);
    assert_eq!(publish.next(), Step::Done);
    assert!(publish.enough());
}
