//! The single writer of the store: takes the waiting writes (up to a batch), keeps them in the journal, writes them as one
//! transaction, flushes, and syncs the database file through its own handle, because sled's flush alone does not reach the
//! disk. Then it acknowledges them.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use berth_common::ids::Epoch;
use nix::sys::statvfs::statvfs;
use sled::Db;

use super::super::guard::Mark;
use super::super::{Done, StoreError, Vitals, Write};
use super::change::{Change, Numbers};
use super::journal::{Batch, Draft, Journal};
use super::tables::{Table, Trees, failed};
use super::{BATCHES, EPOCH, FORMAT, FORMAT_KEY};

/// Most writes in one transaction.
const BATCH: usize = 256;
/// Bytes of states in one transaction beyond which no further write is taken into it: a batch has at most this and one more write, far
/// less than the journal is read with.
const BATCH_BYTES: usize = 64 << 20;
/// Free space of the disk, in bytes, below which nothing is written: a database whose disk becomes full in the middle
/// of a write is damaged.
pub(super) const RESERVE_BYTES: u64 = 32 << 20;
/// The database may write this many times the bytes it is given: the pages that contain the new values, and copies of
/// them, and once more the journal.
const AMPLIFICATION: u64 = 9;
/// The directory in which sled keeps large pages, each in a file of its own.
pub(super) const BLOBS_DIRECTORY: &str = "blobs";

pub(super) enum Job {
    /// Writes all of it or nothing.
    Commit(Vec<Write>, Done),
    Epoch(Epoch, Done),
    Format(Done),
    Close,
}

impl Job {
    pub(super) fn done(self, result: Result<(), StoreError>) {
        match self {
            Self::Commit(_, done) | Self::Epoch(_, done) | Self::Format(done) => done(result),
            Self::Close => {}
        }
    }

    /// About how many bytes of states it has; everything else is small.
    fn bytes(&self) -> usize {
        let of = |write: &Write| if let Write::State(change) = write { change.bytes() } else { 0 };
        if let Self::Commit(writes, _) = self { writes.iter().map(of).sum() } else { 0 }
    }

    fn changes(&self, numbers: &mut Numbers) -> Result<Vec<Change>, StoreError> {
        Ok(match self {
            Self::Commit(writes, _) => {
                let mut changes = Vec::new();
                for write in writes {
                    changes.extend(Change::of(write, numbers)?);
                }
                changes
            }
            Self::Epoch(epoch, _) => vec![Change::put(Table::Meta, EPOCH, epoch)?],
            Self::Format(_) => vec![Change::put(Table::Meta, FORMAT_KEY, &FORMAT)?],
            Self::Close => Vec::new(),
        })
    }
}

pub(super) struct Writer {
    pub(super) db: Db,
    pub(super) trees: Trees,
    pub(super) file: File,
    pub(super) directory: PathBuf,
    pub(super) journal: Journal,
    pub(super) mark: Mark,
    pub(super) batches: Cell<u64>,
    /// The error of a write that failed half-way. From then on the database cannot be relied on: another write may
    /// never return.
    pub(super) broken: OnceCell<String>,
    /// The files of large pages that are durable. sled never uses a name twice.
    pub(super) synced_blobs: RefCell<BTreeSet<OsString>>,
    pub(super) vitals: Arc<Vitals>,
}

impl Writer {
    pub(super) fn run(&self, jobs: &Receiver<Job>) {
        let mut open = true;
        while open && let Ok(first) = jobs.recv() {
            let mut batch = vec![first];
            let mut bytes = batch[0].bytes();
            while batch.len() < BATCH
                && bytes < BATCH_BYTES
                && let Ok(job) = jobs.try_recv()
            {
                bytes += job.bytes();
                batch.push(job);
            }
            open = !batch.iter().any(|job| matches!(job, Job::Close));
            self.write(batch);
        }
        if let Err(error) = self.sync().and_then(|()| self.sync_mark()) {
            tracing::error!(%error, "store not flushed at its end");
        }
    }

