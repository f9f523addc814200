//! Transfers of images from and to other registries. The response is a stream of progress as lines of JSON.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use berth_api::transfers::{CopyOrder, Done, PullOrder, TransferLine};
use berth_common::image::Reference;
use berth_registry::remote::{Copy, Destination, Moved, Progress, Pull, Remote, RemoteError};
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinError;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::Admin;
use super::problem::{Denied, Problem, Unavailable, Wrong};
use super::read::{self, Body as Json};
use super::registries::login;

/// Most transfers at once: each has several connections, and some megabytes in memory.
const MAX_TRANSFERS: usize = 16;
/// How often progress is sampled.
const TICK: Duration = Duration::from_millis(300);
/// Interval of empty lines on a silent stream, by which both sides notice that the other is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const CONTENT_TYPE: &str = "application/x-ndjson";

/// Permits for transfers.
pub(crate) fn permits() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(MAX_TRANSFERS))
}

/// Pulls an image from another registry into this edge's, into the repository `host/repository` (with `_` before a
/// port). Reports the progress of each blob a few times a second; the last line has `done` or `error`. The transfer
/// ends with the connection; blobs that are complete by then need not be pulled again.
#[utoipa::path(post, path = "/v1/images/pull", tag = "images", request_body = PullOrder,
    responses((status = 200, body = TransferLine, content_type = "application/x-ndjson"), Denied, Wrong, Unavailable))]
pub(super) async fn pull(
    State(admin): State<Arc<Admin>>,
    Json(order): Json<PullOrder>,
) -> Result<Response, Problem> {
    let PullOrder { reference, credentials, platform, tag } = order;
    let from: Reference = read::name("reference", &reference)?;
    let login = credentials.map(login).transpose()?;
    let pull = Pull { from, login, platform, into: Destination::Mirror { tag } };
    admin.transfer(Order::Pull(pull))
}

/// Copies an image: from another registry to this edge, from this edge to another registry, or between two others
/// through this edge. Responds as a pull does. An index of which some images are not here is pushed as an index of
/// those that are.
#[utoipa::path(post, path = "/v1/images/copy", tag = "images", request_body = CopyOrder,
    responses((status = 200, body = TransferLine, content_type = "application/x-ndjson"), Denied, Wrong, Unavailable))]
pub(super) async fn copy(
    State(admin): State<Arc<Admin>>,
    Json(order): Json<CopyOrder>,
) -> Result<Response, Problem> {
    let CopyOrder { from, to, from_credentials, to_credentials } = order;
    let copy = Copy {
        from: read::name("from", &from)?,
        to: read::name("to", &to)?,
        from_login: from_credentials.map(login).transpose()?,
        to_login: to_credentials.map(login).transpose()?,
    };
    admin.transfer(Order::Copy(copy))
}

/// The transfer to carry out.
enum Order {
    Pull(Pull),
    Copy(Copy),
}

impl Order {
    async fn run(self, remote: &Remote, progress: &Progress) -> Result<Moved, RemoteError> {
        match self {
            Self::Pull(pull) => remote.pull(pull, progress).await,
            Self::Copy(copy) => remote.copy(copy, progress).await,
        }
    }
}

/// A running transfer whose progress is reported. Dropping it cancels the transfer.
struct Transfer {
    progress: Progress,
    /// None once its end was reported.
    work: Option<AbortOnDropHandle<Result<Moved, RemoteError>>>,
    last_write: Instant,
    _permit: OwnedSemaphorePermit,
}

impl Admin {
    /// Starts a transfer, and responds with its progress.
    fn transfer(&self, order: Order) -> Result<Response, Problem> {
        let permit = Arc::clone(&self.transfers).try_acquire_owned().map_err(|_| {
            let detail =
                format!("{MAX_TRANSFERS} images are pulled or pushed now, which is the most at once");
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the image was not moved", detail)
        })?;
        let (remote, progress) = (Arc::clone(&self.remote), Progress::default());
        let shown = progress.clone();
        // A task of its own: a client that reads the progress slowly does not slow the transfer down.
        let work = tokio::spawn(async move { order.run(&remote, &shown).await });
        let work = Some(AbortOnDropHandle::new(work));
        let transfer = Transfer { progress, work, last_write: Instant::now(), _permit: permit };
        let body = stream::unfold(transfer, async |mut transfer| {
            let lines = transfer.next().await?;
            Some((Ok::<_, Infallible>(Bytes::from(lines)), transfer))
        });
        let headers = [(header::CONTENT_TYPE, CONTENT_TYPE), (header::CACHE_CONTROL, "no-store")];
        Ok((headers, Body::from_stream(body)).into_response())
    }
}

impl Transfer {
    /// The next lines, or none after the last one.
    async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            let ended = tokio::time::timeout(TICK, self.work.as_mut()?).await;
            let mut lines = Vec::new();
            for step in self.progress.take() {
                write(&mut lines, &TransferLine::Step(step));
            }
            if let Ok(ended) = ended {
                self.work = None;
                write(&mut lines, &last_line(ended));
            } else if lines.is_empty() && self.last_write.elapsed() >= KEEP_ALIVE {
                lines.push(b'\n');
            }
            if !lines.is_empty() {
                self.last_write = Instant::now();
                return Some(lines);
            }
        }
    }
}

fn last_line(ended: Result<Result<Moved, RemoteError>, JoinError>) -> TransferLine {
    match ended {
        Ok(Ok(Moved { repository, digest, bytes })) => {
            TransferLine::Done { done: Done { repository, digest, bytes } }
        }
        Ok(Err(error)) => TransferLine::Failed { error: Problem::from(error).into() },
        Err(error) => TransferLine::Failed { error: Problem::internal(&error).into() },
    }
}

fn write(lines: &mut Vec<u8>, line: &TransferLine) {
    lines.extend(serde_json::to_vec(line).unwrap_or_default());
    lines.push(b'\n');
}
