//! The store of a single edge, on sled.
//!
//! One writer thread takes what waits (up to a batch), writes it as one transaction, flushes, and syncs the database
//! file through a handle of its own, because sled's flush alone does not reach the disk. Then it acknowledges.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

use berth_common::ids::{Epoch, ObjectId};
use berth_common::spec::AppSpec;
use berth_engine::{Record, RecordState};
use nix::sys::statvfs::statvfs;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sled::transaction::{ConflictableTransactionError, TransactionError, TransactionalTree};
use sled::{Db, Transactional, Tree};

use super::durable::sync_with_name;
use super::guard::{Before, Mark};
use super::value::{self, Piece, piece_key};
use super::{Done, KvChange, Store, StoreError, Write};
use crate::history::AppHistory;
use crate::tokens::TokenRecord;

/// Most writes in one transaction.
const BATCH: usize = 256;
/// Most writes that wait; a writer that finds the queue full waits for it.
const QUEUE: usize = 4096;
/// Memory that sled may use to cache what it has read: it takes no more than there is to be read.
const CACHE_BYTES: u64 = 64 << 20;
/// Free space of its disk, in bytes, below which nothing is written: a database that meets the end of the disk in the middle
/// of a write is damaged.
const RESERVE_BYTES: u64 = 32 << 20;
/// How much more than it is given the database may write: pages that the new values are in, and copies of them.
const AMPLIFICATION: u64 = 8;
/// The file in the store's directory that sled writes its log to.
const DATABASE_FILE: &str = "db";
/// A number that no piece of an object's value reaches, and that is before any key that the value's own key begins: those go
/// on with a character, which is no control character.
const LAST_PIECE: u16 = 0x00ff;
/// Length of an object's id, which is before each of its keys.
const OBJECT_ID_BYTES: usize = 16;
/// Where sled keeps pages that are larger than a part of its log, each in a file of its own.
const BLOBS_DIRECTORY: &str = "blobs";
/// Where the number of starts lies.
const EPOCH: &[u8] = b"epoch";
/// Where the number of batches lies that were written.
const BATCHES: &[u8] = b"batches";
/// Where the number of the format lies; a store without one has the format 1.
const FORMAT_KEY: &[u8] = b"format";
/// The format that is written: 2 has versions of apps, and tokens. Older ones are read.
pub(super) const FORMAT: u32 = 2;

/// A store in a directory.
pub(crate) struct SledStore {
    trees: Trees,
    queue: SyncSender<Job>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Clone)]
struct Trees {
    objects: Tree,
    /// The ids of the objects whose record says that an instance is placed.
    placed: Tree,
    apps: Tree,
    meta: Tree,
    tokens: Tree,
    /// Objects' values, by the object's id and the key behind it.
    kv: Tree,
}

/// An app as formats 1 and 2 have it.
#[derive(Deserialize)]
#[serde(untagged)]
enum StoredApp {
    History(AppHistory),
    Spec(Box<AppSpec>),
}

enum Job {
    Record(Box<Record>, Done),
    Write(Write, Done),
    Epoch(Epoch, Done),
    Format(Done),
    Close,
}

impl SledStore {
    /// Opens the store in this directory, or makes it. One that has lost something stays as it is, and is refused.
    pub(crate) fn open(directory: &Path) -> Result<Self, StoreError> {
        let before = Before::keep(directory, DATABASE_FILE)?;
        // Of some damage sled says so in a panic.
        let opened = std::panic::catch_unwind(|| Self::open_as_it_is(directory));
        let opened = opened.unwrap_or_else(|_| Err(damaged(directory, "it made the database panic")));
        let settled = match (&opened, before) {
            (Ok(_), Some(before)) => before.discard(),
            (Err(_), Some(before)) => before.put_back(),
            (_, None) => Ok(()),
        };
        let settled = settled.and_then(|()| opened.as_ref().map_or(Ok(()), |_| sync_with_name(directory)));
        settled
            .map_err(|error| StoreError::Open { path: directory.to_owned(), reason: error.to_string() })?;
        opened
    }

