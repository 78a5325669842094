//! The search for the nodes nearest to a target (Kademlia, section 2.3).
//!
//! A [`Lookup`] does no I/O. Its owner sends the requests that it calls for and
//! tells it what came of them:
//!
//! ```
//! use khashmir::lookup::{Goal, Lookup, Step};
//! use khashmir::{Contact, Id};
//!
//! let peer = Contact { id: Id::of(b"peer"), addr: "192.0.2.1:4444".parse().unwrap() };
//! let mut lookup = Lookup::new(Id::of(b"key"), Id::of(b"own"), Goal::Closest, 8, 4, [peer]);
//! assert_eq!(lookup.next(), Step::Query(peer));
//! assert_eq!(lookup.next(), Step::Wait);
//! lookup.on_reply(&peer.id, []);
//! assert_eq!(lookup.next(), Step::Done);
//! assert!(lookup.closest().eq([peer]));
//! ```

use crate::contact::Contact;
use crate::id::Id;

/// How many contacts of one answer are looked at. Peers send at most K of them,
/// and K is at most 64.
pub const MAX_PER_ANSWER: usize = 64;
/// How many contacts of one family may wait to be asked; of more, the nearest are kept.
pub const MAX_UNASKED: usize = 128;
/// Of how many peers a second address is remembered.
const MAX_ELSEWHERE: usize = 32;
/// How many requests one lookup makes at most. An honest network takes K and a
/// few for each of its log2 N steps; only made-up contacts lead beyond this.
pub const MAX_REQUESTS: usize = 512;

/// What to do next in a [`Lookup`] or a [`Publish`](crate::publish::Publish).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send the request to this peer, and come back for more at once.
    Query(Contact),
    /// Nothing until something has come of a request in flight.
    Wait,
    /// It is over, and stays so.
    Done,
}

/// What a lookup is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// The K nodes nearest to the target.
    Closest,
    /// The node whose id the target is: done as soon as that one has answered.
    Exact,
    /// The values under the target. Each of the K nearest is asked, since some
    /// nodes keep values that the nearest do not have.
    Values,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    New,
    Asked,
    /// Asked, and late: another may be asked beside it.
    Slow,
    /// Asked, and so late that it counts as failed, unless too few others answer.
    Silent,
    Answered,
    Failed,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    contact: Contact,
    /// How many referrals led to it.
    hops: u16,
    state: State,
    /// It was asked, or is to be, at a second address.
    moved: bool,
}

impl Candidate {
    /// 0 over IPv4, 1 over IPv6.
    fn family(&self) -> usize {
        usize::from(self.contact.addr.is_ipv6())
    }
}

/// One lookup under way.
///
/// Over IPv4 and IPv6 it is two that go side by side, for whoever reaches both: each has its
/// own K nearest and its own requests in flight, and it is done when both are. With contacts
/// of one family only, there is but one.
///
/// # Against peers that lie
///
/// A peer may name nodes that do not exist, and ever nearer ones without end.
/// One answer brings in at most K new contacts, so that it takes many liars to
/// crowd the others out; at most [`MAX_UNASKED`] contacts wait; and after
/// [`MAX_REQUESTS`] requests no more are made. So a lookup always ends, and never
/// keeps more contacts than the sum of these two, for each family. Whether a node deserves its id
/// cannot be checked here: who holds the nearest ids decides what is found.
#[derive(Debug)]
pub struct Lookup {
    target: Id,
    own: Id,
    goal: Goal,
    k: usize,
    concurrency: usize,
    /// By distance to the target, nearest first; no id twice.
    candidates: Vec<Candidate>,
    /// Peers that are said to be at a second address, each once.
    elsewhere: Vec<Contact>,
    /// How many leading bits somebody must share with the target.
    must_share: Option<usize>,
    /// How many candidates there are of each family.
    known: [usize; 2],
    /// How many candidates are in each state but the last, which follows.
    unasked: [usize; 2],
    active: [usize; 2],
    slow: usize,
    silent: usize,
    answered: usize,
    asked: usize,
    /// The target itself has failed to answer, and was asked again.
    insisted: bool,
    done: bool,
}

