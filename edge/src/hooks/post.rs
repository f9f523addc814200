//! Posts something to an address of the web: one connection a request, to an address that may be reached, followed nowhere
//! else. Knows nothing of events.

use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;
use std::time::Duration;

use ::http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use ::http::{Request, Response, StatusCode, Uri};
use berth_certs::{NoAuthorities, web_client_config};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use ipnet::IpNet;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::address::is_allowed;
use crate::http;

/// Longest wait for an answer, everything included: a receiver should take an event, and work on it afterwards.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Most of an answer that is read, in bytes: a word or two are expected.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// Largest buffer for what is read, and so largest head of an answer.
const BUFFER_BYTES: usize = 16 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PostError {
    #[error("{0:?} is no address of the web")]
    Url(String),
    #[error("the host {host} cannot be resolved: {error}")]
    Resolve { host: String, error: std::io::Error },
    #[error(
        "{host} is {address}, which is no public address: the edge posts there only if it runs with --allow-hooks-to for it"
    )]
    Forbidden { host: String, address: IpAddr },
    #[error("the host {0} has no address")]
    NoAddress(String),
    #[error("no connection to {address}: {error}")]
    Connect { address: SocketAddr, error: std::io::Error },
    #[error(transparent)]
    NoAuthorities(#[from] NoAuthorities),
    #[error("no TLS with {host}: {error}")]
    Tls { host: String, error: std::io::Error },
    #[error("no answer: {0}")]
    Http(#[from] hyper::Error),
    #[error("the answer broke off, or is longer than {MAX_ANSWER_BYTES} bytes")]
    Answer,
    #[error("no answer within {} s", TIMEOUT.as_secs())]
    TimedOut,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// Posts to addresses of the web.
pub(crate) struct Poster {
    allowed: Vec<IpNet>,
    /// Made when the first one is needed: reading all authorities takes a while.
    tls: OnceLock<TlsConnector>,
}

impl Poster {
    /// One that reaches public addresses and these.
    pub(crate) fn new(allowed: Vec<IpNet>) -> Self {
        Self { allowed, tls: OnceLock::new() }
    }

    /// Posts a body of JSON with one more header, and reads the answer.
    pub(crate) async fn post(
        &self,
        url: &str,
        header: (&'static str, String),
        body: Vec<u8>,
    ) -> Result<Answer, PostError> {
        tokio::time::timeout(TIMEOUT, self.try_post(url, header, body))
            .await
            .map_err(|_| PostError::TimedOut)?
    }

    async fn try_post(
        &self,
        url: &str,
        (name, value): (&'static str, String),
        body: Vec<u8>,
    ) -> Result<Answer, PostError> {
        let place = Place::of(url)?;
        let request = Request::post(&place.path)
            .header(HOST, &place.authority)
            .header(USER_AGENT, concat!("berth/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_TYPE, "application/json")
            .header(name, value)
            .body(Full::new(Bytes::from(body)))
            .map_err(|_| PostError::Url(url.to_owned()))?;
        let stream = self.connect(&place).await?;
        if !place.tls {
            return exchange(stream, request).await;
        }
        let tls = |error| PostError::Tls { host: place.host.clone(), error };
        let name = ServerName::try_from(place.host.clone()).map_err(|e| tls(std::io::Error::other(e)))?;
        exchange(self.tls()?.connect(name, stream).await.map_err(tls)?, request).await
    }

    fn tls(&self) -> Result<&TlsConnector, PostError> {
        if let Some(tls) = self.tls.get() {
            return Ok(tls);
        }
        let made = TlsConnector::from(web_client_config()?);
        Ok(self.tls.get_or_init(|| made))
    }

    /// Connects to an address that was looked at: what the name becomes later makes no difference.
    async fn connect(&self, place: &Place) -> Result<TcpStream, PostError> {
        let host = || place.host.clone();
        let found = tokio::net::lookup_host((place.host.as_str(), place.port)).await;
        let found: Vec<SocketAddr> =
            found.map_err(|error| PostError::Resolve { host: host(), error })?.collect();
        let reachable = found.iter().find(|address| is_allowed(address.ip(), &self.allowed));
        let address = match (reachable, found.first()) {
            (Some(address), _) => *address,
            (None, Some(first)) => return Err(PostError::Forbidden { host: host(), address: first.ip() }),
            (None, None) => return Err(PostError::NoAddress(host())),
        };
        TcpStream::connect(address).await.map_err(|error| PostError::Connect { address, error })
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<Answer, PostError> {
    let take = async |response: Response<Incoming>| {
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
        Ok(Answer { status, body: body.map_err(|_| PostError::Answer)?.to_bytes() })
    };
    http::exchange::exchange(stream, BUFFER_BYTES, request, take).await?
}

/// The parts of a URL.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    tls: bool,
    host: String,
    port: u16,
    authority: String,
    path: String,
}

impl Place {
    fn of(url: &str) -> Result<Self, PostError> {
        let wrong = || PostError::Url(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong()),
        };
        let authority =
            uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or_else(wrong)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { tls, host, port, authority: authority.to_string(), path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        let place = Place::of("https://example.com/hook?a=b").unwrap();
        assert_eq!((place.tls, place.host.as_str(), place.port), (true, "example.com", 443));
        assert_eq!(place.path, "/hook?a=b");
        let place = Place::of("http://[::1]:8080").unwrap();
        assert_eq!((place.host.as_str(), place.port, place.path.as_str()), ("::1", 8080, "/"));
        assert_eq!(place.authority, "[::1]:8080");
        for bad in ["ftp://x/", "https://u:p@x/", "/x", "https://"] {
            assert!(Place::of(bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn the_edges_own_network_is_not_reached() {
        let poster = Poster::new(Vec::new());
        for url in [
            "http://127.0.0.1:1/",
            "http://localhost:1/",
            "http://[::1]:1/",
            "http://2130706433:1/",
            "http://0x7f.1:1/",
        ] {
            let error = poster.post(url, ("x", String::new()), Vec::new()).await.unwrap_err();
            assert!(
                matches!(error, PostError::Forbidden { .. } | PostError::Resolve { .. }),
                "{url}: {error}"
            );
        }
    }
}
