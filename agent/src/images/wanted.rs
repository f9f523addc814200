//! The wanted images of edges: fetched ahead of need, retried after failures, with their state for reports.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;
use std::time::Duration;

use berth_common::ids::EdgeId;
use berth_common::image::Digest;
use berth_common::wire::images::{ImageState, ImageStatus};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;

use super::{Failure, Images};

/// Images that are fetched ahead of need at once. Few, because starts share the network with them.
const IMAGES_AT_ONCE: usize = 2;
/// First and longest delay before a failed image is retried.
const RETRY: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));
/// How often due retries are checked.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// The wanted images and their states.
#[derive(Debug)]
pub(super) struct WantedImages {
    by_edge: RefCell<BTreeMap<EdgeId, Vec<Digest>>>,
    states: RefCell<BTreeMap<Digest, State>>,
    changed: Notify,
    /// Notifies when an image becomes ready or fails.
    settled: watch::Sender<()>,
    room: Rc<Semaphore>,
}

impl Default for WantedImages {
    fn default() -> Self {
        let room = Rc::new(Semaphore::new(IMAGES_AT_ONCE));
        let settled = watch::Sender::default();
        Self {
            by_edge: RefCell::default(),
            states: RefCell::default(),
            changed: Notify::new(),
            settled,
            room,
        }
    }
}

/// The state of a wanted image.
#[derive(Debug, Clone)]
enum State {
    /// Being fetched, or about to be.
    Fetching,
    Ready,
    /// Without a message if the failure is transient: it is reported as still fetching.
    Failed {
        tries: u32,
        message: Option<String>,
        again: Instant,
    },
}

impl WantedImages {
    /// The wanted images of all edges.
    pub(super) fn all(&self) -> HashSet<Digest> {
        self.by_edge.borrow().values().flatten().copied().collect()
    }

    /// Takes the images whose fetch is due now, with the number of earlier tries.
    fn due(&self) -> Vec<(Digest, u32)> {
        let (wanted, now) = (self.all(), Instant::now());
        let mut states = self.states.borrow_mut();
        states.retain(|digest, _| wanted.contains(digest));
        let mut due = Vec::new();
        for digest in wanted {
            let tries = match states.get(&digest) {
                None => 0,
                Some(State::Failed { tries, again, .. }) if *again <= now => *tries,
                Some(_) => continue,
            };
            states.insert(digest, State::Fetching);
            due.push((digest, tries));
        }
        due
    }

    fn done(&self, digest: Digest, tries: u32, result: Result<(), Failure>) {
        let state = match result {
            Ok(()) => State::Ready,
            Err(failure) if failure.transient => {
                State::Failed { tries, message: None, again: Instant::now() + RETRY.0 }
            }
            Err(failure) => {
                let pause = RETRY.0.saturating_mul(1 << tries.min(16)).min(RETRY.1);
                let message = Some(failure.to_string());
                State::Failed { tries: tries + 1, message, again: Instant::now() + pause }
            }
        };
        self.states.borrow_mut().insert(digest, state);
        self.settled.send_replace(());
    }
}

impl Images {
    /// Replaces the wanted images of this edge.
    pub(crate) fn want(&self, edge: &EdgeId, images: Vec<Digest>) {
        self.wanted.by_edge.borrow_mut().insert(edge.clone(), images);
        // Failed images are retried at once: a user may have fixed the cause and deployed again.
        for state in self.wanted.states.borrow_mut().values_mut() {
            if let State::Failed { again, .. } = state {
                *again = Instant::now();
            }
        }
        self.wanted.changed.notify_one();
        self.look.notify_one();
    }

    /// Notifies whenever a wanted image becomes ready or fails.
    pub(crate) fn settled(&self) -> watch::Receiver<()> {
        self.wanted.settled.subscribe()
    }

    /// The states of an edge's wanted images.
    pub(crate) fn statuses(&self, edge: &EdgeId) -> Vec<ImageStatus> {
        let by_edge = self.wanted.by_edge.borrow();
        let wanted = by_edge.get(edge).map_or(&[][..], Vec::as_slice);
        wanted.iter().map(|image| ImageStatus { image: *image, state: self.state(image) }).collect()
    }

    fn state(&self, image: &Digest) -> ImageState {
        match self.wanted.states.borrow().get(image) {
            Some(State::Ready) => ImageState::Ready,
            Some(State::Failed { message: Some(message), .. }) => {
                ImageState::Failed { message: message.clone() }
            }
            _ => {
                let bytes = self.progress.borrow().get(image).map(|progress| progress.bytes());
                let (done_bytes, total_bytes) = bytes.unwrap_or_default();
                ImageState::Fetching { done_bytes, total_bytes }
            }
        }
    }

    /// Fetches wanted images, for as long as the agent lives.
    pub(super) async fn fetch_wanted(self: Rc<Self>) {
        loop {
            for (digest, tries) in self.wanted.due() {
                let (images, room) = (Rc::clone(&self), Rc::clone(&self.wanted.room));
                tokio::task::spawn_local(async move {
                    // Never closed.
                    let _room = room.acquire().await;
                    let fetched = images.fetch(digest).await.map(drop);
                    images.wanted.done(digest, tries, fetched);
                });
            }
            let _ = tokio::time::timeout(CHECK_EVERY, self.wanted.changed.notified()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn failures_are_retried_with_backoff_and_unwanted_images_are_forgotten() {
        let images = WantedImages::default();
        let image = Digest::of(b"x");
        images.by_edge.borrow_mut().insert("e".parse().unwrap(), vec![image]);
        assert_eq!(images.due(), [(image, 0)]);
        assert!(images.due().is_empty());
        images.done(image, 0, Err(Failure::permanent("no")));
        assert!(images.due().is_empty());
        tokio::time::advance(RETRY.0).await;
        assert_eq!(images.due(), [(image, 1)]);
        images.done(image, 1, Err(Failure::permanent("no")));
        tokio::time::advance(RETRY.0).await;
        assert!(images.due().is_empty());
        tokio::time::advance(RETRY.0).await;
        assert_eq!(images.due(), [(image, 2)]);
        images.done(image, 2, Ok(()));
        images.by_edge.borrow_mut().clear();
        assert!(images.due().is_empty() && images.states.borrow().is_empty());
    }
}
