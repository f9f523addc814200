//! Errors as responses, and which errors a resource may respond with.

use std::borrow::Cow;
use std::fmt::Display;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use berth_api::problem::{self as api, FieldError, PROBLEM_TYPE};
use berth_engine::Refused;
use berth_store::StoreError;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{IntoResponses, PartialSchema, ToSchema};

use crate::apps::{DeployError, Fault};
use crate::proxy::error::{ProxyError, refused_status};
use crate::tokens::TokenError;

/// An error that becomes a response.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    title: &'static str,
    detail: String,
    errors: Vec<FieldError>,
    header: Option<Box<(header::HeaderName, HeaderValue)>>,
}

/// In the document it has the schema of the type in `berth-api`.
impl PartialSchema for Problem {
    fn schema() -> RefOr<Schema> {
        api::Problem::schema()
    }
}

impl ToSchema for Problem {
    fn name() -> Cow<'static, str> {
        api::Problem::name()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        api::Problem::schemas(schemas);
    }
}

impl From<Problem> for api::Problem {
    fn from(problem: Problem) -> Self {
        let Problem { status, title, detail, errors, .. } = problem;
        Self { status: status.as_u16(), title: title.into(), detail, errors }
    }
}

impl Problem {
    pub(super) fn new(status: StatusCode, title: &'static str, detail: impl Into<String>) -> Self {
        Self { status, title, detail: detail.into(), errors: Vec::new(), header: None }
    }

    /// An error in one field of the request.
    pub(super) fn field(
        status: StatusCode,
        title: &'static str,
        field: impl Into<String>,
        message: impl Display,
    ) -> Self {
        let error = FieldError { field: field.into(), message: message.to_string() };
        let path = if error.field.is_empty() { String::new() } else { format!("{}: ", error.field) };
        let detail = format!("{path}{}", error.message);
        Self { errors: vec![error], ..Self::new(status, title, detail) }
    }

    /// The same error, with the parts of the request that it is about.
    pub(super) fn with_errors(self, errors: Vec<FieldError>) -> Self {
        Self { errors, ..self }
    }

    pub(super) fn internal(error: &dyn std::error::Error) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the edge failed", error.to_string())
    }

    /// Whether the error means that the requested thing does not exist.
    pub(super) fn is_missing(&self) -> bool {
        self.status == StatusCode::NOT_FOUND
    }

    pub(super) fn with_header(mut self, name: header::HeaderName, value: HeaderValue) -> Self {
        self.header = Some(Box::new((name, value)));
        self
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::internal(&error)
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        Self::new(refused_status(&refused), "the order was not carried out", refused.to_string())
    }
}

impl From<ProxyError> for Problem {
    fn from(error: ProxyError) -> Self {
        Self::new(error.status(), "the container was not reached", error.to_string())
    }
}

impl From<DeployError> for Problem {
    fn from(error: DeployError) -> Self {
        let title = "the app was not changed";
        let detail = error.to_string();
        match error {
            DeployError::Invalid(faults) => {
                let field = |Fault { field, message }: Fault| FieldError { field, message };
                let errors = faults.into_iter().map(field).collect();
                Self { errors, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, title, detail) }
            }
            DeployError::Conflict(_) => Self::new(StatusCode::PRECONDITION_FAILED, title, detail),
            DeployError::Unknown(_) => Self::new(StatusCode::NOT_FOUND, title, detail),
            DeployError::Store(error) => error.into(),
            DeployError::Image(error) => Self::internal(&error),
            DeployError::Files(error) => error.into(),
        }
    }
}

impl From<TokenError> for Problem {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::TooMany => Self::new(StatusCode::CONFLICT, "no token was made", error.to_string()),
            TokenError::NoRandomness => Self::internal(&error),
            TokenError::Store(error) => error.into(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(mut self) -> Response {
        let (status, header) = (self.status, self.header.take());
        let body = serde_json::to_string(&api::Problem::from(self)).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, PROBLEM_TYPE)], body).into_response();
        if let Some((name, value)) = header.map(|header| *header) {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// The client lacks the permission, or the edge failed.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "it describes answers and is none")]
pub(super) enum Denied {
    /// The token is missing or unknown.
    #[response(status = 401, content_type = "application/problem+json")]
    Unknown(Problem),
    /// The scope of the token, or the user, does not permit this.
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(Problem),
    /// The edge failed; its log has more.
    #[response(status = 500, content_type = "application/problem+json")]
    Failed(Problem),
}

/// The request is wrong.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "it describes answers and is none")]
pub(super) enum Wrong {
    /// The request cannot be parsed. `errors` says which part is wrong.
    #[response(status = 400, content_type = "application/problem+json")]
    Unread(Problem),
    /// The body is too large.
    #[response(status = 413, content_type = "application/problem+json")]
    Large(Problem),
    /// The request can be parsed, but its values are not allowed. `errors` says which.
    #[response(status = 422, content_type = "application/problem+json")]
    Invalid(Problem),
}

/// The requested thing does not exist.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "it describes answers and is none")]
pub(super) enum Missing {
    /// There is no such app, class, version, object or token.
    #[response(status = 404, content_type = "application/problem+json")]
    Missing(Problem),
}

/// The request conflicts with the current state.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "it describes answers and is none")]
pub(super) enum Conflicting {
    /// The state of the object forbids it, or a limit is reached.
    #[response(status = 409, content_type = "application/problem+json")]
    Conflict(Problem),
}

/// A condition of the request is not met.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "it describes answers and is none")]
pub(super) enum Unmet {
    /// The current version is not the one that `If-Match` or `If-None-Match` asks for.
    #[response(status = 412, content_type = "application/problem+json")]
    Unmet(Problem),
}

/// The edge or a node cannot do it now.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "it describes answers and is none")]
pub(super) enum Unavailable {
    /// The instance closed the connection, or its port accepts none.
    #[response(status = 502, content_type = "application/problem+json")]
    Gateway(Problem),
    /// No node has room, the node is not connected, or a limit is reached: try again later.
    #[response(status = 503, content_type = "application/problem+json")]
    NotNow(Problem),
    /// The node did not respond in time.
    #[response(status = 504, content_type = "application/problem+json")]
    Timeout(Problem),
}
