//! Requests that an app's program answers, on the shard that they came in at; and the static files that programs ask for. Does not
//! know what a program is.

use std::net::IpAddr;
use std::sync::Arc;

use berth_common::ids::AppName;
use berth_script::message::ScriptError;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::{CONTENT_LENGTH, HOST, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::body::ResponseBody;
use super::client_body::ClientBody;
use super::error::ProxyError;
use super::router::CurrentRouter;
use super::upload::Upload;
use super::{Proxy, Reply, websocket};
use crate::http::forwarded::{X_FORWARDED_HOST, X_FORWARDED_PROTO};
use crate::http::headers::{self, BadRequest};
use crate::programs::{Alarm, Called, Failure, ProgramError, StaticFiles};
use crate::script::{Body, Plug, ScriptBody, Upgraded, frames};

/// Where programs of the reference's platform look for their client's address.
const CONNECTING_IP: HeaderName = HeaderName::from_static("cf-connecting-ip");

impl Proxy {
    /// Has the app's program answer a request.
    pub(super) async fn programmed(
        &self,
        app: &AppName,
        mut request: Request<Incoming>,
        peer: IpAddr,
    ) -> Reply {
        let client = self.trust.client(peer, request.headers());
        let socket = Wish::of(&mut request);
        // Without a sound wish it is asked without the upgrade, as servers may always answer (RFC 9110 §7.8).
        let upgrade = socket.as_ref().map(|_| HeaderValue::from_static("websocket"));
        headers::prepare_request(&mut request, &client, upgrade)?;
        if let Ok(address) = HeaderValue::try_from(client.address().to_canonical().to_string()) {
            request.headers_mut().insert(CONNECTING_IP, address);
        }
        *request.uri_mut() = absolute(&request)?;
        let head = request.method() == Method::HEAD;
        let request = request.map(|body| Body::new(Upload::new(ClientBody::new(body)).map_err(Into::into)));
        let answer = self.programs.fetch(app, self.shard, request).await;
        let mut response = answer.map_err(|error| failed(app, error))?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let socket = socket.ok_or_else(|| failed(app, not_wished()))?;
            return self.give_socket(response, socket);
        }
        headers::prepare_response(&mut response)?;
        settle_length(&mut response, head);
        Ok(response.map(|body| ResponseBody::Program(Box::new(body))))
    }

    /// Gives a client the WebSocket that a program has answered with: its own, or one that it only passes on, into which nobody
    /// looks.
    fn give_socket(&self, mut response: Response<ScriptBody>, wish: Wish) -> Reply {
        let Wish { client, accept } = wish;
        let extensions = response.extensions_mut();
        let (server, plug) = (extensions.remove::<Upgraded>(), extensions.remove::<Plug>());
        headers::grant_socket(response.headers_mut(), accept);
        let (head, body) = response.into_parts();
        let drain = self.lifecycle.drain().clone();
        if let Some(plug) = plug {
            let (sender, messages) = frames::incoming();
            plug.connect(messages);
            self.lifecycle.spawn(async move {
                let Ok(client) = client.await else { return };
                let client = Box::new(TokioIo::new(client));
                frames::carry(client, Role::Server, Body::new(body), sender, &drain).await;
            });
        } else {
            let stream = server.and_then(|server| server.take()).ok_or(ProxyError::Upgrade)?;
            self.lifecycle.spawn(async move { websocket::carry_through(client, stream, &drain).await });
        }
        Ok(Response::from_parts(head, ResponseBody::empty()))
    }
}

/// A client that asks for a WebSocket, and what it is told if it gets one.
struct Wish {
    client: OnUpgrade,
    accept: HeaderValue,
}

impl Wish {
    fn of(request: &mut Request<Incoming>) -> Option<Self> {
        headers::wanted_upgrade(request)?;
        let accept = headers::socket_accept(request.headers()).filter(|_| request.method() == Method::GET)?;
        Some(Self { client: hyper::upgrade::on(request), accept })
    }
}

/// What a WebSocket fails with that nobody has asked for.
fn not_wished() -> ProgramError {
    let text = "Worker tried to return WebSocket in a response to a request which did not contain the header \"Upgrade: websocket\".";
    ProgramError::Failed(Failure::Script(ScriptError::new("TypeError", text)))
}

impl Proxy {
    /// Calls the app's program for a cron that was due at this time, and waits for all that it begins. What fails is in the
    /// app's log.
    pub(crate) async fn scheduled(&self, app: &AppName, cron: &str, time_ms: u64) -> Result<(), ProxyError> {
        let called = self.programs.scheduled(app, self.shard, cron, time_ms).await;
        called.map_err(|error| {
            self.programs.failed(app, fastrand::u32(..), &error);
            failed(app, error)
        })
    }

