//! Which objects' actions run, so that no app takes all there is: each has a share, and what is due beyond it waits behind
//! the app's own actions, and before nobody else's. Pure.

use std::collections::{HashMap, HashSet, VecDeque};

use berth_common::ids::{AppName, ObjectId};

/// Most actions that run at once, each of another object.
const MAX_DOING: usize = 256;
/// Most of these of one app: four apps with any amount of due work leave each other their share.
const MAX_DOING_OF_APP: usize = 64;
/// Most objects that wait for their app's share. Beyond that due work of other apps may wait behind them: the store's index
/// is by time, and a look-up reads only so much of it.
const MAX_PARKED: usize = 8_192;

/// What becomes of an object whose work is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Its action may run.
    Begins,
    /// Its app has its share; its turn comes when one of the app's actions has ended.
    Parked,
    /// Nothing more is to be looked at now.
    Full,
}

/// The objects with running actions, and those whose turn comes later.
#[derive(Debug, Default)]
pub(super) struct Turns {
    doing: HashMap<ObjectId, AppName>,
    running: HashMap<AppName, usize>,
    parked: HashMap<AppName, VecDeque<ObjectId>>,
    /// All of these: they are not to be looked up.
    known: HashSet<ObjectId>,
}

impl Turns {
    /// How many more actions may run.
    pub(super) fn room(&self) -> usize {
        MAX_DOING.saturating_sub(self.doing.len())
    }

    /// The objects that are not to be looked up.
    pub(super) fn known(&self) -> &HashSet<ObjectId> {
        &self.known
    }

    /// An object's work is due.
    pub(super) fn due(&mut self, object: ObjectId, app: &AppName) -> Turn {
        if self.room() == 0 {
            return Turn::Full;
        }
        let running = self.running.get(app).copied().unwrap_or(0);
        if running < MAX_DOING_OF_APP {
            self.known.insert(object);
            self.doing.insert(object, app.clone());
            self.running.insert(app.clone(), running + 1);
            return Turn::Begins;
        }
        if self.known.len() - self.doing.len() >= MAX_PARKED {
            return Turn::Full;
        }
        self.known.insert(object);
        self.parked.entry(app.clone()).or_default().push_back(object);
        Turn::Parked
    }

    /// An object's action has ended. As many of its app may be looked up as there is room for in its share.
    pub(super) fn done(&mut self, object: ObjectId) {
        let Some(app) = self.doing.remove(&object) else { return };
        self.known.remove(&object);
        let running = self.running.get(&app).copied().unwrap_or(0).saturating_sub(1);
        if running == 0 {
            self.running.remove(&app);
        } else {
            self.running.insert(app.clone(), running);
        }
        let Some(parked) = self.parked.get_mut(&app) else { return };
        let share = MAX_DOING_OF_APP.saturating_sub(running).min(parked.len());
        for object in parked.drain(..share) {
            self.known.remove(&object);
        }
        if parked.is_empty() {
            self.parked.remove(&app);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(n: usize) -> ObjectId {
        ObjectId::from_bytes(u128::try_from(n).unwrap().to_be_bytes())
    }

    #[test]
    fn an_app_with_much_to_do_leaves_room_for_others() {
        let (mut turns, greedy, other) =
            (Turns::default(), "greedy".parse().unwrap(), "other".parse().unwrap());
        for n in 0..MAX_DOING_OF_APP {
            assert_eq!(turns.due(object(n), &greedy), Turn::Begins);
        }
        for n in MAX_DOING_OF_APP..1_000 {
            assert_eq!(turns.due(object(n), &greedy), Turn::Parked);
        }
        assert_eq!(turns.due(object(5_000), &other), Turn::Begins, "it need not wait for the thousand");
        // The one that has waited longest comes next.
        turns.done(object(0));
        let next = object(MAX_DOING_OF_APP);
        assert!(!turns.known().contains(&next) && turns.known().contains(&object(MAX_DOING_OF_APP + 1)));
        assert_eq!(turns.due(next, &greedy), Turn::Begins);
        assert_eq!(turns.due(object(1), &greedy), Turn::Parked);
    }

    #[test]
    fn all_together_have_a_bound_and_nothing_is_left_at_the_end() {
        let mut turns = Turns::default();
        let app = |n: usize| format!("a{}", n % 8).parse().unwrap();
        for n in 0..MAX_DOING {
            assert_eq!(turns.due(object(n), &app(n)), Turn::Begins);
        }
        assert_eq!(turns.due(object(9_999), &app(1)), Turn::Full);
        for n in 0..MAX_DOING {
            turns.done(object(n));
        }
        assert!(turns.known().is_empty() && turns.running.is_empty() && turns.room() == MAX_DOING);
    }

    #[test]
    fn so_many_wait_and_no_more() {
        let (mut turns, greedy) = (Turns::default(), "greedy".parse().unwrap());
        for n in 0..MAX_DOING_OF_APP + MAX_PARKED {
            assert_ne!(turns.due(object(n), &greedy), Turn::Full);
        }
        assert_eq!(turns.due(object(99_999), &greedy), Turn::Full);
    }
}
