//! What a peer of 2003 holds, and for how long.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::time::Time;

/// Values older than this go, when it next looks.
const LIFE: Duration = Duration::from_secs(24 * 3600);
/// It looks soon after its start, and then every hour.
const FIRST_LOOK: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_secs(3600);
/// Bytes of keys and values, at most. The original had no bound.
const MAX_BYTES: usize = 64 << 20;
/// What a value is taken to need beside its bytes.
const OVERHEAD: usize = 64;

#[derive(Debug)]
struct Kept {
    stored: Time,
    value: Box<[u8]>,
}

#[derive(Debug)]
pub(super) struct Values {
    /// Keys of any length, as they come.
    kept: BTreeMap<Box<[u8]>, Vec<Kept>>,
    bytes: usize,
    count: usize,
    next_look: Time,
}

fn size(key: &[u8], value: &[u8]) -> usize {
    key.len() + value.len() + OVERHEAD
}

impl Values {
    pub fn new(now: Time) -> Self {
        Values { kept: BTreeMap::new(), bytes: 0, count: 0, next_look: now + FIRST_LOOK }
    }

    pub fn len(&self) -> usize {
        self.count
    }

    pub fn of(&self, key: &[u8]) -> impl Iterator<Item = &[u8]> {
        self.kept.get(key).into_iter().flatten().map(|kept| &*kept.value)
    }

    /// Keeps a value for a whole life from now on. `false`: there is no room.
    pub fn store(&mut self, now: Time, key: &[u8], value: &[u8]) -> bool {
        let of_key = self.kept.get_mut(key);
        if let Some(of_key) = of_key
            && let Some(kept) = of_key.iter_mut().find(|kept| *kept.value == *value)
        {
            kept.stored = now;
            return true;
        }
        let bytes = self.bytes + size(key, value);
        if bytes > MAX_BYTES {
            return false;
        }
        self.bytes = bytes;
        self.count += 1;
        self.kept.entry(key.into()).or_default().push(Kept { stored: now, value: value.into() });
        true
    }

    /// When something may have to go.
    pub fn next_deadline(&self) -> Option<Time> {
        (self.count > 0).then_some(self.next_look)
    }

    pub fn expire(&mut self, now: Time) {
        if now < self.next_look {
            return;
        }
        let missed = now.since(self.next_look).as_secs() / LOOK.as_secs();
        let at = self.next_look + Duration::from_secs(missed * LOOK.as_secs());
        self.next_look = at + LOOK;
        let (mut bytes, mut count) = (0, 0);
        self.kept.retain(|key, values| {
            values.retain(|kept| at.since(kept.stored) <= LIFE);
            bytes += values.iter().map(|kept| size(key, &kept.value)).sum::<usize>();
            count += values.len();
            !values.is_empty()
        });
        (self.bytes, self.count) = (bytes, count);
    }
}
