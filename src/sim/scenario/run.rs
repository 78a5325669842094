//! A scenario under way.

use std::collections::BTreeMap;
use std::time::Duration;

use super::alarm::Alarm;
use super::build::{Entrants, Standing};
use super::measured::round_trip;
use super::roster::{Member, Roster};
use super::{Cut, Scenario};
use crate::context::Key;
use crate::engine::{NodeKey, OperationKey, Outcome};
use crate::error::StartError;
use crate::random::{Random, seed_from_number, seeded};
use crate::sim::hosts::Partition;
use crate::sim::quantile::below;
use crate::sim::report::{Phase, Report, Sample, Traffic};
use crate::sim::simulation::{Happening, Host, Simulation};
use crate::time::Time;

/// What an operation is for.
#[derive(Debug)]
pub(super) enum Job {
    /// A node that enters asks another for what it knows.
    Greeting(Host),
    /// A node that enters looks for its neighbours.
    Arrival(Host),
    Lookup {
        target: Member,
        phase: usize,
    },
    Store {
        value: u32,
    },
    Search {
        value: u32,
        phase: usize,
        found_after: Option<Duration>,
    },
}

/// All that it takes to let a scenario happen.
pub(super) struct Run<'a> {
    pub scenario: &'a Scenario,
    pub sim: Simulation,
    /// For choices of the scenario, apart from those of nodes and network.
    pub rng: Random,
    pub roster: Roster,
    /// What each operation under way is for, and when it began; those of a node stand together.
    pub jobs: BTreeMap<OperationKey, (Time, Job)>,
    pub entrants: Entrants,
    pub report: Report,
    /// When the network had settled.
    pub start: Time,
    pub phase: usize,
    /// Which hosts are on the smaller side, by their number.
    pub apart: Vec<bool>,
    pub partition: Option<Partition>,
    /// Lookups under way; whose time has come but who wait; that have not ended.
    pub looking: u32,
    pub waiting: u32,
    pub lookups_left: u32,
    /// Stores and searches that have not ended.
    pub values_left: u64,
    /// Who stored each value, and in which phase.
    pub publishers: Vec<(Host, usize)>,
    pub ended: bool,
    /// Since when `lived` was not added to.
    pub lived_until: Time,
    pub lived: u128,
    pub settled: Traffic,
    pub looking_from: Option<Traffic>,
    pub sampled: Traffic,
    pub sample: Sample,
}

const NEVER: Time = Time::from_micros(u64::MAX);

impl<'a> Run<'a> {
    pub fn new(scenario: &'a Scenario) -> Result<Self, StartError> {
        let mut sim = Simulation::new(scenario.seed)?;
        sim.set_conditions(scenario.conditions.clone())?;
        if Scenario::named(&scenario.name).is_some() {
            sim.set_command(scenario.command());
        }
        let mut seed = seed_from_number(scenario.seed);
        // Apart from the seeds of nodes and of the network.
        seed[31] = 1;
        let names: &[_] = if scenario.cut.is_some() { &["before", "apart", "healed"] } else { &["all"] };
        let report = Report {
            name: scenario.name.clone(),
            seed: scenario.seed,
            nodes: scenario.nodes,
            phases: names.iter().map(|&name| Phase { name, ..Phase::default() }).collect(),
            ..Report::default()
        };
        Ok(Run {
            scenario,
            sim,
            rng: seeded(seed),
            roster: Roster::default(),
            jobs: BTreeMap::new(),
            entrants: Entrants::default(),
            report,
            start: Time::ZERO,
            phase: 0,
            apart: Vec::new(),
            partition: None,
            looking: 0,
            waiting: 0,
            lookups_left: scenario.lookups.count,
            values_left: u64::from(scenario.values.count) * (1 + u64::from(scenario.values.searches)),
            publishers: vec![(Host(u32::MAX), 0); scenario.values.count as usize],
            ended: false,
            lived_until: Time::ZERO,
            lived: 0,
            settled: Traffic::default(),
            looking_from: None,
            sampled: Traffic::default(),
            sample: Sample::default(),
        })
    }

