//! Responses that come line by line, for as long as the edge has more.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Method;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;

use super::{ANSWER_TIMEOUT, Client, ClientError, Refusal, read_response};

/// Longest silence. An edge sends a line to each follower more often than that; one that does not is gone.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);
/// Longest line, in bytes: more than any text that an edge passes on, escaped as JSON.
const MAX_LINE_BYTES: usize = 1 << 20;

/// A response that is still coming.
#[derive(Debug)]
pub struct Lines {
    body: Incoming,
    pending: Vec<u8>,
}

impl Client {
    /// The response at a path, line by line.
    pub async fn lines(&self, path: &str) -> Result<Lines, ClientError> {
        self.follow(Method::GET, path, Bytes::new()).await
    }

    /// The response to an order, line by line.
    pub async fn lines_of_order(&self, path: &str, order: &impl Serialize) -> Result<Lines, ClientError> {
        self.follow(Method::POST, path, serde_json::to_vec(order)?.into()).await
    }

    async fn follow(&self, method: Method, path: &str, body: Bytes) -> Result<Lines, ClientError> {
        let stream = self.endpoint.connect().await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // The task ends with the body, or when that is dropped.
        tokio::spawn(connection);
        let request = self.endpoint.request(method, path).body(Full::new(body))?;
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, sender.send_request(request)).await;
        let late =
            |source| ClientError::TimedOut { what: self.endpoint.to_string(), limit: ANSWER_TIMEOUT, source };
        let answer = answer.map_err(late)??;
        if !answer.status().is_success() {
            let headers = answer.headers().clone();
            let (status, bytes) = read_response(answer).await?;
            return Err(ClientError::Refused(Refusal::of(status, &bytes).after(&headers)));
        }
        Ok(Lines { body: answer.into_body(), pending: Vec::new() })
    }
}

impl Lines {
    /// The next lines, without line breaks; `None` at the end of the response.
    pub async fn next(&mut self) -> Result<Option<Vec<Vec<u8>>>, ClientError> {
        let frame = tokio::time::timeout(SILENCE_LIMIT, self.body.frame()).await;
        let frame = frame.map_err(|source| ClientError::Silent { limit: SILENCE_LIMIT, source })?;
        let Some(frame) = frame.transpose().map_err(ClientError::LinesBrokeOff)? else { return Ok(None) };
        self.pending.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        let lines = cut(&mut self.pending);
        if self.pending.len() > MAX_LINE_BYTES { Err(ClientError::LongLine) } else { Ok(Some(lines)) }
    }
}

/// Takes the complete lines that are not empty, and leaves an incomplete one.
fn cut(pending: &mut Vec<u8>) -> Vec<Vec<u8>> {
    let Some(end) = pending.iter().rposition(|byte| *byte == b'\n') else { return Vec::new() };
    let rest = pending.split_off(end + 1);
    let whole = std::mem::replace(pending, rest);
    whole.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_split_wherever_chunks_end() {
        let mut pending = b"one\n\ntw".to_vec();
        assert_eq!(cut(&mut pending), [b"one"]);
        pending.extend_from_slice(b"o");
        assert!(cut(&mut pending).is_empty());
        pending.extend_from_slice(b"\nthree\n");
        assert_eq!(cut(&mut pending), [&b"two"[..], b"three"]);
        assert!(pending.is_empty());
    }
}
