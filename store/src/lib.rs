//! What must survive the edge's process: the record of every object, the apps, the tokens, sealed secrets, the names of
//! images, what instances took, and how often the edge has started.
//!
//! The trait is narrow and free of closures over the store's inside, so that a distributed store can take sled's place.
//! Knows nothing of what a record means, but whether an instance is placed: those are what a start looks for. Knows nothing
//! of HTTP, of links to nodes, and of keys.

mod catalogue;
mod copy;
mod durable;
#[cfg(any(test, feature = "fixtures"))]
pub mod fixtures;
mod guard;
mod outbox;
mod records;
mod schedules;
mod sled;
mod value;
mod vitals;

use std::path::PathBuf;

use berth_common::ids::{AppName, Epoch, ObjectId, ScheduleId, SecretName};
use berth_common::image::{Digest, Registry, Repository, Tag};
use berth_engine::{Record, UsageRecord};

pub use self::catalogue::{Catalogue, ManifestRecord, Subject, TagRecord};
pub use self::copy::{Contents, export, import, verify};
pub use self::outbox::Outbox;
pub use self::records::{
    AppHistory, AppVersion, Delivery, Due, EventId, KEPT_VERSIONS, KEY_ID_BYTES, KeyId, NUMBER_BYTES,
    NoCursor, RegistryRecord, Schedule, Scope, Sealed, SecretRecord, TOKEN_PREFIX, TokenId, TokenRecord,
    UsageKey, What,
};
pub use self::schedules::{CronKey, DueEntry, Schedules};
pub use self::sled::SledStore;
pub use self::vitals::Vitals;

/// Told, once, whether a write is durable. Called on the store's thread: it must not block.
pub type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// Something to be written.
#[derive(Debug, Clone)]
pub enum Write {
    /// An object's record in the place of what was stored of it.
    Record(Box<Record>),
    /// An app in the place of what was stored of it.
    App(AppHistory),
    /// The end of an app.
    RemoveApp(AppName),
    /// A token in the place of what was stored of it.
    Token(TokenRecord),
    /// The end of a token.
    RemoveToken(TokenId),
    /// What an instance took that has ended.
    Usage(Box<UsageRecord>),
    /// The end of such records.
    RemoveUsage(Vec<UsageKey>),
    /// Changes of an object's values, all of them or none.
    Kv {
        /// Whose values.
        object: ObjectId,
        /// In the order in which they are made.
        changes: Vec<KvChange>,
    },
    /// A sealed secret in the place of what was stored of it.
    Secret(SecretRecord),
    /// The end of a secret.
    RemoveSecret {
        /// Whose it is.
        app: AppName,
        /// What it is called there.
        name: SecretName,
    },
    /// The user of a registry, with a sealed password, in the place of what was stored of it.
    Registry(RegistryRecord),
    /// The end of that.
    RemoveRegistry(Registry),
    /// A new event to be told, behind all others of its object.
    Event(Box<Delivery>),
    /// An event that was tried, and is to be tried again.
    Retried(EventId, Box<Delivery>),
    /// The end of an event that was told.
    EventTold(EventId),
    /// An event that is told no more, unless somebody wants it.
    SetAside(EventId, Box<Delivery>),
    /// The end of an event that was set aside.
    RemoveDead(EventId),
    /// Something that an object is to do, in the place of what was stored of it.
    Schedule(Box<Schedule>),
    /// The end of that.
    RemoveSchedule(ObjectId, ScheduleId),
    /// The same, or something in its place, if it is still due then: else somebody has put another there.
    Finish {
        /// Whose it is.
        object: ObjectId,
        /// Which of its things.
        id: ScheduleId,
        /// When it was due, in milliseconds since 1970.
        due_ms: u64,
        /// What takes its place.
        then: Option<Box<Schedule>>,
    },
    /// When a cron was due last.
    CronMark(CronKey, u64),
    /// The end of a cron.
    RemoveCronMark(CronKey),
    /// A tag in the place of what was stored of it.
    ImageTag(TagRecord),
    /// The end of a tag.
    RemoveImageTag(Repository, Tag),
    /// A manifest of a repository in the place of what was stored of it.
    ImageManifest(Box<ManifestRecord>),
    /// The end of a manifest.
    RemoveImageManifest(Repository, Digest),
}

/// A change of one of an object's values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvChange {
    /// Under which key.
    pub key: String,
    /// None deletes it.
    pub value: Option<Vec<u8>>,
}

