//! The parts of images: manifests, configurations and layers. Images are untrusted: all sizes are bounded, and every
//! digest is checked.
//!
//! Knows nothing of HTTP, of QUIC, of apps and of containers.

pub mod layer;
pub mod manifest;

/// Number of uids and gids of a container: those of an image are less.
pub const CONTAINER_IDS: u32 = 65_536;
