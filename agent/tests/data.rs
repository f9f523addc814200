//! Data connections, over real QUIC: whose session they belong to, what flows on them, and that a tenant that reads
//! nothing or opens much hurts nobody else.
#![allow(clippy::unwrap_used, reason = "what fails in a test's own machinery fails the test")]

mod support;

use std::time::Duration;

use berth_common::wire::attach::AttachKey;
use berth_common::wire::call::{Answer, AskUsage, Call, Renew, Start};
use berth_common::wire::close;
use berth_common::wire::tunnel::TunnelAnswer;
use quinn::{RecvStream, SendStream, WriteError};
use support::{Edge, World, attach, code, header, run, start};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;

/// How long another tenant's exchange, or a call, may take meanwhile.
const SOON: Duration = Duration::from_secs(1);

/// Starts an instance whose app listens with this listener.
async fn app(world: &World, calls: &Edge, id: u8, name: &str) -> (Start, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut start = start(id, listener.local_addr().unwrap().port());
    start.object.app = name.parse().unwrap();
    calls.start_ready(&world.fake, &start).await;
    drop(listener.accept().await.unwrap());
    (start, listener)
}

#[test]
fn tunnels_and_questions_flow_on_the_data_connection_and_orders_on_the_other() {
    run(async {
        let world = World::new().await;
        let (calls, data) = world.attached().await;
        let (start, listener) = app(&world, &calls, 1, "a").await;
        let (accepted, (mut send, _recv)) =
            tokio::join!(listener.accept(), data.connected(&start, start.ready_port.unwrap()));
        send.write_all(b"question").await.unwrap();
        let mut buffer = [0; 8];
        accepted.unwrap().0.read_exact(&mut buffer).await.unwrap();
        let usage = data.call(&Call::Usage(AskUsage { instance: start.instance })).await;
        assert!(matches!(usage, Answer::Usage(_)), "{usage:?}");

        let _refused = data.open_call(&Call::Renew(Renew { term_ms: 1, until: None })).await;
        assert_eq!(data.closed().await, close::PROTOCOL, "an order on the data connection");
        assert!(calls.is_served().await, "its session goes on");
        let _tunnel = calls.send_raw(&header(&start, 1).encode()).await;
        assert_eq!(calls.closed().await, close::PROTOCOL, "a tunnel on the connection for calls");
    });
}

#[test]
fn a_data_connection_ends_with_its_session() {
    run(async {
        let world = World::new().await;
        let (calls, data) = world.attached().await;
        calls.connection.close(code(close::SHUTDOWN), b"");
        assert_eq!(data.closed().await, close::SUPERSEDED);

        let (_newer, key) = world.welcomed("e1", 1, 2).await;
        for (epoch, session, key) in [(1, 2, AttachKey::random()), (1, 1, key), (2, 2, key)] {
            let stale = world.connect("e1").await;
            let _call = stale.open_call(&attach("e1", epoch, session, key)).await;
            assert_eq!(stale.closed().await, close::SUPERSEDED, "epoch {epoch}, session {session}");
        }
        let other = world.connect("e2").await;
        let _call = other.open_call(&attach("e1", 1, 2, key)).await;
        assert_eq!(other.closed().await, close::FORBIDDEN);

        let data = world.connect("e1").await;
        assert_eq!(data.call(&attach("e1", 1, 2, key)).await, Answer::Done);
        let _newest = world.welcomed("e1", 1, 3).await;
        assert_eq!(data.closed().await, close::SUPERSEDED, "a newer session has taken over");
    });
}

/// Accepts every connection, and never reads.
async fn hold_all(listener: TcpListener) {
    let mut held = Vec::new();
    loop {
        held.push(listener.accept().await.unwrap());
    }
}

/// Sends more than stream and socket hold, until the stream is stopped; the code that it is stopped with.
async fn flood(mut send: SendStream, _recv: RecvStream) -> u64 {
    let bytes = vec![0; 1 << 20];
    loop {
        match send.write_all(&bytes).await {
            Ok(()) => {}
            Err(WriteError::Stopped(code)) => return code.into_inner(),
            Err(error) => panic!("the connection was lost: {error}"),
        }
    }
}

#[test]
fn an_app_that_reads_nothing_loses_its_newest_uploads_and_nobody_else_waits() {
    const UPLOADS: usize = 140;
    const SHARE: usize = 128;
    run(async {
        let world = World::new().await;
        let (calls, data) = world.attached().await;
        let (silent, listener) = app(&world, &calls, 1, "silent").await;
        let _accepting = tokio::task::spawn_local(hold_all(listener));
        let (other, listener) = app(&world, &calls, 2, "other").await;
        let mut uploads = tokio::task::JoinSet::new();
        for _ in 0..UPLOADS {
            let (send, recv) = data.connected(&silent, silent.ready_port.unwrap()).await;
            uploads.spawn(flood(send, recv));
        }
        for _ in SHARE..UPLOADS {
            let cut = timeout(Duration::from_secs(15), uploads.join_next()).await.expect("too few were cut");
            assert_eq!(cut.unwrap().unwrap(), u64::from(close::UNREAD));
        }
        let exchange = async {
            let (accepted, (mut send, mut recv)) =
                tokio::join!(listener.accept(), data.connected(&other, other.ready_port.unwrap()));
            let mut socket = accepted.unwrap().0;
            send.write_all(b"ping").await.unwrap();
            let mut buffer = [0; 4];
            socket.read_exact(&mut buffer).await.unwrap();
            socket.write_all(b"pong").await.unwrap();
            recv.read_exact(&mut buffer).await.unwrap();
        };
        timeout(SOON, exchange).await.expect("another app waits");
        assert_eq!(timeout(SOON, calls.stop(silent.instance, 15, 60_000)).await, Ok(Answer::Done));
        assert!(uploads.try_join_next().is_none(), "those within the share stay");
    });
}

#[test]
fn an_app_that_opens_much_leaves_tunnels_to_others() {
    run(async {
        let world = World::new().await;
        let (calls, data) = world.attached().await;
        let (greedy, listener) = app(&world, &calls, 1, "greedy").await;
        let _accepting = tokio::task::spawn_local(hold_all(listener));
        let (other, listener) = app(&world, &calls, 2, "other").await;
        let port = greedy.ready_port.unwrap();
        let mut open = Vec::new();
        let refused = loop {
            match data.tunnel(header(&greedy, port)).await {
                (TunnelAnswer::Connected, send, recv) => open.push((send, recv)),
                (refused, ..) => break refused,
            }
        };
        assert_eq!((refused, open.len()), (TunnelAnswer::Share, 500), "half of what the node has");
        let (_accepted, _tunnel) =
            tokio::join!(listener.accept(), data.connected(&other, other.ready_port.unwrap()));
    });
}
