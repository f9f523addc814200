//! What an edge and its script processes say to each other: events go to the script, effects come back, both as frames
//! on a socket. The only thing that both sides share.
//!
//! Both sides are the same program, so a message has no versions. The script's side may have been taken over by what it
//! runs: whatever comes from there is bounded here, and judged by the edge against what it has asked.

mod body;
pub mod container;
mod effect;
mod event;
mod frame;
mod ids;
mod object;
mod socket;
#[cfg(test)]
mod tests;

pub use body::{BODY_WINDOW, BodyRef, INLINE_BODY_BYTES, MAX_BODIES, Piece};
pub use effect::{
    Condemned, Destination, Effect, ErrorFlags, Level, LoadFailed, Loaded, ScriptError, USED_STEP_US,
};
pub use event::{
    Event, Limits, Load, MAX_OPS, MAX_OPS_WEIGHT, Module, Outcome, Request, Resolution, Response, Target,
    Variable,
};
pub use frame::{Direction, FrameError, Inbound, MAX_EFFECT_BYTES, MAX_EVENT_BYTES, encode};
pub use ids::{EventId, HostBody, OpId, ScriptBody};
pub use object::{
    Argument, CHANGES_BYTES, CHANGES_PARTS, Changes, Object, ObjectClass, ObjectId, Opened, PART_BYTES,
    RPC_BYTES, STATE_BYTES, STATE_PIECE_BYTES,
};
pub use socket::{
    MAX_SOCKETS, MESSAGE_BYTES, NO_CODE, NoMessage, REASON_BYTES, SOCKET_UNSENT_BYTES, SOCKET_WINDOW,
    SOCKETS_UNSENT_BYTES, SocketMessage, SocketMessages,
};

/// Header fields in their order. Values are UTF-8 where they are sent.
pub type Headers = Vec<(String, String)>;
