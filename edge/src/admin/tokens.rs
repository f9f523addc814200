//! Tokens for the API over the network.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use berth_api::tokens::{self as api, MadeToken, NewToken, TokenList, TokenView};
use berth_store::{Scope, TokenId, TokenRecord};

use super::Admin;
use super::problem::{Conflicting, Denied, Missing, Problem, Wrong};
use super::read::{self, Body, invalid};

/// Longest name of a token, in bytes.
const MAX_NAME_BYTES: usize = 100;

fn view(record: TokenRecord) -> TokenView {
    let TokenRecord { id, name, scope, created_ms, last_used_ms, .. } = record;
    let scope = match scope {
        Scope::Read => api::Scope::Read,
        Scope::Deploy => api::Scope::Deploy,
        Scope::Admin => api::Scope::Admin,
    };
    TokenView { id: id.to_string(), name, scope, created_ms, last_used_ms }
}

fn stored_scope(scope: api::Scope) -> Scope {
    match scope {
        api::Scope::Read => Scope::Read,
        api::Scope::Deploy => Scope::Deploy,
        api::Scope::Admin => Scope::Admin,
    }
}

/// Lists the tokens, without their texts.
#[utoipa::path(get, path = "/v1/tokens", tag = "tokens", responses((status = 200, body = TokenList), Denied))]
pub(super) async fn list(State(admin): State<Arc<Admin>>) -> Json<TokenList> {
    Json(TokenList { tokens: admin.tokens.all().into_iter().map(view).collect() })
}

/// Creates a token.
#[utoipa::path(post, path = "/v1/tokens", tag = "tokens", request_body = NewToken,
    responses((status = 201, body = MadeToken), Denied, Wrong, Conflicting))]
pub(super) async fn create(
    State(admin): State<Arc<Admin>>,
    Body(NewToken { name, scope }): Body<NewToken>,
) -> Result<(StatusCode, Json<MadeToken>), Problem> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
        let message = format!("must have 1 to {MAX_NAME_BYTES} bytes and no control characters");
        return Err(invalid("name", message));
    }
    let (token, record) = admin.tokens.create(name, stored_scope(scope)).await?;
    Ok((StatusCode::CREATED, Json(MadeToken { token, view: view(record) })))
}

/// Revokes a token. Responds once that is durable.
#[utoipa::path(delete, path = "/v1/tokens/{id}", tag = "tokens", params(("id" = String, Path, pattern = "^[0-9a-f]{16}$")),
    responses((status = 204), Denied, Missing,
        (status = 400, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn revoke(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let id: TokenId = read::name("id", &id)?;
    if admin.tokens.revoke(id).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(Problem::new(StatusCode::NOT_FOUND, "no such token", format!("there is no token {id}")))
}