    fn open_as_it_is(directory: &Path) -> Result<Self, StoreError> {
        let db = sled::Config::new()
            .path(directory)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(None)
            .mode(sled::Mode::LowSpace)
            .open()
            .map_err(|error| cannot_open(directory, &error))?;
        let trees = Trees::open(&db).map_err(|error| cannot_open(directory, &error))?;
        let file = File::open(directory.join(DATABASE_FILE))
            .map_err(|error| StoreError::Open { path: directory.to_owned(), reason: error.to_string() })?;
        let format = read(&trees.meta, FORMAT_KEY)?.unwrap_or(1);
        if format > FORMAT {
            return Err(StoreError::Newer { path: directory.to_owned(), found: format, known: FORMAT });
        }
        let mark = Mark::open(directory).map_err(|error| StoreError::Io(error.to_string()))?;
        let batches: u64 = read(&trees.meta, BATCHES)?.unwrap_or_default();
        if let Some(durable) = mark.read().filter(|durable| *durable > batches) {
            let lost = durable - batches;
            return Err(damaged(directory, &format!("the last {lost} of {durable} writes are missing")));
        }
        let (queue, jobs) = sync_channel(QUEUE);
        let writer = Writer {
            db,
            trees: trees.clone(),
            file,
            directory: directory.to_owned(),
            mark,
            batches: Cell::new(batches),
            broken: OnceCell::new(),
            synced_blobs: RefCell::default(),
        };
        let writer = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || writer.run(&jobs))
            .map_err(|error| StoreError::Io(error.to_string()))?;
        let store = Self { trees, queue, writer: Mutex::new(Some(writer)) };
        if format < FORMAT {
            store.wait_for(Job::Format)?;
        }
        Ok(store)
    }

    /// How often the edge has started.
    pub(super) fn epoch(&self) -> Result<Epoch, StoreError> {
        Ok(read(&self.trees.meta, EPOCH)?.unwrap_or_default())
    }

    /// Every value of every object.
    pub(super) fn all_values(
        &self,
    ) -> impl Iterator<Item = Result<(ObjectId, String, Vec<u8>), StoreError>> + '_ {
        let firsts = self.trees.kv.iter().keys().filter_map(|piece| match piece {
            Ok(piece) => value::first_piece_of(&piece).map(|key| Ok(key.to_vec())),
            Err(error) => Some(Err(failed(error))),
        });
        firsts.map(|key| {
            let key = key?;
            let Some(object) = key.first_chunk().map(|bytes| ObjectId::from_bytes(*bytes)) else {
                return Err(StoreError::Damaged {
                    what: "key of a value".to_owned(),
                    reason: "it names no object".to_owned(),
                });
            };
            let name = String::from_utf8_lossy(&key[OBJECT_ID_BYTES..]).into_owned();
            let value = value::read(&key, |piece| self.trees.kv.get(piece).map_err(failed))?;
            Ok((object, name, value.unwrap_or_default()))
        })
    }

    /// Goes on counting from here.
    pub(super) fn set_epoch(&self, epoch: Epoch) -> Result<(), StoreError> {
        self.wait_for(|done| Job::Epoch(epoch, done))
    }

    /// Has something written and waits until it is durable.
    fn wait_for(&self, job: impl FnOnce(Done) -> Job) -> Result<(), StoreError> {
        let (tell, told) = sync_channel(1);
        self.submit(job(Box::new(move |result| drop(tell.send(result)))));
        told.recv().map_err(|_| StoreError::Closed)?
    }

    /// Writes what waits, and closes the store.
    pub(crate) fn close(&self) {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            let _ = self.queue.send(Job::Close);
            // A writer that panicked has said so; there is nothing left to write with.
            let _ = writer.join();
        }
    }

    fn submit(&self, job: Job) {
        if let Err(refused) = self.queue.send(job) {
            refused.0.done(Err(StoreError::Closed));
        }
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        self.close();
    }
}

impl Store for SledStore {
    fn load(&self, object: ObjectId) -> Result<Option<Record>, StoreError> {
        read(&self.trees.objects, object.as_bytes())
    }

    fn persist(&self, record: Record, done: Done) {
        self.submit(Job::Record(Box::new(record), done));
    }

    fn placed(&self) -> Result<Vec<Record>, StoreError> {
        let mut records = Vec::new();
        for key in self.trees.placed.iter().keys() {
            records.extend(read(&self.trees.objects, &key.map_err(failed)?)?);
        }
        Ok(records)
    }

