//! The images of the edge's registry, and which nodes hold them.

use std::collections::BTreeSet;
use std::fmt;

use berth_common::ids::{AppName, Version};
use berth_common::image::{Architecture, Digest, Repository, Tag};
use serde::{Deserialize, Serialize};

/// An image in a repository of the edge's registry.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ImageEntry {
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub repository: Repository,
    /// The digest of its manifest, or of its index if it has manifests for several architectures.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub digest: Digest,
    /// Its tags in the repository. An image without tags may be part of another one, or will be removed by a
    /// collection.
    #[cfg_attr(feature = "schema", schema(value_type = Vec<String>))]
    pub tags: Vec<Tag>,
    pub media_type: String,
    /// Total size of its manifests, configurations and layers in bytes, each counted once.
    pub bytes: u64,
    /// The architectures that it runs on; empty if it is not a container image.
    pub architectures: BTreeSet<Architecture>,
    /// When it was last pushed, in milliseconds since 1970.
    pub pushed_ms: u64,
    /// The kept versions of apps that use it.
    pub used_by: Vec<Use>,
}

/// A page of images, in the order of repository and digest.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ImageList {
    pub images: Vec<ImageEntry>,
    /// The cursor of the next page; null on the last one.
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub next_cursor: Option<String>,
}

/// An image by its digest, whatever its repositories and tags are.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ImageView {
    #[serde(flatten)]
    pub info: ImageInfo,
    /// The kept versions of apps that use it.
    pub used_by: Vec<Use>,
}

/// An image, for one or several architectures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ImageInfo {
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub digest: Digest,
    pub media_type: String,
    /// Total size of its manifests, configurations and layers in bytes, each counted once.
    pub bytes: u64,
    /// The architectures that it runs on; empty if it is not a container image.
    pub architectures: BTreeSet<Architecture>,
    /// The image for each architecture.
    pub images: Vec<ImageOf>,
}

/// An image for one architecture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ImageOf {
    /// The digest of its manifest.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub digest: Digest,
    pub architecture: Architecture,
    /// When it was built, according to its configuration.
    pub created: Option<String>,
    /// Total size of its configuration and its layers, in bytes.
    pub bytes: u64,
    /// The layers, from the lowest to the highest.
    pub layers: Vec<LayerInfo>,
}

/// A layer of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct LayerInfo {
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub digest: Digest,
    pub media_type: String,
    /// Size in bytes, compressed as stored.
    pub bytes: u64,
}

/// A version of an app that uses an image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Use {
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub app: AppName,
    #[cfg_attr(feature = "schema", schema(value_type = u64, minimum = 1))]
    pub version: Version,
    /// Whether that is the current version.
    pub current: bool,
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "version {} of the app {}", self.version, self.app)
    }
}

/// What to delete: a tag, or a manifest with all its tags in the repository.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(deny_unknown_fields)]
pub struct DeleteParameters {
    pub repository: String,
    /// The tag; exactly one of tag and digest.
    pub tag: Option<String>,
    /// The digest; exactly one of tag and digest.
    pub digest: Option<String>,
    /// Delete it even if a kept version of an app uses it: then only the name is removed, and the content stays.
    #[serde(default)]
    #[cfg_attr(feature = "schema", param(required = false))]
    pub force: bool,
}

/// How to collect garbage.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Collection {
    /// Only list what would be removed.
    pub dry_run: bool,
}

/// What was removed, or would be.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Swept {
    /// Manifests that were removed from their repositories.
    pub manifests: Vec<SweptManifest>,
    /// Blobs that nothing uses, manifests among them.
    pub blobs: Vec<SweptBlob>,
    /// Total size of the blobs, in bytes.
    pub bytes: u64,
}

/// A manifest that was removed from its repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SweptManifest {
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub repository: Repository,
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub digest: Digest,
}

/// A blob that was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SweptBlob {
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub digest: Digest,
    pub bytes: u64,
}

/// How far each node of the edge is with fetching an image.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct HolderList {
    pub nodes: Vec<Holder>,
}

/// How far a node is with fetching an image.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Holder {
    pub node: String,
    pub state: HolderState,
    /// Bytes of the image that the node has.
    pub done: u64,
    /// Size of the image in bytes; 0 while the node does not know it.
    pub total: u64,
    /// Why the node failed to fetch it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// How far a node is with fetching an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum HolderState {
    /// The node is not to hold the image, or has not reported it yet.
    Waiting,
    /// The node fetches and unpacks the image.
    Fetching,
    /// The node can start instances from the image.
    Ready,
    /// The node failed to fetch the image, and will try again later.
    Failed,
    /// The node is not connected.
    Away,
}

impl HolderState {
    /// The name in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Fetching => "fetching",
            Self::Ready => "ready",
            Self::Failed => "failed",
            Self::Away => "away",
        }
    }
}

impl fmt::Display for HolderState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
