//! How many tunnels each app and each instance may have on this node, and how many of them may hold bytes that nobody
//! reads. Does not know what flows in them.

use std::cell::RefCell;

use berth_common::ids::{AppName, InstanceId};
use berth_protocol::Budget;

/// Most tunnels to one instance, over all shards of its edge: an app that holds thousands of connections has several
/// instances.
const MAX_PER_INSTANCE: usize = 4096;
/// Tunnels that may hold unread bytes on the whole node at once. Each holds up to a stream's window (512 KiB): 512 MiB.
const MAX_UNREAD: usize = 1024;
/// The same of one instance: 64 MiB.
const MAX_UNREAD_PER_INSTANCE: usize = 128;

/// An instance, as a part of its app.
pub(crate) type Tenant = berth_protocol::Tenant<InstanceId, AppName>;

type Shared = RefCell<Budget<InstanceId, AppName>>;

/// The tunnels of a node.
#[derive(Debug)]
pub(crate) struct Tunnels {
    open: Shared,
    unread: Shared,
}

/// One unit of a share, given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit<'a> {
    of: &'a Shared,
    tenant: &'a Tenant,
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.of.borrow_mut().give(self.tenant);
    }
}

impl Tunnels {
    /// A node that can have this many.
    pub(crate) fn new(total: usize) -> Self {
        Self {
            open: RefCell::new(Budget::new(total, MAX_PER_INSTANCE)),
            unread: RefCell::new(Budget::new(MAX_UNREAD, MAX_UNREAD_PER_INSTANCE)),
        }
    }

    /// Room for one more tunnel of this instance; none if its share or its app's is used up.
    pub(crate) fn open<'a>(&'a self, tenant: &'a Tenant) -> Option<Permit<'a>> {
        take(&self.open, tenant)
    }

    /// Room for one more tunnel of this instance that holds unread bytes.
    pub(crate) fn unread<'a>(&'a self, tenant: &'a Tenant) -> Option<Permit<'a>> {
        take(&self.unread, tenant)
    }

    /// How many are open.
    pub(crate) fn count(&self) -> usize {
        self.open.borrow().taken()
    }
}

fn take<'a>(of: &'a Shared, tenant: &'a Tenant) -> Option<Permit<'a>> {
    let taken = of.borrow_mut().take(tenant);
    taken.then(|| Permit { of, tenant })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(instance: u8, app: &str) -> Tenant {
        Tenant { instance: InstanceId::from_bytes([instance; 16]), app: app.parse().unwrap() }
    }

    #[test]
    fn an_app_leaves_room_for_others_and_gives_back_what_it_had() {
        let tunnels = Tunnels::new(8);
        let (greedy, other) = (tenant(1, "greedy"), tenant(2, "other"));
        let held: Vec<_> = std::iter::from_fn(|| tunnels.open(&greedy)).collect();
        assert_eq!((held.len(), tunnels.count()), (4, 4));
        assert!(tunnels.open(&other).is_some());
        drop(held);
        assert_eq!(tunnels.count(), 0);
    }

    #[test]
    fn unread_bytes_have_a_share_of_their_own() {
        let tunnels = Tunnels::new(8);
        let greedy = tenant(1, "greedy");
        let held: Vec<_> = std::iter::from_fn(|| tunnels.unread(&greedy)).collect();
        assert_eq!((held.len(), tunnels.count()), (MAX_UNREAD_PER_INSTANCE, 0));
        assert!(tunnels.unread(&tenant(2, "greedy")).is_some(), "another instance of the app");
    }
}
