//! HTTP on the wire: header rewriting, WebSocket frames, single exchanges, TLS for listeners. Does not
//! know objects, nodes, or routes.

pub(crate) mod exchange;
pub(crate) mod forwarded;
pub(crate) mod frames;
pub(crate) mod headers;
pub(crate) mod parts;
pub(crate) mod tls;
