//! The protocol between edge and agent: the messages on the streams of QUIC connections.
//!
//! Every stream is bidirectional and starts with one byte for its kind. The edge opens all but those of blobs:
//!
//! ```text
//! 0x01  call    then frames (see `frame`): a `Call`, answered by `Answer` frames (see `call`)
//! 0x02  tunnel  then the rest of a `TunnelHeader`, answered by one byte, then raw bytes both ways (see `tunnel`)
//! 0x03  blob    then a frame, answered by one, then the bytes of a part of an image (see `images`)
//! ```
//!
//! `docs/protocol.md` describes it for implementers of a peer.

pub mod attach;
pub mod call;
pub mod frame;
pub mod images;
pub mod logs;
pub mod refusal;
pub mod term;
pub mod tunnel;

/// The application protocol that both sides offer in the TLS handshake. The number grows only with a change that
/// tolerant decoding cannot bridge.
pub const ALPN: &[u8] = b"berth/1";

/// First byte of a stream that carries one call.
pub const STREAM_CALL: u8 = 0x01;
/// First byte of a stream that is tunnelled to a port of an instance.
pub const STREAM_TUNNEL: u8 = 0x02;
/// First byte of a stream on which a node reads a blob of an image.
pub const STREAM_BLOB: u8 = 0x03;

/// QUIC application error codes, given when a connection or stream is closed.
pub mod close {
    /// The daemon is shutting down.
    pub const SHUTDOWN: u32 = 0;
    /// The peer broke the protocol.
    pub const PROTOCOL: u32 = 1;
    /// The peer is not allowed to do this.
    pub const FORBIDDEN: u32 = 2;
    /// A newer session of the same peer has superseded this one.
    pub const SUPERSEDED: u32 = 3;
    /// The other end of a tunnelled connection was reset.
    pub const RESET: u32 = 4;
    /// The peer reads the updates that it subscribed to too slowly: it should connect again and start anew.
    pub const SLOW: u32 = 5;
    /// (Streams) Nobody reads what was sent, and the share of the instance for such bytes is used up.
    pub const UNREAD: u32 = 6;
}
