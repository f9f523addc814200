//! An agent with a fake runtime, and edges that speak to it over real QUIC with real certificates.
#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod fake;

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use berth_agent::config::{Config, DiskLimits};
use berth_agent::images::{Images, WaterMarks};
use berth_agent::launch::Launch;
use berth_agent::runtime::Adopted;
use berth_agent::serve::Server;
use berth_agent::site::Site;
use berth_certs::{Authority, Credentials, Role, SERVER_NAME, Validity, client_config};
use berth_common::ids::{Epoch, Generation, InstanceId};
use berth_common::lifecycle::Lifecycle;
use berth_common::wire::STREAM_CALL;
use berth_common::wire::attach::{Attach, AttachKey};
use berth_common::wire::call::{
    Answer, Call, Capacity, Forget, Hello, InstanceStatus, Phase, RefusalCode, Start, Stop, Welcome,
};
use berth_common::wire::frame;
use berth_common::wire::tunnel::{TunnelAnswer, TunnelHeader};
use berth_shim::protection::Protection;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, ConnectionError, Endpoint, RecvStream, SendStream, TransportConfig, VarInt};
use tempfile::TempDir;
use tokio::task::LocalSet;

use fake::{Fake, FakeRuntime};

/// No test takes longer.
const TEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Room for three instances as `start` asks for them.
pub(crate) const CAPACITY: Capacity = Capacity { memory_bytes: 300, cpu_sixteenths: 30, instances: 3 };

/// Runs a test as the agent runs: on one thread, with tasks that stay on it.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bounded = async { tokio::time::timeout(TEST_TIMEOUT, test).await.expect("the test hangs") };
    LocalSet::new().block_on(&runtime, bounded);
}

/// A CA and a running agent, node `n1`.
pub(crate) struct World {
    pub(crate) directory: TempDir,
    pub(crate) fake: Rc<Fake>,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) address: SocketAddr,
}

/// Makes a CA and the certificates that tests use.
pub(crate) fn certificates() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::create(directory.path()).unwrap();
    for (role, name) in [(Role::Agent, "n1"), (Role::Edge, "e1"), (Role::Edge, "e2")] {
        authority.issue(role, name, Validity::days(1).unwrap()).unwrap();
    }
    directory
}

pub(crate) fn credentials(directory: &Path, name: &str) -> Credentials {
    let file = |ending: &str| directory.join(format!("{name}.{ending}"));
    Credentials::load(&directory.join("ca.pem"), &file("pem"), &file("key")).unwrap()
}

pub(crate) fn config(directory: &Path, listen: SocketAddr) -> Config {
    Config {
        labels: Default::default(),
        site: Site {
            node: "n1".parse().unwrap(),
            country: "XX".to_owned(),
            region: "local".to_owned(),
            location: "local".to_owned(),
        },
        listen,
        state: directory.to_owned(),
        credentials: credentials(directory, "agent-n1"),
        capacity: CAPACITY,
        starts_at_once: 4,
        max_tunnels: 1000,
        disk_limit: DiskLimits::Unenforced,
        water_marks: WaterMarks { high: 100, low: 100 },
        waiting_shims: 0,
        name_server: None,
        pasta: None,
        nft: None,
        protection: Protection::default(),
        monitor_listen: None,
    }
}

