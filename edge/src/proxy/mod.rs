//! The way of a request: route, object, hold, connection, exchange. Everything that a client may wait for is in this
//! file, in order: `listener` accepts the connection, `router` finds the object, `pool` and `upstream` have the
//! connections to instances, `body` returns the response, and `error` what is sent in place of one.
//!
//! Does not know what else runs on the objects' shards.

pub(crate) mod assets;
pub(crate) mod body;
mod claim;
mod client_body;
pub(crate) mod connect;
pub(crate) mod contained;
pub(crate) mod error;
mod interim;
pub(crate) mod lines;
pub(crate) mod listener;
pub(crate) mod load;
pub(crate) mod pool;
mod ported;
pub(crate) mod programmed;
pub(crate) mod router;
pub(crate) mod signal;
mod socket;
pub(crate) mod upload;
pub(crate) mod upstream;
mod websocket;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use berth_common::ids::{ObjectId, ObjectKey};
use berth_common::lifecycle::Lifecycle;
use berth_common::shown::shown;
use berth_common::spec::ClassSpec;
use berth_common::wire::tunnel::{TunnelAnswer, TunnelHeader};
use berth_engine::{Placement, Refused, WaiterId};
use http::header::UPGRADE;
use http::{Request, Response, StatusCode, Uri};
use http_body::Body;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use tokio::time::Instant;

use self::body::{InstanceBody, ResponseBody};
use self::claim::Claim;
use self::client_body::ClientBody;
use self::error::{Detail, Fault, ProxyError};
use self::interim::Interim;
use self::lines::Lines;
use self::load::LoadGuard;
use self::pool::Pool;
use self::router::{CurrentRouter, First, Matched, RouteError};
use self::upload::Upload;
use self::upstream::{InstancePort, RequestBody, SendError, Upstream};
use self::websocket::Tunnelled;
use crate::http::forwarded::{Client, Trust};
use crate::http::headers::{self, BadRequest};
use crate::metrics::{Arrival, InFlight, Metrics};
use crate::programs::Programs;
use crate::shard::Shards;
use crate::shard::link::Links;
use crate::shard::objects::{Hold, Mailbox};
use crate::shard::streams::AppKey;
use crate::shard::tunnel::{OpenError, TunnelStream};
use crate::start_rate::Asker;

/// How long after a request found an instance gone its end may take to be known. Where nothing listens although it runs,
/// that is how long the answer takes.
const END_LIMIT: Duration = Duration::from_secs(3);
/// How soon a paused instance is tried again.
const LAPSED_RETRY: Duration = Duration::from_millis(100);
/// How soon is looked whether it is, and then after pauses twice as long, up to the second: an app whose port is closed makes
/// each request wait for this.
const END_POLLS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));

type Reply = Result<Response<ResponseBody>, ProxyError>;

/// A request with its destination.
pub(crate) struct Job {
    request: Request<Incoming>,
    client: Client,
    matched: Matched,
    object: ObjectId,
    in_flight: Option<InFlight>,
    /// Takes provisional answers for the client.
    hints: Option<Interim>,
}

/// The proxy of one shard.
pub(crate) struct Proxy {
    pub(crate) shard: usize,
    /// The proxies whose word on their clients counts.
    pub(crate) trust: Arc<Trust>,
    pub(crate) router: Arc<CurrentRouter>,
    /// All shards: a request runs on the shard of its object.
    pub(crate) shards: Shards<Self>,
    pub(crate) objects: Mailbox,
    pub(crate) waiters: AtomicU64,
    pub(crate) links: Arc<Links>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) metrics: Arc<Metrics>,
    /// Clients are told all about errors.
    pub(crate) show_errors: bool,
    pub(crate) lines: Lines,
    pub(crate) programs: Arc<Programs>,
}

impl Proxy {
    /// Responds to a request, in every case.
    pub(crate) async fn respond(
        &self,
        request: Request<Incoming>,
        peer: IpAddr,
        hints: Option<Interim>,
    ) -> Response<ResponseBody> {
        let path = tracing::enabled!(tracing::Level::DEBUG).then(|| request.uri().path().to_owned());
        let mut arrival = self.metrics.shard(self.shard).arrival();
        let mut object = None;
        let answer = self.route(request, peer, hints, &mut arrival, &mut object).await;
        let response = answer.unwrap_or_else(|error| {
            arrival.refused(error.reason());
            error.response(&self.log_error(path.as_deref(), object, &error))
        });
        arrival.answered(response.status());
        tracing::debug!(path, status = response.status().as_u16(), "request");
        response
    }

