//! Drives a server through the steps of a case, and returns what came of each.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::case::{Ask, Single, Step};
use super::socket;

/// How long an answer may take: longer than any retry that a case waits for.
const PATIENCE: Duration = Duration::from_secs(40);
/// Headers that each hop decides for itself, or that tell time and place.
const OF_HOPS: [&str; 9] = [
    "connection",
    "content-length",
    "date",
    "keep-alive",
    "sec-websocket-accept",
    "server",
    "transfer-encoding",
    "upgrade",
    "via",
];
/// Headers of the one who runs it.
const OF_THE_RUNNER: &str = "cf-";

/// Stands in headers for where our own server is.
const ORIGIN: &str = "{origin}";

/// A server as the steps of one case see it.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where it listens.
    pub address: SocketAddr,
    /// The host that requests name.
    pub host: String,
    /// Where programs find a server of ours: headers have it in place of `{origin}`.
    pub origin: String,
}

/// Carries out steps between two restarts.
pub async fn drive(target: &Target, steps: &[Step]) -> Result<Vec<Value>> {
    let mut outcomes = Vec::new();
    for step in steps {
        match step {
            Step::Ask(ask) => outcomes.push(exchange(target, ask).await),
            Step::Socket(step) => outcomes.push(socket::talk(target, step).await),
            Step::Together { together } => {
                outcomes.extend(join_all(together.iter().map(|step| single(target, step))).await);
            }
            Step::Wait { wait_ms } => tokio::time::sleep(Duration::from_millis(*wait_ms)).await,
            Step::Restart { .. } => {}
        }
    }
    Ok(outcomes)
}

async fn single(target: &Target, step: &Single) -> Value {
    match step {
        Single::Ask(ask) => exchange(target, ask).await,
        Single::Socket(step) => socket::talk(target, step).await,
    }
}

/// A request and what came of it.
async fn exchange(target: &Target, ask: &Ask) -> Value {
    let patience = ask.leave_after_ms.map_or(PATIENCE, Duration::from_millis);
    let outcome = match timeout(patience, answer(target, ask)).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => json!({"failed": "the connection broke"}),
        Err(_) if ask.leave_after_ms.is_some() => json!({"left": true}),
        Err(_) => json!({"failed": "no answer"}),
    };
    titled(ask.title(), outcome)
}

/// The outcome of the step of this name.
pub(super) fn titled(title: String, outcome: Value) -> Value {
    let Value::Object(mut outcome) = outcome else { return outcome };
    outcome.insert("step".to_owned(), title.into());
    Value::Object(outcome)
}

async fn answer(target: &Target, ask: &Ask) -> Result<Value> {
    let method = ask.method.as_deref().unwrap_or("GET");
    let mut request = Request::builder().method(method).uri(&ask.ask).header(HOST, &target.host);
    for (name, value) in &ask.headers {
        request = request.header(name, value.replace(ORIGIN, &target.origin));
    }
    let body = Full::new(Bytes::from(ask.body.clone().unwrap_or_default()));
    let (head, body) = send(target.address, request.body(body)?).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(
        json!({"status": head.status.as_u16(), "headers": headers(&head.headers), "body": shown(&head.headers, &body)}),
    )
}

/// Sends a request over a connection of its own.
pub async fn send(address: SocketAddr, request: Request<Full<Bytes>>) -> Result<Response<Incoming>> {
    let stream = TcpStream::connect(address).await.context("connect")?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}

/// Headers as they are compared: by name, and several values of one as a list.
pub(super) fn headers(all: &HeaderMap) -> Value {
    let mut found: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for (name, value) in all {
        let name = name.as_str();
        if !OF_HOPS.contains(&name) && !name.starts_with(OF_THE_RUNNER) {
            found.entry(name).or_default().push(String::from_utf8_lossy(value.as_bytes()).into());
        }
    }
    let single = |mut values: Vec<Value>| if values.len() == 1 { values.remove(0) } else { values.into() };
    found.into_iter().map(|(name, values)| (name.to_owned(), single(values))).collect::<Map<_, _>>().into()
}

/// A body as it is compared: its value where it is JSON, otherwise its text.
pub(super) fn shown(headers: &HeaderMap, body: &[u8]) -> Value {
    let is_json =
        headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    let value = is_json.then(|| serde_json::from_slice(body).ok()).flatten();
    value.unwrap_or_else(|| String::from_utf8_lossy(body).into())
}
