//! The registry's own listener: with TLS, or only on loopback addresses.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Extension;
use axum::middleware::from_fn_with_state;
use berth_common::accept::accept_loop;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::TlsAcceptor;

use super::login::{self, Client};
use super::{Registry, routes};

/// Most connections at once; more wait in the kernel's backlog.
const MAX_CONNECTIONS: usize = 256;
/// Longest TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for a whole request head, and so how long an idle connection is kept.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// How long sent bytes may stay unacknowledged by a client (TCP_USER_TIMEOUT).
const SEND_TIMEOUT: Duration = Duration::from_secs(60);
/// Largest head of a request, and most of a body that is read ahead, in bytes.
const BUFFER_BYTES: usize = 64 * 1024;

/// A bound address to serve the registry on.
pub struct Listener {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    address: SocketAddr,
}

impl Listener {
    /// Binds the address. Without `tls` it must be a loopback address: the caller checks that.
    pub async fn bind(listen: SocketAddr, tls: Option<TlsAcceptor>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(listen).await;
        let listener = listener.with_context(|| format!("cannot listen on {listen} (--registry-listen)"))?;
        let address = listener.local_addr()?;
        tracing::info!(%address, tls = tls.is_some(), "registry");
        Ok(Self { listener, tls, address })
    }
}

/// Serves the registry for as long as it is polled.
pub async fn serve(listener: Listener, registry: Arc<Registry>) {
    let identify = from_fn_with_state(Arc::clone(&registry), login::identify);
    let routes: axum::Router = routes(registry).layer(identify);
    let serve = |(stream, address), permit| {
        let client = Client { address, own_address: listener.address, tls: listener.tls.is_some() };
        tokio::spawn(serve_client(stream, listener.tls.clone(), client, routes.clone(), permit));
    };
    accept_loop("registry", MAX_CONNECTIONS, || listener.listener.accept(), serve).await;
}

async fn serve_client(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    client: Client,
    routes: axum::Router,
    permit: OwnedSemaphorePermit,
) {
    if let Err(error) = SockRef::from(&stream).set_tcp_user_timeout(Some(SEND_TIMEOUT)) {
        tracing::debug!(%error, "connection to the registry ended");
        return;
    }
    let Some(tls) = tls else { return serve_one(stream, client, routes, permit).await };
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
        Ok(Ok(stream)) => serve_one(stream, client, routes, permit).await,
        Ok(Err(error)) => tracing::debug!(address = %client.address, %error, "TLS handshake failed"),
        Err(_) => tracing::debug!(address = %client.address, "TLS handshake timed out"),
    }
}

async fn serve_one(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    client: Client,
    routes: axum::Router,
    _permit: OwnedSemaphorePermit,
) {
    let service = TowerToHyperService::new(routes.layer(Extension(client)));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(address = %client.address, %error, "connection to the registry ended");
    }
}
