//! What Berth itself wants of an instance: that it is started, or a request to it. Goes the same way as requests of clients,
//! on the shard of the object.

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

/// Most of an answer's body that is read, in bytes: nobody looks at it, but an app should be able to end it.
const MAX_BODY_BYTES: usize = 1 << 20;
/// Largest buffer for what is read, and so largest head of an answer.
const BUFFER_BYTES: usize = 64 * 1024;

/// Something that Berth itself wants.
pub(super) struct InternalCall {
    pub(super) key: ObjectKey,
    pub(super) class: Arc<ClassSpec>,
    pub(super) port: Option<u16>,
    /// None only starts the instance.
    pub(super) request: Option<Request<Full<Bytes>>>,
}

impl InternalCall {
    /// Carries it out, and gives the status of the answer, where there was a request.
    pub(super) async fn carry_out(self, proxy: &Proxy) -> Result<Option<StatusCode>, ProxyError> {
        let Self { key, class, port, request } = self;
        let deadline = class.start_timeout;
        let hold = proxy.acquire(key.id(), key, class).await?;
        let Some(request) = request else { return Ok(None) };
        let stream = proxy.open(&UpstreamTarget::of(hold.placement(), port, deadline)?).await?;
        // Whatever becomes of the body, the answer is the status.
        let take = async |response: Response<Incoming>| {
            let status = response.status();
            drop(Limited::new(response.into_body(), MAX_BODY_BYTES).collect().await);
            status
        };
        let status = exchange(stream, BUFFER_BYTES, request, take).await;
        status.map(Some).map_err(ProxyError::Upstream)
    }
}
