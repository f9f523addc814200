//! The events of an object that its class's hook receives. Each is written in one commit with the change that it
//! reports, and delivered by the shell.

use berth_common::ids::{Generation, InstanceId, ObjectKey};
use berth_common::outcome::Outcome;
use berth_common::spec::{ClassSpec, HookKind};
use serde::{Deserialize, Serialize};

/// One event in an object's life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its kind.
    pub kind: HookKind,
    /// The object.
    pub key: ObjectKey,
    /// Its instance.
    pub instance: Option<InstanceId>,
    /// The instance's generation.
    pub generation: Generation,
    /// When it happened, in milliseconds since 1970.
    pub time_ms: u64,
    /// How the instance ended, if it did.
    #[serde(default)]
    pub outcome: Option<Outcome>,
    /// The hook's URL.
    pub url: String,
    /// The name of the secret that the request to the hook is signed with.
    pub secret: String,
}

impl Event {
    /// The event, if the class's hook subscribes to its kind.
    pub(crate) fn for_hook(class: &ClassSpec, details: impl FnOnce() -> EventDetails) -> Option<Self> {
        let hooks = class.hooks.as_ref()?;
        let EventDetails { kind, key, instance, generation, time_ms, outcome } = details();
        hooks.events.contains(&kind).then(|| Self {
            kind,
            key,
            instance: Some(instance),
            generation,
            time_ms,
            outcome,
            url: hooks.url.clone(),
            secret: hooks.secret.clone(),
        })
    }
}

/// An event without its receiver.
pub(crate) struct EventDetails {
    pub(crate) kind: HookKind,
    pub(crate) key: ObjectKey,
    pub(crate) instance: InstanceId,
    pub(crate) generation: Generation,
    pub(crate) time_ms: u64,
    pub(crate) outcome: Option<Outcome>,
}
