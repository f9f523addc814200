//! Uploads of blobs to a registry: read as they are sent, and watched, so that a registry that stops reading does not
//! block the push for ever.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use berth_api::transfers::Phase;
use berth_common::image::Digest;
use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;

use super::error::RemoteError;
use super::exchange::{Answer, Body};
use super::progress::Progress;

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 256 << 10;
/// Longest time without a chunk being read by the registry.
const STALL: Duration = Duration::from_secs(30);
/// Longest wait for the response after the last byte: some registries copy the blob to other storage first.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(300);

/// A blob to upload.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) digest: Digest,
    pub(super) file: Arc<File>,
    pub(super) length: u64,
    pub(super) progress: Progress,
    sent: Arc<AtomicU64>,
}

impl Source {
    pub(super) fn new(digest: Digest, file: File, length: u64, progress: Progress) -> Self {
        Self { digest, file: Arc::new(file), length, progress, sent: Arc::default() }
    }

    /// The whole body from the start.
    pub(super) fn body(&self) -> Body {
        self.sent.store(0, Ordering::Relaxed);
        let chunks = stream::try_unfold((self.clone(), 0), |(source, offset)| async move {
            source.progress.set(Phase::Push, source.digest, offset, source.length);
            source.sent.store(offset, Ordering::Relaxed);
            if offset >= source.length {
                return Ok(None);
            }
            let chunk = source.read(offset).await?;
            let next = offset + chunk.len() as u64;
            Ok(Some((Frame::data(chunk), (source, next))))
        });
        StreamBody::new(chunks).boxed_unsync()
    }

    async fn read(&self, offset: u64) -> io::Result<Bytes> {
        let file = Arc::clone(&self.file);
        let rest = usize::try_from(self.length - offset).unwrap_or(usize::MAX);
        let read = move || {
            let mut chunk = vec![0; rest.min(CHUNK_BYTES)];
            file.read_exact_at(&mut chunk, offset)?;
            Ok(Bytes::from(chunk))
        };
        tokio::task::spawn_blocking(read).await.unwrap_or_else(|error| Err(io::Error::other(error)))
    }

    /// Waits for the response for as long as the body makes progress.
    pub(super) async fn watch(
        &self,
        sending: impl Future<Output = Result<Answer, RemoteError>>,
    ) -> Result<Answer, RemoteError> {
        tokio::pin!(sending);
        let mut before = None;
        loop {
            let sent = self.sent.load(Ordering::Relaxed);
            if before == Some(sent) {
                return Err(RemoteError::TimedOut(self.patience(sent)));
            }
            before = Some(sent);
            tokio::select! {
                answer = &mut sending => return answer,
                () = tokio::time::sleep(self.patience(sent)) => {}
            }
        }
    }

    fn patience(&self, sent: u64) -> Duration {
        if sent < self.length { STALL } else { COMMIT_TIMEOUT }
    }
}
