//! The agent as a whole: adopts the containers of an earlier agent, then accepts connections of edges until it is
//! stopped. Containers run on when it stops.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use berth_common::lifecycle::Lifecycle;
use berth_common::wire::close;
use berth_monitor::{Process, Watched};
use berth_protocol::Shares;
use berth_shim::layout::TERMS;
use quinn::{Endpoint, Incoming, VarInt};

use crate::agent::Agent;
use crate::config::Config;
use crate::control::{self, Control};
use crate::endpoint::{self, EndpointError};
use crate::images::Images;
use crate::instances::Instances;
use crate::metrics::Counts;
use crate::page::Watch;
use crate::runtime::Runtime;
use crate::sessions::Sessions;
use crate::terms::Terms;
use crate::tunnels::Tunnels;
use crate::{follow, session};

/// Connections at once. An edge has two for each of its shards. One address never has more than are still free.
const MAX_CONNECTIONS: usize = 2048;
/// Handshakes at once: they cost CPU before the peer is authenticated. One address never has more than are still free.
const MAX_HANDSHAKES: usize = 128;
/// With fewer than this many handshakes free, peers must first validate their address (QUIC Retry, RFC 9000 §8.1.2).
const CALM_HANDSHAKES: usize = 96;
/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long closing the connections may take when the agent stops.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// Why an agent could not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The endpoint could not be made.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The control socket could not be made.
    #[error("cannot make the control socket: {0}")]
    Control(io::Error),
    /// The page of terms could not be opened.
    #[error("cannot open the page of terms: {0}")]
    Terms(io::Error),
    /// The containers of an earlier agent could not be adopted.
    #[error("cannot take back what runs on this node: {0}")]
    Adopt(io::Error),
}

/// An agent that listens. Lives on one thread, inside a `LocalSet`.
pub struct Server<R: Runtime> {
    agent: Rc<Agent<R>>,
    endpoint: Endpoint,
    address: SocketAddr,
    control: Control,
}

impl<R: Runtime + 'static> Server<R> {
    /// Adopts running containers, then listens: edges that connect get reports of all of them.
    pub async fn start(
        config: Config,
        runtime: R,
        images: Rc<Images>,
        lifecycle: Lifecycle,
    ) -> Result<Self, ServeError> {
        let control = Control::open(&config.state).map_err(ServeError::Control)?;
        let endpoint = endpoint::open(&config)?;
        let address =
            endpoint.local_addr().map_err(|source| EndpointError::Bind { address: config.listen, source })?;
        let terms =
            Terms::open(&config.state.join(TERMS), runtime.keeps_terms()).map_err(ServeError::Terms)?;
        let agent = Rc::new(Agent {
            node: config.site.node,
            region: Some(config.site.region).filter(|region| !region.is_empty()),
            labels: config.labels,
            runtime,
            images,
            starts_at_once: config.starts_at_once,
            instances: Instances::new(config.capacity, lifecycle.drain().clone()),
            sessions: Sessions::default(),
            terms,
            tunnels: Tunnels::new(config.max_tunnels),
            lifecycle,
            counts: Counts::default(),
        });
        for adopted in agent.runtime.adopt().await.map_err(ServeError::Adopt)? {
            follow::adopt(&agent, adopted);
        }
        agent.images.begin();
        if control.is_marked() {
            control::set_draining(&agent, true);
        }
        Ok(Self { agent, endpoint, address, control })
    }

    /// A function that gives the agent's status as text, for the service manager.
    pub fn status(&self) -> impl Fn() -> String + use<R> {
        let agent = Rc::clone(&self.agent);
        move || {
            let service = if agent.instances.is_draining() { "takes no new instances" } else { "in service" };
            format!("node {}: {service}, {} instances", agent.node, agent.instances.alive().len())
        }
    }

    /// The source of the monitor's page, health and readiness.
    pub fn watch(&self, process: Process) -> impl Watched + use<R> {
        Watch { agent: Rc::clone(&self.agent), process }
    }

    /// The address that is listened on.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the lifecycle drains, then closes all connections.
    pub async fn run(self) {
        let Self { agent, endpoint, control, .. } = self;
        let control = control.run(Rc::clone(&agent));
        tokio::select! {
            () = accept(&agent, &endpoint) => {}
            () = control => {}
        }
        endpoint.close(VarInt::from_u32(close::SHUTDOWN), b"the agent is stopping");
        // An edge that does not answer notices by its idle timeout.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, endpoint.wait_idle()).await;
    }
}

/// What is shared by addresses, so that no stranger can keep the edges out.
type ByAddress = Rc<RefCell<Shares<IpAddr>>>;

/// One unit of an address's share, given back when dropped.
struct Turn {
    of: ByAddress,
    address: IpAddr,
}

impl Turn {
    fn take(of: &ByAddress, address: IpAddr) -> Option<Self> {
        let taken = of.borrow_mut().take(&address);
        taken.then(|| Self { of: Rc::clone(of), address })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.of.borrow_mut().give(&self.address);
    }
}

/// Takes connections until the agent ends.
async fn accept<R: Runtime + 'static>(agent: &Rc<Agent<R>>, endpoint: &Endpoint) {
    let shares = |total| Rc::new(RefCell::new(Shares::new(total, usize::MAX)));
    let (handshakes, connections) = (shares(MAX_HANDSHAKES), shares(MAX_CONNECTIONS));
    loop {
        let incoming = tokio::select! {
            incoming = endpoint.accept() => incoming,
            () = agent.lifecycle.drain().cancelled() => return,
        };
        let Some(incoming) = incoming else { return };
        admit(agent, incoming, &handshakes, &connections);
    }
}

fn admit<R: Runtime + 'static>(
    agent: &Rc<Agent<R>>,
    incoming: Incoming,
    handshakes: &ByAddress,
    connections: &ByAddress,
) {
    let under_way = handshakes.borrow().taken();
    if MAX_HANDSHAKES - under_way < CALM_HANDSHAKES && incoming.may_retry() {
        // Fails only if a retry is not allowed, which was checked.
        let _ = incoming.retry();
        return;
    }
    let address = incoming.remote_address().ip();
    match (Turn::take(handshakes, address), Turn::take(connections, address)) {
        (Some(handshake), Some(connection)) => {
            let shared = Rc::clone(agent);
            agent.lifecycle.spawn_local(shake_hands(shared, incoming, handshake, connection));
        }
        _ => {
            tracing::warn!(remote = %incoming.remote_address(), "refusing a connection: there are too many");
            incoming.refuse();
        }
    }
}

async fn shake_hands<R: Runtime + 'static>(
    agent: Rc<Agent<R>>,
    incoming: Incoming,
    handshake: Turn,
    _connection: Turn,
) {
    let remote = incoming.remote_address();
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, incoming).await {
        Ok(Ok(connection)) => {
            drop(handshake);
            session::serve(agent, connection).await;
        }
        Ok(Err(error)) => tracing::warn!(%remote, %error, "a handshake failed"),
        Err(_) => tracing::warn!(%remote, "a handshake took too long"),
    }
}
