//! What programs reach: hosts that an app may reach, over connections of their own, each as long as its answer; and their app's
//! static files. And where their log goes. Follows no redirects: the script does.

use std::collections::{BTreeSet, HashMap};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use berth_common::ids::{ObjectKey, Version};
use berth_common::spec::ClassSpec;
use berth_registry::web::{Connector, PlainTo, WebAddress};
use berth_script::message::{Destination, Level, Object, ScriptError};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::{CONTENT_LENGTH, HOST, HeaderValue, UPGRADE};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_util::task::AbortOnDropHandle;

use super::log::AppLog;
use super::objects::{self, States};
use crate::http::headers;
use crate::script::{
    Body, BoxError, Code, Contained, ContainerChanges, Kept, Outgoing, Outside, Upgraded, VersionKey,
};

/// Connections to others that the programs of one app may have at once; further requests wait. Each takes a socket, and the
/// buffers of TLS: about 100 KB.
const CONNECTIONS_PER_APP: usize = 128;

/// Static files that are opened for the programs of one app at once; further requests wait. Each waits for a thread that others need, too.
const OPENING_PER_APP: usize = 16;

/// Longest wait for a connection, and for the head of an answer: what common servers and proxies allow.
const ANSWER_LIMIT: Duration = Duration::from_secs(100);

/// Largest read buffer, and so the largest head of an answer, in bytes.
const BUFFER_BYTES: usize = 64 << 10;

/// What an answer comes to that switches to something else than was asked for.
const NOT_AGREED: &str = "The server's answer to the WebSocket's handshake is none that was asked for.";

/// The static files of apps.
pub(crate) trait StaticFiles: Send + Sync {
    /// What the app's files answer to a request for one of them, which has no body.
    fn answer(&self, app: &str, request: Request<()>) -> BoxFuture<'static, Response<Body>>;
}

/// The containers of objects.
pub(crate) trait Containers: Send + Sync {
    /// Looks after an object's container, of this class, and tells what becomes of it.
    fn of(
        &self,
        key: ObjectKey,
        class: Arc<ClassSpec>,
        changes: ContainerChanges,
    ) -> BoxFuture<'static, Result<Contained, ScriptError>>;
}

/// What an app's programs have together, whatever their version.
struct Side {
    connections: Arc<Connections>,
    /// Files that may be opened now.
    opening: Arc<Semaphore>,
    log: Arc<AppLog>,
}

impl Default for Side {
    fn default() -> Self {
        let opening = Arc::new(Semaphore::new(OPENING_PER_APP));
        Self { connections: Arc::default(), opening, log: Arc::default() }
    }
}

/// An app's connections.
struct Connections {
    free: Arc<Semaphore>,
    /// Requests that wait for one.
    waiting: AtomicUsize,
}

impl Default for Connections {
    fn default() -> Self {
        Self { free: Arc::new(Semaphore::new(CONNECTIONS_PER_APP)), waiting: AtomicUsize::new(0) }
    }
}

impl Connections {
    async fn one(&self) -> Result<OwnedSemaphorePermit, ScriptError> {
        if let Ok(free) = Arc::clone(&self.free).try_acquire_owned() {
            return Ok(free);
        }
        let _waits = Waits::among(&self.waiting);
        let freed = tokio::time::timeout(ANSWER_LIMIT, Arc::clone(&self.free).acquire_owned()).await;
        let text = || {
            let limit = ANSWER_LIMIT.as_secs();
            format!("All {CONNECTIONS_PER_APP} connections of the app were in use for {limit} s.")
        };
        freed.map_err(|_| failed(text()))?.map_err(|_| lost())
    }
}

