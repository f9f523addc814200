//! Why there is no response from an instance: who is at fault, whether the request may be retried, and what the client
//! gets. The one place where refusals and errors become statuses.

use std::time::Duration;

use berth_common::ids::{AppName, NodeId};
use berth_common::outcome::{ExitReason, Outcome};
use berth_common::shown::shown;
use berth_common::wire::tunnel::TunnelAnswer;
use berth_engine::Refused;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};

use super::body::ResponseBody;
use super::router::RouteError;
use super::upload;
use crate::http::headers::{BadAnswer, BadRequest};
use crate::metrics::Reason;
use crate::programs::ProgramError;
use crate::script::{Ended, Failure};
use crate::shard::ShardStopped;
use crate::shard::tunnel::{self, OpenError};

/// Seconds after which a client may retry (`Retry-After`).
const RETRY_AFTER_S: HeaderValue = HeaderValue::from_static("1");
/// The same where all nodes are full, or none is there: about as long as it takes until something there ends or starts, and
/// short enough to find a node soon that has come.
const FULL_RETRY_S: HeaderValue = HeaderValue::from_static("5");

/// Why a request has no response from an instance.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyError {
    #[error(transparent)]
    BadRequest(#[from] BadRequest),
    #[error(transparent)]
    Route(#[from] RouteError),
    #[error(transparent)]
    Refused(#[from] Refused),
    /// No connection to the node of the instance in time.
    #[error("the node `{node}`, where the instance runs, is not reachable")]
    NodeUnreachable {
        node: NodeId,
        /// How long it takes until it is given up, if that is known and to come.
        retry: Option<Duration>,
    },
    #[error("port {port} of the instance was not reached: {error}")]
    Tunnel { port: u16, error: OpenError },
    #[error("the class of the instance has no default_port, and the request is for no other")]
    NoPort,
    /// The connection was lost after the request or part of it was sent.
    #[error("the instance ended the connection without an answer: {0}")]
    Upstream(hyper::Error),
    /// The request is incomplete, and came no further.
    #[error("{}", upload::Idle)]
    BodyIdle,
    /// The client has ended the request's body before it was whole.
    #[error("the request's body ended before it was whole")]
    BodyCut,
    /// The instance did not read the request's body, and has its share of unread bytes.
    #[error("the instance does not read what it is sent, and has its share of unread requests already")]
    Unread,
    #[error("the instance changed the protocol without being asked to")]
    Upgrade,
    #[error(transparent)]
    BadAnswer(#[from] BadAnswer),
    /// A signal was not delivered.
    #[error("the signal did not reach the instance: {0}")]
    Signal(String),
    /// An app's program did not answer.
    #[error("{error}")]
    Program { app: AppName, error: Box<ProgramError> },
    /// The edge is stopping.
    #[error("the edge is stopping")]
    Stopping,
}

impl ProxyError {
    /// Why a connection to an instance broke off after the request or part of it was sent.
    pub(crate) fn broken_off(error: hyper::Error) -> Self {
        if upload::Idle::caused(&error) {
            Self::BodyIdle
        } else if upload::is_cut_by_client(&error) {
            Self::BodyCut
        } else if tunnel::is_unread(&error) {
            Self::Unread
        } else {
            Self::Upstream(error)
        }
    }
}

impl From<ShardStopped> for ProxyError {
    fn from(ShardStopped: ShardStopped) -> Self {
        Self::Stopping
    }
}

/// Who is at fault that there is no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The request: it cannot be served, whatever the app does.
    Client,
    /// The app: its configuration, or its instance.
    App,
    /// Not the app: no node could have served the request, or not now.
    Cluster,
}

impl ProxyError {
    /// The status of the response.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(BadRequest::UnknownCoding) => StatusCode::NOT_IMPLEMENTED,
            Self::BadRequest(_) | Self::BodyCut => StatusCode::BAD_REQUEST,
            Self::BodyIdle => StatusCode::REQUEST_TIMEOUT,
            Self::Route(RouteError::NoRoute) => StatusCode::NOT_FOUND,
            Self::Route(RouteError::Method(_)) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Route(_) => StatusCode::BAD_REQUEST,
            Self::Refused(refused) => refused_status(refused),
            Self::NodeUnreachable { .. } | Self::Stopping | Self::Unread => StatusCode::SERVICE_UNAVAILABLE,
            Self::Tunnel { error, .. } => tunnel_status(error),
            Self::NoPort => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Program { error, .. } => program_status(error),
            Self::Upstream(_) | Self::BadAnswer(_) | Self::Upgrade | Self::Signal(_) => {
                StatusCode::BAD_GATEWAY
            }
        }
    }

    /// Who is at fault.
    pub(crate) fn fault(&self) -> Fault {
        match self {
            Self::BadRequest(_) | Self::Route(_) | Self::BodyIdle | Self::BodyCut => Fault::Client,
            Self::Refused(refused) => fault_of(refused),
            Self::NodeUnreachable { .. } | Self::Stopping => Fault::Cluster,
            Self::Program { error, .. } if is_without_program(error) => Fault::Cluster,
            Self::Tunnel { .. }
            | Self::NoPort
            | Self::Upstream(_)
            | Self::BadAnswer(_)
            | Self::Unread
            | Self::Upgrade
            | Self::Program { .. }
            | Self::Signal(_) => Fault::App,
        }
    }

    /// Whether the same request may be retried: none of it has reached an instance, and it may succeed soon.
    pub(crate) fn is_retry_safe(&self) -> bool {
        match self {
            // Part of an unread request was sent, but it was not taken.
            Self::NodeUnreachable { .. } | Self::Stopping | Self::Unread => true,
            Self::Program { error, .. } => is_without_program(error),
            Self::Refused(refused) => is_transient(refused),
            Self::Tunnel { error, .. } => match error {
                OpenError::Lost
                | OpenError::Share
                | OpenError::Refused(TunnelAnswer::Exhausted | TunnelAnswer::Share | TunnelAnswer::Lapsed) => {
                    true
                }
                OpenError::Refused(_) | OpenError::Unknown(_) | OpenError::TimedOut => false,
            },
            Self::BadRequest(_)
            | Self::Route(_)
            | Self::NoPort
            | Self::Upstream(_)
            | Self::BadAnswer(_)
            | Self::Upgrade
            | Self::BodyIdle
            | Self::BodyCut
            | Self::Signal(_) => false,
        }
    }

    /// Whether the app has no code for this now, or it cannot be read: not a failure of that code.
    pub(crate) fn lacks_code(&self) -> bool {
        let Self::Program { error, .. } = self else { return false };
        matches!(**error, ProgramError::Code(_) | ProgramError::NoClass(_))
    }

    /// Whether the instance may just have ended: it, or its port, was not there. Nothing has reached it then.
    pub(crate) fn may_be_an_end(&self) -> bool {
        use TunnelAnswer::{NoInstance, Refused, StaleGeneration};
        let answer = match self {
            Self::Tunnel { error: OpenError::Refused(answer), .. } => answer,
            _ => return false,
        };
        matches!(answer, NoInstance | Refused | StaleGeneration)
    }

    /// The reason that it is counted under.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::BadRequest(_) | Self::BodyCut => Reason::BadRequest,
            Self::Route(RouteError::NoRoute | RouteError::Method(_)) => Reason::NoRoute,
            Self::Route(_) => Reason::NoName,
            Self::Refused(refused) => reason_of(refused),
            Self::NodeUnreachable { .. } => Reason::NodeUnreachable,
            Self::Tunnel { error: OpenError::Share | OpenError::Refused(TunnelAnswer::Share), .. } => {
                Reason::Connections
            }
            Self::Tunnel { .. } | Self::NoPort | Self::Signal(_) => Reason::Tunnel,
            Self::Unread => Reason::Unread,
            Self::BodyIdle => Reason::BodyIdle,
            Self::Upstream(_) | Self::BadAnswer(_) => Reason::BrokenOff,
            Self::Upgrade => Reason::BadUpgrade,
            Self::Program { .. } => Reason::Program,
            Self::Stopping => Reason::EdgeStopping,
        }
    }

    /// The value of `Retry-After`, in seconds.
    fn retry_after(&self) -> HeaderValue {
        match self {
            Self::Refused(
                Refused::CrashLoop { retry_ms, .. }
                | Refused::StartRate { retry_ms, .. }
                | Refused::NodeUnreachable { retry_ms: Some(retry_ms), .. }
                | Refused::Stopping { retry_ms: Some(retry_ms) },
            ) => retry_ms.div_ceil(1000).max(1).into(),
            Self::Refused(Refused::NoCapacity { .. } | Refused::NoNode | Refused::NoTurn) => FULL_RETRY_S,
            Self::NodeUnreachable { retry: Some(retry), .. } => (retry.as_secs() + 1).into(),
            Self::Program { error, .. } => match **error {
                ProgramError::Failed(Failure::BackOff(wait)) => wait.as_secs().max(1).into(),
                _ => RETRY_AFTER_S,
            },
            _ => RETRY_AFTER_S,
        }
    }

    /// What anybody may know of it: no commands, nodes or paths, and nothing that an image or a node says. None if that is
    /// all that there is to say.
    fn for_strangers(&self) -> Option<String> {
        Some(match self {
            Self::BadRequest(_) | Self::Route(_) | Self::BodyIdle | Self::BodyCut | Self::Stopping => {
                return None;
            }
            Self::Refused(refused) => return refused_for_strangers(refused),
            Self::NodeUnreachable { .. } => "the container is not reachable now".to_owned(),
            Self::Tunnel { .. } | Self::NoPort => "the container's port was not reached".to_owned(),
            Self::Upstream(_) => "the container ended the connection without an answer".to_owned(),
            Self::BadAnswer(_) | Self::Upgrade => "the container's answer cannot be passed on".to_owned(),
            Self::Unread => "the container does not read what it is sent".to_owned(),
            Self::Signal(_) => "the container was not reached".to_owned(),
            Self::Program { error, .. } => program_for_strangers(error).to_owned(),
        })
    }

    /// The whole response. Strangers get a short reason, and the number under which the log has the rest, if it has. After a
    /// malformed request the connection is closed: what follows may be framed otherwise than its sender believes.
    pub(crate) fn response(&self, detail: &Detail) -> Response<ResponseBody> {
        let text = match (detail, self.for_strangers()) {
            (Detail::Short(Some(id)), Some(short)) => format!("{short} (error {id:08x})"),
            (Detail::Short(None), Some(short)) => short,
            _ => shown(&self.to_string()).to_string(),
        };
        let mut response = Response::new(ResponseBody::text(format!("{text}\n")));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if self.is_retry_safe() {
            headers.insert(RETRY_AFTER, self.retry_after());
        }
        if let Self::BadRequest(_) = self {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if let Self::Route(RouteError::Method(methods)) = self
            && let Ok(methods) = HeaderValue::try_from(methods.join(", "))
        {
            headers.insert(ALLOW, methods);
        }
        response
    }
}

