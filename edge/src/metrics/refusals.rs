//! Requests that the edge itself answered, by reason: the words are those of the code and no others.

use berth_engine::Refused;
use berth_monitor::cells::Counter;

use crate::error::ProxyError;
use crate::router::RouteError;

/// Reasons as labels, in the order of `reason`'s numbers.
const REASONS: [&str; 23] = [
    "bad_request",
    "no_route",
    "no_name",
    "no_node",
    "no_capacity",
    "class_limit",
    "app_limit",
    "crash_loop",
    "manual_start",
    "ended",
    "start_timeout",
    "port_timeout",
    "start_failed",
    "start_refused",
    "overloaded",
    "instance_stopping",
    "node_unreachable",
    "store",
    "tunnel",
    "broken_off",
    "bad_upgrade",
    "client_gone",
    "edge_stopping",
];
const CLIENT_GONE: usize = 21;

/// How many of which.
#[derive(Debug)]
pub(super) struct Refusals([Counter; REASONS.len()]);

impl Default for Refusals {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl Refusals {
    pub(super) fn count(&self, error: &ProxyError) {
        self.0[reason(error)].count();
    }

    pub(super) fn client_gone(&self) {
        self.0[CLIENT_GONE].count();
    }

    /// All reasons, with their numbers.
    pub(super) fn all(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        REASONS.into_iter().zip(self.0.iter().map(Counter::get))
    }
}

fn reason(error: &ProxyError) -> usize {
    match error {
        ProxyError::BadRequest(_) => 0,
        ProxyError::Route(RouteError::NoRoute) => 1,
        ProxyError::Route(_) => 2,
        ProxyError::Refused(refused) => reason_refused(refused),
        ProxyError::NodeUnreachable(_) => 16,
        ProxyError::Tunnel { .. } | ProxyError::NoPort | ProxyError::Signal(_) => 18,
        ProxyError::Upstream(_) => 19,
        ProxyError::Upgrade => 20,
        ProxyError::ClientGone => CLIENT_GONE,
        ProxyError::Stopping => 22,
    }
}

fn reason_refused(refused: &Refused) -> usize {
    match refused {
        Refused::NoNode => 3,
        Refused::NoCapacity { .. } => 4,
        Refused::ClassLimit { .. } => 5,
        Refused::AppLimit { .. } => 6,
        Refused::CrashLoop { .. } => 7,
        Refused::ManualStart => 8,
        Refused::Ended => 9,
        Refused::StartTimeout => 10,
        Refused::PortTimeout { .. } => 11,
        Refused::StartFailed(_) => 12,
        Refused::StartRefused(_) => 13,
        Refused::Overloaded => 14,
        Refused::Stopping => 15,
        Refused::NodeUnreachable(_) => 16,
        Refused::Store => 17,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_word() {
        let cases: [(&str, ProxyError); 6] = [
            ("no_route", RouteError::NoRoute.into()),
            ("no_name", RouteError::Encoding("path").into()),
            ("port_timeout", Refused::PortTimeout { port: 1 }.into()),
            ("store", Refused::Store.into()),
            ("client_gone", ProxyError::ClientGone),
            ("edge_stopping", ProxyError::Stopping),
        ];
        for (word, error) in cases {
            assert_eq!(REASONS[reason(&error)], word);
        }
    }
}
