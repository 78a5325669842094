//! Storing the owner's values: who is to hold one, what each of them said, and what the owner is
//! told of it.

use std::time::Duration;

use crate::context::Key;
use crate::error::OperationError;
use crate::id::Id;
use crate::lookup::Goal;
use crate::node::client::tell;
use crate::node::operation::{Operation, Outcome, Task};
use crate::node::serve::Origin;
use crate::node::{Node, Waiting, World};
use crate::outcome::{Effort, StoreReply, Stored};
use crate::publish::Publish;
use crate::time::UnixTime;

/// A value that is being given to its holders.
#[derive(Debug)]
pub(super) struct Storing {
    pub publish: Publish,
    pub key: Id,
    pub value: Vec<u8>,
    /// Seconds, as asked for; `None`: as long as its holders keep any.
    pub life: Option<u32>,
    /// It is its turn.
    pub admitted: bool,
    /// Its owner knows what came of it, but some may still take the value.
    pub told: bool,
    /// What finding the holders took.
    pub found: Effort,
}

impl Storing {
    /// What has become of the value so far.
    pub fn stored(&self) -> Stored {
        let (receipts, needed) = (self.publish.receipts(), self.publish.needed());
        Stored { receipts, needed, renewed: false, effort: self.found }
    }

    /// The same as an outcome: whether enough have taken it.
    pub fn outcome(&self) -> Result<Stored, OperationError> {
        let stored = self.stored();
        if self.publish.enough() { Ok(stored) } else { Err(OperationError::TooFew(Box::new(stored))) }
    }
}

impl Node {
    /// Stores a value with the nodes nearest to its key, for as long as `life` says, or else as
    /// they keep any. → [`Outcome::Stored`]
    pub fn store_value(
        &mut self,
        world: &mut World<'_>,
        key: Id,
        value: Vec<u8>,
        life: Option<Duration>,
        limit: Option<Duration>,
    ) -> Key {
        if let Some(refused) = self.refused(world, |error| Outcome::Stored(Err(error))) {
            return refused;
        }
        let config = world.ctx.config;
        let (size, most) = (value.len(), config.max_value_size);
        let wrong = if size == 0 {
            Some(OperationError::ValueEmpty)
        } else if size > most {
            Some(OperationError::ValueTooLarge { size, limit: most })
        } else {
            let fits = |life: &Duration| (Duration::from_secs(1)..=config.value_lifetime).contains(life);
            let wrong = life.filter(|life| !fits(life));
            wrong.map(|life| OperationError::LifeOutOfBounds { life, limit: config.value_lifetime }).or_else(
                || self.check_value(world, &key, &value, None).err().map(OperationError::ValueInvalid),
            )
        };
        // In whole seconds, as on the wire, and no longer than asked for.
        let life = life.map(|life| u32::try_from(life.as_secs()).unwrap_or(u32::MAX));
        let lookup = self.lookup(world, key, Goal::Closest);
        let operation = self.enter(world, Task::Finding { lookup, key, value, life }, limit);
        match wrong {
            Some(error) => drop(self.fail(world, operation, error)),
            None => self.advance(world, operation),
        }
        self.settle(world);
        operation
    }

    /// When holders have been asked to take a value, what they have said until now is told.
    pub(super) fn deadline_passed(&mut self, world: &mut World<'_>, key: Key) {
        match self.operations.get_mut(key) {
            Some(Operation { task: Task::Storing(storing), .. })
                if !storing.told && storing.publish.has_begun() =>
            {
                let outcome = Outcome::Stored(storing.outcome());
                self.end(world, key, Some(outcome));
            }
            _ => drop(self.fail(world, key, OperationError::Deadline)),
        }
    }

    /// This node is itself one of the holders.
    pub(super) fn store_here(&mut self, world: &mut World<'_>, operation: Key) {
        let Some(Operation { task: Task::Storing(storing), .. }) = self.operations.get_mut(operation) else {
            return;
        };
        let (key, value, life) = (storing.key, std::mem::take(&mut storing.value), storing.life);
        // One that was to be renewed may have been stored under another validator.
        let taken = match self.check_value(world, &key, &value, None) {
            Ok(()) => {
                let own = Origin { sender: None, age: None, life };
                self.take_value(world, &key, &value, own).map_err(|refusal| refusal.to_string())
            }
            Err(why) => Err(why),
        };
        if let Ok(until) = taken {
            self.promise(world, Waiting::Own(operation, until));
        }
        if let Some(Operation { task: Task::Storing(storing), .. }) = self.operations.get_mut(operation) {
            storing.value = value;
            if let Err(refusal) = taken {
                storing.publish.on_failure(&self.id, StoreReply::Refused(refusal));
            }
        }
    }

    /// What this node holds itself is committed; or `Err`: lost, and what it says to that.
    pub(super) fn own_stored(
        &mut self,
        world: &mut World<'_>,
        operation: Key,
        kept: Result<UnixTime, String>,
    ) {
        if let Some(Operation { task: Task::Storing(storing), .. }) = self.operations.get_mut(operation) {
            match kept {
                Ok(until) => storing.publish.on_accept(&self.id, until),
                Err(why) => storing.publish.on_failure(&self.id, StoreReply::Refused(why)),
            }
            self.advance(world, operation);
        }
    }

    /// What comes of a store does not wait for holders that are silent.
    pub(super) fn tell_if_decided(&mut self, world: &mut World<'_>, key: Key) {
        // Nobody waits for what the node does by itself.
        if self.is_own_work(key) {
            return;
        }
        let Some(Operation { task, .. }) = self.operations.get_mut(key) else {
            return;
        };
        if let Task::Storing(storing) = task
            && !storing.told
            && storing.publish.is_decided()
        {
            storing.told = true;
            let mut stored = storing.stored();
            let (target, value, life) = (storing.key, storing.value.clone(), storing.life);
            self.note_stored(world, &target, &value, life, &mut stored);
            self.tell_stored(world, key, stored);
        }
    }

    /// The owner is told what became of a value; of one that is to be renewed when that is
    /// committed.
    pub(super) fn tell_stored(&mut self, world: &mut World<'_>, operation: Key, stored: Stored) {
        if stored.renewed {
            return self.promise(world, Waiting::Owner(operation, Box::new(stored)));
        }
        let effort = stored.effort;
        tell(world, operation, Outcome::Stored(Ok(stored)), effort);
    }

    /// The owner's value is stored: it is renewed from now on, unless it has a life of its own;
    /// then it is not, although it may have been before.
    pub(super) fn note_stored(
        &mut self,
        world: &mut World<'_>,
        key: &Id,
        value: &[u8],
        life: Option<u32>,
        stored: &mut Stored,
    ) {
        if life.is_none() {
            stored.renewed = self.remember_published(world, key, value, stored);
        } else if let Err(error) = self.renew_no_more(world, key, value) {
            log::error!("node {}: a value may be renewed although it is to have an end: {error}", self.id);
        }
    }
}

/// Until when a value is kept that was taken now. `life`: for how many seconds, as far as its
/// holder has said so; else it is assumed to keep it as long as this node would, as those of
/// 2003 do.
pub(super) fn kept_until(world: &World<'_>, life: Option<u32>) -> UnixTime {
    let life = life.map_or(world.ctx.config.value_lifetime, |life| Duration::from_secs(life.into()));
    world.ctx.unix.plus(life)
}
