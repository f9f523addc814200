//! The listeners of the admin API: a Unix socket, and an address with TLS if one is configured.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Extension;
use axum::middleware::{from_fn, from_fn_with_state};
use berth_common::accept::accept_loop;
use berth_registry::server;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::TlsAcceptor;

use super::Admin;
use super::access::{self, Peer};
use super::metrics;
use crate::config::AdminTls;
use crate::http::tls;

/// Mode of the socket: only its owner may connect.
const SOCKET_MODE: u32 = 0o600;
/// Most connections at once of each listener; more wait in the kernel's backlog.
const MAX_CONNECTIONS: usize = 512;
/// Longest TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for a whole request head, and so how long an idle connection is kept.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// Largest head of a request, in bytes.
const BUFFER_BYTES: usize = 64 * 1024;

/// The bound listeners.
pub(crate) struct Listeners {
    local: UnixListener,
    network: Option<(TcpListener, TlsAcceptor)>,
}

impl Listeners {
    /// Binds the socket, and the address if there is one.
    pub(crate) async fn bind(socket: &Path, tls: Option<&AdminTls>) -> anyhow::Result<Self> {
        let local =
            bind(socket).with_context(|| format!("cannot bind the admin socket {}", socket.display()))?;
        let network = match tls {
            None => None,
            Some(tls) => {
                let listener = TcpListener::bind(tls.listen).await;
                let listener = listener.with_context(|| format!("cannot listen on {}", tls.listen))?;
                let address: SocketAddr = listener.local_addr()?;
                tracing::info!(%address, "admin API with TLS");
                Some((listener, tls::acceptor(&tls.cert, &tls.key)?))
            }
        };
        Ok(Self { local, network })
    }
}

/// Binds a socket that other users can never connect to: it gets its mode in a private directory, and is then moved.
fn bind(path: &Path) -> io::Result<UnixListener> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let private: PathBuf = parent.join(format!(".admin-{}", std::process::id()));
    // Left behind if an edge with this process id was killed in this function.
    let _ = fs::remove_dir_all(&private);
    std::os::unix::fs::DirBuilderExt::mode(&mut fs::DirBuilder::new(), 0o700).create(&private)?;
    let bind = || {
        let unmoved = private.join("s");
        let listener = UnixListener::bind(&unmoved)?;
        fs::set_permissions(&unmoved, fs::Permissions::from_mode(SOCKET_MODE))?;
        // Replaces the socket of a killed edge. It cannot be that of a running one, which would have the store locked.
        fs::rename(&unmoved, path)?;
        Ok(listener)
    };
    let bound = bind();
    fs::remove_dir_all(&private)?;
    bound
}

/// Serves the API for as long as it is polled.
pub(crate) async fn serve(listeners: Listeners, admin: Admin) {
    let admin = Arc::new(admin);
    let images = server::routes(Arc::clone(&admin.registry)).layer(from_fn(access::to_registry));
    let routes = super::router()
        .split_for_parts()
        .0
        .merge(images)
        .fallback(super::no_resource)
        .method_not_allowed_fallback(super::no_method)
        .layer(from_fn_with_state(Arc::clone(&admin), access::identify))
        .layer(from_fn_with_state(Arc::clone(&admin), metrics::count))
        .with_state(admin);
    let Listeners { local, network } = listeners;
    let local = accept_local(local, routes.clone());
    match network {
        None => local.await,
        Some((listener, tls)) => drop(tokio::join!(local, accept_network(listener, tls, routes))),
    }
}

async fn accept_local(listener: UnixListener, routes: axum::Router) {
    let accept = async || {
        let (stream, _) = listener.accept().await?;
        Ok((stream.peer_cred()?.uid(), stream))
    };
    let serve = |(uid, stream), permit| {
        tokio::spawn(serve_one(stream, Peer::Local { uid }, routes.clone(), permit));
    };
    accept_loop("admin socket", MAX_CONNECTIONS, accept, serve).await;
}

async fn accept_network(listener: TcpListener, tls: TlsAcceptor, routes: axum::Router) {
    let serve = |(stream, address), permit| {
        let (handshake, routes) = (tls.accept(stream), routes.clone());
        tokio::spawn(async move {
            match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
                Ok(Ok(stream)) => serve_one(stream, Peer::Network, routes, permit).await,
                Ok(Err(error)) => tracing::debug!(%address, %error, "TLS handshake failed"),
                Err(_) => tracing::debug!(%address, "TLS handshake timed out"),
            }
        });
    };
    accept_loop("admin TLS", MAX_CONNECTIONS, || listener.accept(), serve).await;
}

async fn serve_one(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    routes: axum::Router,
    _permit: OwnedSemaphorePermit,
) {
    let service = TowerToHyperService::new(routes.layer(Extension(peer)));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(?peer, %error, "connection to the admin API ended");
    }
}
