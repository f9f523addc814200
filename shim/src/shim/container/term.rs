//! The second guard over the term of a container's instance: should the supervisor not have frozen it, its own shim does. And
//! the only place where a container is thawed.
//!
//! ```text
//! in term ──`until` and a little longer──▶ frozen (by the supervisor, or here) ──resume, within a term──▶ in term
//!    ▲                                        │ does not freeze in time            │ beyond a term
//!    └── later `until`                        ▼                                    ▼
//!                                           killed                               stays frozen, and is told so again
//! ```

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::sys::timerfd::TimerFd;

use super::Shim;
use crate::messages::ShimEvent;
use crate::terms::{self, FREEZE_TIMEOUT, Slot, Terms};

/// How much later than the supervisor the shim acts, in milliseconds: normally there is nothing left to do then. With what a clock
/// may be slow in a term (306 ms) and with the time that a freeze may take, it is within the second that the edge waits.
const LATER_MS: u64 = 150;
/// How far ahead the timer is set at most, in milliseconds: an edge that has given no term until now, in an earlier version, may
/// begin to.
const AHEAD_MS: u64 = 15_000;

/// What watches the term of an instance.
pub(super) struct Guard {
    terms: Terms,
    slot: Slot,
    timer: TimerFd,
    /// Whether the container is frozen, as far as is known here.
    frozen: bool,
}

impl Guard {
    pub(super) fn new(terms: Terms, slot: Slot) -> io::Result<Self> {
        Ok(Self { terms, slot, timer: terms::timer()?, frozen: false })
    }

    /// Readable when the term may be over.
    pub(super) fn source(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }

    /// When this guard acts.
    fn acts_ms(&self) -> u64 {
        self.terms.until_ms(self.slot).saturating_add(LATER_MS)
    }
}

impl Shim {
    /// Freezes the container if its term is over; else sets the timer to the end of it.
    pub(super) fn check_term(&mut self) -> io::Result<()> {
        let Some(guard) = &mut self.guard else { return Ok(()) };
        // Read so that it is not ready any more; an error says that it was not.
        let _ = guard.timer.wait();
        let acts_ms = guard.acts_ms();
        let now_ms = terms::now_ms();
        let is_over = acts_ms <= now_ms;
        if !is_over {
            terms::set(&guard.timer, acts_ms.min(now_ms.saturating_add(AHEAD_MS)))?;
        }
        // A supervisor that was stopped may have frozen it after its term had begun again.
        if guard.frozen || !(is_over || self.cgroup.is_frozen()) {
            return Ok(());
        }
        guard.frozen = true;
        if is_over {
            self.freeze();
        }
        self.agents.tell_frozen(true);
        Ok(())
    }

    fn freeze(&mut self) {
        let written = self.cgroup.freeze();
        if let Err(error) = &written {
            eprintln!("freeze a container whose term is over: {error}");
        }
        if written.is_err() || !self.cgroup.freezes_until(Instant::now() + FREEZE_TIMEOUT) {
            self.lost =
                Some("its edge was silent for longer than its term, and it could not be paused".to_owned());
            self.stop(libc::SIGKILL, Duration::ZERO);
        }
    }

    /// Thaws the container, if that is ordered in time and its term has begun again.
    pub(super) fn resume(&mut self, until_ms: u64) -> io::Result<()> {
        let Some(guard) = &mut self.guard else { return Ok(()) };
        let now_ms = terms::now_ms();
        if now_ms < until_ms && now_ms < guard.terms.until_ms(guard.slot) {
            self.cgroup.thaw()?;
            guard.frozen = false;
            self.agents.tell_frozen(false);
            // It may have ended just now.
            return self.check_term();
        }
        self.agents.send(&ShimEvent::Frozen { frozen: guard.frozen });
        Ok(())
    }
}
