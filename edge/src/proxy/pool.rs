//! Idle connections to instances, kept for the next request to the same port. Few, and closed early: a server that
//! serves one connection at a time must not be blocked by an idle one.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use berth_common::ids::InstanceId;
use tokio::sync::Notify;

use super::upstream::{InstancePort, Upstream};

/// Most idle connections to one port of one instance: repeated bursts of this many requests need no new connections.
/// Each takes a few KiB, and only for `IDLE_LIMIT`.
const MAX_IDLE: usize = 256;
/// How long a connection is kept without a request: shorter than common servers keep idle connections.
const IDLE_LIMIT: Duration = Duration::from_secs(2);
/// How often expired connections are closed.
const SWEEP_EVERY: Duration = Duration::from_millis(500);

struct Idle {
    upstream: Upstream,
    since: Instant,
}

/// The idle connections of one shard. The lock is held only for a look-up, by the shard's own thread.
#[derive(Default)]
pub(crate) struct Pool {
    idle: Mutex<HashMap<InstancePort, Vec<Idle>>>,
    filled: Notify,
}

impl Pool {
    /// The most recently used connection that is still open, as far as is known.
    pub(crate) async fn checkout(&self, port: InstancePort) -> Option<Upstream> {
        loop {
            let mut upstream = self.take(port)?;
            if poll_fn(|cx| Poll::Ready(upstream.is_reusable(cx))).await {
                return Some(upstream);
            }
        }
    }

    fn take(&self, port: InstancePort) -> Option<Upstream> {
        let mut idle = self.lock();
        let stack = idle.get_mut(&port)?;
        let last = stack.pop();
        if stack.is_empty() {
            idle.remove(&port);
        }
        last.map(|idle| idle.upstream)
    }

    /// Keeps a connection for the next request, or closes it if there are enough.
    pub(crate) fn keep(&self, upstream: Upstream) {
        let surplus = {
            let mut idle = self.lock();
            if idle.is_empty() {
                self.filled.notify_one();
            }
            let stack = idle.entry(upstream.port()).or_default();
            if stack.len() < MAX_IDLE {
                stack.push(Idle { upstream, since: Instant::now() });
                return;
            }
            upstream
        };
        surplus.end();
    }

    /// Closes all connections to an instance that has ended.
    pub(crate) fn forget(&self, instance: InstanceId) {
        let gone: Vec<_> = self.lock().extract_if(|port, _| port.instance == instance).collect();
        drop(gone);
    }

    /// Closes expired connections, for as long as it is polled.
    pub(crate) async fn sweep(&self) {
        loop {
            if self.lock().is_empty() {
                self.filled.notified().await;
            }
            tokio::time::sleep(SWEEP_EVERY).await;
            for expired in self.expired() {
                expired.upstream.end();
            }
        }
    }

    fn expired(&self) -> Vec<Idle> {
        let mut expired = Vec::new();
        self.lock().retain(|_, stack| {
            expired.extend(stack.extract_if(.., |idle| idle.since.elapsed() > IDLE_LIMIT));
            !stack.is_empty()
        });
        expired
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<InstancePort, Vec<Idle>>> {
        // Nothing panics under this lock; a map of idle connections is valid after any panic.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
