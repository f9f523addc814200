//! Demands that wait for their turn: those that somebody waits for before the others, and of each kind one of each app by turns, in the
//! order in which they came. So an app with a thousand that wait holds up no other.
//!
//! ```text
//! app a:  1   2   3   4        rounds: an app's next demand is one round behind its last, and no earlier than the first that waits
//! app b:          3   4
//! ```

use std::collections::{BTreeMap, HashMap};

use berth_common::ids::{AppName, ObjectId};

use super::demand::Demand;

/// Demands of each kind that wait at most. As many as the objects of a large cluster's lost nodes; each takes about a kilobyte. An app
/// has as much of it as is still free.
const MAX_WAITING: usize = 10_000;
/// Demands that are unlike each other and that one pass may find no place for; those behind them wait for the next change. So a
/// pass takes little time however many wait.
const MAX_UNLIKE: usize = 64;
/// Of those, so many of one app: further ones of it are passed over.
const MAX_UNLIKE_OF_APP: usize = 8;

/// Whether nobody waits for it, its round, and when it came.
type Place = (bool, u64, u64);

/// What waits of one app.
#[derive(Debug, Default)]
struct Share {
    waiting: usize,
    /// The round of its last.
    round: u64,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: BTreeMap<Place, Demand>,
    places: HashMap<ObjectId, Place>,
    /// By whether nobody waits for it.
    shares: [HashMap<AppName, Share>; 2],
    /// How many of each kind.
    counts: [usize; 2],
    last: u64,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Appends a demand, in place of an earlier one of its object. False if there is no room for it.
    pub(super) fn push(&mut self, demand: Demand) -> bool {
        self.remove(demand.object);
        let (kind, first) = (usize::from(demand.is_patient), self.first_round(demand.is_patient));
        let free = MAX_WAITING - self.counts[kind];
        let own = self.shares[kind].get(&demand.class.0).map_or(0, |share| share.waiting);
        if own >= free {
            return false;
        }
        let share = self.shares[kind].entry(demand.class.0.clone()).or_default();
        share.round = if share.waiting == 0 { first } else { first.max(share.round + 1) };
        share.waiting += 1;
        self.counts[kind] += 1;
        self.last += 1;
        let place = (demand.is_patient, share.round, self.last);
        self.places.insert(demand.object, place);
        self.waiting.insert(place, demand);
        true
    }

    /// That of the first of a kind.
    fn first_round(&self, is_patient: bool) -> u64 {
        let mut of_kind = self.waiting.range((is_patient, 0, 0)..=(is_patient, u64::MAX, u64::MAX));
        of_kind.next().map_or(0, |((_, round, _), _)| *round)
    }

    pub(super) fn remove(&mut self, object: ObjectId) -> Option<Demand> {
        let place = self.places.remove(&object)?;
        let demand = self.waiting.remove(&place)?;
        let kind = usize::from(demand.is_patient);
        self.counts[kind] -= 1;
        if let Some(share) = self.shares[kind].get_mut(&demand.class.0) {
            share.waiting -= 1;
            if share.waiting == 0 {
                self.shares[kind].remove(&demand.class.0);
            }
        }
        Some(demand)
    }

    /// Offers the demands a place, in their order. `offer` is not asked about one that is like another which has got none.
    /// Those that it answers leave.
    pub(super) fn pass<T>(&mut self, mut offer: impl FnMut(&Demand) -> Option<T>) -> Vec<(Demand, T)> {
        let mut answered = Vec::new();
        let (mut without, mut count) = (HashMap::<&AppName, Vec<&Demand>>::new(), 0);
        for demand in self.waiting.values() {
            let own = without.entry(&demand.class.0).or_default();
            if own.len() >= MAX_UNLIKE_OF_APP || own.iter().any(|other| demand.is_like(other)) {
                continue;
            }
            match offer(demand) {
                Some(answer) => answered.push((demand.object, answer)),
                None => {
                    own.push(demand);
                    count += 1;
                }
            }
            if count >= MAX_UNLIKE {
                break;
            }
        }
        let taken = |(object, answer)| self.remove(object).map(|demand| (demand, answer));
        answered.into_iter().filter_map(taken).collect()
    }
}
