//! Tells a store that never came into being from one that is damaged. sled syncs neither its settings nor the names of its
//! files while it makes them: a power failure then can leave a database that nothing can open, in which nothing was ever
//! acknowledged.
//!
//! ```text
//! no database ──▶ `unfinished`, synced ──▶ the database's files, synced ──▶ `unfinished` removed, synced ──▶ in use
//! ```
//!
//! What fails, and what happens then:
//!
//! * Killed, or the power fails, before the removal is synced: the next opening finds the file, removes all and begins anew.
//! * A version that does not know the file has used the store meanwhile: its mark says so, and it is kept.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::durable::{sync_names, sync_with_name};
use super::guard::Mark;

/// The file in the directory of a store that is being made.
const FILE: &str = "unfinished";
/// Batches that a store has when it is finished: its format.
const FIRST_BATCHES: u64 = 1;

/// A store that is being made, from before its first file until it is durable.
pub(super) struct Unfinished(PathBuf);

impl Unfinished {
    /// Removes what the making of a store has left that did not come to its end.
    pub(super) fn remove(directory: &Path) -> io::Result<()> {
        if !directory.join(FILE).exists() {
            return Ok(());
        }
        if Mark::open(directory)?.read().is_some_and(|batches| batches > FIRST_BATCHES) {
            return Self(directory.to_owned()).finish();
        }
        tracing::warn!(store = %directory.display(), "the store was never finished, and is made anew");
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            match entry.file_type()? {
                kind if kind.is_dir() => fs::remove_dir_all(entry.path())?,
                _ if entry.file_name() == FILE => {}
                _ => fs::remove_file(entry.path())?,
            }
        }
        sync_names(directory)
    }

    /// Begins to make a store if there is none.
    pub(super) fn begin(directory: &Path, database: &str) -> io::Result<Option<Self>> {
        if directory.join(database).exists() {
            return Ok(None);
        }
        fs::create_dir_all(directory)?;
        File::create(directory.join(FILE))?;
        sync_with_name(directory)?;
        Ok(Some(Self(directory.to_owned())))
    }

    /// The store's files and their names are durable.
    pub(super) fn finish(self) -> io::Result<()> {
        fs::remove_file(self.0.join(FILE))?;
        // Before anything is acknowledged: with the file back after a power failure, the store would be removed.
        sync_names(&self.0)
    }
}
