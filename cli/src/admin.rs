//! A client of an edge's admin API: JSON over HTTP/1.1 on a Unix socket or over TLS, one connection a request.

mod endpoint;
mod lines;
pub(crate) mod link;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use berth_common::ids::{AppName, InstanceId, ObjectId, SecretName, Version};
use berth_common::image::{Digest, Named};
use berth_common::outcome::Outcome;
use berth_common::spec::AppSpec;
use berth_common::wire::call::{Capacity, DiskCapacity};
use berth_images::manifest::MANIFEST_TYPES;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, HeaderName, HeaderValue};
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::endpoint::Endpoint;
use self::link::Paced;
use crate::args::AdminArgs;
use crate::commands::encode;
use crate::prefetch::Prefetch;

/// How long an answer may take: a deployment is stored durably first.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a start may take to be answered: a class may have requests wait an hour for the container, and another for its port.
const START_TIMEOUT: Duration = Duration::from_secs(2 * 60 * 60 + 60);
/// Largest answer, in bytes: a list of a million objects.
const MAX_ANSWER_BYTES: usize = 512 << 20;
/// The header in which registries tell the digest of a manifest.
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// Where an edge's socket is looked for, in this order.
const USUAL_SOCKETS: [&str; 2] = ["./.berth/dev/edge/admin.sock", "/var/lib/berth/edge/admin.sock"];

/// Objects that are asked for at once.
const PAGE: usize = 10_000;

/// An edge, by its admin API.
#[derive(Debug, Clone)]
pub(crate) struct Admin {
    endpoint: Endpoint,
}

/// Answer to `GET /v1/containers`: the views as they came, for `--json`.
#[derive(Debug, Deserialize)]
struct ContainerPage {
    containers: Vec<Value>,
    next_cursor: Option<String>,
}

/// A change of an app: the condition that it is made under, and whether containers of other versions end.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Terms {
    /// The version that must be current.
    pub(crate) expect: Option<Version>,
    pub(crate) now: bool,
    /// Which nodes have the images of a new version before it becomes current.
    pub(crate) prefetch: Prefetch,
}

/// One object.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ContainerView {
    pub(crate) id: ObjectId,
    pub(crate) app: String,
    pub(crate) class: String,
    pub(crate) name: String,
    pub(crate) state: String,
    pub(crate) node: Option<String>,
    pub(crate) instance: Option<InstanceId>,
    pub(crate) generation: u64,
    pub(crate) last_change_ms: u64,
    pub(crate) exit: Option<Outcome>,
    #[serde(default)]
    pub(crate) version: Option<u64>,
    #[serde(default)]
    pub(crate) crash_loop: Option<CrashLoop>,
}

/// Containers that failed in a row.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CrashLoop {
    pub(crate) failures: u32,
    pub(crate) next_try_ms: u64,
}

/// Answer to `GET /v1/nodes`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NodeList {
    pub(crate) nodes: Vec<NodeView>,
}

/// One node.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NodeView {
    pub(crate) node: String,
    pub(crate) address: String,
    pub(crate) connected: bool,
    pub(crate) version: Option<String>,
    pub(crate) capacity: Option<Capacity>,
    #[serde(default)]
    pub(crate) disk: Option<DiskCapacity>,
    pub(crate) instances: u64,
    pub(crate) draining: bool,
}

#[derive(Debug, Deserialize)]
struct AssetsAnswer {
    directory: PathBuf,
}

/// Answer to `PUT /v1/apps/NAME` and `POST /v1/apps/NAME/rollback`.
#[derive(Debug, Deserialize)]
pub(crate) struct Deployed {
    pub(crate) app: AppName,
    pub(crate) version: Version,
    pub(crate) classes: u64,
    pub(crate) routes: u64,
    pub(crate) ended: u64,
    /// Secrets that its classes name and that were not put yet.
    #[serde(default)]
    pub(crate) missing_secrets: Vec<SecretName>,
}

impl Deployed {
    /// Says which secrets are still to be put.
    pub(crate) fn warn(&self) {
        let app = &self.app;
        for name in &self.missing_secrets {
            eprintln!(
                "warning: {app} has no secret {name}, and containers that need it do not start: `berth secret put {name} --app \
                 {app}` puts it"
            );
        }
    }

