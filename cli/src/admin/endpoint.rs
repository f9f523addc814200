//! Where an edge's admin API is, and how one gets there.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use hyper::http::request::Builder;
use hyper::{Method, Request, Uri};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto, version};

use crate::failure::bad_input;

/// The variable that holds a token, where no file does.
const TOKEN_VARIABLE: &str = "BERTH_ADMIN_TOKEN";
/// The port of an address without one.
const HTTPS_PORT: u16 = 443;

/// A connection to an edge.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Where an edge's admin API is.
#[derive(Clone)]
pub(super) enum Endpoint {
    /// On this machine.
    Socket(PathBuf),
    /// Anywhere, with TLS and a token.
    Network(Arc<Network>),
}

/// An address with TLS.
pub(super) struct Network {
    host: String,
    port: u16,
    name: ServerName<'static>,
    tls: TlsConnector,
    token: String,
}

/// Leaves the token out.
impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => path.display().fmt(f),
            Self::Network(network) => write!(f, "https://{}:{}", network.host, network.port),
        }
    }
}

impl Endpoint {
    /// The edge at this URL, known by this authority, for the bearer of the token in this file or in the environment.
    pub(super) fn network(url: &str, ca: Option<&Path>, token: Option<&Path>) -> Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("{url:?} is not a URL")).map_err(bad_input)?;
        let host = uri.host().filter(|_| uri.scheme_str() == Some("https") && matches!(uri.path(), "" | "/"));
        let Some(host) = host else {
            return Err(bad_input(anyhow::anyhow!(
                "{url:?}: expected a URL such as https://edge.example:8443"
            )));
        };
        let host = host.trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(host.clone()).map_err(bad_input)?;
        let Some(ca) = ca else {
            bail!("--admin-ca must name the authority that the edge's certificate is of")
        };
        let network = Network {
            port: uri.port_u16().unwrap_or(HTTPS_PORT),
            host,
            name,
            tls: connector(ca)?,
            token: read_token(token)?,
        };
        Ok(Self::Network(Arc::new(network)))
    }

    pub(super) async fn connect(&self) -> Result<Box<dyn Stream>> {
        match self {
            Self::Socket(socket) => {
                let stream = UnixStream::connect(socket).await.with_context(|| {
                    format!(
                        "cannot reach an edge at {}; is it running? Start `berth dev`, or name its socket with \
                         --admin-socket",
                        socket.display()
                    )
                })?;
                Ok(Box::new(stream))
            }
            Self::Network(network) => {
                let reach = || format!("cannot reach an edge at {self}");
                let stream = TcpStream::connect((network.host.as_str(), network.port)).await;
                let stream = stream.with_context(reach)?;
                let stream = network.tls.connect(network.name.clone(), stream).await.with_context(reach)?;
                Ok(Box::new(stream))
            }
        }
    }

    /// A request to this edge, with all but its body.
    pub(super) fn request(&self, method: Method, path: &str) -> Builder {
        let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        match self {
            Self::Socket(_) => request.header("host", "localhost"),
            Self::Network(network) => request
                .header("host", &network.host)
                .header("authorization", format!("Bearer {}", network.token)),
        }
    }
}

fn connector(ca: &Path) -> Result<TlsConnector> {
    let read = || format!("cannot read {}", ca.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).with_context(read)? {
        roots.add(certificate.with_context(read)?).with_context(read)?;
    }
    ensure!(!roots.is_empty(), "{} holds no certificate", ca.display());
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_protocol_versions(&[&version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn read_token(file: Option<&Path>) -> Result<String> {
    let text = match file {
        Some(file) => {
            std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?
        }
        None => std::env::var(TOKEN_VARIABLE)
            .with_context(|| format!("no token: give --admin-token-file, or set {TOKEN_VARIABLE}"))?,
    };
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_lead_nowhere_are_refused() {
        for bad in ["http://edge:1", "edge", "https://", "https://edge/path", "ftp://edge"] {
            assert!(Endpoint::network(bad, None, None).is_err(), "{bad}");
        }
    }
}
