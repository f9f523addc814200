//! The store of a single edge, on sled.
//!
//! Reads on the caller's thread, and writes on one thread (`writer`); `change` maps a write to changes of the database.

mod catalogue;
mod change;
mod fault;
mod journal;
mod kept;
mod outbox;
mod schedules;
mod states;
mod tables;
mod writer;

use std::cell::{Cell, OnceCell, RefCell};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use berth_common::happening::Happening;
use berth_common::ids::{AppName, Epoch, NodeId, ObjectId, SecretName, Version};
use berth_common::image::Registry;
use berth_common::spec::AppSpec;
use berth_engine::{Record, UsageRecord};
use serde::Deserialize;

use self::change::{kv_key, secret_key, secret_table};
use self::fault::{cannot_open, damaged};
use self::journal::Journal;
use self::kept::Kept;
pub(super) use self::outbox::dead_id;
pub(super) use self::schedules::CronMark;
use self::tables::Trees;
pub(super) use self::tables::{Table, failed};
use self::writer::{Free, Job, Writer, free_bytes};
use super::durable::sync_with_name;
use super::guard::{Backup, Mark, Opening};
use super::unfinished::Unfinished;
use super::value::{self, piece_key};
use super::{Done, Store, StoreError, Vitals, Write};
use crate::AppHistory;
use crate::TokenRecord;
use crate::UsageKey;
use crate::Window;
use crate::{
    LastVersion, MemberRecord, NodeRecord, RegistryRecord, RevokedRecord, SecretHolder, SecretRecord,
};

/// Most writes that wait; with a full queue, the caller of a write waits.
const QUEUE: usize = 4096;
/// Memory that sled may use as a cache.
const CACHE_BYTES: u64 = 64 << 20;
/// How long a store that is in use is waited for, and how often it is tried. The database's own threads let go of its
/// file a moment after it was closed, later on a busy machine.
const RELEASED_WITHIN: Duration = Duration::from_secs(2);
const TRY_EVERY: Duration = Duration::from_millis(10);
/// The log file of sled in the store's directory.
pub(super) const DATABASE_FILE: &str = "db";
/// A piece index that no value reaches, and that sorts before every longer key of which a key is a prefix: those
/// continue with a character, and never with a control character.
const LAST_PIECE: u16 = 0x00ff;
/// Length of an object's id, the prefix of each of its keys.
const OBJECT_ID_BYTES: usize = 16;
/// The key of the number of starts.
const EPOCH: &[u8] = b"epoch";
const WINDOW: &[u8] = b"window";
/// In the table of a few values, before the name of each node that keeps terms.
const KEEPS_TERMS: &[u8] = b"keeps-terms/";

fn keeps_terms_key(node: &NodeId) -> Vec<u8> {
    [KEEPS_TERMS, node.as_str().as_bytes()].concat()
}
/// The key of the number of written batches.
const BATCHES: &[u8] = b"batches";
/// The key of the format; a store without one has format 1.
const FORMAT_KEY: &[u8] = b"format";
/// The format that is written: 2 added versions of apps, and tokens; 3 hooks, schedules, secrets and usage; 4 tags and
/// manifests of images; 5 orders to end an instance, and the last versions of removed apps; 6 what objects of programs keep,
/// drained nodes, and what has happened; 7 nodes that were added while the edge ran, and revoked keys. Older ones are read.
pub(super) const FORMAT: u32 = 7;

/// A store in a directory.
pub struct SledStore {
    trees: Trees,
    queue: SyncSender<Job>,
    writer: Mutex<Option<JoinHandle<()>>>,
    vitals: Arc<Vitals>,
    kept: Arc<Kept>,
}

/// An app in format 1, and in later ones.
#[derive(Deserialize)]
#[serde(untagged)]
enum StoredApp {
    History(AppHistory),
    Spec(Box<AppSpec>),
}

