//! Downloads blobs from other registries into this edge's content store: each digest once at a time, however many pulls
//! need it; written and hashed as it arrives, and resumed where it was interrupted.
//!
//! What fails, and what happens then:
//!
//! * Connection lost, too slow, or registry busy: retried with growing pauses, resumed with a `Range` request.
//! * The registry ignores the range: started over from the beginning.
//! * Wrong digest: discarded; downloaded once more if the bytes came from several responses, else refused.
//! * Longer than announced: the pull fails.
//! * No space: garbage is collected once, then the pull fails.
//! * The pull is cancelled, or the edge ends: the bytes are kept for a while, and the next pull resumes.

use std::time::Duration;

use crate::content::{ContentError, DOWNLOADS, Upload};
use ::http::header::{CONTENT_RANGE, RANGE};
use ::http::{HeaderValue, Method, StatusCode};
use berth_api::transfers::Phase;
use berth_common::image::{Digest, Repository};
use berth_images::manifest::Descriptor;
use bytes::{Bytes, BytesMut};

use super::error::RemoteError;
use super::exchange::Answer;
use super::progress::Progress;
use super::retry::Retry;
use super::session::{ApiCall, Session};
use super::slots::{Claim, Downloads, Guard, Partial};
use crate::images::{ImageError, Images};

/// Bytes that are written at once, and that each download holds in memory.
const BATCH_BYTES: usize = 512 << 10;
/// Longest time for one batch: a slower registry would delay a deployment for hours.
const BATCH_TIMEOUT: Duration = Duration::from_secs(60);

/// A blob to download from a repository.
pub(super) struct Download<'a> {
    pub(super) session: &'a Session<'a>,
    pub(super) repository: &'a Repository,
    pub(super) images: &'a Images,
    pub(super) downloads: &'a Downloads,
    pub(super) progress: &'a Progress,
}

