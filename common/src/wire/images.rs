//! How nodes come by images: over a connection of its own, so that bulk never stands before requests.
//!
//! ```text
//! edge opens   0x01 call   Deliver -> Done, then for as long as the connection lives
//!                          edge -> agent: Wanted*        the images that the node is to hold, each time all of them
//!                          agent -> edge: ImageStatus*   what has become of each
//! agent opens  0x03 blob   ReadBlob -> Here, then the blob's bytes from there to its end | Refused
//! ```

use serde::{Deserialize, Serialize};

use crate::ids::{EdgeId, Epoch};
use crate::image::Digest;
use crate::wire::refusal::Refusal;

/// Most images that an edge wants on a node: all of them travel in one frame.
pub const MAX_WANTED: usize = 8192;

/// An edge offers images. Must be the first call of the connection.
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

/// The images that a node is to hold from now on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Digests of their manifests or indexes.
    pub images: Vec<Digest>,
}

/// What has become of an image on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageStatus {
    /// The digest that was wanted.
    pub image: Digest,
    /// How far it is.
    pub state: ImageState,
}

/// How far an image is on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageState {
    /// It is being fetched and unpacked.
    Fetching {
        /// Bytes that are there, those of layers that were there before included.
        done_bytes: u64,
        /// Bytes in all; 0 while that is not known.
        total_bytes: u64,
    },
    /// It can be started.
    Ready,
    /// It cannot be had. Tried again after a while.
    Failed {
        /// Why.
        message: String,
    },
    /// Something that a newer version knows.
    #[serde(other)]
    Unknown,
}

/// Asks for a blob of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadBlob {
    /// The blob.
    pub digest: Digest,
    /// The first byte that is wanted.
    pub from: u64,
}

/// What comes before a blob's bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlobAnswer {
    /// The bytes follow.
    Here {
        /// Length of the whole blob, in bytes.
        length: u64,
    },
    /// They do not.
    Refused(Refusal),
}
