//! Detects a store that has lost writes. sled ends its log at the first damaged entry and overwrites the rest: right
//! for an incomplete write of a power failure, and fatal for a log with a damaged middle.
//!
//! Therefore every batch increments a number in the store, and, once it is durable, in a file next to it, the mark. A
//! store that opens with a lower number than its mark has lost something. As opening has changed it by then, the whole
//! store is copied first, and the copy is put back.
//!
//! ```text
//! store ──copied──▶ store.before ──opened, as many batches as the mark says──▶ copy removed
//!                                └─opened with fewer, or not at all──▶ copy put back, error
//! ```
//!
//! What fails, and what happens then:
//!
//! * Killed while copying, or the power fails: the incomplete copy has another name, and is never used.
//! * Killed while opening: the copy is the state before; it is kept and used again.
//! * Killed while the copy is put back: putting back is completed at the next opening.
//! * No disk space for the copy: a warning, and the store is opened without one.
//! * The mark is missing or damaged: nothing is compared.
//! * Several processes open it at once: one at a time, and none puts back what another has opened.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest, Sha256};

use super::StoreError;
use super::durable::{sync_below, sync_names, sync_with_name};

/// The file next to the database with the number of durable batches.
const MARK_FILE: &str = "mark";
const NUMBER_BYTES: usize = 8;
const SUM_BYTES: usize = 8;
/// Only the owner may read it: it contains the environment of containers.
const MARK_MODE: u32 = 0o600;

/// The number of durable batches. Not synced itself: after a power failure it may be lower, never higher.
pub(super) struct Mark(File);

