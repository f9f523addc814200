//! The registry's own listener: with TLS, or on loopback only.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Extension;
use axum::middleware::from_fn_with_state;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;

use super::login::{self, Client};
use super::{Registry, routes};

/// Most connections at once; more wait in the kernel.
const MAX_CONNECTIONS: usize = 256;
/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the head of a request may take, and how long an idle connection is kept.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a client may take nothing of what is sent to it.
const SEND_TIMEOUT: Duration = Duration::from_secs(60);
/// Largest head of a request, and most of a body that is read ahead.
const BUFFER_BYTES: usize = 64 * 1024;
/// Rest after the kernel refused to hand out a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where the registry is served.
pub struct Listener {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    address: SocketAddr,
}

impl Listener {
    /// Binds the address; `tls` may only be none where no other machine reaches it.
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
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
        match listener.listener.accept().await {
            Ok((stream, address)) => {
                let client = Client { address, own_address: listener.address, tls: listener.tls.is_some() };
                tokio::spawn(welcome(stream, listener.tls.clone(), client, routes.clone(), permit));
            }
            Err(error) => {
                tracing::warn!(%error, "connection to the registry not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn welcome(
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
        Ok(Err(error)) => tracing::debug!(address = %client.address, %error, "handshake failed"),
        Err(_) => tracing::debug!(address = %client.address, "handshake took too long"),
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
