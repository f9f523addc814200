//! What objects are to do at a time, and when crons were done last.

use std::collections::{BTreeMap, HashSet};

use berth_common::ids::{AppName, ObjectId, ScheduleId};
use serde::{Deserialize, Serialize};

use super::StoreError;
use crate::Schedule;

/// Which cron of which app: by what it says, so that another version that says the same goes on with it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CronKey {
    /// The app that declares it.
    pub app: AppName,
    /// Digits of a digest.
    pub cron: String,
}

/// Something that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DueEntry {
    /// When, in milliseconds since 1970.
    pub due_ms: u64,
    /// Whose it is.
    pub object: ObjectId,
    /// Which of its things.
    pub id: ScheduleId,
}

/// What is to be done at a time.
pub trait Schedules {
    /// What is due until then, the first of each object that is not among these, at most so many.
    fn due(
        &self,
        until_ms: u64,
        without: &HashSet<ObjectId>,
        limit: usize,
    ) -> Result<Vec<DueEntry>, StoreError>;
    /// When the first is due that is due later than this.
    fn next_due_ms(&self, after_ms: u64) -> Result<Option<u64>, StoreError>;
    /// One thing that an object is to do.
    fn schedule(&self, object: ObjectId, id: ScheduleId) -> Result<Option<Schedule>, StoreError>;
    /// What an object is to do, in the order of the ids, behind this one, at most so many.
    fn schedules(
        &self,
        object: ObjectId,
        after: Option<ScheduleId>,
        limit: usize,
    ) -> Result<Vec<Schedule>, StoreError>;
    /// When each cron was due last, in milliseconds since 1970.
    fn cron_marks(&self) -> Result<BTreeMap<CronKey, u64>, StoreError>;
}
