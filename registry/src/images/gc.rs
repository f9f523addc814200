//! Garbage collection of images: manifests without a tag that no kept version of an app uses, that no remaining index
//! lists and that do not refer to a remaining one (`subject`); and content that no remaining manifest needs.
//!
//! Runs concurrently with pushes and deployments. Everything that was accessed within the grace period is kept, so that
//! the blobs a push was told of exist when its manifest arrives; and each removal is checked once more under the lock
//! that excludes new names.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use berth_api::images::{Swept, SweptBlob, SweptManifest};
use berth_common::image::Digest;
use berth_images::manifest::Manifest;
use berth_store::Write;

use super::info::is_of_the_manifest;
use super::{Core, ImageError, Images, ROOM_PAUSE, each_manifest, each_tag};
use crate::content::DOWNLOADS;

/// Grace period of content without a name: longer than a push of the largest image takes from its first request to its
/// manifest.
const GRACE: Duration = Duration::from_secs(60 * 60);
/// Interval of regular collections.
const EVERY: Duration = Duration::from_secs(60 * 60);
/// How long an unfinished download is kept that an earlier edge began: longer than a pull waits for a slow registry.
const DOWNLOADS_KEPT: Duration = Duration::from_secs(60 * 60);
/// How often abandoned uploads are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Expires abandoned uploads and collects garbage at intervals, for as long as it is polled.
pub async fn collect_regularly(images: Arc<Images>) {
    let mut last = Instant::now();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        images.sessions().expire(Instant::now());
        if let Err(error) = images.content().sweep_uploads(DOWNLOADS, DOWNLOADS_KEPT) {
            tracing::warn!(%error, "unfinished downloads not removed");
        }
        if last.elapsed() < EVERY {
            continue;
        }
        last = Instant::now();
        if let Err(error) = images.gc(false).await {
            tracing::warn!(%error, "unused images not removed");
        }
    }
}

/// What is to be kept.
#[derive(Default)]
struct Marked {
    manifests: HashSet<Digest>,
    /// These manifests, and everything they need.
    content: HashSet<Digest>,
}

impl Core {
    pub(super) fn gc(&self, dry_run: bool) -> Result<Swept, ImageError> {
        self.gc_with(GRACE, dry_run)
    }

    pub(super) fn gc_with(&self, grace: Duration, dry_run: bool) -> Result<Swept, ImageError> {
        let _one = self.collecting.lock().unwrap_or_else(PoisonError::into_inner);
        self.collect(grace, dry_run)
    }

    /// Collects garbage because there is no space, unless that was tried a short time ago.
    pub(super) fn make_room(&self) -> Result<(), ImageError> {
        let mut last = self.collecting.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|last| last.elapsed() < ROOM_PAUSE) {
            return Ok(());
        }
        let swept = self.collect(GRACE, false)?;
        *last = Some(Instant::now());
        tracing::info!(bytes = swept.bytes, "unused images removed for a push");
        Ok(())
    }

    fn collect(&self, grace: Duration, dry_run: bool) -> Result<Swept, ImageError> {
        let marked = self.mark(grace)?;
        let manifests = self.unmarked(&marked)?;
        let manifests = if dry_run { manifests } else { self.take_from_repositories(manifests, grace)? };
        let swept = self.content.sweep(&marked.content, grace, dry_run)?;
        let bytes = swept.iter().map(|(_, bytes)| bytes).sum();
        let found = !manifests.is_empty() || !swept.is_empty();
        if found && !dry_run {
            tracing::info!(manifests = manifests.len(), blobs = swept.len(), bytes, "images removed");
        }
        let blobs = swept.into_iter().map(|(digest, bytes)| SweptBlob { digest, bytes }).collect();
        Ok(Swept { manifests, blobs, bytes })
    }

    fn mark(&self, grace: Duration) -> Result<Marked, ImageError> {
        let mut marked = Marked::default();
        let mut roots: Vec<Digest> = self.uses()?.digests().collect();
        each_tag(&*self.store, |tag| roots.push(tag.digest))?;
        let (mut all, mut about) = (Vec::new(), Vec::new());
        each_manifest(&*self.store, |of| {
            about.extend(of.subject.map(|subject| (subject.digest, of.digest)));
            all.push(of.digest);
        })?;
        for digest in all {
            if self.content.idle(&digest)?.is_some_and(|idle| idle < grace) {
                roots.push(digest);
            }
        }
        self.mark_from(roots, &mut marked)?;
        loop {
            let stays = |(subject, digest): &(Digest, Digest)| {
                (marked.manifests.contains(subject) && !marked.manifests.contains(digest)).then_some(*digest)
            };
            let more: Vec<Digest> = about.iter().filter_map(stays).collect();
            if more.is_empty() {
                return Ok(marked);
            }
            self.mark_from(more, &mut marked)?;
        }
    }

    fn mark_from(&self, mut work: Vec<Digest>, marked: &mut Marked) -> Result<(), ImageError> {
        while let Some(digest) = work.pop() {
            if !marked.manifests.insert(digest) {
                continue;
            }
            marked.content.insert(digest);
            match self.manifest(&digest) {
                Ok(Some((Manifest::Image(image), _))) => {
                    marked.content.extend(image.blobs().map(|blob| blob.digest));
                }
                Ok(Some((Manifest::Index(index), _))) => {
                    work.extend(index.manifests.iter().map(|part| part.digest));
                }
                Ok(None) => {}
                // A damaged image cannot be used any more, whatever is kept.
                Err(error) if is_of_the_manifest(&error) => {
                    tracing::warn!(%digest, %error, "an image is damaged: push it again");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn unmarked(&self, marked: &Marked) -> Result<Vec<SweptManifest>, ImageError> {
        let mut unmarked = Vec::new();
        each_manifest(&*self.store, |of| {
            if !marked.manifests.contains(&of.digest) {
                unmarked.push(SweptManifest { repository: of.repository, digest: of.digest });
            }
        })?;
        Ok(unmarked)
    }

    /// Removes manifests from their repositories, unless they were accessed in the meantime.
    fn take_from_repositories(
        &self,
        manifests: Vec<SweptManifest>,
        grace: Duration,
    ) -> Result<Vec<SweptManifest>, ImageError> {
        /// In one write: the caller holds the lock that excludes new names.
        const AT_ONCE: usize = 100;
        let mut taken = Vec::new();
        for some in manifests.chunks(AT_ONCE) {
            let mut counts = self.changing();
            let mut still = Vec::new();
            for manifest in some {
                if self.content.idle(&manifest.digest)?.is_none_or(|idle| idle >= grace) {
                    still.push(manifest.clone());
                }
            }
            let end = |of: &SweptManifest| Write::RemoveImageManifest(of.repository.clone(), of.digest);
            if !still.is_empty() {
                self.commit(still.iter().map(end).collect())?;
            }
            counts.manifests = counts.manifests.saturating_sub(still.len());
            taken.extend(still);
        }
        Ok(taken)
    }
}
