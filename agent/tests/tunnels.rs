//! Tunnelled connections, over real QUIC and real sockets: bytes, ends and resets both ways, refusals, and what
//! becomes of them when the instance or the agent ends.
#![allow(clippy::unwrap_used, reason = "what fails in a test's own machinery fails the test")]

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use berth_agent::serve::Server;
use berth_common::lifecycle::Lifecycle;
use berth_common::outcome::Outcome;
use berth_common::wire::call::{Phase, Start};
use berth_common::wire::close;
use berth_common::wire::tunnel::{TunnelAnswer, TunnelHeader};
use quinn::{ConnectionError, ReadError, RecvStream, SendStream, TransportConfig};
use socket2::SockRef;
use support::fake::FakeRuntime;
use support::{Edge, World, certificates, code, config, generation, header, run, start};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

/// An instance whose app is this test.
struct App {
    world: World,
    edge: Edge,
    listener: TcpListener,
    start: Start,
}

impl App {
    async fn new() -> Self {
        let world = World::new().await;
        let edge = world.edge().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let start = start(1, listener.local_addr().unwrap().port());
        edge.start_ready(&world.fake, &start).await;
        let app = Self { world, edge, listener, start };
        // The one that found the port open.
        drop(app.listener.accept().await.unwrap());
        app
    }

    fn port(&self) -> u16 {
        self.start.ready_port.unwrap()
    }

    /// Both ends of a new tunnel: the edge's stream and the app's socket.
    async fn tunnel(&self) -> (SendStream, RecvStream, TcpStream) {
        let (accepted, (send, recv)) =
            tokio::join!(self.listener.accept(), self.edge.connected(&self.start, self.port()));
        (send, recv, accepted.unwrap().0)
    }
}

async fn read_error(recv: &mut RecvStream) -> ReadError {
    let mut buffer = [0; 1024];
    loop {
        match recv.read(&mut buffer).await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream ended in good order"),
            Err(error) => return error,
        }
    }
}

#[test]
fn bytes_and_ends_travel_both_ways_each_for_itself() {
    run(async {
        let app = App::new().await;
        let (mut send, mut recv, mut socket) = app.tunnel().await;
        assert!(socket.nodelay().is_ok());
        send.write_all(b"question").await.unwrap();
        let mut buffer = [0; 8];
        socket.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"question");
        send.finish().unwrap();
        assert_eq!(socket.read(&mut buffer).await.unwrap(), 0, "the end of one direction");
        socket.write_all(b"answer").await.unwrap();
        socket.shutdown().await.unwrap();
        assert_eq!(recv.read_to_end(100).await.unwrap(), b"answer");
    });
}

#[test]
fn an_app_that_ends_first_can_still_be_written_to() {
    run(async {
        let app = App::new().await;
        let (mut send, mut recv, mut socket) = app.tunnel().await;
        socket.shutdown().await.unwrap();
        assert!(recv.read_to_end(1).await.unwrap().is_empty());
        send.write_all(b"more").await.unwrap();
        send.finish().unwrap();
        let mut rest = Vec::new();
        socket.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"more");
    });
}

#[test]
fn much_travels_both_ways_at_once_through_slow_ends() {
    const BYTES: usize = 24 << 20;
    run(async {
        let app = App::new().await;
        let (mut send, mut recv, socket) = app.tunnel().await;
        SockRef::from(&socket).set_recv_buffer_size(256 << 10).unwrap();
        let pattern: Vec<u8> = (0..BYTES).map(|i| u8::try_from((i * 7 + i / 251) % 256).unwrap()).collect();
        let (mut from, mut to) = socket.into_split();
        let echo = async {
            tokio::io::copy(&mut from, &mut to).await.unwrap();
            to.shutdown().await.unwrap();
        };
        let upload = async {
            send.write_all(&pattern).await.unwrap();
            send.finish().unwrap();
        };
        let ((), (), received) = tokio::join!(echo, upload, recv.read_to_end(BYTES));
        assert!(received.unwrap() == pattern);
    });
}

#[test]
fn a_reset_by_the_edge_resets_the_apps_connection() {
    run(async {
        let app = App::new().await;
        let (mut send, _recv, mut socket) = app.tunnel().await;
        send.reset(code(close::RESET)).unwrap();
        let error = socket.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);

        let (_send, _recv, mut socket) = app.tunnel().await;
        app.edge.connection.close(code(0), b"");
        let error = socket.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "a lost edge is no end in good order");
    });
}

#[test]
fn a_reset_by_the_app_resets_the_edges_stream() {
    run(async {
        let app = App::new().await;
        let (send, mut recv, socket) = app.tunnel().await;
        SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
        drop(socket);
        assert_eq!(read_error(&mut recv).await, ReadError::Reset(code(close::RESET)));
        assert_eq!(send.stopped().await.unwrap(), Some(code(close::RESET)));
    });
}

