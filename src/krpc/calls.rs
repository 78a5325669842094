//! Requests that wait for their answers.
//!
//! They stand in a slab, and a transaction id names the place: so an answer finds
//! its call without a search, and one that is late, repeated or made up finds
//! none. A transaction id is 20 bytes, as in 2003: place (4), generation (4), and
//! 12 random bytes that an outsider would have to guess.

use std::net::SocketAddr;

use rand::Rng;
use slab::Slab;

use crate::context::Key;
use crate::id::Id;
use crate::time::Time;
use crate::wheel::Timer;

/// Bytes in a transaction id of ours.
pub const TID_BYTES: usize = 20;
const NONCE: usize = TID_BYTES - 8;

/// For how long an answer has been waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// No longer than usual, as far as was seen.
    Usual,
    /// For longer.
    Late,
    /// For much longer, but the peer has shown that it is there.
    Promising,
    /// For much longer, and nothing has come.
    Silent,
    /// For so long that all repetitions could have been answered.
    Lost,
}

/// A request under way. `W` says who waits for its answer.
#[derive(Clone, Copy, Debug)]
pub struct Call<W> {
    /// The connection that it went out on.
    pub connection: Key,
    /// The address that was asked.
    pub addr: SocketAddr,
    /// The id that was asked, when it is known; another's answer is a failure.
    pub asked: Option<Id>,
    /// Who waits.
    pub waiter: W,
    /// When it is given up.
    pub deadline: Time,
    /// The timer for that, or for something before it.
    pub timer: Timer,
    /// When it was made.
    pub began: Time,
    /// For how long it has been waiting.
    pub stage: Stage,
    /// Whether it was sent again after its peer had restarted.
    pub repeated: bool,
}

/// All requests of one node under way.
#[derive(Debug)]
pub struct Calls<W> {
    slots: Slab<Slot<W>>,
    generation: u32,
    started: u64,
    failed: u64,
}

#[derive(Debug)]
struct Slot<W> {
    generation: u32,
    nonce: [u8; NONCE],
    call: Call<W>,
}

impl<W> Default for Calls<W> {
    fn default() -> Self {
        Calls { slots: Slab::new(), generation: 0, started: 0, failed: 0 }
    }
}

impl<W> Calls<W> {
    /// Enters a call. `make` is told its key, for the timer.
    pub fn insert(
        &mut self,
        rng: &mut impl Rng,
        make: impl FnOnce(Key) -> Call<W>,
    ) -> (Key, [u8; TID_BYTES]) {
        self.generation = self.generation.wrapping_add(1);
        self.started += 1;
        let vacant = self.slots.vacant_entry();
        let key = Key { index: vacant.key() as u32, generation: self.generation };
        let mut nonce = [0; NONCE];
        rng.fill_bytes(&mut nonce);
        vacant.insert(Slot { generation: key.generation, nonce, call: make(key) });
        let mut tid = [0; TID_BYTES];
        tid[..4].copy_from_slice(&key.index.to_be_bytes());
        tid[4..8].copy_from_slice(&key.generation.to_be_bytes());
        tid[8..].copy_from_slice(&nonce);
        (key, tid)
    }

    /// The call that an answer which came over `connection` belongs to.
    pub fn find(&self, tid: &[u8], connection: Key) -> Option<Key> {
        let (place, nonce) = tid.split_first_chunk::<8>()?;
        let [a, b, c, d, e, f, g, h] = *place;
        let key =
            Key { index: u32::from_be_bytes([a, b, c, d]), generation: u32::from_be_bytes([e, f, g, h]) };
        let slot = self.slots.get(key.index as usize)?;
        let matches =
            slot.generation == key.generation && slot.nonce == nonce && slot.call.connection == connection;
        matches.then_some(key)
    }

    /// A call that waits.
    pub fn get(&self, key: Key) -> Option<&Call<W>> {
        let slot = self.slots.get(key.index as usize)?;
        (slot.generation == key.generation).then_some(&slot.call)
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut Call<W>> {
        let slot = self.slots.get_mut(key.index as usize)?;
        (slot.generation == key.generation).then_some(&mut slot.call)
    }

    /// Takes a call out: it has its answer, or never will.
    pub fn remove(&mut self, key: Key) -> Option<Call<W>> {
        self.get(key)?;
        Some(self.slots.remove(key.index as usize).call)
    }

    /// Counts a failure.
    pub fn note_failure(&mut self) {
        self.failed += 1;
    }

    /// Takes all calls out.
    pub fn drain(&mut self) -> impl Iterator<Item = Call<W>> + '_ {
        self.slots.drain().map(|slot| slot.call)
    }

    /// How many wait.
    pub fn pending(&self) -> usize {
        self.slots.len()
    }

    /// How many there have been.
    pub fn started(&self) -> u64 {
        self.started
    }

    /// How many of them failed.
    pub fn failed(&self) -> u64 {
        self.failed
    }
}
