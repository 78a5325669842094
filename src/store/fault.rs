//! SQLite's errors, sorted by what they mean to a caller.

use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rusqlite::types::Type;
use rusqlite::{ErrorCode, ffi};

use crate::error::StoreError;

/// Sorts an error of SQLite's into ours, which does not name the file yet.
pub(super) fn fault(error: rusqlite::Error) -> StoreError {
    use rusqlite::Error;
    let path = PathBuf::new();
    match &error {
        Error::SqliteFailure(failure, words) => {
            let words = words.clone().unwrap_or_else(|| failure.to_string());
            match failure.code {
                ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => StoreError::Busy(path),
                ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt => {
                    StoreError::Damaged { path, what: words }
                }
                ErrorCode::DiskFull => StoreError::Full(path),
                // The file that readers and writers share could not be made large enough.
                _ if failure.extended_code == ffi::SQLITE_IOERR_SHMSIZE => StoreError::Full(path),
                ErrorCode::ReadOnly => StoreError::ReadOnly(path),
                ErrorCode::PermissionDenied | ErrorCode::CannotOpen => StoreError::Denied(path),
                _ => StoreError::Failed { path, what: words },
            }
        }
        // A column holds something that the schema rules out.
        Error::FromSqlConversionFailure(..)
        | Error::IntegralValueOutOfRange(..)
        | Error::InvalidColumnType(..)
        | Error::Utf8Error(..) => damaged(error.to_string()),
        _ => failed(error.to_string()),
    }
}

pub(super) fn damaged(what: impl Into<String>) -> StoreError {
    StoreError::Damaged { path: PathBuf::new(), what: what.into() }
}

pub(super) fn failed(what: impl Into<String>) -> StoreError {
    StoreError::Failed { path: PathBuf::new(), what: what.into() }
}

/// An error of the system's.
pub(super) fn system_fault(error: &io::Error) -> StoreError {
    let path = PathBuf::new();
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => StoreError::NoDirectory(path),
        ErrorKind::PermissionDenied => StoreError::Denied(path),
        ErrorKind::ReadOnlyFilesystem => StoreError::ReadOnly(path),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreError::Full(path),
        _ => failed(error.to_string()),
    }
}

/// The same error, of the file at `of`.
pub(super) fn locate(error: StoreError, of: &Path) -> StoreError {
    let path = of.to_owned();
    match error {
        StoreError::InUse(_) => StoreError::InUse(path),
        StoreError::Foreign(_) => StoreError::Foreign(path),
        StoreError::TooNew { version, .. } => StoreError::TooNew { path, version },
        StoreError::Damaged { what, .. } => StoreError::Damaged { path, what },
        StoreError::ReadOnly(_) => StoreError::ReadOnly(path),
        StoreError::NotAFile(_) => StoreError::NotAFile(path),
        StoreError::Denied(_) => StoreError::Denied(path),
        StoreError::NoDirectory(_) => StoreError::NoDirectory(path),
        StoreError::Full(_) => StoreError::Full(path),
        StoreError::Busy(_) => StoreError::Busy(path),
        StoreError::Moved { what, .. } => StoreError::Moved { path, what },
        StoreError::OtherId { id, .. } => StoreError::OtherId { path, id },
        StoreError::Failed { what, .. } => StoreError::Failed { path, what },
    }
}

/// The same while a file is checked: there, our own statements can only fail
/// because of what is in the file.
pub(super) fn damage(error: rusqlite::Error) -> StoreError {
    match (error.sqlite_error_code(), fault(error)) {
        (Some(ErrorCode::Unknown | ErrorCode::TooBig), StoreError::Failed { path, what }) => {
            StoreError::Damaged { path, what }
        }
        (_, sorted) => sorted,
    }
}

/// The address in a row's column for hosts.
pub(super) fn address(host: &str) -> rusqlite::Result<IpAddr> {
    host.parse().map_err(|error| rusqlite::Error::FromSqlConversionFailure(1, Type::Text, Box::new(error)))
}
