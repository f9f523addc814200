//! The edge's registry: the OCI distribution specification 1.1 over HTTP, on a listener of its own with logins by
//! tokens, and below `/v2/` of the admin API.
//!
//! `route` parses paths, `answer` handles requests, with `blobs`, `uploads`, `manifests` and `lists`; `login` and
//! `bearer` authenticate clients of the listener, `listen`, whose connections `connection` serves. Blobs belong to no repository: a client that may read one
//! may read all.

mod answer;
mod bearer;
mod blobs;
mod connection;
mod error;
mod listen;
mod lists;
mod login;
mod manifests;
mod route;
mod stream;
mod uploads;

use std::sync::Arc;

use crate::content::Usage;
use axum::routing::any;
use berth_monitor::cells::Counter;
use berth_store::{Scope, TokenId};

use self::bearer::Bearers;
pub use self::connection::serve_connection;
pub use self::listen::{Listener, connections, serve};
use crate::images::Images;

/// A header of every response: clients recognize a registry by it.
const API_VERSION: (&str, &str) = ("docker-distribution-api-version", "registry/2.0");

/// What the client of a request may do.
#[derive(Debug, Clone, Copy)]
pub struct Access(pub Scope);

/// Looks up tokens of the edge.
pub trait TokenLookup: Send + Sync {
    /// The id of this token, and what it permits, if it is valid.
    fn identify(&self, text: &str) -> Option<(TokenId, Scope)>;
    /// What the token with this id permits, if it still exists.
    fn scope_of(&self, id: TokenId) -> Option<Scope>;
}

/// The registry.
pub struct Registry {
    images: Arc<Images>,
    tokens: Arc<dyn TokenLookup>,
    bearers: Bearers,
    counts: RegistryCounts,
}

/// The counters of the registry.
#[derive(Debug, Default)]
pub struct RegistryCounts {
    /// Manifests that were pushed.
    pub pushes: Counter,
    /// Manifests that were pulled.
    pub pulls: Counter,
    /// Bytes of blobs that were pushed.
    pub received_bytes: Counter,
    /// Bytes of blobs that were pulled.
    pub sent_bytes: Counter,
    /// Requests that were refused.
    pub refusals: Counter,
}

impl Registry {
    /// A registry of these images, for these tokens.
    pub fn new(images: Arc<Images>, tokens: Arc<dyn TokenLookup>) -> anyhow::Result<Self> {
        let (bearers, counts) = (Bearers::new()?, RegistryCounts::default());
        Ok(Self { images, tokens, bearers, counts })
    }

    /// The counters.
    pub fn counts(&self) -> &RegistryCounts {
        &self.counts
    }

    /// The totals of the content store.
    pub fn usage(&self) -> Usage {
        self.images.content().usage()
    }
}

/// The routes of the registry, for requests that have an [`Access`].
pub fn routes<S: Clone + Send + Sync + 'static>(registry: Arc<Registry>) -> axum::Router<S> {
    axum::Router::new()
        .route("/v2", any(answer::ping))
        .route("/v2/", any(answer::ping))
        .route("/v2/{*rest}", any(answer::answer))
        .with_state(registry)
}
