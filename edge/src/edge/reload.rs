//! The edge's certificates while it runs: read again on SIGHUP, and told of when they end soon. Everything else of its
//! configuration is on its command line, which is read at start only.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use berth_certs::{Credentials, Lifetime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::http::tls::ServerCertificate;

/// How often is told that a certificate ends soon.
const WARN_EVERY: Duration = Duration::from_secs(12 * 3600);

/// SIGHUP, which would end the process before this is made.
pub(super) struct Hangup(Signal);

impl Hangup {
    pub(super) fn catch() -> io::Result<Self> {
        Ok(Self(signal(SignalKind::hangup())?))
    }
}

/// The certificates of an edge.
pub(super) struct Certificates {
    /// Its own, with its file.
    pub(super) own: Credentials,
    /// Those of its listeners.
    pub(super) listeners: Vec<Arc<ServerCertificate>>,
}

impl Certificates {
    /// Looks after them for as long as it is polled.
    pub(super) async fn look_after(self, Hangup(mut hangup): Hangup) {
        let mut warnings = tokio::time::interval(WARN_EVERY);
        loop {
            tokio::select! {
                Some(()) = hangup.recv() => {
                    self.reload();
                    self.warn();
                }
                _ = warnings.tick() => self.warn(),
            }
        }
    }

    fn reload(&self) {
        let told = |file: &Path, read: anyhow::Result<()>| match read {
            Ok(()) => tracing::info!(file = %file.display(), "certificate read again"),
            Err(error) => tracing::error!("{error:#}; the certificate before still counts"),
        };
        told(self.own.file(), self.own.reload().map(drop).map_err(Into::into));
        for certificate in &self.listeners {
            told(certificate.path(), certificate.reload());
        }
        tracing::info!("options are read at start only: restart the edge for those");
    }

    fn warn(&self) {
        let listeners = self.listeners.iter().map(|listener| (listener.path(), listener.lifetime()));
        let all = std::iter::once((self.own.file(), Some(self.own.lifetime()))).chain(listeners);
        for (file, lifetime) in all.filter_map(|(file, lifetime)| Some((file, lifetime?))) {
            warn_of(file, lifetime);
        }
    }
}

fn warn_of(file: &Path, lifetime: Lifetime) {
    if lifetime.is_ending(SystemTime::now()) {
        let until = httpdate::fmt_http_date(lifetime.until);
        tracing::warn!(file = %file.display(), until, "the certificate ends soon or has ended: renew it, then send SIGHUP");
    }
}