impl Mark {
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(MARK_MODE);
        options.open(directory.join(MARK_FILE)).map(Self)
    }

    /// The last number, unless it is incomplete.
    pub(super) fn read(&self) -> Option<u64> {
        let mut bytes = [0; NUMBER_BYTES + SUM_BYTES];
        self.0.read_exact_at(&mut bytes, 0).ok()?;
        let (number, sum) = bytes.split_first_chunk::<NUMBER_BYTES>()?;
        (sum == checksum(number)).then(|| u64::from_be_bytes(*number))
    }

    pub(super) fn write(&self, number: u64) -> io::Result<()> {
        let number = number.to_be_bytes();
        self.0.write_all_at(&[&number[..], &checksum(&number)[..]].concat(), 0)
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

fn checksum(number: &[u8]) -> [u8; SUM_BYTES] {
    let digest: [u8; 32] = Sha256::digest(number).into();
    let mut sum = [0; SUM_BYTES];
    sum.copy_from_slice(&digest[..SUM_BYTES]);
    sum
}

/// The right to open a store, of one at a time: what another opens meanwhile would be copied, and put back, while it is
/// written to. Once it is open, the database's own lock keeps others away.
pub(super) struct Opening(#[expect(dead_code, reason = "held")] Option<Flock<File>>);

impl Opening {
    /// A store that waits to be put back needs none; for one that is not there yet the directory is made.
    pub(super) fn begin(directory: &Path) -> Result<Self, StoreError> {
        if !sibling(directory, "before").exists() {
            let unusable =
                |error: io::Error| StoreError::Open { path: directory.to_owned(), reason: error.to_string() };
            fs::create_dir_all(directory).map_err(unusable)?;
        }
        let Ok(directory_file) = File::open(directory) else { return Ok(Self(None)) };
        let lock = Flock::lock(directory_file, FlockArg::LockExclusiveNonblock);
        lock.map(|lock| Self(Some(lock))).map_err(|_| StoreError::InUse(directory.to_owned()))
    }
}

/// An error if a running edge has the store open; whether there is one. Changes nothing: the lock is released at once, as sled
/// locks the file itself.
pub(super) fn expect_unused(directory: &Path, database: &str) -> Result<bool, StoreError> {
    let Ok(opened) = File::open(directory.join(database)) else { return Ok(false) };
    let lock = Flock::lock(opened, FlockArg::LockExclusiveNonblock);
    lock.map(|_| true).map_err(|_| StoreError::InUse(directory.to_owned()))
}

/// A copy of a store that is about to be opened.
pub(super) struct Backup {
    directory: PathBuf,
    copy: PathBuf,
}

impl Backup {
    /// Copies an existing store. The copy of an opening that was killed is kept: nothing was written since. Without
    /// disk space for a copy the store is opened without one.
    pub(super) fn create(directory: &Path, database: &str) -> Result<Option<Self>, StoreError> {
        let file = directory.join(database);
        let backup = Self { directory: directory.to_owned(), copy: sibling(directory, "before") };
        backup.finish(&file).map_err(|error| StoreError::Io(error.to_string()))?;
        if !expect_unused(directory, database)? {
            return Ok(None);
        }
        if let Err(error) = backup.copy() {
            tracing::warn!(%error, copy = %backup.copy.display(), "store opened without a copy of it");
            return Ok(None);
        }
        Ok(Some(backup))
    }

    /// Completes an interrupted put-back: there is no store in its place.
    fn finish(&self, database: &Path) -> io::Result<()> {
        if database.exists() || !self.copy.exists() {
            return Ok(());
        }
        if self.directory.exists() {
            // Removed only if empty: anything else was not created here.
            fs::remove_dir(&self.directory)?;
        }
        fs::rename(&self.copy, &self.directory)
    }

    fn copy(&self) -> io::Result<()> {
        if self.copy.exists() {
            return Ok(());
        }
        let part = sibling(&self.directory, "part");
        // Synced before it has its name: a copy that a power failure cut off must not be taken for whole later.
        let copied = copy_directory(&self.directory, &part)
            .and_then(|()| sync_below(&part))
            .and_then(|()| fs::rename(&part, &self.copy));
        if copied.is_err() {
            let _ = fs::remove_dir_all(&part);
        }
        copied
    }

    /// The store is complete: removes the copy.
    pub(super) fn discard(self) -> io::Result<()> {
        // Renamed first, so that a partly removed copy is never used.
        let part = sibling(&self.directory, "part");
        remove(&part)?;
        fs::rename(&self.copy, &part)?;
        fs::remove_dir_all(part)
    }

    /// The store is not complete: restores its state before the opening.
    pub(super) fn put_back(self) -> io::Result<()> {
        let opened = sibling(&self.directory, "part");
        remove(&opened)?;
        // Before anything is moved: after a power failure the copy's name must not exist without its content.
        sync_with_name(&self.copy)?;
        fs::rename(&self.directory, &opened)?;
        fs::rename(&self.copy, &self.directory)?;
        self.directory.parent().map_or(Ok(()), sync_names)?;
        fs::remove_dir_all(opened)
    }
}

fn sibling(directory: &Path, ending: &str) -> PathBuf {
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    directory.with_file_name(format!("{name}.{ending}"))
}

fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn copy_directory(from: &Path, to: &Path) -> io::Result<()> {
    remove(to)?;
    std::os::unix::fs::DirBuilderExt::mode(&mut fs::DirBuilder::new(), 0o700).create(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let place = to.join(entry.file_name());
        match entry.file_type()? {
            kind if kind.is_dir() => copy_directory(&entry.path(), &place)?,
            kind if kind.is_file() => drop(fs::copy(entry.path(), place)?),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever a killed opening has left, afterwards the store is what it was before it.
    #[test]
    fn an_opening_may_be_killed_at_any_time() {
        let parent = tempfile::tempdir().unwrap();
        let store = parent.path().join("store");
        let fill = |directory: &Path, content: &str| {
            fs::create_dir_all(directory).unwrap();
            fs::write(directory.join("db"), content).unwrap();
        };
        let found = || fs::read_to_string(store.join("db")).unwrap();
        // Killed while putting back, with or without an empty directory in its place.
        for made in [false, true] {
            fill(&sibling(&store, "before"), "whole");
            fill(&sibling(&store, "part"), "opened");
            if made {
                fs::create_dir(&store).unwrap();
            }
            Backup::create(&store, "db").unwrap().unwrap().discard().unwrap();
            assert_eq!(found(), "whole");
            fs::remove_dir_all(&store).unwrap();
        }
        // Killed while open: the copy has the state before, whatever happened to the database since.
        fill(&store, "cut off");
        fill(&sibling(&store, "before"), "whole");
        Backup::create(&store, "db").unwrap().unwrap().put_back().unwrap();
        assert_eq!(found(), "whole");
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_incomplete_mark_is_ignored() {
        let directory = tempfile::tempdir().unwrap();
        let mark = Mark::open(directory.path()).unwrap();
        assert_eq!(mark.read(), None);
        mark.write(7).unwrap();
        mark.write(700).unwrap();
        assert_eq!(Mark::open(directory.path()).unwrap().read(), Some(700));
        mark.0.write_all_at(&[1], 3).unwrap();
        assert_eq!(mark.read(), None);
    }
}
