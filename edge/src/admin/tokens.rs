//! Tokens for the API over the network.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use berth_store::{Scope, TokenId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Admin;
use super::problem::{Conflicting, Denied, Missing, Problem, Wrong};
use super::read::{self, Body, invalid};
use crate::tokens::TokenView;

/// Longest name of a token, in bytes.
const MAX_NAME_BYTES: usize = 100;

/// A token to make.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewToken {
    /// What its owner calls it, without control characters.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    scope: Scope,
}

/// A token that was made.
#[derive(Serialize, ToSchema)]
pub(super) struct MadeToken {
    /// The token itself, which is shown this once: only a hash of it is kept.
    #[schema(pattern = "^berth_[0-9a-f]{64}$")]
    token: String,
    #[serde(flatten)]
    view: TokenView,
}

/// The tokens of an edge.
#[derive(Serialize, ToSchema)]
pub(super) struct TokenList {
    tokens: Vec<TokenView>,
}

/// Lists the tokens, without what they are.
#[utoipa::path(get, path = "/v1/tokens", tag = "tokens", responses((status = 200, body = TokenList), Denied))]
pub(super) async fn list(State(admin): State<Arc<Admin>>) -> Json<TokenList> {
    Json(TokenList { tokens: admin.tokens.views() })
}

/// Makes a token.
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
    let (token, view) = admin.tokens.create(name, scope).await?;
    Ok((StatusCode::CREATED, Json(MadeToken { token, view })))
}

/// Ends a token. Answered once that is durable.
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
