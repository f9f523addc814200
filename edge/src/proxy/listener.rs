//! Accepts clients' connections and serves HTTP/1.1 on them, within limits. Does not know where responses come from.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use berth_common::accept::{Admitted, accept_loop};
use berth_common::connections::{Busy, Connections, Limits, Permit, StandsForMany};
use berth_common::lifecycle::Lifecycle;
use bytes::Bytes;
use http::header::{CONNECTION, HeaderMap, HeaderValue, UPGRADE};
use http::{Request, Response, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use super::Proxy;
use super::body::{BoxError, ResponseBody};
use super::socket::ClientSocket;
use crate::http::headers::MAX_FIELDS;

/// Most connections of clients for each shard.
const CONNECTIONS_PER_SHARD: usize = 8192;
/// Most connections of one client. Far more than a browser has, so that some hundred people behind one address are
/// served, and few enough that what they keep between requests stays below 100 MiB, whatever was sent over them.
const CONNECTIONS_PER_CLIENT: usize = 512;
/// Longest time for a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time for the head of a connection's last request, once the edge drains.
const LAST_HEAD_LIMIT: Duration = Duration::from_secs(2);
/// Longest time between two requests: as long as proxies keep their connections, so that they rarely send a request
/// on one that is just being closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Connections that may wait in the kernel's backlog of a shard.
const BACKLOG: i32 = 1024;
/// Largest head of a request, and largest read buffer, in bytes.
const BUFFER_BYTES: usize = 64 * 1024;
/// Most fields of an answer, and most bytes of its head, after which the connection is kept: hyper keeps the map of the fields
/// and the buffer of the head at the size that they have come to, for as long as the connection is open.
const KEPT_FIELDS: usize = 100;
const KEPT_HEAD_BYTES: usize = 16 * 1024;
/// Room in hyper's map for one field: its entry, its places in the index, and its further value, each with what is made ahead.
const FIELD_BYTES: usize = 320;
/// Most bytes that a connection keeps while it waits: buffers grow to up to twice of what they have to hold.
const KEPT_BYTES: usize = 2 * BUFFER_BYTES + 2 * KEPT_HEAD_BYTES + KEPT_FIELDS * FIELD_BYTES;
const _: () = assert!(CONNECTIONS_PER_CLIENT * KEPT_BYTES < 100 << 20, "one client may take too much");

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

/// The permits of the connections to all shards; `descriptors` is how many files the edge may have open. Those of
/// addresses that stand for many clients are not limited by address.
pub(crate) fn connections(
    shards: usize,
    descriptors: usize,
    stands_for_many: StandsForMany,
) -> Arc<Connections> {
    // The other half is for the store, images, and everything else.
    let total = (CONNECTIONS_PER_SHARD * shards).min(descriptors / 2);
    let limits = Limits {
        total,
        per_client: CONNECTIONS_PER_CLIENT.min(total / 2),
        anonymous: None,
        head: HEAD_TIMEOUT,
        idle: IDLE_TIMEOUT,
    };
    Connections::new("clients", limits, stands_for_many)
}

/// Serves connections until the edge drains. Those that the kernel has taken for a socket of the edge's own by then are
/// served too, or they would be reset with it; those of a `kept` socket wait there for the next edge.
pub(crate) async fn listen(
    listener: TcpListener,
    kept: bool,
    connections: Arc<Connections>,
    proxy: Arc<Proxy>,
    lifecycle: Lifecycle,
) {
    let accept = async || {
        let (stream, peer) = listener.accept().await?;
        Ok(((stream, peer), Some(peer.ip())))
    };
    let serve = |(stream, peer), permit| {
        lifecycle.spawn(serve(stream, peer, Arc::clone(&proxy), lifecycle.clone(), permit));
    };
    tokio::select! {
        () = accept_loop(&connections, accept, serve) => {}
        () = lifecycle.drain().cancelled() => {}
    }
    if !kept {
        for (stream, peer) in waiting(listener) {
            if let Some(permit) = connections.admit(Some(peer.ip())) {
                serve((stream, peer), permit);
            }
        }
    }
}

/// The connections that the kernel has taken for a socket, which is closed with that.
fn waiting(listener: TcpListener) -> Vec<(TcpStream, SocketAddr)> {
    let Ok(listener) = listener.into_std() else { return Vec::new() };
    let accepted = std::iter::from_fn(|| listener.accept().ok());
    let accepted = accepted.filter_map(|(stream, peer)| {
        stream.set_nonblocking(true).ok()?;
        Some((TcpStream::from_std(stream).ok()?, peer))
    });
    // The kernel keeps no more than that, and others may come while these are taken.
    accepted.take(usize::try_from(BACKLOG).unwrap_or_default()).collect()
}

/// Serves one connection. When the edge drains, the request that it carries is its last.
#[allow(
    clippy::large_futures,
    reason = "64 bytes above the bound; in a box, each request would cost an allocation of 16 KiB"
)]
async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    proxy: Arc<Proxy>,
    lifecycle: Lifecycle,
    permit: Arc<Permit>,
) {
    let socket = match ClientSocket::new(stream, Arc::clone(&proxy.metrics), proxy.shard) {
        Ok(socket) => socket,
        Err(error) => return tracing::debug!(%error, "client disconnected before it was served"),
    };
    let (old, upgraded) = (AtomicBool::new(false), AtomicBool::new(false));
    let service = service_fn(|request: Request<Incoming>| {
        let (proxy, socket, busy) = (Arc::clone(&proxy), socket.clone(), permit.request());
        old.store(request.version() < Version::HTTP_11, Ordering::Relaxed);
        let upgraded = &upgraded;
        async move {
            let response = respond(&proxy, request, peer, &socket, busy).await;
            upgraded.store(response.status() == StatusCode::SWITCHING_PROTOCOLS, Ordering::Relaxed);
            Ok::<_, Infallible>(response)
        }
    });
    let io = TokioIo::new(Admitted::new(socket.clone(), Arc::clone(&permit)));
    let mut connection = pin!(server().serve_connection(io, service).with_upgrades());
    let served = async {
        tokio::select! {
            served = connection.as_mut() => return served,
            () = lifecycle.drain().cancelled() => {}
        }
        // hyper would close a connection whose request has not come yet, although it was accepted to be served.
        // Looked at first: what the kernel has got of a request may not be read yet.
        tokio::select! {
            biased;
            served = connection.as_mut() => return served,
            () = permit.until_not_in_head() => {}
            () = tokio::time::sleep(LAST_HEAD_LIMIT) => {}
        }
        connection.as_mut().graceful_shutdown();
        connection.await
    };
    let served = async {
        served.await?;
        // What follows an upgrade is not read here, and a draining edge waits for nobody.
        if !upgraded.load(Ordering::Relaxed) && !lifecycle.drain().is_cancelled() {
            socket.clone().read_rest().await;
        }
        Ok::<_, hyper::Error>(())
    };
    tokio::select! {
        served = served => if let Err(error) = served {
            if error.is_user() && old.load(Ordering::Relaxed) {
                // An answer in HTTP/1.0 that broke off: its end would be taken for that of the whole.
                socket.cut();
            }
            tracing::debug!(%peer, %error, "connection of client ended");
        },
        () = socket.lost() => tracing::debug!(%peer, "client is gone"),
        () = permit.lost() => tracing::debug!(%peer, "connection of client waited too long, or made room"),
    }
}

