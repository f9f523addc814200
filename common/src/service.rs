//! What a daemon tells the service manager that started it (systemd, where there is one): that it is ready, how it is, and
//! that it lives. Without one nothing is told to anybody.

#[cfg(feature = "runtime")]
use std::convert::Infallible;
use std::os::fd::{BorrowedFd, RawFd};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// Looks at a daemon's state and signs of life in each period that the service manager waits for one: more than one, so
/// that a late one is not the end.
const LOOKS_PER_PERIOD: u32 = 3;

/// Tells that the daemon does its work now, and in words how it is.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Tells that the daemon is about to end.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Tells how the daemon is, again and again, for as long as it is well (`Some`). One that does not say so in time is ended
/// and started again by the service manager.
#[cfg(feature = "runtime")]
pub async fn keep_alive(state: impl Fn() -> Option<String>) -> Infallible {
    let Some(period) = period() else { return std::future::pending().await };
    loop {
        tokio::time::sleep(period).await;
        if let Some(status) = state() {
            tell(&[NotifyState::Watchdog, NotifyState::Status(&status)]);
        }
    }
}

fn period() -> Option<Duration> {
    Some(sd_notify::watchdog_enabled()? / LOOKS_PER_PERIOD)
}

fn tell(what: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(what) {
        tracing::warn!(%error, "the service manager was not told");
    }
}

/// The same as `keep_alive` for a daemon without an async runtime.
#[derive(Debug)]
pub struct Heartbeat {
    period: Option<Duration>,
    next: Instant,
}

impl Heartbeat {
    /// For a daemon that has just told that it is ready.
    pub fn new() -> Self {
        Self { period: period(), next: Instant::now() }
    }

    /// When it must be told next that the daemon lives, if ever.
    pub fn next(&self) -> Option<Instant> {
        self.period.map(|_| self.next)
    }

    /// Tells that the daemon lives, if it is time to.
    pub fn beat(&mut self, status: impl FnOnce() -> String) {
        let Some(period) = self.period.filter(|_| Instant::now() >= self.next) else { return };
        self.next = Instant::now() + period;
        tell(&[NotifyState::Watchdog, NotifyState::Status(&status())]);
    }
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self::new()
    }
}

/// Has the service manager keep a socket open over a restart of this daemon.
pub fn keep_socket(name: &str, socket: BorrowedFd<'_>) {
    let kept = sd_notify::notify_with_fds(&[NotifyState::FdStore, NotifyState::FdName(name)], &[socket]);
    if let Err(error) = kept {
        tracing::debug!(%error, "the service manager does not keep the socket");
    }
}

/// The number of a descriptor that it has kept under this name.
pub fn kept_socket(name: &str) -> Option<RawFd> {
    let mut kept = sd_notify::listen_fds_with_names().ok()?;
    kept.find(|(_, known)| known == name).map(|(fd, _)| fd)
}
