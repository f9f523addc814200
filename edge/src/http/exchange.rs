//! One request and its response over a connection of its own, driven by the waiting task.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// Sends a request, and passes the response to `take`. `buffer_bytes` limits what is read ahead, and so the response
/// head.
pub(crate) async fn exchange<T>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    buffer_bytes: usize,
    request: Request<Full<Bytes>>,
    take: impl AsyncFnOnce(Response<Incoming>) -> T,
) -> hyper::Result<T> {
    let mut builder = http1::Builder::new();
    let (mut sender, connection) = builder.max_buf_size(buffer_bytes).handshake(TokioIo::new(stream)).await?;
    let answered = async { Ok(take(sender.send_request(request).await?).await) };
    tokio::pin!(answered);
    // The connection makes progress only while it is polled; when it ends first, there will be no response.
    tokio::select! {
        answer = &mut answered => answer,
        ended = connection => {
            ended?;
            answered.await
        }
    }
}
