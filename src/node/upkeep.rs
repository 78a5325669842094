//! What a node does by itself: deletes expired values, saves its contacts,
//! refreshes buckets that nothing has touched.

use std::collections::VecDeque;
use std::time::Duration;

use rand::RngExt;

use crate::contact::Contact;
use crate::context::{Context, Due};
use crate::error::{OperationError, StoreError};
use crate::id::Id;
use crate::lookup::Goal;
use crate::node::handing::seconds;
use crate::node::operation::Task;
use crate::node::{Node, World};
use crate::table::Entry;
use crate::time::{Time, UnixTime};
use crate::wheel::Timer;

/// Values deleted in one go, for which the loop stands still: of values of 100 bytes that is a
/// third of a millisecond of work, and, where the log is copied into the file with that, 4.
const EXPIRE_AT_ONCE: u32 = 25;
/// The time for everything else until the next such lot.
const EXPIRE_PAUSE: Duration = Duration::from_millis(5);

/// Within this time of the host's waking up all its nodes look for their neighbours.
const WAKING: Duration = Duration::from_secs(5);

/// How often a node that nobody answers looks for its neighbours again; and how soon one does
/// that has found few, or of whose neighbours some did not answer. (Those who missed its call
/// know nothing of it.) Each further time it waits twice as long, until somebody answers or,
/// for the latter, until it goes well.
const REJOIN_PAUSE: Duration = Duration::from_secs(60);

/// A node that nobody answers waits for eight minutes at the most: it may have its network back.
const MOST_DOUBLINGS: u8 = 3;

/// The timers of upkeep, and what is still to be refreshed.
#[derive(Debug, Default)]
pub(super) struct Upkeep {
    expiry: Option<Timer>,
    checkpoint: Option<Timer>,
    refresh: Option<Timer>,
    /// Targets whose buckets are refreshed one after the other, the next one last.
    targets: Vec<Id>,
    /// The host has slept since the neighbours were last looked for.
    slept: bool,
    /// When they are to be looked for again, since that went badly.
    again: Option<Time>,
    /// How long it waited for that the last time, in seconds; 0: it went well.
    waited: u32,
    /// How often it was tried since anybody answered.
    pub(super) tries: u8,
    /// The contacts that were dropped last, for the time when none is left.
    lost: VecDeque<Contact>,
}

impl Upkeep {
    /// Whether the neighbours are to be looked for again now.
    fn must_look_again(&mut self, now: Time) -> bool {
        let slept = std::mem::take(&mut self.slept);
        let again = self.again.take_if(|at| *at <= now).is_some();
        slept || again
    }
}

impl Node {
    /// Takes up the saved contacts, and starts the timers.
    pub(super) fn start(&mut self, world: &mut World<'_>, saved: impl IntoIterator<Item = Contact>) {
        self.restore(&world.ctx, saved);
        let config = world.ctx.config;
        let latest = self.clock.at(world.ctx.now).now.0.saturating_add(seconds(config.value_lifetime));
        let limited = world.store.limit_lives(&self.resident, UnixTime(latest));
        if let Err(error) = limited.and_then(|()| self.save_clock(world)) {
            log::error!("node {}: its clock cannot be saved: {error}", self.id);
        }
        let (now, first_expiry) = (world.ctx.now, config.first_expiry);
        self.upkeep.expiry = Some(world.ctx.arm(now + first_expiry, Due::Expiry));
        self.arm_checkpoint(&mut world.ctx);
        self.arm_refresh(&mut world.ctx);
        if !self.table.is_empty() {
            self.upkeep.targets.push(self.id);
            self.refresh_next(world);
        }
        self.start_custody(world);
        self.settle(world);
    }

