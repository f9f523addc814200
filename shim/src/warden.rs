//! The supervisor's guard over terms: freezes the containers of an edge whose term is over. It needs no agent for that: it
//! watches the page itself. Thawing is not its business.
//!
//! ```text
//! in term ──the clock reaches `until`, whatever the agent does──▶ over: the edge's containers are frozen, once
//!    ▲                                                               │
//!    └────────────the page says a later `until`──────────────────────┘  (what is frozen stays frozen: a shim thaws it)
//! ```
//!
//! What fails, and what happens then:
//! * A container does not freeze in time: it is killed.
//! * The supervisor is stopped: the shims freeze their containers themselves, a little later.
//! * It goes on after that, and freezes what was thawed meanwhile: the shim sees that, and has it told to the edge.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::timerfd::TimerFd;
use serde::Deserialize;

use crate::cgroup::ControlGroup;
use crate::layout::Layout;
use crate::messages::ShimSetup;
use crate::state_files::read_json;
use crate::terms::{self, FREEZE_TIMEOUT, Slot, Terms};

/// The part of `launch.json` that is needed here.
#[derive(Debug, Deserialize)]
struct Launched {
    #[serde(default)]
    term_slot: Option<Slot>,
}

/// Watches the page of terms.
pub(crate) struct Warden {
    terms: Terms,
    /// The same page, for shims, which only read it.
    shared: OwnedFd,
    /// Readable when the page was written.
    changes: Inotify,
    /// Set to the first end of a term.
    timer: TimerFd,
    /// The end of each slot's term that was carried out last.
    carried_out: BTreeMap<Slot, u64>,
}

impl Warden {
    pub(crate) fn open(layout: &Layout) -> io::Result<Self> {
        let path = layout.terms();
        let terms = Terms::open(&path)?;
        let changes = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        changes.add_watch(&path, AddWatchFlags::IN_MODIFY)?;
        let shared = OwnedFd::from(File::open(&path)?);
        Ok(Self { terms, shared, changes, timer: terms::timer()?, carried_out: BTreeMap::new() })
    }

    /// The page, for a shim.
    pub(crate) fn shared(&self) -> &OwnedFd {
        &self.shared
    }

    /// The descriptors to wait for before `over`.
    pub(crate) fn sources(&self) -> [BorrowedFd<'_>; 2] {
        [self.changes.as_fd(), self.timer.as_fd()]
    }

    /// The slots whose terms have ended since the last call. Sets the timer to the next end.
    pub(crate) fn over(&mut self) -> io::Result<Vec<Slot>> {
        while self.changes.read_events().is_ok_and(|events| !events.is_empty()) {}
        // Read so that it is not ready any more; an error says that it was not.
        let _ = self.timer.wait();
        let (mut over, mut next) = (Vec::new(), None::<u64>);
        let now_ms = terms::now_ms();
        for (slot, until_ms) in self.terms.all()? {
            if until_ms > now_ms {
                next = next.into_iter().chain([until_ms]).min();
            } else if until_ms > 0 && self.carried_out.insert(slot, until_ms) != Some(until_ms) {
                over.push(slot);
            }
        }
        next.map_or(Ok(()), |next| terms::set(&self.timer, next))?;
        Ok(over)
    }
}

/// Freezes the containers of these shims, each by its directory, whose instances are of one of these slots. What does not
/// freeze in time is killed.
pub(crate) fn freeze<'a>(slots: &[Slot], directories: impl Iterator<Item = &'a OwnedFd>) {
    let of_slots = |directory: &OwnedFd| group_of(slots, directory);
    let groups: Vec<ControlGroup> =
        directories.filter_map(of_slots).map(|path| ControlGroup::load(&path)).collect();
    tracing::warn!(
        containers = groups.len(),
        "a term is over: containers pause until their edge is heard again"
    );
    for group in &groups {
        if let Err(error) = group.freeze() {
            tracing::error!(%error, "cannot freeze a container");
        }
    }
    let deadline = Instant::now() + FREEZE_TIMEOUT;
    for group in groups.iter().filter(|group| !group.freezes_until(deadline)) {
        tracing::error!("a container does not freeze, and is killed");
        group.kill();
    }
}

/// The group of a shim's container, if that is an instance of one of these slots.
fn group_of(slots: &[Slot], directory: &OwnedFd) -> Option<PathBuf> {
    let file = |name: &str| PathBuf::from(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()));
    let launched: Launched = read(&file("launch.json"))?;
    launched.term_slot.filter(|slot| slots.contains(slot))?;
    read::<ShimSetup>(&file("spare.json")).map(|setup| setup.cgroup)
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    read_json(path).ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_term_is_carried_out_once_and_so_is_that_of_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::open(directory.path().join("state")).unwrap();
        let mut warden = Warden::open(&layout).unwrap();
        let agent = Terms::open(&layout.terms()).unwrap();
        let [one, other] =
            ["one", "other"].map(|edge| agent.slot_of(&edge.parse().unwrap()).unwrap().unwrap());
        assert_eq!(warden.over().unwrap(), [], "nobody has given a term");
        agent.prolong(other, terms::now_ms() + 60_000).unwrap();
        agent.prolong(one, 1).unwrap();
        assert_eq!(warden.over().unwrap(), [one]);
        assert_eq!(warden.over().unwrap(), []);
        agent.prolong(one, 2).unwrap();
        assert_eq!(warden.over().unwrap(), [one]);
    }

    #[test]
    fn it_wakes_for_a_change_and_for_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::open(directory.path().join("state")).unwrap();
        let mut warden = Warden::open(&layout).unwrap();
        let agent = Terms::open(&layout.terms()).unwrap();
        let slot = agent.slot_of(&"e".parse().unwrap()).unwrap().unwrap();
        let wait = |warden: &Warden| crate::wait::wait(&warden.sources().map(Some), None).unwrap();
        agent.prolong(slot, terms::now_ms() + 200).unwrap();
        assert!(wait(&warden)[0], "the page was written");
        assert_eq!(warden.over().unwrap(), []);
        assert_eq!(wait(&warden), [false, true], "its time has come");
        assert_eq!(warden.over().unwrap(), [slot]);
    }
}
