//! Handing values on: a holder asks the K nodes nearest to a key which of its values they
//! lack, and gives them those, with their age.
//!
//! The question is a lookup of the key whose requests carry an offer, see
//! [`Method::OfferValues`]. Who answers it by saying what it wants understands ages, and only
//! such a peer is handed a value. It asks about as often as holders come and go: where one
//! in four of the K lacks something, twice as often the next time; where none does, less and
//! less often. Of the holders, one is enough: whoever hears an offer of all that it holds
//! itself puts its own question off.

use std::net::IpAddr;
use std::time::Duration;

use crate::config::{Config, Role};
use crate::contact::{Contact, block};
use crate::context::Key;
use crate::id::Id;
use crate::krpc::message::{MAX_OFFERED, Method, Offer, Response};
use crate::lookup::{Goal, Lookup};
use crate::node::client::holders;
use crate::node::custody::{due_in, second};
use crate::node::operation::{Operation, Task};
use crate::node::schedule::OWN;
use crate::node::{Node, World};
use crate::publish::Publish;
use crate::store::Moment;
use crate::time::UnixTime;

/// The least time between two checks of a key, in seconds.
const LEAST_INTERVAL: u16 = 60;
/// One of so many nodes that lacks something makes a key's checks more frequent.
const MANY: usize = 4;
/// A holder that is not among the K nearest, which lack nothing, looks again only after so
/// many times the longest interval: they look after the key, and it is there in case that
/// all of them go at once.
const FAR: u32 = 4;
/// A value in the last part of its life is not worth handing on: 22 minutes of 24 hours.
const LAST_PART: u32 = 64;
/// A peer wants a value that it has when that makes it younger by such a part of its life.
const YOUNGER_PART: u32 = 10;
/// What one check makes a node hand on is as much as its budget is for so many seconds, or
/// one value; the rest waits for the next check, so that no key holds up all others.
const SHARE: u64 = 120;
/// For how many keys that are due it is found out at once in whose turn they are.
const QUEUED_AT_ONCE: u32 = 32;
/// For fewer, once their values are more than this: each is looked at.
const MAX_QUEUED_ROWS: usize = 2000;

/// A question under way.
#[derive(Debug)]
pub(super) struct Check {
    pub lookup: Lookup,
    key: Id,
    /// Digests of the values offered.
    offered: Vec<Id>,
    offer: Vec<u8>,
    /// What those who have answered would take, a bit for each value; with the addresses that
    /// they answered from, for it is there that ages are understood.
    wants: Vec<(Contact, u64)>,
}

/// What is still to be handed on of one key.
#[derive(Debug)]
pub(super) struct Plan {
    key: Id,
    /// Digests of values with those who lack them, the next one last.
    values: Vec<(Id, Vec<Contact>)>,
    /// How many bytes more.
    room: u64,
}

impl Check {
    pub fn method(&self) -> Method<'_> {
        match Offer::new(&self.offer) {
            Some(offer) => Method::OfferValues { key: self.key, offer },
            None => Method::FindNode { target: self.key },
        }
    }

    /// A peer that was asked has answered.
    pub fn note_wants(&mut self, from: &Contact, response: &Response<'_>) {
        if let Some(wanted) = response.wants(self.offered.len())
            && self.wants.iter().all(|(other, _)| other != from)
        {
            self.wants.push((*from, wanted));
        }
    }

    fn wants_of(&self, holder: &Contact) -> u64 {
        self.wants.iter().find(|(other, _)| other == holder).map_or(0, |(_, wanted)| *wanted)
    }
}

impl Node {
    /// A value was stored here; `handed_on`: by another holder. `sender`: `None` when by the owner.
    pub(super) fn note_held(
        &mut self,
        world: &mut World<'_>,
        key: Id,
        sender: Option<IpAddr>,
        handed_on: bool,
    ) {
        let Some(longest) = longest(world.ctx.config) else { return };
        let custody = self.custody.get_or_insert_default();
        match custody.checks.get(&key) {
            Some(check) => {
                // Who stores a value gives it to all K, as Kademlia assumes (section 2.5).
                let due = next_due(world, check.interval);
                custody.checks.postpone(&key, due);
                // Publishers go on renewing where others were the first to hand a value on.
                if !handed_on {
                    custody.checks.note_block(&key, sender.map_or(OWN, block));
                }
            }
            None => {
                // Holders may come and go, and where it was handed on they do: soon it is known.
                let interval = if handed_on { longest / 4 } else { longest / 2 };
                let interval = interval.max(LEAST_INTERVAL.min(longest));
                custody.checks.set(key, second(world.ctx.now), next_due(world, interval), interval);
                // Values go otherwise than by a check, too, or were never committed.
                let resident = &self.resident;
                custody.checks.forget_some(|key| resident.has(key));
            }
        }
        self.arm_custody(&mut world.ctx);
    }