/// One that waits.
struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn among(all: &'a AtomicUsize) -> Self {
        all.fetch_add(1, Ordering::AcqRel);
        Self(all)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The world of programs.
pub(super) struct World {
    connector: Arc<Connector>,
    files: Arc<dyn StaticFiles>,
    states: States,
    containers: Arc<dyn Containers>,
    sides: Mutex<HashMap<String, Arc<Side>>>,
}

impl World {
    /// A world of public addresses and these networks.
    pub(super) fn new(
        allowed: Vec<IpNet>,
        files: Arc<dyn StaticFiles>,
        states: States,
        containers: Arc<dyn Containers>,
    ) -> Self {
        let connector = Arc::new(Connector::new(allowed, "--allow-hooks-to", PlainTo::Anybody));
        Self { connector, files, states, containers, sides: Mutex::default() }
    }

    /// Forgets apps that are not among these.
    pub(super) fn keep(&self, apps: &BTreeSet<&str>) {
        self.sides().retain(|app, _| apps.contains(app.as_str()));
    }

    pub(super) fn log_of(&self, app: &str) -> Arc<AppLog> {
        Arc::clone(&self.side(app).log)
    }

    fn sides(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Side>>> {
        self.sides.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn side(&self, app: &str) -> Arc<Side> {
        let mut sides = self.sides();
        match sides.get(app) {
            Some(side) => Arc::clone(side),
            None => Arc::clone(sides.entry(app.to_owned()).or_default()),
        }
    }
}

impl Outside for World {
    fn fetch(
        &self,
        version: &VersionKey,
        outgoing: Outgoing,
    ) -> BoxFuture<'static, Result<Response<Body>, ScriptError>> {
        let Outgoing { destination, request } = outgoing;
        match destination {
            Destination::Assets => {
                let opening = Arc::clone(&self.side(&version.app).opening);
                opened(opening, self.files.answer(&version.app, request.map(drop))).boxed()
            }
            Destination::Outside => {
                let connections = Arc::clone(&self.side(&version.app).connections);
                reach(Arc::clone(&self.connector), connections, request).boxed()
            }
            // Threads of a process reach each other, and containers, without.
            Destination::Object(_) | Destination::Port { .. } => std::future::ready(Err(lost())).boxed(),
        }
    }

    fn open(
        &self,
        code: &Code,
        object: &Object,
        changes: ContainerChanges,
    ) -> BoxFuture<'static, Result<Kept, ScriptError>> {
        let lineage = code.lineages.iter().find(|(class, _)| class.as_str() == object.class);
        let found = lineage.zip(code.key.app.parse().ok());
        let Some(((_, lineage), app)) = found else {
            return std::future::ready(Err(failed("there is no such class of objects"))).boxed();
        };
        let class = code.containers.get(lineage).cloned();
        let (key, name) = (objects::key_of(&app, lineage, object), object.name.clone());
        let (states, containers) = (self.states.clone(), Arc::clone(&self.containers));
        let version = Version(code.key.version);
        async move {
            let key = key?;
            let (kept, keeper) = states.open(key.clone(), name, version).await?;
            let contained = match class {
                Some(class) => Some(containers.of(key, class, changes).await?),
                None => None,
            };
            Ok(Kept { changes: kept, keeper, contained })
        }
        .boxed()
    }

    fn is_waited_for(&self, version: &VersionKey) -> bool {
        let sides = self.sides();
        sides.get(&version.app).is_some_and(|side| side.connections.waiting.load(Ordering::Acquire) > 0)
    }

    fn log(&self, version: &VersionKey, level: Level, text: String) {
        self.side(&version.app).log.write(version, level, text);
    }
}

/// What a file answers. Once it is being opened that goes on, whether somebody waits for it or not: so it counts until then.
async fn opened(
    opening: Arc<Semaphore>,
    answer: BoxFuture<'static, Response<Body>>,
) -> Result<Response<Body>, ScriptError> {
    let permit = opening.acquire_owned().await.map_err(|_| lost())?;
    let answered = tokio::spawn(async move {
        let _permit = permit;
        answer.await
    });
    answered.await.map_err(|_| lost())
}

/// A connection to a server, with what it takes of the app's. To look for the server goes on, whether somebody waits for it or not: so it
/// counts until then.
async fn connected(
    connector: Arc<Connector>,
    server: WebAddress,
    permit: OwnedSemaphorePermit,
) -> Result<(impl AsyncRead + AsyncWrite + Unpin + Send + 'static, OwnedSemaphorePermit), ScriptError> {
    let connecting = tokio::spawn(async move {
        let stream = connector.connect(&server).await.map_err(failed)?;
        Ok((stream, permit))
    });
    connecting.await.map_err(|_| lost())?
}

/// Has a host answer a request.
async fn reach(
    connector: Arc<Connector>,
    connections: Arc<Connections>,
    request: Request<Body>,
) -> Result<Response<Body>, ScriptError> {
    let permit = connections.one().await?;
    let server = WebAddress::of(&request.uri().to_string()).map_err(failed)?;
    let key = asks_for_socket(&request).then(generate_key);
    let mut request = prepared(request, &server)?;
    if let Some(key) = &key {
        headers::ask_for_socket(request.headers_mut(), key).map_err(failed)?;
    }
    let (stream, permit) = connected(connector, server.clone(), permit).await?;
    let mut builder = http1::Builder::new();
    let opened = builder.max_buf_size(BUFFER_BYTES).handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = opened.map_err(|_| lost())?;
    // Over when the body of the answer is.
    let connection =
        AbortOnDropHandle::new(tokio::spawn(async move { drop(connection.with_upgrades().await) }));
    let answered = tokio::time::timeout(ANSWER_LIMIT, sender.send_request(request)).await;
    let text = || format!("{} did not answer within {} s.", server.host, ANSWER_LIMIT.as_secs());
    let answered = answered.map_err(|_| ScriptError::new("Error", text()))?;
    let mut response = answered.map_err(|_| lost())?;
    headers::prepare_response(&mut response).map_err(failed)?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let agreed = key.is_some_and(|key| headers::agrees_to_socket(response.headers(), &key));
        return if agreed { switched(response, permit).await } else { Err(failed(NOT_AGREED)) };
    }
    let body = |incoming| Body::new(Answer { incoming, _connection: connection, _permit: permit });
    Ok(response.map(body))
}

