//! How a network comes about, and how newcomers get into it.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::Rng;

use super::roster::Member;
use super::run::{Job, Run};
use super::{Entry, Scenario};
use crate::contact::Contact;
use crate::engine::{NodeOptions, Outcome};
use crate::error::StartError;
use crate::id::{ID_BITS, Id};
use crate::random::Random;
use crate::sim::network::Latency;
use crate::sim::original::{Original, Outcome as Joined};
use crate::sim::place::Place;
use crate::sim::quantile::{below, chance};
use crate::sim::simulation::{Host, Setup};
use crate::time::Time;

/// How many others a node asks at most when it enters.
const INTRODUCERS: u64 = 3;
/// How long the scenario waits for nodes to join.
const PATIENCE: Duration = Duration::from_secs(3600);
/// So many nodes are there before the first that is behind a translator.
const OPEN: usize = 10;

/// Nodes that are not in the network yet.
#[derive(Debug, Default)]
pub(super) struct Entrants(BTreeMap<Host, Entrant>);

#[derive(Debug)]
struct Entrant {
    began: Time,
    /// How many it has asked of whom nothing has come yet.
    asking: u32,
    /// It knows somebody, and looks for its neighbours.
    looking: bool,
}

/// Whether a node was there from the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Settled,
    Newcomer,
}

impl Entrants {
    pub fn forget(&mut self, host: Host) {
        self.0.remove(&host);
    }
}

