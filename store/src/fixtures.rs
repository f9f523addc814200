//! Records for tests, here and in other crates.

#![allow(clippy::unwrap_used, reason = "for tests only")]

use std::collections::BTreeMap;
use std::time::Duration;

use berth_common::ids::{Generation, InstanceId, ObjectKey, ScheduleId};
use berth_common::image::{Digest, Repository};
use berth_common::outcome::{ExitReason, Outcome};
use berth_common::spec::{
    AppSpec, ClassSpec, HookKind, ImageRef, NameSource, PathPattern, Recipe, Resources, RouteSpec,
};
use berth_engine::{Event, UsageRecord};
use serde_json::Value;

use crate::{Delivery, ManifestRecord, Schedule, TagRecord, What};

/// An app with one class and routes with these paths and ports; the object's name is in `{id}` or constant.
pub fn app(name: &str, routes: &[(&str, Option<u16>)]) -> AppSpec {
    let route = |(path, port): &(&str, Option<u16>)| {
        let path = PathPattern::new(path).unwrap();
        let object = if path.has_parameter("id") {
            NameSource::PathParameter("id".to_owned())
        } else {
            NameSource::Constant("only".parse().unwrap())
        };
        let class = "Class".parse().unwrap();
        RouteSpec { hosts: Vec::new(), methods: Vec::new(), path, class, object, port: *port, rewrite: None }
    };
    AppSpec {
        limits: Default::default(),
        assets: None,
        crons: Vec::new(),
        logs: Default::default(),
        name: name.parse().unwrap(),
        classes: BTreeMap::from([("Class".parse().unwrap(), class())]),
        routes: routes.iter().map(route).collect(),
    }
}

/// A minimal class.
pub fn class() -> ClassSpec {
    ClassSpec {
        recipe: Recipe {
            image: ImageRef::new("x".parse().unwrap(), Digest::of(b"x")),
            entrypoint: None,
            env: BTreeMap::new(),
            resources: Resources::of_type("lite").unwrap(),
            enable_internet: false,
            start_boost: None,
            capabilities: Default::default(),
        },
        max_instances: None,
        default_port: Some(8080),
        sleep_after: Duration::from_secs(600),
        start_timeout: Duration::from_secs(8),
        port_timeout: Duration::from_secs(20),
        stop_grace: Duration::from_secs(900),
        prepared: 0,
        manual_start: false,
        required_ports: Vec::new(),
        ping_endpoint: None,
        secrets: Default::default(),
        hooks: None,
        callbacks: Default::default(),
        of_app: Default::default(),
    }
}

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
