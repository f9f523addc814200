//! Notifications to the service manager that started a daemon (systemd): ready, status, watchdog, stopping. Without a
//! service manager they do nothing.

#[cfg(feature = "runtime")]
use std::convert::Infallible;
use std::os::fd::{BorrowedFd, RawFd};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// Watchdog notifications sent per watchdog period: several, so that a single late one does not end the daemon.
const LOOKS_PER_PERIOD: u32 = 3;

/// Notifies that the daemon is ready, with a status text.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Notifies that the daemon is ending.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Sends watchdog notifications with a status text for as long as the daemon is healthy (`Some`). Without them in time
/// the service manager restarts the daemon.
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
        tracing::warn!(%error, "cannot notify the service manager");
    }
}

/// The same as `keep_alive` for a daemon without an async runtime.
#[derive(Debug)]
pub struct Heartbeat {
    period: Option<Duration>,
    next: Instant,
}

impl Heartbeat {
    /// For a daemon that has just notified that it is ready.
    pub fn new() -> Self {
        Self { period: period(), next: Instant::now() }
    }

    /// When the next watchdog notification is due, if the service manager wants any.
    pub fn next(&self) -> Option<Instant> {
        self.period.map(|_| self.next)
    }

    /// Sends a watchdog notification if it is due.
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

/// Stores a socket in the service manager (systemd's FDSTORE), so that it stays open over a restart of this daemon.
pub fn keep_socket(name: &str, socket: BorrowedFd<'_>) {
    let kept = sd_notify::notify_with_fds(&[NotifyState::FdStore, NotifyState::FdName(name)], &[socket]);
    if let Err(error) = kept {
        tracing::debug!(%error, "the service manager did not store the socket");
    }
}

/// The number of the descriptor that the service manager has stored under this name.
pub fn kept_socket(name: &str) -> Option<RawFd> {
    let mut kept = sd_notify::listen_fds_with_names().ok()?;
    kept.find(|(_, known)| known == name).map(|(fd, _)| fd)
}
