//! A request's way: route, object, hold, connection, exchange. Everything that a client may wait for is here, in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use berth_common::ids::{InstanceId, NodeId, ObjectId, ObjectKey};
use berth_common::lifecycle::Lifecycle;
use berth_common::spec::ClassSpec;
use berth_common::wire::call::{Answer, Call, Signal};
use berth_common::wire::tunnel::TunnelHeader;
use berth_engine::{Placement, WaiterId};
use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::Instant;

use crate::error::ProxyError;
use crate::http::body::{InstanceBody, ResponseBody};
use crate::http::headers::{self, BadRequest};
pub(crate) use crate::internal::InternalCall;
use crate::link::{Links, call};
use crate::logs::{self, Reading};
use crate::metrics::{Arrival, InFlight, Metrics};
use crate::objects::{Hold, Mailbox};
use crate::pool::{Pool, Target};
use crate::router::{CurrentRouter, Matched, RouteError};
use crate::tunnel::{self, OpenError, TunnelStream};
use crate::upstream::{SendError, Upstream};
use crate::usage::{self, live::Told};
use crate::websocket::{self, Tunnelled};

type Reply = Result<Response<ResponseBody>, ProxyError>;

/// Longest wait for a node that a signal is to go to.
const SIGNAL_TIMEOUT: Duration = Duration::from_secs(5);

/// A request on its way.
pub(crate) struct Job {
    request: Request<Incoming>,
    peer: SocketAddr,
    matched: Matched,
    object: ObjectId,
    in_flight: Option<InFlight>,
}

/// Work for an object of another shard, or from the admin API.
pub(crate) enum Handover {
    /// A request that came in at another shard than its object's.
    Request { job: Box<Job>, answer: oneshot::Sender<Reply> },
    /// Bytes to and from a port.
    Connect(Box<Connect>),
    /// What Berth itself wants.
    Internal(Box<InternalCall>),
    /// A signal to an instance.
    Signal { node: NodeId, signal: Signal, answer: oneshot::Sender<Result<(), ProxyError>> },
    /// What an instance has taken; nothing where its node does not tell.
    Usage { node: NodeId, instance: InstanceId, answer: oneshot::Sender<Option<Told>> },
    /// What instances have written.
    Logs(Box<Reading>),
}

