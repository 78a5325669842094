//! What the core's machines need of the world, handed to them as one argument.

use std::net::IpAddr;

use crate::config::Config;
use crate::random::Random;
use crate::time::{Time, UnixTime};
use crate::wheel::{Timer, Wheel};

/// A place in a slab together with its generation: places are used again, keys
/// never are (until 2³² occupants later), so a late one finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The place.
    pub(crate) index: u32,
    /// Which of its occupants is meant.
    pub(crate) generation: u32,
}

impl Key {
    /// The key of this occupant of this place.
    #[doc(hidden)]
    pub const fn new(index: u32, generation: u32) -> Self {
        Key { index, generation }
    }

    /// The place.
    #[doc(hidden)]
    pub const fn place(self) -> usize {
        self.index as usize
    }
}

/// What a timer of a node is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// A connection has something to do: acknowledge, ask, give up.
    Connection(Key),
    /// A connection may have been idle for long enough to be forgotten.
    Idle,
    /// A call has gone unanswered for too long.
    Call(Key),
    /// An operation's deadline.
    Operation(Key),
    /// A search is to go on through what its own node holds.
    OwnPage(Key),
    /// Expired values are to be deleted.
    Expiry,
    /// Contacts are to be saved.
    Checkpoint,
    /// A bucket may be stale.
    Refresh,
    /// Values are to be renewed, or handed on.
    Custody,
    /// What nodes that have gone held is to be deleted. No node's own.
    Sweep,
}

/// The key of a timer in the engine's wheel: whose it is, and what for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// The node.
    pub node: Key,
    /// What is due.
    pub due: Due,
}

/// Tells which address of ours a peer sees us at. The driver knows, by asking the
/// system for the route; a simulator makes it up.
pub trait Routes {
    /// The local address of the route to `peer`; `None` when there is no route.
    fn local_address(&self, peer: IpAddr) -> Option<IpAddr>;
}

/// The world, as a machine of one node sees it for the length of a call.
pub struct Context<'a> {
    /// The time, on the core's clock.
    pub now: Time,
    /// The same moment as a time of day.
    pub unix: UnixTime,
    /// The node's settings.
    pub config: &'a Config,
    /// The random source.
    pub rng: &'a mut Random,
    /// Everybody's timers.
    pub wheel: &'a mut Wheel<Alarm>,
    /// The node that timers are armed for.
    pub node: Key,
    /// Which address of ours a peer sees.
    pub routes: &'a dyn Routes,
    /// A buffer to compose a message in. Whoever uses it finds and leaves it empty.
    pub buffer: &'a mut Vec<u8>,
}

impl Context<'_> {
    /// Arms a timer of this node.
    pub fn arm(&mut self, at: Time, due: Due) -> Timer {
        self.wheel.arm(at, Alarm { node: self.node, due })
    }

    /// Takes a timer back, if there is one.
    pub fn disarm(&mut self, timer: &mut Option<Timer>) {
        if let Some(timer) = timer.take() {
            self.wheel.cancel(timer);
        }
    }

    /// Makes sure that `timer` fires at `at` or before. One that fires early finds
    /// nothing to do yet, which is cheaper than moving it with every packet.
    pub fn arm_by(&mut self, timer: &mut Option<Timer>, at: Time, due: Due) {
        let before = timer.and_then(|armed| Some((armed, self.wheel.deadline(armed)?)));
        match before {
            Some((_, before)) if before <= at => {}
            Some((armed, _)) => {
                self.wheel.move_to(armed, at);
            }
            // None, or one that has fired.
            None => *timer = Some(self.arm(at, due)),
        }
    }
}
