//! What every part of Berth shares: ids, validated app specifications, the wire protocol between edge and
//! agent, and (feature `runtime`) the time of day, values that nobody should see, the lifecycle of a daemon and its logs,
//! and (feature `service`) what it tells the service manager.
//!
//! Knows nothing of QUIC, HTTP, files, or containers. Without the `runtime` feature it needs no async runtime,
//! so that the pure engine can depend on it.

#[cfg(feature = "runtime")]
pub mod clock;
pub mod cron;
#[cfg(feature = "fixtures")]
pub mod fixtures;
pub mod ids;
pub mod image;
#[cfg(feature = "runtime")]
pub mod lifecycle;
pub mod manifest;
pub mod metering;
pub mod outcome;
#[cfg(feature = "runtime")]
pub mod secret;
#[cfg(feature = "service")]
pub mod service;
pub mod spec;
#[cfg(feature = "runtime")]
pub mod telemetry;
pub mod wire;
