//! Handing a value to the nodes that are to hold it (Kademlia, section 2.5).

use crate::contact::Contact;
use crate::id::Id;
use crate::lookup::Step;
use crate::outcome::{Receipt, StoreReply};
use crate::time::UnixTime;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    New,
    Asked,
    /// Asked, and late: another may be asked beside it.
    Slow,
    /// Asked, and so late that it matters only while too few have accepted.
    Silent,
    Accepted,
    Failed,
}

/// One value on its way to its holders.
///
/// All of them are asked, not just as many as are needed: nodes come and go, and
/// the more hold a value the longer it lives. But it [is decided](Self::is_decided)
/// without those that do not answer, when enough of the others have accepted. Does no
/// I/O: the owner sends the requests and tells what came of them, as with a
/// [`Lookup`](crate::lookup::Lookup).
#[derive(Debug)]
pub struct Publish {
    concurrency: usize,
    needed: usize,
    holders: Vec<Holder>,
    /// Those before this one have been asked.
    first_new: usize,
    /// How many are in the state Asked.
    active: usize,
    /// How many are Slow.
    slow: usize,
    /// How many are Silent.
    silent: usize,
    /// How many have Accepted.
    accepted: usize,
}

#[derive(Debug)]
struct Holder {
    contact: Contact,
    state: State,
    /// What it said; Silent until it has.
    reply: StoreReply,
}

impl Publish {
    /// Asks `holders`, nearest first, at most `concurrency` (at least 1) at a
    /// time. `needed` of them must accept for the value to count as stored. Of
    /// two holders of one id the first counts.
    pub fn new(holders: impl IntoIterator<Item = Contact>, concurrency: usize, needed: usize) -> Self {
        let mut distinct: Vec<Holder> = Vec::new();
        for contact in holders {
            if distinct.iter().all(|other| other.contact.id != contact.id) {
                distinct.push(Holder { contact, state: State::New, reply: StoreReply::Silent });
            }
        }
        let concurrency = concurrency.max(1);
        Publish {
            concurrency,
            needed,
            holders: distinct,
            first_new: 0,
            active: 0,
            slow: 0,
            silent: 0,
            accepted: 0,
        }
    }

    /// What to do next: done when each holder has accepted or failed.
    #[allow(clippy::should_implement_trait, reason = "it is no iterator: after `Wait` there may be more")]
    pub fn next(&mut self) -> Step {
        match self.holders.get_mut(self.first_new) {
            Some(holder) if self.active < self.concurrency => {
                holder.state = State::Asked;
                self.first_new += 1;
                self.active += 1;
                Step::Query(holder.contact)
            }
            None if self.active + self.slow + self.silent == 0 => Step::Done,
            _ => Step::Wait,
        }
    }

    /// The holder `from` has taken the value, and keeps it until then. Counts after
    /// [`on_failure`](Self::on_failure), too; of others than the holders asked it
    /// counts for nothing.
    pub fn on_accept(&mut self, from: &Id, until: UnixTime) {
        self.settle(from, State::Accepted, StoreReply::Accepted { until });
    }

    /// The holder `from` has not answered, or has refused.
    pub fn on_failure(&mut self, from: &Id, why: impl Into<StoreReply>) {
        self.settle(from, State::Failed, why.into());
    }

    /// The holder `from` takes longer than usual: the next one is asked beside it.
    pub fn on_slow(&mut self, from: &Id) {
        self.settle(from, State::Slow, StoreReply::Silent);
    }

    /// The holder `from` takes so long that it is waited for only if it is needed.
    pub fn on_silence(&mut self, from: &Id) {
        self.settle(from, State::Silent, StoreReply::Silent);
    }

    /// Whether it is known what comes of it: enough have accepted, and those who have not
    /// answered are silent. They may still take the value.
    pub fn is_decided(&self) -> bool {
        self.first_new >= self.holders.len() && self.active + self.slow == 0 && self.enough()
    }

    /// Whether this is one of those that are asked, at the address that it is asked at.
    pub fn is_holder(&self, contact: &Contact) -> bool {
        self.holders.iter().any(|holder| holder.contact == *contact)
    }

    /// How many have taken the value.
    pub fn accepted(&self) -> usize {
        self.accepted
    }

    /// What each of those said that were asked, in the order in which they were given.
    pub fn receipts(&self) -> Vec<Receipt> {
        let asked = &self.holders[..self.first_new];
        asked.iter().map(|it| Receipt { contact: it.contact, reply: it.reply.clone() }).collect()
    }

    /// Whether any has been asked.
    pub fn has_begun(&self) -> bool {
        self.first_new > 0
    }

    /// How many must take the value.
    pub fn needed(&self) -> usize {
        self.needed
    }

    /// Whether so many have taken it.
    pub fn enough(&self) -> bool {
        self.accepted >= self.needed
    }

    /// Notes what came of the request to `from`, if that changes anything.
    fn settle(&mut self, from: &Id, outcome: State, reply: StoreReply) {
        let Some(holder) = self.holders.iter_mut().find(|holder| holder.contact.id == *from) else {
            return;
        };
        match (holder.state, outcome) {
            (State::Asked, _) => self.active -= 1,
            (State::Slow, State::Silent | State::Accepted | State::Failed) => self.slow -= 1,
            (State::Silent, State::Accepted | State::Failed) => self.silent -= 1,
            (State::Failed, State::Accepted) => {}
            _ => return,
        }
        (holder.state, holder.reply) = (outcome, reply);
        self.slow += usize::from(outcome == State::Slow);
        self.silent += usize::from(outcome == State::Silent);
        self.accepted += usize::from(outcome == State::Accepted);
    }
}
