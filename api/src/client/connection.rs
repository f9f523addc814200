//! A connection to an edge that carries many requests, one after the other: large transfers need that. It is opened
//! again after it was lost; whether to repeat a request is up to the caller.

use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Frame, SizeHint};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HeaderMap, HeaderName, HeaderValue, LOCATION};
use hyper::{Method, StatusCode, Uri};
use hyper_util::rt::TokioIo;

use super::endpoint::Endpoint;
use super::error::retry_after;
use super::{Client, ClientError, Refusal};

/// How long one exchange may take: enough for a part of a blob on a slow network.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// How long a connection may take after a response until it accepts the next request; then another one is opened.
const READY_TIMEOUT: Duration = Duration::from_secs(1);
/// Largest response body, in bytes: lists of images and manifests.
const MAX_ANSWER_BYTES: usize = 16 << 20;
/// Bytes of a body that are handed to the connection, and reported, at once.
const FRAME_BYTES: usize = 64 << 10;

/// A connection that is opened by the first request.
pub struct Connection {
    endpoint: Endpoint,
    sender: Option<SendRequest<UploadBody>>,
}

/// A response of the edge.
#[derive(Debug)]
pub struct Answer {
    /// The status, which may be an error.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Answer {
    /// A header as text.
    pub fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The path to continue at (`Location`), on the same edge.
    pub fn location(&self) -> Result<String, ClientError> {
        let uri: Option<Uri> = self.header(&LOCATION).and_then(|location| location.parse().ok());
        let path = uri.as_ref().and_then(Uri::path_and_query).map(ToString::to_string);
        path.ok_or(ClientError::NoLocation)
    }

    /// After how long the edge asks to be asked again (`Retry-After`).
    pub fn retry_after(&self) -> Option<Duration> {
        retry_after(&self.headers)
    }

    /// The errors in the body, as one line of text.
    pub fn refusal(&self) -> String {
        registry_errors(&self.body).unwrap_or_else(|| Refusal::of(self.status, &self.body).reason)
    }
}

/// The errors of a body in the format of the distribution specification.
fn registry_errors(body: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    let text = |error: &serde_json::Value| {
        let code = error["code"].as_str()?;
        let message = error["message"].as_str().filter(|message| !message.is_empty());
        Some(message.map_or_else(|| code.to_owned(), |message| format!("{code}: {message}")))
    };
    let errors: Vec<String> = value["errors"].as_array()?.iter().filter_map(text).collect();
    (!errors.is_empty()).then(|| errors.join("; "))
}

impl Client {
    /// A connection for many requests, not opened yet.
    pub fn connection(&self) -> Connection {
        Connection { endpoint: self.endpoint.clone(), sender: None }
    }
}

impl Connection {
    /// Sends a request and reads the response. An error means that the connection was lost, and that it is unknown how
    /// much the edge has done.
    pub async fn ask(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(HeaderName, HeaderValue)],
        body: UploadBody,
    ) -> Result<Answer, ClientError> {
        let what = format!("{method} {path} at {}", self.endpoint);
        let mut sender = match self.sender.take() {
            Some(sender) if sender.is_ready() => sender,
            _ => self.connect().await?,
        };
        let mut request = self.endpoint.request(method, path).body(body)?;
        for (name, value) in headers {
            request.headers_mut().insert(name, value.clone());
        }
        let exchange = async {
            let answer = sender.send_request(request).await?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
            let body = body.map_err(|error| ClientError::BrokeOff(error.to_string()))?;
            Ok::<_, ClientError>(Answer { status: head.status, headers: head.headers, body: body.to_bytes() })
        };
        let answer = tokio::time::timeout(EXCHANGE_TIMEOUT, exchange).await;
        let answer = match answer {
            Ok(answer) => answer.map_err(|source| ClientError::Cut { what, source: source.into() })?,
            Err(source) => return Err(ClientError::TimedOut { what, limit: EXCHANGE_TIMEOUT, source }),
        };
        // Usually ready within a moment, unless the edge closes the connection or responded before it had read all of
        // the request.
        if let Ok(Ok(())) = tokio::time::timeout(READY_TIMEOUT, sender.ready()).await {
            self.sender = Some(sender);
        }
        Ok(answer)
    }

    async fn connect(&self) -> Result<SendRequest<UploadBody>, ClientError> {
        let stream = self.endpoint.connect().await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // The task ends when its sender is dropped.
        tokio::spawn(connection);
        Ok(sender)
    }
}

/// Called with the length of each piece of a body that is being sent.
type Report = Box<dyn Fn(usize) + Send>;

/// A request body that is sent in pieces, each of which is reported.
pub struct UploadBody {
    left: Bytes,
    report: Option<Report>,
}

impl UploadBody {
    /// An empty body.
    pub fn empty() -> Self {
        Bytes::new().into()
    }

    /// A body of these bytes; each piece is reported when the connection takes it.
    pub fn reporting(bytes: impl Into<Bytes>, report: impl Fn(usize) + Send + 'static) -> Self {
        Self { left: bytes.into(), report: Some(Box::new(report)) }
    }
}

impl<T: Into<Bytes>> From<T> for UploadBody {
    fn from(bytes: T) -> Self {
        Self { left: bytes.into(), report: None }
    }
}

impl Body for UploadBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.left.is_empty() {
            return Poll::Ready(None);
        }
        let next = FRAME_BYTES.min(self.left.len());
        let next = self.left.split_to(next);
        if let Some(report) = &self.report {
            report(next.len());
        }
        Poll::Ready(Some(Ok(Frame::data(next))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(u64::try_from(self.left.len()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_a_registry_are_shown_with_code_and_message() {
        let body = br#"{"errors":[{"code":"DENIED","message":"too large"},{"code":"UNKNOWN"}]}"#;
        assert_eq!(registry_errors(body).unwrap(), "DENIED: too large; UNKNOWN");
        assert_eq!(registry_errors(b"{}"), None);
    }
}
