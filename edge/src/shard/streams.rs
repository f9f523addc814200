//! How many tunnel streams over one link each app and each instance may have, so that no tenant can use up those of the
//! link's connection. Does not know what flows in them.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use berth_common::ids::{AppName, InstanceId};
use berth_protocol::Budget;

/// Tunnel streams over one link at once: what an agent allows (16,384) without those that are just ending, and without
/// questions about instances.
const MAX_STREAMS: usize = 15_360;
/// The same to one instance: a thousand players of a room, and the idle connections that `proxy::pool` keeps.
const MAX_PER_INSTANCE: usize = 1280;

/// An app, as the key of its share: a hash, because requests must not copy names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct AppKey(u64);

impl AppKey {
    /// The key of an app. The hash has a random seed, so that nobody can choose names that share one.
    pub(crate) fn of(app: &AppName) -> Self {
        static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        Self(SEED.hash_one(app))
    }
}

/// An instance, as a part of its app.
pub(crate) type Tenant = berth_protocol::Tenant<InstanceId, AppKey>;

/// A budget that may be used from any thread, though it is only by its shard's. The lock is held for a look-up.
#[derive(Debug)]
pub(crate) struct Shared(Mutex<Budget<InstanceId, AppKey>>);

impl Shared {
    pub(crate) fn new(total: usize, most_of_one: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Budget::new(total, most_of_one))))
    }

    /// The streams of one link.
    pub(crate) fn streams() -> Arc<Self> {
        Self::new(MAX_STREAMS, MAX_PER_INSTANCE)
    }

    /// A unit for this tenant; none if its share is used up.
    pub(crate) fn take(self: &Arc<Self>, tenant: Tenant) -> Option<Permit> {
        self.lock().take(&tenant).then(|| Permit { of: Arc::clone(self), tenant })
    }

    fn lock(&self) -> MutexGuard<'_, Budget<InstanceId, AppKey>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One unit of a share, given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    of: Arc<Shared>,
    tenant: Tenant,
}

impl Permit {
    /// Whose it is.
    pub(crate) fn tenant(&self) -> Tenant {
        self.tenant.clone()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.of.lock().give(&self.tenant);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(instance: u8, app: &str) -> Tenant {
        let app = AppKey::of(&app.parse().unwrap());
        Tenant { instance: InstanceId::from_bytes([instance; 16]), app }
    }

    #[test]
    fn one_instance_and_one_app_leave_streams_to_others() {
        let streams = Shared::streams();
        let all = |tenant: &Tenant| -> Vec<Permit> {
            std::iter::from_fn(|| streams.take(tenant.clone())).collect()
        };
        let held: Vec<_> = (0..20).map(|instance| all(&tenant(instance, "greedy"))).collect();
        assert_eq!(held[0].len(), MAX_PER_INSTANCE);
        assert_eq!(held.iter().map(Vec::len).sum::<usize>(), MAX_STREAMS / 2);
        assert_eq!(all(&tenant(99, "other")).len(), MAX_PER_INSTANCE);
        drop(held);
        assert!(streams.take(tenant(1, "greedy")).is_some());
    }
}
