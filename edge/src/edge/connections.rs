//! The connections of an edge, and their limits, for each of its listeners.

use std::sync::Arc;

use berth_common::connections::{Connections, StandsForMany};
use berth_registry::server;
use nix::sys::resource::{Resource, getrlimit};

use crate::admin;
use crate::http::forwarded::Trust;
use crate::proxy::listener;

/// How many files a process may have open where that cannot be found out: the usual limit of a system.
const FEW_FILES: u64 = 1024;

/// The connections of each listener.
pub(super) struct ListenerConnections {
    pub(super) clients: Arc<Connections>,
    pub(super) registry: Arc<Connections>,
    pub(super) admin: admin::AdminConnections,
}

impl ListenerConnections {
    /// None taken. Trusted proxies stand for many clients.
    pub(super) fn new(shards: usize, trust: &Arc<Trust>) -> Self {
        let for_many = || -> StandsForMany {
            let trust = Arc::clone(trust);
            Box::new(move |address| trust.trusts(address))
        };
        Self {
            clients: listener::connections(shards, open_files(), for_many()),
            registry: server::connections(for_many()),
            admin: admin::AdminConnections::new(for_many()),
        }
    }

    /// Of all listeners.
    pub(super) fn all(&self) -> Vec<Arc<Connections>> {
        [&self.clients, &self.admin.local, &self.admin.network, &self.registry].map(Arc::clone).into()
    }
}

/// How many files this process may have open.
fn open_files() -> usize {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(FEW_FILES, |(soft, _)| soft);
    usize::try_from(limit).unwrap_or(usize::MAX)
}
