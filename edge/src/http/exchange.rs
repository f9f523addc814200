//! One request and its answer over a connection that is used for nothing else, driven by whoever waits for the answer.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// Sends a request, and has the answer taken. `buffer_bytes` bounds what is read ahead, and with it the answer's head.
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
    // The connection works only while it is polled; once it has ended there is the answer, or there will be none.
    tokio::select! {
        answer = &mut answered => answer,
        ended = connection => {
            ended?;
            answered.await
        }
    }
}
