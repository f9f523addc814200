//! The state machine of all objects and the placement on nodes, pure.
//!
//! Takes the time and an input, and emits effects for a shell to carry out. Knows nothing of clocks, threads,
//! sockets, files or randomness, so that tests can try every order of events.

mod context;
mod effect;
mod engine;
mod event;
pub mod fleet;
mod ids;
mod input;
mod object;
mod record;
mod refused;
mod timers;
mod usage;
mod view;

pub use context::{Backoff, Config};
pub use effect::{Effect, Placement};
pub use engine::Engine;
pub use event::Event;
pub use ids::{HoldId, PersistId, WaiterId};
pub use input::{EndOrder, Input, Kept, Now, Silence, StoreFailure};
pub use record::{Failure, MAX_FAILURES, Record, RecordState, StopRecord};
pub use refused::Refused;
pub use usage::UsageRecord;
pub use view::{CrashLoop, ObjectView, PublicState};
