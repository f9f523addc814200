//! What an isolate needs of the machine it runs on. Tests give it their own.

use crate::message::Condemned;

/// Time and chance, and the end of both.
pub trait Host {
    /// Milliseconds since 1970.
    fn now_ms(&self) -> f64;
    /// Microseconds since some moment; never less than before.
    fn monotonic_us(&self) -> u64;
    /// CPU time of this thread, in microseconds.
    fn cpu_us(&self) -> u64;
    /// Fills the bytes with chance.
    fn random(&self, bytes: &mut [u8]);
    /// Called every few milliseconds while a script calculates, between two of its steps.
    fn calculating(&self);
    /// The script does not stop, though it must: its isolate is lost, and cannot be left. `why` is to be told where events come
    /// from; there is none before the script takes events. Ends the process.
    fn hopeless(&self, why: Option<Condemned>) -> !;
}
