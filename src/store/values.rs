//! Values: storing them, giving them out, deleting them.

use std::net::IpAddr;
use std::ops::ControlFlow;

use rusqlite::{Row, Statement, params};

use super::clock::Moment;
use super::database::{Database, NewRow};
use super::fault::address;
use super::refusal::Refusal;
use super::resident::{Change, Counted, Put, Resident, charge};
use super::schema;
use super::shares::Crowd;
use crate::config::WhenFull;
use crate::contact::block;
use crate::error::StoreError;
use crate::id::Id;
use crate::time::UnixTime;

/// How many rows one question of a key looks at.
pub(super) const MAX_ROWS: u32 = 2000;
/// How many bytes of values are deleted at once: a long one has many pages.
const EXPIRED_BYTES: u64 = 1 << 20;
/// After so many values whose lives were shortened at once, the log is copied and cut.
const LIMITED_MANY: usize = 1000;
/// How many values that have expired make room for a new one.
const EXPIRED_FOR_ONE: u32 = 20;
/// How many values at the most make room for one.
const DISPLACED_FOR_ONE: usize = 200;

/// Longer than any digest, and so after each.
const END: [u8; 21] = [0xff; 21];

/// A value that is to be stored.
#[derive(Clone, Copy, Debug)]
pub struct NewValue<'a> {
    /// Its key.
    pub key: &'a Id,
    /// Its bytes.
    pub value: &'a [u8],
    /// When it was published.
    pub time: UnixTime,
    /// When it expires, no sooner than that.
    pub expires: UnixTime,
    /// Who stores it; none: the node's owner.
    pub sender: Option<IpAddr>,
}

/// What was deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// How many values.
    pub deleted: u32,
    /// Whether there is more to do.
    pub more: bool,
}

/// A value that would make room.
struct Victim {
    number: i64,
    counted: Counted,
    distance: i64,
    time: i64,
}

impl Database {
    /// Stores a value. One that is there already
    /// (by its SHA-1) only gets the later times, which needs no room; from somebody else than
    /// it counts for, only where that makes a difference, and it counts for him from then on.
    ///
    /// Values that have expired take up room until [`expire`](Self::expire)
    /// deletes them, or until it is needed.
    ///
    /// # Errors
    ///
    /// When SQLite fails; everything since the last commit is then undone.
    pub fn put(&mut self, who: &mut Resident, new: &NewValue<'_>, at: &Moment) -> Result<Put, StoreError> {
        self.settle(who);
        let digest = Id::of(new.value);
        let (time, expires) = (new.time.0, new.expires.0.max(new.time.0));
        if let Some(renewed) = self.renew(who, new, &digest, at)? {
            return Ok(renewed);
        }
        let length = new.value.len() as u64;
        self.know_shares(who, new.key, length)?;
        let mut refusal = who.refusal(new.key, length, new.sender);
        if refusal.as_ref().is_some_and(Refusal::is_of_key) {
            self.delete_expired_of(who, new.key, &digest, at.now)?;
            self.know_shares(who, new.key, length)?;
            refusal = who.refusal(new.key, length, new.sender);
        }
        if refusal.is_some() || who.is_full_for(length) {
            self.delete_expired(who, at.now, EXPIRED_FOR_ONE)?;
            self.know_shares(who, new.key, length)?;
            refusal = who.refusal(new.key, length, new.sender);
        }
        if refusal.is_none() && who.is_full_for(length) {
            refusal = match who.limits.when_full {
                WhenFull::Refuse => Some(Refusal::Full),
                WhenFull::MakeRoom => self.make_room(who, new)?,
            };
        }
        if let Some(refusal) = refusal {
            who.forget_needless_shares(new.key);
            return Ok(Put::Refused(refusal));
        }
        let makes_room = who.limits.when_full == WhenFull::MakeRoom;
        self.write_later(NewRow {
            node: who.number,
            run: who.run,
            key: *new.key,
            digest,
            time,
            expires,
            sender: new.sender,
            block: new.sender.filter(|_| makes_room).map(block_of),
            distance: distance(&who.id(), new.key),
            value: new.value.into(),
        })?;
        let added = Counted { key: *new.key, length, sender: new.sender };
        self.note(who, Change::Added(added));
        if let Some(crowd) = who.crowd_mut(new.key) {
            crowd.first_end = crowd.first_end.min(expires);
        }
        who.forget_needless_shares(new.key);
        Ok(Put::Added)
    }