impl SledStore {
    /// Opens or creates the store in this directory. A store that has lost writes is refused, and left unchanged. One
    /// that is in use is waited for a moment.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let until = Instant::now() + RELEASED_WITHIN;
        loop {
            match Self::try_open(directory) {
                Err(StoreError::InUse(_)) if Instant::now() < until => std::thread::sleep(TRY_EVERY),
                opened => return opened,
            }
        }
    }

    fn try_open(directory: &Path) -> Result<Self, StoreError> {
        let unusable =
            |error: io::Error| StoreError::Open { path: directory.to_owned(), reason: error.to_string() };
        let _opening = Opening::begin(directory)?;
        Unfinished::remove(directory).map_err(unusable)?;
        let backup = Backup::create(directory, DATABASE_FILE)?;
        let unfinished = Unfinished::begin(directory, DATABASE_FILE).map_err(unusable)?;
        // sled reports some damage by a panic.
        let opened = std::panic::catch_unwind(|| Self::open_as_it_is(directory, free_bytes));
        let opened = opened.unwrap_or_else(|_| Err(damaged(directory, "it made the database panic")));
        let settled = match (&opened, backup) {
            // Another has it open, and may have changed it since it was copied: it is not ours to put back.
            (Ok(_) | Err(StoreError::InUse(_)), Some(backup)) => backup.discard(),
            (Err(_), Some(backup)) => backup.put_back(),
            (_, None) => Ok(()),
        };
        settled.map_err(unusable)?;
        let store = opened?;
        sync_with_name(directory).map_err(unusable)?;
        unfinished.map_or(Ok(()), Unfinished::finish).map_err(unusable)?;
        Ok(store)
    }

    fn open_as_it_is(directory: &Path, free: Free) -> Result<Self, StoreError> {
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
        let format = trees.read(Table::Meta, FORMAT_KEY)?.unwrap_or(1);
        if format > FORMAT {
            return Err(StoreError::Newer { path: directory.to_owned(), found: format, known: FORMAT });
        }
        let mark = Mark::open(directory).map_err(|error| StoreError::Io(error.to_string()))?;
        let journal = Journal::open(directory).map_err(|error| StoreError::Io(error.to_string()))?;
        let written: u64 = trees.read(Table::Meta, BATCHES)?.unwrap_or_default();
        let batches = write_again(&journal, &trees, written)?;
        // The next batch takes the journal's place: this one is on the way to the disk before, and synced by `open`.
        db.flush().map_err(failed)?;
        if let Some(durable) = mark.read().filter(|durable| *durable > batches) {
            let lost = durable - batches;
            return Err(damaged(directory, &format!("the last {lost} of {durable} writes are missing")));
        }
        let (vitals, kept) = (Arc::new(Vitals::default()), Arc::new(Kept::default()));
        let (queue, jobs) = sync_channel(QUEUE);
        let writer = Writer {
            db,
            trees: trees.clone(),
            file,
            directory: directory.to_owned(),
            journal,
            mark,
            batches: Cell::new(batches),
            broken: OnceCell::new(),
            synced_blobs: RefCell::default(),
            vitals: Arc::clone(&vitals),
            kept: Arc::clone(&kept),
            free,
        };
        let writer = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || writer.run(&jobs))
            .map_err(|error| StoreError::Io(error.to_string()))?;
        let store = Self { trees, queue, writer: Mutex::new(Some(writer)), vitals, kept };
        if format < FORMAT {
            store.wait_for(Job::Format)?;
        }
        Ok(store)
    }

    /// The state of the writer.
    pub fn vitals(&self) -> Arc<Vitals> {
        Arc::clone(&self.vitals)
    }

    pub(super) fn trees(&self) -> &Trees {
        &self.trees
    }

    fn kept(&self) -> &Kept {
        &self.kept
    }

    /// The number of starts of the edge.
    pub(super) fn epoch(&self) -> Result<Epoch, StoreError> {
        Ok(self.trees.read(Table::Meta, EPOCH)?.unwrap_or_default())
    }

    /// All apps.
    pub(super) fn each_app(&self) -> impl Iterator<Item = Result<AppHistory, StoreError>> + '_ {
        self.trees.each(Table::Apps, None).map(|app| match app? {
            StoredApp::History(history) => valid(history),
            StoredApp::Spec(spec) => valid(AppHistory::begin(*spec, 0)),
        })
    }

    /// Every value of every object.
    pub(super) fn all_values(
        &self,
    ) -> impl Iterator<Item = Result<(ObjectId, String, Vec<u8>), StoreError>> + '_ {
        let firsts = self.trees.get(Table::Kv).iter().keys().filter_map(|piece| match piece {
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
            let value = value::read(&key, |piece| self.trees.get(Table::Kv).get(piece).map_err(failed))?;
            Ok((object, name, value.unwrap_or_default()))
        })
    }

    /// Sets the number of starts of the edge.
    pub(super) fn set_epoch(&self, epoch: Epoch) -> Result<(), StoreError> {
        self.wait_for(|done| Job::Epoch(epoch, done))
    }

    /// Waits until all that was committed before is written, or has failed.
    pub(super) fn settle(&self) -> Result<(), StoreError> {
        self.wait_for(|done| Job::Commit(Vec::new(), done))
    }

    /// Submits a job and waits until it is durable.
    fn wait_for(&self, job: impl FnOnce(Done) -> Job) -> Result<(), StoreError> {
        let (tell, told) = sync_channel(1);
        self.submit(job(Box::new(move |result| drop(tell.send(result)))));
        told.recv().map_err(|_| StoreError::Closed)?
    }

    /// Writes the queue, and closes the store.
    pub fn close(&self) {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            let _ = self.queue.send(Job::Close);
            // A panic of the writer was reported by the panic hook; nothing can be written any more.
            let _ = writer.join();
        }
    }

    fn submit(&self, job: Job) {
        self.vitals.waiting.enter();
        if let Err(refused) = self.queue.send(job) {
            self.vitals.waiting.leave();
            refused.0.done(Err(StoreError::Closed));
        }
    }
}