    fn write(&self, batch: Vec<Job>) {
        let writes = batch.iter().filter(|job| !matches!(job, Job::Close)).count();
        // A panic may have left a write half-done. Who waits for it has to be answered all the same.
        let write = || catch_unwind(AssertUnwindSafe(|| self.write_if_possible(&batch)));
        let result = self.vitals.measure(writes, || write().unwrap_or_else(|_| Err(self.broken_by_panic())));
        if let Err(error) = &result {
            tracing::error!(%error, writes = batch.len(), "store write failed");
        }
        for job in batch {
            job.done(result.clone());
        }
    }

    fn broken_by_panic(&self) -> StoreError {
        StoreError::Broken(self.broken.get_or_init(|| "a write panicked".to_owned()).clone())
    }

    /// Syncs the files of large pages, which sled does not do. There are few, and mostly none.
    fn sync_blobs(&self) -> io::Result<()> {
        let directory = self.directory.join(BLOBS_DIRECTORY);
        let mut known = self.synced_blobs.borrow_mut();
        let names: BTreeSet<OsString> =
            fs::read_dir(&directory)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
        let mut fresh = names.difference(&known).peekable();
        if fresh.peek().is_some() {
            for name in fresh {
                match File::open(directory.join(name)) {
                    Ok(file) => file.sync_data()?,
                    // Already replaced by a newer one.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
            File::open(&directory)?.sync_all()?;
        }
        *known = names;
        Ok(())
    }

    /// Refuses a batch that would fail half-way, as far as that can be predicted.
    fn write_if_possible(&self, batch: &[Job]) -> Result<(), StoreError> {
        if let Some(reason) = self.broken.get() {
            return Err(StoreError::Broken(reason.clone()));
        }
        let number = self.batches.get() + 1;
        let mut changes = Vec::new();
        let mut numbers = Numbers::of_batch(number);
        for job in batch {
            changes.extend(job.changes(&mut numbers)?);
        }
        if changes.is_empty() {
            // The store is closed, and still valid.
            return Ok(());
        }
        changes.push(Change::put(Table::Meta, BATCHES, &number)?);
        self.check_room(&changes)?;
        let mut draft = Draft::on(&self.trees);
        changes.iter().try_for_each(|change| change.apply(&mut draft))?;
        let batch = draft.finish();
        // Until this has succeeded, the database is as it was.
        self.journal.write(number, &batch).map_err(|error| StoreError::Io(error.to_string()))?;
        let written = self.write_counted(number, &batch);
        if let Err(error) = &written {
            let _ = self.broken.set(error.to_string());
        }
        written
    }

    fn check_room(&self, changes: &[Change]) -> Result<(), StoreError> {
        let needed = needed_bytes(changes.iter().map(Change::bytes).sum());
        let disk = statvfs(&self.directory).map_err(|error| StoreError::Io(error.to_string()))?;
        enough(disk.blocks_available().saturating_mul(disk.fragment_size()), needed)
    }

    /// Writes a batch with its number, and updates the mark once that is durable.
    fn write_counted(&self, number: u64, batch: &Batch) -> Result<(), StoreError> {
        batch.commit(&self.trees)?;
        self.batches.set(number);
        self.sync()?;
        self.mark.write(number).map_err(|error| StoreError::Io(error.to_string()))
    }

    fn sync_mark(&self) -> Result<(), StoreError> {
        self.mark.sync().map_err(|error| StoreError::Io(error.to_string()))
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.db.flush().map_err(failed)?;
        self.sync_blobs().map_err(|error| StoreError::Io(error.to_string()))?;
        self.file.sync_data().map_err(|error: io::Error| StoreError::Io(error.to_string()))
    }
}

/// The free space that is needed to write this many bytes.
pub(super) fn needed_bytes(bytes: u64) -> u64 {
    RESERVE_BYTES.saturating_add(bytes.saturating_mul(AMPLIFICATION))
}

pub(super) fn enough(free: u64, needed: u64) -> Result<(), StoreError> {
    if free < needed { Err(StoreError::Full { free, needed }) } else { Ok(()) }
}
