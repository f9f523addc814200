//! One request to a registry's server and its response, over a connection of their own. Does not know credentials, and
//! does not follow redirects.

use std::time::Duration;

use ::http::header::{HOST, RETRY_AFTER, USER_AGENT};
use ::http::{HeaderMap, Request, Response, StatusCode};
use bytes::{Bytes, BytesMut};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio_util::task::AbortOnDropHandle;

use super::error::{ErrorText, RemoteError};
use crate::web::{Connector, WebAddress};

/// Longest wait for the head of a response, and for the whole of a small one.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest read buffer, in bytes, and so the largest head of a response: tokens and signed URLs are long.
const BUFFER_BYTES: usize = 64 << 10;
/// Most bytes of an error body that are read.
const MAX_ERROR_BYTES: usize = 16 << 10;
/// Longest `Retry-After` of a registry that is respected.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(30);

/// A request body.
pub(super) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// A response whose body is still to be read. Dropping it closes the connection.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    body: Incoming,
    _connection: AbortOnDropHandle<()>,
}

/// Sends a request and waits for the head of the response.
pub(super) async fn send(
    connector: &Connector,
    address: &WebAddress,
    mut request: Request<Body>,
) -> Result<Answer, RemoteError> {
    let host =
        address.authority.parse().map_err(|_| RemoteError::Internal("a host is no header".to_owned()))?;
    request.headers_mut().insert(HOST, host);
    let agent = ::http::HeaderValue::from_static(concat!("berth/", env!("CARGO_PKG_VERSION")));
    request.headers_mut().insert(USER_AGENT, agent);
    let stream = connector.connect(address).await?;
    let mut builder = http1::Builder::new();
    let (mut sender, connection) = builder.max_buf_size(BUFFER_BYTES).handshake(TokioIo::new(stream)).await?;
    // An error of the connection is returned to the reader of the response.
    let connection = AbortOnDropHandle::new(tokio::spawn(async move { drop(connection.await) }));
    let (head, body) = Response::into_parts(sender.send_request(request).await?);
    Ok(Answer { status: head.status, headers: head.headers, body, _connection: connection })
}

impl Answer {
    /// A header as text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The whole of a small response.
    pub(super) async fn bytes(self, most: usize, what: &str) -> Result<Bytes, RemoteError> {
        let read = tokio::time::timeout(ANSWER_TIMEOUT, Limited::new(self.body, most).collect()).await;
        match read.map_err(|_| RemoteError::TimedOut(ANSWER_TIMEOUT))? {
            Ok(read) => Ok(read.to_bytes()),
            Err(error) => Err(match error.downcast::<hyper::Error>() {
                Ok(error) => RemoteError::Broken(*error),
                Err(_) => RemoteError::Overlong { what: what.to_owned(), expected: most as u64 },
            }),
        }
    }

    /// Reads until there are this many bytes, or to the end, in which case it returns true. After an error, the bytes
    /// read before it are kept.
    pub(super) async fn fill(&mut self, batch: &mut BytesMut, bytes: usize) -> Result<bool, hyper::Error> {
        while batch.len() < bytes {
            match self.body.frame().await {
                None => return Ok(true),
                Some(frame) => {
                    if let Ok(data) = frame?.into_data() {
                        batch.extend_from_slice(&data);
                    }
                }
            }
        }
        Ok(false)
    }

    /// The registry's own error text.
    pub(super) async fn error_text(self) -> ErrorText {
        self.bytes(MAX_ERROR_BYTES, "an error").await.map(|body| ErrorText::of(&body)).unwrap_or_default()
    }

    /// Converts an error response.
    pub(super) async fn refusal(self, what: &str) -> RemoteError {
        let status = self.status;
        let retry_after = self.header(RETRY_AFTER.as_str()).and_then(|text| text.parse().ok());
        let retry_after = retry_after.map(|seconds| Duration::from_secs(seconds).min(MAX_RETRY_AFTER));
        if status == StatusCode::NOT_FOUND {
            return RemoteError::Missing(what.to_owned());
        }
        RemoteError::Status { what: what.to_owned(), status, text: self.error_text().await, retry_after }
    }
}
