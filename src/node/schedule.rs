//! When a node looks after which key, and which value of its owner's it renews when.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::id::{ID_BYTES, Id};

/// For how many intervals a check may be put off because others have done it. Without an end,
/// who sends offers and hands nothing on could keep the holders from it for good; with one
/// that comes sooner, each of K holders would ask before it is its turn.
pub const MAX_POSTPONED: u32 = 4;
/// How many keys are looked at when one more comes, whether they are of use still.
const SWEPT_AT_ONCE: usize = 4;

/// In whose turn a key is of which that is not known; no block of addresses that anybody
/// sends from, since it is one of IPv6 multicast.
pub const NOBODY: u64 = u64::MAX;
/// In whose turn the node's own values are.
pub const OWN: u64 = 0;

/// The keys that a node looks after. Times are whole seconds on the core's clock: what it
/// keeps for each key, about 100 bytes, stands in ordered trees, and nothing is ever gone
/// over to find what is due.
///
/// A node with more keys than it can look after is late. Which of the late ones is next then
/// goes by who stored its values: each block of addresses has its turns, and those with which
/// the least was spent come first. So many keys of one block make late only each other. (What
/// was handed on counts for the block that it came from, whoever published it.)
#[derive(Debug, Default)]
pub struct Checks {
    keys: BTreeMap<Id, Check>,
    /// Those that are not late, or not known to be.
    by_due: BTreeSet<(u32, Id)>,
    /// The late ones by block.
    late: BTreeSet<(u64, u32, Id)>,
    turns: Turns,
    /// The key that [`forget_some`](Self::forget_some) came to last.
    swept: Option<Id>,
    /// Where the values of a key go on that are to be offered next, if it had more than one
    /// offer takes.
    marks: BTreeMap<Id, Id>,
}

/// The next look after a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check {
    /// When it is due.
    pub due: u32,
    /// When it is due at the latest, however often it is put off.
    pub latest: u32,
    /// How many seconds there are between two checks, at the most, when nobody else does any.
    pub interval: u16,
    /// Whether it is late, and waits for its block's turn.
    pub late: bool,
    /// In bytes: so an entry takes 40 of them, not 44.
    block: [u8; 8],
}

impl Check {
    /// The block in whose turn it is, or was the last time; or [`NOBODY`].
    pub fn block(&self) -> u64 {
        u64::from_ne_bytes(self.block)
    }
}

impl Checks {
    /// The check of a key.
    pub fn get(&self, key: &Id) -> Option<Check> {
        self.keys.get(key).copied()
    }

    /// Which key is due first of those that do not wait for their turn yet, and when.
    pub fn first(&self) -> Option<(u32, Id)> {
        self.by_due.first().copied()
    }

    /// Which of the keys that wait for their turn is next, and when it was due.
    pub fn next(&self) -> Option<(u32, Id)> {
        let block = self.turns.next()?;
        let first = self.late.range((block, 0, Id::new([0; ID_BYTES]))..).next()?;
        Some((first.1, first.2))
    }

    /// A key is late, and waits for the turn of that one of these blocks that has the fewest such
    /// keys: who has many cannot draw others' keys to his own by storing something there.
    pub fn wait(&mut self, key: &Id, blocks: impl IntoIterator<Item = u64>) {
        let Some(check) = self.get(key).filter(|check| !check.late) else { return };
        let blocks = blocks.into_iter().chain([check.block()]).filter(|block| *block != NOBODY);
        let block = blocks.min_by_key(|block| self.turns.waiting(*block)).unwrap_or(NOBODY);
        self.insert(*key, Check { late: true, block: block.to_ne_bytes(), ..check });
    }

    /// Somebody of this block has stored something under a key that is looked after.
    pub fn note_block(&mut self, key: &Id, block: u64) {
        if let Some(check) = self.get(key)
            && block != check.block()
            && (check.block() == NOBODY || self.turns.waiting(block) < self.turns.waiting(check.block()))
        {
            self.insert(*key, Check { block: block.to_ne_bytes(), ..check });
        }
    }

    /// So many bytes were spent in a block's turn.
    pub fn spend(&mut self, block: u64, bytes: u64) {
        self.turns.spend(block, bytes);
    }

    /// A key that is looked after now is due again then.
    pub fn set(&mut self, key: Id, now: u32, due: u32, interval: u16) {
        let latest = now.saturating_add(MAX_POSTPONED * u32::from(interval)).max(due);
        let block = self.get(&key).map_or(NOBODY, |check| check.block()).to_ne_bytes();
        self.insert(key, Check { due, latest, interval, late: false, block });
    }

    /// Somebody else has seen to a key: it is due only then, and never before it was; but no
    /// later than [`MAX_POSTPONED`] intervals after it was [`set`](Self::set).
    pub fn postpone(&mut self, key: &Id, due: u32) {
        if let Some(check) = self.get(key)
            && check.due < due.min(check.latest)
        {
            self.insert(*key, Check { due: due.min(check.latest), late: false, ..check });
        }
    }