    /// Does what upkeep is due.
    pub(super) fn maintain(&mut self, world: &mut World<'_>, due: Due) {
        let config = world.ctx.config;
        match due {
            Due::Expiry => {
                let now = self.value_time(&world.ctx).now;
                let wait = match world.store.expire(&mut self.resident, now, EXPIRE_AT_ONCE) {
                    Ok(expired) if expired.more => EXPIRE_PAUSE,
                    Ok(_) => config.expiry_interval,
                    Err(error) => {
                        log::error!("node {}: values cannot be deleted: {error}", self.id);
                        config.expiry_interval
                    }
                };
                self.upkeep.expiry = Some(world.ctx.arm(world.ctx.now + wait, Due::Expiry));
            }
            Due::Checkpoint => {
                if let Err(error) = self.checkpoint(world) {
                    log::error!("node {}: contacts and clock cannot be saved: {error}", self.id);
                }
                self.arm_checkpoint(&mut world.ctx);
            }
            Due::Refresh if self.is_cut_off() => {
                self.rejoin(world);
                let pause = if self.table.is_empty() { config.bucket_staleness } else { self.rejoin_pause() };
                self.upkeep.tries = self.upkeep.tries.saturating_add(1);
                self.upkeep.refresh = Some(world.ctx.arm(world.ctx.now + pause, Due::Refresh));
            }
            Due::Refresh if self.upkeep.must_look_again(world.ctx.now) => {
                self.rejoin(world);
                self.arm_refresh(&mut world.ctx);
            }
            Due::Refresh => {
                let staleness = config.bucket_staleness;
                // While others wait for their turn, this one can wait too.
                if self.upkeep.targets.is_empty()
                    && let Some(target) = self.table.stale(world.ctx.now, staleness, world.ctx.rng)
                {
                    // Touched even when there is nobody to ask.
                    self.table.touch(&target, world.ctx.now);
                    self.upkeep.targets.push(target);
                    self.refresh_next(world);
                }
                self.arm_refresh(&mut world.ctx);
            }
            Due::Custody => self.attend(world),
            Due::Connection(_)
            | Due::Idle
            | Due::Call(_)
            | Due::Operation(_)
            | Due::OwnPage(_)
            | Due::Sweep => {}
        }
    }

    /// Writes the clock and the contacts to the store. With none of these, those saved before stay: after
    /// a time without network they are the only way back. In memory, where they are good for
    /// nothing else, a few of them will do.
    ///
    /// # Errors
    ///
    /// When the store cannot be written.
    pub fn checkpoint(&mut self, world: &mut World<'_>) -> Result<(), StoreError> {
        self.save_clock(world)?;
        if self.table.is_empty() {
            return Ok(());
        }
        let (now, unix) = (world.ctx.now, world.ctx.unix);
        let saved =
            |entry: &Entry| (entry.contact, entry.last_heard().map(|heard| unix.minus(now.since(heard))));
        if world.store.is_in_memory() {
            return world.store.save_contacts(&self.resident, self.table.newest().map(saved));
        }
        world.store.save_contacts(&self.resident, self.table.iter().map(saved))
    }

    fn save_clock(&mut self, world: &mut World<'_>) -> Result<(), StoreError> {
        self.value_time(&world.ctx);
        let saved = self.clock.save(world.ctx.now, world.ctx.unix);
        world.store.save_clock(&self.resident, &saved)
    }

    /// Refreshes every bucket: looks for a random id in each, and for this node's own.
    pub fn refresh_table(&mut self, world: &mut World<'_>) {
        let mut targets: Vec<Id> =
            (0..self.table.buckets()).map(|depth| self.id.random_sharing(depth, world.ctx.rng)).collect();
        targets.push(self.id);
        // Those that wait would be done twice.
        let idle = std::mem::replace(&mut self.upkeep.targets, targets).is_empty();
        if idle {
            self.refresh_next(world);
        }
        self.settle(world);
    }

    /// Ends everything: saves the contacts, ends the operations, takes back the timers.
    ///
    /// # Errors
    ///
    /// When the contacts could not be saved; everything else is done all the same.
    pub fn close(&mut self, world: &mut World<'_>) -> Result<(), StoreError> {
        self.end_all(world);
        self.checkpoint(world)
    }

    /// Ends everything, and saves nothing.
    #[cfg(feature = "sim")]
    pub fn crash(&mut self, world: &mut World<'_>) {
        self.end_all(world);
    }

    fn end_all(&mut self, world: &mut World<'_>) {
        self.upkeep.targets.clear();
        self.end_custody(&mut world.ctx);
        self.fail_all(world, &OperationError::Closed);
        self.peers.clear(&mut world.ctx);
        let Upkeep { expiry, checkpoint, refresh, .. } = &mut self.upkeep;
        for timer in [expiry, checkpoint, refresh] {
            world.ctx.disarm(timer);
        }
    }

    /// Starts the next of the refreshes that wait, if there is one.
    pub(super) fn refresh_next(&mut self, world: &mut World<'_>) {
        if self.table.is_empty() {
            // Nobody to ask: each would end at once, inside the one before it.
            self.upkeep.targets.clear();
        } else if let Some(target) = self.upkeep.targets.pop() {
            let lookup = self.lookup(world, target, Goal::Closest);
            self.begin(world, Task::Refresh(lookup), None);
        }
    }