fn server() -> http1::Builder {
    let mut server = http1::Builder::new();
    // Without timers of its own: a connection that waits too long loses its permit.
    server.header_read_timeout(None);
    server.max_buf_size(BUFFER_BYTES).max_header_size(BUFFER_BYTES).max_headers(MAX_FIELDS);
    // A client that has sent all that it wants to may say so, and still reads.
    server.half_close(true);
    server
}

/// Answers a request, after the provisional answers to it.
async fn respond(
    proxy: &Proxy,
    request: Request<Incoming>,
    peer: SocketAddr,
    socket: &ClientSocket,
    busy: Busy,
) -> Response<Served> {
    let asks_for_upgrade = request.headers().contains_key(UPGRADE);
    let interim = socket.interim();
    let hints = (request.version() >= Version::HTTP_11).then(|| interim.clone());
    let mut response = interim.before(proxy.respond(request, peer.ip(), hints)).await;
    let upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    // What follows may be of the protocol that the client asked for.
    let misunderstood = asks_for_upgrade && !upgraded;
    if misunderstood || !(upgraded || is_small(response.headers_mut())) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let busy = match response.status() {
        StatusCode::SWITCHING_PROTOCOLS => {
            busy.for_ever();
            None
        }
        _ => Some(busy),
    };
    response.map(|body| Served { body, _busy: busy })
}

