//! HTTP as the edge reads and writes it: what becomes of heads and headers, WebSocket frames, one exchange, TLS for
//! listeners. Knows nothing of objects, nodes, and of where requests go.

pub(crate) mod exchange;
pub(crate) mod frames;
pub(crate) mod framing;
pub(crate) mod headers;
pub(crate) mod tls;
