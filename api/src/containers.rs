//! Objects and their containers: their state, and the orders for them.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use berth_common::ids::{AppName, ClassName, Generation, InstanceId, NodeId, ObjectId, ObjectName, Version};
use berth_common::outcome::Outcome;
use berth_common::spec::Secrets;
use serde::{Deserialize, Serialize};

/// The protocol name of a raw connection to a container's port, in the `Upgrade` header.
pub const CONNECT_PROTOCOL: &str = "berth-tcp";
/// The header, with the value `1`, by which a client asks for bytes in parts with an end of their own, and the edge agrees: each
/// after its length in two bytes, big-endian; the length 0 is the end.
pub const CONNECT_PARTS: &str = "berth-parts";

/// The signal numbers of Linux.
pub const SIGNALS: RangeInclusive<i32> = 1..=64;

/// An object and its container.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ContainerView {
    /// The object's id: 32 hexadecimal digits, a hash of app, class and name.
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
    /// The node that its container is on; null without a container.
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub node: Option<NodeId>,
    /// The id of its container: 32 hexadecimal digits. Null without a container.
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub instance: Option<InstanceId>,
    /// The version of the app that its container was started from.
    #[cfg_attr(feature = "schema", schema(value_type = Option<u64>))]
    pub version: Option<Version>,
    /// How many containers the object has had.
    #[cfg_attr(feature = "schema", schema(value_type = u64))]
    pub generation: Generation,
    /// When the state last changed, in milliseconds since 1970.
    pub last_change_ms: u64,
    /// How its last container ended.
    pub exit: Option<Outcome>,
    /// Set if its containers failed several times in a row.
    pub crash_loop: Option<CrashLoopView>,
    /// Its last failures, the newest first: five at most, which the edge keeps over restarts. Only where one object is shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<FailureView>,
}

/// A container that has failed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct FailureView {
    /// When the edge heard of it, in milliseconds since 1970.
    pub time_ms: u64,
    /// The id of the container.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub instance: InstanceId,
    /// How it ended.
    pub exit: Outcome,
}

/// The state of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ContainerState {
    /// The object has no container.
    Stopped,
    /// The container is being started, or runs and does not accept requests yet.
    Running,
    /// The container accepts requests.
    Healthy,
    /// The container was told to stop.
    Stopping,
    /// The object has no container, and the last one exited by itself with a code other than 0.
    StoppedWithCode,
}

impl ContainerState {
    /// All states.
    pub const ALL: [Self; 5] =
        [Self::Stopped, Self::Running, Self::Healthy, Self::Stopping, Self::StoppedWithCode];

    /// The name in JSON and on the command line.
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

/// A series of containers that failed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct CrashLoopView {
    /// How many failed in a row.
    pub failures: u32,
    /// When the next one may be started, in milliseconds since 1970.
    pub next_try_ms: u64,
}

/// A page of objects, in the order of their ids.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ContainerPage {
    pub containers: Vec<ContainerView>,
    /// The cursor of the next page; null on the last one.
    pub next_cursor: Option<String>,
}

/// The orders for an object. The outcome depends on the object's state: [`Verb::on`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Start the container, and wait until it accepts requests.
    Start,
    /// Stop the container with a signal, and with SIGKILL after a grace period.
    Stop,
    /// Kill the container with SIGKILL.
    Destroy,
    /// Only send the container a signal.
    Signal,
    /// Count as activity: postpone sleep.
    Renew,
}

/// The outcome of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It is carried out.
    Acts,
    /// There is nothing to do; that is not an error.
    Nothing,
    /// It is refused (409).
    Refused {
        /// The state that the object is in.
        title: &'static str,
        /// Why the state forbids the order, and what to do.
        detail: &'static str,
    },
}

/// The refusal of orders that need a container, if there is none.
const NO_CONTAINER: Effect = Effect::Refused {
    title: "the object is stopped",
    detail: "it has no container: `berth containers start` starts one, and so does a request",
};
/// The refusal of a start with settings of its own, if there is a container.
const LIVES: Effect = Effect::Refused {
    title: "the object runs",
    detail: "its container lives already, with what it was started with; stop it first",
};

impl Verb {
    /// The name in paths and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Destroy => "destroy",
            Self::Signal => "signal",
            Self::Renew => "renew",
        }
    }

    /// The outcome of the order in a state. A start waits for the container that is there, and in `stopping` for the
    /// next one; the latest order overrides earlier ones.
    pub const fn on(self, state: ContainerState) -> Effect {
        match (self, state.has_container()) {
            (Self::Start, _) | (_, true) => Effect::Acts,
            (Self::Stop | Self::Destroy, false) => Effect::Nothing,
            (Self::Signal | Self::Renew, false) => NO_CONTAINER,
        }
    }

    /// The path to post the order to.
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
    /// Environment variables of this container only, in addition to those of the class.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Secrets of the app for this container only, by the environment variable that each becomes.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(value_type = BTreeMap<String, String>))]
    pub secrets: Secrets,
    /// Replaces the `entrypoint` of the class.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the `enable_internet` of the class.
    pub enable_internet: Option<bool>,
}

impl StartOrder {
    /// The outcome of this order in a state: a running container cannot get settings of its own.
    pub fn on(&self, state: ContainerState) -> Effect {
        let own = !(self.env.is_empty() && self.secrets.is_empty())
            || self.entrypoint.is_some()
            || self.enable_internet.is_some();
        if own && state.has_container() { LIVES } else { Verb::Start.on(state) }
    }
}

/// How to stop a container.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct StopOrder {
    /// The number of the signal; SIGTERM (15) by default. In place of SIGTERM the app gets the image's STOPSIGNAL, if it has one.
    #[cfg_attr(feature = "schema", schema(minimum = 1, maximum = 64))]
    pub signal: Option<i32>,
    /// Time from the signal to SIGKILL, in milliseconds; `stop_grace` of the class by default.
    #[cfg_attr(feature = "schema", schema(maximum = 86400000))]
    pub grace_ms: Option<u64>,
}

/// A signal to send.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SignalOrder {
    /// The number of the signal.
    #[cfg_attr(feature = "schema", schema(minimum = 1, maximum = 64))]
    pub signal: i32,
}

/// How to connect to a container.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(deny_unknown_fields, default)]
pub struct ConnectParameters {
    /// The port; `default_port` of the class by default.
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
    fn orders_for_a_container_need_one() {
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
    fn a_running_container_gets_no_other_settings() {
        let order = r#"{"app":"a","class":"C","name":"n"}"#;
        let mut order: StartOrder = serde_json::from_str(order).unwrap();
        assert_eq!(order.on(ContainerState::Healthy), Effect::Acts);
        order.enable_internet = Some(true);
        assert!(matches!(order.on(ContainerState::Healthy), Effect::Refused { .. }));
        assert_eq!(order.on(ContainerState::Stopped), Effect::Acts);
    }
}