    /// Takes up the keys of the values that were there before.
    pub(super) fn restore_checks(&mut self, world: &mut World<'_>) {
        let Some(longest) = longest(world.ctx.config) else { return };
        if self.resident.values() == 0 {
            return;
        }
        match world.store.keys(&self.resident) {
            Ok(keys) => {
                let custody = self.custody.get_or_insert_default();
                for key in keys {
                    let due = due_in(&mut world.ctx, 1, longest.into());
                    custody.checks.set(key, second(world.ctx.now), due, longest);
                }
            }
            Err(error) => log::error!("node {}: values will not be handed on: {error}", self.id),
        }
    }

    /// Has those keys that are due wait for their turns, a few at a time.
    pub(super) fn queue_checks(&mut self, world: &mut World<'_>) {
        let now = second(world.ctx.now);
        let mut rows = 0;
        for _ in 0..QUEUED_AT_ONCE {
            let Some(custody) = self.custody.as_deref_mut() else { return };
            let Some((_, key)) = custody.checks.first().filter(|&(due, _)| due <= now) else { return };
            if rows > MAX_QUEUED_ROWS {
                return;
            }
            rows += self.resident.values_of(&key);
            match world.store.blocks(&mut self.resident, &key) {
                Ok(blocks) if blocks.is_empty() => custody.checks.remove(&key),
                Ok(blocks) => custody.checks.wait(&key, blocks.iter().map(|block| block.unwrap_or(OWN))),
                Err(error) => {
                    custody.checks.wait(&key, None);
                    self.report_failure(world, "who stored a value cannot be read", &error);
                }
            }
        }
    }

    /// The operation that asks who lacks what of a key; `None` when there is nothing to offer.
    pub(super) fn check(&mut self, world: &mut World<'_>, key: Id) -> Option<Task> {
        let before = self.custody.as_deref()?.checks.get(&key)?;
        let now = second(world.ctx.now);
        let at = self.value_time(&world.ctx);
        let custody = self.custody.as_deref_mut()?;
        let ends_after = worth_offering(&at, world.ctx.config);
        // Of a key with more values than fit, the next ones each time, all the way round. Not from a
        // random place: most of the values may be before one that somebody wants to be left out.
        let start = custody.checks.mark(&key).unwrap_or_else(|| Id::random(world.ctx.rng));
        let one_more = MAX_OFFERED + 1;
        let mut held = match world.store.held(&mut self.resident, &key, (&at, ends_after), &start, one_more) {
            Ok(held) if held.is_empty() => {
                custody.checks.remove(&key);
                return None;
            }
            Ok(held) => held,
            Err(error) => {
                custody.checks.set(key, now, next_due(world, before.interval), before.interval);
                self.report_failure(world, "values cannot be handed on", &error);
                return None;
            }
        };
        custody.checks.set(key, now, next_due(world, before.interval), before.interval);
        let next = held.get(MAX_OFFERED).map(|(digest, _)| *digest);
        custody.checks.set_mark(&key, next);
        held.truncate(MAX_OFFERED);
        custody.done.checks += 1;
        let (mut offered, mut offer) = (Vec::with_capacity(held.len()), Vec::new());
        for (digest, stored) in held {
            Offer::add(&mut offer, &digest, age_on_arrival(stored, at.now));
            offered.push(digest);
        }
        let lookup = self.lookup(world, key, Goal::Closest);
        Some(Task::Checking(Box::new(Check { lookup, key, offered, offer, wants: Vec::new() })))
    }

