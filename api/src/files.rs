//! The files of apps: modules of programs and static files, which are sent by digest before a version names them.

use berth_common::image::Digest;
use serde::{Deserialize, Serialize};

/// Most digests of one question: as many as a body of a megabyte has room for.
pub const MAX_DIGESTS: usize = 10_000;

/// Digests that are asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct FileDigests {
    /// SHA-256 digests of whole files.
    #[cfg_attr(feature = "schema", schema(value_type = Vec<String>, max_items = 10000, pattern = "^sha256:[0-9a-f]{64}$"))]
    pub digests: Vec<Digest>,
}

/// Those that the edge does not have.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct MissingFiles {
    #[cfg_attr(feature = "schema", schema(value_type = Vec<String>))]
    pub missing: Vec<Digest>,
}
