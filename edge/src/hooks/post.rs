//! Posts to a URL: one connection per request, only to permitted addresses, without following redirects. Does not know
//! events.

use std::time::Duration;

use ::http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use ::http::{Request, Response, StatusCode};
use berth_registry::web::{Connector, PlainTo, WebAddress, WebError};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use ipnet::IpNet;

use crate::http;

/// Longest wait for a response, everything included: a receiver should accept an event, and process it afterwards.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes of a response that are read: a word or two are expected.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// Largest read buffer, and so the largest head of a response.
const BUFFER_BYTES: usize = 16 * 1024;

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PostError {
    #[error(transparent)]
    Web(#[from] WebError),
    #[error("no answer: {0}")]
    Http(#[from] hyper::Error),
    #[error("the response ended early, or is longer than {MAX_ANSWER_BYTES} bytes")]
    Answer,
    #[error("no answer within {} s", TIMEOUT.as_secs())]
    TimedOut,
}

/// A response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// Posts to URLs.
pub(crate) struct Poster(Connector);

impl Poster {
    /// A poster that reaches public addresses and these networks.
    pub(crate) fn new(allowed: Vec<IpNet>) -> Self {
        Self(Connector::new(allowed, "--allow-hooks-to", PlainTo::Anybody))
    }

    /// Posts a JSON body with one more header, and reads the response.
    pub(crate) async fn post(
        &self,
        url: &str,
        header: (&'static str, String),
        body: Vec<u8>,
    ) -> Result<Answer, PostError> {
        tokio::time::timeout(TIMEOUT, self.try_post(url, header, body))
            .await
            .map_err(|_| PostError::TimedOut)?
    }

    async fn try_post(
        &self,
        url: &str,
        (name, value): (&'static str, String),
        body: Vec<u8>,
    ) -> Result<Answer, PostError> {
        let address = WebAddress::of(url)?;
        let request = Request::post(&address.path)
            .header(HOST, &address.authority)
            .header(USER_AGENT, concat!("berth/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_TYPE, "application/json")
            .header(name, value)
            .body(Full::new(Bytes::from(body)))
            .map_err(|_| WebError::Url(url.to_owned()))?;
        let stream = self.0.connect(&address).await?;
        let take = async |response: Response<Incoming>| {
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
            Ok(Answer { status, body: body.map_err(|_| PostError::Answer)?.to_bytes() })
        };
        http::exchange::exchange(stream, BUFFER_BYTES, request, take).await?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_edges_own_network_is_not_reached() {
        let poster = Poster::new(Vec::new());
        for url in [
            "http://127.0.0.1:1/",
            "http://localhost:1/",
            "http://[::1]:1/",
            "http://2130706433:1/",
            "http://0x7f.1:1/",
        ] {
            let error = poster.post(url, ("x", String::new()), Vec::new()).await.unwrap_err();
            assert!(
                matches!(error, PostError::Web(WebError::Forbidden { .. } | WebError::Resolve { .. })),
                "{url}: {error}"
            );
        }
    }
}
