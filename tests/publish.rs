//! Publishing to holders that do not answer.

use khashmir::lookup::Step;
use khashmir::publish::Publish;
use khashmir::{Contact, Id};

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
        publish.on_accept(&holder.id);
        assert!(!publish.is_decided(), "not all have been asked");
    }
    assert_eq!(publish.next(), Step::Query(holders[3]));
    publish.on_failure(&holders[3].id);
    assert!(!publish.is_decided(), "one is only late");
    publish.on_silence(&holders[0].id);
    assert!(publish.is_decided());
    assert_eq!(publish.next(), Step::Wait);
    publish.on_accept(&holders[0].id);
    assert_eq!(publish.next(), Step::Done);
    assert_eq!(publish.accepted(), &holders[..3]);
}
