//! Which thread of which process has an object: one at a time, on the whole edge. Whoever wants one that another has waits for its
//! turn, and the other is told. Does not know what objects are.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use berth_script::message::ObjectId;
use tokio::sync::oneshot;

/// An object: the app, and its id in that.
pub(super) type Key = (String, ObjectId);

/// Tells whoever has an object that another wants it. Must not block.
pub(super) type Tell = Box<dyn Fn() + Send>;

struct Holder {
    tell: Tell,
    waiting: VecDeque<(oneshot::Sender<Claim>, Tell)>,
}

/// Who has which object.
#[derive(Clone, Default)]
pub(super) struct Owners(Arc<Mutex<HashMap<Key, Holder>>>);

/// The right to have an object, for as long as it is held. What is written for the object is written under it.
pub(super) struct Claim {
    owners: Owners,
    key: Key,
}

impl Owners {
    fn holders(&self) -> MutexGuard<'_, HashMap<Key, Holder>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the right to have an object. `tell` is called when another wants it.
    pub(super) fn claim(&self, key: Key, tell: Tell) -> oneshot::Receiver<Claim> {
        let (give, given) = oneshot::channel();
        let mut holders = self.holders();
        match holders.get_mut(&key) {
            Some(holder) => {
                (holder.tell)();
                holder.waiting.push_back((give, tell));
            }
            None => {
                holders.insert(key.clone(), Holder { tell, waiting: VecDeque::new() });
                drop(holders);
                // Given back at once if nobody waits any more.
                drop(give.send(Claim { owners: self.clone(), key }));
            }
        }
        given
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut holders = self.owners.holders();
        let Some(holder) = holders.get_mut(&self.key) else { return };
        let next = std::iter::from_fn(|| holder.waiting.pop_front()).find(|(give, _)| !give.is_closed());
        let Some((give, tell)) = next else {
            holders.remove(&self.key);
            return;
        };
        holder.tell = tell;
        if !holder.waiting.is_empty() {
            (holder.tell)();
        }
        drop(holders);
        drop(give.send(Self { owners: self.owners.clone(), key: self.key.clone() }));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn key(app: &str) -> Key {
        (app.to_owned(), ObjectId([1; 32]))
    }

    #[test]
    fn one_has_an_object_and_others_wait_for_their_turn() {
        let (owners, told) = (Owners::default(), Arc::new(AtomicUsize::new(0)));
        let claim = |app: &str| {
            let told = Arc::clone(&told);
            owners.claim(
                key(app),
                Box::new(move || {
                    let _ = told.fetch_add(1, Ordering::Relaxed);
                }),
            )
        };
        let first = claim("a").try_recv().unwrap();
        drop(claim("b").try_recv().unwrap());
        let (mut second, third, mut fourth) = (claim("a"), claim("a"), claim("a"));
        assert!(second.try_recv().is_err() && told.load(Ordering::Relaxed) == 3);
        drop((first, third));
        let second = second.try_recv().unwrap();
        assert!(fourth.try_recv().is_err() && told.load(Ordering::Relaxed) == 4);
        drop(second);
        drop(fourth.try_recv().unwrap());
        assert!(owners.holders().is_empty());
    }

    #[test]
    fn a_turn_that_nobody_takes_goes_on() {
        let owners = Owners::default();
        let first = owners.claim(key("a"), Box::new(|| ())).try_recv().unwrap();
        let (second, mut third) =
            (owners.claim(key("a"), Box::new(|| ())), owners.claim(key("a"), Box::new(|| ())));
        drop(second);
        drop(first);
        drop(third.try_recv().unwrap());
        assert!(owners.holders().is_empty());
    }
}
