//! A client of an edge's admin API: HTTP/1.1 on a Unix socket, or over TLS with a token.
//!
//! One connection per request; [`Connection`] keeps one for many. A refusal of the edge is a [`ClientError::Refused`]
//! with its reason. No request is repeated: that is up to the caller.

#![warn(missing_docs)]

mod connection;
mod endpoint;
mod error;
mod events;
mod lines;
mod raw;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use berth_common::ids::{AppName, ObjectId, Version};
use berth_common::spec::AppSpec;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::upgrade::Upgraded;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use self::endpoint::{Endpoint, Network};
use crate::apps::{DeployParameters, Deployed, Rollback};
use crate::containers::{CONNECT_PARTS, CONNECT_PROTOCOL, StartOrder, Verb};
use crate::edge::{Health, NodeList};

pub use self::connection::{Answer, Connection, UploadBody};
pub use self::endpoint::{Address, AddressError, Authority, AuthorityError};
pub use self::error::{ClientError, Refusal};
pub use self::events::Events;
pub use self::lines::Lines;
pub use self::raw::RawConnection;

/// How long a response may take: a deployment is written to disk first.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the start of a container may take: a class may have requests wait an hour for the container, and another
/// hour for its port.
const START_TIMEOUT: Duration = Duration::from_secs(2 * 60 * 60 + 60);
/// Largest response body, in bytes: a list of a million objects.
const MAX_ANSWER_BYTES: usize = 512 << 20;
/// Characters that need no encoding in a segment of a path or a query.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'~');

/// Percent-encodes a text for use as one segment of a path or a query.
pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, PLAIN).to_string()
}

/// A client of one edge.
#[derive(Debug, Clone)]
pub struct Client {
    endpoint: Endpoint,
}

/// One request.
pub struct Ask<'a> {
    method: Method,
    path: &'a str,
    body: Bytes,
    /// The version of the app that must be current (`If-Match`).
    expect: Option<Version>,
    /// How long the response may take.
    limit: Duration,
}

impl<'a> Ask<'a> {
    /// A request with this body and the usual timeout.
    pub fn new(method: Method, path: &'a str, body: impl Into<Bytes>) -> Self {
        Self { method, path, body: body.into(), expect: None, limit: ANSWER_TIMEOUT }
    }

    /// The same request, carried out only while this version of the app is current.
    #[must_use]
    pub fn expecting(self, expect: Option<Version>) -> Self {
        Self { expect, ..self }
    }

    /// The same request, with this added to its timeout.
    #[must_use]
    pub fn waiting(self, longer: Duration) -> Self {
        Self { limit: self.limit.saturating_add(longer), ..self }
    }
}

/// Shows the address, without the token.
impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.endpoint.fmt(f)
    }
}

impl Client {
    /// A client of the edge that listens on this socket.
    pub fn at(socket: impl Into<PathBuf>) -> Self {
        Self { endpoint: Endpoint::Socket(socket.into()) }
    }

    /// A client of the edge at this address, authenticated by this token.
    pub fn at_address(address: Address, authority: Authority, token: String) -> Self {
        Self { endpoint: Endpoint::Network(Arc::new(Network { address, authority, token })) }
    }

    /// The host of an edge on the network; `None` for one that is reached by its socket.
    pub fn host(&self) -> Option<&str> {
        self.endpoint.host()
    }

    /// Checks that the edge responds.
    pub async fn health(&self) -> Result<Health, ClientError> {
        self.get("/v1/health").await
    }

    /// Lists the edge's nodes.
    pub async fn nodes(&self) -> Result<NodeList, ClientError> {
        self.get("/v1/nodes").await
    }

    /// Deploys a version of an app; it is durable when this returns. With `expect`, only while that version is current.
    pub async fn deploy(
        &self,
        spec: &AppSpec,
        how: &DeployParameters,
        expect: Option<Version>,
    ) -> Result<Deployed, ClientError> {
        // Names are made of letters, digits, `-`, `_` and `.`, so they need no encoding.
        let path = format!("/v1/apps/{}?{}", spec.name, how.query());
        let ask = Ask::new(Method::PUT, &path, serde_json::to_vec(spec)?);
        self.call(ask.expecting(expect).waiting(how.prefetch_timeout())).await
    }

