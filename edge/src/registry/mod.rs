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

use axum::routing::any;
use berth_images::content::Usage;
use berth_monitor::cells::Counter;

use self::bearer::Bearers;
pub(crate) use self::listen::{Listener, serve};
use crate::images::Images;
use crate::tokens::{Scope, Tokens};

/// What every answer has: by it clients know a registry.
const API_VERSION: (&str, &str) = ("docker-distribution-api-version", "registry/2.0");

/// What whoever asks may do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Access(pub(crate) Scope);

/// The registry.
pub(crate) struct Registry {
    images: Arc<Images>,
    tokens: Arc<Tokens>,
    bearers: Bearers,
    counts: RegistryCounts,
}

/// What was done.
#[derive(Debug, Default)]
pub(crate) struct RegistryCounts {
    pub(crate) pushes: Counter,
    pub(crate) pulls: Counter,
    pub(crate) received_bytes: Counter,
    pub(crate) sent_bytes: Counter,
    pub(crate) refusals: Counter,
}

impl Registry {
    /// That of these images, for bearers of these tokens.
    pub(crate) fn new(images: Arc<Images>, tokens: Arc<Tokens>) -> anyhow::Result<Self> {
        let (bearers, counts) = (Bearers::new()?, RegistryCounts::default());
        Ok(Self { images, tokens, bearers, counts })
    }

    /// What was done.
    pub(crate) fn counts(&self) -> &RegistryCounts {
        &self.counts
    }

    /// What there is.
    pub(crate) fn usage(&self) -> Usage {
        self.images.content().usage()
    }
}

/// What the registry answers, for those whose requests have an [`Access`].
pub(crate) fn routes<S: Clone + Send + Sync + 'static>(registry: Arc<Registry>) -> axum::Router<S> {
    axum::Router::new()
        .route("/v2", any(answer::ping))
        .route("/v2/", any(answer::ping))
        .route("/v2/{*rest}", any(answer::answer))
        .with_state(registry)
}