    /// Lets others make room for a value, or says why it is not stored; then nothing has.
    fn make_room(&mut self, who: &mut Resident, new: &NewValue<'_>) -> Result<Option<Refusal>, StoreError> {
        let length = new.value.len() as u64;
        let own = new.sender.map(block);
        let far = distance(&who.id(), new.key);
        let (mut bytes, mut values) = who.excess(length);
        if charge(length) > who.limits.max_stored_bytes || who.limits.max_stored_values == 0 {
            return Ok(Some(Refusal::Full));
        }
        // Blocks as they would be with the new value: what they hold, less what of it goes.
        let mut touched: Vec<(u64, u64, u32)> = Vec::new();
        if let (Some(own), Some(sender)) = (own, new.sender) {
            touched.push((own, who.of_block(sender).saturating_add(charge(length)), 0));
        }
        let mut others = who.blocks_by_size().filter(|(block, _)| own != Some(*block)).peekable();
        let found = self.read(|connection| {
            let mut statement = connection.prepare(schema::VALUE_TO_GO)?;
            let mut victims: Vec<Victim> = Vec::new();
            while bytes > 0 || values > 0 {
                // Of the others the next one is the first that may hold most.
                let may_be_next = |next: &(u64, u64)| touched.iter().all(|(_, held, _)| next.1 >= *held);
                if let Some((block, held)) = others.next_if(may_be_next) {
                    touched.push((block, held, 0));
                }
                let Some(most) = touched.iter_mut().max_by_key(|(block, held, _)| (*held, *block)) else {
                    return Ok(Err(Refusal::Full));
                };
                let is_own = own == Some(most.0);
                let mut rows = statement.query(params![who.number, most.0 as i64, most.2])?;
                let Some(victim) = rows.next()?.map(victim).transpose()? else {
                    return Ok(Err(if is_own { Refusal::Displaced } else { Refusal::Full }));
                };
                if is_own && (far, victim.time) > (victim.distance, new.time.0) {
                    return Ok(Err(Refusal::Displaced));
                }
                let freed = charge(victim.counted.length);
                (most.1, most.2) = (most.1.saturating_sub(freed), most.2 + 1);
                (bytes, values) = (bytes.saturating_sub(freed), values.saturating_sub(1));
                victims.push(victim);
                if victims.len() > DISPLACED_FOR_ONE {
                    return Ok(Err(Refusal::Full));
                }
            }
            Ok(Ok(victims))
        });
        drop(others);
        let victims = match found? {
            Ok(victims) => victims,
            Err(refusal) => return Ok(Some(refusal)),
        };
        let victims = victims.iter().map(|victim| (victim.number, victim.counted));
        self.delete(who, victims, Change::Displaced)?;
        Ok(None)
    }

