//! A client of the edge's admin API, on its Unix socket.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use berth_common::outcome::Outcome;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::Value;
use tokio::net::UnixStream;

/// The admin API of one edge.
#[derive(Debug, Clone)]
pub struct Admin {
    socket: PathBuf,
}

/// One object, as the API tells of it.
#[derive(Debug, Clone, Deserialize)]
pub struct Object {
    /// Its name.
    pub name: String,
    /// Its app.
    pub app: String,
    /// `stopped`, `running`, `healthy`, `stopping` or `stopped_with_code`.
    pub state: String,
    /// Where its instance is.
    pub node: Option<String>,
    /// Its instance.
    pub instance: Option<String>,
    /// How many instances it has had.
    pub generation: u64,
    /// When its state last changed, in milliseconds since 1970.
    pub last_change_ms: u64,
    /// How its last instance ended.
    pub exit: Option<Outcome>,
}

/// One node, as the API tells of it.
#[derive(Debug, Clone, Deserialize)]
pub struct NodeView {
    /// Its name.
    pub node: String,
    /// Whether the edge is connected with it.
    pub connected: bool,
    /// How many instances it has.
    pub instances: u64,
}

impl Admin {
    /// The API at this socket.
    pub fn at(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// Where it is.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// All objects.
    pub async fn objects(&self) -> Result<Vec<Object>> {
        let mut answer = self.get("/v1/containers").await?;
        Ok(serde_json::from_value(answer["containers"].take())?)
    }

    /// One object by its name; an error says what there is instead.
    pub async fn object(&self, name: &str) -> Result<Object> {
        let objects = self.objects().await?;
        let names: Vec<_> = objects.iter().map(|object| object.name.clone()).collect();
        let found = objects.into_iter().find(|object| object.name == name);
        found.with_context(|| format!("there is no object {name} among {names:?}"))
    }

    /// All nodes.
    pub async fn nodes(&self) -> Result<Vec<NodeView>> {
        let mut answer = self.get("/v1/nodes").await?;
        Ok(serde_json::from_value(answer["nodes"].take())?)
    }

    /// What is at a path.
    pub async fn get(&self, path: &str) -> Result<Value> {
        let (status, answer) = self.call(Method::GET, path, &Value::Null).await?;
        ensure!(status.is_success(), "GET {path}: {status}: {answer}");
        Ok(answer)
    }

    /// Puts something at a path.
    pub async fn put(&self, path: &str, body: &Value) -> Result<(StatusCode, Value)> {
        self.call(Method::PUT, path, body).await
    }

    /// Posts something to a path.
    pub async fn post(&self, path: &str, body: &Value) -> Result<(StatusCode, Value)> {
        self.call(Method::POST, path, body).await
    }

    /// Removes what is at a path.
    pub async fn delete(&self, path: &str) -> Result<(StatusCode, Value)> {
        self.call(Method::DELETE, path, &Value::Null).await
    }

    /// Puts bytes at a path.
    pub async fn put_bytes(&self, path: &str, body: impl Into<Bytes>) -> Result<(StatusCode, Value)> {
        self.exchange(Method::PUT, path, body.into()).await
    }

    /// Posts something to a path that answers with lines of JSON, and waits for all of them.
    pub async fn post_lines(&self, path: &str, body: &Value) -> Result<Vec<Value>> {
        let body = Bytes::from(body.to_string());
        let (status, answer) = self.exchange_bytes(Method::POST, path, body).await?;
        ensure!(status.is_success(), "POST {path}: {status}: {}", String::from_utf8_lossy(&answer));
        let lines = answer.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| Ok(serde_json::from_slice(line)?)).collect()
    }

    async fn call(&self, method: Method, path: &str, body: &Value) -> Result<(StatusCode, Value)> {
        self.exchange(method, path, Bytes::from(body.to_string())).await
    }

    async fn exchange(&self, method: Method, path: &str, body: Bytes) -> Result<(StatusCode, Value)> {
        let (status, bytes) = self.exchange_bytes(method, path, body).await?;
        Ok((status, serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
    }

    async fn exchange_bytes(&self, method: Method, path: &str, body: Bytes) -> Result<(StatusCode, Bytes)> {
        let stream = UnixStream::connect(&self.socket).await;
        let stream = stream.with_context(|| format!("connect to {}", self.socket.display()))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let request = Request::builder().method(method).uri(path).header("host", "localhost");
        let request = request.header("content-type", "application/json");
        let response = sender.send_request(request.body(Full::new(body))?).await?;
        let status = response.status();
        let bytes = response.into_body().collect().await?.to_bytes();
        drop(sender);
        connection.await??;
        Ok((status, bytes))
    }
}
