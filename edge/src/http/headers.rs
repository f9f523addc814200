//! Rewrites headers on the way through: hop-by-hop headers are removed in both directions (RFC 9110 §7.6.1), and
//! headers that only the edge may set (who the client is) are replaced. Everything else passes unchanged.

use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, InvalidHeaderValue,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::PathAndQuery;
use http::{Request, Response, Uri, Version};
use http_body::Body;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::forwarded::Client;

/// Headers of callbacks, which the scheduler sets. Removed from requests of clients.
pub(crate) const CALLBACK: HeaderName = HeaderName::from_static("berth-callback");
pub(crate) const SCHEDULED_MS: HeaderName = HeaderName::from_static("berth-scheduled-ms");
pub(crate) const ATTEMPT: HeaderName = HeaderName::from_static("berth-attempt");

/// Most header fields of a message, in either direction: as many as common servers take, and few enough that the room for
/// them, which is made before they are counted, is that of a head.
pub(crate) const MAX_FIELDS: usize = 1000;

/// Hop-by-hop headers. `trailer` stays: it announces the trailers of a chunked body, which pass through.
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// What a host's name may have besides letters and digits: of what RFC 3986 allows, all that stands for nothing else.
const HOST_MARKS: &[u8] = b"-._~%!$&'()*+,;=";

/// Beginnings of names that only the edge, or something before it that is trusted, may set: callbacks' headers, what
/// Cloudflare tells of a client, and where a request comes from.
const NOT_FROM_CLIENTS_PREFIXES: [&str; 3] = ["berth-", "cf-", "x-forwarded-"];

/// Other names of that kind, and what the edge handles itself. (`Proxy` becomes the variable `HTTP_PROXY` in CGI.)
const NOT_FROM_CLIENTS: [&str; 7] =
    ["expect", "forwarded", "proxy", "true-client-ip", "x-client-ip", "x-cluster-client-ip", "x-real-ip"];

/// Why a request is not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadRequest {
    #[error("an HTTP/1.1 request needs exactly one Host header")]
    Host,
    #[error("CONNECT is not served here")]
    Connect,
    #[error("the path cannot be rewritten as its route says")]
    Target,
    #[error("the transfer codings of the body end in `chunked`, once")]
    Coding,
    /// RFC 9112 §6.1: to pass the body on without saying how it is coded would change it.
    #[error("of all transfer codings only `chunked` is known here")]
    UnknownCoding,
}

/// An answer of an instance that cannot be passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer has another transfer coding than `chunked`, which its request did not allow")]
pub(crate) struct BadAnswer;

/// Refuses what must not be passed on, nor answered otherwise: more than one host or none, and bodies that would be
/// passed on as something else.
pub(crate) fn check_request<B>(request: &Request<B>) -> Result<(), BadRequest> {
    if request.method() == http::Method::CONNECT {
        return Err(BadRequest::Connect);
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next(), hosts.next(), request.version()) {
        (_, Some(_), _) | (None, _, Version::HTTP_11) => return Err(BadRequest::Host),
        (Some(host), None, _) if !is_host(host.as_bytes()) => return Err(BadRequest::Host),
        _ => {}
    }
    if request.uri().authority().is_some_and(|named| !is_host(named.as_str().as_bytes())) {
        return Err(BadRequest::Host);
    }
    let codings = codings(request.headers());
    match codings.iter().filter(|coding| coding.eq_ignore_ascii_case("chunked")).count() {
        _ if codings.is_empty() => Ok(()),
        1 if codings.len() == 1 => Ok(()),
        0 | 1 => Err(BadRequest::UnknownCoding),
        _ => Err(BadRequest::Coding),
    }
}

/// A host and perhaps a port, as RFC 9110 §7.2 has them: no user, and nothing that means something else in a URI.
fn is_host(value: &[u8]) -> bool {
    let named = |text: &str| {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port),
            _ => (text, ""),
        };
        let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let sound = match address {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => host.bytes().all(|byte| byte.is_ascii_alphanumeric() || HOST_MARKS.contains(&byte)),
        };
        sound
            && (port.is_empty()
                || port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok())
    };
    std::str::from_utf8(value).is_ok_and(named)
}

/// The transfer codings of a message, in their order.
fn codings(headers: &HeaderMap) -> Vec<&str> {
    let values = headers.get_all(TRANSFER_ENCODING).into_iter();
    // What is no text is no coding that is known.
    let lists = values.map(|value| value.to_str().unwrap_or("?"));
    lists.flat_map(|list| list.split(',')).map(str::trim).filter(|coding| !coding.is_empty()).collect()
}

