//! Support for the tests of the whole edge: the real daemon as a separate process, a fake agent that speaks the real
//! protocol, and a small web server as the app.

pub(crate) mod agent;
pub(crate) mod app;
pub(crate) mod client;
pub(crate) mod edge;
pub(crate) mod image;

use std::time::Duration;

/// Longest wait of a test for anything: far longer than it takes, so that only a bug reaches it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The result of the work, which must be there within [`PATIENCE`].
pub(crate) async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(result) => result,
        Err(_) => panic!("{what}: nothing within {PATIENCE:?}"),
    }
}
