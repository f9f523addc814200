//! The edge's registry: images over HTTP, as the distribution specification of OCI has it (1.1), on a listener of its own
//! with logins by tokens, and below `/v2/` of the admin API.
//!
//! `route` reads paths, `answer` carries requests out, with `blobs`, `uploads`, `manifests` and `lists`; `login` and `bearer`
//! say who asks on the listener, `listen`. Blobs belong to no repository: whoever may read one may read all of them.

mod answer;
mod bearer;
mod blobs;
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
pub use self::listen::{Listener, serve};
use crate::images::Images;

/// What every answer has: by it clients know a registry.
const API_VERSION: (&str, &str) = ("docker-distribution-api-version", "registry/2.0");

/// What whoever asks may do.
#[derive(Debug, Clone, Copy)]
pub struct Access(pub Scope);

/// Who the bearers of the edge's tokens are.
pub trait TokenLookup: Send + Sync {
    /// What this token is called, and what its bearer may do.
    fn identify(&self, text: &str) -> Option<(TokenId, Scope)>;
    /// What whoever was known by this token may do still.
    fn scope_of(&self, id: TokenId) -> Option<Scope>;
}

/// The registry.
pub struct Registry {
    images: Arc<Images>,
    tokens: Arc<dyn TokenLookup>,
    bearers: Bearers,
    counts: RegistryCounts,
}

/// What was done.
#[derive(Debug, Default)]
pub struct RegistryCounts {
    /// Manifests that were pushed.
    pub pushes: Counter,
    /// Manifests that were pulled.
    pub pulls: Counter,
    /// Bytes of what was pushed.
    pub received_bytes: Counter,
    /// Bytes of what was pulled.
    pub sent_bytes: Counter,
    /// Requests that were refused.
    pub refusals: Counter,
}

impl Registry {
    /// That of these images, for bearers of these tokens.
    pub fn new(images: Arc<Images>, tokens: Arc<dyn TokenLookup>) -> anyhow::Result<Self> {
        let (bearers, counts) = (Bearers::new()?, RegistryCounts::default());
        Ok(Self { images, tokens, bearers, counts })
    }

    /// What was done.
    pub fn counts(&self) -> &RegistryCounts {
        &self.counts
    }

    /// What there is.
    pub fn usage(&self) -> Usage {
        self.images.content().usage()
    }
}

/// What the registry answers, for those whose requests have an [`Access`].
pub fn routes<S: Clone + Send + Sync + 'static>(registry: Arc<Registry>) -> axum::Router<S> {
    axum::Router::new()
        .route("/v2", any(answer::ping))
        .route("/v2/", any(answer::ping))
        .route("/v2/{*rest}", any(answer::answer))
        .with_state(registry)
}