/// A durable store.
pub trait Store: Outbox + Schedules + Catalogue + Send + Sync {
    /// The record of an object, if it ever had one.
    fn load(&self, object: ObjectId) -> Result<Option<Record>, StoreError>;
    /// Writes all of these or none. What is given later is durable later, or at the same moment.
    fn commit(&self, writes: Vec<Write>, done: Done);
    /// The records of all objects with an instance that may live.
    fn placed(&self) -> Result<Vec<Record>, StoreError>;
    /// Records of objects in order of their ids, from the first behind this one, at most so many.
    fn records(&self, after: Option<ObjectId>, limit: usize) -> Result<Vec<Record>, StoreError>;
    /// All apps.
    fn apps(&self) -> Result<Vec<AppHistory>, StoreError>;
    /// All tokens.
    fn tokens(&self) -> Result<Vec<TokenRecord>, StoreError>;
    /// The value that an object has under a key.
    fn value(&self, object: ObjectId, key: &str) -> Result<Option<Vec<u8>>, StoreError>;
    /// Keys of an object that begin with a prefix, in the order of their bytes from the first behind `after`, at most so
    /// many, with the lengths of their values.
    fn keys(
        &self,
        object: ObjectId,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, usize)>, StoreError>;
    /// A secret, sealed as it is.
    fn secret(&self, app: &AppName, name: &SecretName) -> Result<Option<SecretRecord>, StoreError>;
    /// The names of an app's secrets, or of all, in order.
    fn secret_names(&self, app: Option<&AppName>) -> Result<Vec<(AppName, SecretName)>, StoreError>;
    /// The user of a registry, if one is stored.
    fn registry(&self, registry: &Registry) -> Result<Option<RegistryRecord>, StoreError>;
    /// The users of all registries, in the order of their names.
    fn registries(&self) -> Result<Vec<RegistryRecord>, StoreError>;
    /// What instances took that have ended, in the order of their ends, from the first behind this one, at most so many.
    fn usage(&self, after: Option<UsageKey>, limit: usize) -> Result<Vec<UsageRecord>, StoreError>;
    /// Counts a start of the edge, durably.
    fn next_epoch(&self) -> Result<Epoch, StoreError>;
}

/// Writes, and waits until that is durable.
pub async fn write(store: &dyn Store, write: Write) -> Result<(), StoreError> {
    commit(store, vec![write]).await
}

/// Writes all of these or none, and waits until that is durable.
pub async fn commit(store: &dyn Store, writes: Vec<Write>) -> Result<(), StoreError> {
    let (tell, told) = tokio::sync::oneshot::channel();
    store.commit(writes, Box::new(move |result| drop(tell.send(result))));
    told.await.unwrap_or(Err(StoreError::Closed))
}

/// Why the store could not do something.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Another process has it open.
    #[error("the store {0} is in use by another process: is another edge running on this state directory?")]
    InUse(PathBuf),
    /// It cannot be opened.
    #[error(
        "the store {path} cannot be opened ({reason}). Nothing of it was changed. Bring it back from an export with `berth \
         store import --replace`, which sets it aside, or move it away to start with an empty one, which then does not \
         know the apps and the instances that run"
    )]
    Open {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A newer version of Berth has written it.
    #[error(
        "the store {path} has the format {found}, and this version of Berth knows formats up to {known}: run the version \
         that wrote it, or a newer one"
    )]
    Newer {
        /// The directory.
        path: PathBuf,
        /// The format that it has.
        found: u32,
        /// The newest that this version knows.
        known: u32,
    },
    /// A value does not match its checksum, or is not what it should be.
    #[error("the store holds a damaged {what}: {reason}")]
    Damaged {
        /// The value, for people.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Its disk is as good as full.
    #[error(
        "the disk of the store is as good as full ({free} bytes are free, {needed} are needed): nothing was written; make room \
         and try again"
    )]
    Full {
        /// Free bytes of the disk.
        free: u64,
        /// Bytes that must be free.
        needed: u64,
    },
    /// An earlier write failed in the middle.
    #[error(
        "the store failed before ({0}) and takes nothing any more: see to its disk, and restart the edge"
    )]
    Broken(String),
    /// Reading or writing failed.
    #[error("the store failed: {0}")]
    Io(String),
    /// The edge is stopping.
    #[error("the store is closed")]
    Closed,
}
