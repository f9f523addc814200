//! What a client is told when there is no answer from an instance: the one place where refusals and errors become
//! statuses.

use berth_common::ids::NodeId;
use berth_common::wire::tunnel::TunnelAnswer;
use berth_engine::Refused;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};

use crate::http::body::ResponseBody;
use crate::http::headers::BadRequest;
use crate::router::RouteError;
use crate::tunnel::OpenError;

/// Seconds after which a client may find what it did not find now.
const RETRY_AFTER_S: HeaderValue = HeaderValue::from_static("1");

/// Why a request has no answer from an instance.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyError {
    #[error(transparent)]
    BadRequest(#[from] BadRequest),
    #[error(transparent)]
    Route(#[from] RouteError),
    #[error(transparent)]
    Refused(#[from] Refused),
    /// No connection to the node of the instance came in time.
    #[error("the node `{0}`, where the instance runs, is not reachable")]
    NodeUnreachable(NodeId),
    #[error("port {port} of the instance was not reached: {error}")]
    Tunnel { port: u16, error: OpenError },
    /// The connection broke with the request, or a part of it, sent.
    #[error("the instance ended the connection without an answer: {0}")]
    Upstream(hyper::Error),
    #[error("the instance changed the protocol without being asked to")]
    Upgrade,
    /// The edge ends.
    #[error("the edge is stopping")]
    Stopping,
}

impl ProxyError {
    /// The status that tells a client whose fault it is, and whether to try again.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::Route(RouteError::NoRoute) => StatusCode::NOT_FOUND,
            Self::Route(RouteError::Name(_) | RouteError::Encoding) => StatusCode::BAD_REQUEST,
            Self::Refused(refused) => refused_status(refused),
            Self::NodeUnreachable(_) | Self::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            Self::Tunnel { error, .. } => tunnel_status(error),
            Self::Upstream(_) | Self::Upgrade => StatusCode::BAD_GATEWAY,
        }
    }

    /// The whole response.
    pub(crate) fn response(&self) -> Response<ResponseBody> {
        let mut response = Response::new(ResponseBody::text(format!("{self}\n")));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if self.status() == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, RETRY_AFTER_S);
        }
        response
    }
}

fn refused_status(refused: &Refused) -> StatusCode {
    match refused {
        Refused::NoNode
        | Refused::NoCapacity { .. }
        | Refused::ClassLimit { .. }
        | Refused::StartTimeout
        | Refused::Overloaded
        | Refused::Stopping
        | Refused::NodeUnreachable(_)
        | Refused::Store => StatusCode::SERVICE_UNAVAILABLE,
        Refused::StartFailed(_) | Refused::StartRefused(_) | Refused::PortTimeout { .. } => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

fn tunnel_status(error: &OpenError) -> StatusCode {
    match error {
        OpenError::Lost | OpenError::Refused(TunnelAnswer::Exhausted) => StatusCode::SERVICE_UNAVAILABLE,
        OpenError::Refused(_) | OpenError::Unknown(_) => StatusCode::BAD_GATEWAY,
        OpenError::TimedOut => StatusCode::GATEWAY_TIMEOUT,
    }
}
