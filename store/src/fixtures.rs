//! Records for tests, here and in other crates.

#![allow(clippy::unwrap_used, reason = "for tests only")]

pub use berth_common::fixtures::{app, class};
use berth_common::happening::{Happening, HappeningKind};
use berth_common::ids::{Generation, InstanceId, ObjectKey, ScheduleId};
use berth_common::image::{Digest, Repository};
use berth_common::outcome::{ExitReason, Outcome};
use berth_common::spec::HookKind;
use berth_engine::{Event, UsageRecord};
use serde_json::Value;

use crate::{Delivery, ManifestRecord, Schedule, StateHead, StoredState, TagRecord, What};

/// The usage record of the instance with this number, which ended at this time and ran for a second.
pub fn life(n: u32, ended_ms: u64) -> UsageRecord {
    let key = ObjectKey {
        app: "a".parse().unwrap(),
        class: "b".parse().unwrap(),
        name: format!("o{}", n % 3).parse().unwrap(),
    };
    UsageRecord {
        key,
        instance: InstanceId::from_bytes(u128::from(n).to_be_bytes()),
        generation: Generation(1),
        node: "n1".parse().unwrap(),
        region: None,
        started_ms: ended_ms.saturating_sub(1_000),
        lived_cs: ended_ms.min(1_000) / 10,
        cpu_us: 500_000,
        memory_bytes: 1 << 30,
        disk_bytes: 2_000_000_000,
        cpu_sixteenths: 1,
        sent_bytes: 10,
        received_bytes: 20,
        reason: ExitReason::Idle,
        estimated: false,
    }
}

/// An event of the object `a/b/name`: stopped in this generation.
pub fn delivery(name: &str, generation: u64) -> Delivery {
    let key =
        ObjectKey { app: "a".parse().unwrap(), class: "b".parse().unwrap(), name: name.parse().unwrap() };
    Delivery::from(Event {
        kind: HookKind::Stop,
        key,
        instance: Some(InstanceId::from_bytes([1; 16])),
        generation: Generation(generation),
        time_ms: 5,
        outcome: Some(Outcome::exited(3)),
        url: "https://hooks".to_owned(),
        secret: "KEY".to_owned(),
    })
}

/// What happened as this number: a node was lost.
pub fn happening(number: u64) -> Happening {
    Happening {
        number,
        time_ms: 5,
        kind: HappeningKind::NodeLost,
        node: Some("n1".parse().unwrap()),
        object: None,
        reason: Some("silent".to_owned()),
        left_out: 0,
    }
}

/// A schedule of the object `a/b/name`, due at this time.
pub fn schedule(name: &str, id: u8, due_ms: u64) -> Schedule {
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

/// What the object of this id in the class `a/b` keeps: two values and a page.
pub fn state(id: &str) -> StoredState {
    let key = ObjectKey { app: "a".parse().unwrap(), class: "b".parse().unwrap(), name: id.parse().unwrap() };
    let head = StateHead { key, name: Some("a name".to_owned()), page_count: 1, bytes: 5 };
    let values = vec![("k".to_owned(), vec![0, 255]), ("l".to_owned(), id.as_bytes().to_vec())];
    StoredState { head, values, pages: vec![(0, vec![1; 4096])] }
}

/// A manifest with a tag.
pub fn tagged(repository: &str, tag: &str, bytes: &[u8]) -> (ManifestRecord, TagRecord) {
    let (repository, digest): (Repository, _) = (repository.parse().unwrap(), Digest::of(bytes));
    let manifest = ManifestRecord {
        repository: repository.clone(),
        digest,
        media_type: "application/json".to_owned(),
        size: bytes.len() as u64,
        pushed_ms: 1,
        subject: None,
    };
    (manifest, TagRecord { repository, tag: tag.parse().unwrap(), digest })
}