    /// Hands out the values of a key that have not expired, for as
    /// long as `each` says to go on: a key may have far more than fits into one
    /// message. They come in the order of their SHA-1s, from the first of two digests on and then
    /// round until before the second; all the way round when both are the same: from a
    /// random start each has its turn. A key without values costs a look into memory. Of a great
    /// many only some are looked at; then comes back where to go on.
    ///
    /// # Errors
    ///
    /// When SQLite fails; everything since the last commit is then undone.
    pub fn values(
        &mut self,
        who: &mut Resident,
        key: &Id,
        at: &Moment,
        (start, stop): (&Id, &Id),
        mut each: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<Option<Id>, StoreError> {
        self.settle(who);
        if !who.has(key) {
            return Ok(None);
        }
        let of = (who.number, *key);
        self.read(|connection| {
            let mut statement = connection.prepare(schema::VALUES_BETWEEN)?;
            walk(&mut statement, of, at, (start, stop), &mut each)
        })
    }

    /// Deletes values that expired at `now` or before by the node's clock, the first ones
    /// first and no more than `at_most`, or fewer that are long, so that one turn of the loop
    /// does not take long; and gives back a few pages, if most of them are free.
    ///
    /// # Errors
    ///
    /// When SQLite fails; everything since the last commit is then undone.
    pub fn expire(&mut self, who: &mut Resident, now: UnixTime, at_most: u32) -> Result<Expired, StoreError> {
        self.settle(who);
        let mut expired = self.delete_expired(who, now, at_most)?;
        expired.more |= self.give_back()?;
        Ok(expired)
    }

    /// Sees to it that no value expires later than this: by the settings of now, none of what the
    /// file brings lives longer than one that is stored now. Commits, since that may be much.
    ///
    /// # Errors
    ///
    /// When SQLite fails; everything since the last commit is then undone.
    pub fn limit_lives(&mut self, who: &Resident, latest: UnixTime) -> Result<(), StoreError> {
        if who.values() == 0 {
            return Ok(());
        }
        let limited =
            self.write(|connection| connection.execute(schema::LIMIT_LIVES, [who.number, latest.0]))?;
        self.commit()?;
        // So much in the log at once would have to be cut off in one of the first turns.
        if limited > LIMITED_MANY { self.copy_log() } else { Ok(()) }
    }

    fn delete_expired(
        &mut self,
        who: &mut Resident,
        now: UnixTime,
        at_most: u32,
    ) -> Result<Expired, StoreError> {
        if who.values() == 0 {
            return Ok(Expired::default());
        }
        let mut bytes = 0;
        let expired = self.read(|connection| {
            let mut statement = connection.prepare(schema::EXPIRED_VALUES)?;
            let mut rows = statement.query(params![who.number, now.0, at_most])?;
            let mut expired = Vec::new();
            while bytes < EXPIRED_BYTES
                && let Some(row) = rows.next()?
            {
                let counted = counted(row)?;
                bytes += counted.length;
                expired.push((row.get::<_, i64>(0)?, counted));
            }
            Ok(expired)
        })?;
        let deleted = expired.len() as u32;
        if deleted > 0 {
            self.delete(who, expired.into_iter(), Change::Removed)?;
        }
        Ok(Expired { deleted, more: deleted > 0 && (deleted == at_most || bytes >= EXPIRED_BYTES) })
    }

    /// Sees to it that it is known what each block has of a key, if that can be too much with one
    /// more value of that length.
    pub(super) fn know_shares(
        &mut self,
        who: &mut Resident,
        key: &Id,
        length: u64,
    ) -> Result<(), StoreError> {
        if !who.lacks_shares(key, length) {
            return Ok(());
        }
        let crowd = self.read(|connection| {
            let mut crowd = Crowd::default();
            let mut statement = connection.prepare(schema::PRESENT_BETWEEN)?;
            let mut rows = statement.query(params![who.number, key.as_bytes(), [0u8; 20], END, -1])?;
            while let Some(row) = rows.next()? {
                let Counted { length, sender, .. } = counted(row)?;
                if let Some(sender) = sender {
                    crowd.add(sender, charge(length));
                }
                crowd.first_end = crowd.first_end.min(row.get(4)?);
            }
            Ok(crowd)
        })?;
        who.set_shares(key, crowd);
        Ok(())
    }

    /// Deletes some values of a full key that have expired, from a digest on and round. Where
    /// there are none, its rows are looked at no more than once in a second.
    fn delete_expired_of(
        &mut self,
        who: &mut Resident,
        key: &Id,
        start: &Id,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        if who.crowd(key).is_none_or(|crowd| crowd.first_end > now.0) {
            return Ok(());
        }
        let (mut first_end, mut room) = (i64::MAX, MAX_ROWS);
        let expired = self.read(|connection| {
            let mut statement = connection.prepare(schema::PRESENT_BETWEEN)?;
            let (mut expired, mut bytes) = (Vec::new(), 0);
            for (from, before) in [(start.as_bytes(), &END[..]), (&[0; 20], start.as_bytes())] {
                let mut rows = statement.query(params![who.number, key.as_bytes(), from, before, room])?;
                while let Some(row) = rows.next()? {
                    room -= 1;
                    let end: i64 = row.get(4)?;
                    if end > now.0 {
                        first_end = first_end.min(end);
                        continue;
                    }
                    let counted = counted(row)?;
                    bytes += counted.length;
                    expired.push((row.get::<_, i64>(0)?, counted));
                    if expired.len() >= EXPIRED_FOR_ONE as usize || bytes >= EXPIRED_BYTES {
                        // There may be more.
                        first_end = i64::MIN;
                        return Ok(expired);
                    }
                }
            }
            Ok(expired)
        })?;
        if room == 0 {
            // Of a great many others are looked at the next time.
            first_end = first_end.min(now.0.saturating_add(1));
        }
        self.delete(who, expired.into_iter(), Change::Removed)?;
        if let Some(crowd) = who.crowd_mut(key) {
            crowd.first_end = first_end;
        }
        Ok(())
    }

    fn delete(
        &mut self,
        who: &mut Resident,
        values: impl Iterator<Item = (i64, Counted)> + Clone,
        change: fn(Counted) -> Change,
    ) -> Result<(), StoreError> {
        self.write(|connection| {
            let mut statement = connection.prepare(schema::DELETE_VALUE)?;
            values.clone().try_for_each(|(number, _)| statement.execute([number]).map(drop))
        })?;
        values.for_each(|(_, counted)| self.note(who, change(counted)));
        Ok(())
    }
}

/// What [`Database::values`] does with a statement for it, which is `VALUES_BETWEEN`.
pub(super) fn walk(
    statement: &mut Statement<'_>,
    (node, key): (i64, Id),
    at: &Moment,
    (start, stop): (&Id, &Id),
    mut each: impl FnMut(&[u8]) -> ControlFlow<()>,
) -> rusqlite::Result<Option<Id>> {
    let (start, stop) = (start.as_bytes(), stop.as_bytes());
    let parts: &[(&[u8; 20], &[u8])] =
        if start < stop { &[(start, stop)] } else { &[(start, &END), (&[0; 20], stop)] };
    let mut room = MAX_ROWS;
    for (from, before) in parts {
        let mut rows = statement.query(params![node, key.as_bytes(), from, before, room + 1])?;
        while let Some(row) = rows.next()? {
            if room == 0 {
                return Ok(Some(Id::new(row.get(3)?)));
            }
            room -= 1;
            let is_there = at.end(row.get(1)?, UnixTime(row.get(2)?)) > at.now;
            if is_there && each(row.get_ref(0)?.as_blob()?).is_break() {
                return Ok(None);
            }
        }
    }
    Ok(None)
}

/// Key, length and sender from the second column on.
pub(super) fn counted(row: &Row<'_>) -> rusqlite::Result<Counted> {
    let sender = row.get_ref(3)?.as_str_or_null()?.map(address).transpose()?;
    Ok(Counted { key: Id::new(row.get(1)?), length: row.get::<_, u32>(2)?.into(), sender })
}

fn victim(row: &Row<'_>) -> rusqlite::Result<Victim> {
    Ok(Victim { number: row.get(0)?, counted: counted(row)?, distance: row.get(4)?, time: row.get(5)? })
}

/// The column for an address's block.
pub(super) fn block_of(sender: IpAddr) -> i64 {
    block(sender) as i64
}

/// The first 63 bits of the distance between two ids.
pub(super) fn distance(one: &Id, other: &Id) -> i64 {
    let (one, other) = (one.as_bytes().iter(), other.as_bytes().iter());
    let far = one.zip(other).take(8).fold(0, |far, (a, b)| far << 8 | u64::from(a ^ b));
    (far >> 1) as i64
}
