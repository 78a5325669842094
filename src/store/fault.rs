//! SQLite's errors, sorted by what they mean to a caller.

use std::net::IpAddr;

use rusqlite::ErrorCode;
use rusqlite::types::Type;

use crate::error::StoreError;

/// Sorts an error of SQLite's into ours.
pub(super) fn fault(error: rusqlite::Error) -> StoreError {
    use rusqlite::Error;
    match &error {
        Error::SqliteFailure(failure, words) => {
            let words = words.clone().unwrap_or_else(|| failure.to_string());
            match failure.code {
                ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => StoreError::InUse,
                ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt => StoreError::Damaged(words),
                _ => StoreError::Sqlite(words),
            }
        }
        // A column holds something that the schema rules out.
        Error::FromSqlConversionFailure(..)
        | Error::IntegralValueOutOfRange(..)
        | Error::InvalidColumnType(..)
        | Error::Utf8Error(..) => StoreError::Damaged(error.to_string()),
        _ => StoreError::Sqlite(error.to_string()),
    }
}

/// The same while a file is checked: there, our own statements can only fail
/// because of what is in the file.
pub(super) fn damage(error: rusqlite::Error) -> StoreError {
    match (error.sqlite_error_code(), fault(error)) {
        (Some(ErrorCode::Unknown | ErrorCode::TooBig), StoreError::Sqlite(words)) => {
            StoreError::Damaged(words)
        }
        (_, sorted) => sorted,
    }
}

/// The address in a row's column for hosts.
pub(super) fn address(host: &str) -> rusqlite::Result<IpAddr> {
    host.parse().map_err(|error| rusqlite::Error::FromSqlConversionFailure(1, Type::Text, Box::new(error)))
}
