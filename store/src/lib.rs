//! The state that must survive the edge's process: the record of every object, apps, tokens, encrypted secrets, the
//! names of images, usage records, and the number of starts of the edge.
//!
//! The trait is narrow and exposes no closures over the store's internals, so that a distributed store can replace
//! sled. Does not interpret records, except for whether an instance is placed, because those are what a start of the
//! edge looks for. Does not know HTTP, links to nodes, or keys.

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
mod states;
mod unfinished;
mod value;
mod vitals;

use std::path::PathBuf;

use berth_common::happening::Happening;
use berth_common::ids::{AppName, Epoch, InstanceId, NodeId, ObjectId, ScheduleId, SecretName, Version};
use berth_common::image::{Digest, Registry, Repository, Tag};
use berth_common::metering::Metered;
use berth_engine::{Record, UsageRecord};

pub use self::catalogue::{Catalogue, ManifestRecord, Subject, TagRecord};
pub use self::copy::{Contents, Damage, export, import, try_import, verify};
pub use self::outbox::Outbox;
pub use self::records::{
    AddedBy, AppHistory, AppVersion, Delivery, Due, EventId, KEPT_VERSIONS, KEY_ID_BYTES, KeyId, LastVersion,
    MemberRecord, NUMBER_BYTES, NoCursor, NodeRecord, RegistryRecord, RevokedRecord, Schedule, Scope, Sealed,
    SecretHolder, SecretRecord, StateChange, StateHead, StoredState, TOKEN_PREFIX, TokenId, TokenRecord,
    UsageKey, What, Window,
};
pub use self::schedules::{CronKey, DueEntry, DuePage, Schedules};
pub use self::sled::SledStore;
pub use self::states::States;
pub use self::vitals::Vitals;

/// Called once with the result of a write: whether it is durable. Runs on the store's thread, so it must not block.
pub type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// A change to write.
#[derive(Debug, Clone)]
pub enum Write {
    /// Inserts or replaces the record of an object.
    Record(Box<Record>),
    /// Removes the record of an object, unless an instance of it is placed: then nothing is changed.
    RemoveRecord(ObjectId),
    /// Inserts or replaces an app.
    App(AppHistory),
    /// Removes an app.
    RemoveApp(AppName),
    /// Notes the highest number that a version of an app has had which is removed: it is not used again.
    LastVersion(AppName, Version),
    /// Inserts or replaces a token.
    Token(TokenRecord),
    /// Removes a token.
    RemoveToken(TokenId),
    /// Notes what has happened, under its number.
    Happening(Box<Happening>),
    /// Removes what has happened, by its numbers.
    RemoveHappenings(Vec<u64>),
    /// Inserts or replaces what was ordered of a node.
    Node(NodeRecord),
    /// Removes what was ordered of a node.
    RemoveNode(NodeId),
    /// Inserts or replaces a node that the edge was given while it ran.
    Member(Box<MemberRecord>),
    /// Removes such a node.
    RemoveMember(NodeId),
    /// Notes a key that no node may show any more. It is never taken back.
    Revoked(RevokedRecord),
    /// Inserts the usage record of an instance that has ended.
    Usage(Box<UsageRecord>),
    /// A node has measured an instance after all: replaces its record if that was an estimate. Does nothing if there is none.
    Measured {
        /// The instance.
        instance: InstanceId,
        /// Its usage.
        metered: Box<Metered>,
    },
    /// Notes whether a node keeps terms, so that it may be given up though it was never heard of.
    KeepsTerms(NodeId, bool),
    /// Notes until when instances go on without this process, before they are told so.
    Window(Window),
    /// Removes usage records.
    RemoveUsage(Vec<UsageKey>),
    /// Changes values of an object, all of them or none.
    Kv {
        /// The object.
        object: ObjectId,
        /// The changes, in the order in which they are applied.
        changes: Vec<KvChange>,
    },
    /// Changes what an object of a program keeps, all of it or nothing.
    State(Box<StateChange>),
    /// Inserts or replaces an encrypted secret.
    Secret(SecretRecord),
    /// Removes a secret.
    RemoveSecret {
        /// The app or the store.
        holder: SecretHolder,
        /// The name of the secret.
        name: SecretName,
    },
    /// Inserts or replaces the login for a registry, with an encrypted password.
    Registry(RegistryRecord),
    /// Removes the login for a registry.
    RemoveRegistry(Registry),
    /// Appends an event to those of its object that wait for delivery.
    Event(Box<Delivery>),
    /// Updates an event after a failed try.
    Retried(EventId, Box<Delivery>),
    /// Removes an event that was delivered.
    EventDelivered(EventId),
    /// Moves an event from those that wait for delivery to those that were set aside.
    SetAside(EventId, Box<Delivery>),
    /// Removes an event that was set aside.
    RemoveDead(EventId),
    /// Inserts or replaces a schedule.
    Schedule(Box<Schedule>),
    /// Removes a schedule.
    RemoveSchedule(ObjectId, ScheduleId),
    /// Removes or replaces a schedule, unless it was changed since it was read.
    Finish {
        /// The object.
        object: ObjectId,
        /// The schedule.
        id: ScheduleId,
        /// When it was due, in milliseconds since 1970; if that has changed, nothing is written.
        due_ms: u64,
        /// The new state; None removes it.
        then: Option<Box<Schedule>>,
    },
    /// Sets when a cron was last due, in milliseconds since 1970.
    CronMark(CronKey, u64),
    /// Removes the mark of a cron.
    RemoveCronMark(CronKey),
    /// Inserts or replaces a tag.
    ImageTag(TagRecord),
    /// Removes a tag.
    RemoveImageTag(Repository, Tag),
    /// Inserts or replaces a manifest of a repository.
    ImageManifest(Box<ManifestRecord>),
    /// Removes a manifest of a repository.
    RemoveImageManifest(Repository, Digest),
}