    /// A check is over: what was found lacking is to be handed on.
    pub(super) fn check_ended(&mut self, world: &mut World<'_>, check: &Check) {
        let own = self.as_holder(world);
        let config = world.ctx.config;
        let (Some(custody), Some(longest)) = (self.custody.as_deref_mut(), longest(config)) else { return };
        let nearest = holders(&check.lookup, own, config.k);
        let is_near = nearest.iter().any(|holder| holder.id == self.id);
        let now = world.ctx.now;
        let refused = &custody.refused;
        let lacks = |holder: &&Contact, place: usize, digest: &Id| {
            check.wants_of(holder) >> place & 1 == 1 && !refused.has(&(**holder, check.key, *digest), now)
        };
        let wanted = |(place, digest): (usize, &Id)| {
            let holders = nearest.iter().filter(|holder| lacks(holder, place, digest)).copied();
            (*digest, holders.collect::<Vec<Contact>>())
        };
        let values = check.offered.iter().enumerate().map(wanted);
        let mut values: Vec<_> = values.filter(|(_, holders)| !holders.is_empty()).collect();
        values.reverse();
        let is_lacking = |holder: &&Contact| values.iter().any(|(_, holders)| holders.contains(holder));
        let lacking = nearest.iter().filter(is_lacking).count();
        let Some(before) = custody.checks.get(&check.key) else { return };
        if check.lookup.answered() == 0 && custody.checks.mark(&check.key).is_some() {
            custody.checks.set_mark(&check.key, check.offered.first().copied());
        }
        let interval = match lacking {
            // Nobody has answered: that says nothing.
            0 if check.lookup.answered() == 0 => before.interval,
            0 => before.interval.saturating_add(before.interval / 2),
            many if many * MANY >= nearest.len() => before.interval / 2,
            _ => before.interval,
        };
        let interval = interval.clamp(LEAST_INTERVAL.min(longest), longest);
        let due = if lacking == 0 && !is_near {
            due_in(&mut world.ctx, u32::from(longest) * FAR / 2, u32::from(longest) * FAR)
        } else {
            next_due(world, interval)
        };
        custody.checks.set(check.key, second(world.ctx.now), due, interval);
        if !values.is_empty() {
            let room = config.upkeep_rate.saturating_mul(SHARE);
            custody.plan = Some(Plan { key: check.key, values, room });
        }
    }

    /// The operation that hands on the next value of the plan; `None` when it is gone.
    pub(super) fn handing(&mut self, world: &mut World<'_>) -> Option<Task> {
        let at = self.value_time(&world.ctx);
        let custody = self.custody.as_deref_mut()?;
        let plan = custody.plan.as_mut()?;
        let (key, next) = (plan.key, plan.values.pop());
        let Some((digest, holders)) = next else {
            custody.plan = None;
            return None;
        };
        if plan.room == 0 {
            // It is the first of the next time.
            custody.checks.set_mark(&key, Some(digest));
            custody.plan = None;
            return None;
        }
        match world.store.value(&mut self.resident, &key, &at, &digest) {
            Ok(Some((value, stored, end))) => {
                // One with a life of its own goes with that: elsewhere others may live longer.
                let own_life = end.0.saturating_sub(stored.0) < seconds(world.ctx.config.value_lifetime);
                let ends = own_life.then_some(end);
                plan.room = plan.room.saturating_sub((value.len() * holders.len()) as u64);
                let publish = Publish::new(holders, world.ctx.config.concurrent_requests, 0);
                Some(Task::Handing { publish, key, value, stored, ends })
            }
            Ok(None) => None,
            Err(error) => {
                self.report_failure(world, "a value cannot be handed on", &error);
                None
            }
        }
    }

    /// Who was to be handed a value has refused it, though he claimed to lack it: it may be
    /// larger than he takes. He is not handed it again with every check.
    pub(super) fn note_refusal(&mut self, world: &World<'_>, operation: Key, holder: &Contact) {
        if let (
            Some(Operation { task: Task::Handing { key, value, .. }, .. }),
            Some(custody),
            Some(longest),
        ) = (self.operations.get_mut(operation), self.custody.as_deref_mut(), longest(world.ctx.config))
        {
            let span = Duration::from_secs((u32::from(longest) * FAR).into());
            custody.refused.note_for(&(*holder, *key, Id::of(value)), world.ctx.now, span);
        }
    }

