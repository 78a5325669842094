//! What a node holds: values, its own id, its contacts; kept by SQLite.
//!
//! One connection is one [`Database`]. In memory a single one serves all nodes
//! of an engine, and rows carry the node: a connection of its own would cost
//! each node tens of kilobytes. A node that is given a path has a database, a
//! file, to itself. Schema and code are the same for both.
//!
//! A node in memory takes about 250 bytes here, one with a file about 210 kB with 100 values (the
//! connection, its pages, and where readers and writers meet), and what its values take,
//! see [`VALUE_OVERHEAD`].
//!
//! What a node needs at hand is its [`Resident`]: its row, its limits, and how
//! many values it has under which key, so that neither the usual question ("what
//! is stored under this key?" "nothing") nor a check of the limits touches
//! SQLite at all. (Looking up an absent key takes 0.1 µs that way. A present key takes 11 µs, of which
//! carrying the statement out takes 0.7: keeping it would need three more crates, so those who
//! ask at the same time share it, see [`Reading`].)
//!
//! Calls on [`Database`] are in three families. Getters: [`Database::values`],
//! [`Database::contacts`], [`Database::has_uncommitted`], … Writes:
//! [`Database::put`], [`Database::expire`], [`Database::publish`],
//! [`Database::withdraw`], [`Database::save_contacts`]; the first
//! one opens a transaction, which later ones join and reads see into. And
//! [`Database::commit`], which ends it; what was written counts only then.
//! Whoever answers others commits before the answers go out.
//!
//! An error from any of them undoes **everything** since the last commit, of all
//! nodes of that database. Residents notice by themselves, and take back what they had counted.

mod clock;
mod contacts;
mod database;
mod fault;
mod files;
mod held;
mod lock;
mod migration;
mod opening;
mod published;
mod reading;
mod refusal;
mod renewing;
mod resident;
mod schema;
mod senders;
mod shares;
mod values;

pub use clock::{Moment, SavedClock, ValueClock};
pub use database::Database;
pub use published::Published;
pub use reading::Reading;
pub use refusal::Refusal;
pub use resident::{Limits, Put, Resident, VALUE_OVERHEAD};
pub use schema::QUERIES;
pub use values::{Expired, NewValue};
