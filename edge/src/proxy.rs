//! A request's way: route, object, hold, connection, exchange. Everything that a client may wait for is here, in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use berth_common::ids::ObjectId;
use berth_common::lifecycle::Lifecycle;
use berth_common::wire::tunnel::TunnelHeader;
use berth_engine::{Placement, WaiterId};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::error::ProxyError;
use crate::http::body::{InstanceBody, ResponseBody};
use crate::http::headers;
use crate::link::Links;
use crate::objects::{Hold, Mailbox};
use crate::pool::{Pool, Target};
use crate::router::{CurrentRouter, Matched};
use crate::tunnel::{self, OpenError};
use crate::upstream::{SendError, Upstream};
use crate::websocket::{self, Tunnelled};

type Answer = Result<Response<ResponseBody>, ProxyError>;

/// A request on its way.
pub(crate) struct Job {
    request: Request<Incoming>,
    peer: SocketAddr,
    matched: Matched,
    object: ObjectId,
}

/// A request that came in at another shard than its object's.
pub(crate) struct Handover {
    job: Job,
    answer: oneshot::Sender<Answer>,
}

/// The proxy of one shard.
pub(crate) struct Proxy {
    pub(crate) shard: usize,
    pub(crate) router: Arc<CurrentRouter>,
    /// Where each shard takes requests for its objects.
    pub(crate) shards: Arc<[mpsc::Sender<Handover>]>,
    pub(crate) objects: Mailbox,
    pub(crate) waiters: AtomicU64,
    pub(crate) links: Arc<Links>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) lifecycle: Lifecycle,
}

/// The shard of an object.
pub(crate) fn shard_of(object: ObjectId, shards: usize) -> usize {
    // The id is a hash already.
    let [a, b, c, d, ..] = *object.as_bytes();
    u32::from_be_bytes([a, b, c, d]) as usize % shards
}

impl Proxy {
    /// Answers a request, whatever becomes of it.
    pub(crate) async fn respond(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
    ) -> Response<ResponseBody> {
        let path = tracing::enabled!(tracing::Level::DEBUG).then(|| request.uri().path().to_owned());
        let answer = self.route(request, peer).await;
        let response = answer.unwrap_or_else(|error| {
            tracing::debug!(path, %error, "request without an answer from an instance");
            error.response()
        });
        tracing::debug!(path, status = response.status().as_u16(), "request");
        response
    }

    async fn route(&self, request: Request<Incoming>, peer: SocketAddr) -> Answer {
        let matched = self.router.get().route(&request)?;
        let object = matched.key.id();
        let job = Job { request, peer, matched, object };
        match shard_of(object, self.shards.len()) {
            here if here == self.shard => self.serve(job).await,
            elsewhere => self.hand_over(job, elsewhere).await,
        }
    }

    async fn serve(&self, job: Job) -> Answer {
        let Job { mut request, peer, matched, object } = job;
        let upgrade = headers::wanted_upgrade(&request);
        let websocket =
            upgrade.as_ref().map(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"));
        headers::prepare_request(&mut request, peer, upgrade)?;
        let client = websocket.map(|_| hyper::upgrade::on(&mut request));

        let waiter = WaiterId(self.waiters.fetch_add(1, Ordering::Relaxed));
        let Matched { key, class, port } = matched;
        let deadline = class.start_timeout;
        let hold = self.objects.acquire(waiter, object, key, class).await?;
        let place = Place { placement: hold.placement(), port, deadline: Instant::now() + deadline };
        let (mut response, upstream) = self.exchange(&place, request).await?;

        headers::prepare_response(&mut response);
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let (client, websocket) = client.zip(websocket).ok_or(ProxyError::Upgrade)?;
            return self.switch(response, client, websocket, upstream, hold).await;
        }
        let (head, body) = response.into_parts();
        let body = InstanceBody::new(body, upstream, hold, Arc::clone(&self.pool)).await;
        Ok(Response::from_parts(head, ResponseBody::Instance(Box::new(body))))
    }