/// A change of one value of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvChange {
    /// The key.
    pub key: String,
    /// The new value; None deletes it.
    pub value: Option<Vec<u8>>,
}

/// A durable store. Lists begin after the given key.
pub trait Store: Outbox + Schedules + Catalogue + States + Send + Sync {
    /// The record of an object, if it ever had one.
    fn load(&self, object: ObjectId) -> Result<Option<Record>, StoreError>;
    /// Writes all of these or none. Commits become durable in the order of the calls.
    fn commit(&self, writes: Vec<Write>, done: Done);
    /// The records of all objects with an instance that may be running.
    fn placed(&self) -> Result<Vec<Record>, StoreError>;
    /// Records in the order of the objects' ids, at most `limit`.
    fn records(&self, after: Option<ObjectId>, limit: usize) -> Result<Vec<Record>, StoreError>;
    /// All apps.
    fn apps(&self) -> Result<Vec<AppHistory>, StoreError>;
    /// The highest number that a version of an app had when it was removed; 0 if none was.
    fn last_version(&self, app: &AppName) -> Result<Version, StoreError>;
    /// All tokens.
    fn tokens(&self) -> Result<Vec<TokenRecord>, StoreError>;
    /// All that has happened, as far as it is kept and can be read, in order.
    fn happenings(&self) -> Vec<Happening>;
    /// What was ordered of nodes, in the order of their names.
    fn nodes(&self) -> Result<Vec<NodeRecord>, StoreError>;
    /// The nodes that the edge was given while it ran, in the order of their names.
    fn members(&self) -> Result<Vec<MemberRecord>, StoreError>;
    /// The keys that no node may show any more.
    fn revoked(&self) -> Result<Vec<RevokedRecord>, StoreError>;
    /// The value of an object's key.
    fn value(&self, object: ObjectId, key: &str) -> Result<Option<Vec<u8>>, StoreError>;
    /// Keys of an object with a prefix, in the order of their bytes, at most `limit`, with the lengths of their values
    /// in bytes.
    fn keys(
        &self,
        object: ObjectId,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, usize)>, StoreError>;
    /// A secret, still encrypted.
    fn secret(&self, holder: &SecretHolder, name: &SecretName) -> Result<Option<SecretRecord>, StoreError>;
    /// The names of the secrets of an app or a store, or of all, in order, apps first.
    fn secret_names(
        &self,
        holder: Option<&SecretHolder>,
    ) -> Result<Vec<(SecretHolder, SecretName)>, StoreError>;
    /// The login for a registry, if there is one.
    fn registry(&self, registry: &Registry) -> Result<Option<RegistryRecord>, StoreError>;
    /// The logins for all registries, in the order of their names.
    fn registries(&self) -> Result<Vec<RegistryRecord>, StoreError>;
    /// Usage records in the order of the instances' ends, at most `limit`.
    fn usage(&self, after: Option<UsageKey>, limit: usize) -> Result<Vec<UsageRecord>, StoreError>;
    /// The nodes that are known to keep terms.
    fn keeping_terms(&self) -> Result<Vec<NodeId>, StoreError>;
    /// Until when the last process of the edge that has ended in good order has let instances go on.
    fn window(&self) -> Result<Option<Window>, StoreError>;
    /// Increments the number of starts of the edge, durably.
    fn next_epoch(&self) -> Result<Epoch, StoreError>;
}

/// Writes a change, and waits until it is durable.
pub async fn write(store: &dyn Store, write: Write) -> Result<(), StoreError> {
    commit(store, vec![write]).await
}

/// Writes all of these or none, and waits until they are durable.
pub async fn commit(store: &dyn Store, writes: Vec<Write>) -> Result<(), StoreError> {
    let (tell, told) = tokio::sync::oneshot::channel();
    store.commit(writes, Box::new(move |result| drop(tell.send(result))));
    told.await.unwrap_or(Err(StoreError::Closed))
}

/// Why an operation of the store failed.
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
        /// The reason.
        reason: String,
    },
    /// It was written by a newer version of Berth.
    #[error(
        "the store {path} has the format {found}, and this version of Berth knows formats up to {known}: run the version \
         that wrote it, or a newer one"
    )]
    Newer {
        /// The directory.
        path: PathBuf,
        /// The format of the store.
        found: u32,
        /// The newest format that this version supports.
        known: u32,
    },
    /// A value does not match its checksum, or cannot be parsed.
    #[error("the store holds a damaged {what}: {reason}")]
    Damaged {
        /// A description of the value.
        what: String,
        /// The reason.
        reason: String,
    },
    /// The disk is almost full.
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
    /// An earlier write failed half-way.
    #[error("the store failed before ({0}) and accepts no more writes: check its disk, and restart the edge")]
    Broken(String),
    /// Reading or writing failed.
    #[error("the store failed: {0}")]
    Io(String),
    /// The edge is stopping.
    #[error("the store is closed")]
    Closed,
}
