//! Who is there.

use std::collections::HashMap;

use crate::contact::Contact;
use crate::id::Id;
use crate::random::Random;
use crate::sim::quantile::below;
use crate::sim::simulation::Host;

/// The hosts that are alive and in the network, for random choices among them.
#[derive(Debug, Default)]
pub(super) struct Roster {
    members: Vec<Member>,
    /// Where each host stands among the members, by its number.
    place: Vec<u32>,
    /// Who bears an id. Asked, never gone through.
    by_id: HashMap<Id, Host>,
}

/// One that is alive and in the network.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    pub host: Host,
    pub contact: Contact,
    /// Not one of our nodes: it answers, but nothing can be asked of it here.
    pub foreign: bool,
}

const NOWHERE: u32 = u32::MAX;

impl Roster {
    pub fn insert(&mut self, member: Member) {
        let number = member.host.0 as usize;
        if self.place.len() <= number {
            self.place.resize(number + 1, NOWHERE);
        }
        self.place[number] = self.members.len() as u32;
        self.by_id.insert(member.contact.id, member.host);
        self.members.push(member);
    }

    pub fn remove(&mut self, host: Host) {
        let Some(place) = self.place_of(host) else { return };
        let gone = self.members.swap_remove(place);
        self.by_id.remove(&gone.contact.id);
        self.place[host.0 as usize] = NOWHERE;
        if let Some(moved) = self.members.get(place) {
            self.place[moved.host.0 as usize] = place as u32;
        }
    }

    fn place_of(&self, host: Host) -> Option<usize> {
        self.place.get(host.0 as usize).filter(|&&place| place != NOWHERE).map(|&place| place as usize)
    }

    pub fn contains(&self, host: Host) -> bool {
        self.place_of(host).is_some()
    }

    pub fn is_alive(&self, id: &Id) -> bool {
        self.by_id.contains_key(id)
    }

    pub fn len(&self) -> usize {
        self.members.len()
    }

    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// A random one that is `fit`; `None` when there seems to be none.
    pub fn pick(&self, rng: &mut Random, fit: impl Fn(&Member) -> bool) -> Option<Member> {
        // A share of a thousandth that is fit is found with all but one in e^10.
        for _ in 0..10_000 {
            let member = self.members.get(below(rng, self.members.len() as u64) as usize)?;
            if fit(member) {
                return Some(*member);
            }
        }
        None
    }
}