/// How much a response says of an error.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Detail {
    /// Everything: to whom the edge belongs.
    Full,
    /// What anybody may know, and the number of the line in the log that has the rest, if there is one.
    Short(Option<u32>),
}

fn refused_for_strangers(refused: &Refused) -> Option<String> {
    Some(match refused {
        Refused::StartRate { .. }
        | Refused::CrashLoop { .. }
        | Refused::Overloaded
        | Refused::Ended
        | Refused::StartTimeout
        | Refused::PortTimeout { .. }
        | Refused::Stopping { .. }
        | Refused::EdgeStops => return None,
        Refused::NoNode
        | Refused::NoCapacity { .. }
        | Refused::NoTurn
        | Refused::ClassLimit { .. }
        | Refused::AppLimit { .. }
        | Refused::Store => "there is no room for another container now".to_owned(),
        Refused::NodeUnreachable { .. } => "the container is not reachable now".to_owned(),
        Refused::ManualStart => "the object is stopped, and requests do not start it".to_owned(),
        Refused::StartFailed(Outcome { reason: ExitReason::Oom, .. }) => {
            "the container could not be started: it ran out of memory".to_owned()
        }
        Refused::StartFailed(Outcome { code: Some(code), .. }) => {
            format!("the container could not be started: it exited with code {code}")
        }
        Refused::StartFailed(_) | Refused::StartRefused(_) => "the container could not be started".to_owned(),
    })
}

