//! Raw bytes to and from a port of an object's instance, for a client that is connected in another way (admin API).

use std::sync::Arc;

use berth_common::ids::ObjectKey;
use berth_common::spec::ClassSpec;
use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::error::ProxyError;
use super::websocket::{self, Tunnelled};
use super::{Proxy, UpstreamTarget};
use crate::shard::streams::AppKey;

/// A request to exchange bytes with a port of an object's instance.
pub(crate) struct Connect {
    pub(crate) key: ObjectKey,
    pub(crate) class: Arc<ClassSpec>,
    pub(crate) port: Option<u16>,
    /// The client's side, available once it was told that the port is reached.
    pub(crate) client: OnUpgrade,
    /// Whether what the instance sends goes to the client in parts, with an end of their own.
    pub(crate) in_parts: bool,
    pub(crate) answer: oneshot::Sender<Result<(), ProxyError>>,
    /// One of the admin API's permits for watchers.
    pub(crate) permit: OwnedSemaphorePermit,
}

impl Proxy {
    /// Acquires an instance as a request would, then passes bytes until both sides have ended. Runs on the object's
    /// shard.
    pub(crate) async fn carry_bytes(&self, connect: Connect) {
        let Connect { key, class, port, client, in_parts, mut answer, permit: _permit } = connect;
        let reached = async {
            let (app, deadline) = (AppKey::of(&key.app), class.start_timeout);
            let hold = self.acquire(key.id(), key, class, None).await?;
            let stream = self.open(&UpstreamTarget::of(hold.placement(), app, port, deadline)?).await?;
            Ok(Tunnelled::of(stream, Bytes::new(), false, hold, None))
        };
        let reached = tokio::select! {
            reached = reached => reached,
            () = answer.closed() => return,
        };
        match reached {
            Ok(tunnelled) => {
                if answer.send(Ok(())).is_ok() {
                    websocket::carry_raw(client, in_parts, tunnelled, self.lifecycle.drain()).await;
                }
            }
            Err(error) => drop(answer.send(Err(error))),
        }
    }
}
