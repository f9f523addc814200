//! What images are made of: manifests and configurations, content that is kept by its digest, and layers that are
//! unpacked. Nothing in an image is trusted: everything is bounded, and every digest is checked.
//!
//! Knows nothing of HTTP, of QUIC, of apps and of containers.

pub mod layer;
pub mod manifest;