impl Download<'_> {
    /// Ensures that a blob is in the content store.
    pub(super) async fn fetch(&self, blob: &Descriptor) -> Result<(), RemoteError> {
        if self.is_there(blob).await? {
            return Ok(());
        }
        let claim = self.downloads.claim(blob.digest);
        let guard = claim.work(blob, self.progress).await;
        // Another pull may have just completed this blob.
        if self.is_there(blob).await? {
            return Ok(());
        }
        self.work(&claim, blob, guard).await
    }

    async fn is_there(&self, blob: &Descriptor) -> Result<bool, RemoteError> {
        let (content, digest) = (self.images.content().clone(), blob.digest);
        // One of another size is damaged, and is replaced.
        let there = blocking(move || content.size(&digest)).await?? == Some(blob.size);
        if there {
            self.progress.set(Phase::Pull, blob.digest, blob.size, blob.size);
        }
        Ok(there)
    }

    async fn work(&self, claim: &Claim, blob: &Descriptor, mut guard: Guard) -> Result<(), RemoteError> {
        let mut retry = Retry::default();
        let mut restarted = false;
        loop {
            let before = length(&guard);
            let result;
            (guard, result) = self.attempt(claim, blob, guard).await?;
            if length(&guard) > before {
                retry.progressed();
            }
            match result {
                Ok(()) => return Ok(()),
                // Bytes from several responses may have been corrupted by an earlier one.
                Err(RemoteError::Content(ContentError::Digest { .. })) if guard.answers > 1 && !restarted => {
                    guard.discard();
                    restarted = true;
                }
                Err(RemoteError::Content(ContentError::Digest { expected, found })) => {
                    guard.discard();
                    return Err(RemoteError::Digest { expected, found });
                }
                Err(error) => {
                    if error.retry_pause().is_none() {
                        guard.discard();
                    }
                    retry.again(error).await?;
                }
            }
        }
    }

    /// One request, as far as it gets. The guard is returned unless the edge itself fails.
    async fn attempt(
        &self,
        claim: &Claim,
        blob: &Descriptor,
        mut guard: Guard,
    ) -> Result<(Guard, Result<(), RemoteError>), RemoteError> {
        if guard.upload.is_none() {
            *guard = self.begin(blob).await?;
        }
        if length(&guard) < blob.size {
            let mut answer = match self.request_rest(blob, &mut guard).await {
                Ok(answer) => answer,
                Err(error) => return Ok((guard, Err(error))),
            };
            guard.answers += 1;
            let taken;
            (guard, taken) = self.take(claim, blob, guard, &mut answer).await?;
            if taken.is_err() {
                return Ok((guard, taken));
            }
        }
        finish(guard, blob.digest).await
    }

    /// The bytes that an earlier edge has received, or none.
    async fn begin(&self, blob: &Descriptor) -> Result<Partial, RemoteError> {
        let (content, name, size) = (self.images.content().clone(), name(&blob.digest), blob.size);
        let upload = blocking(move || {
            let upload = content.resume(&name)?;
            if upload.length() <= size {
                return Ok(upload);
            }
            upload.discard();
            content.resume(&name)
        });
        let upload = upload.await??;
        // They came from one response or several, and a crash of the machine may have damaged them.
        let answers = if upload.length() > 0 { 2 } else { 0 };
        Ok(Partial { upload: Some(upload), answers })
    }

    /// Requests the missing bytes.
    async fn request_rest(&self, blob: &Descriptor, guard: &mut Guard) -> Result<Answer, RemoteError> {
        let from = length(guard);
        let path = format!("/v2/{}/blobs/{}", self.repository, blob.digest);
        let mut call =
            ApiCall::new(Method::GET, self.session.address(path), format!("the blob {}", blob.digest));
        if from > 0 {
            let range = HeaderValue::try_from(format!("bytes={from}-"));
            call = call.header(RANGE, range.map_err(|error| RemoteError::Internal(error.to_string()))?);
        }
        let answer = self.session.call(&call).await?;
        let starts = |text: &str| text.starts_with(&format!("bytes {from}-"));
        match answer.status {
            StatusCode::PARTIAL_CONTENT if answer.header(CONTENT_RANGE.as_str()).is_some_and(starts) => {
                Ok(answer)
            }
            StatusCode::PARTIAL_CONTENT if from > 0 => {
                Err(RemoteError::Invalid("it is another part than was asked for".to_owned()))
            }
            // A server without ranges sends everything from the start.
            StatusCode::OK => {
                if from > 0 {
                    guard.discard();
                    **guard = self.begin(blob).await?;
                }
                Ok(answer)
            }
            _ => Err(answer.refusal(&call.what).await),
        }
    }

    /// Reads the response, to the end or to an error.
    async fn take(
        &self,
        claim: &Claim,
        blob: &Descriptor,
        mut guard: Guard,
        answer: &mut Answer,
    ) -> Result<(Guard, Result<(), RemoteError>), RemoteError> {
        loop {
            let mut batch = BytesMut::with_capacity(BATCH_BYTES);
            let filled = tokio::time::timeout(BATCH_TIMEOUT, answer.fill(&mut batch, BATCH_BYTES)).await;
            if length(&guard) + batch.len() as u64 > blob.size {
                let what = format!("the blob {}", blob.digest);
                return Ok((guard, Err(RemoteError::Overlong { what, expected: blob.size })));
            }
            let written;
            (guard, written) = self.append(guard, batch.freeze()).await?;
            let found = length(&guard);
            claim.publish_length(found);
            self.progress.set(Phase::Pull, blob.digest, found, blob.size);
            let expected = blob.size;
            let ended = match (written, filled) {
                (Err(error), _) => Err(error.into()),
                (Ok(()), Err(_)) => Err(RemoteError::TooSlow { bytes: BATCH_BYTES, within: BATCH_TIMEOUT }),
                (Ok(()), Ok(Err(error))) => Err(error.into()),
                (Ok(()), Ok(Ok(true))) if found < expected => {
                    Err(RemoteError::Cut { what: blob.digest, found, expected })
                }
                (Ok(()), Ok(Ok(ended))) if ended => Ok(()),
                _ => continue,
            };
            return Ok((guard, ended));
        }
    }
}

impl Download<'_> {
    /// Writes a batch; without space, collects garbage once.
    async fn append(
        &self,
        guard: Guard,
        batch: Bytes,
    ) -> Result<(Guard, Result<(), ImageError>), RemoteError> {
        match append(guard, batch.clone()).await? {
            (guard, Err(ContentError::Quota { .. })) => {
                if let Err(error) = self.images.make_room().await {
                    return Ok((guard, Err(error)));
                }
                let (guard, written) = append(guard, batch).await?;
                Ok((guard, written.map_err(ImageError::from)))
            }
            (guard, written) => Ok((guard, written.map_err(ImageError::from))),
        }
    }
}

/// The name of the unfinished download of a blob.
fn name(digest: &Digest) -> String {
    format!("{DOWNLOADS}{}", digest.hex())
}

fn length(guard: &Guard) -> u64 {
    guard.upload.as_ref().map_or(0, Upload::length)
}

/// Writes a batch. If the waiting task is cancelled, what was written stays in the slot.
async fn append(mut guard: Guard, batch: Bytes) -> Result<(Guard, Result<(), ContentError>), RemoteError> {
    blocking(move || {
        let written = guard.upload.as_mut().map_or(Ok(()), |upload| upload.write(&batch));
        (guard, written)
    })
    .await
}

/// Adds the complete blob to the content store.
async fn finish(mut guard: Guard, digest: Digest) -> Result<(Guard, Result<(), RemoteError>), RemoteError> {
    blocking(move || {
        let finished = guard.upload.take().map_or(Ok(0), |upload| upload.finish(&digest));
        (guard, finished.map(drop).map_err(RemoteError::from))
    })
    .await
}

/// Runs blocking work on another thread.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, RemoteError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| RemoteError::Internal(error.to_string()))
}
