//! The loop that accepts connections of any kind, with a bound on how many are served at once.
//!
//! Does not know sockets, TLS, or what is served on a connection.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Pause after a failed accept. It mostly fails for want of file descriptors, and would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections for as long as it is polled, and passes each to `serve`, which must not block. A connection
/// counts as served until its permit is dropped; with `max_connections` of them, more wait in the kernel's backlog.
/// `listener` names the listener in the log.
pub async fn accept_loop<C, F>(
    listener: &'static str,
    max_connections: usize,
    accept: impl Fn() -> F,
    serve: impl Fn(C, OwnedSemaphorePermit),
) where
    F: Future<Output = io::Result<C>>,
{
    let permits = Arc::new(Semaphore::new(max_connections));
    while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
        match accept().await {
            Ok(connection) => serve(connection, permit),
            Err(error) => {
                tracing::warn!(listener, %error, "connection not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
