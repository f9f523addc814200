//! The web server that plays the app in an instance.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

type Body = BoxBody<Bytes, Infallible>;

/// Length of the pieces of `/bytes` and `/big`.
pub(crate) const PIECE_BYTES: usize = 64 * 1024;
/// Length of `/big`.
pub(crate) const BIG_BYTES: usize = 512 << 20;

/// A running server, and the number of connections that it has accepted.
pub(crate) struct App {
    pub(crate) address: SocketAddr,
    pub(crate) connections: Arc<AtomicUsize>,
}

impl App {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service_fn(respond))
                    .with_upgrades();
                tokio::spawn(connection);
            }
        });
        Self { address, connections }
    }
}

/// `/c/NAME/...`: the response depends on the last part.
async fn respond(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let last = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
    Ok(match last.as_str() {
        "endless" => endless(),
        "headers" => headers(&request),
        "length" => length(request).await,
        "bytes" => bytes(128),
        "big" => bytes(BIG_BYTES / PIECE_BYTES),
        "deaf" => std::future::pending().await,
        "ws" => web_socket(request),
        "nothing" => Response::builder().status(StatusCode::NO_CONTENT).body(text("")).unwrap(),
        _ => Response::new(text(format!("hello {}", request.uri()))),
    })
}

fn text(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).boxed()
}

/// One chunk, and then silence until the client leaves.
fn endless() -> Response<Body> {
    let (sender, receiver) = mpsc::channel::<Result<Frame<Bytes>, Infallible>>(1);
    sender.try_send(Ok(Frame::data(Bytes::from_static(b"first")))).unwrap();
    let body = futures_util::stream::unfold((receiver, sender), |(mut receiver, sender)| async move {
        receiver.recv().await.map(|frame| (frame, (receiver, sender)))
    });
    Response::new(BodyExt::boxed(StreamBody::new(body)))
}

/// This many pieces, each filled with its number.
fn bytes(pieces: usize) -> Response<Body> {
    let pieces = (0..=127u8).cycle().take(pieces);
    let pieces = pieces.map(|piece| Ok(Frame::data(Bytes::from(vec![piece; PIECE_BYTES]))));
    Response::new(BodyExt::boxed(StreamBody::new(futures_util::stream::iter(pieces))))
}

fn headers(request: &Request<Incoming>) -> Response<Body> {
    let lines =
        request.headers().iter().map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap()));
    Response::new(text(lines.collect::<String>()))
}

async fn length(request: Request<Incoming>) -> Response<Body> {
    let mut body = request.into_body();
    let mut length = 0;
    while let Some(Ok(frame)) = body.frame().await {
        length += frame.data_ref().map_or(0, Bytes::len);
    }
    Response::new(text(length.to_string()))
}

fn web_socket(mut request: Request<Incoming>) -> Response<Body> {
    let key = derive_accept_key(request.headers()["sec-websocket-key"].as_bytes());
    tokio::spawn(async move {
        let io = TokioIo::new(hyper::upgrade::on(&mut request).await.unwrap());
        let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, None).await;
        while let Some(Ok(message)) = socket.next().await {
            if !message.is_text() && !message.is_binary() {
                continue;
            }
            if socket.send(message).await.is_err() {
                return;
            }
        }
    });
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-accept", key)
        .body(text(""))
        .unwrap()
}
