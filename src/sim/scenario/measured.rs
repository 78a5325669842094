//! What is measured: traffic, the state of the network, and its tables when all is over.

use std::time::Duration;

use super::Scenario;
use super::alarm::Alarm;
use super::run::Run;
use crate::contact::Contact;
use crate::id::ID_BITS;
use crate::sim::network::Latency;
use crate::sim::report::{Depth, Sample, Traffic};

/// Of how many nodes the tables are looked at, evenly spread over all.
const TABLES: usize = 1000;

impl Run<'_> {
    /// Adds up how long nodes have lived, up to now.
    pub fn note_lived(&mut self) {
        let now = self.sim.now();
        let nodes = self.roster.len() as u128;
        self.lived += nodes * now.since(self.lived_until).as_micros();
        self.lived_until = now;
    }

    /// All that was sent so far.
    pub fn traffic(&mut self) -> Traffic {
        self.note_lived();
        let (datagrams, bytes) = self.sim.traffic();
        Traffic { datagrams, bytes, span: self.sim.now().as_micros(), lived: self.lived }
    }

    pub fn note_state(&mut self) {
        let traffic = self.traffic();
        let sent = traffic.since(&self.sampled);
        self.sampled = traffic;
        let stats = self.roster.members().iter().filter_map(|member| self.sim.stats(member.host));
        let copies = stats.map(|stats| stats.values).sum();
        let stored = self.sample.stored;
        self.report.samples.push(Sample {
            at: self.sim.now().since(self.start).as_micros() as u64,
            nodes: self.roster.len() as u64,
            copies,
            datagrams: sent.datagrams,
            bytes: sent.bytes,
            ..self.sample
        });
        self.sample = Sample { stored, ..Sample::default() };
        if !self.is_over() {
            self.wake_at(self.sim.now() + self.scenario.sample, Alarm::Sample);
        }
    }

    /// Looks at the tables of the living nodes.
    pub fn look_at_tables(&mut self) {
        let mut sorted: Vec<Contact> = self.roster.members().iter().map(|member| member.contact).collect();
        sorted.sort_unstable_by_key(|contact| contact.id);
        let k = self.scenario.config.k;
        let mut depths = vec![Depth::default(); ID_BITS];
        let own: Vec<_> = self.roster.members().iter().filter(|member| !member.foreign).collect();
        let step = own.len().div_ceil(TABLES).max(1);
        for member in own.iter().step_by(step) {
            let Some(node) = self.sim.node(member.host) else { continue };
            self.report.tables += 1;
            let id = &member.contact.id;
            for info in self.sim.engine().contacts(node) {
                let depth = id.distance(&info.contact.id).leading_zeros().min(ID_BITS - 1);
                depths[depth].contacts += 1;
                depths[depth].dead += u64::from(!self.roster.is_alive(&info.contact.id));
            }
            for (depth, others) in super::build::ranges(id, &sorted) {
                depths[depth].room += others.len().min(k) as u64;
            }
        }
        let used =
            depths.iter().rposition(|depth| depth.contacts + depth.room > 0).map_or(0, |last| last + 1);
        depths.truncate(used);
        self.report.table = depths;
    }
}

/// The usual time to a node and back.
pub(super) fn round_trip(scenario: &Scenario) -> u64 {
    let trip = match &scenario.conditions.latency {
        Latency::Constant(latency) => *latency * 2,
        Latency::Uniform(least, most) => *least + *most,
        Latency::LogNormal { median, .. } => *median * 2,
        Latency::Regions(regions) => {
            // All pairs of regions are as frequent.
            let mut all: Vec<Duration> = regions.round_trips.iter().flatten().copied().collect();
            all.sort_unstable();
            all.get(all.len() / 2).copied().unwrap_or_default()
        }
    };
    trip.as_micros() as u64
}