    pub fn finish(mut self) -> Result<Report, StartError> {
        self.build()?;
        self.settle()?;
        self.begin();
        while !self.is_over() {
            let Some(happening) = self.sim.next(NEVER) else { break };
            self.take(happening)?;
        }
        self.report.busy = self.traffic().since(&self.settled);
        self.look_at_tables();
        let report = &mut self.report;
        report.span = self.sim.now().as_micros();
        report.round_trip = round_trip(self.scenario);
        for phase in &mut report.phases {
            phase.lookups.sort();
            phase.searches.sort();
        }
        report.joins.sort();
        report.stores.sort();
        report.digest = self.sim.digest();
        Ok(self.report)
    }

    /// Whether the time is over, and all that was asked has ended.
    pub fn is_over(&self) -> bool {
        self.ended && self.lookups_left == 0 && self.values_left == 0
    }

    /// Leaves the network alone for a while.
    fn settle(&mut self) -> Result<(), StartError> {
        let half = self.scenario.settle / 2;
        self.pass(half)?;
        let before = self.traffic();
        self.pass(half)?;
        self.settled = self.traffic();
        self.report.idle = self.settled.since(&before);
        Ok(())
    }

    fn pass(&mut self, span: Duration) -> Result<(), StartError> {
        let end = self.sim.now() + span;
        while let Some(happening) = self.sim.next(end) {
            self.take(happening)?;
        }
        Ok(())
    }

    /// Lets all happen that is to happen from now on.
    fn begin(&mut self) {
        let Scenario { lookups, values, span, sample, .. } = *self.scenario;
        self.start = self.sim.now();
        self.sampled = self.settled;
        let dead = (self.roster.len() as u64 * u64::from(self.scenario.dead) / 1_000_000) as usize;
        for _ in 0..dead {
            if let Some(member) = self.roster.pick(&mut self.rng, |_| true) {
                self.crash(member.host);
            }
        }
        if let Some(Cut { share, from, span }) = self.scenario.cut {
            for _ in 0..self.scenario.nodes {
                self.apart.push(below(&mut self.rng, 1_000_000) < u64::from(share));
            }
            self.wake(from, Alarm::Part);
            self.wake(from + span, Alarm::Heal);
        }
        if self.scenario.churn.is_some() {
            let hosts: Vec<Host> = self.roster.members().iter().map(|member| member.host).collect();
            for host in hosts {
                self.plan_leaving(host, Standing::Settled);
            }
        }
        if lookups.count > 0 {
            self.wake(lookups.from, Alarm::Lookup);
        }
        for value in 0..values.count {
            self.wake(values.from + values.over * value / values.count, Alarm::Store(value));
        }
        if !sample.is_zero() {
            self.wake(sample, Alarm::Sample);
        }
        self.wake(span, Alarm::End);
    }

    /// Asks about a peer of 2003 in a while.
    pub fn look_after(&mut self, host: Host) {
        self.wake_at(self.sim.now() + Duration::from_millis(100), Alarm::Ask(host));
    }

    fn wake(&mut self, after: Duration, alarm: Alarm) {
        self.wake_at(self.start + after, alarm);
    }

    pub fn wake_at(&mut self, at: Time, alarm: Alarm) {
        self.sim.schedule(at, alarm.number());
    }

    /// When a node will crash, if nodes do.
    pub fn plan_leaving(&mut self, host: Host, standing: Standing) {
        if let Some(churn) = self.scenario.churn {
            let stays = churn.session.draw(&mut self.rng, standing == Standing::Settled);
            self.wake_at(self.sim.now() + stays, Alarm::Leave(host));
        }
    }

    // -- what happens

