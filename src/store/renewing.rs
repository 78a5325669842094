//! Storing a value that is there already: whether it lives longer for that, and whom it counts
//! for.
//!
//! A value counts for one sender, its payer. Were that for good whoever stored it first, a stranger
//! could store what somebody else publishes before him, hold most here later, and so have it make
//! room for others although its publisher renews it; or he could renew what others have given up, and
//! fill their quotas with it at no cost to his own. Were it whoever stored it last, he could do the
//! first at any time. So:
//!
//! * The payer's own renewals need no room, and take effect always. What the node's owner
//!   stores counts for nobody from then on.
//! * Who else stores the value becomes its payer, if there is room in his quotas, when it lives longer
//!   for that by more than a tenth of what he asks for: the payer does not renew it then, or has a
//!   much shorter life in mind. Without that room the value keeps its time. What changes less is
//!   not done at all: a value that is renewed every hour cannot be taken from its payer.
//! * Where values make room for others, he becomes it as well when the payer's block of addresses holds
//!   most, and so is the next to make room, and his own would hold less even with the value. So what its
//!   publisher renews is safe from then on; and it does not go to and fro, since the greater
//!   of the two gets smaller.
//!
//! Whether he publishes the value or hands it on makes no difference: anybody can say either. What others
//! hand on is wanted when it is younger by a tenth of a life, too, so that it is not
//! offered again and again.

use rusqlite::params;

use super::clock::Moment;
use super::database::Database;
use super::resident::{Change, Counted, Put, Resident, charge};
use super::schema;
use super::values::{NewValue, block_of, counted};
use crate::config::WhenFull;
use crate::contact::block;
use crate::error::StoreError;
use crate::id::Id;
use crate::time::UnixTime;

/// Who is not the payer adds to a value's life only if that is more than such a part of it.
const LEAST_PART: i64 = 10;

/// A value that is there.
struct Present {
    number: i64,
    counted: Counted,
    /// When it was stored.
    time: i64,
    /// When it expires, for those who ask.
    end: UnixTime,
}

impl Database {
    /// Renews a value, if it is there.
    pub(super) fn renew(
        &mut self,
        who: &mut Resident,
        new: &NewValue<'_>,
        digest: &Id,
        at: &Moment,
    ) -> Result<Option<Put>, StoreError> {
        if !who.has(new.key) {
            return Ok(None);
        }
        let Some(present) = self.present(who, new.key, digest, at)? else { return Ok(None) };
        let Present { number, counted, time, end } = present;
        let sender = new.sender.map(|sender| sender.to_canonical());
        let changes_payer = sender != counted.sender;
        if changes_payer && new.sender.is_some() {
            let unchanged = Put::Renewed { until: end };
            if !adds_much(new, end, at) && !saves(who, new, &counted) {
                return Ok(Some(unchanged));
            }
            self.know_shares(who, new.key, counted.length)?;
            let refusal = who.refusal_of_sender(new.key, counted.length, new.sender, counted.sender);
            who.forget_needless_shares(new.key);
            if let Some(refusal) = refusal {
                return Ok(Some(if end > at.now { unchanged } else { Put::Refused(refusal) }));
            }
        }
        // One that was in doubt is so no more.
        let until = end.0.max(time).max(new.expires.0).max(new.time.0);
        let makes_room = who.limits.when_full == WhenFull::MakeRoom;
        self.write(|connection| {
            connection.execute(schema::RENEW_VALUE, params![number, new.time.0, until, who.run])?;
            if changes_payer {
                let sender = sender.map(|sender| sender.to_string());
                let block = new.sender.filter(|_| makes_room).map(block_of);
                connection.execute(schema::SET_PAYER, params![number, sender, block])?;
            }
            Ok(())
        })?;
        if changes_payer {
            self.note(who, Change::PaidBy(counted, sender));
        }
        Ok(Some(Put::Renewed { until: UnixTime(until) }))
    }

    fn present(
        &mut self,
        who: &Resident,
        key: &Id,
        digest: &Id,
        at: &Moment,
    ) -> Result<Option<Present>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare(schema::PRESENT)?;
            let mut rows = statement.query(params![who.number, key.as_bytes(), digest.as_bytes()])?;
            let Some(row) = rows.next()? else { return Ok(None) };
            let end = at.end(row.get(5)?, UnixTime(row.get(6)?));
            Ok(Some(Present { number: row.get(0)?, counted: counted(row)?, time: row.get(4)?, end }))
        })
    }
}

/// Whether a value that expires at `end` lives much longer with this one.
fn adds_much(new: &NewValue<'_>, end: UnixTime, at: &Moment) -> bool {
    let life = new.expires.0.saturating_sub(at.now.0).max(0);
    new.expires.0.saturating_sub(end.0) > life / LEAST_PART
}

/// Whether a value that would be among the first to make room is not any more when it counts for the
/// new one's sender.
fn saves(who: &Resident, new: &NewValue<'_>, present: &Counted) -> bool {
    let (Some(sender), Some(payer)) = (new.sender, present.sender) else { return false };
    let is_next = who.blocks_by_size().next().is_some_and(|(most, _)| most == block(payer));
    let with_it = who.of_block(sender).saturating_add(charge(present.length));
    is_next && block(sender) != block(payer) && with_it < who.of_block(payer)
}
