//! Files of older versions.

use std::time::Duration;

use rusqlite::{Connection, params};

use super::fault::{damage, damaged, fault};
use super::opening::{contact_fault, each, published_fault};
use super::schema;
use super::values::distance;
use crate::error::StoreError;
use crate::id::Id;

const OLD_NODES: &str = "SELECT number FROM node LIMIT 2";
const OLD_VALUES: &str = "SELECT node, digest, value FROM value";

/// As for the present version, see [`opening`](super::opening).
pub(super) fn check_rows(connection: &Connection, version: i64) -> Result<(), StoreError> {
    let mut nodes = Vec::new();
    each(connection, OLD_NODES, |row| {
        nodes.push(row.get::<_, i64>(0)?);
        Ok(None)
    })?;
    let node = match nodes[..] {
        [] => None,
        [node] => Some(node),
        _ => return Err(damaged("there is more than one node in it")),
    };
    each(connection, OLD_VALUES, |row| published_fault(row, node))?;
    if version > 1 {
        each(connection, schema::ALL_PUBLISHED, |row| published_fault(row, node))?;
    }
    each(connection, schema::ALL_CONTACTS, |row| contact_fault(row, node))
}

/// Gives a sound database of an older version the present tables, in the transaction that is
/// open. Its values live for `lifetime` from when they were stored last.
pub(super) fn bring_up_to_date(
    connection: &Connection,
    version: i64,
    lifetime: Duration,
) -> Result<(), StoreError> {
    connection.execute_batch(schema::MOVE_AWAY).map_err(fault)?;
    // The old index has a name of its own, and goes with its table.
    for table in schema::TABLES.iter().filter(|&&table| version == 1 || !is_kept(table)) {
        connection.execute_batch(table).map_err(fault)?;
    }
    connection.execute_batch(schema::TAKE_OVER).map_err(fault)?;
    take_over_values(connection, lifetime).map_err(damage)?;
    connection.execute_batch(schema::DROP_OLD).map_err(fault)?;
    connection.execute_batch(&format!("PRAGMA user_version = {}", schema::VERSION)).map_err(fault)
}

/// Whether version 2 had the same.
fn is_kept(table: &str) -> bool {
    schema::TABLES_OF_VERSION_2.contains(&table)
}

fn take_over_values(connection: &Connection, lifetime: Duration) -> rusqlite::Result<()> {
    let lifetime = i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX);
    let mut old = connection.prepare(schema::OLD_VALUES)?;
    let mut new = connection.prepare(schema::TAKE_OVER_VALUE)?;
    let mut rows = old.query([])?;
    while let Some(row) = rows.next()? {
        let (number, node, time): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(4)?);
        let (key, id) = (Id::new(row.get(2)?), Id::new(row.get(6)?));
        let (digest, value) = (row.get_ref(3)?.as_blob()?, row.get_ref(5)?.as_blob()?);
        let expires = time.saturating_add(lifetime);
        let far = distance(&id, &key);
        new.execute(params![number, node, key.as_bytes(), digest, time, value, expires, far])?;
    }
    Ok(())
}
