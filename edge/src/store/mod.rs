//! What must survive the edge's process: the record of every object, the apps, and how often the edge has started.
//!
//! The trait is narrow and free of closures over the store's inside, so that a distributed store can take sled's place.
//! Knows nothing of what a record means, but whether an instance is placed: those are what a start looks for.

mod sled;
mod value;

use std::path::PathBuf;

use berth_common::ids::{Epoch, ObjectId};
use berth_common::spec::AppSpec;
use berth_engine::Record;

pub(crate) use self::sled::SledStore;

/// Told, once, whether a write is durable. Called on the store's thread: it must not block.
pub(crate) type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// A durable store.
pub(crate) trait Store: Send + Sync {
    /// The record of an object, if it ever had one.
    fn load(&self, object: ObjectId) -> Result<Option<Record>, StoreError>;
    /// Writes a record. Records of one object become durable in the order in which they were given.
    fn persist(&self, record: Record, done: Done);
    /// The records of all objects with an instance that may live.
    fn placed(&self) -> Result<Vec<Record>, StoreError>;
    /// Records of objects in order of their ids, at most so many.
    fn records(&self, limit: usize) -> Result<Vec<Record>, StoreError>;
    /// All apps.
    fn apps(&self) -> Result<Vec<AppSpec>, StoreError>;
    /// Writes an app in the place of its earlier version.
    fn put_app(&self, app: AppSpec, done: Done);
    /// Counts a start of the edge, durably.
    fn next_epoch(&self) -> Result<Epoch, StoreError>;
}

/// Why the store could not do something.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum StoreError {
    /// Another process has it open.
    #[error("the store {0} is in use by another process: is another edge running on this state directory?")]
    InUse(PathBuf),
    /// It cannot be opened.
    #[error(
        "the store {path} cannot be opened ({reason}): restore the directory from a copy, or move it away to start \
         with an empty one, which then does not know the apps and the instances that run"
    )]
    Open { path: PathBuf, reason: String },
    /// A value does not match its checksum, or is not what it should be.
    #[error("the store holds a damaged {what}: {reason}")]
    Damaged { what: String, reason: String },
    /// Reading or writing failed.
    #[error("the store failed: {0}")]
    Io(String),
    /// The edge is stopping.
    #[error("the store is closed")]
    Closed,
}
