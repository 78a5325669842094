//! The contacts that a node has saved.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use rusqlite::params;

use super::database::Database;
use super::fault::address;
use super::resident::Resident;
use super::schema;
use crate::contact::Contact;
use crate::error::StoreError;
use crate::id::Id;
use crate::time::UnixTime;

impl Database {
    /// Saves contacts, each with the time of day at which it last answered, in place of those
    /// that were saved before; where that time is not known, the one that was saved stays. Of
    /// two with the same id the later one is kept; a scope of IPv6 is not saved, since it
    /// means nothing after a restart.
    ///
    /// # Errors
    ///
    /// When SQLite fails; everything since the last commit is then undone.
    pub fn save_contacts(
        &mut self,
        who: &Resident,
        contacts: impl IntoIterator<Item = (Contact, Option<UnixTime>)>,
    ) -> Result<(), StoreError> {
        self.write(|connection| {
            let mut statement = connection.prepare(schema::CONTACTS)?;
            let before = statement.query_map([who.number], |row| Ok((Id::new(row.get(0)?), row.get(3)?)))?;
            let before = before.collect::<rusqlite::Result<BTreeMap<Id, Option<i64>>>>()?;
            connection.execute(schema::DELETE_CONTACTS, [who.number])?;
            let mut statement = connection.prepare(schema::ADD_CONTACT)?;
            contacts.into_iter().try_for_each(|(Contact { id, addr }, heard)| {
                let (host, port) = (addr.ip().to_string(), addr.port());
                let heard = heard.map(|at| at.0).or(before.get(&id).copied().flatten());
                statement.execute(params![who.number, id.as_bytes(), host, port, heard]).map(drop)
            })
        })
    }

    /// The contacts that were saved last, in the order of their ids.
    ///
    /// # Errors
    ///
    /// When SQLite fails; everything since the last commit is then undone.
    pub fn contacts(&mut self, who: &Resident) -> Result<Vec<Contact>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare(schema::CONTACTS)?;
            let contacts = statement.query_map([who.number], |row| {
                let ip = address(&row.get::<_, String>(1)?)?;
                Ok(Contact { id: Id::new(row.get(0)?), addr: SocketAddr::new(ip, row.get(2)?) })
            })?;
            contacts.collect()
        })
    }
}
