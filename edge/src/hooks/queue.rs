//! Which object's event is delivered next: one at a time for each object, a few at a time for each host, so that a host
//! that hangs does not delay the others. Pure; takes the time.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::ops::Bound;

use berth_common::ids::{AppName, ObjectId};
use http::Uri;

/// Most events that are delivered at once.
const MAX_TELLING: usize = 256;
/// Most of these to one host.
const MAX_TELLING_TO_HOST: usize = 16;
/// Most of these of one app, whatever hosts it names.
const MAX_TELLING_OF_APP: usize = 64;

/// When to look at an object again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Nothing,
    Look,
    At(u64),
}

/// The objects with events to deliver.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Ready to be looked at.
    ready: VecDeque<ObjectId>,
    /// All of these, and all parked ones.
    queued: HashSet<ObjectId>,
    /// Waiting until a time, in milliseconds since 1970.
    later: BTreeSet<(u64, ObjectId)>,
    later_of: HashMap<ObjectId, u64>,
    /// In delivery.
    telling: HashMap<ObjectId, Shares>,
    /// Woken during their delivery.
    again: HashSet<ObjectId>,
    /// How many are delivered to each host, and of each app.
    hosts: HashMap<String, usize>,
    apps: HashMap<AppName, usize>,
    /// Beyond a share: what waits for the same two is in one line.
    parked: BTreeMap<Shares, VecDeque<ObjectId>>,
    /// The line whose turn was last: that of the next comes next.
    last: Option<Shares>,
    /// Whether a parked one may find room: since this was last seen not to be so, a delivery has ended.
    freed: bool,
}

/// What a delivery takes part of: its host's share, and its app's.
type Shares = (String, AppName);

impl Queue {
    /// These objects have new events.
    pub(super) fn add(&mut self, objects: impl IntoIterator<Item = ObjectId>) {
        for object in objects {
            // An object that waits for a retry keeps its time: new events come after the failed one.
            if self.telling.contains_key(&object) {
                self.again.insert(object);
            } else if !self.later_of.contains_key(&object) {
                self.enqueue(object);
            }
        }
    }

    /// The next object to look at. The caller reports the outcome with `begin` or `done`.
    pub(super) fn next(&mut self, now_ms: u64) -> Option<ObjectId> {
        while let Some((at, object)) = self.later.first().copied().filter(|(at, _)| *at <= now_ms) {
            self.later.remove(&(at, object));
            self.later_of.remove(&object);
            self.enqueue(object);
        }
        if self.telling.len() >= MAX_TELLING {
            return None;
        }
        let object = self.next_parked().or_else(|| self.ready.pop_front())?;
        self.queued.remove(&object);
        Some(object)
    }

    /// The time of the first waiting object.
    pub(super) fn next_due_ms(&self) -> Option<u64> {
        self.later.first().map(|(at, _)| *at)
    }

    /// Whether the object's event may be delivered now. If not, the object comes again by itself.
    pub(super) fn begin(&mut self, object: ObjectId, url: &str, app: &AppName) -> bool {
        let shares = (host_of(url), app.clone());
        if !self.has_room(&shares) {
            if self.queued.insert(object) {
                self.parked.entry(shares).or_default().push_back(object);
            }
            return false;
        }
        *self.hosts.entry(shares.0.clone()).or_default() += 1;
        *self.apps.entry(shares.1.clone()).or_default() += 1;
        self.telling.insert(object, shares);
        true
    }

    /// The object was looked at, or its delivery has ended.
    pub(super) fn done(&mut self, object: ObjectId, step: Step) {
        if let Some((host, app)) = self.telling.remove(&object) {
            leave(&mut self.hosts, &host);
            leave(&mut self.apps, &app);
            self.freed = true;
        }
        let again = self.again.remove(&object);
        match step {
            Step::At(ms) => {
                self.later.insert((ms, object));
                self.later_of.insert(object, ms);
            }
            Step::Look => self.enqueue(object),
            Step::Nothing if again => self.enqueue(object),
            Step::Nothing => {}
        }
    }