    /// Logs an error, and returns how much of it its client is told.
    fn log_error(&self, path: Option<&str>, object: Option<ObjectId>, error: &ProxyError) -> Detail {
        let id = fastrand::u32(..);
        let object = object.map(tracing::field::display);
        let told = error.to_string();
        let told = shown(&told);
        if let ProxyError::Program { app, error } = error {
            // Its stack is the app's own business, and bounded there.
            self.programs.failed(app, id, error);
            return if self.show_errors { Detail::Full } else { Detail::Short(Some(id)) };
        }
        let logged = error.fault() != Fault::Client && self.lines.may_write(Instant::now());
        if logged {
            tracing::info!(error_id = format!("{id:08x}"), object, path, error = %told, "request not served");
        } else {
            tracing::debug!(error_id = format!("{id:08x}"), object, path, error = %told, "request not served");
        }
        if self.show_errors { Detail::Full } else { Detail::Short(logged.then_some(id)) }
    }

    async fn route(
        &self,
        request: Request<Incoming>,
        peer: IpAddr,
        hints: Option<Interim>,
        arrival: &mut Arrival<'_>,
        about: &mut Option<ObjectId>,
    ) -> Reply {
        headers::check_request(&request)?;
        let router = self.router.get();
        match router.first(&request) {
            Some(First::File(found)) => {
                arrival.for_file();
                return Ok(Box::pin(found.respond(request)).await);
            }
            Some(First::Program(app)) => {
                arrival.for_program();
                return Box::pin(self.programmed(&app, request, peer)).await;
            }
            None => {}
        }
        let matched = match router.route(&request) {
            Err(error @ (RouteError::NoRoute | RouteError::Method(_))) => {
                if let Some(app) = router.program(&request) {
                    arrival.for_program();
                    return Box::pin(self.programmed(app, request, peer)).await;
                }
                let found = router.otherwise(&request).ok_or(error)?;
                arrival.for_file();
                return Ok(Box::pin(found.respond(request)).await);
            }
            matched => matched?,
        };
        let object = matched.key.id();
        *about = Some(object);
        let in_flight = router.counts(matched.route, self.shard).map(|counts| arrival.for_class(counts));
        let client = self.trust.client(peer, request.headers());
        let job = Job { request, client, matched, object, in_flight, hints };
        match self.shards.of(object) {
            here if here == self.shard => self.serve(job).await,
            elsewhere => self.hand_over(job, elsewhere).await,
        }
    }

