//! Bodies: small ones are in the message, others flow apart from it, in pieces, under credit.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::{HostBody, ScriptBody};

/// Most bytes of a body inside a message. More, and a head would wait behind its body.
pub const INLINE_BODY_BYTES: usize = 64 << 10;

/// Bytes of one body that may be under way: what a sender may send beyond what its reader has taken. Holds a few round
/// trips of a fast reader, and is what an unread body costs.
pub const BODY_WINDOW: u32 = 256 << 10;

/// Bodies that one call, or one object's life, may have open at once. Each costs its window in the edge.
pub const MAX_BODIES: u32 = 1024;

/// A message's body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BodyRef {
    /// There is none.
    None,
    /// All of it: at most `INLINE_BODY_BYTES`.
    Bytes(ByteBuf),
    /// It lives in the edge. A script that passes it on sends only this back, and no byte crosses.
    Host(HostBody),
    /// A script makes it.
    Script(ScriptBody),
}

/// What flows of a body, to the one side or the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Piece {
    /// The next bytes: at least one, and no more than there is credit for.
    Data(ByteBuf),
    /// It is complete.
    End,
    /// It breaks off, for this reason.
    Failed(String),
}