    fn enqueue(&mut self, object: ObjectId) {
        if self.queued.insert(object) {
            self.ready.push_back(object);
        }
    }

    fn has_room(&self, (host, app): &Shares) -> bool {
        self.hosts.get(host).is_none_or(|&telling| telling < MAX_TELLING_TO_HOST)
            && self.apps.get(app).is_none_or(|&telling| telling < MAX_TELLING_OF_APP)
    }

    /// The parked object whose turn it is, if one has room. It need not take it (its event may have been deleted): then
    /// the next one has it.
    fn next_parked(&mut self) -> Option<ObjectId> {
        if !self.freed {
            return None;
        }
        let from = self.last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut lines = self.parked.range::<Shares, _>((from, Bound::Unbounded)).chain(&self.parked);
        let shares = lines.find(|(shares, _)| self.has_room(shares)).map(|(shares, _)| shares.clone());
        self.freed = shares.is_some();
        let shares = shares?;
        let line = self.parked.get_mut(&shares)?;
        let object = line.pop_front();
        if line.is_empty() {
            self.parked.remove(&shares);
        }
        self.last = Some(shares);
        object
    }
}

/// One delivery less takes part of a share.
fn leave<K: Eq + Hash>(shares: &mut HashMap<K, usize>, of: &K) {
    if let Some(telling) = shares.get_mut(of) {
        *telling -= 1;
        if *telling == 0 {
            shares.remove(of);
        }
    }
}