fn fault_of(refused: &Refused) -> Fault {
    match refused {
        Refused::NoNode
        | Refused::NoCapacity { .. }
        | Refused::NoTurn
        | Refused::ClassLimit { .. }
        | Refused::AppLimit { .. }
        | Refused::Overloaded
        | Refused::Stopping { .. }
        | Refused::EdgeStops
        | Refused::NodeUnreachable { .. }
        | Refused::Store => Fault::Cluster,
        Refused::StartRate { .. } => Fault::Client,
        Refused::CrashLoop { .. }
        | Refused::ManualStart
        | Refused::Ended
        | Refused::StartTimeout
        | Refused::PortTimeout { .. }
        | Refused::StartFailed(_)
        | Refused::StartRefused(_) => Fault::App,
    }
}

fn is_transient(refused: &Refused) -> bool {
    match refused {
        Refused::NoNode
        | Refused::NoCapacity { .. }
        | Refused::NoTurn
        | Refused::ClassLimit { .. }
        | Refused::AppLimit { .. }
        | Refused::CrashLoop { .. }
        | Refused::StartRate { .. }
        | Refused::StartTimeout
        | Refused::Overloaded
        | Refused::ManualStart
        | Refused::Ended
        | Refused::Stopping { .. }
        | Refused::EdgeStops
        | Refused::NodeUnreachable { .. }
        | Refused::Store => true,
        Refused::StartFailed(_) | Refused::StartRefused(_) | Refused::PortTimeout { .. } => false,
    }
}