    pub fn take(&mut self, happening: Happening) -> Result<(), StartError> {
        match happening {
            Happening::Alarm(number) => match Alarm::of(number) {
                Alarm::Lookup => self.lookup_is_due(),
                Alarm::Store(value) => self.store(value),
                Alarm::Search(value) => self.search(value),
                Alarm::Leave(host) => self.leave(host)?,
                Alarm::Part => self.part(),
                Alarm::Heal => self.heal(),
                Alarm::Ask(host) => self.ask_original(host),
                Alarm::Sample => self.note_state(),
                Alarm::End => self.ended = true,
            },
            Happening::Operation { operation, outcome, effort, .. } => {
                let Some((began, job)) = self.jobs.remove(&operation) else { return Ok(()) };
                let took = self.sim.now().since(began);
                match job {
                    Job::Greeting(host) => self.greeted(host, &outcome),
                    Job::Arrival(host) => self.arrived(host, &outcome),
                    Job::Lookup { target, phase } => {
                        self.looked_up(&target, phase, took, &outcome, effort);
                    }
                    Job::Store { value } => self.stored(value, took, &outcome),
                    Job::Search { value, phase, found_after } => {
                        let ended = matches!(outcome, Outcome::ValuesEnd(_));
                        let brought = matches!(&outcome, Outcome::Values(brought)
                            if brought.values.contains(&self.value(value)));
                        let found_after = found_after.or(brought.then_some(took));
                        if ended {
                            self.searched(phase, took, found_after, effort);
                        } else {
                            let job = Job::Search { value, phase, found_after };
                            self.jobs.insert(operation, (began, job));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    // -- nodes

    /// A random one that is alive and in the network.
    pub fn pick(&mut self, fit: impl Fn(&Member) -> bool) -> Option<Member> {
        self.roster.pick(&mut self.rng, fit)
    }

    /// A random one, other than `host`, on the side that is given, if any is, and of `ours` if it must be.
    pub fn pick_beside(&mut self, host: Host, side: Option<bool>, ours: bool) -> Option<Member> {
        let apart = &self.apart;
        let is_there = |of: Host| apart.get(of.0 as usize).copied().unwrap_or(false);
        self.roster.pick(&mut self.rng, |member| {
            member.host != host
                && !(ours && member.foreign)
                && side.is_none_or(|side| is_there(member.host) == side)
        })
    }

    /// On which side a host is, while there are two.
    pub fn side(&self, host: Host) -> Option<bool> {
        (self.phase == 1).then(|| self.apart.get(host.0 as usize).copied().unwrap_or(false))
    }

    fn leave(&mut self, host: Host) -> Result<(), StartError> {
        self.crash(host);
        self.enter(Standing::Newcomer)
    }

    fn crash(&mut self, host: Host) {
        self.note_lived();
        self.roster.remove(host);
        self.entrants.forget(host);
        self.report.crashed += 1;
        let node = self.sim.node(host);
        // The node is gone in any case; what its rows are cannot matter to anybody any more.
        let _ = self.sim.crash(host);
        self.sim.forget(host);
        if let Some(node) = node {
            self.drop_jobs(node);
        }
    }

    /// What a node was asked for ends with it, unheard of.
    fn drop_jobs(&mut self, node: NodeKey) {
        let own: Vec<OperationKey> = self.jobs.range(operations_of(node)).map(|(key, _)| *key).collect();
        for operation in own {
            let Some((_, job)) = self.jobs.remove(&operation) else { continue };
            match job {
                Job::Greeting(_) | Job::Arrival(_) => {}
                Job::Lookup { phase, .. } => {
                    self.report.phases[phase].lookups.void += 1;
                    self.lookup_ended();
                }
                Job::Store { .. } => {
                    self.report.stores.void += 1;
                    self.values_left -= 1 + u64::from(self.scenario.values.searches);
                }
                Job::Search { phase, .. } => {
                    self.report.phases[phase].searches.void += 1;
                    self.values_left -= 1;
                }
            }
        }
    }

    fn part(&mut self) {
        self.phase = 1;
        let hosts = self.apart.iter().zip(0..).filter(|(apart, _)| **apart);
        let hosts: Vec<Host> = hosts.map(|(_, host)| Host(host)).collect();
        self.partition = self.sim.partition(hosts);
    }

    fn heal(&mut self) {
        self.phase = 2;
        if let Some(partition) = self.partition.take() {
            self.sim.heal(partition);
        }
    }
}

/// All operations of a node.
fn operations_of(node: NodeKey) -> std::ops::RangeInclusive<OperationKey> {
    let operation = |at| OperationKey { node, operation: Key::new(at, at) };
    operation(0)..=operation(u32::MAX)
}