    /// Calls an object's alarm, which has begun when this returns.
    pub(crate) async fn alarm(&self, alarm: &Alarm) -> Result<Called, ProxyError> {
        let called = self.programs.alarm(alarm).await;
        called.map_err(|error| {
            self.programs.failed(&alarm.key.app, fastrand::u32(..), &error);
            failed(&alarm.key.app, error)
        })
    }
}

fn failed(app: &AppName, error: ProgramError) -> ProxyError {
    ProxyError::Program { app: app.clone(), error: Box::new(error) }
}

/// Leaves a length only where it can be that of the body. A wrong one would have the client take what follows for another
/// response. That of a body which is not known yet is kept to while it is sent; that of an answer to HEAD is of another one.
fn settle_length<B: http_body::Body>(response: &mut Response<B>, head: bool) {
    let known = response.body().size_hint().exact();
    let fields = response.headers_mut();
    let mut said = fields.get_all(CONTENT_LENGTH).iter();
    let digits = |value: &HeaderValue| value.as_bytes().iter().all(u8::is_ascii_digit);
    let first =
        said.next().filter(|value| digits(value)).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let sound =
        first.is_some() && said.next().is_none() && (head || known.is_none_or(|known| first == Some(known)));
    if !sound {
        fields.remove(CONTENT_LENGTH);
    }
}

/// The URL that the client asked for.
fn absolute<B>(request: &Request<B>) -> Result<Uri, BadRequest> {
    let field = |name: HeaderName| request.headers().get(name).map(HeaderValue::as_bytes);
    let authority = |bytes: &[u8]| Authority::try_from(bytes).ok();
    let host = field(X_FORWARDED_HOST).and_then(authority).or_else(|| field(HOST).and_then(authority));
    let secure = field(X_FORWARDED_PROTO) == Some(b"https");
    let path = request.uri().path_and_query().cloned();
    Uri::builder()
        .scheme(if secure { Scheme::HTTPS } else { Scheme::HTTP })
        // A request in HTTP/1.0 may name none.
        .authority(host.unwrap_or_else(|| Authority::from_static("localhost")))
        .path_and_query(
            path.filter(|path| path.as_str().starts_with('/')).unwrap_or(PathAndQuery::from_static("/")),
        )
        .build()
        .map_err(|_| BadRequest::Target)
}

/// The static files of the apps that are routed to.
pub(crate) struct RoutedFiles(pub(crate) Arc<CurrentRouter>);

impl StaticFiles for RoutedFiles {
    fn answer(&self, app: &str, request: Request<()>) -> BoxFuture<'static, Response<Body>> {
        let found = self.0.get().file_of(app, &request);
        let answer = async move {
            match found {
                Some(found) => found.respond(request).await,
                None => missing(),
            }
        };
        answer.map(|response| response.map(Body::new)).boxed()
    }
}

fn missing() -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_that_of_the_body_or_is_left_out() {
        let left = |said: &[&str], body: &'static str, head| {
            let made =
                said.iter().fold(Response::builder(), |made, length| made.header("content-length", *length));
            let mut response = made.body(http_body_util::Full::new(bytes::Bytes::from(body))).unwrap();
            settle_length(&mut response, head);
            response.headers().get("content-length").map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(left(&["4"], "body", false).as_deref(), Some("4"));
        for said in [&["3"][..], &["5"], &["4", "4"], &["x"], &["-4"], &["+4"], &[]] {
            assert_eq!(left(said, "body", false), None, "{said:?}");
        }
        assert_eq!(left(&["9"], "", true).as_deref(), Some("9"));
    }

    #[test]
    fn a_program_is_told_the_url_that_its_client_asked_for() {
        let url = |fields: &[(&str, &str)], path: &str| {
            let request =
                fields.iter().fold(Request::get(path), |made, (name, value)| made.header(*name, *value));
            absolute(&request.body(()).unwrap()).map(|url| url.to_string()).ok()
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(url(&[("host", "a.example:8080")], "/x?y=%20"), some("http://a.example:8080/x?y=%20"));
        let forwarded =
            [("host", "inner"), ("x-forwarded-host", "shop.example"), ("x-forwarded-proto", "https")];
        assert_eq!(url(&forwarded, "/"), some("https://shop.example/"));
        assert_eq!(url(&[("host", "[::1]:80")], "*"), some("http://[::1]:80/"));
        assert_eq!(url(&[("host", "")], "/x"), some("http://localhost/x"));
    }
}
