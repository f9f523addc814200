//! What goes wrong, as the API tells it, and which errors a resource may answer with.

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

/// An error that becomes an answer.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    title: &'static str,
    detail: String,
    errors: Vec<FieldError>,
    header: Option<Box<(header::HeaderName, HeaderValue)>>,
}

/// In the document it is what it says.
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

    /// One part of the request is wrong.
    pub(super) fn field(
        status: StatusCode,
        title: &'static str,
        field: impl Into<String>,
        message: impl Display,
    ) -> Self {
        let error = FieldError { field: field.into(), message: message.to_string() };
        let place = if error.field.is_empty() { String::new() } else { format!("{}: ", error.field) };
        let detail = format!("{place}{}", error.message);
        Self { errors: vec![error], ..Self::new(status, title, detail) }
    }

    pub(super) fn internal(error: &dyn std::error::Error) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the edge failed", error.to_string())
    }

    /// Whether what the request is about is not there.
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

/// Whoever asks may not, or the edge cannot.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "it describes answers and is none")]
pub(super) enum Denied {
    /// There is no token, or it is not known.
    #[response(status = 401, content_type = "application/problem+json")]
    Unknown(Problem),
    /// The token's scope, or the user, does not allow it.
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(Problem),
    /// The edge failed; its log says more.
    #[response(status = 500, content_type = "application/problem+json")]
    Failed(Problem),
}

/// The request is wrong.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "it describes answers and is none")]
pub(super) enum Wrong {
    /// It cannot be read. `errors` tells which part.
    #[response(status = 400, content_type = "application/problem+json")]
    Unread(Problem),
    /// It is larger than any that makes sense.
    #[response(status = 413, content_type = "application/problem+json")]
    Large(Problem),
    /// It can be read, and asks for what cannot be. `errors` tells which part.
    #[response(status = 422, content_type = "application/problem+json")]
    Invalid(Problem),
}

/// What the request is about is not there.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "it describes answers and is none")]
pub(super) enum Missing {
    /// There is no such app, class, version, object or token.
    #[response(status = 404, content_type = "application/problem+json")]
    Missing(Problem),
}

/// The request does not fit what there is.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "it describes answers and is none")]
pub(super) enum Conflicting {
    /// It does not fit the state of the object, or there are too many.
    #[response(status = 409, content_type = "application/problem+json")]
    Conflict(Problem),
}

/// A condition of the request does not hold.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "it describes answers and is none")]
pub(super) enum Unmet {
    /// Another version is current than `If-Match` or `If-None-Match` asks for.
    #[response(status = 412, content_type = "application/problem+json")]
    Unmet(Problem),
}

/// The edge or a node cannot do it now.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "it describes answers and is none")]
pub(super) enum Unavailable {
    /// The instance ended the connection, or its port takes none.
    #[response(status = 502, content_type = "application/problem+json")]
    Gateway(Problem),
    /// No node has room, the node is not connected, a limit is reached: later it may work.
    #[response(status = 503, content_type = "application/problem+json")]
    NotNow(Problem),
    /// The node did not answer in time.
    #[response(status = 504, content_type = "application/problem+json")]
    Timeout(Problem),
}
