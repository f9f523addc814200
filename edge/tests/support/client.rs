//! A client of the edge, over TCP or a Unix socket, one connection a request.

use std::net::SocketAddr;
use std::path::Path;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::soon;

/// A response whose body is still to be read, and the connection that it comes over: dropped, the client is gone.
pub struct Streaming {
    pub response: Response<Incoming>,
    _connection: tokio_util::task::AbortOnDropHandle<()>,
}

/// Sends a request and reads the whole response.
pub async fn get(edge: SocketAddr, path: &str) -> (StatusCode, String) {
    let streaming = stream(edge, request("GET", path, "")).await;
    whole(streaming).await
}

pub fn request(method: &str, path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let request = Request::builder().method(method).uri(path).header("host", "edge.test");
    request.body(Full::new(body.into())).unwrap()
}

pub async fn whole(streaming: Streaming) -> (StatusCode, String) {
    let status = streaming.response.status();
    let body = soon("a whole body", streaming.response.into_body().collect()).await.unwrap();
    (status, String::from_utf8(body.to_bytes().to_vec()).unwrap())
}

/// Sends a request and returns with the head of the response.
pub async fn stream(edge: SocketAddr, request: Request<Full<Bytes>>) -> Streaming {
    over(TcpStream::connect(edge).await.unwrap(), request).await
}

/// The same to the admin API.
pub async fn admin(socket: &Path, request: Request<Full<Bytes>>) -> (StatusCode, serde_json::Value) {
    let streaming = over(UnixStream::connect(socket).await.unwrap(), request).await;
    let (status, text) = whole(streaming).await;
    (status, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}")))
}

async fn over(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Streaming {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await.unwrap();
    let connection = tokio::spawn(async move { drop(connection.await) });
    let response = soon("a response", sender.send_request(request)).await.unwrap();
    Streaming { response, _connection: tokio_util::task::AbortOnDropHandle::new(connection) }
}

/// Sends bytes as they are, and reads what comes back until the edge closes the connection.
pub async fn raw(edge: SocketAddr, bytes: &str) -> String {
    let mut stream = TcpStream::connect(edge).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A connection that is reset after the answer was read is closed as well.
    let _ = soon("the end of the connection", stream.read_to_end(&mut answer)).await;
    String::from_utf8(answer).unwrap()
}