    /// What was done, in one line.
    pub(crate) fn describe(&self, what: &str) -> String {
        let Self { app, version, classes, routes, ended, .. } = self;
        let ended = if *ended > 0 { format!(", containers told to end: {ended}") } else { String::new() };
        format!("{what} {app} version {version}: classes: {classes}, routes: {routes}{ended}")
    }
}

/// The edge answered that it would not.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Refusal {
    status: StatusCode,
    text: String,
}

impl Refusal {
    /// What was asked is wrong, and not only now.
    pub(crate) fn is_bad_input(&self) -> bool {
        matches!(self.status, StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY)
    }
}

/// An error as the edge tells it.
#[derive(Debug, Deserialize)]
struct Problem {
    title: String,
    #[serde(default)]
    detail: String,
}

impl Admin {
    /// The edge at this socket.
    pub(crate) fn at(socket: impl Into<PathBuf>) -> Self {
        Self { endpoint: Endpoint::Socket(socket.into()) }
    }

    /// The edge that the command line names, or the one at a usual place.
    pub(crate) fn find(args: &AdminArgs) -> Result<Self> {
        if let Some(url) = &args.admin_url {
            let endpoint =
                Endpoint::network(url, args.admin_ca.as_deref(), args.admin_token_file.as_deref())?;
            return Ok(Self { endpoint });
        }
        let usual = || USUAL_SOCKETS.map(PathBuf::from).into_iter().find(|socket| socket.exists());
        match args.admin_socket.clone().or_else(usual) {
            Some(socket) => Ok(Self::at(socket)),
            None => bail!(
                "no edge found: neither {} exists; start `berth dev`, or name the socket with --admin-socket",
                USUAL_SOCKETS.join(" nor ")
            ),
        }
    }

    /// Where the edge is reached.
    pub(crate) fn place(&self) -> String {
        self.endpoint.to_string()
    }

    /// Whether the edge answers.
    pub(crate) async fn health(&self) -> Result<()> {
        let _: Value = self.get("/v1/health").await?;
        Ok(())
    }

    /// All objects that a query wants, as the edge shows them.
    pub(crate) async fn containers(&self, query: &str) -> Result<Vec<Value>> {
        let mut containers = Vec::new();
        let mut cursor = String::new();
        loop {
            let path = format!("/v1/containers?limit={PAGE}{query}{cursor}");
            let page: ContainerPage = self.get(&path).await?;
            containers.extend(page.containers);
            match page.next_cursor {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(containers),
            }
        }
    }

    pub(crate) async fn nodes(&self) -> Result<NodeList> {
        self.get("/v1/nodes").await
    }

    /// Which image of the edge's a name means now, if any.
    pub(crate) async fn resolve(&self, image: &Named) -> Result<Option<Digest>> {
        let Named { repository, pick } = image;
        let name = pick.to_string();
        let path = format!("/v2/{repository}/manifests/{}", name.trim_start_matches([':', '@']));
        let accept = (ACCEPT, HeaderValue::try_from(MANIFEST_TYPES.join(", "))?);
        let answer = self.link().ask(Method::HEAD, &path, &[accept], Paced::empty()).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        ensure!(answer.status.is_success(), "{image}: {}", answer.refusal());
        let digest = answer.header(&CONTENT_DIGEST).and_then(|digest| digest.parse().ok());
        Ok(Some(digest.context("the edge does not say which image it is")?))
    }

    /// A manifest or configuration of the edge's registry.
    pub(crate) async fn registry_document(&self, path: &str, accept: &str) -> Result<Bytes> {
        let accept = (ACCEPT, HeaderValue::try_from(accept)?);
        let answer = self.link().ask(Method::GET, path, &[accept], Paced::empty()).await?;
        ensure!(answer.status.is_success(), "{path}: {}", answer.refusal());
        Ok(answer.body)
    }

    /// Where the edge serves static files from.
    pub(crate) async fn asset_directory(&self) -> Result<PathBuf> {
        let answer: AssetsAnswer = self.get("/v1/assets/directory").await?;
        Ok(answer.directory)
    }

