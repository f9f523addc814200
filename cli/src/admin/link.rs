//! One connection to an edge for many requests, one after the other: what large transfers need. It is made anew after
//! it was cut; whether to ask again is for the caller to say.

use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Frame, SizeHint};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HeaderMap, HeaderName, HeaderValue, LOCATION};
use hyper::{Method, StatusCode, Uri};
use hyper_util::rt::TokioIo;

use super::endpoint::Endpoint;
use super::{Admin, refusal};

/// How long one exchange may take: a part of a blob on a slow line.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// How long a connection may take after an answer until it takes the next request; then another is made.
const READY_TIMEOUT: Duration = Duration::from_secs(1);
/// Largest answer, in bytes: lists of images and manifests.
const MAX_ANSWER_BYTES: usize = 16 << 20;
/// Bytes that are given to the connection at once, and told of.
const FRAME_BYTES: usize = 64 << 10;

/// A connection, or none yet.
pub(crate) struct Link {
    endpoint: Endpoint,
    sender: Option<SendRequest<Paced>>,
}

/// What the edge says.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// A header as text.
    pub(crate) fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Where to go on, on the same edge.
    pub(crate) fn location(&self) -> Result<String> {
        let uri: Option<Uri> = self.header(&LOCATION).and_then(|location| location.parse().ok());
        let path = uri.as_ref().and_then(Uri::path_and_query).map(ToString::to_string);
        path.context("the edge does not say where to go on")
    }

    /// What it says where it would not.
    pub(crate) fn refusal(&self) -> String {
        registry_errors(&self.body).unwrap_or_else(|| refusal(self.status, &self.body))
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

impl Admin {
    /// A connection for many requests, not made yet.
    pub(crate) fn link(&self) -> Link {
        Link { endpoint: self.endpoint.clone(), sender: None }
    }
}

impl Link {
    /// Asks; an error means that the connection was cut, and nobody knows how far the edge has come.
    pub(crate) async fn ask(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(HeaderName, HeaderValue)],
        body: Paced,
    ) -> Result<Answer> {
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
            let body = body.map_err(|error| anyhow!("the answer broke off: {error}"))?;
            Ok::<_, anyhow::Error>(Answer {
                status: head.status,
                headers: head.headers,
                body: body.to_bytes(),
            })
        };
        let answer = tokio::time::timeout(EXCHANGE_TIMEOUT, exchange).await;
        let answer = answer.with_context(|| format!("{what}: no answer in {EXCHANGE_TIMEOUT:?}"))?;
        let answer = answer.context(what)?;
        // Ready a moment later, unless the edge does not keep the connection, or answered before it had all of the request.
        if let Ok(Ok(())) = tokio::time::timeout(READY_TIMEOUT, sender.ready()).await {
            self.sender = Some(sender);
        }
        Ok(answer)
    }

    async fn connect(&self) -> Result<SendRequest<Paced>> {
        let stream = self.endpoint.connect().await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // It ends with its sender.
        tokio::spawn(connection);
        Ok(sender)
    }
}

/// Told of each stretch of a body that is on its way.
type Tell = Box<dyn Fn(usize) + Send>;

/// A body that is sent in stretches, each of which somebody is told of.
pub(crate) struct Paced {
    left: Bytes,
    tell: Option<Tell>,
}

impl Paced {
    /// Nothing.
    pub(crate) fn empty() -> Self {
        Bytes::new().into()
    }

    /// These bytes, of whose way somebody is told.
    pub(crate) fn told(bytes: impl Into<Bytes>, tell: impl Fn(usize) + Send + 'static) -> Self {
        Self { left: bytes.into(), tell: Some(Box::new(tell)) }
    }
}

impl<T: Into<Bytes>> From<T> for Paced {
    fn from(bytes: T) -> Self {
        Self { left: bytes.into(), tell: None }
    }
}

impl Body for Paced {
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
        if let Some(tell) = &self.tell {
            tell(next.len());
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
