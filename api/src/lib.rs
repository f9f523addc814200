//! The admin API of an edge: what is sent and answered, each type once, for the edge that serves it and for all who ask
//! (`berth`, tests, dashboards); and, with the feature `client`, a client.
//!
//! Times are milliseconds since 1970 (`_ms`) and sizes bytes, unless a field says otherwise. An error of any resource is a
//! [`problem::Problem`]. With the feature `schema`, which only the edge switches on, the types describe themselves for
//! `docs/openapi.json`. Knows nothing of what an edge does with a request.

#![expect(
    missing_docs,
    reason = "the comments are what docs/openapi.json says; what a name says well enough has none there"
)]

pub mod apps;
#[cfg(feature = "client")]
pub mod client;
pub mod containers;
pub mod edge;
pub mod events;
pub mod hooks;
pub mod images;
pub mod kv;
pub mod lists;
pub mod logs;
pub mod problem;
pub mod registries;
pub mod schedules;
pub mod secrets;
pub mod tokens;
pub mod transfers;
pub mod usage;

#[cfg(feature = "client")]
pub use client::Client;