    /// Makes a version of an app known; it is durable when this returns.
    pub(crate) async fn deploy(&self, spec: &AppSpec, terms: Terms) -> Result<Deployed> {
        // Names are made of letters, digits, `-`, `_` and `.`, so they need no encoding.
        let (app, now, prefetch) = (&spec.name, terms.now, terms.prefetch.query());
        let path = format!("/v1/apps/{app}?now={now}{prefetch}");
        let ask = Ask::new(Method::PUT, &path, serde_json::to_vec(spec)?);
        let limit = terms.prefetch.timeout.saturating_add(ANSWER_TIMEOUT);
        self.call(Ask { expect: terms.expect, limit, ..ask }).await
    }

    /// Goes back to a version of an app; that is durable when this returns.
    pub(crate) async fn roll_back(
        &self,
        app: &AppName,
        to: Option<Version>,
        terms: Terms,
    ) -> Result<Deployed> {
        let body = json!({ "version": to, "now": terms.now }).to_string();
        let path = format!("/v1/apps/{app}/rollback");
        self.call(Ask { expect: terms.expect, ..Ask::new(Method::POST, &path, body) }).await
    }

    /// Gives an order, and takes the answer.
    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T> {
        self.call(Ask::new(Method::POST, path, body.to_string())).await
    }

    /// What is at a path, as it is.
    pub(crate) async fn bytes(&self, path: &str) -> Result<Bytes> {
        self.answer(Ask::new(Method::GET, path, Bytes::new())).await
    }

    /// Puts a value at a path, and takes the answer.
    pub(crate) async fn put_json<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T> {
        self.call(Ask::new(Method::PUT, path, body.to_string())).await
    }

    /// Gives an order that has no answer.
    pub(crate) async fn post_nothing(&self, path: &str) -> Result<()> {
        self.answer(Ask::new(Method::POST, path, Bytes::new())).await.map(drop)
    }

    /// Puts bytes at a path.
    pub(crate) async fn put(&self, path: &str, body: Vec<u8>) -> Result<()> {
        self.answer(Ask::new(Method::PUT, path, body)).await.map(drop)
    }

    /// Has something removed.
    pub(crate) async fn delete(&self, path: &str) -> Result<()> {
        self.answer(Ask::new(Method::DELETE, path, Bytes::new())).await.map(drop)
    }

    /// Has an object started, and waits until it answers.
    pub(crate) async fn start<T: DeserializeOwned>(&self, body: &Value) -> Result<T> {
        let ask = Ask::new(Method::POST, "/v1/containers", body.to_string());
        self.call(Ask { limit: START_TIMEOUT, ..ask }).await
    }