#[test]
fn an_edge_that_is_done_closes_the_apps_connection_in_good_order() {
    run(async {
        let app = App::new().await;
        let (mut send, mut recv, mut socket) = app.tunnel().await;
        send.finish().unwrap();
        recv.stop(code(close::RESET)).unwrap();
        assert_eq!(socket.read(&mut [0; 8]).await.unwrap(), 0);
        // Closed and not only half: what is written now is answered by a reset.
        while socket.write_all(b"too late").await.is_ok() {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn an_edge_that_stops_reading_lets_go_of_an_endless_answer() {
    run(async {
        let app = App::new().await;
        let (mut send, mut recv, mut socket) = app.tunnel().await;
        let endless = async { while socket.write_all(&[0; 4096]).await.is_ok() {} };
        let abort = async {
            recv.read_exact(&mut [0; 100_000]).await.unwrap();
            send.reset(code(close::RESET)).unwrap();
            recv.stop(code(close::RESET)).unwrap();
        };
        tokio::join!(endless, abort);
    });
}

#[test]
fn a_port_on_ipv6_is_reached_too() {
    run(async {
        let app = App::new().await;
        let listener = TcpListener::bind("[::1]:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (accepted, _stream) = tokio::join!(listener.accept(), app.edge.connected(&app.start, port));
        assert!(accepted.is_ok());
    });
}

#[test]
fn tunnels_that_lead_nowhere_are_refused_each_in_its_way() {
    run(async {
        let app = App::new().await;
        let good = header(&app.start, app.port());
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let stranger = app.world.introduced("e2").await;
        let cases = [
            (&app.edge, TunnelHeader { instance: start(9, 1).instance, ..good }, TunnelAnswer::NoInstance),
            (&app.edge, TunnelHeader { generation: generation(2), ..good }, TunnelAnswer::StaleGeneration),
            (&app.edge, TunnelHeader { port: closed, ..good }, TunnelAnswer::Refused),
            (&stranger, good, TunnelAnswer::NotOwner),
        ];
        for (edge, header, expected) in cases {
            let (answer, _send, mut recv) = edge.tunnel(header).await;
            assert_eq!(answer, expected);
            assert!(recv.read_to_end(1).await.unwrap().is_empty(), "nothing follows");
        }
        let (_send, _recv, _socket) = app.tunnel().await;
    });
}

#[test]
fn the_end_of_an_instance_ends_its_tunnels() {
    run(async {
        let app = App::new().await;
        let (_send, mut recv, _socket) = app.tunnel().await;
        let (_, mut watch) = app.edge.watch().await;
        app.world.fake.exited(app.start.instance, Outcome::exited(0)).await;
        watch.until(app.start.instance, &Phase::Exited(Outcome::exited(0))).await;
        let (answer, ..) = app.edge.tunnel(header(&app.start, app.port())).await;
        assert_eq!(answer, TunnelAnswer::NoInstance);
        // This socket is the test's, and open: a container's would be closed.
        assert_eq!(read_error(&mut recv).await, ReadError::Reset(code(close::RESET)));
    });
}

#[test]
fn an_agent_that_was_killed_and_is_back_is_noticed_at_once() {
    let directory = certificates();
    let (first, address) = agent_on_a_thread(directory.path(), "127.0.0.1:0".parse().unwrap());
    run(async {
        let edge = Edge::connect(directory.path(), "e1", address, TransportConfig::default()).await;
        edge.hello("e1", 1, 0, 1).await;
        drop(first);
        let (_second, same) = agent_on_a_thread(directory.path(), address);
        assert_eq!(same, address);
        assert_eq!(edge.connection.closed().await, ConnectionError::Reset);
    });
}

/// An agent that ends without a word when what is returned is dropped.
fn agent_on_a_thread(directory: &std::path::Path, listen: SocketAddr) -> (Killed, SocketAddr) {
    let config = config(directory, listen);
    let (kill, killed) = tokio::sync::oneshot::channel::<()>();
    let (tell, told) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let images = support::images(&config);
            let runtime = FakeRuntime(std::rc::Rc::default());
            let server = Server::start(config, runtime, images, Lifecycle::new()).await.unwrap();
            tell.send(server.local_addr()).unwrap();
            tokio::task::spawn_local(server.run());
            let _ = killed.await;
        });
    });
    (Killed { kill: Some(kill), thread: Some(thread) }, told.recv().unwrap())
}

struct Killed {
    kill: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Killed {
    fn drop(&mut self) {
        drop(self.kill.take());
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}
