//! Objects and their containers: what is shown of them, and what they can be ordered to do.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use berth_common::ids::{AppName, ClassName, Generation, InstanceId, NodeId, ObjectId, ObjectName, Version};
use berth_common::outcome::Outcome;
use berth_common::spec::Secrets;
use serde::{Deserialize, Serialize};

/// What the connection to a container's port is called in the header `upgrade`.
pub const CONNECT_PROTOCOL: &str = "berth-tcp";

/// Numbers of the signals of Linux.
pub const SIGNALS: RangeInclusive<i32> = 1..=64;

/// An object and its container.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ContainerView {
    /// 32 hexadecimal digits, from app, class and name.
    #[cfg_attr(feature = "schema", schema(value_type = String, pattern = "^[0-9a-f]{32}$"))]
    pub id: ObjectId,
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub app: AppName,
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub class: ClassName,
    /// Any text of up to 1024 bytes without control characters.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub name: ObjectName,
    pub state: ContainerState,
    /// Where its container is.
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub node: Option<NodeId>,
    /// Its container; 32 hexadecimal digits.
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub instance: Option<InstanceId>,
    /// The version of the app that its container is of.
    #[cfg_attr(feature = "schema", schema(value_type = Option<u64>))]
    pub version: Option<Version>,
    /// How many containers it has had.
    #[cfg_attr(feature = "schema", schema(value_type = u64))]
    pub generation: Generation,
    /// When its state changed, in milliseconds since 1970.
    pub last_change_ms: u64,
    /// How its last container ended.
    pub exit: Option<Outcome>,
    /// Set where its containers failed several times in a row.
    pub crash_loop: Option<CrashLoopView>,
}

/// The state of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ContainerState {
    /// It has no container.
    Stopped,
    /// Its container is started, or runs and does not answer yet.
    Running,
    /// Its container answers.
    Healthy,
    /// Its container was told to end.
    Stopping,
    /// It has no container, and the last one ended by itself with a code other than 0.
    StoppedWithCode,
}

impl ContainerState {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Stopped, Self::Running, Self::Healthy, Self::Stopping, Self::StoppedWithCode];

    /// Its name, as JSON and the command line have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Running => "running",
            Self::Healthy => "healthy",
            Self::Stopping => "stopping",
            Self::StoppedWithCode => "stopped_with_code",
        }
    }

    /// Whether the object has a container.
    pub const fn has_container(self) -> bool {
        matches!(self, Self::Running | Self::Healthy | Self::Stopping)
    }
}

impl fmt::Display for ContainerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Containers that failed in a row.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct CrashLoopView {
    /// How many.
    pub failures: u32,
    /// When the next one may be started, in milliseconds since 1970.
    pub next_try_ms: u64,
}

/// Some of the objects, in the order of their ids.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ContainerPage {
    pub containers: Vec<ContainerView>,
    /// What to ask for the next ones with; null where there are no more.
    pub next_cursor: Option<String>,
}

/// What an object can be ordered to do. The object's state says what becomes of an order: [`Verb::on`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Have a container that answers.
    Start,
    /// Have the container end with a signal, and with SIGKILL after a while.
    Stop,
    /// Have the container end with SIGKILL, now.
    Destroy,
    /// Send the container a signal, and no more.
    Signal,
    /// Count as activity.
    Renew,
}

/// What becomes of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It is carried out.
    Acts,
    /// There is nothing to do, and that is no error.
    Nothing,
    /// It is refused (409).
    Refused {
        /// How the object is.
        title: &'static str,
        /// Why that is in its way, and what to do.
        detail: &'static str,
    },
}

/// For an order that is for a container, where there is none.
const NO_CONTAINER: Effect = Effect::Refused {
    title: "the object is stopped",
    detail: "it has no container: `berth containers start` starts one, and so does a request",
};
/// For a start with settings of its own, where there is a container.
const LIVES: Effect = Effect::Refused {
    title: "the object runs",
    detail: "its container lives already, with what it was started with; stop it first",
};

