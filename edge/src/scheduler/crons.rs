//! Which crons of the deployed apps are due, and when the next one is. Pure.

use std::collections::{BTreeMap, BTreeSet};

use berth_common::cron::Cron;
use berth_common::ids::{ClassName, ObjectKey, ObjectName, ScheduleId};
use berth_common::spec::{AppSpec, CronSpec};
use berth_store::{CronKey, Schedule, What, Write};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Bytes of the digest that distinguishes the crons of an app.
const DIGEST_BYTES: usize = 8;
/// Bytes of a schedule's id.
const SCHEDULE_ID_BYTES: usize = 16;

/// What to write now, and when to look again, in milliseconds since 1970.
#[derive(Debug, Default)]
pub(super) struct Round {
    pub(super) writes: Vec<Write>,
    pub(super) next_ms: Option<u64>,
}

/// The key of a cron: a digest of all its settings, so that a changed cron starts afresh.
pub(crate) fn key_of(app: &AppSpec, cron: &CronSpec) -> CronKey {
    let text = serde_json::to_vec(cron).unwrap_or_default();
    CronKey { app: app.name.clone(), cron: digest(&text) }
}

/// The key of a cron of an app's program: it has no settings but its times.
pub(crate) fn key_of_programs(app: &AppSpec, cron: &Cron) -> CronKey {
    CronKey { app: app.name.clone(), cron: digest(format!("{PROGRAM} {}", cron.as_str()).as_bytes()) }
}

/// A cron of an app, and what is to be done when it is due.
struct Entry<'a> {
    key: CronKey,
    cron: &'a Cron,
    object: ObjectKey,
    what: What,
}

/// The class that an app's program stands for in schedules. A class of this name shares nothing with it but turns.
const PROGRAM: &str = "program";

fn entries(app: &AppSpec) -> impl Iterator<Item = Entry<'_>> {
    let of_objects = app.crons.iter().map(|cron| Entry {
        key: key_of(app, cron),
        cron: &cron.cron,
        object: ObjectKey { app: app.name.clone(), class: cron.class.clone(), name: cron.object.clone() },
        what: What::Cron(cron.action.clone()),
    });
    let of_program = app.program.iter().flat_map(|program| &program.crons);
    of_objects.chain(of_program.filter_map(|cron| of_program_of(app, cron)))
}

/// A cron of an app's program. Its digest is a valid name, and so is the class.
fn of_program_of<'a>(app: &AppSpec, cron: &'a Cron) -> Option<Entry<'a>> {
    let key = key_of_programs(app, cron);
    let (class, name) = (ClassName::new(PROGRAM).ok()?, ObjectName::new(key.cron.as_str()).ok()?);
    Some(Entry {
        key,
        cron,
        object: ObjectKey { app: app.name.clone(), class, name },
        what: What::Program(cron.as_str().to_owned()),
    })
}

fn digest(text: &[u8]) -> String {
    hex::encode(&Sha256::digest(text)[..DIGEST_BYTES])
}

/// Evaluates the crons of these apps. Updates the marks as the writes will. After one or several missed times the cron
/// runs once, for the last of them.
pub(super) fn round(apps: &[AppSpec], marks: &mut BTreeMap<CronKey, u64>, now_ms: u64) -> Round {
    let mut round = Round::default();
    let mut known = BTreeSet::new();
    for Entry { key, cron, object, what } in apps.iter().flat_map(entries) {
        if !known.insert(key.clone()) {
            continue;
        }
        let due_ms = cron.last(now_ms);
        match (marks.get(&key).copied(), due_ms) {
            // Deployed just now: earlier times do not count.
            (None, _) => round.mark(&key, now_ms, marks),
            (Some(mark), Some(due_ms)) if due_ms > mark => {
                let id = id_of(&key, due_ms);
                round.writes.push(Write::Schedule(Box::new(schedule(id, object, what, due_ms, now_ms))));
                round.mark(&key, due_ms, marks);
            }
            (Some(_), _) => {}
        }
        round.next_ms = round.next_ms.into_iter().chain(cron.after(now_ms)).min();
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

/// The id of a cron's schedule for one of its times: the same whenever it is made, so that one that is written again replaces
/// itself.
fn id_of(key: &CronKey, due_ms: u64) -> ScheduleId {
    // Names have no slashes, so no two crons share a text.
    let text = format!("cron/{}/{}/{due_ms}", key.app, key.cron);
    let mut id = [0; SCHEDULE_ID_BYTES];
    id.copy_from_slice(&Sha256::digest(text)[..SCHEDULE_ID_BYTES]);
    ScheduleId::from_bytes(id)
}

fn schedule(id: ScheduleId, key: ObjectKey, what: What, scheduled_ms: u64, now_ms: u64) -> Schedule {
    Schedule {
        id,
        key,
        what,
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
    fn a_programs_crons_are_due_like_others() {
        let (mut apps, mut marks) = (with(&["* * * * *"]), BTreeMap::new());
        let text = r#"{"entry": "a", "modules": [], "compatibility_date": "2026-01-31", "crons": ["* * * * *", "0 0 1 1 *"]}"#;
        apps[0].program = Some(serde_json::from_str(text).unwrap());
        round(&apps, &mut marks, 90_000);
        let due = round(&apps, &mut marks, 2 * MINUTE_MS);
        assert_eq!(scheduled(&due), [2 * MINUTE_MS; 2]);
        let calls = |write: &&Write| matches!(write, Write::Schedule(schedule) if schedule.what == What::Program("* * * * *".to_owned()));
        assert_eq!(due.writes.iter().filter(calls).count(), 1);
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
    fn a_time_that_is_evaluated_again_is_the_same_schedule() {
        let ids = |round: &Round| -> Vec<ScheduleId> {
            let of = |write: &Write| if let Write::Schedule(one) = write { Some(one.id) } else { None };
            round.writes.iter().filter_map(of).collect()
        };
        let (apps, mut marks) = (with(&["* * * * *", "*/2 * * * *"]), BTreeMap::new());
        round(&apps, &mut marks, MINUTE_MS);
        // Its commit is not known to have happened.
        let mut before = marks.clone();
        let first = ids(&round(&apps, &mut marks, 2 * MINUTE_MS));
        assert_eq!(first, ids(&round(&apps, &mut before, 2 * MINUTE_MS + 7)));
        let later = ids(&round(&apps, &mut marks, 4 * MINUTE_MS));
        let all: BTreeSet<_> = first.iter().chain(&later).collect();
        assert_eq!(all.len(), 4, "each cron and each time has its own");
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
