//! A client of the edge, over TCP or a Unix socket, with one connection per request.

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

/// A response whose body is still to be read, with its connection: dropping it closes that.
pub(crate) struct Streaming {
    pub(crate) response: Response<Incoming>,
    _connection: tokio_util::task::AbortOnDropHandle<()>,
}

/// Sends a request and reads the whole response.
pub(crate) async fn get(edge: SocketAddr, path: &str) -> (StatusCode, String) {
    let streaming = stream(edge, request("GET", path, "")).await;
    whole(streaming).await
}

/// Sends a head and this many bytes of body after it, and reads the whole response.
pub(crate) async fn upload(edge: SocketAddr, path: &str, bytes: usize) -> String {
    let mut stream = TcpStream::connect(edge).await.unwrap();
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {bytes}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let piece = vec![7; 64 * 1024];
    for _ in 0..bytes / piece.len() {
        stream.write_all(&piece).await.unwrap();
    }
    let mut answer = String::new();
    soon("an answer", stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

pub(crate) fn request(method: &str, path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let request = Request::builder().method(method).uri(path).header("host", "edge.test");
    request.body(Full::new(body.into())).unwrap()
}

pub(crate) async fn whole(streaming: Streaming) -> (StatusCode, String) {
    let status = streaming.response.status();
    let body = soon("a whole body", streaming.response.into_body().collect()).await.unwrap();
    (status, String::from_utf8(body.to_bytes().to_vec()).unwrap())
}

/// Sends a request and returns with the head of the response. What is dropped is reset: an edge hears at once of a client
/// that is gone, while an orderly close looks like a client that has only sent all.
pub(crate) async fn stream(edge: SocketAddr, request: Request<Full<Bytes>>) -> Streaming {
    let stream = TcpStream::connect(edge).await.unwrap();
    socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    over(stream, request).await
}

/// The same for the admin API.
pub(crate) async fn admin(socket: &Path, request: Request<Full<Bytes>>) -> (StatusCode, serde_json::Value) {
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

/// Sends a request to a Unix socket and returns with the head of the response.
pub(crate) async fn stream_admin(socket: &Path, request: Request<Full<Bytes>>) -> Streaming {
    over(UnixStream::connect(socket).await.unwrap(), request).await
}

/// Sends raw bytes, and reads until the edge closes the connection.
pub(crate) async fn raw(edge: SocketAddr, bytes: &str) -> String {
    let mut stream = TcpStream::connect(edge).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A connection that is reset after the response was read counts as closed.
    let _ = soon("the end of the connection", stream.read_to_end(&mut answer)).await;
    String::from_utf8(answer).unwrap()
}
