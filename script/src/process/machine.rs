//! Time and chance of the machine, for an isolate; and the signs of life of its thread.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

use super::outbox::Outbox;
use super::sys;
use crate::isolate::Host;
use crate::message::{Condemned, Effect};

/// How often a thread that calculates shows that it lives, in microseconds: several times within what an edge waits.
const BEAT_US: u64 = 1_000_000;

pub(super) struct Machine {
    outbox: Rc<Outbox>,
    begun: Instant,
    /// When the last sign of life was given.
    beat_us: Cell<u64>,
}

impl Machine {
    pub(super) fn new(outbox: Rc<Outbox>) -> Self {
        Self { outbox, begun: Instant::now(), beat_us: Cell::new(0) }
    }

    /// What follows begins now.
    pub(super) fn rest(&self) {
        self.beat_us.set(self.monotonic_us());
    }
}

impl Host for Machine {
    fn now_ms(&self) -> f64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64() * 1000.0).floor()
    }

    fn monotonic_us(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn cpu_us(&self) -> u64 {
        let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID);
        time.map_or(0, |time| u64::try_from(time.tv_sec() * 1_000_000 + time.tv_nsec() / 1000).unwrap_or(0))
    }

    fn random(&self, bytes: &mut [u8]) {
        sys::random(bytes);
    }

    fn hopeless(&self, why: Option<Condemned>) -> ! {
        if let Some(why) = why {
            self.outbox.push(&Effect::Condemned(why));
            // The edge reads on; if it is gone, so may this be.
            let _ = self.outbox.flush();
        }
        std::process::exit(0)
    }

    fn calculating(&self) {
        let now_us = self.monotonic_us();
        if now_us.saturating_sub(self.beat_us.get()) >= BEAT_US {
            self.beat_us.set(now_us);
            self.outbox.push(&Effect::Beat);
        }
        // What earlier events have come to does not wait for this one.
        self.outbox.flush_some();
    }
}
