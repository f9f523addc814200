//! What a script may use, and the guard that ends it beyond.

use std::cell::Cell;
use std::rc::Rc;

use super::heap::Meter;
use super::host::Host;
use crate::message::{Condemned, USED_STEP_US};

/// The interpreter's stack, in bytes. The thread must have several times of that, for the natives on top.
pub(crate) const STACK_BYTES: usize = 1 << 20;

/// Timers that one isolate may have set. Each costs about 100 bytes here and its closure there.
pub(crate) const TIMERS: usize = 10_000;

/// Lines of the log that one event may write.
pub(crate) const LOG_LINES: u16 = 256;

/// Longest line of the log, in bytes; longer ones are cut.
pub(crate) const LOG_LINE_BYTES: usize = 16 << 10;

/// Bytes that a script may have on their way to the edge: heads and small bodies of what it asks for in one turn, and pieces
/// of bodies that wait for credit. They lie outside the script's heap.
pub(crate) const OUTGOING_BYTES: usize = 32 << 20;

/// Most bytes of a head: URL and header fields.
pub(crate) const HEAD_BYTES: usize = 128 << 10;

/// Longest message and longest stack of an error that is told, in bytes.
pub(crate) const ERROR_BYTES: usize = 16 << 10;

/// CPU time that what an event left behind may take once the event has used up its own, in microseconds.
pub(crate) const AFTERMATH_US: u64 = 50_000;

/// How long after its answer what an event wanted to have waited for may take, in microseconds.
pub(crate) const WAIT_UNTIL_US: u64 = 30_000_000;

/// CPU time that is told by itself if no call's end tells it before, in microseconds: rare enough to cost nothing.
pub(crate) const TOLD_US: u64 = USED_STEP_US;

/// Turns between objects that are run before the thread looks for events again: some milliseconds of the shortest.
pub(crate) const TURNS_AT_ONCE: usize = 256;

/// How often the interpreter is told to stop before that is taken to be hopeless: where the engine itself catches what is thrown, as
/// around `Error.prepareStackTrace`, the script goes on.
const STOPS: u32 = 64;

/// Why the interpreter was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stopped {
    Cpu,
    Memory,
}

impl From<Stopped> for Condemned {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::Cpu => Self::Cpu,
            Stopped::Memory => Self::Memory,
        }
    }
}

/// Is asked by the interpreter, between its steps, whether to go on.
pub(crate) struct Guard {
    meter: Rc<Meter>,
    host: Rc<dyn Host>,
    /// The thread's CPU time at which the script is stopped.
    deadline_us: Cell<u64>,
    stopped: Cell<Option<Stopped>>,
    /// How often it was told to, since something was begun.
    stops: Cell<u32>,
    /// Whether what runs now is a turn, and not the modules' top level.
    pub(crate) in_turn: Cell<bool>,
}

impl Guard {
    pub(crate) fn new(meter: Rc<Meter>, host: Rc<dyn Host>) -> Rc<Self> {
        Rc::new(Self {
            meter,
            host,
            deadline_us: Cell::new(u64::MAX),
            stopped: Cell::new(None),
            stops: Cell::new(0),
            in_turn: Cell::new(false),
        })
    }

    /// Gives what runs next this much CPU time.
    pub(crate) fn allow(&self, cpu_us: u64) {
        self.stopped.set(None);
        self.stops.set(0);
        self.deadline_us.set(self.host.cpu_us().saturating_add(cpu_us));
    }

    /// Counts what is kept for the script outside its heap, in bytes.
    pub(crate) fn hold(&self, bytes: usize) {
        self.meter.hold(bytes);
    }

    /// Whether the interpreter is to stop.
    pub(crate) fn must_stop(&self) -> bool {
        self.host.calculating();
        if self.meter.refused() {
            self.stopped.set(Some(Stopped::Memory));
        } else if self.host.cpu_us() > self.deadline_us.get() {
            self.stopped.set(Some(Stopped::Cpu));
        }
        if let Some(why) = self.stopped.get() {
            self.stops.set(self.stops.get() + 1);
            if self.stops.get() > STOPS {
                self.host.hopeless(self.in_turn.get().then_some(why.into()));
            }
        }
        self.stopped.get().is_some()
    }

    /// Why it was stopped, if it was.
    pub(crate) fn stopped(&self) -> Option<Stopped> {
        if self.meter.refused() { Some(Stopped::Memory) } else { self.stopped.get() }
    }
}

/// The beginning of a text that has at most this many bytes, and a sign if something is missing.
pub(crate) fn cut(mut text: String, most_bytes: usize) -> String {
    if text.len() > most_bytes {
        let end = (0..=most_bytes).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}
