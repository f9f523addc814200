//! The address of an edge's admin API, and the connections to it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use hyper::http::request::Builder;
use hyper::{Method, Request, Uri};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, InvalidDnsNameError, ServerName, pem};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore, crypto, version};

use super::ClientError;

/// The port of an address without one.
const HTTPS_PORT: u16 = 443;

/// A connection to an edge, with or without TLS.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The address of an edge's admin API. `Debug` and `Display` do not show the token.
#[derive(Clone)]
pub(super) enum Endpoint {
    /// A Unix socket on this machine.
    Socket(PathBuf),
    /// An address on the network, with TLS and a token.
    Network(Arc<Network>),
}

impl Endpoint {
    /// The host, unless it is a socket.
    pub(super) fn host(&self) -> Option<&str> {
        match self {
            Self::Socket(_) => None,
            Self::Network(network) => Some(&network.address.host),
        }
    }
}

/// An address on the network, and what is needed to authenticate both sides.
pub(super) struct Network {
    pub(super) address: Address,
    pub(super) authority: Authority,
    pub(super) token: String,
}

/// An address of the network: `https://edge.example:8443`.
#[derive(Debug, Clone)]
pub struct Address {
    host: String,
    port: u16,
    name: ServerName<'static>,
}

/// Why a text is not an address.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// The text is not a URL.
    #[error("{text:?} is not a URL")]
    Url {
        /// The text.
        text: String,
        /// What is wrong with it.
        source: hyper::http::uri::InvalidUri,
    },
    /// The URL has another form than `https://HOST:PORT`.
    #[error("{0:?}: expected a URL such as https://edge.example:8443")]
    Other(String),
    /// The host is not a name that a certificate can have.
    #[error(transparent)]
    Name(#[from] InvalidDnsNameError),
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let uri: Uri = text.parse().map_err(|source| AddressError::Url { text: text.to_owned(), source })?;
        let host = uri.host().filter(|_| uri.scheme_str() == Some("https") && matches!(uri.path(), "" | "/"));
        let host = host.ok_or_else(|| AddressError::Other(text.to_owned()))?;
        let host = host.trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(host.clone())?;
        Ok(Self { port: uri.port_u16().unwrap_or(HTTPS_PORT), host, name })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}:{}", self.host, self.port)
    }
}

/// The certificate authority that has issued the edge's certificate.
#[derive(Clone)]
pub struct Authority(TlsConnector);

/// Why a certificate authority cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The file cannot be read as PEM certificates.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// TLS rejects one of the certificates.
    #[error("cannot read {}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The file holds no certificate.
    #[error("{} holds no certificate", .0.display())]
    Empty(PathBuf),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(rustls::Error),
}

impl Authority {
    /// Reads the certificates of the authority from a PEM file.
    pub fn read(path: &Path) -> Result<Self, AuthorityError> {
        let unread = |source| AuthorityError::Read { path: path.to_owned(), source };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(path).map_err(unread)? {
            let refused = |source| AuthorityError::Certificate { path: path.to_owned(), source };
            roots.add(certificate.map_err(unread)?).map_err(refused)?;
        }
        if roots.is_empty() {
            return Err(AuthorityError::Empty(path.to_owned()));
        }
        let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_protocol_versions(&[&version::TLS13])
            .map_err(AuthorityError::Tls)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => path.display().fmt(f),
            Self::Network(network) => network.address.fmt(f),
        }
    }
}

impl Endpoint {
    pub(super) async fn connect(&self) -> Result<Box<dyn Stream>, ClientError> {
        match self {
            Self::Socket(socket) => {
                let missing = |source| ClientError::NoSocket { at: self.to_string(), source };
                Ok(Box::new(UnixStream::connect(socket).await.map_err(missing)?))
            }
            Self::Network(network) => {
                let missing = |source| ClientError::NoAddress { at: self.to_string(), source };
                let Network { address, authority: Authority(tls), .. } = &**network;
                let stream = TcpStream::connect((address.host.as_str(), address.port)).await;
                let stream = stream.map_err(missing)?;
                Ok(Box::new(tls.connect(address.name.clone(), stream).await.map_err(missing)?))
            }
        }
    }

    /// A request to this edge, complete except for its body.
    pub(super) fn request(&self, method: Method, path: &str) -> Builder {
        let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        match self {
            Self::Socket(_) => request.header("host", "localhost"),
            Self::Network(network) => request
                .header("host", &network.address.host)
                .header("authorization", format!("Bearer {}", network.token)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_urls_are_refused() {
        for bad in ["http://edge:1", "edge", "https://", "https://edge/path", "ftp://edge"] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
        assert_eq!("https://edge".parse::<Address>().unwrap().to_string(), "https://edge:443");
    }
}
