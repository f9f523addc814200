//! Which crons of the deployed apps are due, and when the next one is. Pure.

use std::collections::{BTreeMap, BTreeSet};

use berth_common::ids::{ObjectKey, ScheduleId};
use berth_common::spec::{AppSpec, CronSpec};
use berth_store::{CronKey, Schedule, What, Write};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Bytes of the digest that distinguishes the crons of an app.
const DIGEST_BYTES: usize = 8;

/// What to write now, and when to look again, in milliseconds since 1970.
#[derive(Debug, Default)]
pub(super) struct Round {
    pub(super) writes: Vec<Write>,
    pub(super) next_ms: Option<u64>,
}

/// The key of a cron: a digest of all its settings, so that a changed cron starts afresh.
pub(crate) fn key_of(app: &AppSpec, cron: &CronSpec) -> CronKey {
    let text = serde_json::to_vec(cron).unwrap_or_default();
    CronKey { app: app.name.clone(), cron: hex::encode(&Sha256::digest(text)[..DIGEST_BYTES]) }
}

/// Evaluates the crons of these apps. Updates the marks as the writes will. After one or several missed times the cron
/// runs once, for the last of them.
pub(super) fn round(apps: &[AppSpec], marks: &mut BTreeMap<CronKey, u64>, now_ms: u64) -> Round {
    let mut round = Round::default();
    let mut known = BTreeSet::new();
    for (app, cron) in apps.iter().flat_map(|app| app.crons.iter().map(move |cron| (app, cron))) {
        let key = key_of(app, cron);
        if !known.insert(key.clone()) {
            continue;
        }
        let due_ms = cron.cron.last(now_ms);
        match (marks.get(&key).copied(), due_ms) {
            // Deployed just now: earlier times do not count.
            (None, _) => round.mark(&key, now_ms, marks),
            (Some(mark), Some(due_ms)) if due_ms > mark => {
                round.writes.push(Write::Schedule(Box::new(schedule(app, cron, due_ms, now_ms))));
                round.mark(&key, due_ms, marks);
            }
            (Some(_), _) => {}
        }
        round.next_ms = round.next_ms.into_iter().chain(cron.cron.after(now_ms)).min();
    }
    let gone: Vec<CronKey> = marks.keys().filter(|key| !known.contains(key)).cloned().collect();
    for key in gone {
        marks.remove(&key);
        round.writes.push(Write::RemoveCronMark(key));
    }
    round
}

impl Round {
    fn mark(&mut self, key: &CronKey, ms: u64, marks: &mut BTreeMap<CronKey, u64>) {
        marks.insert(key.clone(), ms);
        self.writes.push(Write::CronMark(key.clone(), ms));
    }
}

fn schedule(app: &AppSpec, cron: &CronSpec, scheduled_ms: u64, now_ms: u64) -> Schedule {
    Schedule {
        id: ScheduleId::random(),
        key: ObjectKey { app: app.name.clone(), class: cron.class.clone(), name: cron.object.clone() },
        what: What::Cron(cron.action.clone()),
        payload: Value::Null,
        scheduled_ms,
        due_ms: Some(now_ms),
        attempts: 0,
        last_error: None,
    }
}

#[cfg(test)]
mod tests {
    use berth_common::spec::Action;
    use berth_store::fixtures::app;

    use super::*;

    const MINUTE_MS: u64 = 60_000;

    fn with(expressions: &[&str]) -> Vec<AppSpec> {
        let cron = |text: &&str| CronSpec {
            cron: text.parse().unwrap(),
            class: "Class".parse().unwrap(),
            object: "cron".parse().unwrap(),
            action: Action::Start { env: Default::default() },
        };
        vec![AppSpec { crons: expressions.iter().map(cron).collect(), ..app("a", &[]) }]
    }

    fn scheduled(round: &Round) -> Vec<u64> {
        let schedules = round.writes.iter().filter_map(|write| match write {
            Write::Schedule(schedule) => Some(schedule.scheduled_ms),
            _ => None,
        });
        schedules.collect()
    }

    #[test]
    fn a_new_cron_waits_for_its_next_time() {
        let (apps, mut marks) = (with(&["* * * * *"]), BTreeMap::new());
        let first = round(&apps, &mut marks, 90_000);
        assert_eq!((scheduled(&first), first.next_ms), (vec![], Some(2 * MINUTE_MS)));
        assert_eq!(scheduled(&round(&apps, &mut marks, 2 * MINUTE_MS)), [2 * MINUTE_MS]);
        assert!(round(&apps, &mut marks, 2 * MINUTE_MS + 1).writes.is_empty());
    }

    #[test]
    fn missed_times_run_once() {
        let (apps, mut marks) = (with(&["* * * * *"]), BTreeMap::new());
        round(&apps, &mut marks, MINUTE_MS);
        assert_eq!(scheduled(&round(&apps, &mut marks, 10 * MINUTE_MS + 5)), [10 * MINUTE_MS]);
        assert_eq!(scheduled(&round(&apps, &mut marks, 10 * MINUTE_MS + 6)), Vec::<u64>::new());
    }

    #[test]
    fn a_new_version_keeps_the_marks_of_unchanged_crons_and_drops_the_others() {
        let mut marks = BTreeMap::new();
        round(&with(&["* * * * *", "0 * * * *"]), &mut marks, MINUTE_MS);
        let next = round(&with(&["* * * * *"]), &mut marks, 2 * MINUTE_MS);
        assert_eq!(scheduled(&next), [2 * MINUTE_MS]);
        assert_eq!(next.writes.iter().filter(|write| matches!(write, Write::RemoveCronMark(_))).count(), 1);
        assert_eq!(marks.len(), 1);
    }
}
