//! A fake agent: the real protocol over real QUIC, and instances that are only entries in a table. Every tunnel leads
//! to the one app of the test. When killed, it sends nothing; when started again, it has its table and its reset key,
//! as a real agent would get them from its containers and state directory.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use berth_certs::Credentials;
use berth_common::ids::{InstanceId, NodeId};
use berth_common::outcome::Outcome;
use berth_common::wire::call::{
    Answer, Call, Capacity, DiskCapacity, InstanceStatus, Phase, Refusal, RefusalCode, Start, Stop, Usage,
    Welcome,
};
use berth_common::wire::images::{ImageState, ImageStatus, Wanted};
use berth_common::wire::logs::LogBatch;
use berth_common::wire::tunnel::{HEADER_BYTES, TunnelAnswer, TunnelHeader};
use berth_common::wire::{STREAM_CALL, STREAM_TUNNEL, frame};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, Endpoint, EndpointConfig, RecvStream, SendStream, ServerConfig};
use quinn_proto::HashedConnectionIdGenerator;
use tokio::net::TcpStream;
use tokio::sync::{broadcast, watch};

const RESET_KEY: [u8; 64] = [7; 64];

/// The state that survives a killed agent.
pub(crate) struct Node {
    name: NodeId,
    app: SocketAddr,
    server: Arc<rustls::ServerConfig>,
    state: Mutex<State>,
    changes: broadcast::Sender<InstanceStatus>,
    /// Increases with every call that changes something.
    calls: watch::Sender<usize>,
}

#[derive(Default)]
struct State {
    instances: BTreeMap<InstanceId, InstanceStatus>,
    starts: Vec<Start>,
    stops: Vec<Stop>,
}

/// A running agent of a node.
pub(crate) struct Agent {
    pub(crate) address: SocketAddr,
    endpoint: Endpoint,
    tasks: tokio::task::JoinHandle<()>,
}

impl Node {
    pub(crate) fn new(name: &str, app: SocketAddr, certs: &Path) -> Arc<Self> {
        let file = |suffix: &str| certs.join(format!("agent-{name}.{suffix}"));
        let credentials = Credentials::load(&certs.join("ca.pem"), &file("pem"), &file("key")).unwrap();
        Arc::new(Self {
            name: name.parse().unwrap(),
            app,
            server: berth_certs::server_config(&credentials),
            state: Mutex::default(),
            changes: broadcast::channel(1024).0,
            calls: watch::channel(0).0,
        })
    }

