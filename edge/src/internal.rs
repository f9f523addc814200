//! What Berth itself wants of an instance: that it is started, or a request to it. Goes the same way as requests of clients,
//! on the shard of the object.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use berth_common::ids::ObjectKey;
use berth_common::spec::ClassSpec;
use berth_engine::WaiterId;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use tokio::sync::oneshot;

use crate::error::ProxyError;
use crate::http::exchange::exchange;
use crate::proxy::{Place, Proxy, answer_with};

/// Most of an answer's body that is read, in bytes: nobody looks at it, but an app should be able to end it.
const MAX_BODY_BYTES: usize = 1 << 20;
/// Largest buffer for what is read, and so largest head of an answer.
const BUFFER_BYTES: usize = 64 * 1024;

/// Something that Berth itself wants.
pub(crate) struct InternalCall {
    pub(crate) key: ObjectKey,
    pub(crate) class: Arc<ClassSpec>,
    pub(crate) port: Option<u16>,
    /// None only starts the instance.
    pub(crate) request: Option<Request<Full<Bytes>>>,
    /// The status of the answer, where there was a request.
    pub(crate) answer: oneshot::Sender<Result<Option<StatusCode>, ProxyError>>,
}

impl Proxy {
    pub(crate) async fn call(&self, call: InternalCall) {
        let InternalCall { key, class, port, request, answer } = call;
        let called = async {
            let waiter = WaiterId(self.waiters.fetch_add(1, Ordering::Relaxed));
            let deadline = class.start_timeout;
            let hold = self.objects.acquire(waiter, key.id(), key, class).await?;
            let Some(request) = request else { return Ok(None) };
            let stream = self.open(&Place::of(hold.placement(), port, deadline)?).await?;
            // Whatever becomes of the body, the answer is the status.
            let take = async |response: Response<Incoming>| {
                let status = response.status();
                drop(Limited::new(response.into_body(), MAX_BODY_BYTES).collect().await);
                status
            };
            let status = exchange(stream, BUFFER_BYTES, request, take).await;
            status.map(Some).map_err(ProxyError::Upstream)
        };
        answer_with(answer, called).await;
    }
}
