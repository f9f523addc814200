//! Accepts clients' connections and serves HTTP/1.1 on them, within limits. Does not know where responses come from.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use berth_common::accept::accept_loop;
use berth_common::lifecycle::Lifecycle;
use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::{Request, Response, StatusCode};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;

use super::Proxy;
use super::body::ResponseBody;
use super::error::ProxyError;
use super::socket::ClientSocket;

/// Most connections of clients that one shard serves at once; more wait in the kernel's backlog.
const MAX_CONNECTIONS: usize = 8192;
/// Connections that may wait in the kernel's backlog of a shard.
const BACKLOG: i32 = 1024;
/// Largest head of a request, and largest read buffer, in bytes.
const BUFFER_BYTES: usize = 64 * 1024;
/// Longest wait for a whole request head, counted from the end of the last response: so idle connections are closed
/// too.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Binds a shard's socket. Several shards share one address; the kernel spreads connections over them.
pub(crate) fn bind(address: SocketAddr) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Serves connections until the edge drains.
pub(crate) async fn listen(listener: TcpListener, proxy: Arc<Proxy>, lifecycle: Lifecycle) {
    let serve = |(stream, peer), permit| {
        lifecycle.spawn(serve(stream, peer, Arc::clone(&proxy), lifecycle.clone(), permit));
    };
    let accepting = accept_loop("proxy", MAX_CONNECTIONS, || listener.accept(), serve);
    tokio::select! {
        () = accepting => {}
        () = lifecycle.drain().cancelled() => {}
    }
}

/// Serves one connection. When the edge drains, the request that it carries is its last.
async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    proxy: Arc<Proxy>,
    lifecycle: Lifecycle,
    _permit: OwnedSemaphorePermit,
) {
    let socket = match ClientSocket::new(stream, Arc::clone(&proxy.metrics), proxy.shard) {
        Ok(socket) => socket,
        Err(error) => return tracing::debug!(%error, "client disconnected before it was served"),
    };
    let service = service_fn(|request| {
        let (proxy, socket) = (Arc::clone(&proxy), socket.clone());
        async move { Ok::<_, Infallible>(respond(&proxy, request, peer, &socket).await) }
    });
    let io = TokioIo::new(socket.clone());
    let mut connection = pin!(server().serve_connection(io, service).with_upgrades());
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = lifecycle.drain().cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%peer, %error, "connection of client ended");
    }
}

fn server() -> http1::Builder {
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    server.max_buf_size(BUFFER_BYTES).max_header_size(BUFFER_BYTES);
    server
}

/// Answers a request. With a body to come, the client may go away without hyper's noticing: see `ClientSocket`.
async fn respond(
    proxy: &Proxy,
    request: Request<Incoming>,
    peer: SocketAddr,
    socket: &ClientSocket,
) -> Response<ResponseBody> {
    let asks_for_upgrade = request.headers().contains_key(UPGRADE);
    let mut response = if request.body().is_end_stream() {
        proxy.respond(request, peer).await
    } else {
        tokio::select! {
            response = proxy.respond(request, peer) => response,
            () = socket.closed() => ProxyError::ClientGone.response(),
        }
    };
    if asks_for_upgrade && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        // What follows may be of the protocol that the client asked for.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
