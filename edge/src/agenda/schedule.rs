//! Something that an object is to do at a time, and what becomes of it when that fails. Pure.

use berth_common::ids::{CallbackName, ObjectKey, ScheduleId};
use berth_common::spec::Action;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Seconds before each further try, as the reference has it: 2, doubled each time.
const PAUSES_S: [u64; 6] = [2, 4, 8, 16, 32, 64];

/// Shortest and longest pause before something is tried again that no node could do, in milliseconds: a quarter of how late
/// it is already, so that a node that comes back soon does it soon, and many that wait for long cost little.
const PUT_OFF_MS: std::ops::RangeInclusive<u64> = 5_000..=300_000;
/// How late something may be, in milliseconds, for that not to count as a try: a day.
const MAX_PUT_OFF_MS: u64 = 24 * 60 * 60 * 1_000;

/// Something that an object is to do at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Schedule {
    pub(crate) id: ScheduleId,
    pub(crate) key: ObjectKey,
    pub(crate) what: What,
    #[serde(default)]
    pub(crate) payload: Value,
    /// When it is meant for, in milliseconds since 1970.
    pub(crate) scheduled_ms: u64,
    /// When it is tried next; None once it has been tried often enough.
    pub(crate) due_ms: Option<u64>,
    #[serde(default)]
    pub(crate) attempts: u32,
    /// Why the last try failed.
    #[serde(default)]
    pub(crate) last_error: Option<String>,
}

/// What is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What {
    /// What the object's class, as it is then, says under this name.
    Callback(CallbackName),
    /// What a cron said when it was due.
    Cron(Action),
}

impl Schedule {
    /// After a try that failed: with the time of the next one, or without where there is none.
    #[must_use]
    pub(crate) fn failed(mut self, error: String, now_ms: u64) -> Self {
        let pause = usize::try_from(self.attempts).ok().and_then(|tries| PAUSES_S.get(tries));
        self.due_ms = pause.map(|pause_s| now_ms.saturating_add(pause_s * 1_000));
        self.attempts = self.attempts.saturating_add(1);
        self.last_error = Some(error);
        self
    }

    /// Nobody could try: no node was there, or none had room. That is no fault of what is to be done.
    #[must_use]
    pub(crate) fn put_off(self, error: String, now_ms: u64) -> Self {
        let late_ms = now_ms.saturating_sub(self.scheduled_ms);
        if late_ms > MAX_PUT_OFF_MS {
            return self.failed(error, now_ms);
        }
        let pause_ms = (late_ms / 4).clamp(*PUT_OFF_MS.start(), *PUT_OFF_MS.end());
        Self { due_ms: Some(now_ms.saturating_add(pause_ms)), last_error: Some(error), ..self }
    }

    /// Whether nobody will look at it any more: a cron's next one comes by itself.
    pub(crate) fn is_over(&self) -> bool {
        self.due_ms.is_none() && matches!(self.what, What::Cron(_))
    }

    pub(crate) fn is_alarm(&self) -> bool {
        self.id == ScheduleId::ALARM
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn schedule(name: &str, id: u8, due_ms: u64) -> Schedule {
        let key =
            ObjectKey { app: "a".parse().unwrap(), class: "b".parse().unwrap(), name: name.parse().unwrap() };
        Schedule {
            id: ScheduleId::from_bytes([id; 16]),
            key,
            what: What::Callback("clean".parse().unwrap()),
            payload: Value::Null,
            scheduled_ms: due_ms,
            due_ms: Some(due_ms),
            attempts: 0,
            last_error: None,
        }
    }

    #[test]
    fn it_is_tried_six_times_more_and_then_kept_as_failed() {
        let mut tried = schedule("o", 1, 100);
        let mut tries = 0;
        while let Some(due_ms) = tried.due_ms {
            tries += 1;
            tried = tried.failed("no".to_owned(), due_ms);
        }
        assert_eq!((tries, tried.attempts, tried.scheduled_ms), (7, 7, 100));
        assert!(!tried.is_over() && tried.last_error.is_some());
        tried.what = What::Cron(Action::Hook);
        assert!(tried.is_over());
    }

    #[test]
    fn what_nobody_could_try_is_put_off_for_a_day_and_counts_as_no_try() {
        let (mut waits, mut now_ms, mut times) = (schedule("o", 1, 100), 100, 0);
        loop {
            waits = waits.put_off("no node".to_owned(), now_ms);
            if waits.attempts > 0 {
                break;
            }
            let due_ms = waits.due_ms.unwrap();
            assert!((5_000..=300_000).contains(&(due_ms - now_ms)));
            (now_ms, times) = (due_ms, times + 1);
        }
        assert!(now_ms > MAX_PUT_OFF_MS && (280..400).contains(&times), "{times} times until {now_ms}");
    }
}
