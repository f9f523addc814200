//! The names of images: the tags and manifests of each repository.

use std::collections::BTreeMap;

use berth_common::image::{Digest, Repository, Tag};
use serde::{Deserialize, Serialize};

use super::StoreError;

/// A tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagRecord {
    /// The repository.
    pub repository: Repository,
    /// The name of the tag.
    pub tag: Tag,
    /// The digest of the manifest.
    pub digest: Digest,
}

/// A manifest in a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestRecord {
    /// The repository.
    pub repository: Repository,
    /// The digest of the manifest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Its length, in bytes.
    pub size: u64,
    /// When it was last pushed, in milliseconds since 1970.
    pub pushed_ms: u64,
    /// The manifest that it refers to, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Subject>,
}

/// A manifest's reference to another one (`subject`), and what a list of referrers shows of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// The digest of the other manifest.
    pub digest: Digest,
    /// The artifact type of the referring manifest.
    pub artifact_type: Option<String>,
    /// The annotations of the referring manifest.
    pub annotations: BTreeMap<String, String>,
}

/// The names of images. Lists begin after the given key.
pub trait Catalogue {
    /// A tag.
    fn tag(&self, repository: &Repository, tag: &Tag) -> Result<Option<TagRecord>, StoreError>;
    /// A repository's tags in order, at most `limit`.
    fn tags(
        &self,
        repository: &Repository,
        after: Option<&Tag>,
        limit: usize,
    ) -> Result<Vec<TagRecord>, StoreError>;
    /// All tags in order, at most `limit`.
    fn all_tags(
        &self,
        after: Option<(&Repository, &Tag)>,
        limit: usize,
    ) -> Result<Vec<TagRecord>, StoreError>;
    /// A manifest in a repository.
    fn manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<ManifestRecord>, StoreError>;
    /// A repository's manifests in the order of their digests, at most `limit`.
    fn manifests(
        &self,
        repository: &Repository,
        after: Option<&Digest>,
        limit: usize,
    ) -> Result<Vec<ManifestRecord>, StoreError>;
    /// All manifests in order, at most `limit`.
    fn all_manifests(
        &self,
        after: Option<(&Repository, &Digest)>,
        limit: usize,
    ) -> Result<Vec<ManifestRecord>, StoreError>;
    /// The repositories that have manifests, in order, at most `limit`.
    fn repositories(&self, after: Option<&Repository>, limit: usize) -> Result<Vec<Repository>, StoreError>;
}
