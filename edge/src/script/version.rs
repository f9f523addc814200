//! One version of an app, as all that runs it shares it: its code, its world, its process, and when that may be started again.
//! Starts nothing itself.

use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use berth_script::message::{Event, encode};

use super::backoff::Backoff;
use super::child::Child;
use super::counts::Counts;
use super::failure::{Ended, Failure};
use super::link::{Calls, Handle, Lease};
use super::owners::Owners;
use super::{Code, Outside, Settings};

/// A version of an app.
pub(super) struct Version {
    pub(super) settings: Settings,
    pub(super) code: Arc<Code>,
    pub(super) outside: Arc<dyn Outside>,
    /// Who has which object, of all versions.
    pub(super) owners: Owners,
    pub(super) counts: Arc<Counts>,
    /// Calls that are going on, on all threads.
    pub(super) calls: Arc<Calls>,
    /// Threads whose bodies wait for room.
    waiting: AtomicUsize,
    serve: Serve,
    state: Mutex<State>,
}

/// Has a thread's socket served, on the runtime of the caller.
pub(super) type Serve = fn(UnixStream, usize, Arc<Version>, Arc<Child>) -> std::io::Result<Handle>;

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
        counts: Arc<Counts>,
        serve: Serve,
    ) -> Self {
        let state =
            State { running: None, backoff: Backoff::default(), last_call: Instant::now(), retired: false };
        Self {
            settings,
            code,
            outside,
            owners,
            counts,
            calls: Arc::default(),
            waiting: AtomicUsize::new(0),
            serve,
            state: Mutex::new(state),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A thread of the process that a thread of it calls: also of a version that is retired, as long as its last calls go on.
    pub(super) fn beside(self: &Arc<Self>, lane: usize) -> Result<Lease, Failure> {
        let state = self.state();
        if state.running.is_none() {
            return Err(Failure::Ended(Ended::Died));
        }
        self.lane_of(state, lane)
    }

    /// A thread of the process that runs, for one call.
    pub(super) fn lane_of(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State>,
        lane: usize,
    ) -> Result<Lease, Failure> {
        state.last_call = Instant::now();
        let Some(running) = &mut state.running else { return Err(Failure::Ended(Ended::Died)) };
        let index = lane % running.lanes.len();
        let handle = match &running.lanes[index] {
            Lane::Used(handle) => handle.clone(),
            Lane::Unused(socket) => {
                let socket = socket.try_clone().map_err(|error| Failure::Start(error.to_string()))?;
                let handle = (self.serve)(socket, index, Arc::clone(self), Arc::clone(&running.child))
                    .map_err(|error| Failure::Start(error.to_string()))?;
                running.lanes[index] = Lane::Used(handle.clone());
                handle
            }
        };
        Lease::take(handle, &self.calls)
    }

    /// Bodies of a thread's wait for room from now on, or no more.
    pub(super) fn waiting(&self, from_now_on: bool) {
        if from_now_on {
            self.waiting.fetch_add(1, Ordering::AcqRel);
        } else {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Whether bodies wait for room that others keep.
    pub(super) fn has_waiting(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    /// A process has ended by itself, or had to be ended.
    pub(super) fn gone(&self, child: &Arc<Child>) {
        let mut state = self.state();
        if state.runs(child) {
            state.running = None;
            if child.ended() != Ended::Retired {
                self.counts.lost(child.ended());
                state.backoff.ended(Instant::now());
            }
        }
    }

    /// An isolate is lost.
    pub(super) fn condemned(&self, why: Ended) {
        self.counts.lost(why);
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
