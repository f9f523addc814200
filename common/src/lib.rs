//! What every part of Berth shares: ids, validated app specifications, the wire protocol between edge and agent, and
//! (feature `runtime`) the time of day, secret values, the loop that accepts connections and the places that they have, the lifecycle of a daemon and
//! its logs, (feature `service`) notifications to the service manager, and (feature `fixtures`) an app and a class for tests.
//!
//! Knows nothing of QUIC, HTTP, files, or containers. Without the `runtime` feature it needs no async runtime,
//! so that the pure engine can depend on it.

#[cfg(feature = "runtime")]
pub mod accept;
#[cfg(feature = "runtime")]
pub mod clock;
#[cfg(feature = "runtime")]
pub mod connections;
pub mod cron;
#[cfg(feature = "fixtures")]
pub mod fixtures;
pub mod happening;
pub mod ids;
pub mod image;
pub mod internet;
#[cfg(feature = "runtime")]
pub mod lifecycle;
pub mod manifest;
pub mod metering;
pub mod outcome;
#[cfg(feature = "runtime")]
pub mod secret;
#[cfg(feature = "service")]
pub mod service;
pub mod shown;
pub mod spec;
#[cfg(feature = "runtime")]
pub mod telemetry;
pub mod wire;
