//! The images that nodes are to hold: those of all apps' current versions, and of versions that are being deployed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use berth_common::image::{Architecture, Digest};
use berth_common::spec::{AppSpec, ImageRef};
use tokio::sync::watch;

use crate::apps::Apps;

/// Images, with the architectures that each is built for.
pub(crate) type MadeFor = BTreeMap<Digest, BTreeSet<Architecture>>;

/// The wanted images.
#[derive(Debug, Default)]
pub(crate) struct WantedImages {
    state: Mutex<State>,
    all: watch::Sender<Arc<MadeFor>>,
}

#[derive(Debug, Default)]
struct State {
    current: MadeFor,
    /// By the number of the deployment.
    pending: BTreeMap<u64, Vec<ImageRef>>,
    next: u64,
}

impl WantedImages {
    /// The images of the current versions of all apps.
    pub(crate) fn of(apps: &Apps) -> Self {
        let state = State { current: current(apps), ..State::default() };
        let all = watch::Sender::new(Arc::new(state.current.clone()));
        Self { state: Mutex::new(state), all }
    }

    /// The wanted images, and their changes.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<MadeFor>> {
        self.all.subscribe()
    }

    /// Follows the apps for as long as it is polled. Always true.
    pub(crate) async fn follow(&self, apps: &Apps) -> bool {
        let mut published = apps.published();
        loop {
            self.renew(apps);
            if published.changed().await.is_err() {
                return true;
            }
        }
    }

    /// Takes the images of the current versions over.
    pub(crate) fn renew(&self, apps: &Apps) {
        self.change(|state| state.current = current(apps));
    }

    /// Adds these images, until the result is dropped.
    pub(crate) fn add(self: &Arc<Self>, images: Vec<ImageRef>) -> Pending {
        let mut number = 0;
        self.change(|state| {
            number = state.next;
            state.next += 1;
            state.pending.insert(number, images);
        });
        Pending { wanted: Arc::clone(self), number }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        let mut all = state.current.clone();
        for image in state.pending.values().flatten() {
            add(&mut all, image);
        }
        // Sent under the lock, so that the newest state is sent last.
        self.all.send_if_modified(|known| {
            let changed = **known != all;
            *known = Arc::new(all);
            changed
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Images that a deployment waits for.
#[derive(Debug)]
pub(crate) struct Pending {
    wanted: Arc<WantedImages>,
    number: u64,
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.wanted.change(|state| drop(state.pending.remove(&self.number)));
    }
}

/// The images of an app.
pub(crate) fn images_of(app: &AppSpec) -> Vec<ImageRef> {
    app.classes.values().map(|class| class.recipe.image.clone()).collect()
}

fn current(apps: &Apps) -> MadeFor {
    let mut wanted = MadeFor::new();
    for app in apps.all() {
        images_of(&app.current().spec).iter().for_each(|image| add(&mut wanted, image));
    }
    wanted
}

fn add(wanted: &mut MadeFor, image: &ImageRef) {
    wanted.entry(image.digest).or_default().extend(&image.architectures);
}