/// Says that a body comes in chunks if its length is not known. hyper would send it as none with a GET or a HEAD.
pub(crate) fn frame_body<B: Body>(request: &mut Request<B>) {
    if request.body().size_hint().exact().is_none() {
        request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// The protocol that a valid upgrade request asks for, if it is WebSocket. No other is passed on: after an upgrade to `h2c`,
/// requests would flow past everything that the edge checks. The request itself goes on without the upgrade, as servers may
/// always answer it (RFC 9110 §7.8).
pub(crate) fn wanted_upgrade<B>(request: &Request<B>) -> Option<HeaderValue> {
    let named = request.version() == Version::HTTP_11 && nominates(request.headers(), UPGRADE.as_str());
    let wanted = named.then(|| request.headers().get(UPGRADE)).flatten()?;
    is_websocket(wanted).then(|| wanted.clone())
}

/// Whether a protocol that is asked for, or agreed to, is WebSocket.
pub(crate) fn is_websocket(protocol: &HeaderValue) -> bool {
    protocol.as_bytes().eq_ignore_ascii_case(b"websocket")
}

/// The version of WebSocket (RFC 6455).
const SOCKET_VERSION: HeaderValue = HeaderValue::from_static("13");

/// What a client that asks for a WebSocket is answered with if it gets one; `None` if its handshake is not sound.
pub(crate) fn socket_accept(headers: &HeaderMap) -> Option<HeaderValue> {
    let key = headers.get(SEC_WEBSOCKET_KEY).filter(|key| key.len() == 24)?;
    let sound = headers.get(SEC_WEBSOCKET_VERSION) == Some(&SOCKET_VERSION);
    sound.then(|| HeaderValue::try_from(derive_accept_key(key.as_bytes())).ok())?
}

/// Makes of a request one that asks for a WebSocket: a handshake of our own, without extensions, since what looks into frames knows
/// none.
pub(crate) fn ask_for_socket(headers: &mut HeaderMap, key: &str) -> Result<(), InvalidHeaderValue> {
    headers.remove(SEC_WEBSOCKET_EXTENSIONS);
    headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::try_from(key)?);
    headers.insert(SEC_WEBSOCKET_VERSION, SOCKET_VERSION);
    insert_upgrade(headers, HeaderValue::from_static("websocket"));
    Ok(())
}

/// Whether an answer of status 101 is that to a handshake with this key.
pub(crate) fn agrees_to_socket(headers: &HeaderMap, key: &str) -> bool {
    let accepts = headers.get(SEC_WEBSOCKET_ACCEPT).map(HeaderValue::as_bytes)
        == Some(derive_accept_key(key.as_bytes()).as_bytes());
    accepts
        && headers.get(UPGRADE).is_some_and(is_websocket)
        && !headers.contains_key(SEC_WEBSOCKET_EXTENSIONS)
}

/// Makes of an answer the one that a client gets that asked for a WebSocket, whoever's answer it was at first.
pub(crate) fn grant_socket(headers: &mut HeaderMap, accept: HeaderValue) {
    strip_hop_by_hop(headers);
    for name in [SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, CONTENT_LENGTH] {
        headers.remove(name);
    }
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    insert_upgrade(headers, HeaderValue::from_static("websocket"));
}

/// Turns a client's request, which was checked, into the one that is sent to the instance.
pub(crate) fn prepare_request<B>(
    request: &mut Request<B>,
    client: &Client,
    upgrade: Option<HeaderValue>,
) -> Result<(), BadRequest> {
    let host = settle_host(request)?;
    to_origin_form(request.uri_mut());
    *request.version_mut() = Version::HTTP_11;
    let headers = request.headers_mut();
    strip_hop_by_hop(headers);
    strip_untrusted(headers);
    client.describe(headers, host);
    if let Some(protocol) = upgrade {
        insert_upgrade(headers, protocol);
    }
    Ok(())
}

/// Turns an instance's response into the one that is sent to the client.
pub(crate) fn prepare_response<B>(response: &mut Response<B>) -> Result<(), BadAnswer> {
    let upgrade = response.headers().get(UPGRADE).cloned();
    if response.headers().contains_key(TRANSFER_ENCODING) {
        if !matches!(codings(response.headers())[..], [only] if only.eq_ignore_ascii_case("chunked")) {
            return Err(BadAnswer);
        }
        // With chunked encoding, a `Content-Length` beside it does not count.
        response.headers_mut().remove(CONTENT_LENGTH);
    }
    strip_hop_by_hop(response.headers_mut());
    if let (http::StatusCode::SWITCHING_PROTOCOLS, Some(protocol)) = (response.status(), upgrade) {
        insert_upgrade(response.headers_mut(), protocol);
    }
    Ok(())
}

/// The headers of a provisional answer (1xx) of an instance that are sent to the client.
pub(crate) fn prepare_interim(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    strip_hop_by_hop(&mut headers);
    headers.remove(CONTENT_LENGTH);
    headers
}

fn insert_upgrade(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol);
}

