//! The images of the edge's registry, and which nodes hold them.

use std::collections::BTreeSet;
use std::fmt;

use berth_common::ids::{AppName, Version};
use berth_common::image::{Architecture, Digest, Repository, Tag};
use serde::{Deserialize, Serialize};

/// An image in a repository.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ImageEntry {
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub repository: Repository,
    /// Of its manifest, or of an index of manifests for several machines.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub digest: Digest,
    /// Its tags in the repository. One without tags may be a part of another, or be collected some time.
    #[cfg_attr(feature = "schema", schema(value_type = Vec<String>))]
    pub tags: Vec<Tag>,
    pub media_type: String,
    /// Bytes of everything that it is made of, each once.
    pub bytes: u64,
    /// The machines that it runs on; none where it is something else.
    pub architectures: BTreeSet<Architecture>,
    /// When it was pushed last, in milliseconds since 1970.
    pub pushed_ms: u64,
    /// The versions of apps that use it and are kept.
    pub used_by: Vec<Use>,
}

/// Images, in the order of their repositories and digests.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ImageList {
    pub images: Vec<ImageEntry>,
    /// Leads to the next page; null on the last one.
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub next_cursor: Option<String>,
}

/// An image, whatever it is called.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ImageView {
    #[serde(flatten)]
    pub info: ImageInfo,
    /// The versions of apps that use it and are kept.
    pub used_by: Vec<Use>,
}

/// An image, or one for each of several machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ImageInfo {
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub digest: Digest,
    pub media_type: String,
    /// Bytes of everything that it is made of, each once.
    pub bytes: u64,
    /// The machines that it runs on; none where it is something else.
    pub architectures: BTreeSet<Architecture>,
    /// What it is on each of them.
    pub images: Vec<ImageOf>,
}

/// An image for one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ImageOf {
    /// Of its manifest.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub digest: Digest,
    pub architecture: Architecture,
    /// When it was made, as its maker says.
    pub created: Option<String>,
    /// Bytes of its configuration and its layers.
    pub bytes: u64,
    /// The lowest first.
    pub layers: Vec<LayerInfo>,
}

/// A layer of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct LayerInfo {
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub digest: Digest,
    pub media_type: String,
    /// Bytes, compressed as it is.
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
    /// Whether it is the current one.
    pub current: bool,
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "version {} of the app {}", self.version, self.app)
    }
}

/// What to delete: a tag, or a manifest with all of its tags in the repository.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(deny_unknown_fields)]
pub struct DeleteParameters {
    pub repository: String,
    /// A tag; or else a digest.
    pub tag: Option<String>,
    /// A digest; or else a tag.
    pub digest: Option<String>,
    /// Even if a version of an app that is kept uses it: its content stays then.
    #[serde(default)]
    #[cfg_attr(feature = "schema", param(required = false))]
    pub force: bool,
}

/// How to collect.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Collection {
    /// Only tells what would be removed.
    pub dry_run: bool,
}

/// What was removed, or would be.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Swept {
    /// Manifests without a name that were taken from their repositories.
    pub manifests: Vec<SweptManifest>,
    /// Blobs that were no part of anything; manifests are some of them.
    pub blobs: Vec<SweptBlob>,
    /// Bytes of those.
    pub bytes: u64,
}

/// A manifest that was taken from its repository.
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

/// The nodes of an edge, and how far each is with an image.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct HolderList {
    pub nodes: Vec<Holder>,
}

/// How far a node is with an image.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Holder {
    pub node: String,
    pub state: HolderState,
    /// Bytes of the image that are there.
    pub done: u64,
    /// Its bytes in all; 0 while the node does not know.
    pub total: u64,
    /// Why the node cannot have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// How far a node is with an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum HolderState {
    /// It is not to hold it, or has not said anything of it.
    Waiting,
    /// It fetches and unpacks it.
    Fetching,
    /// An instance can start from it.
    Ready,
    /// It cannot have it, and tries again later.
    Failed,
    /// The node is not connected.
    Away,
}

impl HolderState {
    /// Its name, as JSON has it.
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