    /// Makes an earlier version of an app current; that is durable when this returns.
    pub async fn roll_back(
        &self,
        app: &AppName,
        rollback: &Rollback,
        expect: Option<Version>,
    ) -> Result<Deployed, ClientError> {
        let path = format!("/v1/apps/{app}/rollback");
        let ask = Ask::new(Method::POST, &path, serde_json::to_vec(rollback)?);
        self.call(ask.expecting(expect)).await
    }

    /// Starts the container of an object, and waits until it accepts requests.
    pub async fn start<T: DeserializeOwned>(&self, order: &StartOrder) -> Result<T, ClientError> {
        let ask = Ask::new(Method::POST, "/v1/containers", serde_json::to_vec(order)?);
        self.call(Ask { limit: START_TIMEOUT, ..ask }).await
    }

    /// Sends an order for an object, and returns the object afterwards.
    pub async fn order<T: DeserializeOwned>(
        &self,
        verb: Verb,
        object: ObjectId,
        order: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.post(&verb.path(object), order).await
    }

    /// Gets a resource as this type, or unparsed as [`Value`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call(Ask::new(Method::GET, path, Bytes::new())).await
    }

    /// Gets a resource as bytes.
    pub async fn bytes(&self, path: &str) -> Result<Bytes, ClientError> {
        self.answer(Ask::new(Method::GET, path, Bytes::new())).await
    }

    /// Sends a POST request, and reads the response.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.call(Ask::new(Method::POST, path, serde_json::to_vec(body)?)).await
    }

    /// Sends a POST request whose response has no body.
    pub async fn post_nothing(&self, path: &str) -> Result<(), ClientError> {
        self.answer(Ask::new(Method::POST, path, Bytes::new())).await.map(drop)
    }

    /// Puts a JSON value, and reads the response.
    pub async fn put_json<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.call(Ask::new(Method::PUT, path, serde_json::to_vec(body)?)).await
    }

    /// Puts bytes.
    pub async fn put(&self, path: &str, body: Vec<u8>) -> Result<(), ClientError> {
        self.answer(Ask::new(Method::PUT, path, body)).await.map(drop)
    }

    /// Deletes a resource.
    pub async fn delete(&self, path: &str) -> Result<(), ClientError> {
        self.answer(Ask::new(Method::DELETE, path, Bytes::new())).await.map(drop)
    }

    /// Collects a field of all pages of a list. The path must have a query already.
    pub async fn pages(&self, path: &str, field: &str) -> Result<Vec<Value>, ClientError> {
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let mut page: Value = self.get(&format!("{path}{cursor}")).await?;
            let Value::Array(items) = page[field].take() else {
                return Err(ClientError::NoList { path: path.to_owned(), field: field.to_owned() });
            };
            found.extend(items);
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={}", encode(next)),
                None => return Ok(found),
            }
        }
    }

    /// Opens a raw connection to a port of an object's container, which is started if it sleeps.
    pub async fn connect(
        &self,
        object: ObjectId,
        port: Option<u16>,
    ) -> Result<RawConnection<TokioIo<Upgraded>>, ClientError> {
        let query = port.map(|port| format!("?port={port}")).unwrap_or_default();
        let path = format!("/v1/containers/{object}/connect{query}");
        let stream = self.endpoint.connect().await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // The task carries the bytes after the upgrade, and ends with them.
        tokio::spawn(connection.with_upgrades());
        let request = self.endpoint.request(Method::GET, &path);
        let request = request.header("connection", "upgrade").header("upgrade", CONNECT_PROTOCOL);
        let request = request.header(CONNECT_PARTS, "1");
        let answer =
            tokio::time::timeout(START_TIMEOUT, sender.send_request(request.body(Full::new(Bytes::new()))?));
        let answer = answer.await.map_err(ClientError::PortTimedOut)??;
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            let in_parts = answer.headers().contains_key(CONNECT_PARTS);
            return Ok(RawConnection::new(TokioIo::new(hyper::upgrade::on(answer).await?), in_parts));
        }
        let (status, bytes) = read_response(answer).await?;
        Err(ClientError::Refused(Refusal::of(status, &bytes)))
    }

    /// Sends a request, and returns the response whatever its status is.
    pub async fn exchange(&self, ask: Ask<'_>) -> Result<(StatusCode, Bytes), ClientError> {
        let (what, limit) = (self.what(&ask), ask.limit);
        let answer = tokio::time::timeout(limit, self.exchange_once(ask)).await;
        answer.map_err(|source| ClientError::TimedOut { what, limit, source })?
    }

    fn what(&self, ask: &Ask<'_>) -> String {
        format!("{} {} at {}", ask.method, ask.path, self.endpoint)
    }

    async fn call<T: DeserializeOwned>(&self, ask: Ask<'_>) -> Result<T, ClientError> {
        let what = self.what(&ask);
        let bytes = self.answer(ask).await?;
        serde_json::from_slice(&bytes).map_err(|source| ClientError::Unexpected { what, source })
    }

    async fn answer(&self, ask: Ask<'_>) -> Result<Bytes, ClientError> {
        let what = self.what(&ask);
        let (status, bytes) = self.exchange(ask).await?;
        if status.is_success() {
            return Ok(bytes);
        }
        Err(ClientError::Refused(Refusal::of(status, &bytes).to(what)))
    }

    async fn exchange_once(&self, ask: Ask<'_>) -> Result<(StatusCode, Bytes), ClientError> {
        let stream = self.endpoint.connect().await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let mut request = self.endpoint.request(ask.method, ask.path);
        if let Some(version) = ask.expect {
            request = request.header("if-match", format!("\"{version}\""));
        }
        let request = request.body(Full::new(ask.body))?;
        // The connection ends once the sender is dropped, so both can simply be awaited.
        let answer = async move { read_response(sender.send_request(request).await?).await };
        let (answer, _) = tokio::join!(answer, connection);
        answer
    }
}

