//! The layout of tags and manifests of images in the database, and their lists.
//!
//! ```text
//! image_tags:      repository ‖ 0 ‖ tag         the manifest that has the tag
//! image_manifests: repository ‖ 0 ‖ digest 32 or 64   the record of the manifest; its text is in the content store
//! ```

use std::ops::Bound;

use berth_common::image::{Digest, Repository, Tag};
use serde::de::DeserializeOwned;

use super::{SledStore, Table, failed};
use crate::value::{self, piece_key};
use crate::{Catalogue, ManifestRecord, StoreError, TagRecord};

/// A piece index that no tag's value reaches, and that sorts before every longer tag of which a tag is a prefix: those
/// continue with a character.
const LAST_PIECE: u16 = 0x00ff;

/// Neither name contains a zero byte.
pub(super) fn tag_key(repository: &Repository, tag: &str) -> Vec<u8> {
    [repository.as_str().as_bytes(), b"\0", tag.as_bytes()].concat()
}

pub(super) fn manifest_key(repository: &Repository, digest: &Digest) -> Vec<u8> {
    [repository.as_str().as_bytes(), b"\0", digest.as_bytes()].concat()
}

/// Sorts after all keys of a repository, and before those of the next one.
fn behind(repository: &Repository) -> Vec<u8> {
    [repository.as_str().as_bytes(), b"\x01"].concat()
}

impl SledStore {
    /// Values in the order of their keys, from a bound on, while the keys have the prefix; at most `limit`.
    fn listed<T: DeserializeOwned>(
        &self,
        table: Table,
        from: Bound<&[u8]>,
        begin: &[u8],
        limit: usize,
    ) -> Result<Vec<T>, StoreError> {
        let mut found = Vec::new();
        for piece in self.trees().get(table).range::<&[u8], _>((from, Bound::Unbounded)).keys() {
            let piece = piece.map_err(failed)?;
            if found.len() == limit || !piece.starts_with(begin) {
                break;
            }
            if let Some(key) = value::first_piece_of(&piece) {
                // Missing if it was removed in the meantime.
                found.extend(self.trees().read::<T>(table, key)?);
            }
        }
        Ok(found)
    }
}

impl Catalogue for SledStore {
    fn tag(&self, repository: &Repository, tag: &Tag) -> Result<Option<TagRecord>, StoreError> {
        self.trees().read(Table::ImageTags, &tag_key(repository, tag.as_str()))
    }

    fn tags(
        &self,
        repository: &Repository,
        after: Option<&Tag>,
        limit: usize,
    ) -> Result<Vec<TagRecord>, StoreError> {
        let begin = tag_key(repository, "");
        let last = after.map(|tag| piece_key(&tag_key(repository, tag.as_str()), LAST_PIECE));
        let from = last.as_deref().map_or(Bound::Included(&begin[..]), Bound::Excluded);
        self.listed(Table::ImageTags, from, &begin, limit)
    }

    fn all_tags(
        &self,
        after: Option<(&Repository, &Tag)>,
        limit: usize,
    ) -> Result<Vec<TagRecord>, StoreError> {
        let last = after.map(|(repository, tag)| piece_key(&tag_key(repository, tag.as_str()), LAST_PIECE));
        self.listed(Table::ImageTags, last.as_deref().map_or(Bound::Unbounded, Bound::Excluded), b"", limit)
    }

    fn manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<ManifestRecord>, StoreError> {
        self.trees().read(Table::ImageManifests, &manifest_key(repository, digest))
    }

    fn manifests(
        &self,
        repository: &Repository,
        after: Option<&Digest>,
        limit: usize,
    ) -> Result<Vec<ManifestRecord>, StoreError> {
        let begin = tag_key(repository, "");
        let last = after.map(|digest| piece_key(&manifest_key(repository, digest), u16::MAX));
        let from = last.as_deref().map_or(Bound::Included(&begin[..]), Bound::Excluded);
        self.listed(Table::ImageManifests, from, &begin, limit)
    }

    fn all_manifests(
        &self,
        after: Option<(&Repository, &Digest)>,
        limit: usize,
    ) -> Result<Vec<ManifestRecord>, StoreError> {
        let last = after.map(|(repository, digest)| piece_key(&manifest_key(repository, digest), u16::MAX));
        let from = last.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        self.listed(Table::ImageManifests, from, b"", limit)
    }