fn valid(app: AppHistory) -> Result<AppHistory, StoreError> {
    if app.is_valid() {
        return Ok(app);
    }
    let what = format!("app {}", app.current().spec.name);
    Err(StoreError::Damaged { what, reason: "its versions do not fit together".to_owned() })
}

/// Those that can be read. Damage is told in the log, and every other error stays.
fn passing_over_damaged<T>(
    read: impl Iterator<Item = Result<T, StoreError>>,
) -> impl Iterator<Item = Result<T, StoreError>> {
    read.filter(|read| match read {
        Err(error @ StoreError::Damaged { .. }) => {
            tracing::error!(%error, "it is passed over");
            false
        }
        _ => true,
    })
}

/// Writes the last batch again: of one that was cut off by a power failure, the database may have a part. Returns the number of
/// batches that it has then.
fn write_again(journal: &Journal, trees: &Trees, written: u64) -> Result<u64, StoreError> {
    match journal.read().map_err(|error| StoreError::Io(error.to_string()))? {
        Some((number, batch)) if number == written || Some(number) == written.checked_add(1) => {
            batch.commit(trees)?;
            Ok(number)
        }
        _ => Ok(written),
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        self.close();
    }
}

impl Store for SledStore {
    fn load(&self, object: ObjectId) -> Result<Option<Record>, StoreError> {
        self.trees.read(Table::Objects, object.as_bytes())
    }

    fn placed(&self) -> Result<Vec<Record>, StoreError> {
        let mut records = Vec::new();
        for key in self.trees.get(Table::Placed).iter().keys() {
            records.extend(self.trees.read::<Record>(Table::Objects, &key.map_err(failed)?)?);
        }
        Ok(records)
    }

    fn records(&self, after: Option<ObjectId>, limit: usize) -> Result<Vec<Record>, StoreError> {
        let last_piece = after.map(|id| piece_key(id.as_bytes(), u16::MAX));
        self.trees.read_all(Table::Objects, last_piece.as_deref(), limit)
    }

    fn apps(&self) -> Result<Vec<AppHistory>, StoreError> {
        self.each_app().collect()
    }

    fn last_version(&self, app: &AppName) -> Result<Version, StoreError> {
        let found: Option<LastVersion> = self.trees.read(Table::LastVersions, app.as_str().as_bytes())?;
        Ok(found.map_or(Version::default(), |found| found.last))
    }

    fn tokens(&self) -> Result<Vec<TokenRecord>, StoreError> {
        self.trees.read_all(Table::Tokens, None, usize::MAX)
    }

    fn happenings(&self) -> Vec<Happening> {
        // A damaged one keeps no edge from starting: `verify` names it.
        self.trees.each(Table::Happenings, None).filter_map(Result::ok).collect()
    }

    fn nodes(&self) -> Result<Vec<NodeRecord>, StoreError> {
        self.trees.read_all(Table::Nodes, None, usize::MAX)
    }