    /// The neighbours were looked for: of those asked so many answered, and so many did not.
    pub(super) fn note_neighbours(&mut self, ctx: &mut Context<'_>, answered: usize, failed: usize) {
        let upkeep = &mut self.upkeep;
        if answered >= ctx.config.k && failed == 0 {
            (upkeep.again, upkeep.waited) = (None, 0);
            return;
        }
        let most = u32::try_from(ctx.config.bucket_staleness.as_secs()).unwrap_or(u32::MAX);
        let least = REJOIN_PAUSE.as_secs() as u32;
        upkeep.waited = upkeep.waited.saturating_mul(2).max(least).min(most);
        let at = ctx.now + Duration::from_secs(upkeep.waited.into());
        upkeep.again = Some(at);
        ctx.arm_by(&mut upkeep.refresh, at, Due::Refresh);
    }

    /// Whether no contact is known to be there.
    fn is_cut_off(&self) -> bool {
        !self.table.iter().any(Entry::is_alive)
    }

    /// A contact has not answered, and is out of the table if it was `dropped`. The host may
    /// have lost its network: a node that nobody answers tries again before long.
    pub(super) fn note_silence(&mut self, ctx: &mut Context<'_>, contact: Contact, dropped: bool) {
        if dropped {
            let lost = &mut self.upkeep.lost;
            lost.retain(|other| other.id != contact.id);
            lost.push_back(contact);
            if lost.len() > ctx.config.k {
                lost.pop_front();
            }
        }
        if self.is_cut_off() {
            // It says nothing about them.
            self.failed.clear();
            let at = ctx.now + self.rejoin_pause();
            ctx.arm_by(&mut self.upkeep.refresh, at, Due::Refresh);
        }
    }

    /// How long a node that nobody answers waits before it tries again.
    fn rejoin_pause(&self) -> Duration {
        REJOIN_PAUSE * (1 << self.upkeep.tries.min(MOST_DOUBLINGS))
    }

    /// The host has slept, and may be in another place: neighbours have come and gone.
    pub fn wake(&mut self, world: &mut World<'_>) {
        self.upkeep.slept = true;
        // It was not the others who did not answer.
        self.failed.clear();
        let pause = WAKING.mul_f64(world.ctx.rng.random());
        let at = world.ctx.now + pause;
        world.ctx.arm_by(&mut self.upkeep.refresh, at, Due::Refresh);
    }

    /// Looks for the node's neighbours through whoever may be there: the contacts left
    /// or, with none left, those lost last and those saved.
    fn rejoin(&mut self, world: &mut World<'_>) {
        if self.table.is_empty() {
            let saved = world.store.contacts(&self.resident).unwrap_or_else(|error| {
                log::error!("node {}: saved contacts cannot be read: {error}", self.id);
                Vec::new()
            });
            self.restore(&world.ctx, saved);
            let lost = std::mem::take(&mut self.upkeep.lost);
            self.restore(&world.ctx, lost);
        }
        if !self.table.is_empty() && !self.upkeep.targets.contains(&self.id) {
            let idle = self.upkeep.targets.is_empty();
            self.upkeep.targets.push(self.id);
            if idle {
                self.refresh_next(world);
            }
        }
    }

    /// Takes up contacts of earlier times, as far as the table has room.
    fn restore(&mut self, ctx: &Context<'_>, contacts: impl IntoIterator<Item = Contact>) {
        for contact in contacts {
            if contact.is_reachable() && self.peers.reaches(&contact.addr) {
                self.table.restore(contact, ctx.now);
            }
        }
    }

    /// A checkpoint comes give or take 10 % of its interval, so that the nodes of
    /// a machine do not all write at once.
    fn arm_checkpoint(&mut self, ctx: &mut Context<'_>) {
        let thousandths = ctx.rng.random_range(900..1100);
        let at = ctx.now + ctx.config.checkpoint_interval.saturating_mul(thousandths) / 1000;
        self.upkeep.checkpoint = Some(ctx.arm(at, Due::Checkpoint));
    }

    fn arm_refresh(&mut self, ctx: &mut Context<'_>) {
        // A second at least, however stale all of them are: one bucket at a time.
        let stale = self.table.next_stale(ctx.config.bucket_staleness);
        let at = self.upkeep.again.map_or(stale, |again| again.min(stale));
        let at = at.max(ctx.now + Duration::from_secs(1));
        self.upkeep.refresh = Some(ctx.arm(at, Due::Refresh));
    }
}
