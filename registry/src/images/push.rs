//! Accepts manifests: their parts must exist, and are kept from then on.

use berth_common::clock::wall_ms;
use berth_common::image::{Algorithm, Digest, Repository, Tag};
use berth_images::manifest::{Descriptor, ImageManifest, MAX_DOCUMENT_BYTES, Manifest};
use berth_store::{ManifestRecord, Subject, TagRecord, Write};

use super::{Core, Counts, ImageError, MAX_ENTRIES};

/// Deepest nesting of indexes: no tool produces more.
const MAX_DEPTH: usize = 2;

impl Core {
    /// Content first, and names once that is durable: a name never points to missing content.
    pub(super) fn put_manifest(
        &self,
        repository: &Repository,
        tags: &[Tag],
        algorithm: Algorithm,
        bytes: &[u8],
    ) -> Result<Digest, ImageError> {
        let manifest = Manifest::read(bytes)?;
        let digest = Digest::with(algorithm, bytes);
        let room = self.with_room(|| {
            let mut upload = self.content.begin()?;
            upload.write(bytes)?;
            Ok(upload)
        });
        let upload = room?;
        let mut counts = self.changing();
        self.check_parts(repository, &manifest, MAX_DEPTH)?;
        upload.finish(&digest)?;
        let record = record(repository, digest, bytes.len() as u64, &manifest);
        self.name(&mut counts, record, tags)?;
        Ok(digest)
    }

    fn name(&self, counts: &mut Counts, record: ManifestRecord, tags: &[Tag]) -> Result<(), ImageError> {
        let (repository, digest) = (record.repository.clone(), record.digest);
        let new_manifest = usize::from(self.store.manifest(&repository, &digest)?.is_none());
        let mut writes = vec![Write::ImageManifest(Box::new(record))];
        let mut new_tags = 0;
        for tag in tags {
            new_tags += usize::from(self.store.tag(&repository, tag)?.is_none());
            writes.push(Write::ImageTag(TagRecord {
                repository: repository.clone(),
                tag: tag.clone(),
                digest,
            }));
        }
        if counts.manifests + new_manifest > MAX_ENTRIES {
            return Err(ImageError::TooMany("manifests"));
        }
        if counts.tags + new_tags > MAX_ENTRIES {
            return Err(ImageError::TooMany("tags"));
        }
        self.commit(writes)?;
        counts.manifests += new_manifest;
        counts.tags += new_tags;
        Ok(())
    }

    /// Checks that everything that a manifest names exists, with the announced sizes. What was checked is not collected
    /// for a while.
    pub(super) fn check_parts(
        &self,
        repository: &Repository,
        manifest: &Manifest,
        depth: usize,
    ) -> Result<(), ImageError> {
        match manifest {
            Manifest::Image(image) => {
                check_size(image, self.limits.image_bytes)?;
                // What its makers alone distribute need not be here, for as long as nobody runs it.
                let needed = |blob: &&Descriptor| !blob.is_withheld() || self.is_here(blob);
                image.blobs().filter(needed).try_for_each(|blob| self.check_part("blob", blob))
            }
            Manifest::Index(index) => {
                index.manifests.iter().try_for_each(|part| self.check_manifest(repository, part, depth))
            }
        }
    }

    fn check_manifest(
        &self,
        repository: &Repository,
        part: &Descriptor,
        depth: usize,
    ) -> Result<(), ImageError> {
        let missing = || ImageError::MissingPart { what: "manifest", digest: part.digest };
        let depth = depth.checked_sub(1).ok_or_else(|| {
            let text = format!("it has indexes in indexes, more than {MAX_DEPTH} deep");
            ImageError::Manifest(berth_images::manifest::ManifestError::Senseless(text))
        })?;
        if self.store.manifest(repository, &part.digest)?.is_none() {
            // Of an index from another registry only the images that nodes can run exist here.
            if !part.may_run() {
                return Ok(());
            }
            return Err(missing());
        }
        self.check_part("manifest", part)?;
        let bytes = self.content.read(&part.digest, MAX_DOCUMENT_BYTES)?.ok_or_else(missing)?;
        self.check_parts(repository, &Manifest::read(&bytes)?, depth)
    }

    fn is_here(&self, part: &Descriptor) -> bool {
        matches!(self.content.size(&part.digest), Ok(Some(_)))
    }

    fn check_part(&self, what: &'static str, part: &Descriptor) -> Result<(), ImageError> {
        let (digest, said) = (part.digest, part.size);
        match self.content.size(&digest)? {
            None => Err(ImageError::MissingPart { what, digest }),
            Some(found) if found != said => Err(ImageError::Size { digest, said, found }),
            Some(_) => Ok(()),
        }
    }
}

pub(super) fn check_size(image: &ImageManifest, limit: u64) -> Result<(), ImageError> {
    let bytes = image.blobs().fold(0_u64, |sum, blob| sum.saturating_add(blob.size));
    if bytes > limit { Err(ImageError::TooLarge { bytes, limit }) } else { Ok(()) }
}

fn record(repository: &Repository, digest: Digest, size: u64, manifest: &Manifest) -> ManifestRecord {
    // An artifact without a type of its own has the type of its configuration (OCI image specification,
    // `artifactType`).
    let (artifact_type, annotations) = match manifest {
        Manifest::Image(image) => {
            let kind = image.artifact_type.clone().or_else(|| Some(image.config.media_type.clone()));
            (kind, &image.annotations)
        }
        Manifest::Index(index) => (index.artifact_type.clone(), &index.annotations),
    };
    let subject = manifest.subject().map(|subject| Subject {
        digest: subject.digest,
        artifact_type,
        annotations: annotations.clone(),
    });
    ManifestRecord {
        repository: repository.clone(),
        digest,
        media_type: manifest.media_type().to_owned(),
        size,
        pushed_ms: wall_ms(),
        subject,
    }
}