impl Run<'_> {
    /// Builds the network.
    pub fn build(&mut self) -> Result<(), StartError> {
        let nodes = self.scenario.nodes as usize;
        match self.scenario.entry {
            Entry::Seeded => {
                for _ in 0..nodes {
                    let (host, _) = self.add()?;
                    self.admit(host);
                }
                self.seed_tables();
            }
            Entry::Joining(at_once) => {
                let mut added = 0;
                while self.roster.len() < nodes {
                    let most = (self.roster.len() / 2).clamp(1, at_once.max(1) as usize);
                    while added < nodes && self.entrants.0.len() < most {
                        added += 1;
                        self.enter(Standing::Settled)?;
                    }
                    if self.roster.len() < nodes {
                        // Those who are not in by then go on trying.
                        let Some(happening) = self.sim.next(Time::ZERO + PATIENCE) else { break };
                        self.take(happening)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn add_node(&mut self) -> Result<Host, StartError> {
        let Scenario { config, conditions, translated, .. } = self.scenario;
        let id = Some(Id::random(&mut self.rng));
        let options = NodeOptions { config: config.clone(), id, store: None };
        let mut place = self.scenario.place;
        if let Latency::Regions(regions) = &conditions.latency {
            place.region = below(&mut self.rng, regions.round_trips.len() as u64) as u16;
        }
        if self.roster.len() > OPEN && chance(&mut self.rng, *translated) {
            place.translation = Some(place.translation.unwrap_or_default());
        }
        self.sim.add_node(Setup { options, place })
    }

    /// Starts a peer of 2003.
    fn add_original(&mut self) -> Result<Host, StartError> {
        let seed = self.rng.next_u64();
        self.sim.add_peer_at(Place::default(), |addr| Box::new(Original::new(addr, seed)))
    }

    /// It is in the network now.
    fn admit(&mut self, host: Host) {
        let ours = self.sim.contact(host);
        let theirs = || self.sim.peer_mut::<Original>(host).map(|peer| peer.contact());
        let foreign = ours.is_none();
        if let Some(contact) = ours.or_else(theirs) {
            self.note_lived();
            self.roster.insert(Member { host, contact, foreign });
        }
    }

    fn seed_tables(&mut self) {
        let mut sorted: Vec<Contact> = self.roster.members().iter().map(|member| member.contact).collect();
        sorted.sort_unstable_by_key(|contact| contact.id);
        let k = self.scenario.config.k;
        for place in 0..self.roster.len() {
            let member = self.roster.members()[place];
            for (_, others) in ranges(&member.contact.id, &sorted) {
                for place in choose(others.len(), k, &mut self.rng) {
                    self.assume_contact(&member, others[place]);
                }
            }
        }
    }

    fn assume_contact(&mut self, member: &Member, contact: Contact) {
        if !member.foreign {
            self.sim.assume_contact(member.host, contact);
        } else if let Some(peer) = self.sim.peer_mut::<Original>(member.host) {
            peer.assume_contact(Time::ZERO, contact);
        }
    }

    /// Starts a node, which is to join the network.
    pub fn enter(&mut self, standing: Standing) -> Result<(), StartError> {
        let (host, foreign) = self.add()?;
        if standing == Standing::Newcomer {
            self.plan_leaving(host, standing);
        }
        if self.roster.len() == 0 {
            // Nobody is there to ask.
            self.admit(host);
            return Ok(());
        }
        self.entrants.0.insert(host, Entrant { began: self.sim.now(), asking: 0, looking: false });
        if foreign {
            self.introduce_original(host);
        } else {
            self.introduce(host);
        }
        Ok(())
    }

    /// Starts a node or a peer of 2003; whether it is one.
    fn add(&mut self) -> Result<(Host, bool), StartError> {
        // The first of all is one of ours: who else would tell of its contacts.
        if self.roster.len() > 0 && chance(&mut self.rng, self.scenario.originals) {
            return Ok((self.add_original()?, true));
        }
        Ok((self.add_node()?, false))
    }

    /// Has a peer of 2003 join through one that is in.
    fn introduce_original(&mut self, host: Host) {
        let now = self.sim.now();
        if let Some(introducer) = self.pick(|_| true)
            && let Some(peer) = self.sim.peer_mut::<Original>(host)
        {
            peer.join(now, introducer.contact.addr);
        }
        self.look_after(host);
    }

    /// Looks whether a peer of 2003 is in the network by now, or has failed to get there.
    pub fn ask_original(&mut self, host: Host) {
        let Some(entrant) = self.entrants.0.get(&host) else { return };
        let began = entrant.began;
        match self.sim.peer_mut::<Original>(host).and_then(Original::poll_outcome) {
            Some((_, Joined::Nodes(nodes))) if !nodes.is_empty() => {
                self.entrants.forget(host);
                self.report.joins.count(true, self.sim.now().since(began));
                self.admit(host);
            }
            Some(_) => self.introduce_original(host),
            None => self.look_after(host),
        }
    }

    /// Has a node ask some that are in.
    fn introduce(&mut self, host: Host) {
        for _ in 0..=below(&mut self.rng, INTRODUCERS) {
            let Some(introducer) = self.pick(|_| true) else { continue };
            let Some(operation) = self.sim.add_contact(host, introducer.contact.addr) else { continue };
            self.jobs.insert(operation, (self.sim.now(), Job::Greeting(host)));
            if let Some(entrant) = self.entrants.0.get_mut(&host) {
                entrant.asking += 1;
            }
        }
    }

    /// One whom an entering node asked has answered, or has not.
    pub fn greeted(&mut self, host: Host, outcome: &Outcome) {
        let Some(entrant) = self.entrants.0.get_mut(&host) else { return };
        entrant.asking -= 1;
        if entrant.looking {
            return;
        }
        if matches!(outcome, Outcome::Contact(Ok(_))) {
            entrant.looking = true;
            if let Some(operation) = self.sim.find_close_nodes(host) {
                self.jobs.insert(operation, (self.sim.now(), Job::Arrival(host)));
            }
        } else if entrant.asking == 0 {
            self.introduce(host);
        }
    }

    /// An entering node has found its neighbours, or has not.
    pub fn arrived(&mut self, host: Host, outcome: &Outcome) {
        let Some(entrant) = self.entrants.0.get_mut(&host) else { return };
        if matches!(outcome, Outcome::Nodes(Ok(nodes)) if !nodes.is_empty()) {
            let took = self.sim.now().since(entrant.began);
            self.entrants.forget(host);
            self.report.joins.count(true, took);
            self.admit(host);
        } else {
            entrant.looking = false;
            self.introduce(host);
        }
    }
}

/// All but `own`, by how many leading bits they share with it. `sorted`: everybody, by id.
pub(super) fn ranges<'s>(
    own: &'s Id,
    sorted: &'s [Contact],
) -> impl Iterator<Item = (usize, &'s [Contact])> + use<'s> {
    // Those that share the first `depth` bits with `own` stand together.
    let mut kin = sorted;
    (0..ID_BITS).map_while(move |depth| {
        if kin.len() <= 1 {
            return None;
        }
        let (zeros, ones) = kin.split_at(kin.partition_point(|contact| !bit(&contact.id, depth)));
        let others;
        (kin, others) = if bit(own, depth) { (ones, zeros) } else { (zeros, ones) };
        Some((depth, others))
    })
}

fn bit(id: &Id, at: usize) -> bool {
    id.as_bytes()[at / 8] & (0x80 >> (at % 8)) != 0
}

/// `count` different numbers below `end`, or all there are, each set with the same chance (Floyd's
/// algorithm; Bentley, *More Programming Pearls*, column 13).
fn choose(end: usize, count: usize, rng: &mut Random) -> Vec<usize> {
    let mut chosen = Vec::with_capacity(count.min(end));
    for last in end.saturating_sub(count)..end {
        let place = below(rng, last as u64 + 1) as usize;
        chosen.push(if chosen.contains(&place) { last } else { place });
    }
    chosen
}
