//! The header of a tunnel stream, and the byte that answers it.
//!
//! ```text
//! 0     1           2      4                12               28
//! +-----+-----------+------+----------------+----------------+
//! | 0x02| 0 reserved| port | generation     | instance       |   big-endian
//! +-----+-----------+------+----------------+----------------+
//! ```
//!
//! After the answer `Connected` the stream carries the bytes of one TCP connection to that port: the end of one
//! direction is the end of that direction of the connection, a reset is a reset.

use crate::ids::{Generation, InstanceId};

use super::STREAM_TUNNEL;

/// Length of a header in bytes, the stream's first byte included.
pub const HEADER_BYTES: usize = 28;

/// Which port of which instance a stream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TunnelHeader {
    /// The instance.
    pub instance: InstanceId,
    /// Its generation, as the edge knows it.
    pub generation: Generation,
    /// TCP port inside the instance.
    pub port: u16,
}

/// Why bytes are not a valid tunnel header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Another kind of stream.
    #[error("stream kind {0:#04x} is not a tunnel")]
    Kind(u8),
    /// A reserved byte is not zero: the peer uses something that this version does not know.
    #[error("the reserved byte of a tunnel header is {0:#04x}, not zero")]
    Reserved(u8),
    /// Nothing can listen on port 0.
    #[error("port 0 cannot be reached")]
    Port,
}

impl TunnelHeader {
    /// The header's bytes, the stream's first byte included.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0] = STREAM_TUNNEL;
        bytes[2..4].copy_from_slice(&self.port.to_be_bytes());
        bytes[4..12].copy_from_slice(&self.generation.0.to_be_bytes());
        bytes[12..].copy_from_slice(self.instance.as_bytes());
        bytes
    }

    /// Reads a header, the stream's first byte included.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, HeaderError> {
        let [kind, reserved, p0, p1, g0, g1, g2, g3, g4, g5, g6, g7, instance @ ..] = *bytes;
        if kind != STREAM_TUNNEL {
            return Err(HeaderError::Kind(kind));
        }
        if reserved != 0 {
            return Err(HeaderError::Reserved(reserved));
        }
        let port = u16::from_be_bytes([p0, p1]);
        if port == 0 {
            return Err(HeaderError::Port);
        }
        let generation = Generation(u64::from_be_bytes([g0, g1, g2, g3, g4, g5, g6, g7]));
        Ok(Self { instance: InstanceId::from_bytes(instance), generation, port })
    }
}

/// The byte with which an agent answers a tunnel header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[repr(u8)]
pub enum TunnelAnswer {
    /// The stream carries the connection from here on.
    #[error("connected")]
    Connected = 0,
    /// No such instance runs on this node.
    #[error("the node does not run this instance")]
    NoInstance = 1,
    /// The instance has another generation.
    #[error("the node runs another generation of this instance")]
    StaleGeneration = 2,
    /// Nothing listens on the port.
    #[error("nothing listens on the port")]
    Refused = 3,
    /// The port did not accept the connection in time.
    #[error("the port did not take the connection in time")]
    TimedOut = 4,
    /// The instance belongs to another edge.
    #[error("the instance belongs to another edge")]
    NotOwner = 5,
    /// The node is out of sockets or of room for streams.
    #[error("the node has no room for another connection")]
    Exhausted = 6,
    /// The instance or its app has as many connections as its share of the node's.
    #[error("as many connections to the instance or its app are open as one may have")]
    Share = 7,
    /// The instance's term is over, or it is frozen and was not resumed yet. Nothing has reached it.
    #[error("the instance is paused, because its edge was not heard in time")]
    Lapsed = 8,
}

impl TunnelAnswer {
    /// The answer with this code, if this version knows it.
    pub fn from_code(code: u8) -> Option<Self> {
        use TunnelAnswer::{
            Connected, Exhausted, Lapsed, NoInstance, NotOwner, Refused, Share, StaleGeneration, TimedOut,
        };
        [Connected, NoInstance, StaleGeneration, Refused, TimedOut, NotOwner, Exhausted, Share, Lapsed]
            .into_iter()
            .find(|answer| *answer as u8 == code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_header_survives_its_bytes(instance: [u8; 16], generation: u64, port in 1u16..) {
            let header = TunnelHeader {
                instance: InstanceId::from_bytes(instance),
                generation: Generation(generation),
                port,
            };
            prop_assert_eq!(TunnelHeader::decode(&header.encode()), Ok(header));
        }

        #[test]
        fn any_bytes_are_a_header_or_refused(bytes: [u8; HEADER_BYTES]) {
            if let Ok(header) = TunnelHeader::decode(&bytes) {
                prop_assert_eq!(header.encode(), bytes);
            }
        }

        #[test]
        fn answers_have_one_code_each(code: u8) {
            if let Some(answer) = TunnelAnswer::from_code(code) {
                prop_assert_eq!(answer as u8, code);
            }
        }
    }
}
