//! Deletes names of images. Their content is removed by the garbage collection once nothing uses it (`gc`).

use berth_common::image::{Digest, Named, Pick, Repository};
use berth_images::manifest::Manifest;
use berth_store::Write;

use super::info::is_of_the_manifest;
use super::{Core, ImageError, PAGE, each_manifest};

impl Core {
    /// An image that a kept version of an app uses is refused, unless forced; even then its content is kept.
    pub(super) fn delete(&self, image: &Named, force: bool) -> Result<(), ImageError> {
        let mut counts = self.changing();
        let digest = self.named(image)?;
        if !force {
            let uses = self.uses()?.of(&digest);
            if !uses.is_empty() {
                return Err(ImageError::Used { digest, uses });
            }
        }
        let writes = self.end_of(image)?;
        let manifests = usize::from(matches!(image.pick, Pick::Digest(_)));
        let tags = writes.len() - manifests;
        self.commit(writes)?;
        tracing::info!(%image, %digest, "image deleted");
        counts.manifests = counts.manifests.saturating_sub(manifests);
        counts.tags = counts.tags.saturating_sub(tags);
        Ok(())
    }

    fn named(&self, image: &Named) -> Result<Digest, ImageError> {
        let found = match &image.pick {
            Pick::Tag(tag) => self.store.tag(&image.repository, tag)?.map(|tag| tag.digest),
            Pick::Digest(digest) => self.store.manifest(&image.repository, digest)?.map(|of| of.digest),
        };
        found.ok_or_else(|| ImageError::Unknown(format!("there is no image {image}")))
    }

    fn end_of(&self, image: &Named) -> Result<Vec<Write>, ImageError> {
        let repository = &image.repository;
        match &image.pick {
            Pick::Tag(tag) => Ok(vec![Write::RemoveImageTag(repository.clone(), tag.clone())]),
            Pick::Digest(digest) => {
                let mut writes = self.ends_of_tags(repository, digest)?;
                writes.push(Write::RemoveImageManifest(repository.clone(), *digest));
                Ok(writes)
            }
        }
    }

    /// The removals of all tags of a manifest in a repository.
    fn ends_of_tags(&self, repository: &Repository, digest: &Digest) -> Result<Vec<Write>, ImageError> {
        let (mut writes, mut last) = (Vec::new(), None);
        loop {
            let page = self.store.tags(repository, last.as_ref(), PAGE)?;
            let Some(newest) = page.last() else { return Ok(writes) };
            last = Some(newest.tag.clone());
            let of_it = page.into_iter().filter(|tag| tag.digest == *digest);
            writes.extend(of_it.map(|tag| Write::RemoveImageTag(tag.repository, tag.tag)));
        }
    }

    /// Deletes a blob that is not part of an image, and not a manifest that has a name or is used.
    pub(super) fn delete_blob(&self, digest: &Digest) -> Result<bool, ImageError> {
        // Under this lock no new name can need it.
        let _changing = self.changing();
        if let Some(image) = self.image_with(digest)? {
            return Err(ImageError::Part { blob: *digest, image });
        }
        Ok(self.content.remove(digest)?.is_some())
    }

    /// An image that the blob is part of.
    fn image_with(&self, blob: &Digest) -> Result<Option<String>, ImageError> {
        let mut manifests = Vec::new();
        each_manifest(&*self.store, |of| manifests.push((of.digest, of.repository)))?;
        for (digest, repository) in manifests {
            if digest == *blob || self.is_part(blob, &digest)? {
                return Ok(Some(format!("the image {repository}@{digest}")));
            }
        }
        for digest in self.uses()?.digests() {
            if digest == *blob || self.is_part(blob, &digest)? {
                return Ok(Some(format!("the image {digest}, which an app uses")));
            }
        }
        Ok(None)
    }

    fn is_part(&self, blob: &Digest, image: &Digest) -> Result<bool, ImageError> {
        let manifest = match self.manifest(image) {
            Err(error) if is_of_the_manifest(&error) => None,
            manifest => manifest?,
        };
        Ok(match manifest {
            None => false,
            Some((Manifest::Image(image), _)) => image.blobs().any(|part| part.digest == *blob),
            Some((Manifest::Index(index), _)) => index.manifests.iter().any(|part| part.digest == *blob),
        })
    }
}