    /// Another holder offers values: which of them would be taken? `None` when that cannot be
    /// told. `is_there`: it is where it says, or at least somebody is who is known.
    pub(super) fn weigh_offer(
        &mut self,
        world: &mut World<'_>,
        is_there: bool,
        sender: Option<IpAddr>,
        key: &Id,
        offer: Offer<'_>,
    ) -> Option<Vec<u8>> {
        let config = world.ctx.config;
        let digests = offer.values().map(|value| value.digests());
        let at = self.value_time(&world.ctx);
        let held = match world.store.times(&mut self.resident, key, &at, digests) {
            Ok(held) => held,
            Err(error) => {
                self.report_failure(world, "values cannot be read", &error);
                return None;
            }
        };
        let lifetime = seconds(config.value_lifetime);
        let has_room = self.resident.has_room(key, config.max_value_size, sender);
        let may_pay = self.resident.may_pay(key, config.max_value_size, sender);
        let (mut wants, mut known) = (Vec::new(), 0);
        for (place, (value, held)) in offer.values().zip(held).enumerate() {
            let offered = at.now.0.saturating_sub(value.age.into());
            let useful = i64::from(value.age) < lifetime - lifetime / i64::from(LAST_PART);
            known += usize::from(held.is_some());
            let lacking = match held {
                None => has_room,
                // It may count for who hands it on then.
                Some(held) => may_pay && held.0.saturating_add(lifetime / i64::from(YOUNGER_PART)) < offered,
            };
            let taken = config.validator.as_ref().is_none_or(|it| it.may_take(key, &value.digest));
            if useful && lacking && taken && config.role == Role::Full {
                wants.push(place as u8);
            }
        }
        // Who offers all that is held here will see to it that others get it. One who cannot
        // show that he is where he says could keep everybody from it at no cost.
        if known > 0
            && is_there
            && self.offers_all(world, key, known)
            && let Some(custody) = self.custody.as_deref_mut()
            && let Some(check) = custody.checks.get(key)
        {
            custody.checks.postpone(key, next_due(world, check.interval));
        }
        Some(wants)
    }

    /// Whether so many values are all that this node would offer of a key.
    fn offers_all(&mut self, world: &mut World<'_>, key: &Id, known: usize) -> bool {
        if known >= self.resident.values_of(key).min(MAX_OFFERED) {
            return true;
        }
        // Some of those that are there may have little life left, or none.
        let at = self.value_time(&world.ctx);
        let ends_after = worth_offering(&at, world.ctx.config);
        let start = Id::new([0; 20]);
        let held = world.store.held(&mut self.resident, key, (&at, ends_after), &start, MAX_OFFERED);
        held.is_ok_and(|held| known >= held.len())
    }
}

/// Values that expire after this are worth handing on.
fn worth_offering(at: &Moment, config: &Config) -> UnixTime {
    UnixTime(at.now.0.saturating_add(seconds(config.value_lifetime / LAST_PART)))
}

/// A value's age in seconds when it arrives, rounded up, and a second more for the way: so
/// it lives no longer for being handed on, through however many hands.
pub(super) fn age_on_arrival(stored: UnixTime, now: UnixTime) -> u32 {
    u32::try_from(now.0.saturating_sub(stored.0).max(0)).unwrap_or(u32::MAX).saturating_add(1)
}

/// How many seconds a value has to live when it arrives, rounded down, and a second less for
/// the way.
pub(super) fn life_on_arrival(ends: UnixTime, now: UnixTime) -> u32 {
    u32::try_from(ends.0.saturating_sub(now.0).saturating_sub(1).max(0)).unwrap_or(u32::MAX)
}

/// When a key with this interval is to be looked after next: at random, so that of its
/// holders one comes first, and the others hear of it.
fn next_due(world: &mut World<'_>, interval: u16) -> u32 {
    due_in(&mut world.ctx, (interval / 2).into(), interval.into())
}

/// The longest interval in seconds; `None`: values are not handed on.
fn longest(config: &Config) -> Option<u16> {
    let interval = u16::try_from(config.hand_on_interval.as_secs()).unwrap_or(u16::MAX);
    (interval > 0).then_some(interval)
}

pub(super) fn seconds(span: Duration) -> i64 {
    i64::try_from(span.as_secs()).unwrap_or(i64::MAX)
}
