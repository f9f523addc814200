//! Files of apps, by digest: which are not here, and one that is sent. They stay for as long as a kept version names them.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body as Stream, HttpBody};
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use berth_api::files::{FileDigests, MAX_DIGESTS, MissingFiles};
use berth_common::image::{Algorithm, Digest};
use berth_common::spec::MAX_CONTENT_BYTES;
use berth_registry::files::FilesError;
use bytes::Bytes;
use http_body_util::BodyExt;

use super::Admin;
use super::problem::{Denied, Problem, Unavailable, Wrong};
use super::read::{self, Body, invalid};

/// Bytes that are written to the disk at once.
const CHUNK_BYTES: usize = 128 << 10;
/// How long a client may be silent in the middle of a file.
const IDLE: Duration = Duration::from_secs(60);

impl From<FilesError> for Problem {
    fn from(error: FilesError) -> Self {
        let title = "the file was not kept";
        let detail = error.to_string();
        match error {
            FilesError::Digest { .. } => {
                Self::field(StatusCode::UNPROCESSABLE_ENTITY, title, "digest", detail)
            }
            FilesError::TooLarge { .. } => Self::new(StatusCode::PAYLOAD_TOO_LARGE, title, detail),
            FilesError::Quota | FilesError::Busy | FilesError::Full { .. } | FilesError::Stopping => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, title, detail)
            }
            FilesError::Io(_) | FilesError::Store(_) => Self::internal(&error),
        }
    }
}

/// Says which of these files the edge does not have. Those that it has stay for hours, so that a version that names them can
/// be deployed.
#[utoipa::path(post, path = "/v1/files/missing", tag = "files", request_body = FileDigests,
    responses((status = 200, body = MissingFiles), Denied, Wrong))]
pub(super) async fn missing(
    State(admin): State<Arc<Admin>>,
    Body(FileDigests { digests }): Body<FileDigests>,
) -> Result<Json<MissingFiles>, Problem> {
    if digests.len() > MAX_DIGESTS {
        return Err(invalid("digests", format!("at most {MAX_DIGESTS} are allowed: ask several times")));
    }
    if let Some(other) = digests.iter().position(|digest| !is_usual(digest)) {
        return Err(invalid(&format!("digests[{other}]"), NOT_USUAL));
    }
    Ok(Json(MissingFiles { missing: admin.files.missing(digests).await? }))
}

/// Sends a file. Responds once it is durable; an upload that is cut off leaves nothing.
#[utoipa::path(put, path = "/v1/files/{digest}", tag = "files",
    params(("digest" = String, Path, pattern = "^sha256:[0-9a-f]{64}$")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 204), Denied, Wrong, Unavailable))]
pub(super) async fn put(
    State(admin): State<Arc<Admin>>,
    Path(digest): Path<String>,
    request: Request,
) -> Result<StatusCode, Problem> {
    let digest: Digest = read::name("digest", &digest)?;
    if !is_usual(&digest) {
        return Err(invalid("digest", NOT_USUAL));
    }
    let mut body = request.into_body();
    if body.size_hint().lower() > MAX_CONTENT_BYTES {
        return Err(FilesError::TooLarge { limit: MAX_CONTENT_BYTES }.into());
    }
    let mut upload = admin.files.begin()?;
    loop {
        let (bytes, ended) = gather(&mut body).await?;
        upload = admin.files.write(upload, bytes).await?;
        if ended {
            break;
        }
    }
    admin.files.finish(upload, digest).await?;
    Ok(StatusCode::NO_CONTENT)
}

const NOT_USUAL: &str = "is no SHA-256 digest: files of apps have such ones";

fn is_usual(digest: &Digest) -> bool {
    digest.algorithm() == Algorithm::Sha256
}

/// The next bytes of a body, and whether it has ended.
async fn gather(body: &mut Stream) -> Result<(Vec<Bytes>, bool), Problem> {
    let (mut gathered, mut length) = (Vec::new(), 0);
    while length < CHUNK_BYTES {
        match tokio::time::timeout(IDLE, body.frame()).await {
            Ok(Some(Ok(frame))) => {
                if let Ok(bytes) = frame.into_data() {
                    length += bytes.len();
                    gathered.push(bytes);
                }
            }
            Ok(None) => return Ok((gathered, true)),
            Ok(Some(Err(error))) => return Err(broken(&error.to_string())),
            Err(_) => return Err(broken("the client was silent for too long")),
        }
    }
    Ok((gathered, false))
}

fn broken(why: &str) -> Problem {
    let detail = format!("the file is not complete ({why}): send it again");
    Problem::new(StatusCode::BAD_REQUEST, "the file was not kept", detail)
}
