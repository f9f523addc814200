//! How many objects that have never run the requests of clients may start.

use serde::{Deserialize, Serialize};

/// Starts of new objects in a minute, and at once after a pause. Each object counts once: when it has run, it is new no
/// more.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// In the long run.
    #[cfg_attr(feature = "schema", schema(minimum = 1, maximum = 1_000_000))]
    pub per_minute: u32,
    /// At once, at most.
    #[cfg_attr(feature = "schema", schema(minimum = 1, maximum = 1_000_000))]
    pub burst: u32,
}

/// Least and most of both numbers of a rate.
pub const RATE: std::ops::RangeInclusive<u32> = 1..=1_000_000;

/// How many new objects of an app requests may start. Orders of the admin API, alarms and crons do not count.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StartRates {
    /// Of one client address (IPv6: of a /64); null is no limit.
    pub per_address: Option<Rate>,
    /// Of each class, by all clients together; null is no limit.
    pub per_class: Option<Rate>,
    /// Of the app, by all clients together; null is no limit.
    pub per_app: Option<Rate>,
}

impl Default for StartRates {
    /// One address may name 60 new objects a minute, and twice as many at once: more than a person with a browser does,
    /// and few enough that a program without a purpose does not fill the nodes.
    fn default() -> Self {
        Self { per_address: Some(Rate { per_minute: 60, burst: 120 }), per_class: None, per_app: None }
    }
}
