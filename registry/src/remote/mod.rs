//! Images of other registries: pulled from there into this edge's, and pushed there. A client of the distribution
//! specification, on connections that are checked one by one (`web`).
//!
//! ```text
//! pull   manifest ──▶ children that Berth runs ──▶ blobs that are missing, some at once ──▶ manifests into the catalogue
//! push   blobs that are missing there, some at once ──▶ children ──▶ manifest
//! ```
//!
//! Registries are not trusted: all that they send is bounded in bytes and time, and checked against its digest. Whoever
//! waits for a pull or push drives it: when that goes away, so does the work, and nothing is in the catalogue that is not whole.

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

use self::session::{Ask, Session};
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

/// Longest that a pull or a push may take: less than what has no name yet is kept in any case, so that what was pulled first
/// is there still at the end.
const WHOLE_TIMEOUT: Duration = Duration::from_secs(50 * 60);
/// Blobs of one image that are moved at once.
const BLOBS_AT_ONCE: usize = 3;
/// Most images of a list that are moved: one for each architecture, and some spare.
const MAX_CHILDREN: usize = 8;

/// Which registries are reached, and how.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Networks of registries that are no public ones.
    pub allowed: Vec<IpNet>,
    /// Registries that are spoken to without TLS, by their canonical names.
    pub plain: BTreeSet<Registry>,
    /// Who is trusted besides the machine's own authorities.
    pub authorities: Vec<CertificateDer<'static>>,
}

/// What became of a pull or a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// Where the image is now, with the registry's name before it where that is another one.
    pub repository: String,
    /// Of its manifest.
    pub digest: Digest,
    /// Bytes of all that it consists of.
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
    /// The way to other registries, for these images.
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

    /// Checks with a registry that it takes a user and a password.
    pub async fn check(&self, registry: &Registry, login: Login) -> Result<(), RemoteError> {
        let session = Session::new(self, registry, Some(login), Vec::new())?;
        let answer = session.ask(&Ask::new(Method::GET, session.address("/v2/"), "its version")).await?;
        match answer.status {
            StatusCode::OK => Ok(()),
            StatusCode::NOT_FOUND => {
                Err(RemoteError::Senseless("it has no /v2/, and is no registry".to_owned()))
            }
            _ => Err(answer.refusal("its version").await),
        }
    }

    /// Where a registry is: by its name as `canonical` gives it.
    fn origin(&self, registry: &Registry) -> Result<WebAddress, RemoteError> {
        let scheme = if self.plain.contains(registry) { "http" } else { "https" };
        Ok(WebAddress::of(&format!("{scheme}://{}/", name::host(registry)))?)
    }

    /// Who asks a registry: whoever was given, or else whoever is known there.
    async fn login(&self, registry: &Registry, given: Option<Login>) -> Result<Option<Login>, RemoteError> {
        if given.is_some() {
            return Ok(given);
        }
        let (logins, registry) = (Arc::clone(&self.logins), canonical(registry));
        Ok(download::blocking(move || logins.login(&registry)).await??)
    }
}