impl Verb {
    /// Its name in paths and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Destroy => "destroy",
            Self::Signal => "signal",
            Self::Renew => "renew",
        }
    }

    /// What becomes of it in a state. A start waits for the container that is there, and in `stopping` for the next one; one that
    /// is the latest goes before what was ordered earlier.
    pub const fn on(self, state: ContainerState) -> Effect {
        match (self, state.has_container()) {
            (Self::Start, _) | (_, true) => Effect::Acts,
            (Self::Stop | Self::Destroy, false) => Effect::Nothing,
            (Self::Signal | Self::Renew, false) => NO_CONTAINER,
        }
    }

    /// The path that the order is posted to.
    pub fn path(self, object: ObjectId) -> String {
        match self {
            Self::Start => "/v1/containers".to_owned(),
            verb => format!("/v1/containers/{object}/{}", verb.name()),
        }
    }
}

/// A container to start.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct StartOrder {
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub app: AppName,
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub class: ClassName,
    /// Any text of up to 1024 bytes without control characters.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub name: ObjectName,
    /// Added to the class's environment, for this container alone.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Secrets of the app that it gets too, by the variables that they become, for this container alone.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(value_type = BTreeMap<String, String>))]
    pub secrets: Secrets,
    /// In place of the class's.
    pub entrypoint: Option<Vec<String>>,
    /// In place of the class's.
    pub enable_internet: Option<bool>,
}

impl StartOrder {
    /// What becomes of it: one with settings of its own cannot be carried out by a container that lives already.
    pub fn on(&self, state: ContainerState) -> Effect {
        let own = !(self.env.is_empty() && self.secrets.is_empty())
            || self.entrypoint.is_some()
            || self.enable_internet.is_some();
        if own && state.has_container() { LIVES } else { Verb::Start.on(state) }
    }
}

/// How a container is to end.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct StopOrder {
    /// Number of the signal; SIGTERM (15) unless given.
    #[cfg_attr(feature = "schema", schema(minimum = 1, maximum = 64))]
    pub signal: Option<i32>,
    /// How long after it SIGKILL follows, in milliseconds; the class's `stop_grace` unless given.
    #[cfg_attr(feature = "schema", schema(maximum = 86400000))]
    pub grace_ms: Option<u64>,
}

/// A signal to send.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SignalOrder {
    /// Its number.
    #[cfg_attr(feature = "schema", schema(minimum = 1, maximum = 64))]
    pub signal: i32,
}

/// How a port is reached.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(deny_unknown_fields, default)]
pub struct ConnectParameters {
    /// The port, in place of the class's `default_port`.
    #[cfg_attr(feature = "schema", param(minimum = 1, maximum = 65535, required = false))]
    pub port: Option<u16>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_named_as_in_json() {
        for state in ContainerState::ALL {
            assert_eq!(serde_json::to_value(state).unwrap(), state.name());
        }
    }

    #[test]
    fn what_is_for_a_container_needs_one() {
        use ContainerState::{Healthy, Stopped, StoppedWithCode};
        for stopped in [Stopped, StoppedWithCode] {
            assert_eq!(Verb::Start.on(stopped), Effect::Acts);
            assert_eq!(Verb::Stop.on(stopped), Effect::Nothing);
            assert_eq!(Verb::Destroy.on(stopped), Effect::Nothing);
            assert!(matches!(Verb::Signal.on(stopped), Effect::Refused { .. }));
            assert!(matches!(Verb::Renew.on(stopped), Effect::Refused { .. }));
        }
        for verb in [Verb::Start, Verb::Stop, Verb::Destroy, Verb::Signal, Verb::Renew] {
            assert_eq!(verb.on(Healthy), Effect::Acts);
        }
    }

    #[test]
    fn a_container_that_lives_gets_no_other_settings() {
        let order = r#"{"app":"a","class":"C","name":"n"}"#;
        let mut order: StartOrder = serde_json::from_str(order).unwrap();
        assert_eq!(order.on(ContainerState::Healthy), Effect::Acts);
        order.enable_internet = Some(true);
        assert!(matches!(order.on(ContainerState::Healthy), Effect::Refused { .. }));
        assert_eq!(order.on(ContainerState::Stopped), Effect::Acts);
    }
}
