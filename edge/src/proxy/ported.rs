//! A request of a program to a port of its object's container. Waits for nothing: what does not listen is told at once.

use std::io::Cursor;
use std::time::Duration;

use berth_common::ids::AppName;
use berth_common::wire::tunnel::TunnelAnswer;
use berth_engine::Placement;
use berth_script::message::ScriptError;
use berth_script::message::container::{CONNECTION_LOST, NOT_RUNNING, not_listening};
use http::header::{CONTENT_LENGTH, HOST, HeaderValue};
use http::uri::PathAndQuery;
use http::{Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use tokio::io::AsyncReadExt;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;

use super::body::{InstanceBody, ResponseBody};
use super::claim::Claim;
use super::client_body::ClientBody;
use super::error::ProxyError;
use super::upload::Upload;
use super::upstream::{RequestBody, Upstream};
use super::{Proxy, UpstreamTarget};
use crate::http::headers;
use crate::script::{Body, Upgraded};
use crate::shard::streams::AppKey;
use crate::shard::tunnel::OpenError;

/// How long a node may be away when one of its instances is asked.
const REACH: Duration = Duration::from_secs(5);

/// Where containers are, as programs are told.
const ADDRESS: &str = "10.0.0.1";

/// Has a port of an instance answer a request.
pub(super) async fn fetch(
    proxy: &Proxy,
    placement: &Placement,
    app: &AppName,
    port: u16,
    upgrade: bool,
    request: Request<Body>,
) -> Result<Response<Body>, ScriptError> {
    let key = upgrade.then(generate_key);
    let target = UpstreamTarget::of(placement, AppKey::of(app), Some(port), REACH).map_err(error)?;
    let answered = proxy.exchange(&target, prepared(request, key.as_deref())?).await;
    let (mut response, upstream) = answered.map_err(|unserved| told(&unserved.error, port))?;
    headers::prepare_response(&mut response).map_err(error)?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let agreed = key.is_some_and(|key| headers::agrees_to_socket(response.headers(), &key));
        return if agreed { switched(response, upstream).await } else { Err(error(ProxyError::Upgrade)) };
    }
    let (head, body) = response.into_parts();
    let body = InstanceBody::new(body, upstream, Claim::default(), proxy.pool.clone()).await;
    Ok(Response::from_parts(head, Body::new(ResponseBody::Instance(Box::new(body)))))
}

/// An answer after which its connection is a WebSocket.
async fn switched(response: Response<Incoming>, upstream: Upstream) -> Result<Response<Body>, ScriptError> {
    let (stream, early) = upstream.into_stream().await.ok_or_else(|| error(CONNECTION_LOST))?;
    let (read, write) = tokio::io::split(stream);
    let mut response = response.map(|_| Body::new(ResponseBody::empty()));
    response.extensions_mut().insert(Upgraded::new(tokio::io::join(Cursor::new(early).chain(read), write)));
    Ok(response)
}

fn error(text: impl ToString) -> ScriptError {
    ScriptError::new("Error", text.to_string())
}

/// The request as servers expect it; with a key, the beginning of a WebSocket.
fn prepared(mut request: Request<Body>, key: Option<&str>) -> Result<Request<RequestBody>, ScriptError> {
    let uri = std::mem::take(request.uri_mut());
    let host = uri.authority().map(|authority| HeaderValue::try_from(authority.as_str()));
    let path = uri.into_parts().path_and_query.unwrap_or(PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from(path);
    let fields = request.headers_mut();
    headers::strip_hop_by_hop(fields);
    if let Some(host) = host.transpose().map_err(error)? {
        fields.insert(HOST, host);
    }
    // The body says how long it is, if that is known.
    fields.remove(CONTENT_LENGTH);
    let mut request = request.map(|body| Upload::new(ClientBody::of_program(body)));
    headers::frame_body(&mut request);
    if let Some(key) = key {
        headers::ask_for_socket(request.headers_mut(), key).map_err(error)?;
    }
    Ok(request)
}

/// Why there is no answer, in the words that programs look for.
fn told(why: &ProxyError, port: u16) -> ScriptError {
    match why {
        ProxyError::Tunnel {
            error: OpenError::Refused(TunnelAnswer::Refused | TunnelAnswer::TimedOut),
            ..
        } => error(not_listening(ADDRESS, port)),
        ProxyError::Tunnel {
            error: OpenError::Refused(TunnelAnswer::NoInstance | TunnelAnswer::StaleGeneration),
            ..
        } => error(NOT_RUNNING),
        ProxyError::Upstream(_)
        | ProxyError::NodeUnreachable { .. }
        | ProxyError::Tunnel { error: OpenError::Lost | OpenError::TimedOut, .. } => error(CONNECTION_LOST),
        other => error(other),
    }
}
