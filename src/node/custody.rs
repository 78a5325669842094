//! Values that stay: what the owner stored is renewed ([`renewal`](super::renewal)), and what
//! the node holds is handed on as holders come and go ([`handing`](super::handing)). Here:
//! what is done when, one thing at a time, and no faster than it may cost.
//!
//! Kademlia has each holder store each value again every hour, unless somebody else has done
//! so in that hour (section 2.5). Under sessions of an hour that loses 2.5 % of all values
//! per hour, since too many of the K holders are gone by then; and it sends every value K
//! times an hour whether anybody lacks it or not. So holders here ask first, with a digest,
//! and more often; the rule that one of them is enough is the same.

use std::time::Duration;

use rand::RngExt;

use crate::config::Config;
use crate::context::{Context, Due, Key};
use crate::id::Id;
use crate::node::failed::FailedContacts;
use crate::node::handing::Plan;
use crate::node::operation::{Outcome, Task};
use crate::node::schedule::{Checks, NOBODY, Renewals};
use crate::node::{Node, World};
use crate::time::Time;
use crate::wheel::Timer;

/// The pause between two works, even where they cost nothing: a node without network looks
/// after its keys one by one, not all in one turn.
const LEAST_PAUSE: Duration = Duration::from_millis(100);
/// How many works that turn out to be void are passed over in one turn.
const VOID_AT_ONCE: u32 = 64;

/// What a node does for values, and what it has done.
#[derive(Debug, Default)]
pub struct Custody {
    pub(super) checks: Checks,
    pub(super) renewals: Renewals,
    /// What the last check found lacking, and is still to be handed on.
    pub(super) plan: Option<Plan>,
    /// Who has refused which value, though he claimed to lack it.
    pub(super) refused: FailedContacts,
    pub(super) done: Done,
    current: Option<Current>,
    /// The last work was a renewal.
    renewed_last: bool,
    /// The block in whose turn the last check was made, with what is handed on after it.
    turn: u64,
    /// When the budget allows for the next work.
    free_at: Time,
    /// When keys that are due may next be queued.
    queue_at: Time,
    timer: Option<Timer>,
}

/// Counts for [`Stats`](super::Stats).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Done {
    pub renewed: u64,
    pub not_renewed: u64,
    pub checks: u64,
    pub handed_on: u64,
    pub bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Current {
    operation: Key,
    began: Time,
    work: Work,
}

/// Something to be done for a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// The owner's value of this number is to be stored again.
    Renew(i64),
    /// The nodes nearest to this key are to be asked what they lack.
    Check(Id),
    /// The next value of the plan is to be handed on.
    HandOn,
}

impl Custody {
    /// When there is something to do.
    fn next_at(&self) -> Option<Time> {
        let queue = self.checks.first().map(|(due, _)| at_second(due).max(self.queue_at));
        self.work_at().into_iter().chain(queue).min()
    }

    /// When there is work: never while some is being done.
    fn work_at(&self) -> Option<Time> {
        if self.current.is_some() {
            return None;
        }
        let renewal = self.renewals.first().map(|(due, _)| due);
        let check = self.checks.next().map(|(due, _)| due);
        let due = if self.plan.is_some() { Some(0) } else { renewal.into_iter().chain(check).min() };
        Some(at_second(due?).max(self.free_at))
    }

    /// What is to be done now: what a check has begun, or else the first renewal, or the check
    /// whose turn it is, whichever has waited longer. But every other work may be a renewal: what
    /// others make this node hold does not keep it from its owner's values.
    fn next(&self, now: Time) -> Option<Work> {
        if self.work_at().is_none_or(|at| at > now) {
            return None;
        }
        let renewal = self.renewals.first().filter(|&(due, _)| at_second(due) <= now);
        if let Some((_, number)) = renewal.filter(|_| !self.renewed_last) {
            return Some(Work::Renew(number));
        }
        if self.plan.is_some() {
            return Some(Work::HandOn);
        }
        match (self.renewals.first(), self.checks.next()) {
            (Some((renewal, number)), check) if check.is_none_or(|(check, _)| renewal <= check) => {
                Some(Work::Renew(number))
            }
            (_, check) => check.map(|(_, key)| Work::Check(key)),
        }
    }

    /// Whether an operation renews this value now.
    pub(super) fn renewing(&self, number: i64) -> Option<Key> {
        self.current.filter(|current| current.work == Work::Renew(number)).map(|current| current.operation)
    }
}

impl Node {
    pub(super) fn start_custody(&mut self, world: &mut World<'_>) {
        self.restore_checks(world);
        self.restore_renewals(world);
        self.arm_custody(&mut world.ctx);
    }

    /// The node is closed: nothing is handed over. Who holds the same will notice.
    pub(super) fn end_custody(&mut self, ctx: &mut Context<'_>) {
        if let Some(mut custody) = self.custody.take() {
            ctx.disarm(&mut custody.timer);
            if let Some(current) = custody.current {
                self.drop_work(ctx, current.operation);
            }
        }
    }

