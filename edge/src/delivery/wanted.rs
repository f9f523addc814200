//! Which images nodes are to hold: those of all apps' current versions, and those of versions that are about to be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use berth_common::image::{Architecture, Digest};
use berth_common::spec::{AppSpec, ImageRef};
use tokio::sync::watch;

use crate::apps::Apps;

/// Images, with the machines that each is made for.
pub(crate) type MadeFor = BTreeMap<Digest, BTreeSet<Architecture>>;

/// See the module.
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
    /// What the apps want now.
    pub(crate) fn of(apps: &Apps) -> Self {
        let state = State { current: current(apps), ..State::default() };
        let all = watch::Sender::new(Arc::new(state.current.clone()));
        Self { state: Mutex::new(state), all }
    }

    /// All of it, now and as it changes.
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

    /// Looks at what the apps want now.
    pub(crate) fn renew(&self, apps: &Apps) {
        self.change(|state| state.current = current(apps));
    }

    /// WantedImages these too, until what is returned is dropped.
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
        // Under the lock, so that the newest is sent last.
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
