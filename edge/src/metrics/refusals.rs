//! Requests that the edge itself responded to, by reason.

use berth_monitor::cells::Counter;

/// Why the edge responded in place of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    BadRequest,
    NoRoute,
    NoName,
    NoNode,
    NoCapacity,
    ClassLimit,
    AppLimit,
    CrashLoop,
    StartRate,
    ManualStart,
    Ended,
    StartTimeout,
    PortTimeout,
    StartFailed,
    StartRefused,
    Overloaded,
    InstanceStopping,
    NodeUnreachable,
    Store,
    Tunnel,
    Connections,
    Unread,
    BrokenOff,
    BadUpgrade,
    ClientGone,
    BodyIdle,
    EdgeStopping,
    Program,
}

impl Reason {
    /// All reasons, in the order of their numbers.
    const ALL: [Self; 28] = [
        Self::BadRequest,
        Self::NoRoute,
        Self::NoName,
        Self::NoNode,
        Self::NoCapacity,
        Self::ClassLimit,
        Self::AppLimit,
        Self::CrashLoop,
        Self::StartRate,
        Self::ManualStart,
        Self::Ended,
        Self::StartTimeout,
        Self::PortTimeout,
        Self::StartFailed,
        Self::StartRefused,
        Self::Overloaded,
        Self::InstanceStopping,
        Self::NodeUnreachable,
        Self::Store,
        Self::Tunnel,
        Self::Connections,
        Self::Unread,
        Self::BrokenOff,
        Self::BadUpgrade,
        Self::ClientGone,
        Self::BodyIdle,
        Self::EdgeStopping,
        Self::Program,
    ];

    /// The value of the metric's label. It must never change.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::NoRoute => "no_route",
            Self::NoName => "no_name",
            Self::NoNode => "no_node",
            Self::NoCapacity => "no_capacity",
            Self::ClassLimit => "class_limit",
            Self::AppLimit => "app_limit",
            Self::CrashLoop => "crash_loop",
            Self::StartRate => "start_rate",
            Self::ManualStart => "manual_start",
            Self::Ended => "ended",
            Self::StartTimeout => "start_timeout",
            Self::PortTimeout => "port_timeout",
            Self::StartFailed => "start_failed",
            Self::StartRefused => "start_refused",
            Self::Overloaded => "overloaded",
            Self::InstanceStopping => "instance_stopping",
            Self::NodeUnreachable => "node_unreachable",
            Self::Store => "store",
            Self::Tunnel => "tunnel",
            Self::Connections => "connections",
            Self::Unread => "unread",
            Self::BrokenOff => "broken_off",
            Self::BadUpgrade => "bad_upgrade",
            Self::ClientGone => "client_gone",
            Self::BodyIdle => "body_idle",
            Self::EdgeStopping => "edge_stopping",
            Self::Program => "program",
        }
    }
}

/// The count of each reason.
#[derive(Debug)]
pub(super) struct Refusals([Counter; Reason::ALL.len()]);

impl Default for Refusals {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl Refusals {
    pub(super) fn count(&self, reason: Reason) {
        self.0[reason as usize].count();
    }

    /// All reasons, with their counts.
    pub(super) fn all(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Reason::ALL.map(Reason::label).into_iter().zip(self.0.iter().map(Counter::get))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_number_and_its_label() {
        for (number, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, number);
            assert_eq!(Reason::ALL.into_iter().filter(|other| other.label() == reason.label()).count(), 1);
        }
    }
}
