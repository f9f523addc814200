//! Schedules of objects, and when crons were last due.

use std::collections::{BTreeMap, HashSet};

use berth_common::ids::{AppName, ObjectId, ScheduleId};
use serde::{Deserialize, Serialize};

use super::StoreError;
use crate::Schedule;

/// The key of a cron of an app: a digest of its settings, so that an unchanged cron keeps its mark over a deployment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CronKey {
    /// The app that declares it.
    pub app: AppName,
    /// Hexadecimal digits of the digest.
    pub cron: String,
}

/// An entry of the index of due times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DueEntry {
    /// When it is due, in milliseconds since 1970.
    pub due_ms: u64,
    /// The object.
    pub object: ObjectId,
    /// The schedule.
    pub id: ScheduleId,
}

/// A part of what is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DuePage {
    /// In the order of time, at most one for each object.
    pub entries: Vec<DueEntry>,
    /// Where the next part begins; None if this is the last one.
    pub next: Option<DueEntry>,
}

/// Schedules and cron marks. Lists begin after the given id.
pub trait Schedules {
    /// What is due up to this time of objects that are not in `without`: reads a part of the index, from the start or
    /// from where the part before ended.
    fn due(
        &self,
        from: Option<DueEntry>,
        until_ms: u64,
        without: &HashSet<ObjectId>,
    ) -> Result<DuePage, StoreError>;
    /// What is due first of an object, up to this time. Reads the due times of all its schedules.
    fn due_of(&self, object: ObjectId, until_ms: u64) -> Result<Option<DueEntry>, StoreError>;
    /// The earliest due time after this one.
    fn next_due_ms(&self, after_ms: u64) -> Result<Option<u64>, StoreError>;
    /// One schedule of an object.
    fn schedule(&self, object: ObjectId, id: ScheduleId) -> Result<Option<Schedule>, StoreError>;
    /// The schedules of an object, in the order of their ids, at most `limit`.
    fn schedules(
        &self,
        object: ObjectId,
        after: Option<ScheduleId>,
        limit: usize,
    ) -> Result<Vec<Schedule>, StoreError>;
    /// Schedules of all objects of an app, at most `limit`. Reads all schedules of the store.
    fn schedules_of_app(
        &self,
        app: &AppName,
        limit: usize,
    ) -> Result<Vec<(ObjectId, ScheduleId)>, StoreError>;
    /// When each cron was last due, in milliseconds since 1970.
    fn cron_marks(&self) -> Result<BTreeMap<CronKey, u64>, StoreError>;
}
