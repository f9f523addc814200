//! Which images there are, by name: the tags and the manifests of each repository.

use std::collections::BTreeMap;

use berth_common::image::{Digest, Repository, Tag};
use serde::{Deserialize, Serialize};

use super::StoreError;

/// A tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagRecord {
    /// Which repository it is in.
    pub repository: Repository,
    /// Its name there.
    pub tag: Tag,
    /// The digest of the manifest.
    pub digest: Digest,
}

/// A manifest of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestRecord {
    /// Which repository it is in.
    pub repository: Repository,
    /// The digest of the manifest.
    pub digest: Digest,
    /// Its kind.
    pub media_type: String,
    /// Its length, in bytes.
    pub size: u64,
    /// When it was pushed last, in milliseconds since 1970.
    pub pushed_ms: u64,
    /// What it is about, where it is about another manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Subject>,
}

/// What a manifest says of another one, and what lists of such manifests show of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// The other one.
    pub digest: Digest,
    /// What the manifest says that it is.
    pub artifact_type: Option<String>,
    /// What else it says of itself.
    pub annotations: BTreeMap<String, String>,
}

/// The names of images.
pub trait Catalogue {
    /// A tag.
    fn tag(&self, repository: &Repository, tag: &Tag) -> Result<Option<TagRecord>, StoreError>;
    /// A repository's tags in order, from the first behind this one, at most so many.
    fn tags(
        &self,
        repository: &Repository,
        after: Option<&Tag>,
        limit: usize,
    ) -> Result<Vec<TagRecord>, StoreError>;
    /// All tags in order, from the first behind this one, at most so many.
    fn all_tags(
        &self,
        after: Option<(&Repository, &Tag)>,
        limit: usize,
    ) -> Result<Vec<TagRecord>, StoreError>;
    /// What is known of a manifest.
    fn manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<ManifestRecord>, StoreError>;
    /// A repository's manifests in the order of their digests, from the first behind this one, at most so many.
    fn manifests(
        &self,
        repository: &Repository,
        after: Option<&Digest>,
        limit: usize,
    ) -> Result<Vec<ManifestRecord>, StoreError>;
    /// All manifests in order, from the first behind this one, at most so many.
    fn all_manifests(
        &self,
        after: Option<(&Repository, &Digest)>,
        limit: usize,
    ) -> Result<Vec<ManifestRecord>, StoreError>;
    /// The repositories that have manifests, in order, from the first behind this one, at most so many.
    fn repositories(&self, after: Option<&Repository>, limit: usize) -> Result<Vec<Repository>, StoreError>;
}