fn reason_of(refused: &Refused) -> Reason {
    match refused {
        Refused::NoNode => Reason::NoNode,
        Refused::NoCapacity { .. } | Refused::NoTurn => Reason::NoCapacity,
        Refused::ClassLimit { .. } => Reason::ClassLimit,
        Refused::AppLimit { .. } => Reason::AppLimit,
        Refused::CrashLoop { .. } => Reason::CrashLoop,
        Refused::StartRate { .. } => Reason::StartRate,
        Refused::ManualStart => Reason::ManualStart,
        Refused::Ended => Reason::Ended,
        Refused::StartTimeout => Reason::StartTimeout,
        Refused::PortTimeout { .. } => Reason::PortTimeout,
        Refused::StartFailed(_) => Reason::StartFailed,
        Refused::StartRefused(_) => Reason::StartRefused,
        Refused::Overloaded => Reason::Overloaded,
        Refused::Stopping { .. } => Reason::InstanceStopping,
        Refused::EdgeStops => Reason::EdgeStopping,
        Refused::NodeUnreachable { .. } => Reason::NodeUnreachable,
        Refused::Store => Reason::Store,
    }
}

fn program_status(error: &ProgramError) -> StatusCode {
    match error {
        ProgramError::Code(_) | ProgramError::NoClass(_) => StatusCode::INTERNAL_SERVER_ERROR,
        ProgramError::Gone => StatusCode::SERVICE_UNAVAILABLE,
        ProgramError::Failed(failure) => match failure {
            Failure::Script(_) | Failure::Load(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Failure::Ended(_) | Failure::BackOff(_) | Failure::Overloaded | Failure::Start(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        },
    }
}

/// Whether the program has not got the request at all, and may get it soon.
fn is_without_program(error: &ProgramError) -> bool {
    let ProgramError::Failed(failure) = error else { return matches!(error, ProgramError::Gone) };
    matches!(failure, Failure::BackOff(_) | Failure::Overloaded | Failure::Start(_))
}

/// What anybody may know of a program's failure: not what it says itself.
fn program_for_strangers(error: &ProgramError) -> &'static str {
    match error {
        ProgramError::Gone => "the app is not there now",
        ProgramError::Code(_) | ProgramError::NoClass(_) => "the app's program cannot be loaded",
        ProgramError::Failed(failure) => match failure {
            Failure::Script(_) => "the app's program failed",
            Failure::Load(_) => "the app's program cannot be loaded",
            Failure::Ended(Ended::Cpu) => "the app's program used up its time",
            Failure::Ended(Ended::Memory) => "the app's program used up its memory",
            Failure::Ended(_) => "the app's program ended before it answered",
            Failure::BackOff(_) | Failure::Start(_) => "the app's program is not running now",
            Failure::Overloaded => "the app's program has too much to do",
        },
    }
}

/// The HTTP status of a refusal by the engine.
pub(crate) fn refused_status(refused: &Refused) -> StatusCode {
    match refused {
        Refused::StartRate { .. } => StatusCode::TOO_MANY_REQUESTS,
        refused if is_transient(refused) => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn tunnel_status(error: &OpenError) -> StatusCode {
    match error {
        OpenError::Lost
        | OpenError::Share
        | OpenError::Refused(TunnelAnswer::Exhausted | TunnelAnswer::Share | TunnelAnswer::Lapsed) => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        OpenError::Refused(_) | OpenError::Unknown(_) => StatusCode::BAD_GATEWAY,
        OpenError::TimedOut => StatusCode::GATEWAY_TIMEOUT,
    }
}

#[cfg(test)]
mod tests {
    use berth_common::outcome::Outcome;
    use berth_common::wire::call::{Refusal, RefusalCode};
    use http_body_util::BodyExt;

    use super::*;

    fn tunnel(error: OpenError) -> ProxyError {
        ProxyError::Tunnel { port: 8080, error }
    }

    #[test]
    fn each_error_says_whose_fault_it_is() {
        let node: NodeId = "n1".parse().unwrap();
        let refusal = Refusal { code: RefusalCode::Image, message: "no such image".to_owned() };
        let cases: [(u16, ProxyError); 17] = [
            (400, BadRequest::Host.into()),
            (501, BadRequest::UnknownCoding.into()),
            (502, BadAnswer.into()),
            (400, RouteError::Encoding("path").into()),
            (404, RouteError::NoRoute.into()),
            (429, Refused::StartRate { whose: "one client address", retry_ms: 1500 }.into()),
            (503, Refused::NoNode.into()),
            (503, Refused::StartTimeout.into()),
            (503, Refused::Overloaded.into()),
            (503, Refused::NodeUnreachable { node: node.clone(), retry_ms: Some(9_500) }.into()),
            (503, ProxyError::NodeUnreachable { node, retry: None }),
            (503, ProxyError::Stopping),
            (500, Refused::StartFailed(Outcome::exited(3)).into()),
            (500, Refused::StartRefused(refusal).into()),
            (500, Refused::PortTimeout { port: 8080 }.into()),
            (502, tunnel(OpenError::Refused(TunnelAnswer::Refused))),
            (504, tunnel(OpenError::TimedOut)),
        ];
        for (status, error) in cases {
            let response = error.response(&Detail::Full);
            assert_eq!(response.status().as_u16(), status, "{error}");
            let again = status == 503 || status == 429;
            assert_eq!(response.headers().contains_key(RETRY_AFTER), again, "{error}");
            assert_eq!(error.is_retry_safe(), again, "{error}");
            assert_eq!(
                error.fault() == Fault::Client,
                (400..500).contains(&status) || status == 501,
                "{error}"
            );
        }
    }

    #[tokio::test]
    async fn the_reason_is_in_the_response() {
        let refusal = Refusal { code: RefusalCode::Image, message: "image x is not on node n1".to_owned() };
        let response = ProxyError::from(Refused::StartRefused(refusal)).response(&Detail::Full);
        assert_eq!(response.headers()[CONTENT_TYPE], "text/plain; charset=utf-8");
        let Ok(body) = response.into_body().collect().await else { panic!("no body") };
        let text = String::from_utf8(body.to_bytes().to_vec()).unwrap();
        assert!(text.contains("image x is not on node n1"), "{text}");
    }

    #[tokio::test]
    async fn texts_of_others_steer_no_terminal() {
        let message = "no file \x1b[2J\r\nerror: \u{202e}x".to_owned();
        let refusal = Refusal { code: RefusalCode::Image, message };
        let response = ProxyError::from(Refused::StartRefused(refusal)).response(&Detail::Full);
        let Ok(body) = response.into_body().collect().await else { panic!("no body") };
        let text = String::from_utf8(body.to_bytes().to_vec()).unwrap();
        assert!(text.ends_with("\\u{1b}[2J\\r\\nerror: \\u{202e}x\n"), "{text}");
    }

    async fn text(error: impl Into<ProxyError>, detail: Detail) -> String {
        let Ok(body) = error.into().response(&detail).into_body().collect().await else { panic!("no body") };
        String::from_utf8(body.to_bytes().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn strangers_are_told_no_commands_nodes_or_paths() {
        let message = "secret-node: run `chmod 600 /var/lib/x`, or berth secret put KEY".to_owned();
        let node: NodeId = "secret-node".parse().unwrap();
        let outcome = Outcome { message: Some(message.clone()), ..Outcome::exited(3) };
        let errors: [ProxyError; 9] = [
            Refused::StartRefused(Refusal { code: RefusalCode::Image, message: message.clone() }).into(),
            Refused::StartFailed(outcome).into(),
            Refused::NodeUnreachable { node: node.clone(), retry_ms: Some(9_500) }.into(),
            Refused::NoCapacity { what: "node secret-node has 3 disk slots, `berth` needs 4".to_owned() }
                .into(),
            Refused::AppLimit { what: "`berth` 3".to_owned() }.into(),
            Refused::ManualStart.into(),
            ProxyError::NodeUnreachable { node, retry: None },
            ProxyError::Signal(message),
            tunnel(OpenError::TimedOut),
        ];
        for error in errors {
            let reason = error.to_string();
            let text = text(error, Detail::Short(Some(0xbeef))).await;
            assert!(text.ends_with(" (error 0000beef)\n"), "{text}");
            for word in ["secret", "berth", "node", "/", "slot", "`"] {
                assert!(!text.contains(word), "{reason:?} is told as {text:?}");
            }
        }
        let exited = text(Refused::StartFailed(Outcome::exited(3)), Detail::Short(Some(1))).await;
        assert!(exited.contains("exited with code 3"), "{exited}");
        let crashes = Refused::CrashLoop { failures: 3, retry_ms: 2000 };
        assert!(text(crashes, Detail::Short(Some(1))).await.contains("failed 3 times in a row"));
    }

    #[test]
    fn a_wrong_method_is_told_the_right_ones() {
        let error = ProxyError::from(RouteError::Method(vec!["GET".to_owned(), "PUT".to_owned()]));
        let response = error.response(&Detail::Full);
        assert_eq!(
            (response.status().as_u16(), &response.headers()[ALLOW]),
            (405, &HeaderValue::from_static("GET, PUT"))
        );
    }

    #[test]
    fn each_error_has_its_label() {
        let cases: [(&str, ProxyError); 6] = [
            ("no_route", RouteError::NoRoute.into()),
            ("no_name", RouteError::Encoding("path").into()),
            ("port_timeout", Refused::PortTimeout { port: 1 }.into()),
            ("store", Refused::Store.into()),
            ("broken_off", BadAnswer.into()),
            ("edge_stopping", ProxyError::Stopping),
        ];
        for (word, error) in cases {
            assert_eq!(error.reason().label(), word);
        }
    }
}
