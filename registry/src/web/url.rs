//! URLs and their parts.

use ::http::Uri;

use super::WebError;

/// A parsed URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebAddress {
    /// Whether it is `https`.
    pub tls: bool,
    /// A host name or an address, without brackets.
    pub host: String,
    /// The port to connect to.
    pub port: u16,
    /// Host and port as in the URL.
    pub authority: String,
    /// Path and query.
    pub path: String,
}

impl WebAddress {
    /// Parses a URL. One with user information is refused: it would hold a secret in an unexpected place.
    pub fn of(url: &str) -> Result<Self, WebError> {
        let wrong = || WebError::Url(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong()),
        };
        let authority =
            uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or_else(wrong)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(wrong());
        }
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { tls, host, port, authority: authority.to_string(), path })
    }

    /// Resolves a `Location` header of a response from this URL.
    pub fn follow(&self, location: &str) -> Result<Self, WebError> {
        if location.starts_with('/') && !location.starts_with("//") {
            let uri: Uri = location.parse().map_err(|_| WebError::Url(location.to_owned()))?;
            let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
            return Ok(Self { path, ..self.clone() });
        }
        Self::of(location)
    }

    /// Whether this is the same server with the same scheme: then credentials may be sent to it too.
    pub fn is_same_server(&self, other: &Self) -> bool {
        let host = self.host.eq_ignore_ascii_case(&other.host);
        host && (self.tls, self.port) == (other.tls, other.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_parsed() {
        let address = WebAddress::of("https://example.com/hook?a=b").unwrap();
        assert_eq!((address.tls, address.host.as_str(), address.port), (true, "example.com", 443));
        assert_eq!(address.path, "/hook?a=b");
        let address = WebAddress::of("http://[::1]:8080").unwrap();
        assert_eq!((address.host.as_str(), address.port, address.path.as_str()), ("::1", 8080, "/"));
        assert_eq!(address.authority, "[::1]:8080");
        for bad in ["ftp://x/", "https://u:p@x/", "/x", "https://"] {
            assert!(WebAddress::of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn locations_are_resolved() {
        let here = WebAddress::of("https://example.com/a?b").unwrap();
        let there = here.follow("/c?d=e").unwrap();
        assert!(there.is_same_server(&here) && there.path == "/c?d=e");
        assert!(here.follow("https://EXAMPLE.com:443/x").unwrap().is_same_server(&here));
        for elsewhere in ["http://example.com/", "https://example.com:444/", "https://example.org/"] {
            assert!(!here.follow(elsewhere).unwrap().is_same_server(&here), "{elsewhere}");
        }
        for bad in ["//example.org/x", "x", "https://a@b/", "file:///etc/passwd"] {
            assert!(here.follow(bad).is_err(), "{bad}");
        }
    }
}
