//! Chooses the response to a request by the end of its path.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode};

use crate::settings::Settings;
use crate::{body, inside, output, socket};

/// The body of every answer.
pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Work that remains after a response was sent and its connection is done with HTTP.
pub(crate) enum After {
    /// End the process with this code.
    Exit(i32),
    /// Speak WebSocket.
    Socket(SocketUpgrade),
}

/// A connection that becomes a WebSocket.
pub(crate) struct SocketUpgrade {
    /// The connection, once HTTP is done with it.
    pub(crate) upgrade: OnUpgrade,
    /// Close at once with this code, instead of echoing.
    pub(crate) close: Option<u16>,
}

/// Where a handler stores the work for after its response.
pub(crate) type Later = Arc<Mutex<Option<After>>>;

/// Handles one request. Two headers of every response name the instance and the process.
pub(crate) async fn answer(
    request: Request<Incoming>,
    settings: Arc<Settings>,
    later: Later,
) -> Result<Response<Body>, Infallible> {
    let mut response = choose(request, &settings, &later).await;
    let headers = response.headers_mut();
    for (name, value) in [("x-instance", &settings.instance), ("x-boot", &settings.boot)] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    Ok(response)
}

async fn choose(request: Request<Incoming>, settings: &Settings, later: &Later) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        [.., "ws"] => socket(request, later),
        [.., "bytes", count] => number(count).map_or_else(bad_number, body::pattern),
        [.., "note"] => inside::note(request).await,
        [.., "notes"] => text(StatusCode::OK, inside::notes()),
        [.., "sink"] => body::sink(request.into_body()).await,
        [.., "exit", code] => number(code).map_or_else(bad_number, |code: u8| exit(code, later)),
        [.., "slow", seconds] => number(seconds).map_or_else(bad_number, body::slow),
        [.., "status", code] => status(code),
        [.., "instance"] => text(StatusCode::OK, format!("{}\n", settings.instance)),
        [.., "boot"] => text(StatusCode::OK, format!("{}\n", settings.boot)),
        [.., "env", name] => match std::env::var(name) {
            Ok(value) => text(StatusCode::OK, value),
            Err(_) => text(StatusCode::NOT_FOUND, "there is no such variable\n"),
        },
        [.., "names"] => text(StatusCode::OK, inside::names()),
        [.., "file"] if request.method() == Method::PUT => inside::write_file(request.into_body()).await,
        [.., "file"] => inside::read_file(),
        [.., "fill", count] => number(count).map_or_else(bad_number, inside::fill_file),
        [.., "burn", ms] => number(ms).map_or_else(bad_number, inside::burn),
        [.., "say"] => output::say(request.into_body(), std::io::stdout()).await,
        [.., "complain"] => output::say(request.into_body(), std::io::stderr()).await,
        [.., "count", most] => number(most).map_or_else(bad_number, output::count),
        [.., "flood", seconds] => match number(seconds) {
            Some(seconds) => output::flood(seconds).await,
            None => bad_number(),
        },
        [.., "net"] => text(StatusCode::OK, inside::interfaces()),
        [.., "connect", host, port] => match number(port) {
            Some(port) => text(StatusCode::OK, inside::connect(host, port).await),
            None => bad_number(),
        },
        [.., "headers"] => text(StatusCode::OK, received(&request)),
        _ => text(StatusCode::OK, inside::page(settings)),
    }
}

/// A whole answer of plain text.
pub(crate) fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(text.into()).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

fn bad_number() -> Response<Body> {
    text(StatusCode::BAD_REQUEST, "the path's last part must be a number in range\n")
}

fn status(code: &str) -> Response<Body> {
    // Codes below 200 announce an answer and are none.
    let status = StatusCode::from_bytes(code.as_bytes()).ok().filter(|s| (200..600).contains(&s.as_u16()));
    status.map_or_else(bad_number, |status| text(status, format!("{status}\n")))
}

/// Answers, closes the connection, and ends the process once the answer is out.
fn exit(code: u8, later: &Later) -> Response<Body> {
    leave(later, After::Exit(code.into()));
    let mut response = text(StatusCode::OK, format!("exiting with {code}\n"));
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

fn socket(mut request: Request<Incoming>, later: &Later) -> Response<Body> {
    let close = request.uri().query().and_then(|query| query.strip_prefix("close=")).map(number);
    match (socket::handshake(&mut request), close) {
        (_, Some(None)) => bad_number(),
        (Some((response, upgrade)), close) => {
            leave(later, After::Socket(SocketUpgrade { upgrade, close: close.flatten() }));
            response
        }
        (None, _) => text(StatusCode::UPGRADE_REQUIRED, "this path speaks WebSocket, version 13\n"),
    }
}

fn leave(later: &Later, after: After) {
    if let Ok(mut later) = later.lock() {
        *later = Some(after);
    }
}

/// The request's first line and headers, as they arrived.
fn received(request: &Request<Incoming>) -> String {
    let mut lines = format!("{} {} {:?}\n", request.method(), request.uri(), request.version());
    for (name, value) in request.headers() {
        lines.push_str(&format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())));
    }
    lines
}