    /// What is in a field of each page of a list. The path has a query already.
    pub(crate) async fn pages(&self, path: &str, field: &str) -> Result<Vec<Value>> {
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let mut page: Value = self.get(&format!("{path}{cursor}")).await?;
            let Value::Array(items) = page[field].take() else { bail!("{path}: the answer has no {field}") };
            found.extend(items);
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={}", encode(next)),
                None => return Ok(found),
            }
        }
    }

    /// Answers as they came, for `--json`.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.call(Ask::new(Method::GET, path, Bytes::new())).await
    }

    /// Bytes to and from a port of an object's container, which is started if it sleeps.
    pub(crate) async fn connect(
        &self,
        object: ObjectId,
        port: Option<u16>,
    ) -> Result<TokioIo<hyper::upgrade::Upgraded>> {
        let query = port.map(|port| format!("?port={port}")).unwrap_or_default();
        let path = format!("/v1/containers/{object}/connect{query}");
        let stream = self.endpoint.connect().await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // It carries the bytes once the protocol is changed, and ends with them.
        tokio::spawn(connection.with_upgrades());
        let request = self.endpoint.request(Method::GET, &path);
        let request = request.header("connection", "upgrade").header("upgrade", "berth-tcp");
        let answer =
            tokio::time::timeout(START_TIMEOUT, sender.send_request(request.body(Full::new(Bytes::new()))?));
        let answer = answer.await.context("the container's port was not reached in time")??;
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(TokioIo::new(hyper::upgrade::on(answer).await?));
        }
        let (status, bytes) = whole(answer).await?;
        bail!("{}", refusal(status, &bytes));
    }

    async fn call<T: DeserializeOwned>(&self, ask: Ask<'_>) -> Result<T> {
        let what = format!("{} {} at {}", ask.method, ask.path, self.endpoint);
        let bytes = self.answer(ask).await?;
        serde_json::from_slice(&bytes)
            .with_context(|| format!("{what}: the answer is not what this version expects"))
    }

    async fn answer(&self, ask: Ask<'_>) -> Result<Bytes> {
        let what = format!("{} {} at {}", ask.method, ask.path, self.endpoint);
        let limit = ask.limit;
        let answer = tokio::time::timeout(limit, self.exchange(ask)).await;
        let (status, bytes) = answer.with_context(|| format!("{what}: no answer in {limit:?}"))??;
        if !status.is_success() {
            return Err(Refusal { status, text: format!("{what}: {}", refusal(status, &bytes)) }.into());
        }
        Ok(bytes)
    }

    async fn exchange(&self, ask: Ask<'_>) -> Result<(StatusCode, Bytes)> {
        let stream = self.endpoint.connect().await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let mut request = self.endpoint.request(ask.method, ask.path);
        if let Some(version) = ask.expect {
            request = request.header("if-match", format!("\"{version}\""));
        }
        let request = request.body(Full::new(ask.body))?;
        // The connection ends once the sender is dropped, so both can simply be awaited.
        let answer = async move { whole(sender.send_request(request).await?).await };
        let (answer, _) = tokio::join!(answer, connection);
        answer
    }
}

/// One request.
struct Ask<'a> {
    method: Method,
    path: &'a str,
    body: Bytes,
    expect: Option<Version>,
    limit: Duration,
}

impl<'a> Ask<'a> {
    fn new(method: Method, path: &'a str, body: impl Into<Bytes>) -> Self {
        Self { method, path, body: body.into(), expect: None, limit: ANSWER_TIMEOUT }
    }
}

async fn whole(response: Response<hyper::body::Incoming>) -> Result<(StatusCode, Bytes)> {
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("the answer broke off: {error}"))?;
    Ok((status, body.to_bytes()))
}

fn refusal(status: StatusCode, body: &[u8]) -> String {
    match serde_json::from_slice::<Problem>(body) {
        Ok(Problem { title, detail }) if detail.is_empty() => title,
        Ok(Problem { title, detail }) => format!("{title}: {detail}"),
        Err(_) => status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;
    use std::path::Path;
    use std::thread::JoinHandle;

    use super::*;

    /// Answers one request with these bytes and gives back what was asked.
    fn serve(socket: &Path, answer: &'static str) -> JoinHandle<String> {
        let listener = UnixListener::bind(socket).unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = vec![0; 64 * 1024];
            let read = stream.read(&mut asked).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&asked[..read]).into_owned()
        })
    }

    #[tokio::test]
    async fn an_answer_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let body = r#"{"directory":"/x"}"#;
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let served = serve(&socket, Box::leak(answer.into_boxed_str()));
        assert_eq!(Admin::at(&socket).asset_directory().await.unwrap(), Path::new("/x"));
        assert!(served.join().unwrap().starts_with("GET /v1/assets/directory HTTP/1.1\r\n"));
    }

    #[tokio::test]
    async fn a_refusal_says_what_the_edge_said() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let answer = "HTTP/1.1 422 X\r\nconnection: close\r\n\r\n{\"title\":\"no\",\"detail\":\"not so\",\"status\":422}";
        let served = serve(&socket, answer);
        let error = Admin::at(&socket).nodes().await.unwrap_err().to_string();
        assert!(error.ends_with("no: not so"), "{error}");
        served.join().unwrap();
    }

    #[tokio::test]
    async fn no_edge_is_told_with_advice() {
        let error = Admin::at("/nowhere/admin.sock").health().await.unwrap_err().to_string();
        assert!(error.contains("/nowhere/admin.sock") && error.contains("berth dev"), "{error}");
    }
}