/// Determines the host of the request, and keeps exactly that one in the `Host` header.
fn settle_host<B>(request: &mut Request<B>) -> Result<HeaderValue, BadRequest> {
    let host = request.headers().get(HOST).cloned().unwrap_or(HeaderValue::from_static(""));
    // In a request in absolute form the host in the target counts, not the header (RFC 9112 §3.2.2).
    let named = request.uri().authority().map(|authority| HeaderValue::from_str(authority.as_str()));
    let host = match named {
        Some(named) => named.map_err(|_| BadRequest::Host)?,
        None => host,
    };
    request.headers_mut().insert(HOST, host.clone());
    Ok(host)
}

/// Reduces the target to path and query, byte for byte, as an origin server expects.
fn to_origin_form(uri: &mut Uri) {
    if uri.authority().is_some() || uri.scheme().is_some() {
        let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        *uri = Uri::from(path);
    }
}

/// Filters a client's trailers as its headers are: a server may merge them.
pub(crate) fn prepare_request_trailers(trailers: &mut HeaderMap) {
    strip_hop_by_hop(trailers);
    strip_untrusted(trailers);
    trailers.remove(HOST);
}

/// Filters an instance's trailers.
pub(crate) fn prepare_response_trailers(trailers: &mut HeaderMap) {
    strip_hop_by_hop(trailers);
}

