//! Which object's event is delivered next: one at a time for each object, a few at a time for each host, so that a host
//! that hangs does not delay the others. Pure; takes the time.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

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
    queued: HashSet<ObjectId>,
    /// Waiting until a time, in milliseconds since 1970.
    later: BTreeSet<(u64, ObjectId)>,
    later_of: HashMap<ObjectId, u64>,
    /// In delivery, with the host and the app.
    telling: HashMap<ObjectId, (String, AppName)>,
    /// Woken during their delivery.
    again: HashSet<ObjectId>,
    hosts: HashMap<String, Share>,
    apps: HashMap<AppName, Share>,
}

/// What one host or app has of the deliveries.
#[derive(Debug, Default)]
struct Share {
    telling: usize,
    parked: VecDeque<ObjectId>,
}

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
        let object = self.ready.pop_front()?;
        self.queued.remove(&object);
        Some(object)
    }

    /// The time of the first waiting object.
    pub(super) fn next_due_ms(&self) -> Option<u64> {
        self.later.first().map(|(at, _)| *at)
    }

    /// Whether the object's event may be delivered now. If not, the object comes again by itself.
    pub(super) fn begin(&mut self, object: ObjectId, url: &str, app: &AppName) -> bool {
        let host = host_of(url);
        let to_host = self.hosts.entry(host.clone()).or_default();
        let of_app = self.apps.entry(app.clone()).or_default();
        let full = match (to_host.telling >= MAX_TELLING_TO_HOST, of_app.telling >= MAX_TELLING_OF_APP) {
            (true, _) => Some(&mut *to_host),
            (false, true) => Some(&mut *of_app),
            (false, false) => None,
        };
        if let Some(full) = full {
            if self.queued.insert(object) {
                full.parked.push_back(object);
            }
            // What is parked at one of them keeps no entry of the other.
            self.tidy(&host, app);
            return false;
        }
        to_host.telling += 1;
        of_app.telling += 1;
        self.telling.insert(object, (host, app.clone()));
        true
    }

    /// The object was looked at, or its delivery has ended.
    pub(super) fn done(&mut self, object: ObjectId, step: Step) {
        if let Some((host, app)) = self.telling.remove(&object) {
            self.leave(&host, &app);
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

    fn leave(&mut self, host: &str, app: &AppName) {
        let shares = [self.hosts.get_mut(host), self.apps.get_mut(app)];
        for share in shares.into_iter().flatten() {
            share.telling -= 1;
            self.ready.extend(share.parked.pop_front());
        }
        self.tidy(host, app);
    }

    fn tidy(&mut self, host: &str, app: &AppName) {
        if self.hosts.get(host).is_some_and(Share::is_unused) {
            self.hosts.remove(host);
        }
        if self.apps.get(app).is_some_and(Share::is_unused) {
            self.apps.remove(app);
        }
    }
}

impl Share {
    fn is_unused(&self) -> bool {
        self.telling == 0 && self.parked.is_empty()
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
        assert!(queue.hosts.is_empty() && queue.queued.is_empty());
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
}
