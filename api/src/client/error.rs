//! Errors of the client.

use std::io;
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{HeaderMap, RETRY_AFTER};
use tokio::time::error::Elapsed;

use crate::problem::Problem;

/// Why a request has no usable response.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No edge listens on the socket.
    #[error(
        "cannot reach an edge at {at}; is it running? Start `berth dev`, or name its socket with --admin-socket"
    )]
    NoSocket {
        /// The socket.
        at: String,
        /// The error of the system.
        source: io::Error,
    },
    /// No edge was reached at the address.
    #[error("cannot reach an edge at {at}")]
    NoAddress {
        /// The address.
        at: String,
        /// The error of the system or of TLS.
        source: io::Error,
    },
    /// The edge refused the request.
    #[error("{0}")]
    Refused(Refusal),
    /// No response in time. It is unknown whether the edge has carried the request out.
    #[error("no answer in {limit:?} ({what})")]
    TimedOut {
        /// The request, with the address.
        what: String,
        /// How long the client waited.
        limit: Duration,
        /// The timeout.
        source: Elapsed,
    },
    /// A port of a container was not reached in time.
    #[error("the container's port was not reached in time")]
    PortTimedOut(#[source] Elapsed),
    /// A stream of lines was silent for longer than an edge ever is.
    #[error("nothing came for {limit:?}")]
    Silent {
        /// How long the client waited.
        limit: Duration,
        /// The timeout.
        source: Elapsed,
    },
    /// The connection was lost, and it is unknown how much the edge has done.
    #[error("the connection to the edge was lost ({what})")]
    Cut {
        /// The request, with the address.
        what: String,
        /// What happened to the connection.
        source: Box<Self>,
    },
    /// The response ended early, or is larger than the client accepts.
    #[error("the response ended early: {0}")]
    BrokeOff(String),
    /// A response that comes line by line ended early.
    #[error("the response ended early")]
    LinesBrokeOff(#[source] hyper::Error),
    /// A line of the response is longer than the client accepts.
    #[error("a line of the answer is too long")]
    LongLine,
    /// The response is not JSON, or not of the type that this version knows.
    #[error("the answer is not what this version expects ({what})")]
    Unexpected {
        /// The request, with the address.
        what: String,
        /// What is wrong with the response.
        source: serde_json::Error,
    },
    /// A page of a list has no list in it.
    #[error("{path}: the answer has no {field}")]
    NoList {
        /// The path of the list.
        path: String,
        /// The field that should hold the items.
        field: String,
    },
    /// An upload was accepted without a `Location` to continue at.
    #[error("the edge does not say where to go on")]
    NoLocation,
    /// HTTP failed.
    #[error(transparent)]
    Http(#[from] hyper::Error),
    /// The request cannot be built: a path or a header has characters that are not allowed there.
    #[error(transparent)]
    Request(#[from] hyper::http::Error),
    /// The request body cannot be written as JSON.
    #[error(transparent)]
    Body(#[from] serde_json::Error),
}

impl ClientError {
    /// Whether the edge refused the request.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_))
    }

    /// The refusal, if the edge refused the request.
    pub fn refusal(&self) -> Option<&Refusal> {
        if let Self::Refused(refusal) = self { Some(refusal) } else { None }
    }

    /// Whether what was asked for does not exist.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.status == StatusCode::NOT_FOUND)
    }

    /// Whether the edge refused the request because the request is wrong: repeating it is of no use.
    pub fn is_bad_input(&self) -> bool {
        let Self::Refused(refusal) = self else { return false };
        matches!(refusal.status, StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY)
    }
}

/// The seconds of `Retry-After`. An edge gives no dates there.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// A refusal of the edge.
#[derive(Debug)]
pub struct Refusal {
    /// The HTTP status.
    pub status: StatusCode,
    /// The reason: `title: detail`, or the status if the body is not understood.
    pub reason: String,
    /// After how long the edge asks to be asked again (`Retry-After`), where the client has kept it.
    pub retry_after: Option<Duration>,
    /// The request, if it is to be shown.
    what: Option<String>,
}

impl Refusal {
    pub(super) fn of(status: StatusCode, body: &[u8]) -> Self {
        let problem = serde_json::from_slice::<Problem>(body).map(|problem| problem.to_string());
        Self { status, reason: problem.unwrap_or_else(|_| status.to_string()), retry_after: None, what: None }
    }

    pub(super) fn after(self, headers: &HeaderMap) -> Self {
        Self { retry_after: retry_after(headers), ..self }
    }

    pub(super) fn to(self, what: String) -> Self {
        Self { what: Some(what), ..self }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.reason)?;
        // For those who look for the request; the sentence comes first.
        self.what.as_ref().map_or(Ok(()), |what| write!(f, " ({what})"))
    }
}
