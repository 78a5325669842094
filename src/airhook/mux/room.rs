//! Which connections go when they have been idle for long, when there are too many, or when
//! their streams keep too much in all.

use std::net::SocketAddr;
use std::time::Duration;

use super::Mux;
use crate::airhook::channel::Channel;
use crate::airhook::lru::Class;
use crate::config::Config;
use crate::context::{Context, Due, Key};
use crate::error::CallError;

/// How long an opening of someone else's is kept after he was last heard: longer than his
/// request waits for its answer (10 s), and his repetitions of it go on. One who is slower
/// than that proves himself all the same, and starts over.
const UNPROVEN_IDLE: Duration = Duration::from_secs(15);

/// Bytes kept for streams.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kept {
    /// In all.
    pub bytes: usize,
    /// Of these, those of messages of which not all has come.
    pub waiting: usize,
}

impl Kept {
    /// What is kept for one stream.
    pub fn of(channel: &impl Channel) -> Self {
        Kept { bytes: channel.buffered(), waiting: channel.waiting() }
    }

    /// What one stream keeps has changed.
    pub fn change(&mut self, before: Kept, after: Kept) {
        self.bytes = self.bytes + after.bytes - before.bytes;
        self.waiting = self.waiting + after.waiting - before.waiting;
    }
}

impl<C: Channel> Mux<C> {
    /// Forgets connections that have been idle for long enough.
    pub fn handle_idle(&mut self, ctx: &mut Context<'_>) {
        self.idle = None;
        for class in Class::ALL {
            while let Some(index) = self.lists.front(class) {
                let key = self.key(index);
                let Some(entry) = self.get(key) else { break };
                if ctx.now < entry.link.active + idle_limit(class, ctx.config) {
                    break;
                }
                self.remove(ctx, key, CallError::Unreachable);
            }
        }
        self.arm_idle(ctx);
    }

    pub(super) fn arm_idle(&mut self, ctx: &mut Context<'_>) {
        let first = Class::ALL
            .into_iter()
            .filter_map(|class| {
                let entry = self.entries.get(self.lists.front(class)? as usize)?;
                Some(entry.link.active + idle_limit(class, ctx.config))
            })
            .min();
        if let Some(at) = first {
            ctx.arm_by(&mut self.idle, at, Due::Idle);
        }
    }

    /// Sees to it that there may be one more connection, of this class: by forgetting one of
    /// them if need be. None when there may not.
    pub(super) fn make_place(&mut self, ctx: &mut Context<'_>, class: Class) -> Option<()> {
        if class == Class::Unproven && self.lists.len(class) >= ctx.config.max_unproven {
            self.evict(ctx, &[Class::Unproven])?;
        }
        if self.entries.len() < ctx.config.max_connections {
            return Some(());
        }
        // Lasting ones are worth more, but whoever wants to may look like one.
        let many = self.lists.len(Class::Lasting) > ctx.config.max_connections / 2;
        let (first, then) =
            if many { (Class::Lasting, Class::Usual) } else { (Class::Usual, Class::Lasting) };
        let order = [Class::Unproven, first, then, Class::Opened];
        // Nobody takes the place of one that we have just opened but another such.
        self.evict(ctx, if class == Class::Opened { &order } else { &order[..3] })
    }

    /// Forgets the connection that was idle longest, of the first of these classes that has any.
    fn evict(&mut self, ctx: &mut Context<'_>, classes: &[Class]) -> Option<()> {
        let index = classes.iter().find_map(|&class| self.lists.front(class))?;
        self.traffic.evicted += 1;
        self.remove(ctx, self.key(index), CallError::Forgotten);
        Some(())
    }

