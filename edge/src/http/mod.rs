//! HTTP at the edge: the listener, what becomes of heads and headers, and bodies. Knows nothing of objects and nodes.

pub(crate) mod body;
pub(crate) mod exchange;
pub(crate) mod frames;
pub(crate) mod framing;
pub(crate) mod headers;
pub(crate) mod listener;
pub(crate) mod socket;
pub(crate) mod tls;
