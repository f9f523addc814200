//! Delivery of images to nodes, on a connection of its own, so that bulk data never delays requests.
//!
//! ```text
//! edge opens   0x01 call   Deliver -> Done, then for as long as the connection lives
//!                          edge -> agent: Wanted*        the complete set of images that the node should have
//!                          agent -> edge: ImageStatus*   the progress of each
//! agent opens  0x03 blob   ReadBlob -> Here, then the blob's bytes from there to its end | Refused
//! ```

use serde::{Deserialize, Serialize};

use crate::ids::{EdgeId, Epoch};
use crate::image::Digest;
use crate::wire::refusal::Refusal;

/// Most wanted images of an edge on a node: all of them travel in one frame.
pub const MAX_WANTED: usize = 8192;

/// Introduces an edge that delivers images. Must be the first call of the connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deliver {
    /// The edge's name; must be the one in its certificate.
    pub edge: EdgeId,
    /// Its epoch.
    pub epoch: Epoch,
    /// Number of this connection among those for images in this epoch. The agent closes lower ones.
    pub session: u64,
    /// Version of the edge's software, for logs.
    pub version: String,
}

/// The images that a node should have from now on; replaces the last set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Digests of their manifests or indexes.
    pub images: Vec<Digest>,
}

/// The state of a wanted image on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageStatus {
    /// Its digest, as in `Wanted`.
    pub image: Digest,
    /// Its state.
    pub state: ImageState,
}

/// The state of an image on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageState {
    /// It is being fetched and unpacked.
    Fetching {
        /// Bytes that the node has, including layers that it had before.
        done_bytes: u64,
        /// Total bytes; 0 while not known.
        total_bytes: u64,
    },
    /// Containers can be started from it.
    Ready,
    /// It could not be fetched or unpacked. The node retries later.
    Failed {
        /// Why.
        message: String,
    },
    /// A state that a newer version knows.
    #[serde(other)]
    Unknown,
}

/// Asks for a blob of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadBlob {
    /// The blob.
    pub digest: Digest,
    /// The offset to start at, in bytes.
    pub from: u64,
}

/// The answer before a blob's bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlobAnswer {
    /// The bytes follow.
    Here {
        /// Length of the whole blob, in bytes.
        length: u64,
    },
    /// The blob is not sent.
    Refused(Refusal),
}