impl Lookup {
    /// A lookup for `target` by the node `own`, which asks at most `concurrency`
    /// peers at a time and starts from `seeds`, in any order (of more than
    /// [`MAX_UNASKED`], the nearest). `k` and `concurrency` are at least 1.
    pub fn new(
        target: Id,
        own: Id,
        goal: Goal,
        k: usize,
        concurrency: usize,
        seeds: impl IntoIterator<Item = Contact>,
    ) -> Self {
        let mut lookup = Lookup {
            target,
            own,
            goal,
            k: k.max(1),
            concurrency: concurrency.max(1),
            candidates: Vec::new(),
            elsewhere: Vec::new(),
            must_share: None,
            known: [0; 2],
            unasked: [0; 2],
            active: [0; 2],
            slow: 0,
            silent: 0,
            answered: 0,
            asked: 0,
            insisted: false,
            done: false,
        };
        for contact in seeds {
            lookup.insert(contact, 0);
        }
        lookup
    }

    /// What the lookup is for.
    pub fn target(&self) -> &Id {
        &self.target
    }

    /// What it is to find there.
    pub fn goal(&self) -> Goal {
        self.goal
    }

    /// Says that there must be nodes which share more leading bits with the target than
    /// this one. Until one of them has answered, the lookup goes on with all that it
    /// knows: a node that has just joined may know only such as know no way there either.
    #[must_use]
    pub fn expecting_nearer(mut self) -> Self {
        self.must_share = Some(self.target.distance(&self.own).leading_zeros() + 1);
        self
    }

    /// There must be nodes nearer by, and none of this family has answered.
    fn is_astray(&self, family: usize) -> bool {
        self.must_share.is_some_and(|bits| {
            let shares = |c: &&Candidate| self.target.distance(&c.contact.id).leading_zeros() >= bits;
            let mut nearer = self.candidates.iter().take_while(shares);
            !nearer.any(|c| c.state == State::Answered && c.family() == family)
        })
    }

    /// What to do next: the nearest peer that has not been asked, if it is among the K
    /// nearest of its family that have not failed; done when each of those has answered. (No
    /// others are asked beside the one node that is looked for, unless it is late.) While
    /// fewer than half of K have answered in all, those that are silent are waited for, too: a
    /// node that knows few others needs each of them.
    #[allow(clippy::should_implement_trait, reason = "it is no iterator: after `Wait` there may be more")]
    pub fn next(&mut self) -> Step {
        if self.done {
            return Step::Done;
        }
        // While the one that is looked for may be about to answer, no others are needed.
        if self.goal == Goal::Exact
            && self.candidates.first().is_some_and(|c| c.contact.id == self.target && c.state == State::Asked)
        {
            return Step::Wait;
        }
        // How many of each are still to be looked at.
        let mut window = [0, 1].map(|family| match self.known[family] {
            0 => 0,
            known if self.is_astray(family) => known,
            known => known.min(self.k),
        });
        let mut waiting = false;
        for candidate in &mut self.candidates {
            let family = candidate.family();
            if window == [0; 2] {
                break;
            }
            if matches!(candidate.state, State::Failed | State::Silent) || window[family] == 0 {
                continue;
            }
            window[family] -= 1;
            match candidate.state {
                State::New if self.asked >= MAX_REQUESTS => {
                    waiting = self.active != [0; 2] || self.slow > 0;
                    break;
                }
                State::New if self.active[family] >= self.concurrency => {
                    waiting = true;
                    window[family] = 0;
                }
                State::New => {
                    candidate.state = State::Asked;
                    self.unasked[family] -= 1;
                    self.active[family] += 1;
                    self.asked += 1;
                    return Step::Query(candidate.contact);
                }
                State::Asked | State::Slow => waiting = true,
                State::Silent | State::Answered | State::Failed => {}
            }
        }
        if waiting || (self.silent > 0 && self.answered < self.k.div_ceil(2)) {
            return Step::Wait;
        }
        self.done = true;
        Step::Done
    }

    /// The peer `from` has answered with contacts it knows.
    ///
    /// Passed over are answers of peers that were not asked or have answered
    /// before, and what comes after the end; contacts that are this node itself,
    /// known already (a second address is for when the first one fails) or not reachable; and all but the
    /// first K new ones, among at most [`MAX_PER_ANSWER`] contacts. An answer that
    /// comes after [`on_failure`](Self::on_failure) counts.
    pub fn on_reply(&mut self, from: &Id, heard: impl IntoIterator<Item = Contact>) {
        let Some(hops) = self.settle(from, State::Answered) else { return };
        if self.goal == Goal::Exact && *from == self.target {
            self.done = true;
            return;
        }
        let mut room = self.k;
        for contact in heard.into_iter().take(MAX_PER_ANSWER) {
            room -= usize::from(self.insert(contact, hops.saturating_add(1)));
            if room == 0 {
                break;
            }
        }
    }

