//! Transfers of images from and to other registries: a client of the OCI distribution specification, on connections
//! whose addresses are checked (`web`).
//!
//! ```text
//! pull   manifest ──▶ children that Berth runs ──▶ blobs that are missing, some at once ──▶ manifests into the catalogue
//! push   blobs that are missing there, some at once ──▶ children ──▶ manifest
//! ```
//!
//! Registries are not trusted: everything they send is limited in bytes and time, and verified by its digest. The task
//! that waits for a transfer drives it: dropping the future cancels the work, and an image is listed only once it is
//! complete.
//!
//! What fails, and what happens then:
//!
//! * Registry not reachable, busy, or connection lost: retried with growing pauses, at most a few times without
//!   progress.
//! * Credentials missing or rejected: the transfer fails, and says how to log in.
//! * Wrong digest, size or type: the transfer fails; nothing of it is listed.
//! * Transfer cancelled, or edge killed: complete blobs are kept for the grace period of the garbage collection, and of
//!   the others what has arrived, so that the next transfer goes on there.
//! * No space: garbage is collected once, then the transfer fails.

mod challenge;
mod copy;
mod document;
mod download;
mod error;
mod exchange;
mod login;
mod name;
mod progress;
mod pull;
mod push;
mod retry;
mod session;
mod slots;
#[cfg(test)]
mod tests;
mod tokens;
mod upload;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ::http::{Method, StatusCode};
use berth_common::image::{Digest, Registry};
use ipnet::IpNet;
use rustls_pki_types::CertificateDer;

use self::session::{ApiCall, Session};
use self::slots::Downloads;
use self::tokens::Tokens;
use crate::images::Images;
use crate::web::{Connector, PlainTo, WebAddress};

pub use self::copy::Copy;
pub use self::error::RemoteError;
pub use self::login::{Login, LoginError, Logins};
pub use self::name::{canonical, local_repository};
pub use self::progress::Progress;
pub use self::pull::{Destination, Pull};

/// Longest time of a transfer: shorter than the grace period of the garbage collection, so that the first blobs still
/// exist at its end.
const WHOLE_TIMEOUT: Duration = Duration::from_secs(50 * 60);
/// Blobs of one image that are transferred at once.
const BLOBS_AT_ONCE: usize = 3;
/// Most images of an index that are transferred: one for each architecture, and some spare.
const MAX_CHILDREN: usize = 8;

/// Which registries may be reached, and how.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Networks of registries besides public addresses.
    pub allowed: Vec<IpNet>,
    /// Registries that are reached without TLS, by their canonical names.
    pub plain: BTreeSet<Registry>,
    /// Trusted certificate authorities besides those of the machine.
    pub authorities: Vec<CertificateDer<'static>>,
}

/// The result of a transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The new name of the image, with the host of another registry before it.
    pub repository: String,
    /// The digest of its manifest.
    pub digest: Digest,
    /// Total size of the image, in bytes.
    pub bytes: u64,
}

/// Moves images between this edge and other registries.
pub struct Remote {
    connector: Connector,
    plain: BTreeSet<Registry>,
    images: Arc<Images>,
    logins: Arc<dyn Logins>,
    tokens: Tokens,
    downloads: Downloads,
}

impl Remote {
    /// A client of other registries, for these images.
    pub fn new(settings: Settings, images: Arc<Images>, logins: Arc<dyn Logins>) -> Self {
        let Settings { allowed, plain, authorities } = settings;
        let connector = Connector::new(allowed, "--allow-registries-on", PlainTo::Allowed);
        Self {
            connector: connector.trusting(authorities),
            plain,
            images,
            logins,
            tokens: Tokens::new(),
            downloads: Downloads::default(),
        }
    }

    /// Checks that a registry accepts a login.
    pub async fn check(&self, registry: &Registry, login: Login) -> Result<(), RemoteError> {
        let session = Session::new(self, registry, Some(login), Vec::new())?;
        let answer = session.call(&ApiCall::new(Method::GET, session.address("/v2/"), "its version")).await?;
        match answer.status {
            StatusCode::OK => Ok(()),
            StatusCode::NOT_FOUND => {
                Err(RemoteError::Invalid("it has no /v2/, so it is not a registry".to_owned()))
            }
            _ => Err(answer.refusal("its version").await),
        }
    }

    /// The URL of a registry, by its canonical name.
    fn origin(&self, registry: &Registry) -> Result<WebAddress, RemoteError> {
        let scheme = if self.plain.contains(registry) { "http" } else { "https" };
        Ok(WebAddress::of(&format!("{scheme}://{}/", name::host(registry)))?)
    }

    /// The login for a registry: the given one, or else the stored one.
    async fn login(&self, registry: &Registry, given: Option<Login>) -> Result<Option<Login>, RemoteError> {
        if given.is_some() {
            return Ok(given);
        }
        let (logins, registry) = (Arc::clone(&self.logins), canonical(registry));
        Ok(download::blocking(move || logins.login(&registry)).await??)
    }
}
