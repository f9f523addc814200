//! How a daemon ends, in phases, and the tasks that must have ended before it does.
//!
//! ```text
//!  running ──first signal──▶ draining ──work done, or grace over, or second signal──▶ stopped
//! ```
//!
//! Draining: accept nothing new, finish what is in flight. Stopped: cancel the rest, close, flush.
//!
//! What fails, and what happens then:
//! * Work does not end within the grace: it is cancelled, and the daemon ends with `Ending::Cut`.
//! * A second signal comes: the same, at once.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How a daemon ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// All work was finished.
    Clean,
    /// Some work was cut off.
    Forced,
}

/// The cancellation tokens and the task tracker of a daemon. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Lifecycle {
    drain: CancellationToken,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Lifecycle {
    /// The lifecycle of a running daemon.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancelled when draining begins: nothing new may be accepted.
    pub fn drain(&self) -> &CancellationToken {
        &self.drain
    }

    /// Cancelled when everything must end.
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Spawns a task that the daemon waits for while draining, and cancels when it stops.
    pub fn spawn<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = task => {}
                () = stop.cancelled() => {}
            }
        });
    }

    /// Like `spawn`, for a task that is not `Send`. Must be called within a `LocalSet`.
    pub fn spawn_local<F>(&self, task: F)
    where
        F: Future<Output = ()> + 'static,
    {
        let stop = self.stop.clone();
        self.tasks.spawn_local(async move {
            tokio::select! {
                () = task => {}
                () = stop.cancelled() => {}
            }
        });
    }

    /// Waits for the first signal to end, then ends in phases, with `grace` for work in flight.
    pub async fn run_until_signal(&self, grace: Duration) -> std::io::Result<Ending> {
        let mut signals = Signals::new()?;
        tokio::select! {
            () = signals.next() => tracing::info!(?grace, "draining"),
            () = self.drain.cancelled() => {}
        }
        crate::service::stopping();
        self.drain.cancel();
        self.tasks.close();
        let ending = tokio::select! {
            () = self.tasks.wait() => Ending::Clean,
            () = tokio::time::sleep(grace) => Ending::Forced,
            () = signals.next() => Ending::Forced,
        };
        self.stop.cancel();
        self.tasks.wait().await;
        Ok(ending)
    }
}

/// SIGTERM and SIGINT, which are treated alike.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_in_flight_is_finished() {
        let lifecycle = Lifecycle::new();
        let (done, finished) = tokio::sync::oneshot::channel();
        lifecycle.spawn(async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            done.send(()).unwrap();
        });
        lifecycle.drain().cancel();
        assert_eq!(lifecycle.run_until_signal(Duration::from_secs(60)).await.unwrap(), Ending::Clean);
        finished.await.unwrap();
    }

    #[tokio::test]
    async fn work_past_the_grace_is_cut_off() {
        let lifecycle = Lifecycle::new();
        lifecycle.spawn(std::future::pending());
        lifecycle.drain().cancel();
        assert_eq!(lifecycle.run_until_signal(Duration::from_millis(10)).await.unwrap(), Ending::Forced);
    }
}
