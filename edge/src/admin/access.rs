//! Authentication and authorization: the edge's own user and root may do everything, clients with a token what its
//! scope permits.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use berth_common::connections::Permit;
use berth_registry::server::{self, TokenLookup};
use berth_store::Scope;

use super::Admin;
use super::problem::Problem;

/// The other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    /// A process on this machine, by its user.
    Local { uid: u32 },
    /// A client anywhere, over TLS.
    Network(IpAddr),
}

/// The authenticated client's permissions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller(Scope);

/// Authenticates the client. A request without valid credentials is refused before its path is looked at.
pub(super) async fn identify(
    State(admin): State<Arc<Admin>>,
    Extension(peer): Extension<Peer>,
    Extension(permit): Extension<Arc<Permit>>,
    mut request: Request,
    next: Next,
) -> Response {
    match caller(&admin, peer, &permit, request.headers()) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

fn caller(admin: &Admin, peer: Peer, permit: &Arc<Permit>, headers: &HeaderMap) -> Result<Caller, Problem> {
    match peer {
        Peer::Local { uid } if uid == 0 || uid == nix::unistd::geteuid().as_raw() => Ok(Caller(Scope::Admin)),
        Peer::Local { uid } => {
            let detail =
                format!("only the edge's own user and root may use this socket, and not the user {uid}");
            Err(Problem::new(StatusCode::FORBIDDEN, "not allowed", detail))
        }
        Peer::Network(address) => {
            let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
            let token = token.and_then(|value| value.strip_prefix("Bearer "));
            let known = token.and_then(|token| admin.tokens.identify(token.trim()));
            let (id, scope) = known.ok_or_else(|| refuse_login(admin, address, token.is_some()))?;
            // From now on the connection counts as the token's, and not as a stranger's.
            if permit.authenticated(id.number()) { Ok(Caller(scope)) } else { Err(too_many_connections()) }
        }
    }
}

/// Counts a login that failed, and logs one with a token: it may be a guess.
fn refuse_login(admin: &Admin, address: IpAddr, guessed: bool) -> Problem {
    admin.watch.metrics.failed_logins.count();
    if guessed && admin.failed_logins.may_write(tokio::time::Instant::now()) {
        tracing::warn!(%address, "an unknown or revoked token was shown to the admin API");
    }
    no_token()
}

fn no_token() -> Problem {
    let detail = "a token is needed: `berth token create` makes one, on the edge's machine";
    Problem::new(StatusCode::UNAUTHORIZED, "not authenticated", detail)
        .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"berth\""))
}

fn too_many_connections() -> Problem {
    let detail = "the token has as many connections as one may have: close some, or use another token";
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "too many connections", detail)
        .with_header(header::CONNECTION, HeaderValue::from_static("close"))
}

/// Passes the client's scope on to the registry.
pub(super) async fn to_registry(
    Extension(Caller(scope)): Extension<Caller>,
    mut request: Request,
    next: Next,
) -> Response {
    request.extensions_mut().insert(server::Access(scope));
    next.run(request).await
}

/// Refuses clients whose scope does not include the needed one.
pub(super) async fn check(
    State(needed): State<Scope>,
    Extension(Caller(scope)): Extension<Caller>,
    request: Request,
    next: Next,
) -> Response {
    if scope >= needed {
        return next.run(request).await;
    }
    let detail = format!("a token with the scope `{needed}` is needed, and this one has `{scope}`");
    Problem::new(StatusCode::FORBIDDEN, "not allowed", detail).into_response()
}
