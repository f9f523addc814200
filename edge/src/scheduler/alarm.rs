//! Alarms of programs' objects, from when they have begun to their end: what becomes of them in the store.
//!
//! ```text
//! due ──▶ begun ── ok ──▶ the object has taken it back, or set another, in its last commit
//!           │ ├── failed ──▶ due again later ── tried often enough ──▶ removed
//!           │ └── not its fault (its process ended, its code was updated) ──▶ due again soon, not counted
//!           └── the edge ends ──▶ due still, with the same count
//! ```

use berth_common::clock::wall_ms;
use berth_common::ids::ScheduleId;
use berth_store::{self as store, Schedule, StoreError, Write};

use super::{Scheduler, failed};
use crate::metrics::Tried;
use crate::programs::{Called, Ended, Failure, ProgramError};

/// Pause before an alarm is due again that is due still although it was carried out, or that came to nothing without its own fault, in
/// milliseconds: so that nothing goes round and round.
const AGAIN_MS: u64 = 1_000;

/// An alarm that has begun.
pub(super) struct BegunAlarm {
    pub(super) schedule: Schedule,
    /// When it was due, as the index has it.
    pub(super) due_ms: u64,
    pub(super) called: Called,
}

/// Whether a failure is the object's own.
fn counts(failure: &Failure) -> bool {
    matches!(failure, Failure::Script(_) | Failure::Load(_) | Failure::Ended(Ended::Memory | Ended::Cpu))
}

/// The alarm, due again without having been tried.
fn again(schedule: Schedule, now_ms: u64) -> Option<Box<Schedule>> {
    Some(Box::new(Schedule { due_ms: Some(now_ms.saturating_add(AGAIN_MS)), ..schedule }))
}

impl Scheduler {
    /// Waits for the end of an alarm, and notes what comes of it.
    pub(super) async fn end_alarm(&self, begun: BegunAlarm) -> Result<(), StoreError> {
        let BegunAlarm { schedule, due_ms, called } = begun;
        let (object, id) = (schedule.key.id(), ScheduleId::ALARM);
        let ended = called.end().await;
        let (tried, then) = match ended {
            Ok(()) => {
                self.metrics.due.actions.count(Tried::Done);
                // What the handler has set, or what its last commit has left, is there already.
                let left = self.store.schedule(object, id)?;
                let Some(left) = left.filter(|left| left.due_ms == Some(due_ms)) else { return Ok(()) };
                (None, again(Schedule { attempts: 0, ..left }, wall_ms()))
            }
            Err(failure) if counts(&failure) => {
                let text = failure.to_string();
                let error = ProgramError::from(failure);
                self.actions.programs.failed(&schedule.key.app, fastrand::u32(..), &error);
                (Some(Tried::Failed), failed(schedule, text))
            }
            Err(_) => (Some(Tried::PutOff), again(schedule, wall_ms())),
        };
        tried.into_iter().for_each(|tried| self.metrics.due.actions.count(tried));
        store::write(&*self.store, Write::Finish { object, id, due_ms, then }).await
    }
}
