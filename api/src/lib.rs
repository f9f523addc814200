//! The types of an edge's admin API, each defined once, for the edge that serves it and for its clients (`berth`,
//! tests, dashboards); and, with the feature `client`, a client.
//!
//! Times are milliseconds since 1970 (`_ms`) and sizes bytes, unless a field says otherwise. Every error response is a
//! [`problem::Problem`]. With the feature `schema`, which only the edge enables, the types generate
//! `docs/openapi.json`. Does not know what an edge does with a request.

#![expect(
    missing_docs,
    reason = "the comments become docs/openapi.json, where self-explanatory names have none"
)]

pub mod apps;
#[cfg(feature = "client")]
pub mod client;
pub mod containers;
pub mod edge;
pub mod events;
pub mod files;
pub mod hooks;
pub mod images;
pub mod kv;
pub mod lists;
pub mod logs;
pub mod placement;
pub mod problem;
pub mod registries;
pub mod schedules;
pub mod secrets;
pub mod specs;
pub mod tokens;
pub mod transfers;
pub mod usage;

#[cfg(feature = "client")]
pub use client::Client;