/// Removes what clients must not set.
fn strip_untrusted(headers: &mut HeaderMap) {
    let untrusted = |name: &&HeaderName| !may_come_from_clients(name.as_str());
    let names: Vec<HeaderName> = headers.keys().filter(untrusted).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// Whether clients may set this header. One with anything but letters, digits and `-` in its name they may not: servers
/// that make variables of names (CGI, WSGI, Rack, PHP) take `x_forwarded_for` for `x-forwarded-for`.
fn may_come_from_clients(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !NOT_FROM_CLIENTS.contains(&name)
        && !NOT_FROM_CLIENTS_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        for name in nominated(headers) {
            headers.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// The headers that `Connection` lists, except for those without which the message would change its meaning.
fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    tokens(headers)
        .filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok())
        .filter(|name| *name != HOST && *name != CONTENT_LENGTH)
        .collect()
}

fn nominates(headers: &HeaderMap, name: &str) -> bool {
    tokens(headers).any(|token| token.eq_ignore_ascii_case(name))
}

fn tokens(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(CONNECTION).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod socket_tests {
    use super::*;

    #[test]
    fn handshakes_are_our_own_on_both_sides() {
        let mut asked = HeaderMap::new();
        assert_eq!(socket_accept(&asked), None);
        // The example of RFC 6455.
        ask_for_socket(&mut asked, "dGhlIHNhbXBsZSBub25jZQ==").unwrap();
        assert_eq!(socket_accept(&asked).unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let mut theirs = HeaderMap::new();
        for (name, value) in [
            ("sec-websocket-extensions", "x"),
            ("x-own", "1"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("upgrade", "h2c"),
        ] {
            theirs.insert(name, HeaderValue::from_static(value));
        }
        grant_socket(&mut theirs, socket_accept(&asked).unwrap());
        assert!(agrees_to_socket(&theirs, "dGhlIHNhbXBsZSBub25jZQ=="));
        assert!(!agrees_to_socket(&theirs, "another"));
        let mut names: Vec<_> = theirs.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["connection", "sec-websocket-accept", "upgrade", "x-own"]);
        theirs.insert(SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static("permessage-deflate"));
        assert!(!agrees_to_socket(&theirs, "dGhlIHNhbXBsZSBub25jZQ=="));
        asked.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("8"));
        assert_eq!(socket_accept(&asked), None);
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::super::forwarded::{Trust, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO};
    use super::*;

    fn client(peer: &str) -> Client {
        Trust::default().client(peer.parse().unwrap(), &HeaderMap::new())
    }

    fn request(headers: &[(&str, &str)]) -> Request<()> {
        let mut builder = Request::builder().uri("/a%2Fb/../c?x=%20&y");
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(()).unwrap()
    }

    fn prepared(headers: &[(&str, &str)]) -> Request<()> {
        let mut request = request(headers);
        let upgrade = wanted_upgrade(&request);
        prepare_request(&mut request, &client("::ffff:192.0.2.7"), upgrade).unwrap();
        request
    }

    #[test]
    fn hop_by_hop_and_nominated_headers_end_here() {
        let request = prepared(&[
            ("host", "h"),
            ("connection", "close, X-Private"),
            ("connection", "x-second"),
            ("x-private", "1"),
            ("x-second", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("x-kept", "yes"),
        ]);
        let mut names: Vec<_> = request.headers().keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["host", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-kept"]);
    }

    #[test]
    fn a_client_cannot_forge_its_address_or_choose_a_port() {
        let request = prepared(&[
            ("host", "h:81"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil"),
            ("forwarded", "for=10.0.0.1"),
            ("cf-container-target-port", "22"),
        ]);
        let value = |name: &str| request.headers().get(name).map(|v| v.to_str().unwrap());
        assert_eq!(value("x-forwarded-for"), Some("192.0.2.7"));
        assert_eq!(value("x-forwarded-proto"), Some("http"));
        assert_eq!(value("x-forwarded-host"), Some("h:81"));
        assert_eq!((value("forwarded"), value("cf-container-target-port")), (None, None));
    }

    /// As servers name variables after headers.
    fn variable(name: &str) -> String {
        name.to_uppercase().replace(|letter: char| !letter.is_ascii_alphanumeric(), "_")
    }

    #[test]
    fn no_name_that_the_edge_sets_or_removes_comes_from_a_client_in_any_spelling() {
        let own = [CALLBACK, SCHEDULED_MS, ATTEMPT, X_FORWARDED_FOR, X_FORWARDED_PROTO, X_FORWARDED_HOST];
        let more = [
            "forwarded",
            "x-forwarded-port",
            "x-forwarded-server",
            "x-forwarded-ssl",
            "x-real-ip",
            "true-client-ip",
            "cf-connecting-ip",
            "cf-container-target-port",
            "proxy",
        ];
        for name in own.iter().map(HeaderName::as_str).chain(more) {
            let first = name.replacen('-', "_", 1);
            let spellings =
                [name.to_owned(), name.to_uppercase(), first, name.replace('-', "_"), name.replace('-', ".")];
            for spelling in &spellings {
                let mut request = prepared(&[("host", "h"), (spelling, "forged"), ("x-kept", "yes")]);
                let forged = |headers: &HeaderMap| headers.values().any(|value| value == "forged");
                assert!(!forged(request.headers()), "{spelling}: {:?}", request.headers());
                let edges = request.headers().keys().filter(|key| variable(key.as_str()) == variable(name));
                assert!(edges.count() <= 1, "{spelling}");
                assert_eq!(request.headers()["x-kept"], "yes");
                let spelling = HeaderName::from_bytes(spelling.as_bytes()).unwrap();
                request.headers_mut().insert(spelling, HeaderValue::from_static("forged"));
                prepare_request_trailers(request.headers_mut());
                assert!(!forged(request.headers()), "{name} as a trailer");
            }
        }
    }

    #[test]
    fn trailers_hold_no_hop_by_hop_headers() {
        for prepare in [prepare_request_trailers, prepare_response_trailers] {
            let mut trailers = HeaderMap::new();
            for name in ["connection", "transfer-encoding", "keep-alive", "x-checksum", "x-hop"] {
                trailers.insert(HeaderName::from_static(name), HeaderValue::from_static("x-hop"));
            }
            prepare(&mut trailers);
            assert_eq!(trailers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-checksum"]);
        }
    }

    #[test]
    fn host_path_and_query_pass_unchanged() {
        let request = prepared(&[("host", "Some.Host:99")]);
        assert_eq!(request.uri(), "/a%2Fb/../c?x=%20&y");
        assert_eq!(request.headers()["host"], "Some.Host:99");
    }

    #[test]
    fn an_absolute_target_becomes_the_origins() {
        let mut request = request(&[("host", "other")]);
        *request.uri_mut() = "http://real:8/p?q".parse().unwrap();
        prepare_request(&mut request, &client("192.0.2.1"), None).unwrap();
        assert_eq!(
            (request.uri().to_string().as_str(), &request.headers()["host"]),
            ("/p?q", &HeaderValue::from_static("real:8"))
        );
    }

    #[test]
    fn a_host_is_there_exactly_once() {
        let peer = client("192.0.2.1");
        assert_eq!(check_request(&request(&[])), Err(BadRequest::Host));
        let two = request(&[("host", "a"), ("host", "b")]);
        assert_eq!(check_request(&two), Err(BadRequest::Host));
        let mut old = request(&[]);
        *old.version_mut() = Version::HTTP_10;
        assert_eq!(check_request(&old), Ok(()));
        assert_eq!(prepare_request(&mut old, &peer, None), Ok(()));
    }

    #[test]
    fn a_host_is_a_name_or_an_address_and_perhaps_a_port() {
        let checked = |host: &str| check_request(&request(&[("host", host)]));
        for host in
            ["a", "a.example.com.", "A:80", "a:", "", "127.0.0.1:8080", "[::1]", "[2001:db8::1]:443", "a_b"]
        {
            assert_eq!(checked(host), Ok(()), "{host}");
        }
        for host in [
            "u@a", "u:p@a:80", "a:b", "a:99999", "a:+1", "a/b", "a?b", "a#b", "a b", "[::1", "::1", "[a]",
            "a,b c",
        ] {
            assert_eq!(checked(host), Err(BadRequest::Host), "{host}");
        }
        let mut user = request(&[("host", "a")]);
        *user.uri_mut() = "http://u:p@a/".parse().unwrap();
        assert_eq!(check_request(&user), Err(BadRequest::Host));
    }

    #[test]
    fn only_chunks_are_passed_on_as_they_came() {
        let sent = |codings: &[&str]| {
            let headers: Vec<_> = codings.iter().map(|coding| ("transfer-encoding", *coding)).collect();
            check_request(&request(&[&[("host", "a")], &headers[..]].concat()))
        };
        for chunks in [&["chunked"][..], &[" Chunked ,"], &[]] {
            assert_eq!(sent(chunks), Ok(()), "{chunks:?}");
        }
        for unknown in [&["gzip, chunked"][..], &["gzip", "chunked"], &["identity"], &["x"]] {
            assert_eq!(sent(unknown), Err(BadRequest::UnknownCoding), "{unknown:?}");
        }
        for wrong in [&["chunked, chunked"][..], &["chunked", "chunked"], &["chunked, gzip, chunked"]] {
            assert_eq!(sent(wrong), Err(BadRequest::Coding), "{wrong:?}");
        }
        for (coding, passes) in [("chunked", true), ("gzip, chunked", false), ("gzip", false), ("", false)] {
            let mut response = Response::builder().header("transfer-encoding", coding).body(()).unwrap();
            assert_eq!(prepare_response(&mut response).is_ok(), passes, "{coding}");
        }
    }

    #[test]
    fn a_body_of_unknown_length_has_chunks_whatever_the_method() {
        let bodies =
            http_body_util::StreamBody::new(futures_util::stream::empty::<Result<_, std::io::Error>>());
        let mut request =
            Request::get("/").body(bodies.map_frame(|frame: http_body::Frame<bytes::Bytes>| frame)).unwrap();
        frame_body(&mut request);
        assert_eq!(request.headers()["transfer-encoding"], "chunked");
        let mut empty = Request::get("/").body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap();
        frame_body(&mut empty);
        assert!(empty.headers().is_empty());
    }

    #[test]
    fn an_upgrade_in_good_form_passes_both_ways() {
        let request =
            prepared(&[("host", "h"), ("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]);
        assert_eq!(request.headers()["upgrade"], "websocket");
        assert_eq!(request.headers()["connection"], "upgrade");
        let mut response = Response::builder()
            .status(101)
            .header("upgrade", "websocket")
            .header("connection", "Upgrade, X-Hop")
            .header("x-hop", "1")
            .body(())
            .unwrap();
        prepare_response(&mut response).unwrap();
        assert_eq!(response.headers()["connection"], "upgrade");
        assert!(!response.headers().contains_key("x-hop"));
    }
}
