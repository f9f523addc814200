//! Calls by Berth itself: the start of an instance, or a request to it. They run like requests of clients, on the shard
//! of the object.

use std::sync::Arc;

use berth_common::ids::ObjectKey;
use berth_common::spec::ClassSpec;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;

use crate::http::exchange::exchange;
use crate::proxy::error::ProxyError;
use crate::proxy::{Proxy, UpstreamTarget};
use crate::shard::streams::AppKey;

/// Most bytes of a response body that are read: it is ignored, but the app should be able to finish it.
const MAX_BODY_BYTES: usize = 1 << 20;
/// Largest read buffer, and so the largest head of a response.
const BUFFER_BYTES: usize = 64 * 1024;

/// A call by Berth itself.
pub(super) struct InternalCall {
    pub(super) key: ObjectKey,
    pub(super) class: Arc<ClassSpec>,
    pub(super) port: Option<u16>,
    /// None only starts the instance.
    pub(super) request: Option<Request<Full<Bytes>>>,
}

impl InternalCall {
    /// Carries it out, and returns the status of the response, if there was a request.
    pub(super) async fn carry_out(self, proxy: &Proxy) -> Result<Option<StatusCode>, ProxyError> {
        let Self { key, class, port, request } = self;
        let (app, deadline) = (AppKey::of(&key.app), class.start_timeout);
        let hold = proxy.acquire(key.id(), key, class, None).await?;
        let Some(request) = request else { return Ok(None) };
        let stream = proxy.open(&UpstreamTarget::of(hold.placement(), app, port, deadline)?).await?;
        // Only the status counts, even if the body fails.
        let take = async |response: Response<Incoming>| {
            let status = response.status();
            drop(Limited::new(response.into_body(), MAX_BODY_BYTES).collect().await);
            status
        };
        let status = exchange(stream, BUFFER_BYTES, request, take).await;
        status.map(Some).map_err(ProxyError::Upstream)
    }
}
