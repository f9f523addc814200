//! One version of an app: its process, started with the first call, ended when there are none for long, and not started again
//! too soon when it keeps ending.

use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use berth_script::message::{Event, encode};

use super::backoff::Backoff;
use super::child::Child;
use super::failure::{Ended, Failure};
use super::link::{Handle, Lease, Link};
use super::{Code, Outside, Settings};

/// A version of an app.
pub(super) struct App {
    pub(super) settings: Settings,
    pub(super) code: Arc<Code>,
    pub(super) outside: Arc<dyn Outside>,
    /// Calls that are going on, on all threads.
    calls: Arc<AtomicUsize>,
    state: Mutex<State>,
}

struct State {
    running: Option<Running>,
    backoff: Backoff,
    last_call: Instant,
    retired: bool,
}

struct Running {
    child: Arc<Child>,
    lanes: Vec<Lane>,
}

/// A thread of the process, from the edge's side.
enum Lane {
    /// Nothing was asked of it yet.
    Unused(UnixStream),
    Used(Handle),
}

impl App {
    pub(super) fn new(settings: Settings, code: Arc<Code>, outside: Arc<dyn Outside>) -> Self {
        let state =
            State { running: None, backoff: Backoff::default(), last_call: Instant::now(), retired: false };
        Self { settings, code, outside, calls: Arc::default(), state: Mutex::new(state) }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A thread of the version's process, for one call. Starts the process if there is none: a fork and an exec, for which the
    /// caller's thread waits a millisecond or two, because it must be the caller's (`Child::start`).
    pub(super) fn lane(self: &Arc<Self>, lane: usize) -> Result<Lease, Failure> {
        let mut state = self.state();
        if state.retired {
            return Err(Failure::Ended(Ended::Retired));
        }
        if state.running.is_none() {
            if let Some(wait) = state.backoff.wait(Instant::now()) {
                return Err(Failure::BackOff(wait));
            }
            state.running = Some(self.start().map_err(|error| Failure::Start(error.to_string()))?);
        }
        state.last_call = Instant::now();
        let Some(running) = &mut state.running else { return Err(Failure::Ended(Ended::Died)) };
        let index = lane % running.lanes.len();
        let handle = match &running.lanes[index] {
            Lane::Used(handle) => handle.clone(),
            Lane::Unused(socket) => {
                let socket = socket.try_clone().map_err(|error| Failure::Start(error.to_string()))?;
                let handle = Link::start(socket, Arc::clone(self), Arc::clone(&running.child))
                    .map_err(|error| Failure::Start(error.to_string()))?;
                running.lanes[index] = Lane::Used(handle.clone());
                handle
            }
        };
        Lease::take(handle, &self.calls)
    }

    fn start(self: &Arc<Self>) -> std::io::Result<Running> {
        let (child, sockets) = Child::start(&self.settings, self.code.load.limits.memory_bytes)?;
        let child = Arc::new(child);
        let (app, watched) = (Arc::clone(self), Arc::clone(&child));
        tokio::spawn(async move {
            tokio::select! {
                () = watched.watch(&app.code.key) => {}
                () = app.idle(&watched) => watched.watch(&app.code.key).await,
            }
            app.gone(&watched);
        });
        Ok(Running { child, lanes: sockets.into_iter().map(Lane::Unused).collect() })
    }

    /// Ends a process that has had no call for long; returns once it has.
    async fn idle(&self, child: &Arc<Child>) {
        loop {
            tokio::time::sleep(self.settings.idle).await;
            let mut state = self.state();
            let idle =
                self.calls.load(Ordering::Acquire) == 0 && state.last_call.elapsed() >= self.settings.idle;
            if idle && state.running.as_ref().is_some_and(|running| Arc::ptr_eq(&running.child, child)) {
                child.kill(Ended::Retired);
                state.running = None;
                return;
            }
        }
    }

    /// A process has ended by itself, or had to be ended.
    pub(super) fn gone(&self, child: &Arc<Child>) {
        let mut state = self.state();
        if state.running.as_ref().is_some_and(|running| Arc::ptr_eq(&running.child, child)) {
            state.running = None;
            state.backoff.ended(Instant::now());
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

    /// The version is not run any more.
    pub(super) fn end(&self) {
        let mut state = self.state();
        state.retired = true;
        if let Some(running) = state.running.take() {
            running.child.kill(Ended::Retired);
        }
    }

    /// Appends the message that has the code.
    pub(super) fn load(&self, out: &mut Vec<u8>) -> Result<(), Failure> {
        let load = Event::Load(Box::new(self.code.load.clone()));
        encode(&load, out).map_err(|error| Failure::Start(error.to_string()))
    }
}