/// The host of a URL, with its port; the URL itself if it has none.
fn host_of(url: &str) -> String {
    let uri: Option<Uri> = url.parse().ok();
    uri.and_then(|uri| uri.authority().map(ToString::to_string)).unwrap_or_else(|| url.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(name: &str) -> AppName {
        name.parse().unwrap()
    }

    fn object(n: u8) -> ObjectId {
        ObjectId::from_bytes([n; 16])
    }

    #[test]
    fn an_object_has_one_delivery_at_a_time_and_is_looked_at_again_when_woken_during_it() {
        let mut queue = Queue::default();
        queue.add([object(1), object(1)]);
        assert_eq!(queue.next(0), Some(object(1)));
        assert!(queue.begin(object(1), "https://a/x", &app("a")));
        queue.add([object(1)]);
        assert_eq!(queue.next(0), None);
        queue.done(object(1), Step::Look);
        assert_eq!((queue.next(0), queue.next(0)), (Some(object(1)), None));
        queue.done(object(1), Step::Nothing);
        assert_eq!(queue.next(0), None);
        assert!(queue.hosts.is_empty() && queue.queued.is_empty() && queue.parked.is_empty());
    }

    #[test]
    fn a_retry_keeps_its_time_when_the_object_is_woken() {
        let mut queue = Queue::default();
        queue.done(object(1), Step::At(100));
        queue.add([object(1)]);
        assert_eq!((queue.next(99), queue.next_due_ms()), (None, Some(100)));
        assert_eq!((queue.next(100), queue.next_due_ms()), (Some(object(1)), None));
    }

    #[test]
    fn a_host_that_hangs_delays_only_its_own() {
        let mut queue = Queue::default();
        let most = u8::try_from(MAX_TELLING_TO_HOST).unwrap();
        queue.add((0..=most).map(object));
        for n in 0..most {
            assert_eq!(queue.next(0), Some(object(n)));
            assert!(queue.begin(object(n), "https://hangs/x", &app("a")));
        }
        assert_eq!(queue.next(0), Some(object(most)));
        assert!(!queue.begin(object(most), "https://hangs/y", &app("a")));
        queue.add([object(most), object(200)]);
        assert_eq!(queue.next(0), Some(object(200)));
        assert!(queue.begin(object(200), "https://works/", &app("a")));
        assert_eq!(queue.next(0), None);
        queue.done(object(0), Step::Nothing);
        assert_eq!(queue.next(0), Some(object(most)));
        assert!(queue.begin(object(most), "https://hangs/y", &app("a")));
    }

    #[test]
    fn an_app_with_many_hosts_leaves_room_for_others() {
        let mut queue = Queue::default();
        let most = u8::try_from(MAX_TELLING_OF_APP).unwrap();
        queue.add((0..=most).map(object));
        for n in 0..most {
            assert_eq!(queue.next(0), Some(object(n)));
            assert!(queue.begin(object(n), &format!("https://host-{n}/"), &app("greedy")));
        }
        assert_eq!(queue.next(0), Some(object(most)));
        assert!(!queue.begin(object(most), "https://one-more/", &app("greedy")));
        queue.add([object(200)]);
        assert_eq!(queue.next(0), Some(object(200)));
        assert!(queue.begin(object(200), "https://works/", &app("other")));
        queue.done(object(0), Step::Nothing);
        assert_eq!(queue.next(0), Some(object(most)), "it comes again by itself");
        assert!(queue.begin(object(most), "https://one-more/", &app("greedy")));
        (1..=most).chain([200]).for_each(|n| queue.done(object(n), Step::Nothing));
        assert!(queue.hosts.is_empty() && queue.apps.is_empty() && queue.telling.is_empty());
    }

    /// Has these objects looked at. Returns how many deliveries have begun.
    fn begin(queue: &mut Queue, objects: impl IntoIterator<Item = u8>, host: &str, of: &str) -> usize {
        let url = format!("https://{host}/");
        let begins = |n: u8| {
            queue.add([object(n)]);
            assert_eq!(queue.next(0), Some(object(n)));
            queue.begin(object(n), &url, &app(of))
        };
        objects.into_iter().map(begins).filter(|begun| *begun).count()
    }

    /// Their events were deleted while they were parked, before others at the same host.
    #[test]
    fn a_slot_that_a_woken_object_does_not_take_is_passed_on() {
        let mut queue = Queue::default();
        assert_eq!(begin(&mut queue, 0..60, "slow", "gone"), MAX_TELLING_TO_HOST);
        assert_eq!(begin(&mut queue, 60..62, "slow", "other"), 0);
        queue.done(object(0), Step::Nothing);
        let mut looked_at = 0;
        while let Some(next) = queue.next(0) {
            looked_at += 1;
            if next < object(60) {
                queue.done(next, Step::Nothing);
            } else {
                assert!(queue.begin(next, "https://slow/", &app("other")));
            }
        }
        // Both apps have lines at the host, and each its turn.
        assert_eq!((looked_at, queue.telling.contains_key(&object(60))), (2, true));
        (1..16).for_each(|n| queue.done(object(n), Step::Nothing));
        (16..60).for_each(|_| {
            let next = queue.next(0).unwrap();
            queue.done(next, Step::Nothing);
        });
        assert_eq!(queue.next(0), None);
    }

    /// The app's share is used up at other hosts: what it has parked holds up no other app at this one.
    #[test]
    fn who_waits_for_an_app_leaves_the_host_to_others() {
        let mut queue = Queue::default();
        assert_eq!(begin(&mut queue, 0..16, "slow", "other"), MAX_TELLING_TO_HOST);
        assert_eq!(begin(&mut queue, 100..120, "slow", "greedy"), 0);
        for n in 20..84 {
            assert_eq!(begin(&mut queue, [n], &format!("host-{n}"), "greedy"), 1);
        }
        assert_eq!(begin(&mut queue, [200], "slow", "other"), 0);
        queue.done(object(0), Step::Nothing);
        assert_eq!(queue.next(0), Some(object(200)), "the slot is for whoever can take it");
        assert!(queue.begin(object(200), "https://slow/", &app("other")));
        queue.done(object(1), Step::Nothing);
        assert_eq!(queue.next(0), None);
        queue.done(object(20), Step::Nothing);
        assert_eq!(queue.next(0), Some(object(100)));
        assert!(queue.begin(object(100), "https://slow/", &app("greedy")));
        assert_eq!(queue.next(0), None);
    }
}
