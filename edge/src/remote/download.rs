//! Blobs of other registries on their way to this edge's content: each digest once at a time, however many want it; written
//! as it comes, checked as it is written, and gone on with where it broke off.
//!
//! A blob in the making belongs to its slot and not to whoever works on it. Who goes away leaves it there: the next one who
//! wants the blob, or waits for it already, goes on with it. After a while in which nobody does it is removed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::http::header::{CONTENT_RANGE, RANGE};
use ::http::{HeaderValue, Method, StatusCode};
use berth_common::image::{Digest, Repository};
use berth_images::content::{ContentError, Upload};
use berth_images::manifest::Descriptor;
use bytes::{Bytes, BytesMut};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, watch};

use super::error::RemoteError;
use super::exchange::Answer;
use super::progress::{Phase, Progress};
use super::retry::Retry;
use super::session::{Ask, Session};
use crate::images::{ImageError, Images};

/// Bytes that are written at once, and that each download has in memory.
const BATCH_BYTES: usize = 512 << 10;
/// Longest that a batch may take: who sends more slowly would hold up a deploy for hours.
const BATCH_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a blob in the making is kept that nobody works on.
const KEPT: Duration = Duration::from_secs(600);
/// Most of those: past these the ones that nobody works on are removed.
const MAX_SLOTS: usize = 64;

/// What is there of a blob: bytes, and from how many answers they came.
#[derive(Debug, Default)]
struct Partial {
    upload: Option<Upload>,
    answers: u32,
}

type Guard = OwnedMutexGuard<Partial>;

/// A blob that somebody wants, or wanted lately.
struct Slot {
    /// Whoever holds it works on it, alone: for as long as it takes, by design.
    partial: Arc<AsyncMutex<Partial>>,
    /// How far it is, for those who wait.
    length: watch::Sender<u64>,
}

/// All downloads of an edge. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Downloads(Arc<Mutex<HashMap<Digest, Arc<Slot>>>>);

/// The slot of a blob, for as long as one wants it.
struct Claim {
    downloads: Downloads,
    digest: Digest,
    slot: Arc<Slot>,
}