    async fn serve(&self, job: Job) -> Reply {
        let Job { mut request, client: from, matched, object, in_flight, hints } = job;
        let upgrade = headers::wanted_upgrade(&request);
        let client = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
        headers::prepare_request(&mut request, &from, upgrade)?;
        if let Some(hints) = hints {
            hyper::ext::on_informational(&mut request, move |hint| hints.push(hint.status(), hint.headers()));
        }

        let Matched { key, class, rates, port, path, load, .. } = matched;
        if let Some(path) = path {
            set_path(&mut request, &path)?;
        }
        let mut request = request.map(|body| Upload::new(ClientBody::new(body)));
        headers::frame_body(&mut request);
        let asker = rates.map(|rates| Asker { address: from.limited(), rates });
        let way = Way { app: AppKey::of(&key.app), port, class };
        let hold = self.acquire(object, key, Arc::clone(&way.class), asker).await?;
        let (hold, mut response, upstream) = self.ask(hold, way, request).await?;
        if let Some(load) = &load {
            load.answered();
        }
        headers::prepare_response(&mut response)?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let agreed = response.headers().get(UPGRADE).is_some_and(headers::is_websocket);
            let client = client.filter(|_| agreed).ok_or(ProxyError::Upgrade)?;
            return self.switch(response, client, upstream, (hold, load, in_flight)).await;
        }
        let claim = Claim { hold: Some(hold), load, in_flight };
        let (head, body) = response.into_parts();
        let body = InstanceBody::new(body, upstream, claim, Arc::clone(&self.pool)).await;
        Ok(Response::from_parts(head, ResponseBody::Instance(Box::new(body))))
    }

    /// Has a held instance answer a request. One that has just ended, which the edge is about to learn, has not got any
    /// of it: the request is for the next one then.
    async fn ask(
        &self,
        hold: Hold,
        way: Way,
        request: Request<RequestBody>,
    ) -> Result<(Hold, Response<Incoming>, Upstream), ProxyError> {
        let target = way.to(&hold)?;
        let (error, request) = match self.exchange(&target, request).await {
            Ok((response, upstream)) => return Ok((hold, response, upstream)),
            Err(Unserved { error, unsent: Some(request) }) if error.may_be_an_end() => (error, request),
            Err(Unserved { error, .. }) => return Err(error),
        };
        let Some(key) = self.until_ended(hold).await else { return Err(error) };
        let hold = self.acquire(key.id(), key, Arc::clone(&way.class), None).await?;
        let target = way.to(&hold)?;
        let (response, upstream) =
            self.exchange(&target, *request).await.map_err(|unserved| unserved.error)?;
        Ok((hold, response, upstream))
    }

    /// Waits until the edge knows that an instance has ended; None if it has not.
    async fn until_ended(&self, hold: Hold) -> Option<ObjectKey> {
        let (object, instance) = (hold.placement().object, hold.placement().instance);
        let key = self.objects.view(object).await?.key;
        let (mut pause, longest) = END_POLLS;
        let deadline = Instant::now() + END_LIMIT;
        while Instant::now() < deadline {
            let view = self.objects.view(object).await;
            if view.is_none_or(|view| view.instance != Some(instance)) {
                return Some(key);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
        // Not before: an instance must not fall asleep under a request that waits for its end.
        drop(hold);
        None
    }

    /// Sends the request over a pooled connection, or over a new one if none is left or the pooled one was closed
    /// before anything was sent. One that the instance closed without a byte of an answer was perhaps idle for too long:
    /// what may be repeated (RFC 9110 §9.2.2) is then sent once more, over a new one.
    async fn exchange(
        &self,
        target: &UpstreamTarget<'_>,
        request: Request<RequestBody>,
    ) -> Result<(Response<Incoming>, Upstream), Unserved> {
        let request = match self.pool.checkout(target.instance_port()).await {
            None => Box::new(request),
            Some(upstream) => {
                let again = repeated(&request);
                match upstream.send(request).await {
                    Ok(answer) => return Ok(answer),
                    Err(SendError::Unsent(request)) => request,
                    Err(SendError::Unanswered(error)) => {
                        again.map(Box::new).ok_or_else(|| ProxyError::broken_off(error))?
                    }
                    Err(SendError::Broken(error)) => return Err(ProxyError::broken_off(error).into()),
                }
            }
        };
        let fresh = match self.connect(target).await {
            Ok(fresh) => fresh,
            Err(error) => return Err(Unserved { error, unsent: Some(request) }),
        };
        match fresh.send(*request).await {
            Ok(answer) => Ok(answer),
            Err(SendError::Broken(error) | SendError::Unanswered(error)) => {
                Err(ProxyError::broken_off(error).into())
            }
            Err(SendError::Unsent(_)) => Err(target.unreached(OpenError::Lost).into()),
        }
    }

    /// Opens a connection to a port of an instance. Waits, within limits, until the node is reachable.
    async fn connect(&self, target: &UpstreamTarget<'_>) -> Result<Upstream, ProxyError> {
        let stream = self.open(target).await?;
        Upstream::over(stream, target.instance_port()).await.map_err(ProxyError::Upstream)
    }

    pub(crate) async fn open(&self, target: &UpstreamTarget<'_>) -> Result<TunnelStream, ProxyError> {
        let Placement { node, instance, generation, .. } = target.placement;
        let unreachable = |retry| ProxyError::NodeUnreachable { node: node.clone(), retry };
        let link = self.links.get(node).ok_or_else(|| unreachable(None))?;
        let header = TunnelHeader { instance: *instance, generation: *generation, port: target.port };
        loop {
            let connection = link.connected(target.deadline).await;
            let connection = connection.ok_or_else(|| unreachable(link.given_up_in()))?;
            match link.open(&connection, header, target.app).await {
                Ok(stream) => return Ok(stream),
                // The connection was lost, perhaps because the node is gone: the next attempt will show.
                Err(OpenError::Lost) if connection.close_reason().is_some() => {}
                // Nothing has reached the instance. It goes on as soon as its node has heard so.
                Err(OpenError::Refused(TunnelAnswer::Lapsed)) if Instant::now() < target.deadline => {
                    tokio::time::sleep(LAPSED_RETRY).await;
                }
                Err(error) => return Err(target.unreached(error)),
            }
        }
    }

    /// Passes the upgrade to WebSocket on, and then bytes in both directions. The hold ends here.
    async fn switch(
        &self,
        response: Response<Incoming>,
        client: OnUpgrade,
        upstream: Upstream,
        (hold, load, in_flight): (Hold, Option<LoadGuard>, Option<InFlight>),
    ) -> Reply {
        let (stream, early) = upstream.into_stream().await.ok_or(ProxyError::Upgrade)?;
        let open = in_flight.map(InFlight::into_websocket);
        let tunnelled = Tunnelled::of(stream, early, true, hold, load);
        let drain = self.lifecycle.drain().clone();
        self.lifecycle.spawn(async move {
            websocket::carry(client, tunnelled, &drain).await;
            drop(open);
        });
        Ok(response.map(|_| ResponseBody::empty()))
    }

    /// Runs a request on the shard of its object.
    async fn hand_over(&self, job: Job, shard: usize) -> Reply {
        let served = self.shards.run(shard, |there: Arc<Self>| async move { there.serve(job).await }).await;
        served.unwrap_or_else(|stopped| Err(stopped.into()))
    }

    /// Waits for an instance of an object of this shard that accepts requests, and holds it. A new object is started
    /// for an `asker` only within limits.
    pub(crate) async fn acquire(
        &self,
        object: ObjectId,
        key: ObjectKey,
        class: Arc<ClassSpec>,
        asker: Option<Asker>,
    ) -> Result<Hold, Refused> {
        self.objects.acquire(self.waiter(), object, key, class, asker).await
    }

    fn waiter(&self) -> WaiterId {
        WaiterId(self.waiters.fetch_add(1, Ordering::Relaxed))
    }
}

/// A request that was not served.
struct Unserved {
    error: ProxyError,
    /// The request, if nothing of it was sent.
    unsent: Option<Box<Request<RequestBody>>>,
}

impl From<ProxyError> for Unserved {
    fn from(error: ProxyError) -> Self {
        Self { error, unsent: None }
    }
}

/// The same request once more, if sending it twice is the same as sending it once, and it has no body, which would be gone.
fn repeated(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    if !request.method().is_idempotent() || !request.body().is_end_stream() {
        return None;
    }
    let mut again = Request::new(Upload::new(ClientBody::empty()));
    again.method_mut().clone_from(request.method());
    again.uri_mut().clone_from(request.uri());
    again.headers_mut().clone_from(request.headers());
    again.extensions_mut().clone_from(request.extensions());
    Some(again)
}

/// Replaces the path of a request; the query stays.
fn set_path<B>(request: &mut Request<B>, path: &str) -> Result<(), ProxyError> {
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut parts = request.uri().clone().into_parts();
    let rewritten = format!("{path}{query}").parse().map_err(|_| BadRequest::Target)?;
    parts.path_and_query = Some(rewritten);
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| BadRequest::Target)?;
    Ok(())
}

/// Where a request goes, whichever instance of its object is held.
struct Way {
    app: AppKey,
    port: Option<u16>,
    class: Arc<ClassSpec>,
}

impl Way {
    fn to<'a>(&self, hold: &'a Hold) -> Result<UpstreamTarget<'a>, ProxyError> {
        UpstreamTarget::of(hold.placement(), self.app, self.port, self.class.start_timeout)
    }
}

/// A port of a held instance, and the deadline for reaching it.
pub(crate) struct UpstreamTarget<'a> {
    placement: &'a Placement,
    app: AppKey,
    port: u16,
    deadline: Instant,
}

impl<'a> UpstreamTarget<'a> {
    pub(crate) fn of(
        placement: &'a Placement,
        app: AppKey,
        port: Option<u16>,
        wait: Duration,
    ) -> Result<Self, ProxyError> {
        let port = port.or(placement.default_port).ok_or(ProxyError::NoPort)?;
        Ok(Self { placement, app, port, deadline: Instant::now() + wait })
    }

    fn instance_port(&self) -> InstancePort {
        InstancePort { instance: self.placement.instance, port: self.port }
    }

    fn unreached(&self, error: OpenError) -> ProxyError {
        ProxyError::Tunnel { port: self.port, error }
    }
}