    /// Whether the last request to a peer went to this address of it. What becomes of those
    /// before, to where it was said to be first, tells nothing of it.
    pub fn was_last_asked_at(&self, contact: &Contact) -> bool {
        self.position(&contact.id).is_some_and(|at| self.candidates[at].contact.addr == contact.addr)
    }

    /// An answer has come from this address of a peer: it is there, although it may have been
    /// asked at a second one since, or be about to be. To be told before
    /// [`on_reply`](Self::on_reply).
    pub fn on_found_at(&mut self, contact: &Contact) {
        let Some(at) = self.position(&contact.id) else { return };
        let candidate = &mut self.candidates[at];
        if !candidate.moved || candidate.state == State::Answered {
            return;
        }
        if candidate.state == State::New && candidate.contact.addr != contact.addr {
            // It was asked, and was late.
            candidate.state = State::Slow;
            self.slow += 1;
            self.unasked[candidate.family()] -= 1;
        }
        candidate.contact.addr = contact.addr;
    }

    /// The peer `from` has not answered, or not as it should. If others know it under
    /// another address, it is asked there.
    pub fn on_failure(&mut self, from: &Id) {
        if !self.try_elsewhere(from) {
            self.settle(from, State::Failed);
        }
    }

    /// No sign of the peer `from` has come: as with [`on_failure`](Self::on_failure). But the
    /// one node that is looked for is asked again, once: on a bad network it happens to one in
    /// a thousand, while all others know that it is there.
    pub fn on_unreachable(&mut self, from: &Id) {
        if self.try_elsewhere(from) || self.settle(from, State::Failed).is_none() {
            return;
        }
        if self.is_the_one(from)
            && !std::mem::replace(&mut self.insisted, true)
            && let Some(at) = self.position(from)
        {
            self.candidates[at].state = State::New;
            self.unasked[self.candidates[at].family()] += 1;
        }
    }

    /// Whether this peer is asked for the second time.
    pub fn insists_on(&self, id: &Id) -> bool {
        self.insisted && self.is_the_one(id)
    }

    /// Whether this is the node that is looked for.
    fn is_the_one(&self, id: &Id) -> bool {
        self.goal == Goal::Exact && *id == self.target
    }

    /// The peer `from` takes longer than usual: it may still answer, but another
    /// is asked beside it.
    pub fn on_slow(&mut self, from: &Id) {
        if self.try_elsewhere(from) {
            return;
        }
        if let Some(at) = self.position(from)
            && self.candidates[at].state == State::Asked
        {
            self.candidates[at].state = State::Slow;
            self.active[self.candidates[at].family()] -= 1;
            self.slow += 1;
        }
    }

    /// The peer `from` takes so long that the lookup goes on without it, and ends without it
    /// when enough others have answered. But the one node that is looked for is worth a longer
    /// wait, since all others have been asked by then.
    pub fn on_silence(&mut self, from: &Id) {
        if self.is_the_one(from) {
            self.on_slow(from);
        } else if !self.try_elsewhere(from) && self.settle(from, State::Silent).is_some() {
            self.silent += 1;
        }
    }

    /// The peers that have answered, nearest first, at most K of each family.
    pub fn closest(&self) -> impl Iterator<Item = Contact> {
        self.closest_candidates().map(|candidate| candidate.contact)
    }

    /// How many peers were asked.
    pub fn asked(&self) -> usize {
        self.asked
    }

    /// How many have answered.
    pub fn answered(&self) -> usize {
        self.answered
    }

    /// How many have failed.
    pub fn failed(&self) -> usize {
        self.asked - self.answered - self.in_flight()
    }

    /// How many have been asked of whom nothing has come yet, slow ones included, silent ones not.
    /// When the lookup is done, whose answers are no longer needed.
    pub fn in_flight(&self) -> usize {
        self.active[0] + self.active[1] + self.slow
    }

    /// The longest chain of referrals that led to one of the
    /// [`closest`](Self::closest); 0 when all were among the seeds.
    pub fn hops(&self) -> u16 {
        self.closest_candidates().map(|candidate| candidate.hops).max().unwrap_or(0)
    }