impl Downloads {
    fn claim(&self, digest: Digest) -> Claim {
        let mut slots = self.lock();
        if slots.len() >= MAX_SLOTS {
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        let new = || Arc::new(Slot { partial: Arc::default(), length: watch::Sender::new(0) });
        let slot = Arc::clone(slots.entry(digest).or_insert_with(new));
        Claim { downloads: self.clone(), digest, slot }
    }

    /// Removes a slot that nobody claims.
    fn forget(&self, digest: &Digest) {
        let mut slots = self.lock();
        // Those who claim it hold it too.
        if slots.get(digest).is_some_and(|slot| Arc::strong_count(slot) == 1) {
            slots.remove(digest);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, Arc<Slot>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.lock().len()
    }
}

impl Claim {
    /// Waits until nobody else works on the blob, and shows meanwhile how far that is.
    async fn work(&self, blob: &Descriptor, progress: &Progress) -> Guard {
        let mut length = self.slot.length.subscribe();
        let waiting = Arc::clone(&self.slot.partial).lock_owned();
        tokio::pin!(waiting);
        loop {
            tokio::select! {
                biased;
                guard = &mut waiting => return guard,
                Ok(()) = length.changed() => {
                    progress.set(Phase::Pull, blob.digest, *length.borrow_and_update(), blob.size);
                }
            }
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let (downloads, digest) = (self.downloads.clone(), self.digest);
        let something = self.slot.partial.try_lock().map_or(true, |partial| partial.upload.is_some());
        match tokio::runtime::Handle::try_current().ok().filter(|_| something) {
            Some(runtime) => drop(runtime.spawn(async move {
                tokio::time::sleep(KEPT).await;
                downloads.forget(&digest);
            })),
            None => {
                let mut slots = downloads.lock();
                // The map's, and this one.
                if slots.get(&digest).is_some_and(|slot| Arc::strong_count(slot) <= 2) {
                    slots.remove(&digest);
                }
            }
        }
    }
}

/// A blob that is wanted from a repository.
pub(super) struct Download<'a> {
    pub(super) session: &'a Session<'a>,
    pub(super) repository: &'a Repository,
    pub(super) images: &'a Images,
    pub(super) downloads: &'a Downloads,
    pub(super) progress: &'a Progress,
}

impl Download<'_> {
    /// Sees to it that a blob is there.
    pub(super) async fn fetch(&self, blob: &Descriptor) -> Result<(), RemoteError> {
        if self.is_there(blob).await? {
            return Ok(());
        }
        let claim = self.downloads.claim(blob.digest);
        let guard = claim.work(blob, self.progress).await;
        // Perhaps it was this blob that somebody else has just finished.
        if self.is_there(blob).await? {
            return Ok(());
        }
        self.work(&claim, blob, guard).await
    }

    async fn is_there(&self, blob: &Descriptor) -> Result<bool, RemoteError> {
        let (content, digest) = (self.images.content().clone(), blob.digest);
        let there = blocking(move || content.size(&digest)).await??;
        if there.is_some() {
            self.progress.set(Phase::Pull, blob.digest, blob.size, blob.size);
        }
        Ok(there.is_some())
    }

    async fn work(&self, claim: &Claim, blob: &Descriptor, mut guard: Guard) -> Result<(), RemoteError> {
        let mut retry = Retry::default();
        let mut anew = false;
        loop {
            let before = length(&guard);
            let result;
            (guard, result) = self.attempt(claim, blob, guard).await?;
            if length(&guard) > before {
                retry.progressed();
            }
            match result {
                Ok(()) => return Ok(()),
                // What came from several answers may have been spoiled by an earlier one.
                Err(RemoteError::Content(ContentError::Digest { .. })) if guard.answers > 1 && !anew => {
                    *guard = Partial::default();
                    anew = true;
                }
                Err(RemoteError::Content(ContentError::Digest { expected, found })) => {
                    *guard = Partial::default();
                    return Err(RemoteError::Digest { expected, found });
                }
                Err(error) => {
                    if error.may_pass().is_none() {
                        *guard = Partial::default();
                    }
                    retry.again(error).await?;
                }
            }
        }
    }

    /// One request, as far as it goes. The guard comes back but where the edge itself fails.
    async fn attempt(
        &self,
        claim: &Claim,
        blob: &Descriptor,
        mut guard: Guard,
    ) -> Result<(Guard, Result<(), RemoteError>), RemoteError> {
        if guard.upload.is_none() {
            let content = self.images.content().clone();
            *guard = Partial { upload: Some(blocking(move || content.begin()).await??), answers: 0 };
        }
        if length(&guard) < blob.size {
            let mut answer = match self.ask(blob, &mut guard).await {
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

    /// Asks for what is missing.
    async fn ask(&self, blob: &Descriptor, guard: &mut Guard) -> Result<Answer, RemoteError> {
        let from = length(guard);
        let path = format!("/v2/{}/blobs/{}", self.repository, blob.digest);
        let mut ask = Ask::new(Method::GET, self.session.place(path), format!("the blob {}", blob.digest));
        if from > 0 {
            let range = HeaderValue::try_from(format!("bytes={from}-"));
            ask = ask.header(RANGE, range.map_err(|error| RemoteError::Internal(error.to_string()))?);
        }
        let answer = self.session.ask(&ask).await?;
        let starts = |text: &str| text.starts_with(&format!("bytes {from}-"));
        match answer.status {
            StatusCode::PARTIAL_CONTENT if answer.header(CONTENT_RANGE.as_str()).is_some_and(starts) => {
                Ok(answer)
            }
            StatusCode::PARTIAL_CONTENT if from > 0 => {
                Err(RemoteError::Senseless("it is another part than was asked for".to_owned()))
            }
            // Whoever cannot go on begins anew.
            StatusCode::OK => {
                if from > 0 {
                    let content = self.images.content().clone();
                    **guard = Partial { upload: Some(blocking(move || content.begin()).await??), answers: 0 };
                }
                Ok(answer)
            }
            _ => Err(answer.refusal(&ask.what).await),
        }
    }

    /// Takes what comes, to the end or to an error.
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
            claim.slot.length.send_replace(found);
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
    /// Writes; where there is no room, makes some once.
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

fn length(guard: &Guard) -> u64 {
    guard.upload.as_ref().map_or(0, Upload::length)
}

/// Writes. Whoever waits for it may go away meanwhile: what is written stays in the slot.
async fn append(mut guard: Guard, batch: Bytes) -> Result<(Guard, Result<(), ContentError>), RemoteError> {
    blocking(move || {
        let written = guard.upload.as_mut().map_or(Ok(()), |upload| upload.write(&batch));
        (guard, written)
    })
    .await
}

/// Puts the blob to its place.
async fn finish(mut guard: Guard, digest: Digest) -> Result<(Guard, Result<(), RemoteError>), RemoteError> {
    blocking(move || {
        let finished = guard.upload.take().map_or(Ok(0), |upload| upload.finish(&digest));
        (guard, finished.map(drop).map_err(RemoteError::from))
    })
    .await
}

/// Does what waits for the disk, elsewhere.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, RemoteError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| RemoteError::Internal(error.to_string()))
}
