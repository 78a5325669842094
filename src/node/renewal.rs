//! Renewing what the owner stored, for as long as the node lives.

use std::time::Duration;

use crate::config::Config;
use crate::error::StoreError;
use crate::id::Id;
use crate::lookup::Goal;
use crate::node::custody::{Custody, due_in};
use crate::node::operation::Task;
use crate::node::{Node, World};
use crate::outcome::Stored;
use crate::store::Published;

/// What failed, or reached nobody but the node itself, is tried again after this part of the
/// interval: its owner may have stored it before the node had joined.
const SOONER: u32 = 12;

impl Node {
    /// The owner's value was stored by these nodes: it is renewed from now on, if it can be.
    pub(super) fn remember_published(
        &mut self,
        world: &mut World<'_>,
        key: &Id,
        value: &[u8],
        stored: &Stored,
    ) -> bool {
        let Some(interval) = interval(world.ctx.config) else { return false };
        let now = self.value_time(&world.ctx).now;
        let published = world.store.publish(&mut self.resident, key, value, now);
        let custody = self.custody.get_or_insert_default();
        let renewed = matches!(published, Ok(Published::Kept(_)));
        match published {
            Ok(Published::Kept(number)) => {
                let interval = if is_elsewhere(stored, &self.id) { interval } else { interval / SOONER };
                set(custody, world, number, interval);
            }
            Ok(Published::Full) => custody.done.not_renewed += 1,
            Err(error) => {
                log::error!("node {}: a value will not be renewed: {error}", self.id);
                custody.done.not_renewed += 1;
            }
        }
        self.arm_custody(&mut world.ctx);
        renewed
    }

    /// Renews a value no more, and says whether it was renewed until now. Its holders forget
    /// it in time.
    ///
    /// # Errors
    ///
    /// When the store cannot be written: it is then renewed as before.
    pub fn withdraw(&mut self, world: &mut World<'_>, key: &Id, value: &[u8]) -> Result<bool, StoreError> {
        let withdrawn = self.renew_no_more(world, key, value);
        self.settle(world);
        withdrawn
    }

    /// As [`withdraw`](Self::withdraw), in the midst of an input.
    pub(super) fn renew_no_more(
        &mut self,
        world: &mut World<'_>,
        key: &Id,
        value: &[u8],
    ) -> Result<bool, StoreError> {
        let number = world.store.withdraw(&mut self.resident, key, value)?;
        // Only what is committed counts.
        world.store.commit()?;
        if let Some(number) = number {
            self.stop_renewing(world, number);
        }
        Ok(number.is_some())
    }

    /// Takes up what was to be renewed when the node was closed: each value when it would
    /// have been its turn, and within one interval whatever the clock says.
    pub(super) fn restore_renewals(&mut self, world: &mut World<'_>) {
        let Some(interval) = interval(world.ctx.config) else { return };
        if self.resident.published() == 0 {
            return;
        }
        let now = self.value_time(&world.ctx).now;
        match world.store.published(&self.resident) {
            Ok(published) => {
                let custody = self.custody.get_or_insert_default();
                for (number, stored) in published {
                    let passed = now.0.saturating_sub(stored.0);
                    let left = i64::from(interval).saturating_sub(passed).clamp(0, interval.into()) as u32;
                    let due = due_in(&mut world.ctx, left, left.saturating_add(interval / 10));
                    custody.renewals.set(number, due);
                }
            }
            Err(error) => log::error!("node {}: values will not be renewed: {error}", self.id),
        }
    }

    /// The operation that stores a value again; `None` when it was withdrawn.
    pub(super) fn renewal(&mut self, world: &mut World<'_>, number: i64) -> Option<Task> {
        match world.store.published_value(&self.resident, number) {
            Ok(Some((key, value))) => {
                let lookup = self.lookup(world, key, Goal::Closest);
                return Some(Task::Finding { lookup, key, value, life: None });
            }
            Ok(None) => self.stop_renewing(world, number),
            Err(error) => {
                log::error!("node {}: a value cannot be renewed: {error}", self.id);
                self.renewal_ended(world, number, None);
            }
        }
        None
    }

    pub(super) fn renewal_ended(&mut self, world: &mut World<'_>, number: i64, stored: Option<&Stored>) {
        let now = self.value_time(&world.ctx).now;
        let (Some(custody), Some(interval)) = (self.custody.as_deref_mut(), interval(world.ctx.config))
        else {
            return;
        };
        if !stored.is_some_and(|stored| is_elsewhere(stored, &self.id)) {
            return set(custody, world, number, interval / SOONER);
        }
        custody.done.renewed += 1;
        set(custody, world, number, interval);
        if let Err(error) = world.store.published_again(number, now) {
            log::error!("node {}: when a value was renewed is not saved: {error}", self.id);
        }
    }
}

/// Whether others than the node itself have taken a value.
fn is_elsewhere(stored: &Stored, own: &Id) -> bool {
    stored.accepted().any(|holder| holder.id != *own)
}

/// A value is due after about `interval` seconds.
fn set(custody: &mut Custody, world: &mut World<'_>, number: i64, interval: u32) {
    let tenth = interval / 10;
    let due = due_in(&mut world.ctx, interval - tenth, interval.saturating_add(tenth));
    custody.renewals.set(number, due);
}

/// Seconds between two renewals; `None`: there are none. Half the time that a value lives is
/// the longest that leaves it a second chance.
fn interval(config: &Config) -> Option<u32> {
    let wanted = config.renew_interval.min(config.value_lifetime / 2).max(Duration::from_secs(1));
    let seconds = u32::try_from(wanted.as_secs()).unwrap_or(u32::MAX);
    (!config.renew_interval.is_zero()).then_some(seconds)
}
