//! Where the API is served: a Unix socket, and an address with TLS if one is configured.

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
use berth_registry::server;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;

use super::Admin;
use super::access::{self, Peer};
use super::metrics;
use crate::config::AdminTls;
use crate::http::tls;

/// Who may open the socket: its owner.
const SOCKET_MODE: u32 = 0o600;
/// Most connections at once, of each kind; more wait in the kernel.
const MAX_CONNECTIONS: usize = 512;
/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the head of a request may take, and how long an idle connection is kept.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// Largest head of a request.
const BUFFER_BYTES: usize = 64 * 1024;
/// Rest after the kernel refused to hand out a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where the API is served.
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

/// A socket that never is open to others: it gets its mode in a directory of its own, and then its place.
fn bind(path: &Path) -> io::Result<UnixListener> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let nursery: PathBuf = parent.join(format!(".admin-{}", std::process::id()));
    // An edge with this number that was killed in here has left it.
    let _ = fs::remove_dir_all(&nursery);
    std::os::unix::fs::DirBuilderExt::mode(&mut fs::DirBuilder::new(), 0o700).create(&nursery)?;
    let place = || {
        let born = nursery.join("s");
        let listener = UnixListener::bind(&born)?;
        fs::set_permissions(&born, fs::Permissions::from_mode(SOCKET_MODE))?;
        // Takes the place of the socket of a process that was killed; a living one would hold the store.
        fs::rename(&born, path)?;
        Ok(listener)
    };
    let placed = place();
    fs::remove_dir_all(&nursery)?;
    placed
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
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
        match listener.accept().await.and_then(|(stream, _)| Ok((stream.peer_cred()?, stream))) {
            Ok((cred, stream)) => {
                let peer = Peer::Local { uid: cred.uid() };
                tokio::spawn(serve_one(stream, peer, routes.clone(), permit));
            }
            Err(error) => pause(&error).await,
        }
    }
}

async fn accept_network(listener: TcpListener, tls: TlsAcceptor, routes: axum::Router) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, address)) => {
                let (handshake, routes) = (tls.accept(stream), routes.clone());
                tokio::spawn(async move {
                    match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
                        Ok(Ok(stream)) => serve_one(stream, Peer::Network, routes, permit).await,
                        Ok(Err(error)) => tracing::debug!(%address, %error, "handshake failed"),
                        Err(_) => tracing::debug!(%address, "handshake took too long"),
                    }
                });
            }
            Err(error) => pause(&error).await,
        }
    }
}

async fn pause(error: &io::Error) {
    tracing::warn!(%error, "connection to the admin API not accepted");
    tokio::time::sleep(ACCEPT_PAUSE).await;
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
