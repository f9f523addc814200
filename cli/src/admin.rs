//! A client of an edge's admin API: JSON over HTTP/1.1 on a Unix socket, one connection a request.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use berth_common::ids::{AppName, InstanceId, ObjectId};
use berth_common::outcome::Outcome;
use berth_common::spec::AppSpec;
use berth_common::wire::call::{Capacity, DiskCapacity};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;

use crate::args::AdminArgs;

/// How long an answer may take: a deployment is stored durably first.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a start may take to be answered: a class may have requests wait an hour for the container, and another for its port.
const START_TIMEOUT: Duration = Duration::from_secs(2 * 60 * 60 + 60);
/// Largest answer, in bytes: a list of a million objects.
const MAX_ANSWER_BYTES: usize = 512 << 20;
/// Where an edge's socket is looked for, in this order.
const USUAL_SOCKETS: [&str; 2] = ["./.berth/dev/edge/admin.sock", "/var/lib/berth/edge/admin.sock"];

/// An edge, by its admin socket.
#[derive(Debug, Clone)]
pub(crate) struct Admin {
    socket: PathBuf,
}

/// Answer to `GET /v1/containers`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ContainerList {
    pub(crate) containers: Vec<ContainerView>,
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
struct ImagesAnswer {
    directory: PathBuf,
}

/// Answer to `PUT /v1/apps/NAME`.
#[derive(Debug, Deserialize)]
pub(crate) struct Deployed {
    pub(crate) app: AppName,
    pub(crate) classes: u64,
    pub(crate) routes: u64,
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
        Self { socket: socket.into() }
    }

    /// The edge that the command line names, or the one at a usual place.
    pub(crate) fn find(args: &AdminArgs) -> Result<Self> {
        let usual = || USUAL_SOCKETS.map(PathBuf::from).into_iter().find(|socket| socket.exists());
        match args.admin_socket.clone().or_else(usual) {
            Some(socket) => Ok(Self { socket }),
            None => bail!(
                "no edge found: neither {} exists; start `berth dev`, or name the socket with --admin-socket",
                USUAL_SOCKETS.join(" nor ")
            ),
        }
    }

    /// Where the edge is reached.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Whether the edge answers.
    pub(crate) async fn health(&self) -> Result<()> {
        let _: serde_json::Value = self.get("/v1/health").await?;
        Ok(())
    }

    pub(crate) async fn containers(&self) -> Result<ContainerList> {
        self.get("/v1/containers").await
    }

    pub(crate) async fn nodes(&self) -> Result<NodeList> {
        self.get("/v1/nodes").await
    }

    /// Where nodes read images from.
    pub(crate) async fn image_directory(&self) -> Result<PathBuf> {
        let answer: ImagesAnswer = self.get("/v1/images").await?;
        Ok(answer.directory)
    }

    /// Makes a version of an app known; it is durable when this returns.
    pub(crate) async fn deploy(&self, spec: &AppSpec) -> Result<Deployed> {
        let body = serde_json::to_vec(spec)?;
        // Names are made of letters, digits, `-`, `_` and `.`, so they need no encoding.
        self.call(Method::PUT, &format!("/v1/apps/{}", spec.name), body.into()).await
    }

    /// Gives an order, and takes the answer.
    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str, body: &serde_json::Value) -> Result<T> {
        self.call(Method::POST, path, body.to_string().into()).await
    }

    /// Has an object started, and waits until it answers.
    pub(crate) async fn start<T: DeserializeOwned>(&self, body: &serde_json::Value) -> Result<T> {
        self.call_within(START_TIMEOUT, Method::POST, "/v1/containers", body.to_string().into()).await
    }

    /// Answers as they came, for `--json`.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.call(Method::GET, path, Bytes::new()).await
    }

    async fn call<T: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes) -> Result<T> {
        self.call_within(ANSWER_TIMEOUT, method, path, body).await
    }

    async fn call_within<T: DeserializeOwned>(
        &self,
        limit: Duration,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T> {
        let what = format!("{method} {path} at {}", self.socket.display());
        let exchange = exchange(&self.socket, method, path, body);
        let answer = tokio::time::timeout(limit, exchange).await;
        let (status, bytes) = answer.with_context(|| format!("{what}: no answer in {limit:?}"))??;
        if !status.is_success() {
            bail!("{what}: {}", refusal(status, &bytes));
        }
        serde_json::from_slice(&bytes)
            .with_context(|| format!("{what}: the answer is not what this version expects"))
    }
}

async fn exchange(socket: &Path, method: Method, path: &str, body: Bytes) -> Result<(StatusCode, Bytes)> {
    let stream = UnixStream::connect(socket).await.with_context(|| {
        format!(
            "cannot reach an edge at {}; is it running? Start `berth dev`, or name its socket with --admin-socket",
            socket.display()
        )
    })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost")
        .header("content-type", "application/json")
        .body(Full::new(body))?;
    // The connection ends once the sender is dropped, so both can simply be awaited.
    let answer = async move {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("the answer broke off: {error}"))?;
        anyhow::Ok((status, body.to_bytes()))
    };
    let (answer, _) = tokio::join!(answer, connection);
    answer
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
        assert_eq!(Admin::at(&socket).image_directory().await.unwrap(), Path::new("/x"));
        assert!(served.join().unwrap().starts_with("GET /v1/images HTTP/1.1\r\nhost: localhost\r\n"));
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