    /// A key is looked after no more.
    pub fn remove(&mut self, key: &Id) {
        if let Some(check) = self.keys.remove(key) {
            self.unlist(key, &check);
            self.marks.remove(key);
        }
    }

    /// The digest from which on the values of a key are to be offered next; `None`: anywhere.
    pub fn mark(&self, key: &Id) -> Option<Id> {
        self.marks.get(key).copied()
    }

    /// The values of a key that is looked after are to be offered from this digest on.
    pub fn set_mark(&mut self, key: &Id, digest: Option<Id>) {
        match digest.filter(|_| self.keys.contains_key(key)) {
            Some(digest) => drop(self.marks.insert(*key, digest)),
            None => drop(self.marks.remove(key)),
        }
    }

    /// Looks at a few keys, others each time, and forgets those that are not of use any more. So
    /// there are never many of these, however fast others make keys come and go: a look at what
    /// is due comes too late for that.
    pub fn forget_some(&mut self, is_of_use: impl Fn(&Id) -> bool) {
        let after = self.swept.map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.keys.range((after, Bound::Unbounded)).take(SWEPT_AT_ONCE).map(|(key, _)| *key);
        let next: Vec<Id> = next.collect();
        self.swept = next.get(SWEPT_AT_ONCE - 1).copied();
        for key in next.iter().filter(|key| !is_of_use(key)) {
            self.remove(key);
        }
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    fn insert(&mut self, key: Id, check: Check) {
        if let Some(before) = self.keys.insert(key, check) {
            self.unlist(&key, &before);
        }
        if check.late {
            self.late.insert((check.block(), check.due, key));
            self.turns.enter(check.block());
        } else {
            self.by_due.insert((check.due, key));
        }
    }

    fn unlist(&mut self, key: &Id, check: &Check) {
        if check.late {
            self.late.remove(&(check.block(), check.due, *key));
            self.turns.leave(check.block());
        } else {
            self.by_due.remove(&(check.due, *key));
        }
    }
}

/// Whose turn it is: of the blocks that wait, that with which the least was spent since it
/// began to wait, as in start-time fair queueing (Goyal, Vin, Cheng, 1996). Nothing is kept of
/// those that do not wait, but for what they are ahead of those that do.
#[derive(Debug, Default)]
struct Turns {
    blocks: BTreeMap<u64, Turn>,
    by_spent: BTreeSet<(u64, u64)>,
    /// What was spent with the block that had the last turn, when it began.
    reached: u64,
}

#[derive(Clone, Copy, Debug)]
struct Turn {
    /// How many keys wait.
    waiting: u32,
    spent: u64,
}

impl Turns {
    fn next(&self) -> Option<u64> {
        self.by_spent.first().map(|(_, block)| *block)
    }

    fn waiting(&self, block: u64) -> u32 {
        self.blocks.get(&block).map_or(0, |turn| turn.waiting)
    }

    fn enter(&mut self, block: u64) {
        self.change(block, |turn| turn.waiting = turn.waiting.saturating_add(1));
    }

    fn leave(&mut self, block: u64) {
        self.change(block, |turn| turn.waiting = turn.waiting.saturating_sub(1));
    }

    fn spend(&mut self, block: u64, bytes: u64) {
        self.change(block, |turn| turn.spent = turn.spent.saturating_add(bytes));
    }

    fn change(&mut self, block: u64, change: impl FnOnce(&mut Turn)) {
        let turn = self.blocks.entry(block).or_insert(Turn { waiting: 0, spent: self.reached });
        self.by_spent.remove(&(turn.spent, block));
        change(turn);
        self.by_spent.insert((turn.spent, block));
        // The first one waits, or there is none.
        while let Some(&(spent, block)) = self.by_spent.first() {
            self.reached = self.reached.max(spent);
            if self.waiting(block) > 0 {
                break;
            }
            self.by_spent.pop_first();
            self.blocks.remove(&block);
        }
    }
}

/// When each value of the owner's is renewed, by its number in the store.
#[derive(Debug, Default)]
pub struct Renewals {
    due: BTreeMap<i64, u32>,
    by_due: BTreeSet<(u32, i64)>,
}

impl Renewals {
    /// Which is due first, and when.
    pub fn first(&self) -> Option<(u32, i64)> {
        self.by_due.first().copied()
    }

    /// Whether the value of this number is renewed.
    pub fn contains(&self, number: i64) -> bool {
        self.due.contains_key(&number)
    }

    /// The value of this number is due then.
    pub fn set(&mut self, number: i64, due: u32) {
        if let Some(before) = self.due.insert(number, due) {
            self.by_due.remove(&(before, number));
        }
        self.by_due.insert((due, number));
    }

    /// It is renewed no more.
    pub fn remove(&mut self, number: i64) {
        if let Some(due) = self.due.remove(&number) {
            self.by_due.remove(&(due, number));
        }
    }
}