async fn read_response(response: Response<Incoming>) -> Result<(StatusCode, Bytes), ClientError> {
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
    let body = body.map_err(|error| ClientError::BrokeOff(error.to_string()))?;
    Ok((status, body.to_bytes()))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;
    use std::path::Path;
    use std::thread::JoinHandle;

    use super::*;

    /// Serves one request with this response, and returns what was received.
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
    async fn a_response_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let body = r#"{"nodes":[]}"#;
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let served = serve(&socket, Box::leak(answer.into_boxed_str()));
        assert_eq!(Client::at(&socket).nodes().await.unwrap().nodes.len(), 0);
        assert!(served.join().unwrap().starts_with("GET /v1/nodes HTTP/1.1\r\n"));
    }

    #[tokio::test]
    async fn a_refusal_has_the_reason_of_the_edge() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let answer = "HTTP/1.1 422 X\r\nconnection: close\r\n\r\n{\"title\":\"no\",\"detail\":\"not so\",\"status\":422}";
        let served = serve(&socket, answer);
        let error = Client::at(&socket).nodes().await.unwrap_err();
        assert!(error.is_bad_input() && error.to_string().starts_with("no: not so"), "{error}");
        served.join().unwrap();
    }

    #[tokio::test]
    async fn without_an_edge_the_error_gives_advice() {
        let error = Client::at("/nowhere/admin.sock").health().await.unwrap_err().to_string();
        assert!(error.contains("/nowhere/admin.sock") && error.contains("berth dev"), "{error}");
    }

    #[test]
    fn texts_are_encoded_as_one_path_segment() {
        assert_eq!(encode("a/b c?ä.%"), "a%2Fb%20c%3F%C3%A4%2E%25");
    }
}