/// The images of a node that never fetches any.
pub(crate) fn images(config: &Config) -> Rc<Images> {
    Images::open(&config.state, config.water_marks).unwrap()
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(Vec::new()).await
    }

    /// An agent that finds containers of an earlier one.
    pub(crate) async fn with(adopted: Vec<Adopted<fake::FakeContainer>>) -> Self {
        let directory = certificates();
        let fake = Rc::new(Fake::default());
        *fake.adopted.borrow_mut() = adopted;
        let lifecycle = Lifecycle::new();
        let config = config(directory.path(), "127.0.0.1:0".parse().unwrap());
        let images = images(&config);
        let server =
            Server::start(config, FakeRuntime(Rc::clone(&fake)), images, lifecycle.clone()).await.unwrap();
        let address = server.local_addr();
        lifecycle.spawn_local(server.run());
        Self { directory, fake, lifecycle, address }
    }

    pub(crate) async fn connect(&self, name: &str) -> Edge {
        Edge::connect(self.directory.path(), name, self.address, TransportConfig::default()).await
    }

    /// Issues an edge another certificate. The one before is kept under the name `old`.
    pub(crate) fn issue_again(&self, name: &str) {
        let directory = self.directory.path();
        for ending in ["pem", "key"] {
            let file = |name: &str| directory.join(format!("edge-{name}.{ending}"));
            std::fs::rename(file(name), file("old")).unwrap();
        }
        let authority = Authority::open(directory).unwrap();
        authority.issue(Role::Edge, name, Validity::days(1).unwrap()).unwrap();
    }

    /// Edge `e1`, introduced as epoch 1, shard 0, session 1.
    pub(crate) async fn edge(&self) -> Edge {
        self.introduced("e1").await
    }

    /// Edge `e1` with both connections of a session: the one for calls, and the one for tunnels.
    pub(crate) async fn attached(&self) -> (Edge, Edge) {
        let (calls, key) = self.welcomed("e1", 1, 1).await;
        let data = self.connect("e1").await;
        assert_eq!(data.call(&attach("e1", 1, 1, key)).await, Answer::Done);
        (calls, data)
    }

    /// A session of shard 0 that means to attach a data connection, with its key.
    pub(crate) async fn welcomed(&self, name: &str, epoch: u64, session: u64) -> (Edge, AttachKey) {
        let edge = self.connect(name).await;
        let Call::Hello(said) = hello(name, epoch, 0, session) else { panic!("a Hello") };
        let Answer::Welcome(welcome) = edge.call(&Call::Hello(Hello { attach: true, ..said })).await else {
            panic!("not welcome")
        };
        (edge, welcome.attach.expect("the agent offers a data connection"))
    }

    pub(crate) async fn introduced(&self, name: &str) -> Edge {
        let edge = self.connect(name).await;
        edge.hello(name, 1, 0, 1).await;
        edge
    }
}

/// An edge's connection.
pub(crate) struct Edge {
    pub(crate) connection: Connection,
    endpoint: Endpoint,
}

impl Edge {
    pub(crate) async fn connect(
        directory: &Path,
        name: &str,
        to: SocketAddr,
        mut transport: TransportConfig,
    ) -> Self {
        let node = "n1".parse().unwrap();
        let tls = client_config(&credentials(directory, &format!("edge-{name}")), &node);
        let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
        transport.keep_alive_interval(Some(Duration::from_millis(300)));
        config.transport_config(Arc::new(transport));
        let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let connection = endpoint.connect_with(config, to, SERVER_NAME).unwrap().await.unwrap();
        Self { connection, endpoint }
    }

    pub(crate) async fn hello(&self, edge: &str, epoch: u64, shard: u16, session: u64) -> Welcome {
        match self.call(&hello(edge, epoch, shard, session)).await {
            Answer::Welcome(welcome) => welcome,
            other => panic!("not welcome: {other:?}"),
        }
    }

    /// Sends bytes on a new stream and ends it.
    pub(crate) async fn send_raw(&self, bytes: &[u8]) -> RecvStream {
        let (mut send, recv) = self.connection.open_bi().await.unwrap();
        send.write_all(bytes).await.unwrap();
        send.finish().unwrap();
        recv
    }

    pub(crate) async fn open_call(&self, call: &Call) -> RecvStream {
        let mut bytes = vec![STREAM_CALL];
        bytes.extend(frame::encode(call).unwrap());
        self.send_raw(&bytes).await
    }

    pub(crate) async fn call(&self, call: &Call) -> Answer {
        frame::read(&mut self.open_call(call).await).await.unwrap().unwrap()
    }

    pub(crate) async fn refused(&self, call: &Call) -> RefusalCode {
        match self.call(call).await {
            Answer::Refused(refusal) => refusal.code,
            other => panic!("not refused: {other:?}"),
        }
    }

    /// Starts an instance that is admitted.
    pub(crate) async fn start(&self, start: &Start) {
        assert_eq!(self.call(&Call::Start(Box::new(start.clone()))).await, Answer::Accepted);
    }

    pub(crate) async fn stop(&self, instance: InstanceId, signal: i32, grace_ms: u64) -> Answer {
        self.call(&Call::Stop(Stop { instance, signal, grace_ms })).await
    }

    pub(crate) async fn forget(&self, instance: InstanceId) -> Answer {
        self.call(&Call::Forget(Forget { instances: vec![instance] })).await
    }