/// Somebody who wants to exchange bytes with a port of an object's instance.
pub(crate) struct Connect {
    pub(crate) key: ObjectKey,
    pub(crate) class: Arc<ClassSpec>,
    pub(crate) port: Option<u16>,
    /// Their side, which comes once they are told that the port is reached.
    pub(crate) client: OnUpgrade,
    pub(crate) answer: oneshot::Sender<Result<(), ProxyError>>,
    /// Their place among those whom the admin API has room for.
    pub(crate) permit: OwnedSemaphorePermit,
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
    pub(crate) metrics: Arc<Metrics>,
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
        let mut arrival = self.metrics.shard(self.shard).arrival();
        let answer = self.route(request, peer, &mut arrival).await;
        let response = answer.unwrap_or_else(|error| {
            tracing::debug!(path, %error, "request without an answer from an instance");
            arrival.refused(&error);
            error.response()
        });
        arrival.answered(response.status());
        tracing::debug!(path, status = response.status().as_u16(), "request");
        response
    }

    async fn route(&self, request: Request<Incoming>, peer: SocketAddr, arrival: &mut Arrival<'_>) -> Reply {
        let router = self.router.get();
        if let Some(found) = router.asset(&request) {
            arrival.for_file();
            return Ok(found.respond(request).await);
        }
        let matched = match router.route(&request) {
            Err(RouteError::NoRoute) => match router.otherwise(&request) {
                Some(found) => {
                    arrival.for_file();
                    return Ok(found.respond(request).await);
                }
                None => return Err(RouteError::NoRoute.into()),
            },
            matched => matched?,
        };
        let object = matched.key.id();
        let in_flight = router.counts(matched.route, self.shard).map(|counts| arrival.for_class(counts));
        let job = Job { request, peer, matched, object, in_flight };
        match shard_of(object, self.shards.len()) {
            here if here == self.shard => self.serve(job).await,
            elsewhere => self.hand_over(job, elsewhere).await,
        }
    }

    async fn serve(&self, job: Job) -> Reply {
        let Job { mut request, peer, matched, object, in_flight } = job;
        let upgrade = headers::wanted_upgrade(&request);
        let websocket =
            upgrade.as_ref().map(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"));
        headers::prepare_request(&mut request, peer, upgrade)?;
        let client = websocket.map(|_| hyper::upgrade::on(&mut request));

        let waiter = WaiterId(self.waiters.fetch_add(1, Ordering::Relaxed));
        let Matched { key, class, port, path, burden, .. } = matched;
        if let Some(path) = path {
            set_path(&mut request, &path)?;
        }
        let deadline = class.start_timeout;
        let mut hold = self.objects.acquire(waiter, object, key, class).await?;
        hold.count(in_flight);
        let place = Place::of(hold.placement(), port, deadline)?;
        let (mut response, upstream) = self.exchange(&place, request).await?;
        if let Some(burden) = burden {
            burden.answered();
            hold.carry(burden);
        }

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
        let stream = self.open(place).await?;
        Upstream::over(stream, place.target()).await.map_err(ProxyError::Upstream)
    }

    pub(crate) async fn open(&self, place: &Place<'_>) -> Result<TunnelStream, ProxyError> {
        let Placement { node, instance, generation, .. } = place.placement;
        let unreachable = || ProxyError::NodeUnreachable(node.clone());
        let link = self.links.get(node).ok_or_else(unreachable)?;
        let header = TunnelHeader { instance: *instance, generation: *generation, port: place.port };
        loop {
            let connection = link.connected(place.deadline).await.ok_or_else(unreachable)?;
            match tunnel::open(&connection, header).await {
                Ok(stream) => return Ok(stream),
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
        mut hold: Hold,
    ) -> Reply {
        let (stream, early) = upstream.into_stream().await.ok_or(ProxyError::Upgrade)?;
        let open = hold.count(None).filter(|_| websocket).map(InFlight::into_websocket);
        let tunnelled = Tunnelled::of(stream, early, websocket, hold);
        self.lifecycle.spawn(async move {
            websocket::carry(client, tunnelled).await;
            drop(open);
        });
        Ok(response.map(|_| ResponseBody::empty()))
    }

    async fn hand_over(&self, job: Job, shard: usize) -> Reply {
        let (answer, answered) = oneshot::channel();
        let handover = Handover::Request { job: Box::new(job), answer };
        self.shards[shard].send(handover).await.map_err(|_| ProxyError::Stopping)?;
        answered.await.unwrap_or(Err(ProxyError::Stopping))
    }

    /// Takes the work that others hand over, until the edge stops.
    pub(crate) async fn take_over(self: Arc<Self>, mut handovers: mpsc::Receiver<Handover>) {
        while let Some(handover) = handovers.recv().await {
            let proxy = Arc::clone(&self);
            match handover {
                Handover::Request { job, answer } => {
                    self.lifecycle.spawn(async move { answer_with(answer, proxy.serve(*job)).await });
                }
                Handover::Connect(connect) => {
                    self.lifecycle.spawn(async move { proxy.carry_bytes(*connect).await });
                }
                Handover::Internal(call) => {
                    self.lifecycle.spawn(async move { proxy.call(*call).await });
                }
                Handover::Logs(reading) => {
                    let drain = self.lifecycle.drain().clone();
                    // Who follows does so for as long as the edge lives, and does not keep it alive.
                    self.lifecycle.spawn(async move {
                        tokio::select! {
                            () = logs::read(&proxy.links, *reading) => {}
                            () = drain.cancelled() => {}
                        }
                    });
                }
                Handover::Signal { node, signal, answer } => {
                    self.lifecycle
                        .spawn(async move { answer_with(answer, proxy.signal(&node, signal)).await });
                }
                Handover::Usage { node, instance, answer } => self.lifecycle.spawn(async move {
                    answer_with(answer, usage::live::ask_node(&proxy.links, &node, instance)).await;
                }),
            }
        }
    }

    /// Has an instance up as a request would, and then passes bytes until both sides have ended.
    async fn carry_bytes(&self, connect: Connect) {
        let Connect { key, class, port, client, mut answer, permit: _permit } = connect;
        let waiter = WaiterId(self.waiters.fetch_add(1, Ordering::Relaxed));
        let reached = async {
            let deadline = class.start_timeout;
            let hold = self.objects.acquire(waiter, key.id(), key, class).await?;
            let stream = self.open(&Place::of(hold.placement(), port, deadline)?).await?;
            Ok(Tunnelled::of(stream, Bytes::new(), false, hold))
        };
        let reached = tokio::select! {
            reached = reached => reached,
            () = answer.closed() => return,
        };
        match reached {
            Ok(tunnelled) => {
                if answer.send(Ok(())).is_ok() {
                    websocket::carry(client, tunnelled).await;
                }
            }
            Err(error) => drop(answer.send(Err(error))),
        }
    }

    async fn signal(&self, node: &NodeId, signal: Signal) -> Result<(), ProxyError> {
        let unreachable = || ProxyError::NodeUnreachable(node.clone());
        let link = self.links.get(node).ok_or_else(unreachable)?;
        let deadline = Instant::now() + SIGNAL_TIMEOUT;
        let connection = link.connected(deadline).await.ok_or_else(unreachable)?;
        match call::ask(&connection, &Call::Signal(signal)).await {
            Ok(Answer::Done) => Ok(()),
            Ok(Answer::Refused(refusal)) => Err(ProxyError::Signal(refusal.to_string())),
            Ok(_) => Err(ProxyError::Signal("the agent gave another answer than was asked for".to_owned())),
            Err(error) => Err(ProxyError::Signal(error.to_string())),
        }
    }
}

/// Answers with what the work gives, which is given up when nobody waits for it any more.
pub(crate) async fn answer_with<T>(mut answer: oneshot::Sender<T>, work: impl Future<Output = T>) {
    let done = tokio::select! {
        done = work => done,
        () = answer.closed() => return,
    };
    // What nobody takes any more is dropped, and a hold with it.
    drop(answer.send(done));
}

/// Puts another path in the place of the request's own; the query stays.
fn set_path<B>(request: &mut Request<B>, path: &str) -> Result<(), ProxyError> {
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut parts = request.uri().clone().into_parts();
    let rewritten = format!("{path}{query}").parse().map_err(|_| BadRequest::Target)?;
    parts.path_and_query = Some(rewritten);
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| BadRequest::Target)?;
    Ok(())
}

/// A port of a held instance, and until when it must be reached.
pub(crate) struct Place<'a> {
    placement: &'a Placement,
    port: u16,
    deadline: Instant,
}

impl<'a> Place<'a> {
    pub(crate) fn of(
        placement: &'a Placement,
        port: Option<u16>,
        wait: Duration,
    ) -> Result<Self, ProxyError> {
        let port = port.or(placement.default_port).ok_or(ProxyError::NoPort)?;
        Ok(Self { placement, port, deadline: Instant::now() + wait })
    }

    fn target(&self) -> Target {
        Target { instance: self.placement.instance, port: self.port }
    }

    fn unreached(&self, error: OpenError) -> ProxyError {
        ProxyError::Tunnel { port: self.port, error }
    }
}
