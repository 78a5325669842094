//! What goes when streams keep too much in all.

use super::Mux;
use crate::airhook::channel::Channel;
use crate::airhook::lru::Class;
use crate::context::{Context, Key};

/// How many bytes of an incomplete message are kept for an unproven sender: more than
/// anybody sends before he has an answer.
const MAX_UNPROVEN_WAITING: usize = 16 * 1024;

impl<C: Channel> Mux<C> {
    /// The stream of `key` has come to keep more. When that is too much in all, strangers
    /// go first; then the messages that have been incomplete for longest, since honest
    /// senders are done with theirs in no time. True when `key` itself had to go.
    pub(super) fn make_room(&mut self, ctx: &mut Context<'_>, key: Key) -> bool {
        let stranger = self.get(key).is_some_and(|entry| !entry.connection.is_proven());
        if stranger && self.get(key).is_some_and(|entry| entry.channel.waiting() > MAX_UNPROVEN_WAITING) {
            self.break_off(ctx, key);
            return true;
        }
        self.note_waiting(key);
        self.forget_strangers(ctx, key);
        while self.buffered > ctx.config.max_buffered {
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
        while self.buffered > ctx.config.max_buffered {
            match self.lists.front(Class::Unproven) {
                Some(index) if index != key.index => self.remove(ctx, self.key(index)),
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
