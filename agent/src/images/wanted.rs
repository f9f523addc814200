//! What edges want held: fetched ahead of need, tried again where it failed, and told how far it is.

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

/// Images that are fetched ahead of need at once: starts come first, and share the link with them.
const IMAGES_AT_ONCE: usize = 2;
/// First and longest pause before an image is tried again that could not be had.
const RETRY: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));
/// How often it is looked whether something is due to be tried again.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is wanted, and what has become of it.
#[derive(Debug)]
pub(super) struct WantedImages {
    by: RefCell<BTreeMap<EdgeId, Vec<Digest>>>,
    held: RefCell<BTreeMap<Digest, Held>>,
    changed: Notify,
    /// Tells of each image that is there now, or cannot be had.
    settled: watch::Sender<()>,
    room: Rc<Semaphore>,
}

impl Default for WantedImages {
    fn default() -> Self {
        let room = Rc::new(Semaphore::new(IMAGES_AT_ONCE));
        let settled = watch::Sender::default();
        Self { by: RefCell::default(), held: RefCell::default(), changed: Notify::new(), settled, room }
    }
}

/// What has become of an image that is wanted.
#[derive(Debug, Clone)]
enum Held {
    /// On its way, or about to be.
    Coming,
    Ready,
    /// Without a message where it passes by itself: for whoever asks it is on its way.
    Failed {
        tries: u32,
        message: Option<String>,
        again: Instant,
    },
}

impl WantedImages {
    /// All that is wanted by anybody.
    pub(super) fn all(&self) -> HashSet<Digest> {
        self.by.borrow().values().flatten().copied().collect()
    }

    /// Takes those that are to be begun now.
    fn due(&self) -> Vec<(Digest, u32)> {
        let (wanted, now) = (self.all(), Instant::now());
        let mut held = self.held.borrow_mut();
        held.retain(|digest, _| wanted.contains(digest));
        let mut due = Vec::new();
        for digest in wanted {
            let tries = match held.get(&digest) {
                None => 0,
                Some(Held::Failed { tries, again, .. }) if *again <= now => *tries,
                Some(_) => continue,
            };
            held.insert(digest, Held::Coming);
            due.push((digest, tries));
        }
        due
    }

    fn done(&self, digest: Digest, tries: u32, result: Result<(), Failure>) {
        let held = match result {
            Ok(()) => Held::Ready,
            Err(failure) if failure.passing => {
                Held::Failed { tries, message: None, again: Instant::now() + RETRY.0 }
            }
            Err(failure) => {
                let pause = RETRY.0.saturating_mul(1 << tries.min(16)).min(RETRY.1);
                let message = Some(failure.to_string());
                Held::Failed { tries: tries + 1, message, again: Instant::now() + pause }
            }
        };
        self.held.borrow_mut().insert(digest, held);
        self.settled.send_replace(());
    }
}

impl Images {
    /// From now on these are held for this edge.
    pub(crate) fn want(&self, edge: &EdgeId, images: Vec<Digest>) {
        self.wanted.by.borrow_mut().insert(edge.clone(), images);
        // What failed is tried at once: it may be why it is wanted anew.
        for held in self.wanted.held.borrow_mut().values_mut() {
            if let Held::Failed { again, .. } = held {
                *again = Instant::now();
            }
        }
        self.wanted.changed.notify_one();
        self.look.notify_one();
    }

    /// Tells whenever an image that is wanted has come, or cannot be had.
    pub(crate) fn settled(&self) -> watch::Receiver<()> {
        self.wanted.settled.subscribe()
    }

    /// How far each is that an edge wants.
    pub(crate) fn statuses(&self, edge: &EdgeId) -> Vec<ImageStatus> {
        let by = self.wanted.by.borrow();
        let wanted = by.get(edge).map_or(&[][..], Vec::as_slice);
        wanted.iter().map(|image| ImageStatus { image: *image, state: self.state(image) }).collect()
    }

    fn state(&self, image: &Digest) -> ImageState {
        match self.wanted.held.borrow().get(image) {
            Some(Held::Ready) => ImageState::Ready,
            Some(Held::Failed { message: Some(message), .. }) => {
                ImageState::Failed { message: message.clone() }
            }
            _ => {
                let bytes = self.progress.borrow().get(image).map(|progress| progress.bytes());
                let (done_bytes, total_bytes) = bytes.unwrap_or_default();
                ImageState::Fetching { done_bytes, total_bytes }
            }
        }
    }

    /// Fetches what is wanted, for as long as the agent lives.
    pub(super) async fn hold_wanted(self: Rc<Self>) {
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
            let _ = tokio::time::timeout(LOOK_EVERY, self.wanted.changed.notified()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn failures_are_tried_again_later_and_later_and_what_is_unwanted_is_forgotten() {
        let images = WantedImages::default();
        let image = Digest::of(b"x");
        images.by.borrow_mut().insert("e".parse().unwrap(), vec![image]);
        assert_eq!(images.due(), [(image, 0)]);
        assert!(images.due().is_empty());
        images.done(image, 0, Err(Failure::lasting("no")));
        assert!(images.due().is_empty());
        tokio::time::advance(RETRY.0).await;
        assert_eq!(images.due(), [(image, 1)]);
        images.done(image, 1, Err(Failure::lasting("no")));
        tokio::time::advance(RETRY.0).await;
        assert!(images.due().is_empty());
        tokio::time::advance(RETRY.0).await;
        assert_eq!(images.due(), [(image, 2)]);
        images.done(image, 2, Ok(()));
        images.by.borrow_mut().clear();
        assert!(images.due().is_empty() && images.held.borrow().is_empty());
    }
}
