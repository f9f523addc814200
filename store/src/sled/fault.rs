//! Errors of a database that cannot be opened.

use std::path::Path;

use crate::StoreError;

pub(super) fn damaged(directory: &Path, reason: &str) -> StoreError {
    StoreError::Open { path: directory.to_owned(), reason: format!("it is damaged: {reason}") }
}

pub(super) fn cannot_open(path: &Path, error: &sled::Error) -> StoreError {
    match error {
        sled::Error::Io(io) if io.to_string().contains("could not acquire lock") => {
            StoreError::InUse(path.to_owned())
        }
        other => StoreError::Open { path: path.to_owned(), reason: other.to_string() },
    }
}