    /// Starts an agent of this node.
    pub(crate) fn start(self: &Arc<Self>, address: SocketAddr) -> Agent {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &RESET_KEY);
        let crypto = QuicServerConfig::try_from(Arc::clone(&self.server)).unwrap();
        let socket = std::net::UdpSocket::bind(address).unwrap();
        let mut config = EndpointConfig::new(Arc::new(key));
        config.cid_generator(|| Box::new(HashedConnectionIdGenerator::from_key(7)));
        let endpoint = Endpoint::new(
            config,
            Some(ServerConfig::with_crypto(Arc::new(crypto))),
            socket,
            Arc::new(quinn::TokioRuntime),
        )
        .unwrap();
        let tasks = tokio::spawn(Arc::clone(self).accept(endpoint.clone()));
        Agent { address: endpoint.local_addr().unwrap(), endpoint, tasks }
    }

    /// The received starts, once there are at least this many.
    pub(crate) async fn starts(&self, at_least: usize) -> Vec<Start> {
        self.changed(|state| (state.starts.len() >= at_least).then(|| state.starts.clone())).await
    }

    /// The received stops, once there are at least this many.
    pub(crate) async fn stops(&self, at_least: usize) -> Vec<Stop> {
        self.changed(|state| (state.stops.len() >= at_least).then(|| state.stops.clone())).await
    }

    /// Returns once the node has exactly this many instances.
    pub(crate) async fn instances(&self, count: usize) {
        self.changed(|state| (state.instances.len() == count).then_some(())).await;
    }

    async fn changed<T>(&self, look: impl Fn(&State) -> Option<T>) -> T {
        let mut calls = self.calls.subscribe();
        loop {
            if let Some(found) = look(&self.state.lock().unwrap()) {
                return found;
            }
            super::soon("a call to the agent", calls.changed()).await.unwrap();
        }
    }

    async fn accept(self: Arc<Self>, endpoint: Endpoint) {
        let mut connections = tokio::task::JoinSet::new();
        while let Some(incoming) = endpoint.accept().await {
            let node = Arc::clone(&self);
            connections.spawn(async move {
                let Ok(connection) = incoming.await else { return };
                let mut streams = tokio::task::JoinSet::new();
                while let Ok((send, recv)) = connection.accept_bi().await {
                    streams.spawn(Arc::clone(&node).serve(connection.clone(), send, recv));
                }
            });
        }
    }

    async fn serve(self: Arc<Self>, _connection: Connection, send: SendStream, mut recv: RecvStream) {
        let mut kind = [0];
        if recv.read_exact(&mut kind).await.is_err() {
            return;
        }
        match kind[0] {
            STREAM_CALL => self.call(send, recv).await,
            STREAM_TUNNEL => self.tunnel(send, recv).await,
            other => panic!("stream kind {other}"),
        }
    }

    async fn call(&self, mut send: SendStream, mut recv: RecvStream) {
        let Ok(Some(call)) = frame::read::<Call>(&mut recv).await else { return };
        let answer = match call {
            Call::Hello(_) => Answer::Welcome(self.welcome()),
            Call::Watch => return self.watch(send).await,
            Call::Start(start) => self.begin(*start),
            Call::Stop(stop) => self.stop(stop),
            Call::Forget(forget) => {
                let mut state = self.state.lock().unwrap();
                state.instances.retain(|instance, _| !forget.instances.contains(instance));
                Answer::Done
            }
            Call::Renew(_) | Call::Resume(_) | Call::Prepare(_) | Call::Signal(_) => Answer::Done,
            Call::Deliver(_) => return deliver(send, recv).await,
            Call::Attach(_) => Answer::Done,
            Call::Usage(_) => Answer::Usage(Usage::default()),
            // As an agent of an earlier version.
            Call::Room => {
                Answer::Refused(Refusal { code: RefusalCode::Invalid, message: "unknown".to_owned() })
            }
            Call::Logs(_) => Answer::Logs(LogBatch::default()),
        };
        self.calls.send_modify(|calls| *calls += 1);
        let _ = frame::write(&mut send, &answer).await;
    }

    fn welcome(&self) -> Welcome {
        let capacity = Capacity { memory_bytes: 64 << 30, cpu_sixteenths: 1024, instances: 1000 };
        Welcome {
            node: self.name.clone(),
            version: "fake".to_owned(),
            capacity,
            disk: DiskCapacity::default(),
            draining: false,
            kept_for_ms: None,
            region: None,
            labels: Default::default(),
            architecture: None,
            attach: None,
            stamp: None,
            starts_at_once: None,
        }
    }

    async fn watch(&self, mut send: SendStream) {
        let mut changes = self.changes.subscribe();
        let told: Vec<_> = self.state.lock().unwrap().instances.values().cloned().collect();
        for status in told {
            frame::write(&mut send, &Answer::Update(status)).await.unwrap();
        }
        frame::write(&mut send, &Answer::Synced).await.unwrap();
        while let Ok(status) = changes.recv().await {
            if frame::write(&mut send, &Answer::Update(status)).await.is_err() {
                return;
            }
        }
    }

    fn begin(&self, start: Start) -> Answer {
        let status = |phase| InstanceStatus {
            instance: start.instance,
            object: start.object.id(),
            generation: start.generation,
            phase,
            frozen: false,
            metered: None,
        };
        for phase in [Phase::Starting, Phase::Running, Phase::Ready] {
            self.change(status(phase));
        }
        self.state.lock().unwrap().starts.push(start);
        Answer::Accepted
    }

    fn stop(&self, stop: Stop) -> Answer {
        let known = self.state.lock().unwrap().instances.get(&stop.instance).cloned();
        if let Some(status) = known {
            self.change(InstanceStatus { phase: Phase::Stopping, ..status.clone() });
            self.change(InstanceStatus { phase: Phase::Exited(Outcome::exited(0)), ..status });
        }
        self.state.lock().unwrap().stops.push(stop);
        Answer::Done
    }

    /// The instance ends as if its app had exited.
    pub(crate) fn exit(&self, instance: InstanceId, code: i32) {
        let status = self.state.lock().unwrap().instances.get(&instance).cloned().unwrap();
        self.change(InstanceStatus { phase: Phase::Exited(Outcome::exited(code)), ..status });
    }

    fn change(&self, status: InstanceStatus) {
        self.state.lock().unwrap().instances.insert(status.instance, status.clone());
        // There is no watcher while no edge is connected.
        let _ = self.changes.send(status);
    }

    async fn tunnel(&self, mut send: SendStream, mut recv: RecvStream) {
        let mut header = [STREAM_TUNNEL; HEADER_BYTES];
        recv.read_exact(&mut header[1..]).await.unwrap();
        let header = TunnelHeader::decode(&header).unwrap();
        let phase = self.state.lock().unwrap().instances.get(&header.instance).map(|i| i.phase.clone());
        if !matches!(phase, Some(Phase::Ready)) {
            let _ = send.write_all(&[TunnelAnswer::NoInstance as u8]).await;
            return;
        }
        let mut tcp = TcpStream::connect(self.app).await.unwrap();
        if send.write_all(&[TunnelAnswer::Connected as u8]).await.is_err() {
            return;
        }
        let (mut from_app, mut to_app) = tcp.split();
        let down = async { tokio::io::copy(&mut from_app, &mut send).await.map(|_| drop(send.finish())) };
        let up = async {
            tokio::io::copy(&mut recv, &mut to_app).await?;
            tokio::io::AsyncWriteExt::shutdown(&mut to_app).await
        };
        let _ = tokio::try_join!(up, down);
    }
}

impl Agent {
    /// Ends the agent as SIGKILL would: the peer receives nothing. Its tunnels are cut off.
    pub(crate) async fn kill(self) {
        // From now on packets of this socket are dropped, its close frames among them.
        let nowhere = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        self.endpoint.rebind(nowhere).unwrap();
        self.tasks.abort();
        let _ = self.tasks.await;
        drop(self.endpoint);
    }
}

/// Reports every wanted image as ready.
async fn deliver(mut send: SendStream, mut recv: RecvStream) {
    let _ = frame::write(&mut send, &Answer::Done).await;
    while let Ok(Some(Wanted { images })) = frame::read(&mut recv).await {
        for image in images {
            let ready = ImageStatus { image, state: ImageState::Ready };
            if frame::write(&mut send, &ready).await.is_err() {
                return;
            }
        }
    }
}