    /// Follows the instances; returns those that are there.
    pub(crate) async fn watch(&self) -> (Vec<InstanceStatus>, Watch) {
        let mut watch = Watch(self.open_call(&Call::Watch).await);
        let mut there = Vec::new();
        loop {
            match watch.answer().await {
                Answer::Update(status) => there.push(status),
                Answer::Synced => {
                    // What the edge was told in Welcome may be older.
                    assert_eq!(watch.answer().await, Answer::Draining(false));
                    return (there, watch);
                }
                other => panic!("not an update: {other:?}"),
            }
        }
    }

    pub(crate) async fn tunnel(&self, header: TunnelHeader) -> (TunnelAnswer, SendStream, RecvStream) {
        let (mut send, mut recv) = self.connection.open_bi().await.unwrap();
        send.write_all(&header.encode()).await.unwrap();
        let mut answer = [0];
        recv.read_exact(&mut answer).await.unwrap();
        (TunnelAnswer::from_code(answer[0]).unwrap(), send, recv)
    }

    /// A tunnel that must come about.
    pub(crate) async fn connected(&self, start: &Start, port: u16) -> (SendStream, RecvStream) {
        let (answer, send, recv) = self.tunnel(header(start, port)).await;
        assert_eq!(answer, TunnelAnswer::Connected);
        (send, recv)
    }

    /// Starts an instance and waits until its port is open.
    pub(crate) async fn start_ready(&self, fake: &Fake, start: &Start) {
        let (_, mut watch) = self.watch().await;
        self.start(start).await;
        fake.started(start.instance).await;
        watch.until(start.instance, &Phase::Ready).await;
    }

    /// The code that the agent closes the connection with.
    pub(crate) async fn closed(&self) -> u32 {
        match self.connection.closed().await {
            ConnectionError::ApplicationClosed(close) => {
                u32::try_from(close.error_code.into_inner()).unwrap()
            }
            other => panic!("not closed by the agent: {other:?}"),
        }
    }

    pub(crate) async fn is_served(&self) -> bool {
        matches!(self.call(&Call::Forget(Forget { instances: vec![] })).await, Answer::Done)
    }
}

pub(crate) struct Watch(RecvStream);

impl Watch {
    pub(crate) async fn answer(&mut self) -> Answer {
        frame::read(&mut self.0).await.unwrap().unwrap()
    }

    pub(crate) async fn next(&mut self) -> InstanceStatus {
        match self.answer().await {
            Answer::Update(status) => status,
            other => panic!("not an update: {other:?}"),
        }
    }

    pub(crate) async fn phase(&mut self) -> Phase {
        self.next().await.phase
    }

    pub(crate) async fn until(&mut self, instance: InstanceId, phase: &Phase) {
        loop {
            let status = self.next().await;
            if status.instance == instance && status.phase == *phase {
                return;
            }
        }
    }
}

pub(crate) fn hello(edge: &str, epoch: u64, shard: u16, session: u64) -> Call {
    let version = "test".to_owned();
    Call::Hello(Hello {
        edge: edge.parse().unwrap(),
        epoch: Epoch(epoch),
        shard,
        session,
        version,
        attach: false,
    })
}

pub(crate) fn attach(edge: &str, epoch: u64, session: u64, key: AttachKey) -> Call {
    let (edge, epoch) = (edge.parse().unwrap(), Epoch(epoch));
    Call::Attach(Attach { edge, epoch, shard: 0, session, key })
}

/// A request for instance `id` of the object with the same number, a third of the node's room.
pub(crate) fn start(id: u8, ready_port: u16) -> Start {
    let start = serde_json::json!({
        "instance": InstanceId::from_bytes([id; 16]),
        "object": {"app": "a", "class": "c", "name": id.to_string()},
        "generation": 1, "term_ms": 1000, "image": {"repository": "x", "digest": format!("sha256:{}", "0".repeat(64))},
        "resources": {"cpu_sixteenths": 10, "memory_bytes": 100, "disk_bytes": 1},
        "enable_internet": false, "ready_port": ready_port,
    });
    serde_json::from_value(start).unwrap()
}

pub(crate) fn launch(owner: &str, start: &Start) -> Launch {
    Launch { start: start.clone(), owner: owner.parse().unwrap(), epoch: Epoch(1), term_slot: None }
}

pub(crate) fn header(start: &Start, port: u16) -> TunnelHeader {
    TunnelHeader { instance: start.instance, generation: start.generation, port }
}

pub(crate) fn generation(number: u64) -> Generation {
    Generation(number)
}

pub(crate) fn code(code: u32) -> VarInt {
    VarInt::from_u32(code)
}
