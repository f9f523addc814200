//! What a class's hook is told of an object. Written in one commit with what it tells of, and delivered by the shell.

use berth_common::ids::{Generation, InstanceId, ObjectKey};
use berth_common::outcome::Outcome;
use berth_common::spec::{ClassSpec, HookKind};
use serde::{Deserialize, Serialize};

/// Something that happened to an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// What.
    pub kind: HookKind,
    /// To which object.
    pub key: ObjectKey,
    /// Its instance.
    pub instance: Option<InstanceId>,
    /// The instance's generation.
    pub generation: Generation,
    /// When, in milliseconds since 1970.
    pub time_ms: u64,
    /// How the instance ended, where it did.
    #[serde(default)]
    pub outcome: Option<Outcome>,
    /// Where it is told.
    pub url: String,
    /// The name of the secret that it is signed with.
    pub secret: String,
}

impl Event {
    /// The event, where the class wants to be told of its kind.
    pub(crate) fn wanted(class: &ClassSpec, event: impl FnOnce() -> Happening) -> Option<Self> {
        let hooks = class.hooks.as_ref()?;
        let Happening { kind, key, instance, generation, time_ms, outcome } = event();
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

/// What an event is made of, besides who is told.
pub(crate) struct Happening {
    pub(crate) kind: HookKind,
    pub(crate) key: ObjectKey,
    pub(crate) instance: InstanceId,
    pub(crate) generation: Generation,
    pub(crate) time_ms: u64,
    pub(crate) outcome: Option<Outcome>,
}
