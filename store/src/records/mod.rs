//! The records of the store, with their keys and their serialized form. Contains no decisions about them.

mod app;
mod event;
mod node;
mod schedule;
mod secret;
mod state;
mod token;
mod usage;
mod window;

pub use self::app::{AppHistory, AppVersion, KEPT_VERSIONS, LastVersion};
pub use self::event::{Delivery, Due, EventId, NUMBER_BYTES};
pub use self::node::{AddedBy, MemberRecord, NodeRecord, RevokedRecord};
pub use self::schedule::{Schedule, What};
pub use self::secret::{KEY_ID_BYTES, KeyId, RegistryRecord, Sealed, SecretHolder, SecretRecord};
pub use self::state::{StateChange, StateHead, StoredState};
pub use self::token::{Scope, TOKEN_PREFIX, TokenId, TokenRecord};
pub use self::usage::{NoCursor, UsageKey};
pub use self::window::Window;
