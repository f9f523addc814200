//! One version of an app, as all that runs it shares it: its code, its world, its process, and when that may be started again.
//! Starts nothing itself.

use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use berth_script::message::{Event, encode};

use super::backoff::Backoff;
use super::child::Child;
use super::failure::{Ended, Failure};
use super::link::{Calls, Handle};
use super::owners::Owners;
use super::{Code, Outside, Settings};

/// A version of an app.
pub(super) struct Version {
    pub(super) settings: Settings,
    pub(super) code: Arc<Code>,
    pub(super) outside: Arc<dyn Outside>,
    /// Who has which object, of all versions.
    pub(super) owners: Owners,
    /// Calls that are going on, on all threads.
    pub(super) calls: Arc<Calls>,
    state: Mutex<State>,
}

/// How it runs now.
pub(super) struct State {
    pub(super) running: Option<Running>,
    pub(super) backoff: Backoff,
    pub(super) last_call: Instant,
    /// No call begins any more.
    pub(super) retired: bool,
}

/// Its process.
pub(super) struct Running {
    pub(super) child: Arc<Child>,
    pub(super) lanes: Vec<Lane>,
}

/// A thread of the process, from the edge's side.
pub(super) enum Lane {
    /// Nothing was asked of it yet.
    Unused(UnixStream),
    Used(Handle),
}

impl State {
    /// Whether this process is the one that runs.
    pub(super) fn runs(&self, child: &Arc<Child>) -> bool {
        self.running.as_ref().is_some_and(|running| Arc::ptr_eq(&running.child, child))
    }
}

impl Version {
    pub(super) fn new(
        settings: Settings,
        code: Arc<Code>,
        outside: Arc<dyn Outside>,
        owners: Owners,
    ) -> Self {
        let state =
            State { running: None, backoff: Backoff::default(), last_call: Instant::now(), retired: false };
        Self { settings, code, outside, owners, calls: Arc::default(), state: Mutex::new(state) }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process has ended by itself, or had to be ended.
    pub(super) fn gone(&self, child: &Arc<Child>) {
        let mut state = self.state();
        if state.runs(child) {
            state.running = None;
            if child.ended() != Ended::Retired {
                state.backoff.ended(Instant::now());
            }
        }
    }

    /// An isolate is lost.
    pub(super) fn condemned(&self) {
        self.state().backoff.ended(Instant::now());
    }

    /// How long the code must not be loaded again.
    pub(super) fn wait(&self) -> Option<Duration> {
        self.state().backoff.wait(Instant::now())
    }

    /// Appends the message that has the code.
    pub(super) fn load(&self, out: &mut Vec<u8>) -> Result<(), Failure> {
        let load = Event::Load(Box::new(self.code.load.clone()));
        encode(&load, out).map_err(|error| Failure::Start(error.to_string()))
    }
}
