//! Why a request was not answered as it was meant to be.

use std::io;
use std::time::Duration;

use hyper::StatusCode;
use tokio::time::error::Elapsed;

use crate::problem::Problem;

/// Why a request was not answered as it was meant to be.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no edge at a socket.
    #[error(
        "cannot reach an edge at {at}; is it running? Start `berth dev`, or name its socket with --admin-socket"
    )]
    NoSocket {
        /// The socket.
        at: String,
        /// What the system says.
        source: io::Error,
    },
    /// There is no edge at an address.
    #[error("cannot reach an edge at {at}")]
    NoAddress {
        /// The address.
        at: String,
        /// What the system or TLS says.
        source: io::Error,
    },
    /// The edge answered that it would not.
    #[error("{0}")]
    Refused(Refusal),
    /// It did not answer in time. Nobody knows whether it did what it was asked.
    #[error("{what}: no answer in {limit:?}")]
    TimedOut {
        /// What was asked, where.
        what: String,
        /// How long was waited.
        limit: Duration,
        /// Says no more.
        source: Elapsed,
    },
    /// A port of a container was not reached in time.
    #[error("the container's port was not reached in time")]
    PortTimedOut(#[source] Elapsed),
    /// It said nothing for longer than an edge is silent.
    #[error("nothing came for {limit:?}")]
    Silent {
        /// How long was waited.
        limit: Duration,
        /// Says no more.
        source: Elapsed,
    },
    /// The connection was cut, and nobody knows how far the edge has come.
    #[error("{what}")]
    Cut {
        /// What was asked, where.
        what: String,
        /// What happened to the connection.
        source: Box<Self>,
    },
    /// The answer was not heard to its end, or is larger than any that makes sense.
    #[error("the answer broke off: {0}")]
    BrokeOff(String),
    /// The same, of one that comes line by line.
    #[error("the answer broke off")]
    LinesBrokeOff(#[source] hyper::Error),
    /// A line of it is longer than any that makes sense.
    #[error("a line of the answer is too long")]
    LongLine,
    /// It is no JSON, or another than this version knows.
    #[error("{what}: the answer is not what this version expects")]
    Unexpected {
        /// What was asked, where.
        what: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A page of a list has not got the list.
    #[error("{path}: the answer has no {field}")]
    NoList {
        /// The list.
        path: String,
        /// Where its items should be.
        field: String,
    },
    /// An upload was accepted, and not said where it goes on.
    #[error("the edge does not say where to go on")]
    NoLocation,
    /// HTTP failed.
    #[error(transparent)]
    Http(#[from] hyper::Error),
    /// What was asked for is no request: a path or a header has characters that cannot be there.
    #[error(transparent)]
    Request(#[from] hyper::http::Error),
    /// What was sent is no JSON.
    #[error(transparent)]
    Body(#[from] serde_json::Error),
}

impl ClientError {
    /// The edge answered that it would not.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_))
    }

    /// It would not because what was asked is wrong, and not only now.
    pub fn is_bad_input(&self) -> bool {
        let Self::Refused(refusal) = self else { return false };
        matches!(refusal.status, StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY)
    }
}

/// What the edge says where it would not.
#[derive(Debug)]
pub struct Refusal {
    /// Its status.
    pub status: StatusCode,
    /// What it says: `title: detail`, or the status where it says nothing that is understood.
    pub reason: String,
    /// What was asked, where that is to be told.
    what: Option<String>,
}

impl Refusal {
    pub(super) fn of(status: StatusCode, body: &[u8]) -> Self {
        let problem = serde_json::from_slice::<Problem>(body).map(|problem| problem.to_string());
        Self { status, reason: problem.unwrap_or_else(|_| status.to_string()), what: None }
    }

    pub(super) fn to(self, what: String) -> Self {
        Self { what: Some(what), ..self }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(what) = &self.what {
            write!(f, "{what}: ")?;
        }
        f.write_str(&self.reason)
    }
}
