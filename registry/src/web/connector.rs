//! Connects to servers by URL. The resolved address is checked and then connected to, so that a later change of the
//! name in DNS cannot lead elsewhere (DNS rebinding).

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use berth_certs::{NoAuthorities, web_client_config, web_client_config_with};
use ipnet::IpNet;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::WebAddress;
use super::address::{is_allowed, is_in_any, own_addresses};

/// Longest wait for one connection: the farthest servers take a third of a second, and packets are lost.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest TLS handshake.
const TLS_TIMEOUT: Duration = Duration::from_secs(10);
/// Most addresses of one host that are tried.
const MAX_ADDRESSES: usize = 4;

/// Why a server was not reached.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each says what its fields are")]
pub enum WebError {
    /// The URL is not valid.
    #[error("{0:?} is not a URL")]
    Url(String),
    /// The host name cannot be resolved now.
    #[error("the host {host} cannot be resolved: {error}")]
    Resolve { host: String, error: std::io::Error },
    /// The addresses of this machine are not known, so that none can be told from them.
    #[error("the addresses of this machine cannot be listed: {0}")]
    OwnAddresses(std::io::Error),
    /// The address is not permitted.
    #[error(
        "{host} is {address}, which is no public address, or one of the edge's machine: the edge goes there only if it runs with {option} for it"
    )]
    Forbidden { host: String, address: IpAddr, option: &'static str },
    /// The address may only be connected to with TLS.
    #[error(
        "{host} is {address}, and the edge speaks to it without TLS only if it runs with {option} for that address"
    )]
    Plain { host: String, address: IpAddr, option: &'static str },
    /// The host name has no address.
    #[error("the host {0} has no address")]
    NoAddress(String),
    /// The connection failed.
    #[error("no connection to {address}: {error}")]
    Connect { address: SocketAddr, error: std::io::Error },
    /// This machine has no trusted certificate authorities.
    #[error(transparent)]
    NoAuthorities(#[from] NoAuthorities),
    /// The TLS handshake or the certificate check failed.
    #[error("no TLS with {host}: {error}")]
    Tls { host: String, error: std::io::Error },
}

impl WebError {
    /// Whether a retry may succeed.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Resolve { .. } | Self::Connect { .. })
    }
}

/// A connection to a server.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Which servers may be reached without TLS, if the URL says `http`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlainTo {
    /// All permitted ones.
    Anybody,
    /// Those at addresses that the edge's owner permits.
    Allowed,
}

/// Connects to public addresses, and to others that are permitted.
pub struct Connector {
    allowed: Vec<IpNet>,
    /// The option that permits them, for error texts.
    option: &'static str,
    plain: PlainTo,
    /// Trusted certificate authorities besides those of the machine.
    authorities: Vec<CertificateDer<'static>>,
    /// Built when first needed: reading all authorities takes a while.
    tls: OnceLock<TlsConnector>,
}

impl Connector {
    /// A connector for public addresses and these, which this option of the edge permits.
    pub fn new(allowed: Vec<IpNet>, option: &'static str, plain: PlainTo) -> Self {
        Self { allowed, option, plain, authorities: Vec::new(), tls: OnceLock::new() }
    }

    /// The same, trusting these authorities too.
    pub fn trusting(self, authorities: Vec<CertificateDer<'static>>) -> Self {
        Self { authorities, ..self }
    }

    /// Connects to a server.
    pub async fn connect(&self, server: &WebAddress) -> Result<Box<dyn Stream>, WebError> {
        let stream = self.connect_first(server).await?;
        // Requests and acknowledgements are small, and a client waits for them.
        let _ = stream.set_nodelay(true);
        if !server.tls {
            return Ok(Box::new(stream));
        }
        let tls = |error| WebError::Tls { host: server.host.clone(), error };
        let name = ServerName::try_from(server.host.clone()).map_err(|e| tls(std::io::Error::other(e)))?;
        let secured = tokio::time::timeout(TLS_TIMEOUT, self.tls()?.connect(name, stream)).await;
        Ok(Box::new(secured.map_err(|_| tls(timed_out())).and_then(|secured| secured.map_err(tls))?))
    }

