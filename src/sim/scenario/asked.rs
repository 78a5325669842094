//! What is asked of the network: lookups, values, searches for them.

use std::time::Duration;

use super::Scenario;
use super::alarm::Alarm;
use super::roster::Member;
use super::run::{Job, Run};
use crate::engine::{Effort, Outcome};
use crate::id::Id;
use crate::sim::quantile::uniform;
use crate::sim::report::Tally;

impl Run<'_> {
    // -- lookups

    pub fn lookup_is_due(&mut self) {
        self.waiting += 1;
        let begun = self.scenario.lookups.count - self.lookups_left + self.looking + self.waiting;
        if self.looking_from.is_none() {
            self.looking_from = Some(self.traffic());
        }
        if begun < self.scenario.lookups.count {
            self.wake_at(self.sim.now() + self.scenario.lookups.every, Alarm::Lookup);
        }
        self.look_up();
    }

    /// Starts lookups that wait, as long as there is room.
    fn look_up(&mut self) {
        while self.waiting > 0 && self.looking < self.scenario.lookups.at_once.max(1) {
            self.waiting -= 1;
            let by = self.pick(|member| !member.foreign);
            let target = by.and_then(|by| self.pick_beside(by.host, self.side(by.host), false));
            let asked = by
                .zip(target)
                .and_then(|(by, target)| Some((target, self.sim.find_node(by.host, target.contact.id)?)));
            match asked {
                Some((target, operation)) => {
                    self.looking += 1;
                    let job = Job::Lookup { target, phase: self.phase };
                    self.jobs.insert(operation, (self.sim.now(), job));
                }
                // There is nobody left.
                None => self.lookups_left -= 1,
            }
        }
    }

    pub fn looked_up(
        &mut self,
        target: &Member,
        phase: usize,
        took: Duration,
        outcome: &Outcome,
        effort: Effort,
    ) {
        let found = matches!(outcome, Outcome::Nodes(Ok(nodes)) if nodes.contains(&target.contact));
        let void = !self.roster.contains(target.host);
        count(&mut self.report.phases[phase].lookups, void, found, took, effort);
        self.lookup_ended();
    }

    pub fn lookup_ended(&mut self) {
        self.looking -= 1;
        self.lookups_left -= 1;
        if self.lookups_left == 0
            && let Some(from) = self.looking_from
        {
            let looking = self.traffic().since(&from);
            let Scenario { churn, cut, values, .. } = self.scenario;
            let undisturbed = churn.is_none()
                && cut.is_none()
                && (values.count == 0 || self.start + values.from >= self.sim.now());
            self.report.looking = undisturbed.then_some(looking);
        }
        self.look_up();
    }

    // -- values

    fn key(&self, value: u32) -> Id {
        Id::of(format!("value {value} of {}", self.scenario.seed).as_bytes())
    }

    pub fn value(&self, value: u32) -> Vec<u8> {
        let key = self.key(value);
        key.as_bytes().iter().copied().cycle().take(self.scenario.values.size as usize).collect()
    }

    pub fn store(&mut self, value: u32) {
        let by = self.pick(|member| !member.foreign);
        let key = self.key(value);
        let operation = by.and_then(|by| self.sim.store_value(by.host, key, self.value(value), None));
        match by.zip(operation) {
            Some((by, operation)) => {
                self.publishers[value as usize] = (by.host, self.phase);
                self.jobs.insert(operation, (self.sim.now(), Job::Store { value }));
            }
            None => self.values_left -= 1 + u64::from(self.scenario.values.searches),
        }
    }

    pub fn stored(&mut self, value: u32, took: Duration, outcome: &Outcome) {
        self.values_left -= 1;
        let stored = matches!(outcome, Outcome::Stored(Ok(_)));
        count(&mut self.report.stores, false, stored, took, Effort::default());
        let values = self.scenario.values;
        if !stored {
            self.values_left -= u64::from(values.searches);
            return;
        }
        self.sample.stored += 1;
        // None begins when the span is over already.
        let left = (self.start + self.scenario.span).since(self.sim.now());
        let until = if self.scenario.span.is_zero() { values.until } else { values.until.min(left) };
        for _ in 0..values.searches {
            let after = uniform(&mut self.rng, values.after, until.max(values.after));
            self.wake_at(self.sim.now() + after, Alarm::Search(value));
        }
    }

    pub fn search(&mut self, value: u32) {
        let (publisher, phase) = self.publishers[value as usize];
        // What was stored while the network is apart is looked for on the same side until it heals.
        let side = if phase == self.phase { self.side(publisher) } else { None };
        let by = self.pick_beside(publisher, side, true);
        let operation = by.and_then(|by| self.sim.find_values(by.host, self.key(value)));
        match by.zip(operation) {
            Some((_, operation)) => {
                let job = Job::Search { value, phase: self.phase, found_after: None };
                self.jobs.insert(operation, (self.sim.now(), job));
            }
            None => self.values_left -= 1,
        }
    }

    pub fn searched(&mut self, phase: usize, took: Duration, found_after: Option<Duration>, effort: Effort) {
        self.values_left -= 1;
        let found = found_after.is_some();
        let took = found_after.unwrap_or(took);
        count(&mut self.report.phases[phase].searches, false, found, took, effort);
        self.sample.searched += 1;
        self.sample.found += u64::from(found);
    }
}

fn count(tally: &mut Tally, void: bool, found: bool, took: Duration, effort: Effort) {
    if void {
        tally.void += 1;
        return;
    }
    tally.count(found, took);
    if effort != Effort::default() {
        tally.asked += u64::from(effort.asked);
        tally.failed += u64::from(effort.failed);
        // The last request follows the last referral.
        tally.count_hops(usize::from(effort.hops) + 1);
    }
}
