//! Streams bytes between clients and the disk: however large a blob is, a request takes little memory.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::time::Duration;

use crate::content::Upload;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::StatusCode;
use futures_util::stream;
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::Registry;
use super::error::{Answered, RegistryError};
use crate::images::ImageError;

/// Bytes that are written to disk, or read from it, at once.
const CHUNK_BYTES: usize = 128 * 1024;
/// How long a client may be silent in the middle of a body.
const IDLE: Duration = Duration::from_secs(60);
/// How long the rest of a refused body is read: a client that is still sending might not see the response otherwise.
const DRAIN: Duration = Duration::from_secs(10);

impl Registry {
    /// Appends a request's body to an upload. What was received stays in it, whatever happens. Runs in a task of its
    /// own, so that the upload is given to `alone` if the request is cancelled.
    pub(super) async fn receive(
        self: &Arc<Self>,
        upload: Upload,
        body: Body,
        alone: impl FnOnce(Option<Upload>) + Send + 'static,
    ) -> (Option<Upload>, Answered<()>) {
        let (sender, result) = tokio::sync::oneshot::channel();
        let registry = Arc::clone(self);
        tokio::spawn(async move {
            if let Err((upload, _)) = sender.send(registry.add(upload, body).await) {
                alone(upload);
            }
        });
        result.await.unwrap_or_else(|_| (None, Err(ImageError::Stopping.into())))
    }

    async fn add(&self, upload: Upload, mut body: Body) -> (Option<Upload>, Answered<()>) {
        let mut upload = Some(upload);
        loop {
            let (bytes, end) = gather(&mut body).await;
            if !bytes.is_empty()
                && let Some(taken) = upload.take()
            {
                let length = bytes.iter().map(|bytes| bytes.len() as u64).sum();
                let (back, written) = self.images.write(taken, bytes).await;
                self.counts.received_bytes.add(length);
                if let Err(error) = written {
                    drain(body).await;
                    return (back, Err(error.into()));
                }
                upload = back;
            }
            match end {
                Ok(true) => return (upload, Ok(())),
                Ok(false) => {}
                Err(error) => return (upload, Err(error)),
            }
        }
    }

    /// Part of a file as a response body.
    pub(super) fn send(self: &Arc<Self>, file: File, from: u64, length: u64) -> Body {
        let state = (Arc::clone(self), file, from, length);
        Body::from_stream(stream::try_unfold(state, |(registry, file, from, left)| async move {
            if left == 0 {
                return Ok(None);
            }
            let (file, bytes) = read(file, from, left).await?;
            let count = bytes.len() as u64;
            registry.counts.sent_bytes.add(count);
            Ok::<_, io::Error>(Some((bytes, (registry, file, from + count, left - count))))
        }))
    }
}

/// The next bytes of a body, and whether it has ended.
async fn gather(body: &mut Body) -> (Vec<Bytes>, Answered<bool>) {
    let (mut gathered, mut length) = (Vec::new(), 0);
    while length < CHUNK_BYTES {
        match tokio::time::timeout(IDLE, body.frame()).await {
            Ok(Some(Ok(frame))) => {
                if let Ok(bytes) = frame.into_data() {
                    length += bytes.len();
                    gathered.push(bytes);
                }
            }
            Ok(None) => return (gathered, Ok(true)),
            Ok(Some(Err(error))) => return (gathered, Err(broken(&error.to_string()))),
            Err(_) => return (gathered, Err(broken("the client was silent for too long"))),
        }
    }
    (gathered, Ok(false))
}

fn broken(why: &str) -> RegistryError {
    let message = format!("the body is not complete ({why}): continue where it ended");
    RegistryError::new(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID", message)
}

/// Reads the rest of a body for a while.
pub(super) async fn drain(mut body: Body) {
    let rest = async { while let Some(Ok(_)) = body.frame().await {} };
    let _ = tokio::time::timeout(DRAIN, rest).await;
}

/// The whole of a short body.
pub(super) async fn read_all(mut body: Body, most: usize) -> Answered<Vec<u8>> {
    let too_long = || {
        let message = format!("the body has more than {most} bytes, which is the most a manifest may have");
        RegistryError::new(StatusCode::PAYLOAD_TOO_LARGE, "MANIFEST_INVALID", message)
    };
    if body.size_hint().lower() > most as u64 {
        drain(body).await;
        return Err(too_long());
    }
    let collected = tokio::time::timeout(IDLE, Limited::new(&mut body, most).collect()).await;
    match collected {
        Ok(Ok(collected)) => Ok(collected.to_bytes().to_vec()),
        Ok(Err(error)) if error.downcast_ref::<LengthLimitError>().is_some() => {
            drain(body).await;
            Err(too_long())
        }
        Ok(Err(error)) => Err(broken(&error.to_string())),
        Err(_) => Err(broken("the client was silent for too long")),
    }
}

async fn read(mut file: File, from: u64, most: u64) -> io::Result<(File, Bytes)> {
    let read = tokio::task::spawn_blocking(move || {
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::with_capacity(CHUNK_BYTES);
        (&file).take(most.min(CHUNK_BYTES as u64)).read_to_end(&mut bytes)?;
        if bytes.is_empty() {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        Ok((file, Bytes::from(bytes)))
    });
    read.await.map_err(io::Error::other)?
}
