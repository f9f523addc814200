//! The parts of an image.

use std::collections::BTreeMap;

use berth_api::images::{ImageInfo, ImageOf, LayerInfo};
use berth_common::image::{Digest, Repository};
use berth_images::manifest::{
    Config, Descriptor, ImageManifest, MAX_DOCUMENT_BYTES, Manifest, ManifestError,
};

use super::{Core, ImageError};
use crate::content::ContentError;

impl Core {
    /// The manifest with this digest, and its length. None if it does not exist.
    pub(super) fn manifest(&self, digest: &Digest) -> Result<Option<(Manifest, u64)>, ImageError> {
        match self.content.read(digest, MAX_DOCUMENT_BYTES)? {
            None => Ok(None),
            Some(bytes) => Ok(Some((Manifest::read(&bytes)?, bytes.len() as u64))),
        }
    }

    pub(super) fn describe(&self, digest: &Digest) -> Result<Option<ImageInfo>, ImageError> {
        let Some((manifest, length)) = self.manifest(digest)? else { return Ok(None) };
        // Each part once: images for several architectures often share some.
        let mut parts = BTreeMap::from([(*digest, length)]);
        let mut images = Vec::new();
        match &manifest {
            Manifest::Image(image) => {
                add_parts(&mut parts, image);
                images.extend(self.image_of(*digest, image)?);
            }
            Manifest::Index(index) => {
                for part in &index.manifests {
                    parts.insert(part.digest, part.size);
                    let Some((Manifest::Image(image), _)) = self.manifest(&part.digest)? else { continue };
                    add_parts(&mut parts, &image);
                    images.extend(self.image_of(part.digest, &image)?);
                }
            }
        }
        let media_type = manifest.media_type().to_owned();
        let bytes = parts.values().fold(0_u64, |sum, bytes| sum.saturating_add(*bytes));
        let architectures = images.iter().map(|image| image.architecture).collect();
        Ok(Some(ImageInfo { digest: *digest, media_type, bytes, architectures, images }))
    }

    /// The image, if it is one that can run.
    fn image_of(&self, digest: Digest, image: &ImageManifest) -> Result<Option<ImageOf>, ImageError> {
        let Some(config) = self.config(&image.config)? else { return Ok(None) };
        if config.diff_ids.len() != image.layers.len() {
            return Ok(None);
        }
        let layer = |layer: &Descriptor| LayerInfo {
            digest: layer.digest,
            media_type: layer.media_type.clone(),
            bytes: layer.size,
        };
        let bytes = image.blobs().fold(0_u64, |sum, blob| sum.saturating_add(blob.size));
        let layers = image.layers.iter().map(layer).collect();
        let (architecture, created) = (config.architecture, config.created);
        Ok(Some(ImageOf { digest, architecture, created, bytes, layers }))
    }

    /// The configuration, if it is that of an image. Artifacts have other ones, and cannot run.
    fn config(&self, of: &Descriptor) -> Result<Option<Config>, ImageError> {
        match self.content.read(&of.digest, MAX_DOCUMENT_BYTES) {
            Ok(bytes) => Ok(bytes.and_then(|bytes| Config::read(&bytes).ok())),
            Err(ContentError::Unexpected(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Accesses everything that the image needs, so that none of it is collected for a while.
    pub(super) fn pin(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<ImageInfo>, ImageError> {
        let changing = self.changing();
        if self.store.manifest(repository, digest)?.is_none() || self.content.size(digest)?.is_none() {
            return Ok(None);
        }
        let Some((manifest, _)) = self.manifest(digest)? else { return Ok(None) };
        self.touch(&manifest)?;
        drop(changing);
        self.describe(digest)
    }

    fn touch(&self, manifest: &Manifest) -> Result<(), ImageError> {
        let blobs: Vec<&Descriptor> = match manifest {
            Manifest::Image(image) => image.blobs().collect(),
            Manifest::Index(index) => index.manifests.iter().collect(),
        };
        for part in blobs {
            let digest = part.digest;
            let there = self.content.size(&digest)?;
            if there.is_none() && !part.may_run() {
                continue;
            }
            if there.is_none() && part.is_withheld() {
                return Err(ManifestError::Withheld(digest).into());
            }
            let found = there.ok_or(ImageError::MissingPart { what: "part", digest })?;
            if found != part.size {
                return Err(ImageError::Size { digest, said: part.size, found });
            }
            if let Manifest::Index(_) = manifest
                && let Some((Manifest::Image(image), _)) = self.manifest(&digest)?
            {
                self.touch(&Manifest::Image(image))?;
            }
        }
        Ok(())
    }
}

/// Whether one damaged or invalid manifest is the cause, so that others can still be looked at.
pub(super) fn is_of_the_manifest(error: &ImageError) -> bool {
    let content =
        |error: &ContentError| matches!(error, ContentError::Digest { .. } | ContentError::Unexpected(_));
    match error {
        ImageError::Manifest(ManifestError::Json(_)) | ImageError::Manifest(_) => true,
        ImageError::Content(error) => content(error),
        _ => false,
    }
}

fn add_parts(parts: &mut BTreeMap<Digest, u64>, image: &ImageManifest) {
    parts.extend(image.blobs().map(|blob| (blob.digest, blob.size)));
}