    /// Forgets a connection; calls over it fail, and that is why.
    pub(super) fn remove(&mut self, ctx: &mut Context<'_>, key: Key, why: CallError) {
        if self.get(key).is_none() {
            return;
        }
        self.lists.unlink(&mut self.entries, key.index);
        let mut entry = self.entries.remove(key.index as usize);
        self.by_addr.remove(&entry.addr, key.index);
        self.blocks.remove(&entry.addr, self.entries.len(), ctx.config);
        self.kept.change(Kept::of(&entry.channel), Kept::default());
        ctx.disarm(&mut entry.timer);
        self.reports.gone(key, &mut entry);
        if entry.adopted {
            // Who comes back must not be given the same session, whose numbers he has heard, again.
            self.openings.outdate(entry.addr);
        }
        if entry.connection.is_proven() {
            let trip = entry.connection.round_trip();
            self.learned.note(self.by_addr.hasher(), &entry.addr, trip, ctx.now);
        }
        self.fail_all(key.index, entry.call, &why);
    }

    /// A connection to `addr` has been entered.
    pub(super) fn count_in_block(&mut self, ctx: &Context<'_>, addr: &SocketAddr) {
        if self.blocks.is_missing(self.entries.len(), ctx.config) {
            // Not again before half of them have gone.
            self.blocks.begin(self.by_addr.hasher().clone());
            self.entries.iter().for_each(|(_, entry)| self.blocks.add(&entry.addr));
        } else {
            self.blocks.add(addr);
        }
    }

    /// The stream of `key` has come to keep more. When that is too much in all, strangers
    /// go first; then the messages that have been incomplete for longest, since honest
    /// senders are done with theirs in no time. True when `key` itself had to go.
    pub(super) fn make_room(&mut self, ctx: &mut Context<'_>, key: Key) -> bool {
        let stranger = self.get(key).is_some_and(|entry| !entry.connection.is_proven());
        if stranger
            && self.get(key).is_some_and(|entry| entry.channel.waiting() > ctx.config.max_unfinished_unproven)
        {
            self.break_off(ctx, key);
            return true;
        }
        self.note_waiting(key);
        self.forget_strangers(ctx, key);
        let (most, most_waiting) = (ctx.config.max_buffered, ctx.config.max_unfinished);
        while self.kept.bytes > most || self.kept.waiting > most_waiting {
            let Some(oldest) = self.next_waiting() else {
                self.break_off(ctx, key);
                return true;
            };
            self.break_off(ctx, oldest);
            if oldest == key {
                return true;
            }
        }
        false
    }

    /// While too much is kept in all, forgets unproven senders other than `key`.
    pub(super) fn forget_strangers(&mut self, ctx: &mut Context<'_>, key: Key) {
        while self.kept.bytes > ctx.config.max_buffered {
            match self.lists.front(Class::Unproven) {
                Some(index) if index != key.index => {
                    self.traffic.evicted += 1;
                    self.remove(ctx, self.key(index), CallError::Forgotten);
                }
                _ => break,
            }
        }
    }

    /// Lines a connection up whose stream has begun to wait for the rest of a message.
    fn note_waiting(&mut self, key: Key) {
        let serial = self.waiting_serial.wrapping_add(1);
        let Some(entry) = self.get_mut(key) else {
            return;
        };
        if !entry.channel.begin_waiting(serial) {
            return;
        }
        self.waiting_serial = serial;
        self.waiting.push_back((key, serial));
        // Most are done long before their turn, and are swept out now and then.
        if self.waiting.len() > 2 * self.entries.len() + 16 {
            let mut waiting = std::mem::take(&mut self.waiting);
            waiting.retain(|&(key, serial)| self.is_waiting(key, serial));
            self.waiting = waiting;
        }
    }

    fn is_waiting(&self, key: Key, serial: u32) -> bool {
        self.get(key).is_some_and(|entry| entry.channel.waits_since() == Some(serial))
    }

    /// The connection that has been waiting longest for the rest of a message.
    fn next_waiting(&mut self) -> Option<Key> {
        while let Some((key, serial)) = self.waiting.pop_front() {
            if self.is_waiting(key, serial) {
                return Some(key);
            }
        }
        None
    }
}

fn idle_limit(class: Class, config: &Config) -> Duration {
    match class {
        Class::Unproven => UNPROVEN_IDLE,
        Class::Opened | Class::Usual => config.connection_idle,
        Class::Lasting => config.lasting_idle,
    }
}