/// Whether a connection may be kept after an answer with these fields. Where they are few, so is their map's room then, which
/// may come from a larger message over the instance's connection.
fn is_small(headers: &mut HeaderMap) -> bool {
    let bytes = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    if headers.len() > KEPT_FIELDS || bytes.sum::<usize>() > KEPT_HEAD_BYTES {
        return false;
    }
    // What a map for that many fields may have: powers of two, of which three quarters are used.
    if headers.capacity() > 2 * KEPT_FIELDS {
        let mut few = HeaderMap::with_capacity(headers.len());
        few.extend(std::mem::take(headers));
        *headers = few;
    }
    true
}

/// The body of a response; the request is under way until it is dropped.
struct Served {
    body: ResponseBody,
    _busy: Option<Busy>,
}

impl Body for Served {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http::header::{HeaderName, SET_COOKIE};

    use super::*;

    fn fields(count: usize, value: &str) -> HeaderMap {
        let name = |index| HeaderName::try_from(format!("x-{index}")).unwrap();
        (0..count).map(|index| (name(index), HeaderValue::try_from(value).unwrap())).collect()
    }

    #[test]
    fn a_connection_is_not_kept_with_the_room_of_a_large_head() {
        assert!(is_small(&mut HeaderMap::new()) && is_small(&mut fields(KEPT_FIELDS, "v")));
        assert!(!is_small(&mut fields(KEPT_FIELDS + 1, "v")));
        assert!(!is_small(&mut fields(1, &"v".repeat(KEPT_HEAD_BYTES))));
        let mut cookies = HeaderMap::new();
        for _ in 0..=KEPT_FIELDS {
            cookies.append(SET_COOKIE, HeaderValue::from_static("a=b"));
        }
        assert!(!is_small(&mut cookies));
    }

    #[test]
    fn the_room_of_an_earlier_message_is_given_back() {
        let mut headers = HeaderMap::with_capacity(MAX_FIELDS);
        headers.append(SET_COOKIE, HeaderValue::from_static("a=b"));
        headers.append(SET_COOKIE, HeaderValue::from_static("c=d"));
        headers.extend(fields(3, "v"));
        let whole = headers.clone();
        assert!(is_small(&mut headers) && headers.capacity() <= 2 * KEPT_FIELDS);
        assert_eq!(headers, whole);
    }

    #[test]
    fn a_field_takes_no_more_room_than_is_counted() {
        let room = HeaderMap::<HeaderValue>::with_capacity(KEPT_FIELDS).capacity();
        // An entry has the hash, the name, the value and two links; a further value has two links of its own.
        let (name, value, word) = (size_of::<HeaderName>(), size_of::<HeaderValue>(), size_of::<usize>());
        let entries = room * (word + name + value + 3 * word);
        let (index, further) = (room * 4 / 3 * 4, KEPT_FIELDS.next_power_of_two() * (value + 4 * word));
        assert!(entries + index + further <= KEPT_FIELDS * FIELD_BYTES);
    }
}
