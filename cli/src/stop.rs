//! Work that can be cancelled: by Ctrl-C, or because its result is not needed any more.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};

use crate::signals::Signals;

/// Cancels work on another thread.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// An error once the work is cancelled: called before each long step.
    pub(crate) fn check(&self) -> io::Result<()> {
        if self.0.load(Ordering::Relaxed) { Err(io::Error::other("given up")) } else { Ok(()) }
    }
}

struct StopOnDrop(Stop);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// Runs work that reads and writes files on a thread of its own. Dropping the future cancels it.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce(Stop) -> Result<T> + Send + 'static,
) -> Result<T> {
    let stop = Stop::default();
    let _guard = StopOnDrop(stop.clone());
    tokio::task::spawn_blocking(move || work(stop)).await.context("the work was broken off")?
}

/// Runs work until its end or a signal; on a signal the work is dropped, which cleans up.
pub(crate) async fn interruptible<T>(work: impl Future<Output = Result<T>>, left: &str) -> Result<T> {
    let mut signals = Signals::new()?;
    tokio::select! {
        done = work => done,
        () = signals.next() => bail!("interrupted; {left}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_that_nobody_waits_for_ends() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let work = blocking(move |stop| {
            while stop.check().is_ok() {
                std::thread::yield_now();
            }
            Ok(sender.send(()))
        });
        drop(tokio::time::timeout(std::time::Duration::from_millis(10), work).await);
        receiver.await.unwrap();
    }
}
