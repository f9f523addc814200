//! What a handler leaves of a request's body is read before the answer is sent. A connection that is closed over unread bytes
//! is reset, and a client that still sends never sees why it was refused.
//!
//! ```text
//! request ──▶ handler reads all of it ────────────────────────────────────▶ answer
//!               └── leaves a part, as with a refusal: read, for a while ──────┘
//! ```
//!
//! What is longer, or comes more slowly, than the bounds here is left: its client may see the connection end.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::header::EXPECT;
use axum::middleware::Next;
use axum::response::Response;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;

/// Most bytes that are read only to be dropped: as many as the largest request has.
const MAX_BYTES: usize = super::MAX_SPEC_BYTES;
/// How long they may take: the answer waits for it.
const MAX_TIME: Duration = Duration::from_secs(2);

/// Where a body is left.
type Left = Arc<Mutex<Option<Body>>>;

/// A body that is left in its place when its reader drops it.
struct Lent {
    body: Body,
    left: Left,
}

impl Drop for Lent {
    fn drop(&mut self) {
        if !self.body.is_end_stream() {
            *self.left.lock().unwrap_or_else(PoisonError::into_inner) = Some(std::mem::take(&mut self.body));
        }
    }
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Reads what the handlers leave.
pub(super) async fn read(request: Request, next: Next) -> Response {
    // Who waits to be asked for the body has not sent it, and is not asked by reading it.
    if request.body().is_end_stream() || request.headers().contains_key(EXPECT) {
        return next.run(request).await;
    }
    let left = Left::default();
    let lent = |body| Body::new(Lent { body, left: Arc::clone(&left) });
    let response = next.run(request.map(lent)).await;
    let rest = left.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(body) = rest {
        // Whether it comes to its end or not: the answer is sent.
        let _ = tokio::time::timeout(MAX_TIME, drop_all(body)).await;
    }
    response
}

async fn drop_all(mut body: Body) {
    let mut read = 0;
    while read < MAX_BYTES
        && let Some(Ok(frame)) = body.frame().await
    {
        read += frame.data_ref().map_or(0, Bytes::len);
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::put;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn refuse() -> http::StatusCode {
        http::StatusCode::FORBIDDEN
    }

    /// What a client gets that sends these bytes after its request's head, all before it reads anything.
    async fn answer(head: &str, body: &[u8]) -> String {
        let routes = axum::Router::new().route("/", put(refuse)).layer(axum::middleware::from_fn(read));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move { axum::serve(listener, routes).await });
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
        let mut answer = vec![0; 1024];
        let length = stream.read(&mut answer).await.unwrap();
        server.abort();
        String::from_utf8_lossy(&answer[..length]).into_owned()
    }

    #[tokio::test]
    async fn a_client_that_is_refused_in_the_middle_of_its_body_gets_the_answer() {
        let body = vec![b'x'; 8 << 20];
        let head = format!("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", body.len());
        for _ in 0..5 {
            assert!(answer(&head, &body).await.starts_with("HTTP/1.1 403 "));
        }
    }

    #[tokio::test]
    async fn who_waits_to_be_asked_for_the_body_is_refused_at_once() {
        let head = "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n";
        assert!(answer(head, b"").await.starts_with("HTTP/1.1 403 "));
    }
}
