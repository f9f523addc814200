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
use berth_common::connections::{Anonymous, Connections, Limits, Permit, StandsForMany};
use berth_registry::server;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;

use super::Admin;
use super::access::{self, Peer};
use super::{leftover, metrics};

/// Mode of the socket: only its owner may connect.
const SOCKET_MODE: u32 = 0o600;
/// Limits of the network listener's connections. People and programs with tokens have a few each, watchers among them;
/// the bound on all of them is that on descriptors and buffers, and one token has no more than half.
const NETWORK_LIMITS: Limits = Limits {
    total: 512,
    per_client: 256,
    anonymous: Some(Anonymous { total: 128, per_address: 32 }),
    head: Duration::from_secs(10),
    idle: Duration::from_secs(60),
};
/// Limits of the socket's connections, which only the edge's own user and root can make.
const LOCAL_LIMITS: Limits = Limits { anonymous: None, ..NETWORK_LIMITS };

/// The connections of both listeners.
#[derive(Clone)]
pub(crate) struct AdminConnections {
    pub(crate) local: Arc<Connections>,
    pub(crate) network: Arc<Connections>,
}

impl AdminConnections {
    /// None so far; those of addresses that stand for many clients are not limited by address.
    pub(crate) fn new(stands_for_many: StandsForMany) -> Self {
        Self {
            local: Connections::new("admin_socket", LOCAL_LIMITS, Box::new(|_| true)),
            network: Connections::new("admin", NETWORK_LIMITS, stands_for_many),
        }
    }
}

/// The bound listeners.
pub(crate) struct Listeners {
    local: UnixListener,
    network: Option<(TcpListener, TlsAcceptor)>,
}

impl Listeners {
    /// Binds the socket, and the address if there is one.
    pub(crate) async fn bind(socket: &Path, tls: Option<(SocketAddr, TlsAcceptor)>) -> anyhow::Result<Self> {
        let local =
            bind(socket).with_context(|| format!("cannot bind the admin socket {}", socket.display()))?;
        let network = match tls {
            None => None,
            Some((listen, tls)) => {
                let listener = TcpListener::bind(listen).await;
                let listener = listener.with_context(|| format!("cannot listen on {listen}"))?;
                let address: SocketAddr = listener.local_addr()?;
                tracing::info!(%address, "admin API with TLS");
                Some((listener, tls))
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
pub(crate) async fn serve(listeners: Listeners, connections: AdminConnections, admin: Admin) {
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
        .layer(from_fn(leftover::read))
        .with_state(admin);
    let Listeners { local, network } = listeners;
    let local = accept_local(local, &connections.local, routes.clone());
    match network {
        None => local.await,
        Some((listener, tls)) => {
            tokio::join!(local, accept_network(listener, tls, &connections.network, routes));
        }
    }
}

async fn accept_local(listener: UnixListener, connections: &Arc<Connections>, routes: axum::Router) {
    let accept = async || {
        let (stream, _) = listener.accept().await?;
        Ok(((stream.peer_cred()?.uid(), stream), None))
    };
    let serve = |(uid, stream), permit| {
        tokio::spawn(serve_one(stream, None, Peer::Local { uid }, permit, routes.clone()));
    };
    accept_loop(connections, accept, serve).await;
}

async fn accept_network(
    listener: TcpListener,
    tls: TlsAcceptor,
    connections: &Arc<Connections>,
    routes: axum::Router,
) {
    let accept = async || {
        let (stream, address) = listener.accept().await?;
        Ok(((stream, address.ip()), Some(address.ip())))
    };
    let serve = |(stream, address), permit| {
        tokio::spawn(serve_one(stream, Some(tls.clone()), Peer::Network(address), permit, routes.clone()));
    };
    accept_loop(connections, accept, serve).await;
}

async fn serve_one(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    tls: Option<TlsAcceptor>,
    peer: Peer,
    permit: Arc<Permit>,
    routes: axum::Router,
) {
    if let Err(error) = server::serve_connection(stream, tls, permit, routes.layer(Extension(peer))).await {
        tracing::debug!(?peer, %error, "connection to the admin API ended");
    }
}
