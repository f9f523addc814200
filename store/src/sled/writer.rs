//! The single writer of the store: makes a batch of the waiting writes, keeps it in the journal, writes it as one transaction, flushes,
//! and syncs the database file through its own handle, because sled's flush alone does not reach the disk. Then it acknowledges them.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use berth_common::ids::Epoch;
use nix::sys::statvfs::statvfs;
use sled::Db;

use super::super::guard::Mark;
use super::super::{Done, StoreError, Vitals, Write};
use super::change::{Change, Numbers};
use super::journal::{Batch, Draft, Journal};
use super::kept::{self, Kept, Moved};
use super::tables::{Table, Trees, failed};
use super::{BATCHES, EPOCH, FORMAT, FORMAT_KEY};

/// Most writes in one transaction.
const BATCH: usize = 256;
/// Bytes of a batch beyond which no further write is taken into it, counted with what each write has come to: the removal of all that an
/// object keeps has few bytes, and makes of its keys as much as they are. So a batch has at most this and one more write: it is in
/// memory three times, and all that waits behind it waits for its way to the disk, some tenths of a second.
pub(super) const BATCH_BYTES: u64 = 40 << 20;
/// Entries of a batch beyond which no further write is taken into it: a thousand of them take as long as a megabyte, however small they are.
pub(super) const BATCH_ENTRIES: usize = 32_768;
/// Free space of the disk, in bytes, below which nothing is written: a database whose disk becomes full in the middle
/// of a write is damaged.
pub(super) const RESERVE_BYTES: u64 = 32 << 20;
/// The database may write this many times the bytes it is given: the pages that contain the new values, and copies of
/// them, and once more the journal.
const AMPLIFICATION: u64 = 9;
/// About what the number of a batch takes in it, in bytes.
const NUMBER_BYTES: u64 = 256;
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

/// Tells how much of the disk of a directory is free, in bytes.
pub(super) type Free = fn(&Path) -> Result<u64, StoreError>;

/// The jobs of a batch, and those that it is not written with. All are answered, whatever becomes of it.
#[derive(Default)]
struct Taken {
    jobs: Vec<Job>,
    /// Those that fail by themselves.
    refused: Vec<(Job, StoreError)>,
    /// One that the disk has no room for beside the others: it is the next one's first.
    aside: Option<Job>,
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
    pub(super) kept: Arc<Kept>,
    pub(super) free: Free,
}

impl Writer {
    pub(super) fn run(&self, jobs: &Receiver<Job>) {
        let (mut open, mut aside) = (true, None);
        while let Some(first) = aside.take().or_else(|| if open { self.next(jobs) } else { None }) {
            open &= self.write(first, jobs, &mut aside);
        }
        if let Err(error) = self.sync().and_then(|()| self.sync_mark()) {
            tracing::error!(%error, "store not flushed at its end");
        }
    }

    /// Writes a job with those that wait, as far as they fit in a batch. False if the store is to be closed.
    fn write(&self, first: Job, jobs: &Receiver<Job>, aside: &mut Option<Job>) -> bool {
        let mut taken = Taken::default();
        // A panic may have left a write half-done. Who waits for it has to be answered all the same.
        let write = || catch_unwind(AssertUnwindSafe(|| self.write_if_possible(first, jobs, &mut taken)));
        let began = Instant::now();
        let result = write().unwrap_or_else(|_| Err(self.broken_by_panic()));
        let open = !taken.jobs.iter().any(|job| matches!(job, Job::Close));
        for (job, error) in taken.refused {
            self.answer(vec![job], began, &Err(error));
        }
        self.answer(taken.jobs, began, &result);
        *aside = taken.aside;
        open
    }

    fn answer(&self, jobs: Vec<Job>, began: Instant, result: &Result<(), StoreError>) {
        let writes = jobs.iter().filter(|job| !matches!(job, Job::Close)).count();
        self.vitals.note(writes, began.elapsed(), result);
        if let Err(error) = result {
            tracing::error!(%error, writes, "store write failed");
        }
        jobs.into_iter().for_each(|job| job.done(result.clone()));
    }

    /// The next job, once there is one.
    fn next(&self, jobs: &Receiver<Job>) -> Option<Job> {
        jobs.recv().ok().inspect(|job| self.received(job))
    }