    /// Sends the request over a pooled connection, or over a fresh one where none is left or the pooled one was dead
    /// before anything was sent.
    async fn exchange(
        &self,
        place: &Place<'_>,
        request: Request<Incoming>,
    ) -> Result<(Response<Incoming>, Upstream), ProxyError> {
        let unsent = match self.pool.checkout(place.target()).await {
            None => Box::new(request),
            Some(upstream) => match upstream.send(request).await {
                Err(SendError::Unsent(request)) => request,
                Err(SendError::Broken(error)) => return Err(ProxyError::Upstream(error)),
                Ok(answer) => return Ok(answer),
            },
        };
        let fresh = self.connect(place).await?;
        match fresh.send(*unsent).await {
            Ok(answer) => Ok(answer),
            Err(SendError::Broken(error)) => Err(ProxyError::Upstream(error)),
            Err(SendError::Unsent(_)) => Err(place.unreached(OpenError::Lost)),
        }
    }

    /// A fresh connection to a port of an instance. Waits, within limits, for the node to be reachable.
    async fn connect(&self, place: &Place<'_>) -> Result<Upstream, ProxyError> {
        let Placement { node, instance, generation, .. } = place.placement;
        let unreachable = || ProxyError::NodeUnreachable(node.clone());
        let link = self.links.get(node).ok_or_else(unreachable)?;
        let header = TunnelHeader { instance: *instance, generation: *generation, port: place.port };
        loop {
            let connection = link.connected(place.deadline).await.ok_or_else(unreachable)?;
            match tunnel::open(&connection, header).await {
                Ok(stream) => {
                    return Upstream::over(stream, place.target()).await.map_err(ProxyError::Upstream);
                }
                // The connection was lost, and the node with it or not: the next one tells.
                Err(OpenError::Lost) if connection.close_reason().is_some() => {}
                Err(error) => return Err(place.unreached(error)),
            }
        }
    }

    /// Passes a change of protocol on, and then bytes both ways. The hold ends here.
    async fn switch(
        &self,
        response: Response<Incoming>,
        client: OnUpgrade,
        websocket: bool,
        upstream: Upstream,
        hold: Hold,
    ) -> Answer {
        let (stream, early) = upstream.into_stream().await.ok_or(ProxyError::Upgrade)?;
        let tunnelled = Tunnelled { stream, early, websocket, activity: hold.activity() };
        self.lifecycle.spawn(websocket::carry(client, tunnelled));
        Ok(response.map(|_| ResponseBody::empty()))
    }

    async fn hand_over(&self, job: Job, shard: usize) -> Answer {
        let (answer, answered) = oneshot::channel();
        self.shards[shard].send(Handover { job, answer }).await.map_err(|_| ProxyError::Stopping)?;
        answered.await.unwrap_or(Err(ProxyError::Stopping))
    }

    /// Takes the requests that other shards hand over, until the edge stops.
    pub(crate) async fn take_over(self: Arc<Self>, mut handovers: mpsc::Receiver<Handover>) {
        while let Some(Handover { job, mut answer }) = handovers.recv().await {
            let proxy = Arc::clone(&self);
            self.lifecycle.spawn(async move {
                let served = tokio::select! {
                    served = proxy.serve(job) => served,
                    // The client has gone away.
                    () = answer.closed() => return,
                };
                // An answer that nobody takes any more is dropped, and its hold with it.
                drop(answer.send(served));
            });
        }
    }
}

/// A port of a held instance, and until when it must be reached.
struct Place<'a> {
    placement: &'a Placement,
    port: u16,
    deadline: Instant,
}

impl Place<'_> {
    fn target(&self) -> Target {
        Target { instance: self.placement.instance, port: self.port }
    }

    fn unreached(&self, error: OpenError) -> ProxyError {
        ProxyError::Tunnel { port: self.port, error }
    }
}
