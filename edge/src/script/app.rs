//! Runs one version of an app: starts its process with the first call, ends it when there are none for long, or when the version
//! is not run any more and its last calls are done; and does not start it again too soon when it keeps ending.

use std::sync::Arc;
use std::time::Instant;

use super::child::Child;
use super::counts::Counts;
use super::failure::{Ended, Failure};
use super::link::Lease;
use super::owners::Owners;
use super::version::{Lane, Running, Version};
use super::{Code, Outside, Settings, actor};

/// A version of an app that is run.
#[derive(Clone)]
pub(super) struct App(Arc<Version>);

impl App {
    pub(super) fn new(
        settings: Settings,
        code: Arc<Code>,
        outside: Arc<dyn Outside>,
        owners: Owners,
        counts: Arc<Counts>,
    ) -> Self {
        Self(Arc::new(Version::new(settings, code, outside, owners, counts, actor::start)))
    }

    /// A thread of the version's process, for one call. Starts the process if there is none: a fork and an exec, for which the
    /// caller's thread waits a millisecond or two, because it must be the caller's (`Child::start`).
    pub(super) fn lane(&self, lane: usize) -> Result<Lease, Failure> {
        let version = &self.0;
        let mut state = version.state();
        if state.retired {
            return Err(Failure::Ended(Ended::Retired));
        }
        if state.running.is_none() {
            if let Some(wait) = state.backoff.wait(Instant::now()) {
                return Err(Failure::BackOff(wait));
            }
            state.running = Some(self.start().map_err(|error| Failure::Start(error.to_string()))?);
        }
        version.lane_of(state, lane)
    }

    /// What its process has in memory, in bytes, if it has one.
    pub(super) fn memory_bytes(&self) -> Option<u64> {
        let child = Arc::clone(&self.0.state().running.as_ref()?.child);
        child.memory_bytes()
    }

    fn start(&self) -> std::io::Result<Running> {
        let version = &self.0;
        let (child, sockets) = Child::start(&version.settings, version.code.load.limits.memory_bytes)?;
        let child = Arc::new(child);
        let (app, watched) = (self.clone(), Arc::clone(&child));
        tokio::spawn(async move {
            let key = &app.0.code.key;
            tokio::select! {
                () = watched.watch(key) => {}
                () = app.idle(&watched) => watched.watch(key).await,
            }
            app.0.gone(&watched);
        });
        Ok(Running { child, lanes: sockets.into_iter().map(Lane::Unused).collect() })
    }

    /// Ends a process that has had no call for long; returns once it has.
    async fn idle(&self, child: &Arc<Child>) {
        let (version, limit) = (&self.0, self.0.settings.idle);
        loop {
            tokio::time::sleep(limit).await;
            let mut state = version.state();
            let idle = version.calls.count() == 0 && state.last_call.elapsed() >= limit;
            if idle && state.runs(child) {
                child.kill(Ended::Retired);
                state.running = None;
                return;
            }
        }
    }

    /// The version is not run any more: no call begins, and those that go on have a while. To be called within a runtime.
    pub(super) fn end(&self) {
        let mut state = self.0.state();
        state.retired = true;
        let Some(running) = &state.running else { return };
        let (version, child) = (Arc::clone(&self.0), Arc::clone(&running.child));
        if version.calls.count() == 0 {
            child.kill(Ended::Retired);
            state.running = None;
            return;
        }
        tokio::spawn(async move {
            // However they end: what goes on then is cut off.
            let _ = tokio::time::timeout(version.settings.last_calls, version.calls.none()).await;
            child.kill(Ended::Retired);
        });
    }
}