    fn records(&self, after: Option<ObjectId>, limit: usize) -> Result<Vec<Record>, StoreError> {
        let last_piece = after.map(|id| piece_key(id.as_bytes(), u16::MAX));
        read_all(&self.trees.objects, last_piece.as_deref(), limit)
    }

    fn apps(&self) -> Result<Vec<AppHistory>, StoreError> {
        let stored = read_all(&self.trees.apps, None, usize::MAX)?;
        let history = |app| match app {
            StoredApp::History(history) => history,
            StoredApp::Spec(spec) => AppHistory::begin(*spec, 0),
        };
        let histories: Vec<AppHistory> = stored.into_iter().map(history).collect();
        match histories.iter().find(|history| !history.is_sound()) {
            Some(bad) => {
                let what = format!("app {}", bad.current().spec.name);
                Err(StoreError::Damaged { what, reason: "its versions do not fit together".to_owned() })
            }
            None => Ok(histories),
        }
    }

    fn tokens(&self) -> Result<Vec<TokenRecord>, StoreError> {
        read_all(&self.trees.tokens, None, usize::MAX)
    }

    fn value(&self, object: ObjectId, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        value::read(&kv_key(object, key), |piece| self.trees.kv.get(piece).map_err(failed))
    }

    fn keys(
        &self,
        object: ObjectId,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, usize)>, StoreError> {
        let begin = kv_key(object, prefix);
        let last_piece = after.map(|key| piece_key(&kv_key(object, key), LAST_PIECE));
        // Pages that are asked for behind the prefix go on there; others begin with it.
        let from = last_piece.as_ref().filter(|last| **last > begin).unwrap_or(&begin);
        let mut keys = Vec::new();
        for entry in self.trees.kv.range(from.as_slice()..) {
            let (piece, head) = entry.map_err(failed)?;
            if keys.len() == limit || !piece.starts_with(&begin) {
                break;
            }
            let Some(key) =
                value::first_piece_of(&piece).filter(|_| Some(&piece[..]) != last_piece.as_deref())
            else {
                continue;
            };
            let name = String::from_utf8_lossy(&key[OBJECT_ID_BYTES..]).into_owned();
            keys.push((name, value::length_of(key, &head)?));
        }
        Ok(keys)
    }

    fn write(&self, write: Write, done: Done) {
        self.submit(Job::Write(write, done));
    }

    fn next_epoch(&self) -> Result<Epoch, StoreError> {
        let next = Epoch(self.epoch()?.0 + 1);
        self.wait_for(|done| Job::Epoch(next, done)).map(|()| next)
    }
}

impl Trees {
    fn open(db: &Db) -> sled::Result<Self> {
        Ok(Self {
            objects: db.open_tree("objects")?,
            placed: db.open_tree("placed")?,
            apps: db.open_tree("apps")?,
            meta: db.open_tree("meta")?,
            tokens: db.open_tree("tokens")?,
            kv: db.open_tree("kv")?,
        })
    }
}

impl Job {
    fn done(self, result: Result<(), StoreError>) {
        match self {
            Self::Record(_, done) | Self::Write(_, done) | Self::Epoch(_, done) | Self::Format(done) => {
                done(result);
            }
            Self::Close => {}
        }
    }
}

/// A piece of a batch, ready to be written.
struct Change {
    tree: usize,
    key: Vec<u8>,
    pieces: Vec<Piece>,
    /// Whether the object's id belongs among the placed ones, for records.
    placed: Option<bool>,
}

const OBJECTS: usize = 0;
const PLACED: usize = 1;
const APPS: usize = 2;
const META: usize = 3;
const TOKENS: usize = 4;
const KV: usize = 5;

struct Writer {
    db: Db,
    trees: Trees,
    file: File,
    directory: PathBuf,
    mark: Mark,
    batches: Cell<u64>,
    /// How a write failed in the middle. The database cannot be relied on from then on: another write may never come back.
    broken: OnceCell<String>,
    /// The files of large pages that are known to be durable. A name is never used for another one.
    synced_blobs: RefCell<BTreeSet<OsString>>,
}