    /// It does not wait any more.
    fn received(&self, job: &Job) {
        if !matches!(job, Job::Close) {
            self.vitals.waiting.leave();
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

    /// Refuses what would fail half-way, as far as that can be predicted. `taken` has the jobs of it in any case.
    fn write_if_possible(
        &self,
        first: Job,
        jobs: &Receiver<Job>,
        taken: &mut Taken,
    ) -> Result<(), StoreError> {
        let number = self.batches.get() + 1;
        let mut draft = self.take(first, jobs, taken)?;
        if draft.is_empty() {
            // The store is closed and still valid, or nothing was to be done.
            return Ok(());
        }
        Change::put(Table::Meta, BATCHES, &number)?.apply(&mut draft)?;
        enough((self.free)(&self.directory)?, needed_bytes(draft.bytes()))?;
        let moved = kept::moved(&draft);
        let batch = draft.finish();
        // Until this has succeeded, the database is as it was.
        self.journal.write(number, &batch).map_err(|error| StoreError::Io(error.to_string()))?;
        let written = self.write_counted(number, &batch, moved);
        if let Err(error) = &written {
            let _ = self.broken.set(error.to_string());
        }
        written
    }

    /// Takes jobs into a batch until it is full or none waits. One that fails before anything is written fails alone; so does one that the
    /// disk has no room for, which is tried by itself first.
    fn take(&self, first: Job, jobs: &Receiver<Job>, taken: &mut Taken) -> Result<Draft<'_>, StoreError> {
        let free = (self.free)(&self.directory);
        let (mut draft, mut numbers) = self.empty();
        let mut next = Some(first);
        while let Some(job) = next {
            // Whatever becomes of it: it is answered.
            taken.jobs.push(job);
            if let Err(error) = self.add(taken.jobs.last(), &free, &mut numbers, &mut draft) {
                taken.leave_out_last(error);
                (draft, numbers) = self.empty();
                taken.jobs.iter().try_for_each(|job| self.add(Some(job), &free, &mut numbers, &mut draft))?;
            }
            let few = taken.jobs.len() < BATCH && draft.entries() < BATCH_ENTRIES;
            let has_room = few && draft.bytes() < BATCH_BYTES;
            next = if has_room && taken.is_whole() {
                jobs.try_recv().ok().inspect(|job| self.received(job))
            } else {
                None
            };
        }
        Ok(draft)
    }

    fn empty(&self) -> (Draft<'_>, Numbers) {
        (Draft::on(&self.trees), Numbers::of_batch(self.batches.get() + 1))
    }

    /// Adds a job to a batch, if the disk has this much room for it.
    fn add(
        &self,
        job: Option<&Job>,
        free: &Result<u64, StoreError>,
        numbers: &mut Numbers,
        draft: &mut Draft<'_>,
    ) -> Result<(), StoreError> {
        let Some(job) = job.filter(|job| !matches!(job, Job::Close)) else { return Ok(()) };
        if let Some(reason) = self.broken.get() {
            return Err(StoreError::Broken(reason.clone()));
        }
        job.changes(numbers)?.iter().try_for_each(|change| change.apply(draft))?;
        if draft.is_empty() {
            return Ok(());
        }
        enough(free.clone()?, needed_bytes(draft.bytes() + NUMBER_BYTES))
    }

    /// Writes a batch with its number, and updates the mark once that is durable.
    fn write_counted(&self, number: u64, batch: &Batch, moved: Vec<Moved>) -> Result<(), StoreError> {
        self.kept.follow(moved, || batch.commit(&self.trees))?;
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

impl Taken {
    /// Whether all that was taken is written together. If not, no more is taken: the others were added once more.
    fn is_whole(&self) -> bool {
        self.refused.is_empty() && self.aside.is_none()
    }

    /// The last job is not written with the others.
    fn leave_out_last(&mut self, error: StoreError) {
        let Some(job) = self.jobs.pop() else { return };
        if matches!(error, StoreError::Full { .. }) && !self.jobs.is_empty() {
            self.aside = Some(job);
        } else {
            self.refused.push((job, error));
        }
    }
}

/// How much of the disk of a directory is free.
pub(super) fn free_bytes(directory: &Path) -> Result<u64, StoreError> {
    let disk = statvfs(directory).map_err(|error| StoreError::Io(error.to_string()))?;
    Ok(disk.blocks_available().saturating_mul(disk.fragment_size()))
}

/// The free space that is needed to write this many bytes.
pub(super) fn needed_bytes(bytes: u64) -> u64 {
    RESERVE_BYTES.saturating_add(bytes.saturating_mul(AMPLIFICATION))
}

pub(super) fn enough(free: u64, needed: u64) -> Result<(), StoreError> {
    if free < needed { Err(StoreError::Full { free, needed }) } else { Ok(()) }
}