    fn members(&self) -> Result<Vec<MemberRecord>, StoreError> {
        self.trees.read_all(Table::Members, None, usize::MAX)
    }

    fn revoked(&self) -> Result<Vec<RevokedRecord>, StoreError> {
        self.trees.read_all(Table::Revoked, None, usize::MAX)
    }

    fn value(&self, object: ObjectId, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        value::read(&kv_key(object, key), |piece| self.trees.get(Table::Kv).get(piece).map_err(failed))
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
        // A cursor that sorts after the prefix continues there; keys must begin with the prefix in any case.
        let from = last_piece.as_ref().filter(|last| **last > begin).unwrap_or(&begin);
        let mut keys = Vec::new();
        for entry in self.trees.get(Table::Kv).range(from.as_slice()..) {
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

    fn usage(&self, after: Option<UsageKey>, limit: usize) -> Result<Vec<UsageRecord>, StoreError> {
        let last_piece = after.map(|key| piece_key(&key.to_bytes(), u16::MAX));
        self.trees.read_all(Table::Usage, last_piece.as_deref(), limit)
    }

    fn secret(&self, holder: &SecretHolder, name: &SecretName) -> Result<Option<SecretRecord>, StoreError> {
        self.trees.read(secret_table(holder), &secret_key(holder, name.as_str()))
    }

    fn secret_names(
        &self,
        holder: Option<&SecretHolder>,
    ) -> Result<Vec<(SecretHolder, SecretName)>, StoreError> {
        if let Some(holder) = holder {
            return self.names_in(secret_table(holder), &secret_key(holder, ""));
        }
        let mut names = self.names_in(Table::Secrets, &[])?;
        names.extend(self.names_in(Table::StoreSecrets, &[])?);
        Ok(names)
    }

    fn registry(&self, registry: &Registry) -> Result<Option<RegistryRecord>, StoreError> {
        self.trees.read(Table::Registries, registry.as_str().as_bytes())
    }

    fn registries(&self) -> Result<Vec<RegistryRecord>, StoreError> {
        self.trees.read_all(Table::Registries, None, usize::MAX)
    }

    fn commit(&self, writes: Vec<Write>, done: Done) {
        self.submit(Job::Commit(writes, done));
    }

    fn keeping_terms(&self) -> Result<Vec<NodeId>, StoreError> {
        let keys = self.trees.get(Table::Meta).scan_prefix(KEEPS_TERMS).keys();
        let mut nodes = Vec::new();
        for piece in keys {
            let piece = piece.map_err(failed)?;
            if let Some(key) = value::first_piece_of(&piece) {
                nodes.extend(self.trees.read(Table::Meta, key)?);
            }
        }
        Ok(nodes)
    }

    fn window(&self) -> Result<Option<Window>, StoreError> {
        self.trees.read(Table::Meta, WINDOW)
    }

    fn next_epoch(&self) -> Result<Epoch, StoreError> {
        let next = Epoch(self.epoch()?.0 + 1);
        self.wait_for(|done| Job::Epoch(next, done)).map(|()| next)
    }
}

impl SledStore {
    /// The names of the secrets of a table whose keys begin like this.
    fn names_in(&self, table: Table, begin: &[u8]) -> Result<Vec<(SecretHolder, SecretName)>, StoreError> {
        let mut names = Vec::new();
        for piece in self.trees.get(table).scan_prefix(begin).keys() {
            let piece = piece.map_err(failed)?;
            if let Some(key) = value::first_piece_of(&piece) {
                names.push(secret_names_of(table, key)?);
            }
        }
        Ok(names)
    }
}

/// The inverse of `secret_key`.
fn secret_names_of(table: Table, key: &[u8]) -> Result<(SecretHolder, SecretName), StoreError> {
    let text = String::from_utf8_lossy(key);
    let holder = |name: &str| {
        let store = table == Table::StoreSecrets;
        if store { name.parse().map(SecretHolder::Store) } else { name.parse().map(SecretHolder::App) }
    };
    let names =
        text.split_once('\0').and_then(|(first, name)| Some((holder(first).ok()?, name.parse().ok()?)));
    names.ok_or_else(|| StoreError::Damaged {
        what: format!("key of a secret, {text:?}"),
        reason: "it names no app or store and no secret".to_owned(),
    })
}

#[cfg(test)]
pub(super) mod tests;