impl Writer {
    fn run(&self, jobs: &Receiver<Job>) {
        let mut open = true;
        while open && let Ok(first) = jobs.recv() {
            let mut batch = vec![first];
            batch.extend(jobs.try_iter().take(BATCH - 1));
            open = !batch.iter().any(|job| matches!(job, Job::Close));
            self.write(batch);
        }
        if let Err(error) = self.sync().and_then(|()| self.sync_mark()) {
            tracing::error!(%error, "store not flushed at its end");
        }
    }

    fn write(&self, batch: Vec<Job>) {
        let result = self.write_if_sound(&batch);
        if let Err(error) = &result {
            tracing::error!(%error, writes = batch.len(), "store write failed");
        }
        for job in batch {
            job.done(result.clone());
        }
    }

    /// Syncs the files of large pages, which sled itself does not. There are few, and mostly none.
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
                    // Replaced by a newer one already.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
            File::open(&directory)?.sync_all()?;
        }
        *known = names;
        Ok(())
    }

    /// Refuses what would fail in the middle, as far as that can be told before.
    fn write_if_sound(&self, batch: &[Job]) -> Result<(), StoreError> {
        if let Some(reason) = self.broken.get() {
            return Err(StoreError::Broken(reason.clone()));
        }
        let number = self.batches.get() + 1;
        let mut changes = batch.iter().flat_map(Change::of).collect::<Result<Vec<_>, _>>()?;
        if changes.is_empty() {
            // The store is closed, and no more.
            return Ok(());
        }
        changes.push(Change::new(META, BATCHES, &number, None)?);
        self.check_room(&changes)?;
        let written = self.write_counted(number, &changes);
        if let Err(error) = &written {
            let _ = self.broken.set(error.to_string());
        }
        written
    }

    fn check_room(&self, changes: &[Change]) -> Result<(), StoreError> {
        let pieces = changes.iter().flat_map(|change| &change.pieces);
        let bytes: u64 = pieces.map(|(key, piece)| (key.len() + piece.len()) as u64).sum();
        let needed = needed_bytes(bytes);
        let disk = statvfs(&self.directory).map_err(|error| StoreError::Io(error.to_string()))?;
        enough(disk.blocks_available().saturating_mul(disk.fragment_size()), needed)
    }

    /// Writes a batch with its number, and marks the number once that is durable.
    fn write_counted(&self, number: u64, changes: &[Change]) -> Result<(), StoreError> {
        self.commit(changes)?;
        self.batches.set(number);
        self.sync()?;
        self.mark.write(number).map_err(|error| StoreError::Io(error.to_string()))
    }

    fn commit(&self, changes: &[Change]) -> Result<(), StoreError> {
        let Trees { objects, placed, apps, meta, tokens, kv } = &self.trees;
        let trees = [objects, placed, apps, meta, tokens, kv];
        let committed = trees[..].transaction(|trees| {
            for change in changes {
                change.apply(trees)?;
            }
            Ok::<_, ConflictableTransactionError<()>>(())
        });
        committed.map_err(|error| match error {
            TransactionError::Storage(error) => failed(error),
            TransactionError::Abort(()) => StoreError::Io("a transaction was given up".to_owned()),
        })
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

impl Change {
    fn of(job: &Job) -> Vec<Result<Self, StoreError>> {
        match job {
            Job::Record(record, _) => {
                let placed = matches!(record.state, RecordState::Placed { .. });
                vec![Self::new(OBJECTS, record.key.id().as_bytes(), record, Some(placed))]
            }
            Job::Write(write, _) => Self::of_write(write),
            Job::Epoch(epoch, _) => vec![Self::new(META, EPOCH, epoch, None)],
            Job::Format(_) => vec![Self::new(META, FORMAT_KEY, &FORMAT, None)],
            Job::Close => Vec::new(),
        }
    }

    fn of_kv(object: ObjectId, KvChange { key, value }: &KvChange) -> Result<Self, StoreError> {
        let key = kv_key(object, key);
        let pieces = match value {
            Some(value) => value::pieces(&key, value)?,
            None => Vec::new(),
        };
        Ok(Self { tree: KV, key, pieces, placed: None })
    }

    fn of_write(write: &Write) -> Vec<Result<Self, StoreError>> {
        let removed =
            |tree, key: &[u8]| Ok(Self { tree, key: key.to_owned(), pieces: Vec::new(), placed: None });
        match write {
            Write::App(app) => vec![Self::new(APPS, app.current().spec.name.as_str().as_bytes(), app, None)],
            Write::RemoveApp(name) => vec![removed(APPS, name.as_str().as_bytes())],
            Write::Token(token) => vec![Self::new(TOKENS, token.id.as_bytes(), token, None)],
            Write::RemoveToken(id) => vec![removed(TOKENS, id.as_bytes())],
            Write::Kv { object, changes } => {
                changes.iter().map(|change| Self::of_kv(*object, change)).collect()
            }
        }
    }

    fn new(
        tree: usize,
        key: &[u8],
        value: &impl serde::Serialize,
        placed: Option<bool>,
    ) -> Result<Self, StoreError> {
        let value = serde_json::to_vec(value).map_err(|error| StoreError::Io(error.to_string()))?;
        Ok(Self { tree, key: key.to_owned(), pieces: value::pieces(key, &value)?, placed })
    }

    fn apply(&self, trees: &[TransactionalTree]) -> Result<(), ConflictableTransactionError<()>> {
        for (key, piece) in &self.pieces {
            trees[self.tree].insert(key.as_slice(), piece.as_slice())?;
        }
        self.remove_pieces_from(self.pieces.len(), &trees[self.tree])?;
        match self.placed {
            Some(true) => drop(trees[PLACED].insert(self.key.as_slice(), &[])?),
            Some(false) => drop(trees[PLACED].remove(self.key.as_slice())?),
            None => {}
        }
        Ok(())
    }

    /// Removes what is left of a longer value that was there before.
    fn remove_pieces_from(
        &self,
        first: usize,
        tree: &TransactionalTree,
    ) -> Result<(), ConflictableTransactionError<()>> {
        for index in first.. {
            let index = u16::try_from(index).unwrap_or(u16::MAX);
            if tree.remove(piece_key(&self.key, index))?.is_none() {
                break;
            }
        }
        Ok(())
    }
}

fn read<T: DeserializeOwned>(tree: &Tree, key: &[u8]) -> Result<Option<T>, StoreError> {
    let value = value::read(key, |piece| tree.get(piece).map_err(failed))?;
    let decoded = value.map(|value| serde_json::from_slice(&value)).transpose();
    decoded.map_err(|error| StoreError::Damaged {
        what: format!("value under the key {:?}", String::from_utf8_lossy(key)),
        reason: error.to_string(),
    })
}

/// Values in the order of their keys, from the first behind this key.
fn read_all<T: DeserializeOwned>(
    tree: &Tree,
    after: Option<&[u8]>,
    limit: usize,
) -> Result<Vec<T>, StoreError> {
    let mut values = Vec::new();
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    for key in tree.range::<&[u8], _>((from, Bound::Unbounded)).keys() {
        let key = key.map_err(failed)?;
        if values.len() == limit {
            break;
        }
        if let Some(key) = value::first_piece_of(&key) {
            values.extend(read(tree, key)?);
        }
    }
    Ok(values)
}

fn failed(error: sled::Error) -> StoreError {
    StoreError::Io(error.to_string())
}

fn kv_key(object: ObjectId, key: &str) -> Vec<u8> {
    [object.as_bytes(), key.as_bytes()].concat()
}

/// What must be free before so many bytes are written.
fn needed_bytes(bytes: u64) -> u64 {
    RESERVE_BYTES.saturating_add(bytes.saturating_mul(AMPLIFICATION))
}

fn enough(free: u64, needed: u64) -> Result<(), StoreError> {
    if free < needed { Err(StoreError::Full { free, needed }) } else { Ok(()) }
}

fn damaged(directory: &Path, reason: &str) -> StoreError {
    StoreError::Open { path: directory.to_owned(), reason: format!("it is damaged: {reason}") }
}

fn cannot_open(path: &Path, error: &sled::Error) -> StoreError {
    match error {
        sled::Error::Io(io) if io.to_string().contains("could not acquire lock") => {
            StoreError::InUse(path.to_owned())
        }
        other => StoreError::Open { path: path.to_owned(), reason: other.to_string() },
    }
}

#[cfg(test)]
pub(super) mod tests;