    /// Connects to the first permitted address that accepts.
    async fn connect_first(&self, server: &WebAddress) -> Result<TcpStream, WebError> {
        let mut failed = None;
        for address in self.addresses(server).await? {
            let connected = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await;
            match connected.unwrap_or_else(|_| Err(timed_out())) {
                Ok(stream) => return Ok(stream),
                Err(error) => failed = Some(WebError::Connect { address, error }),
            }
        }
        Err(failed.unwrap_or_else(|| WebError::NoAddress(server.host.clone())))
    }

    /// The permitted addresses of a server: at least one.
    async fn addresses(&self, server: &WebAddress) -> Result<Vec<SocketAddr>, WebError> {
        let host = || server.host.clone();
        let found = tokio::net::lookup_host((server.host.as_str(), server.port)).await;
        let found: Vec<SocketAddr> =
            found.map_err(|error| WebError::Resolve { host: host(), error })?.collect();
        let Some(first) = found.first().copied() else { return Err(WebError::NoAddress(host())) };
        let (address, option) = (first.ip(), self.option);
        let own = own_addresses().map_err(WebError::OwnAddresses)?;
        let allowed = found.into_iter().filter(|address| is_allowed(address.ip(), &self.allowed, &own));
        let reached: Vec<SocketAddr> = allowed.take(MAX_ADDRESSES).collect();
        if reached.is_empty() {
            return Err(WebError::Forbidden { host: host(), address, option });
        }
        if server.tls || self.plain == PlainTo::Anybody {
            return Ok(reached);
        }
        let plain: Vec<SocketAddr> =
            reached.into_iter().filter(|address| is_in_any(address.ip(), &self.allowed)).collect();
        if plain.is_empty() { Err(WebError::Plain { host: host(), address, option }) } else { Ok(plain) }
    }

    fn tls(&self) -> Result<&TlsConnector, WebError> {
        if let Some(tls) = self.tls.get() {
            return Ok(tls);
        }
        let config = if self.authorities.is_empty() {
            web_client_config()?
        } else {
            web_client_config_with(&self.authorities)?
        };
        Ok(self.tls.get_or_init(|| TlsConnector::from(Arc::clone(&config))))
    }
}

fn timed_out() -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer in time")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reached(connector: &Connector, url: &str) -> Result<Vec<SocketAddr>, WebError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(connector.addresses(&WebAddress::of(url).unwrap()))
    }

    #[test]
    fn the_edges_own_network_is_not_permitted() {
        let connector = Connector::new(Vec::new(), "--allow", PlainTo::Anybody);
        for url in [
            "http://127.0.0.1:1/",
            "http://localhost:1/",
            "https://[::1]:1/",
            "https://2130706433:1/",
            "http://0x7f.1:1/",
        ] {
            let error = reached(&connector, url).unwrap_err();
            assert!(matches!(error, WebError::Forbidden { .. } | WebError::Resolve { .. }), "{url}: {error}");
        }
        assert!(reached(&connector, "http://1.1.1.1/").is_ok());
    }

    #[test]
    fn plain_http_is_permitted_only_where_it_is_allowed() {
        let loopback = vec!["127.0.0.0/8".parse().unwrap()];
        let connector = Connector::new(loopback, "--allow", PlainTo::Allowed);
        assert!(reached(&connector, "http://127.0.0.1:5000/").is_ok());
        assert!(reached(&connector, "https://127.0.0.1:5000/").is_ok());
        assert!(reached(&connector, "https://1.1.1.1/").is_ok());
        let error = reached(&connector, "http://1.1.1.1/").unwrap_err();
        assert!(matches!(error, WebError::Plain { .. }), "{error}");
    }
}
