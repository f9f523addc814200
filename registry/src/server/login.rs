//! Authentication on the registry's own listener, by tokens of the edge. A token is the password of any user name, or a
//! bearer token; Docker's clients exchange it for a short-lived one first.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use berth_common::clock::wall_ms;
use berth_common::connections::Permit;
use berth_store::{Scope, TOKEN_PREFIX, TokenId};
use serde_json::json;

use super::bearer::LIFETIME_MS;
use super::error::{Answered, RegistryError};
use super::route::Route;
use super::{Access, Registry, answer};

/// The path where tokens are exchanged.
const TOKEN_PATH: &str = "/v2/token";
/// The service name that clients request tokens for.
const SERVICE: &str = "berth";

/// A connection to the listener.
#[derive(Debug, Clone, Copy)]
pub(super) struct Client {
    pub(super) address: SocketAddr,
    /// The address of the listener, for requests without a `Host` header.
    pub(super) own_address: SocketAddr,
    pub(super) tls: bool,
}

/// Authenticates the client. Without valid credentials the response says where to log in.
pub(super) async fn identify(
    State(registry): State<Arc<Registry>>,
    Extension(client): Extension<Client>,
    Extension(permit): Extension<Arc<Permit>>,
    mut request: Request,
    next: Next,
) -> Response {
    if request.uri().path() == TOKEN_PATH {
        return registry.exchange(client, &request).unwrap_or_else(|error| registry.refuse(error));
    }
    match registry.caller(request.headers()) {
        Some((id, _)) if !permit.authenticated(id.number()) => registry.refuse(too_many_connections()),
        Some((_, scope)) => {
            request.extensions_mut().insert(Access(scope));
            next.run(request).await
        }
        None => {
            let given = request.headers().contains_key(header::AUTHORIZATION);
            let error = challenge(client, &request, given);
            if !given {
                // Clients ask this to find out where to log in.
                return answer::with_version(error.into_response());
            }
            tracing::info!(address = %client.address, "login to the registry refused");
            registry.refuse(error)
        }
    }
}

fn too_many_connections() -> RegistryError {
    let message = "the token has as many connections as one may have: close some, or use another token";
    RegistryError::new(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS", message)
        .with_header(header::CONNECTION, HeaderValue::from_static("close"))
}

impl Registry {
    /// The owner of the credentials in these headers.
    fn caller(&self, headers: &HeaderMap) -> Option<(TokenId, Scope)> {
        let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let (scheme, credentials) = value.split_once(' ')?;
        let credentials = credentials.trim();
        if scheme.eq_ignore_ascii_case("basic") {
            self.by_password(credentials)
        } else if !scheme.eq_ignore_ascii_case("bearer") {
            None
        } else if credentials.starts_with(TOKEN_PREFIX) {
            self.tokens.identify(credentials)
        } else {
            let id = self.bearers.read(credentials, wall_ms())?;
            // A token that was revoked in the meantime is not valid.
            self.tokens.scope_of(id).map(|scope| (id, scope))
        }
    }

    /// The password is a token; the user name is ignored.
    fn by_password(&self, credentials: &str) -> Option<(TokenId, Scope)> {
        let decoded = String::from_utf8(BASE64_STANDARD.decode(credentials).ok()?).ok()?;
        let (_, password) = decoded.split_once(':')?;
        self.tokens.identify(password)
    }

    /// Issues a short-lived token for a login.
    fn exchange(&self, client: Client, request: &Request) -> Answered<Response> {
        if request.method() != Method::GET {
            return Err(
                RegistryError::no_method().with_header(header::ALLOW, HeaderValue::from_static("GET"))
            );
        }
        let Some((id, _)) = self.caller(request.headers()) else {
            tracing::info!(address = %client.address, "login to the registry refused");
            let message = "the password must be a token of the edge: `berth token create` makes one";
            let error = RegistryError::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", message);
            let basic = HeaderValue::from_static("Basic realm=\"berth\"");
            return Err(error.with_header(header::WWW_AUTHENTICATE, basic));
        };
        let token = self.bearers.make(id, wall_ms());
        let issued_at = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string();
        let answer = json!({
            "token": token, "access_token": token, "expires_in": LIFETIME_MS / 1000, "issued_at": issued_at,
        });
        Ok(([(header::CACHE_CONTROL, "no-store")], Json(answer)).into_response())
    }

    /// Counts a refusal and returns its response.
    pub(super) fn refuse(&self, error: RegistryError) -> Response {
        if error.is_refusal() {
            self.counts.refusals.count();
        }
        answer::with_version(error.into_response())
    }
}

/// The challenge: where to get a token, and for what.
fn challenge(client: Client, request: &Request, given: bool) -> RegistryError {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let own = client.own_address.to_string();
    let host = host.filter(|host| is_host(host)).unwrap_or(&own);
    // A reverse proxy in front of a loopback listener may add TLS.
    let forwarded = request.headers().get("x-forwarded-proto").is_some_and(|scheme| scheme == "https");
    let scheme = if client.tls || forwarded { "https" } else { "http" };
    let mut value = format!("Bearer realm=\"{scheme}://{host}{TOKEN_PATH}\",service=\"{SERVICE}\"");
    if let Some(scope) = scope_of(request) {
        value += &format!(",scope=\"{scope}\"");
    }
    if given {
        value += ",error=\"invalid_token\"";
    }
    let message = "log in with a token of the edge as the password: `berth token create` makes one";
    let error = RegistryError::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", message);
    match HeaderValue::from_str(&value) {
        Ok(value) => error.with_header(header::WWW_AUTHENTICATE, value),
        Err(_) => error,
    }
}

/// Whether the text can be put in quotes in a header.
fn is_host(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    !text.is_empty() && text.bytes().all(allowed)
}

fn scope_of(request: &Request) -> Option<String> {
    let route = Route::read(request.uri().path().strip_prefix("/v2/")?).ok()?;
    Some(match route.repository() {
        None => "registry:catalog:*".to_owned(),
        Some(name) if request.method() == Method::GET || request.method() == Method::HEAD => {
            format!("repository:{name}:pull")
        }
        Some(name) if request.method() == Method::DELETE => format!("repository:{name}:pull,push,delete"),
        Some(name) => format!("repository:{name}:pull,push"),
    })
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[test]
    fn a_challenge_has_realm_and_scope_and_no_injected_text() {
        let address = "127.0.0.1:5000".parse().unwrap();
        let client = Client { address, own_address: address, tls: false };
        let value = |method: Method, path: &str, host: &str| {
            let request = Request::builder().method(method).uri(path).header("host", host);
            let error = challenge(client, &request.body(Body::empty()).unwrap(), false);
            error.into_response().headers()["www-authenticate"].to_str().unwrap().to_owned()
        };
        assert_eq!(
            value(Method::PUT, "/v2/a/b/manifests/v1", "reg.example:5000"),
            "Bearer realm=\"http://reg.example:5000/v2/token\",service=\"berth\",scope=\"repository:a/b:pull,push\""
        );
        assert_eq!(
            value(Method::GET, "/v2/", "x\",evil=\""),
            "Bearer realm=\"http://127.0.0.1:5000/v2/token\",service=\"berth\""
        );
    }
}
