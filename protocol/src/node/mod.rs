//! The node's end: the current sessions of edges, and the table of instances.

mod admission;
mod entry;
mod sessions;
mod stop;
mod table;

pub use self::admission::Admission;
pub use self::sessions::{HelloError, SessionId, SessionTable};
pub use self::stop::{SIGNALS, StopOrder};
pub use self::table::{Effect, InstanceTable};

#[cfg(test)]
mod tests;
