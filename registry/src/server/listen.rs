//! The registry's own listener: with TLS, or only on loopback addresses.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Extension;
use axum::middleware::from_fn_with_state;
use berth_common::accept::accept_loop;
use berth_common::connections::{Anonymous, Connections, Limits, Permit, StandsForMany};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::connection::serve_connection;
use super::login::{self, Client};
use super::{Registry, routes};

/// Limits of the listener's connections. Clients of registries fetch a few blobs at a time; the bound on all of them is
/// that on descriptors and buffers, and one token has no more than half.
const LIMITS: Limits = Limits {
    total: 256,
    per_client: 128,
    anonymous: Some(Anonymous { total: 64, per_address: 32 }),
    head: Duration::from_secs(10),
    idle: Duration::from_secs(60),
};
/// How long sent bytes may stay unacknowledged by a client (TCP_USER_TIMEOUT).
const SEND_TIMEOUT: Duration = Duration::from_secs(60);

/// No connections so far; those of addresses that stand for many clients are not limited by address.
pub fn connections(stands_for_many: StandsForMany) -> Arc<Connections> {
    Connections::new("registry", LIMITS, stands_for_many)
}

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
pub async fn serve(listener: Listener, connections: Arc<Connections>, registry: Arc<Registry>) {
    let identify = from_fn_with_state(Arc::clone(&registry), login::identify);
    let routes: axum::Router = routes(registry).layer(identify);
    let accept = async || {
        let (stream, address) = listener.listener.accept().await?;
        Ok(((stream, address), Some(address.ip())))
    };
    let serve = |(stream, address), permit| {
        let client = Client { address, own_address: listener.address, tls: listener.tls.is_some() };
        let routes = routes.clone().layer(Extension(client));
        tokio::spawn(serve_client(stream, listener.tls.clone(), address, routes, permit));
    };
    accept_loop(&connections, accept, serve).await;
}

async fn serve_client(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    address: SocketAddr,
    routes: axum::Router,
    permit: Arc<Permit>,
) {
    if let Err(error) = SockRef::from(&stream).set_tcp_user_timeout(Some(SEND_TIMEOUT)) {
        tracing::debug!(%error, "connection to the registry ended");
        return;
    }
    if let Err(error) = serve_connection(stream, tls, permit, routes).await {
        tracing::debug!(%address, %error, "connection to the registry ended");
    }
}
