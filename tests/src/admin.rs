//! The admin API of a cluster's edge, on its Unix socket, as tests ask it: whatever the edge answers, also where it
//! would not.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use berth_api::Client;
use berth_api::client::Ask;
use berth_api::containers::{ContainerPage, ContainerView};
use berth_api::edge::NodeView;
use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde_json::Value;

/// How long an answer may take: orders may wait for a container, and each scenario has its own timeout.
const PATIENCE: Duration = Duration::from_secs(60 * 60);

/// The admin API of one edge.
#[derive(Debug, Clone)]
pub struct Admin {
    client: Client,
    socket: PathBuf,
}

impl Admin {
    /// The API at this socket.
    pub fn at(socket: &Path) -> Self {
        Self { client: Client::at(socket), socket: socket.to_owned() }
    }

    /// Where it is.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// All objects.
    pub async fn objects(&self) -> Result<Vec<ContainerView>> {
        let page: ContainerPage = self.client.get("/v1/containers").await?;
        Ok(page.containers)
    }

    /// One object by its name; the error shows the objects that exist.
    pub async fn object(&self, name: &str) -> Result<ContainerView> {
        let objects = self.objects().await?;
        let names: Vec<_> = objects.iter().map(|object| object.name.clone()).collect();
        let found = objects.into_iter().find(|object| object.name.as_str() == name);
        found.with_context(|| format!("there is no object {name} among {names:?}"))
    }

    /// All nodes.
    pub async fn nodes(&self) -> Result<Vec<NodeView>> {
        Ok(self.client.nodes().await?.nodes)
    }

    /// What is at a path.
    pub async fn get(&self, path: &str) -> Result<Value> {
        let (status, answer) = self.call(Method::GET, path, &Value::Null).await?;
        ensure!(status.is_success(), "GET {path}: {status}: {answer}");
        Ok(answer)
    }

    /// What is at a path, where that is no JSON.
    pub async fn text(&self, path: &str) -> Result<String> {
        let ask = Ask::new(Method::GET, path, Bytes::new()).waiting(PATIENCE);
        let (status, bytes) = self.client.exchange(ask).await?;
        ensure!(status.is_success(), "GET {path}: {status}");
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Puts something at a path.
    pub async fn put(&self, path: &str, body: &Value) -> Result<(StatusCode, Value)> {
        self.call(Method::PUT, path, body).await
    }

    /// Posts something to a path.
    pub async fn post(&self, path: &str, body: &Value) -> Result<(StatusCode, Value)> {
        self.call(Method::POST, path, body).await
    }

    /// Sends a DELETE for a path.
    pub async fn delete(&self, path: &str) -> Result<(StatusCode, Value)> {
        self.call(Method::DELETE, path, &Value::Null).await
    }

    /// Puts bytes at a path.
    pub async fn put_bytes(&self, path: &str, body: impl Into<Bytes>) -> Result<(StatusCode, Value)> {
        self.exchange(Method::PUT, path, body.into()).await
    }

    /// Posts something to a path that answers with lines of JSON, and waits for all of them.
    pub async fn post_lines(&self, path: &str, body: &Value) -> Result<Vec<Value>> {
        let mut lines = self.client.lines_of_order(path, body).await?;
        let mut found = Vec::new();
        while let Some(some) = lines.next().await? {
            for line in some {
                found.push(serde_json::from_slice(&line)?);
            }
        }
        Ok(found)
    }

    async fn call(&self, method: Method, path: &str, body: &Value) -> Result<(StatusCode, Value)> {
        self.exchange(method, path, Bytes::from(body.to_string())).await
    }

    async fn exchange(&self, method: Method, path: &str, body: Bytes) -> Result<(StatusCode, Value)> {
        let ask = Ask::new(method, path, body).waiting(PATIENCE);
        let (status, bytes) = self.client.exchange(ask).await?;
        Ok((status, serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
    }
}
