//! A manifest with its digest, and the parts of several manifests.

use std::collections::BTreeMap;

use berth_common::image::Digest;
use berth_images::manifest::{Descriptor, MAX_DOCUMENT_BYTES, Manifest};

use super::download::blocking;
use super::{Remote, RemoteError};

/// A parsed manifest.
pub(super) struct Document {
    pub(super) digest: Digest,
    pub(super) bytes: Vec<u8>,
    pub(super) manifest: Manifest,
}

impl Document {
    /// Parses a manifest; `what` completes "... of the registry is refused".
    pub(super) fn read(bytes: Vec<u8>, digest: Digest, what: &str) -> Result<Self, RemoteError> {
        let refused = |error| RemoteError::Manifest { what: what.to_owned(), error };
        let manifest = Manifest::read(&bytes).map_err(refused)?;
        Ok(Self { digest, bytes, manifest })
    }
}

impl Remote {
    /// A manifest of this edge, and those of its children that exist here.
    pub(super) async fn documents(&self, digest: Digest) -> Result<(Document, Vec<Document>), RemoteError> {
        let top = self.document(digest).await?;
        let top = top.ok_or_else(|| RemoteError::NotHere(digest.to_string()))?;
        let mut children = Vec::new();
        if let Manifest::Index(index) = &top.manifest {
            for child in &index.manifests {
                children.extend(self.document(child.digest).await?);
            }
        }
        Ok((top, children))
    }

    async fn document(&self, digest: Digest) -> Result<Option<Document>, RemoteError> {
        let content = self.images.content().clone();
        let bytes = blocking(move || content.read(&digest, MAX_DOCUMENT_BYTES)).await??;
        bytes.map(|bytes| Document::read(bytes, digest, "a manifest")).transpose()
    }
}

/// All blobs of these manifests, each once.
pub(super) fn blobs_of<'a>(documents: impl Iterator<Item = &'a Document>) -> BTreeMap<Digest, Descriptor> {
    let mut blobs = BTreeMap::new();
    for document in documents {
        if let Manifest::Image(image) = &document.manifest {
            blobs.extend(image.blobs().map(|blob| (blob.digest, blob.clone())));
        }
    }
    blobs
}

/// Total size of these manifests and all their blobs, in bytes.
pub(super) fn bytes_of<'a>(documents: impl Iterator<Item = &'a Document> + Clone) -> u64 {
    let blobs = blobs_of(documents.clone());
    let documents = documents.map(|document| document.bytes.len() as u64);
    documents.chain(blobs.values().map(|blob| blob.size)).fold(0, u64::saturating_add)
}