    fn closest_candidates(&self) -> impl Iterator<Item = &Candidate> {
        let mut left = [self.k; 2];
        self.candidates.iter().filter(move |candidate| {
            let left = &mut left[candidate.family()];
            let taken = candidate.state == State::Answered && *left > 0;
            *left -= usize::from(taken);
            taken
        })
    }

    /// Where the candidate of this id stands. (Distances to one target are as
    /// different as the ids.)
    fn position(&self, id: &Id) -> Option<usize> {
        self.search(id).ok()
    }

    fn search(&self, id: &Id) -> Result<usize, usize> {
        let distance = self.target.distance(id);
        self.candidates
            .binary_search_by_key(&distance, |candidate| self.target.distance(&candidate.contact.id))
    }

    /// Ends the request to `from`, and returns the peer's hops; `None` when there
    /// is no such request, or nothing to change about it.
    fn settle(&mut self, from: &Id, outcome: State) -> Option<u16> {
        if self.done {
            return None;
        }
        let at = self.position(from)?;
        let candidate = self.candidates.get_mut(at)?;
        match candidate.state {
            State::Asked => self.active[candidate.family()] -= 1,
            State::Slow => self.slow -= 1,
            State::Silent if outcome != State::Silent => self.silent -= 1,
            State::Failed if outcome == State::Answered => {}
            State::New | State::Silent | State::Answered | State::Failed => return None,
        }
        candidate.state = outcome;
        self.answered += usize::from(outcome == State::Answered);
        Some(candidate.hops)
    }

    /// The peer does not answer where it was asked. Whether it is known elsewhere, too.
    fn try_elsewhere(&mut self, id: &Id) -> bool {
        if self.done {
            return false;
        }
        let Some(other) = self.elsewhere.iter().position(|contact| contact.id == *id) else { return false };
        let Some(at) = self.position(id) else { return false };
        let family = self.candidates[at].family();
        match self.candidates[at].state {
            State::Asked => self.active[family] -= 1,
            State::Slow => self.slow -= 1,
            State::Silent => self.silent -= 1,
            State::New | State::Answered | State::Failed => return false,
        }
        self.candidates[at].contact = self.elsewhere.swap_remove(other);
        self.candidates[at].state = State::New;
        self.candidates[at].moved = true;
        self.unasked[family] += 1;
        true
    }

    /// A peer which has not answered is said to be elsewhere: for when it does not answer
    /// where it was asked, or for now, if it has not. Each moves once.
    fn note_elsewhere(&mut self, at: usize, contact: Contact) {
        let known = &mut self.candidates[at];
        let family = known.family();
        if known.moved
            || known.contact.addr == contact.addr
            || known.contact.addr.is_ipv4() != contact.addr.is_ipv4()
        {
            return;
        }
        match known.state {
            State::New | State::Asked => {
                if self.elsewhere.len() < MAX_ELSEWHERE
                    && self.elsewhere.iter().all(|other| other.id != contact.id)
                {
                    self.elsewhere.push(contact);
                }
            }
            State::Slow | State::Silent | State::Failed => {
                self.slow -= usize::from(known.state == State::Slow);
                self.silent -= usize::from(known.state == State::Silent);
                (known.contact, known.state, known.moved) = (contact, State::New, true);
                self.unasked[family] += 1;
            }
            State::Answered => {}
        }
    }

    /// Adds a contact to those to ask; whether it was new and near enough.
    fn insert(&mut self, contact: Contact, hops: u16) -> bool {
        if contact.id == self.own || !contact.is_reachable() {
            return false;
        }
        let at = match self.search(&contact.id) {
            Ok(at) => {
                self.note_elsewhere(at, contact);
                return false;
            }
            Err(at) => at,
        };
        let candidate = Candidate { contact, hops, state: State::New, moved: false };
        let family = candidate.family();
        if self.unasked[family] >= MAX_UNASKED {
            let waits = |other: &Candidate| other.state == State::New && other.family() == family;
            match self.candidates.iter().rposition(waits) {
                Some(farthest) if farthest >= at => {
                    self.candidates.remove(farthest);
                    self.unasked[family] -= 1;
                    self.known[family] -= 1;
                }
                _ => return false,
            }
        }
        self.candidates.insert(at, candidate);
        self.unasked[family] += 1;
        self.known[family] += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_small() {
        assert!(size_of::<Candidate>() * (MAX_UNASKED + MAX_REQUESTS) <= 36 * 1024);
    }
}