    /// Ends an operation of the node's own without a word, and says how many bytes it took.
    fn drop_work(&mut self, ctx: &mut Context<'_>, operation: Key) -> u64 {
        if let Some(mut operation) = self.operations.remove(operation, ctx.config.concurrent_requests) {
            ctx.disarm(&mut operation.deadline);
        }
        self.peers.stop_meter()
    }

    /// Makes sure that the timer fires when there is something to do.
    pub(super) fn arm_custody(&mut self, ctx: &mut Context<'_>) {
        if let Some(custody) = self.custody.as_deref_mut()
            && let Some(at) = custody.next_at()
        {
            ctx.arm_by(&mut custody.timer, at, Due::Custody);
        }
    }

    /// Does what is due, if the budget allows.
    pub(super) fn attend(&mut self, world: &mut World<'_>) {
        self.queue_checks(world);
        for _ in 0..VOID_AT_ONCE {
            let next = self.custody.as_ref().and_then(|custody| custody.next(world.ctx.now));
            let task = match next {
                None => break,
                Some(Work::Renew(number)) => self.renewal(world, number),
                Some(Work::Check(key)) => self.check(world, key),
                Some(Work::HandOn) => self.handing(world),
            };
            if let (Some(task), Some(work)) = (task, next) {
                self.begin_work(world, task, work);
                break;
            }
        }
        if let Some(custody) = self.custody.as_deref_mut() {
            if custody.free_at <= world.ctx.now {
                custody.free_at = world.ctx.now + LEAST_PAUSE;
            }
            custody.queue_at = world.ctx.now + LEAST_PAUSE;
        }
        self.arm_custody(&mut world.ctx);
    }

    fn begin_work(&mut self, world: &mut World<'_>, task: Task, work: Work) {
        let operation = self.enter(world, task, None);
        self.peers.start_meter(operation);
        if let Some(custody) = self.custody.as_deref_mut() {
            custody.current = Some(Current { operation, began: world.ctx.now, work });
            custody.renewed_last = matches!(work, Work::Renew(_));
            if let Work::Check(key) = work {
                custody.turn = custody.checks.get(&key).map_or(NOBODY, |check| check.block());
            }
        }
        // It may end at once, so this comes last.
        self.advance(world, operation);
    }

    /// Whether an operation is the node's own, for a value.
    pub(super) fn is_own_work(&self, operation: Key) -> bool {
        let current = self.custody.as_ref().and_then(|custody| custody.current);
        current.is_some_and(|current| current.operation == operation)
    }

    /// An operation of the node's own has ended. The next one waits for as long as this one
    /// cost, so that one byte after the other they take no more than they may.
    pub(super) fn work_ended(&mut self, world: &mut World<'_>, task: Task, outcome: Option<Outcome>) {
        let bytes = self.peers.stop_meter();
        let Some(custody) = self.custody.as_deref_mut() else { return };
        let Some(Current { began, work, .. }) = custody.current.take() else { return };
        custody.done.bytes += bytes;
        let pause = price(bytes, world.ctx.config);
        custody.free_at = (began + pause).max(world.ctx.now + LEAST_PAUSE);
        if !matches!(work, Work::Renew(_)) {
            // Where there is nobody to ask, turns go round all the same.
            custody.checks.spend(custody.turn, bytes.max(1));
        }
        match (work, task) {
            (Work::Renew(number), _) => {
                let stored = match &outcome {
                    Some(Outcome::Stored(Ok(stored))) => Some(stored),
                    _ => None,
                };
                self.renewal_ended(world, number, stored);
            }
            (_, Task::Checking(check)) => self.check_ended(world, &check),
            (_, Task::Handing { publish, .. }) => {
                custody.done.handed_on += publish.accepted() as u64;
            }
            _ => {}
        }
        self.arm_custody(&mut world.ctx);
    }

    /// The operation that renews this value, if there is one, is not needed any more.
    pub(super) fn stop_renewing(&mut self, world: &mut World<'_>, number: i64) {
        let Some(custody) = self.custody.as_deref_mut() else { return };
        custody.renewals.remove(number);
        if let Some(operation) = custody.renewing(number) {
            custody.current = None;
            let bytes = self.drop_work(&mut world.ctx, operation);
            if let Some(custody) = self.custody.as_deref_mut() {
                custody.done.bytes += bytes;
                custody.free_at = custody.free_at.max(world.ctx.now + price(bytes, world.ctx.config));
            }
            self.arm_custody(&mut world.ctx);
        }
    }
}

/// For how long so many bytes use up what upkeep may cost.
fn price(bytes: u64, config: &Config) -> Duration {
    Duration::from_micros(bytes.saturating_mul(1_000_000) / config.upkeep_rate)
}

/// The second on the core's clock that a moment is in.
pub(super) fn second(at: Time) -> u32 {
    u32::try_from(at.as_micros() / 1_000_000).unwrap_or(u32::MAX)
}

fn at_second(second: u32) -> Time {
    Time::from_micros(u64::from(second) * 1_000_000)
}

/// A second that is so many of them from now, give or take what keeps nodes apart.
pub(super) fn due_in(ctx: &mut Context<'_>, least: u32, most: u32) -> u32 {
    second(ctx.now).saturating_add(ctx.rng.random_range(least..=most.max(least)).max(1))
}