/// Whether a request is the beginning of a WebSocket.
fn asks_for_socket(request: &Request<Body>) -> bool {
    request.method() == Method::GET && request.headers().get(UPGRADE).is_some_and(headers::is_websocket)
}

/// An answer after which its connection is a WebSocket.
async fn switched(
    mut response: Response<Incoming>,
    permit: OwnedSemaphorePermit,
) -> Result<Response<Body>, ScriptError> {
    let stream = hyper::upgrade::on(&mut response).await.map_err(|_| lost())?;
    let mut response = response.map(|_| Body::new(Empty::new().map_err(|never| match never {})));
    response.extensions_mut().insert(Upgraded::held(TokioIo::new(stream), permit));
    Ok(response)
}

/// The request as its server expects it.
fn prepared(mut request: Request<Body>, server: &WebAddress) -> Result<Request<Body>, ScriptError> {
    *request.uri_mut() = server.path.parse::<Uri>().map_err(failed)?;
    let host = HeaderValue::try_from(&server.authority).map_err(failed)?;
    let fields = request.headers_mut();
    headers::strip_hop_by_hop(fields);
    fields.insert(HOST, host);
    // The body says how long it is, if that is known.
    fields.remove(CONTENT_LENGTH);
    headers::frame_body(&mut request);
    Ok(request)
}

fn failed(error: impl std::fmt::Display) -> ScriptError {
    ScriptError::new("Error", error.to_string())
}

fn lost() -> ScriptError {
    ScriptError::new("Error", "Network connection lost.")
}

/// The body of an answer, with the connection that it comes over.
struct Answer {
    incoming: Incoming,
    _connection: AbortOnDropHandle<()>,
    _permit: OwnedSemaphorePermit,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.incoming).poll_frame(cx).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_that_is_being_opened_counts_also_when_nobody_waits_for_it() {
        let (opening, begun) = (Arc::new(Semaphore::new(OPENING_PER_APP)), Arc::new(AtomicUsize::new(0)));
        let (open, opens) = tokio::sync::watch::channel(false);
        for _ in 0..3 * OPENING_PER_APP {
            let (begun, mut opens) = (Arc::clone(&begun), opens.clone());
            let answer = async move {
                begun.fetch_add(1, Ordering::SeqCst);
                let _ = opens.wait_for(|open| *open).await;
                Response::new(Body::new(Empty::new().map_err(|never| match never {})))
            };
            let asked = opened(Arc::clone(&opening), answer.boxed());
            // Given up at once.
            assert!(tokio::time::timeout(Duration::from_millis(1), asked).await.is_err());
        }
        assert_eq!(begun.load(Ordering::SeqCst), OPENING_PER_APP);
        open.send(true).unwrap();
        let answer =
            std::future::ready(Response::new(Body::new(Empty::new().map_err(|never| match never {}))));
        assert!(opened(opening, answer.boxed()).await.is_ok());
    }
}
