//! What the tests of the whole edge stand on: the real daemon as its own process, a fake agent that speaks the real
//! protocol, and a small web server that stands for what runs in an instance.

pub(crate) mod agent;
pub(crate) mod app;
pub(crate) mod client;
pub(crate) mod edge;
pub(crate) mod image;

use std::time::Duration;

/// Longest wait for anything that a test waits for: far more than it takes, so that only a fault runs into it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The result of the work, which must come within [`PATIENCE`].
pub(crate) async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(result) => result,
        Err(_) => panic!("{what}: nothing within {PATIENCE:?}"),
    }
}