    fn repositories(&self, after: Option<&Repository>, limit: usize) -> Result<Vec<Repository>, StoreError> {
        let mut found = Vec::new();
        let mut from = after.map(behind).unwrap_or_default();
        while found.len() < limit {
            let first: Vec<ManifestRecord> =
                self.listed(Table::ImageManifests, Bound::Included(&from), b"", 1)?;
            let Some(first) = first.into_iter().next() else { break };
            from = behind(&first.repository);
            found.push(first.repository);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::super::tests::commit;
    use super::*;
    use crate::Write;
    use crate::fixtures::tagged;

    fn filled() -> (TempDir, SledStore) {
        let directory = TempDir::new().unwrap();
        let store = SledStore::open(directory.path()).unwrap();
        let names = [("a", "v1"), ("a", "v1.0"), ("a", "v10"), ("a-b", "x"), ("a/b", "x"), ("a/b/c", "x")];
        for (n, (repository, tag)) in names.iter().enumerate() {
            let (manifest, tag) = tagged(repository, tag, n.to_string().as_bytes());
            commit(&store, vec![Write::ImageManifest(Box::new(manifest)), Write::ImageTag(tag)]);
        }
        (directory, store)
    }

    fn tag_names(found: &[TagRecord]) -> Vec<&str> {
        found.iter().map(|record| record.tag.as_str()).collect()
    }

    #[test]
    fn tags_come_in_order_and_only_those_of_their_repository() {
        let (_directory, store) = filled();
        let a: Repository = "a".parse().unwrap();
        assert_eq!(tag_names(&store.tags(&a, None, 10).unwrap()), ["v1", "v1.0", "v10"]);
        for (after, rest) in
            [("v1", &["v1.0", "v10"][..]), ("v1.0", &["v10"]), ("v0", &["v1", "v1.0", "v10"])]
        {
            assert_eq!(tag_names(&store.tags(&a, Some(&after.parse().unwrap()), 10).unwrap()), rest);
        }
        assert_eq!(tag_names(&store.tags(&a, None, 2).unwrap()), ["v1", "v1.0"]);
        let mut all = Vec::new();
        while let page = store.all_tags(all.last().map(|(r, t)| (r, t)), 2).unwrap()
            && !page.is_empty()
        {
            all.extend(page.into_iter().map(|record| (record.repository, record.tag)));
        }
        assert_eq!(all.len(), 6);
        assert!(all.is_sorted());
    }

    #[test]
    fn repositories_and_manifests_come_in_order() {
        let (_directory, store) = filled();
        let names = |after: Option<&str>, limit| -> Vec<String> {
            let after = after.map(|name| name.parse().unwrap());
            let found = store.repositories(after.as_ref(), limit).unwrap();
            found.into_iter().map(String::from).collect()
        };
        assert_eq!(names(None, 10), ["a", "a-b", "a/b", "a/b/c"]);
        assert_eq!(names(Some("a"), 2), ["a-b", "a/b"]);
        assert_eq!(names(Some("a/b"), 10), ["a/b/c"]);
        let a: Repository = "a".parse().unwrap();
        let manifests = store.manifests(&a, None, 10).unwrap();
        assert_eq!(manifests.len(), 3);
        assert_eq!(store.manifests(&a, Some(&manifests[0].digest), 10).unwrap(), manifests[1..]);
        assert_eq!(store.all_manifests(Some((&a, &manifests[2].digest)), 10).unwrap().len(), 3);
    }

    #[test]
    fn tags_and_manifests_are_replaced_and_removed() {
        let (_directory, store) = filled();
        let (a, v1): (Repository, Tag) = ("a".parse().unwrap(), "v1".parse().unwrap());
        let (manifest, tag) = tagged("a", "v1", b"newer");
        commit(&store, vec![Write::ImageManifest(Box::new(manifest.clone())), Write::ImageTag(tag.clone())]);
        assert_eq!(store.tag(&a, &v1).unwrap(), Some(tag));
        assert_eq!(store.manifest(&a, &manifest.digest).unwrap(), Some(manifest.clone()));
        let digest = manifest.digest;
        commit(
            &store,
            vec![Write::RemoveImageTag(a.clone(), v1.clone()), Write::RemoveImageManifest(a.clone(), digest)],
        );
        assert_eq!(store.tag(&a, &v1).unwrap(), None);
        assert_eq!(store.manifest(&a, &digest).unwrap(), None);
    }
}
