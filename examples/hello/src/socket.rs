//! WebSockets: the handshake, the echo, and closing from either side.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::header::{
    CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::sync::watch;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::answer::{Body, SocketUpgrade};

/// Longest message, in bytes. A message is held whole until it is echoed, and a small instance has 256 MiB.
const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// How long a client may take to answer a close before the connection is dropped.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// The answer that turns a connection into a WebSocket, where the request asks for one.
pub(crate) fn handshake(request: &mut Request<Incoming>) -> Option<(Response<Body>, OnUpgrade)> {
    let headers = request.headers();
    let asks = headers.get(UPGRADE)?.as_bytes().eq_ignore_ascii_case(b"websocket");
    let version = headers.get(SEC_WEBSOCKET_VERSION)?.as_bytes() == b"13";
    let accept = derive_accept_key(headers.get(SEC_WEBSOCKET_KEY)?.as_bytes());
    let mut response = Response::new(Empty::new().boxed_unsync());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
    response.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_str(&accept).ok()?);
    (asks && version).then(|| (response, hyper::upgrade::on(request)))
}

/// Speaks WebSocket until the client closes, the server ends, or, where a code was asked for, at once.
pub(crate) async fn serve(asked: SocketUpgrade, mut ending: watch::Receiver<bool>) {
    let Ok(upgraded) = asked.upgrade.await else { return };
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES));
    let mut socket =
        WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
    // An error means that the client has disconnected: there is nobody to report it to.
    let _ = match asked.close {
        Some(code) => close(&mut socket, code.into(), "as asked").await,
        None => echo(&mut socket, &mut ending).await,
    };
}

async fn echo(socket: &mut Socket, ending: &mut watch::Receiver<bool>) -> Result<(), Error> {
    loop {
        let message = tokio::select! {
            message = socket.next() => message,
            () = crate::ended(ending) => {
                return close(socket, CloseCode::Away, "the server ends").await;
            }
        };
        match message.transpose()? {
            Some(message @ (Message::Text(_) | Message::Binary(_))) => socket.send(message).await?,
            // The library answers pings, and a close with the same code, by itself, while it is read on.
            Some(_) => {}
            None => return Ok(()),
        }
    }
}

/// Closes from this side and waits for the client's answer, but not for a client that does not read.
async fn close(socket: &mut Socket, code: CloseCode, reason: &'static str) -> Result<(), Error> {
    let closing = async {
        socket.close(Some(CloseFrame { code, reason: reason.into() })).await?;
        while socket.next().await.transpose()?.is_some() {}
        Ok(())
    };
    tokio::time::timeout(CLOSE_TIMEOUT, closing).await.unwrap_or(Ok(()))
}
