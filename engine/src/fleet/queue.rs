//! Demands that wait for their turn: those that somebody waits for before the others, and each kind in the order in which it came.

use std::collections::{BTreeMap, HashMap};

use berth_common::ids::ObjectId;

use super::demand::Demand;

/// Demands of each kind that wait at most. As many as the objects of a large cluster's lost nodes; each takes about a kilobyte.
const MAX_WAITING: usize = 10_000;
/// Demands that are unlike each other and that one pass may find no place for; those behind them wait for the next change. So a
/// pass takes little time however many wait.
const MAX_UNLIKE: usize = 64;

/// Whether nobody waits for it, and when it came.
type Place = (bool, u64);

#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: BTreeMap<Place, Demand>,
    places: HashMap<ObjectId, Place>,
    /// How many of them nobody waits for.
    patient: usize,
    last: u64,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Appends a demand, in place of an earlier one of its object. False if there is no room for it.
    pub(super) fn push(&mut self, demand: Demand) -> bool {
        self.remove(demand.object);
        let all_of_kind = if demand.is_patient { self.patient } else { self.waiting.len() - self.patient };
        if all_of_kind >= MAX_WAITING {
            return false;
        }
        self.last += 1;
        let place = (demand.is_patient, self.last);
        self.patient += usize::from(demand.is_patient);
        self.places.insert(demand.object, place);
        self.waiting.insert(place, demand);
        true
    }

    pub(super) fn remove(&mut self, object: ObjectId) -> Option<Demand> {
        let place = self.places.remove(&object)?;
        let demand = self.waiting.remove(&place)?;
        self.patient -= usize::from(demand.is_patient);
        Some(demand)
    }

    /// Offers the demands a place, in their order. `offer` is not asked about one that is like another which has got none.
    /// Those that it answers leave.
    pub(super) fn pass<T>(&mut self, mut offer: impl FnMut(&Demand) -> Option<T>) -> Vec<(Demand, T)> {
        let mut answered = Vec::new();
        let mut without = Vec::<&Demand>::new();
        for demand in self.waiting.values() {
            if without.iter().any(|other| demand.is_like(other)) {
                continue;
            }
            match offer(demand) {
                Some(answer) => answered.push((demand.object, answer)),
                None => without.push(demand),
            }
            if without.len() >= MAX_UNLIKE {
                break;
            }
        }
        let taken = |(object, answer)| self.remove(object).map(|demand| (demand, answer));
        answered.into_iter().filter_map(taken).collect()
    }
}
