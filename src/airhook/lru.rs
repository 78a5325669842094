//! Which connection has been idle longest, for each class of them: lists threaded
//! through the entries of a slab, so that every step takes constant time.

use slab::Slab;

use crate::time::Time;

/// No entry.
const NONE: u32 = u32::MAX;

/// What kind of connection it is, in the order in which they go to make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Opened by someone who has not shown that he receives our answers.
    Unproven,
    /// Both sides have shown that.
    Usual,
    /// The same, with a peer that leaves out session ids as those of 2003 do: it
    /// loses a request when it is forgotten.
    Lasting,
    /// Opened by us, and not yet answered.
    Opened,
}

impl Class {
    /// All of them.
    pub const ALL: [Class; 4] = [Class::Unproven, Class::Usual, Class::Lasting, Class::Opened];
}

/// A connection's place in the list of its class.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// When the connection was last used.
    pub active: Time,
    prev: u32,
    next: u32,
}

impl Link {
    /// In no list yet.
    pub fn new(active: Time) -> Self {
        Link { active, prev: NONE, next: NONE }
    }

    /// Whether none of its list was used since.
    pub fn is_last(&self) -> bool {
        self.next == NONE
    }
}

/// What stands in one of the lists.
pub trait Listed {
    /// Its place there.
    fn link(&mut self) -> &mut Link;
    /// The class, and so the list.
    fn class(&mut self) -> &mut Class;
}

/// The ends and lengths of the lists.
#[derive(Debug)]
pub struct Lists([List; 4]);

#[derive(Clone, Copy, Debug)]
struct List {
    first: u32,
    last: u32,
    length: usize,
}

impl Default for Lists {
    fn default() -> Self {
        Lists([List { first: NONE, last: NONE, length: 0 }; 4])
    }
}

impl Lists {
    /// How many connections of a class there are.
    pub fn len(&self, class: Class) -> usize {
        self.0[class as usize].length
    }

    /// The one of them that has been idle longest.
    pub fn front(&self, class: Class) -> Option<u32> {
        let first = self.0[class as usize].first;
        (first != NONE).then_some(first)
    }

    /// Puts an entry, which is in no list, at the end of the list of `class`.
    pub fn push<T: Listed>(&mut self, entries: &mut Slab<T>, index: u32, class: Class) {
        let list = &mut self.0[class as usize];
        let last = std::mem::replace(&mut list.last, index);
        list.length += 1;
        match link(entries, last) {
            Some(before) => before.next = index,
            None => list.first = index,
        }
        if let Some(entry) = entries.get_mut(index as usize) {
            *entry.class() = class;
            (entry.link().prev, entry.link().next) = (last, NONE);
        }
    }

    /// Takes an entry out of the list of its class.
    pub fn unlink<T: Listed>(&mut self, entries: &mut Slab<T>, index: u32) {
        let Some(entry) = entries.get_mut(index as usize) else {
            return;
        };
        let class = *entry.class();
        let Link { prev, next, .. } = *entry.link();
        let list = &mut self.0[class as usize];
        list.length -= 1;
        match link(entries, prev) {
            Some(before) => before.next = next,
            None => list.first = next,
        }
        match link(entries, next) {
            Some(behind) => behind.prev = prev,
            None => list.last = prev,
        }
    }
}

fn link<T: Listed>(entries: &mut Slab<T>, index: u32) -> Option<&mut Link> {
    entries.get_mut(index as usize).map(Listed::link)
}
