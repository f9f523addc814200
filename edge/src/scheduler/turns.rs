//! Which objects' actions run, so that no app takes all there is: each has a share, and what is due beyond it waits behind
//! the app's own actions, and before nobody else's. Pure.

use std::collections::{HashMap, HashSet, VecDeque};

use berth_common::ids::{AppName, ObjectId};

/// Most actions that run at once, each of another object.
const MAX_DOING: usize = 256;
/// Most of these of one app: four apps with any amount of due work leave each other their share.
const MAX_DOING_OF_APP: usize = 64;
/// Most objects that wait for their app's share. Beyond that nothing more is looked at, and due work of other apps waits
/// behind them.
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
    /// How many have an alarm that has begun and goes on, which takes nobody's share.
    begun: usize,
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
        if self.running_of(app) < MAX_DOING_OF_APP && !self.parked.contains_key(app) {
            self.begin(object, app.clone());
            return Turn::Begins;
        }
        if self.known.len() - self.doing.len() - self.begun >= MAX_PARKED {
            return Turn::Full;
        }
        self.known.insert(object);
        self.parked.entry(app.clone()).or_default().push_back(object);
        Turn::Parked
    }

    /// The object that has waited longest, of the app with the fewest actions, if there is room. Whether its work is still
    /// due has to be looked up: it begins then, or is forgotten.
    pub(super) fn next_parked(&mut self) -> Option<(ObjectId, AppName)> {
        if self.room() == 0 {
            return None;
        }
        let fewest = self.parked.keys().min_by_key(|app| self.running_of(app))?;
        let app = Some(fewest).filter(|app| self.running_of(app) < MAX_DOING_OF_APP)?.clone();
        let parked = self.parked.get_mut(&app)?;
        let object = parked.pop_front()?;
        if parked.is_empty() {
            self.parked.remove(&app);
        }
        Some((object, app))
    }

    /// An object's action begins.
    pub(super) fn begin(&mut self, object: ObjectId, app: AppName) {
        self.known.insert(object);
        *self.running.entry(app.clone()).or_default() += 1;
        self.doing.insert(object, app);
    }

    /// A parked object has no work any more, or it is not known: it is found again when it has.
    pub(super) fn forget(&mut self, object: ObjectId) {
        self.known.remove(&object);
    }

    /// An object's alarm has begun: others may begin in its place, but nothing of this object.
    pub(super) fn begun(&mut self, object: ObjectId) {
        self.done(object);
        self.known.insert(object);
        self.begun += 1;
    }

    /// An alarm that had begun has ended.
    pub(super) fn ended(&mut self, object: ObjectId) {
        self.begun -= 1;
        self.known.remove(&object);
    }

    /// An object's action has ended.
    pub(super) fn done(&mut self, object: ObjectId) {
        let Some(app) = self.doing.remove(&object) else { return };
        self.known.remove(&object);
        match self.running_of(&app) {
            0 | 1 => self.running.remove(&app),
            running => self.running.insert(app, running - 1),
        };
    }

    fn running_of(&self, app: &AppName) -> usize {
        self.running.get(app).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(n: usize) -> ObjectId {
        ObjectId::from_bytes(u128::try_from(n).unwrap().to_be_bytes())
    }

    #[test]
    fn an_alarm_that_goes_on_takes_no_share_and_its_object_has_its_turn_when_it_ends() {
        let (mut turns, app) = (Turns::default(), "a".parse().unwrap());
        for n in 0..10 * MAX_DOING {
            assert_eq!(turns.due(object(n), &app), Turn::Begins);
            turns.begun(object(n));
        }
        assert!(turns.room() == MAX_DOING && turns.known().contains(&object(0)));
        turns.ended(object(0));
        assert!(!turns.known().contains(&object(0)));
        assert_eq!(turns.due(object(0), &app), Turn::Begins);
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
        assert_eq!(turns.next_parked(), None);
        // What comes now is behind those that wait, and of these the first comes first.
        turns.done(object(0));
        assert_eq!(turns.due(object(1_000), &greedy), Turn::Parked);
        assert_eq!(turns.next_parked(), Some((object(MAX_DOING_OF_APP), greedy.clone())));
        turns.begin(object(MAX_DOING_OF_APP), greedy);
        assert_eq!(turns.next_parked(), None);
    }

    #[test]
    fn room_is_for_the_apps_with_the_fewest_actions() {
        let mut turns = Turns::default();
        let apps = ["a", "b", "c", "d", "e"].map(|app| app.parse().unwrap());
        let of = |app: usize, n: usize| object(app * 1_000 + n);
        for (n, app) in apps[..4].iter().enumerate() {
            (0..MAX_DOING_OF_APP).for_each(|m| assert_eq!(turns.due(of(n, m), app), Turn::Begins));
            let beyond = turns.due(of(n, MAX_DOING_OF_APP), app);
            assert_eq!(beyond, if n < 3 { Turn::Parked } else { Turn::Full });
        }
        turns.done(of(0, 0));
        assert_eq!((turns.due(of(4, 0), &apps[4]), turns.next_parked()), (Turn::Begins, None));
        [of(2, 0), of(1, 0), of(1, 1)].into_iter().for_each(|ended| turns.done(ended));
        assert_eq!(turns.next_parked(), Some((of(1, MAX_DOING_OF_APP), apps[1].clone())));
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

    /// As after a removal of their app, and while its last action goes on.
    #[test]
    fn parked_objects_whose_work_is_gone_are_forgotten() {
        let (mut turns, removed) = (Turns::default(), "removed".parse().unwrap());
        for n in 0..MAX_DOING_OF_APP + 8_000 {
            assert_ne!(turns.due(object(n), &removed), Turn::Full);
        }
        turns.done(object(0));
        while let Some((gone, _)) = turns.next_parked() {
            turns.forget(gone);
        }
        assert_eq!(turns.known().len(), MAX_DOING_OF_APP - 1);
        assert!(turns.parked.is_empty());
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
