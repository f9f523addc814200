//! One connection to an edge for many requests, one after the other: what large transfers need. It is made anew after
//! it was cut; whether to ask again is for the caller to say.

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
use super::{Client, ClientError, Refusal};

/// How long one exchange may take: a part of a blob on a slow line.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// How long a connection may take after an answer until it takes the next request; then another is made.
const READY_TIMEOUT: Duration = Duration::from_secs(1);
/// Largest answer, in bytes: lists of images and manifests.
const MAX_ANSWER_BYTES: usize = 16 << 20;
/// Bytes that are given to the connection at once, and told of.
const FRAME_BYTES: usize = 64 << 10;

/// A connection, or none yet.
pub struct Connection {
    endpoint: Endpoint,
    sender: Option<SendRequest<UploadBody>>,
}

/// What the edge says.
#[derive(Debug)]
pub struct Answer {
    /// Whether it would.
    pub status: StatusCode,
    /// What it says of the body, and of where to go on.
    pub headers: HeaderMap,
    /// The body, whole.
    pub body: Bytes,
}

impl Answer {
    /// A header as text.
    pub fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Where to go on, on the same edge.
    pub fn location(&self) -> Result<String, ClientError> {
        let uri: Option<Uri> = self.header(&LOCATION).and_then(|location| location.parse().ok());
        let path = uri.as_ref().and_then(Uri::path_and_query).map(ToString::to_string);
        path.ok_or(ClientError::NoLocation)
    }

    /// What it says where it would not.
    pub fn refusal(&self) -> String {
        registry_errors(&self.body).unwrap_or_else(|| Refusal::of(self.status, &self.body).reason)
    }
}

/// Errors as registries tell them.
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
    /// A connection for many requests, not made yet.
    pub fn connection(&self) -> Connection {
        Connection { endpoint: self.endpoint.clone(), sender: None }
    }
}

impl Connection {
    /// Asks; an error means that the connection was cut, and nobody knows how far the edge has come.
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
        // Ready a moment later, unless the edge does not keep the connection, or answered before it had all of the request.
        if let Ok(Ok(())) = tokio::time::timeout(READY_TIMEOUT, sender.ready()).await {
            self.sender = Some(sender);
        }
        Ok(answer)
    }

    async fn connect(&self) -> Result<SendRequest<UploadBody>, ClientError> {
        let stream = self.endpoint.connect().await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // It ends with its sender.
        tokio::spawn(connection);
        Ok(sender)
    }
}

/// Called with the length of each stretch of a body that is on its way.
type Report = Box<dyn Fn(usize) + Send>;

/// A body that is sent in stretches, each of which is reported.
pub struct UploadBody {
    left: Bytes,
    report: Option<Report>,
}

impl UploadBody {
    /// Nothing.
    pub fn empty() -> Self {
        Bytes::new().into()
    }

    /// These bytes, each stretch of which is reported when it goes on its way.
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
    fn a_registrys_errors_are_told_in_its_words() {
        let body = br#"{"errors":[{"code":"DENIED","message":"too large"},{"code":"UNKNOWN"}]}"#;
        assert_eq!(registry_errors(body).unwrap(), "DENIED: too large; UNKNOWN");
        assert_eq!(registry_errors(b"{}"), None);
    }
}
