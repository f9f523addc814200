//! A budget that tenants share without one of them being able to use it up.
//!
//! Whoever takes more may have as much as is still free, and no more: so the first alone gets half of the budget, two get
//! a third each, and one who comes last still finds some. Nobody has to know how many will come, and what was taken
//! stays with who took it.
//!
//! ```text
//!   take: own < most of one, and own < free ──▶ taken ──give──▶ free again
//!     └─ otherwise ──▶ refused: the share is used up
//! ```

use std::collections::HashMap;
use std::hash::Hash;

/// A budget of equal units, and what each tenant has of it.
#[derive(Debug)]
pub struct Shares<K> {
    total: usize,
    most: usize,
    taken: usize,
    each: HashMap<K, usize>,
}

impl<K: Hash + Eq + Clone> Shares<K> {
    /// A budget of this many units, of which one tenant may have `most` and never more than is free.
    pub fn new(total: usize, most: usize) -> Self {
        Self { total, most, taken: 0, each: HashMap::new() }
    }

    /// Whether this tenant may have one more.
    pub fn has_room(&self, key: &K) -> bool {
        let own = self.each.get(key).copied().unwrap_or(0);
        own < self.most && own < self.total.saturating_sub(self.taken)
    }

    /// Takes a unit for this tenant, if its share has one left. Each that was taken must be given back once.
    #[must_use]
    pub fn take(&mut self, key: &K) -> bool {
        if !self.has_room(key) {
            return false;
        }
        *self.each.entry(key.clone()).or_default() += 1;
        self.taken += 1;
        true
    }

    /// Gives a unit back.
    pub fn give(&mut self, key: &K) {
        let Some(own) = self.each.get_mut(key) else { return };
        *own -= 1;
        if *own == 0 {
            self.each.remove(key);
        }
        self.taken -= 1;
    }

    /// How many units are taken.
    pub fn taken(&self) -> usize {
        self.taken
    }
}

/// Who takes: an instance, as a part of its app.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tenant<I, A> {
    /// The instance.
    pub instance: I,
    /// The app.
    pub app: A,
}

/// A budget that is shared by apps, and within each by its instances.
#[derive(Debug)]
pub struct Budget<I, A> {
    instances: Shares<I>,
    apps: Shares<A>,
}

impl<I: Hash + Eq + Clone, A: Hash + Eq + Clone> Budget<I, A> {
    /// A budget of this many units, of which one instance may have `most`.
    pub fn new(total: usize, most: usize) -> Self {
        Self { instances: Shares::new(usize::MAX, most), apps: Shares::new(total, usize::MAX) }
    }

    /// Takes a unit, if both shares have one left. Each that was taken must be given back once.
    #[must_use]
    pub fn take(&mut self, tenant: &Tenant<I, A>) -> bool {
        self.instances.has_room(&tenant.instance)
            && self.apps.take(&tenant.app)
            && self.instances.take(&tenant.instance)
    }

    /// Gives a unit back.
    pub fn give(&mut self, tenant: &Tenant<I, A>) {
        self.instances.give(&tenant.instance);
        self.apps.give(&tenant.app);
    }

    /// How many units are taken.
    pub fn taken(&self) -> usize {
        self.apps.taken()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Takes as many as there are for this one.
    fn all(shares: &mut Shares<&'static str>, key: &'static str) -> usize {
        std::iter::from_fn(|| shares.take(&key).then_some(())).count()
    }

    #[test]
    fn one_alone_gets_half_and_each_later_one_some() {
        let mut shares = Shares::new(16, usize::MAX);
        assert_eq!(["a", "b", "c", "d"].map(|key| all(&mut shares, key)), [8, 4, 2, 1]);
        assert!(shares.take(&"e"), "the last unit goes to one who has none");
        assert!(!shares.take(&"f") && shares.taken() == 16);
    }

    #[test]
    fn nobody_gets_more_than_the_most_of_one() {
        let mut shares = Shares::new(100, 3);
        assert_eq!(all(&mut shares, "a"), 3);
        shares.give(&"a");
        assert_eq!((all(&mut shares, "a"), shares.taken()), (1, 3));
    }

    #[test]
    fn an_apps_instances_have_the_apps_share_together() {
        let mut budget = Budget::new(8, 3);
        let of = |instance, app| Tenant { instance, app };
        let taken: Vec<bool> = [1, 1, 1, 1, 2, 2].map(|i| budget.take(&of(i, "a"))).into();
        assert_eq!(taken, [true, true, true, false, true, false]);
        assert!(budget.take(&of(9, "b")), "another app has its own");
        budget.give(&of(1, "a"));
        assert_eq!(budget.taken(), 4);
    }

    proptest! {
        #[test]
        fn a_newcomer_finds_room_while_few_have_come(takes in proptest::collection::vec(0_u8..8, 0..2000)) {
            let mut shares = Shares::new(1024, usize::MAX);
            for key in &takes {
                let _ = shares.take(key);
            }
            prop_assert!(shares.take(&200), "eight others cannot use up 1,024 units");
        }

        #[test]
        fn what_is_given_back_is_free_again(keys in proptest::collection::vec(0_u8..4, 0..200)) {
            let mut shares = Shares::new(64, 20);
            let taken: Vec<_> = keys.iter().filter(|key| shares.take(key)).collect();
            prop_assert_eq!(taken.len(), shares.taken());
            taken.iter().for_each(|key| shares.give(key));
            prop_assert_eq!(shares.taken(), 0);
            prop_assert!(shares.each.is_empty());
        }
    }
}
