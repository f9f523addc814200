//! The edge as a whole: the real daemon between real clients and a fake agent.
#![allow(clippy::unwrap_used)]

mod files;
mod programs;
mod registry;
mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use http::StatusCode;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Message;

use support::agent::{Agent, Node};
use support::app::{App, BIG_BYTES};
use support::edge::{Edge, Site, certificates};
use support::{client, soon};

/// Everything that a test needs.
struct Stage {
    app: App,
    node: Arc<Node>,
    agent: Agent,
    site: Site,
    edge: Edge,
}

async fn stage() -> Stage {
    let app = App::start().await;
    let certificates = certificates();
    let node = Node::new("n1", app.address, certificates.path());
    let agent = node.start("127.0.0.1:0".parse().unwrap());
    let site = Site::new(certificates, agent.address);
    let edge = site.start().await;
    edge.connected().await;
    edge.deploy(|_| {}).await;
    Stage { app, node, agent, site, edge }
}

#[tokio::test]
async fn a_request_reaches_its_instance_unchanged() {
    let stage = stage().await;
    let edge = stage.edge.address;
    let path = "/c/a%2Fb/x%20y/../z?q=%2F&r";
    assert_eq!(client::get(edge, path).await, (StatusCode::OK, format!("hello {path}")));

    let (_, headers) = client::get(edge, "/c/a%2Fb/headers").await;
    assert!(headers.contains("host: edge.test\n"), "{headers}");
    assert!(headers.contains("x-forwarded-for: 127.0.0.1\n"), "{headers}");

    let body = vec![b'x'; 3 << 20];
    let uploaded = client::stream(edge, client::request("POST", "/c/1/length", body)).await;
    assert_eq!(client::whole(uploaded).await.1, (3 << 20).to_string());
    let downloaded = client::stream(edge, client::request("GET", "/c/1/bytes", "")).await;
    let bytes = soon("a download", downloaded.response.into_body().collect()).await.unwrap().to_bytes();
    assert!(bytes.chunks(64 * 1024).zip(0..128).all(|(piece, n)| piece.iter().all(|byte| *byte == n)));
    assert_eq!(bytes.len(), 8 << 20);

    assert_eq!(client::get(edge, "/c/1/nothing").await, (StatusCode::NO_CONTENT, String::new()));
    let head = client::stream(edge, client::request("HEAD", "/c/1/hello", "")).await;
    assert_eq!(head.response.headers()["content-length"], "16");
    assert_eq!(client::whole(head).await, (StatusCode::OK, String::new()));

    assert_eq!(client::get(edge, "/elsewhere").await.0, StatusCode::NOT_FOUND);
    assert_eq!(client::get(edge, "/c/%ff/x").await.0, StatusCode::BAD_REQUEST);
    assert_eq!(stage.node.starts(2).await.len(), 2);
    assert_eq!(stage.edge.state("1").await.as_deref(), Some("healthy"));
}

#[tokio::test]
async fn concurrent_first_requests_share_one_start() {
    let stage = stage().await;
    let edge = stage.edge.address;
    let requests = (0..50).map(|n| async move { client::get(edge, &format!("/c/new/{n}")).await });
    for (n, answer) in futures_util::future::join_all(requests).await.into_iter().enumerate() {
        assert_eq!(answer, (StatusCode::OK, format!("hello /c/new/{n}")));
    }
    assert_eq!(stage.node.starts(1).await.len(), 1);
}

#[tokio::test]
async fn later_requests_reuse_the_connection_to_the_instance() {
    let stage = stage().await;
    for n in 0..20 {
        assert_eq!(client::get(stage.edge.address, &format!("/c/1/{n}")).await.0, StatusCode::OK);
    }
    assert_eq!(stage.app.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_aborted_download_releases_its_hold_and_a_running_one_keeps_it() {
    let stage = stage().await;
    stage.edge.deploy(|class| class.sleep_after = Duration::from_secs(1).into()).await;
    let mut endless = client::stream(stage.edge.address, client::request("GET", "/c/1/endless", "")).await;
    let first = soon("the first bytes", endless.response.frame()).await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "first");

    // Twice `sleep_after`: by then a stop would have been sent.
    let quiet = tokio::time::timeout(Duration::from_secs(2), stage.node.stops(1)).await;
    assert!(quiet.is_err(), "stopped under a running request: {quiet:?}");
    let aborted = Instant::now();
    drop(endless);
    let stops = stage.node.stops(1).await;
    assert_eq!(stops[0].signal, 15);
    assert!(aborted.elapsed() >= Duration::from_millis(900), "slept {:?} after the abort", aborted.elapsed());
    // The end is stored, and the node forgets the instance.
    stage.node.instances(0).await;
    assert_eq!(stage.edge.state("1").await.as_deref(), Some("stopped"));
}

#[tokio::test]
async fn a_body_that_ends_early_is_the_fault_of_its_client() {
    let stage = stage().await;
    let mut stream = tokio::net::TcpStream::connect(stage.edge.address).await.unwrap();
    stream
        .write_all(b"POST /c/1/length HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nshort")
        .await
        .unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    soon("the answer", stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("ended before"), "{answer}");
}

#[tokio::test]
async fn an_aborted_unread_upload_releases_its_hold() {
    let stage = stage().await;
    stage.edge.deploy(|class| class.sleep_after = Duration::from_secs(1).into()).await;
    let mut stream = tokio::net::TcpStream::connect(stage.edge.address).await.unwrap();
    let head = "POST /c/1/deaf HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    // Until every buffer on the way is full.
    let piece = vec![0; 1 << 20];
    while tokio::time::timeout(Duration::from_millis(500), stream.write_all(&piece)).await.is_ok() {}
    let held = tokio::time::timeout(Duration::from_secs(2), stage.node.stops(1)).await;
    assert!(held.is_err(), "stopped under a running upload: {held:?}");
    // A reset arrives at once. An orderly close would wait behind unread data, until the client's kernel gives up.
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
    assert_eq!(stage.node.stops(1).await.len(), 1);
}

#[tokio::test]
async fn large_bodies_pass_in_little_memory() {
    let stage = stage().await;
    let edge = stage.edge.address;
    let big = client::stream(edge, client::request("GET", "/c/1/big", "")).await;
    let mut body = big.response.into_body();
    let mut received = 0;
    while let Some(frame) = soon("more of the body", body.frame()).await {
        let data = frame.unwrap().into_data().unwrap();
        for byte in [data.first(), data.last()].into_iter().flatten() {
            assert!(*byte < 128);
        }
        received += data.len();
    }
    assert_eq!(received, BIG_BYTES);
    let answer = client::upload(edge, "/c/1/length", BIG_BYTES).await;
    assert!(answer.ends_with(&BIG_BYTES.to_string()), "{answer}");
    let peak = stage.edge.peak_memory_kib();
    assert!(peak < 64 * 1024, "{peak} KiB");
}

#[tokio::test]
async fn expect_100_continue_is_answered() {
    let stage = stage().await;
    let mut stream = tokio::net::TcpStream::connect(stage.edge.address).await.unwrap();
    let head = "POST /c/1/length HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut told = [0; 25];
    soon("leave to go on", stream.read_exact(&mut told)).await.unwrap();
    assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"hello").await.unwrap();
    let mut answer = vec![0; 15];
    soon("the answer", stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 200 OK");
}

#[tokio::test]
async fn a_restarted_agent_is_found_again_at_once() {
    let stage = stage().await;
    let edge = stage.edge.address;
    assert_eq!(client::get(edge, "/c/1/before").await.0, StatusCode::OK);
    let address = stage.agent.address;
    stage.agent.kill().await;

    let waiting = tokio::spawn(async move { client::get(edge, "/c/1/meanwhile").await });
    // Long enough for the connection's own probes to have become rare.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let _agent = stage.node.start(address);
    let restarted = Instant::now();
    assert_eq!(client::get(edge, "/c/1/after").await, (StatusCode::OK, "hello /c/1/after".to_owned()));
    assert!(restarted.elapsed() < Duration::from_secs(2), "{:?}", restarted.elapsed());
    assert_eq!(stage.node.starts(1).await.len(), 1, "the instance was kept");
    // The request sent while the agent was away got some response, or the right one.
    let (status, _) = soon("the waiting request", waiting).await.unwrap();
    assert!(status == StatusCode::OK || status.is_server_error(), "{status}");
}

#[tokio::test]
async fn a_web_socket_passes_through_and_its_messages_are_activity() {
    let stage = stage().await;
    stage.edge.deploy(|class| class.sleep_after = Duration::from_secs(1).into()).await;
    let url = format!("ws://{}/c/1/ws", stage.edge.address);
    let stream = tokio::net::TcpStream::connect(stage.edge.address).await.unwrap();
    let (mut socket, _) = soon("a socket", tokio_tungstenite::client_async(url, stream)).await.unwrap();
    let large = Message::binary(vec![5; 1 << 20]);
    for message in [Message::text("hello"), large] {
        socket.send(message.clone()).await.unwrap();
        assert_eq!(soon("the echo", socket.next()).await.unwrap().unwrap(), message);
    }
    // Active for longer than `sleep_after`.
    for n in 0..8 {
        tokio::time::sleep(Duration::from_millis(250)).await;
        socket.send(Message::text(n.to_string())).await.unwrap();
        assert_eq!(soon("the echo", socket.next()).await.unwrap().unwrap(), Message::text(n.to_string()));
    }
    assert_eq!(stage.edge.state("1").await.as_deref(), Some("healthy"));
    // Silent: the instance goes to sleep although the socket is open.
    assert_eq!(stage.node.stops(1).await.len(), 1);
}

#[tokio::test]
async fn invalid_http_is_refused_and_closed() {
    let stage = stage().await;
    let host = "Host: h\r\n";
    let cases = [
        "not http at all\r\n\r\n".to_owned(),
        format!("POST /c/1/length HTTP/1.0\r\n{host}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("POST /c/1/length HTTP/1.1\r\n{host}Content-Length: 1x\r\n\r\n"),
        format!("GET /c/1/x HTTP/1.1\r\n{host}Connection: close\r\nHost: i\r\n\r\n"),
    ];
    for case in cases {
        let answer = client::raw(stage.edge.address, &case).await;
        assert!(answer.contains(" 400 Bad Request\r\n"), "{case}: {answer}");
    }
    let long = format!("GET /c/1/x HTTP/1.1\r\n{host}X: {}\r\n\r\n", "x".repeat(100 * 1024));
    let answer = client::raw(stage.edge.address, &long).await;
    // The rest of such a head may still be in flight when the connection is closed, and the response be lost because of
    // it.
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test]
async fn an_instance_outlives_its_edge() {
    let stage = stage().await;
    assert_eq!(client::get(stage.edge.address, "/c/1/x").await.0, StatusCode::OK);
    stage.edge.kill().await;

    let edge = stage.site.start().await;
    assert_eq!(client::get(edge.address, "/c/1/y").await, (StatusCode::OK, "hello /c/1/y".to_owned()));
    assert_eq!(stage.node.starts(1).await.len(), 1);
    assert!(edge.terminate().await.success());

    let edge = stage.site.start().await;
    assert_eq!(client::get(edge.address, "/c/1/z").await.0, StatusCode::OK);
    assert_eq!(stage.node.starts(1).await.len(), 1);
}

#[tokio::test]
async fn an_app_that_ends_by_itself_is_started_again() {
    let stage = stage().await;
    assert_eq!(client::get(stage.edge.address, "/c/1/x").await.0, StatusCode::OK);
    let first = stage.node.starts(1).await[0].instance;
    stage.node.exit(first, 3);
    stage.node.instances(0).await;
    assert_eq!(stage.edge.state("1").await.as_deref(), Some("stopped_with_code"));
    assert_eq!(client::get(stage.edge.address, "/c/1/y").await.0, StatusCode::OK);
    let starts = stage.node.starts(2).await;
    assert_ne!(starts[1].instance, first);
    assert!(starts[1].generation > starts[0].generation);
}

#[tokio::test]
async fn requests_in_flight_are_finished_when_the_edge_ends() {
    let stage = stage().await;
    let mut endless = client::stream(stage.edge.address, client::request("GET", "/c/1/endless", "")).await;
    soon("the first bytes", endless.response.frame()).await.unwrap().unwrap();
    let edge = stage.edge.address;
    let ending = tokio::spawn(stage.edge.terminate());
    // A draining edge accepts no new connection.
    soon("the end of listening", async {
        while tokio::net::TcpStream::connect(edge).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let still_open = tokio::time::timeout(Duration::from_secs(1), endless.response.frame()).await;
    assert!(still_open.is_err(), "cut off while the edge had its grace");
    drop(endless);
    assert!(soon("the edge's end", ending).await.unwrap().success());
}

#[tokio::test]
async fn the_admin_api_tells_and_refuses() {
    let stage = stage().await;
    let nodes = stage.edge.look("/v1/nodes").await;
    assert_eq!(nodes["nodes"][0]["node"], "n1");
    assert_eq!(stage.edge.look("/v1/health").await["status"], "ok");
    assert_eq!(stage.edge.look("/v1/apps").await["apps"][0]["name"], "test");
    let (status, gone) =
        client::admin(&stage.edge.admin, client::request("GET", "/v1/assets/directory", "")).await;
    assert!(status == StatusCode::GONE && gone["detail"].as_str().unwrap().contains("by digest"), "{gone}");

    let mut spec = support::edge::app(|class| class.default_port = Some(0));
    let put = |name: &str, body: Vec<u8>| client::request("PUT", &format!("/v1/apps/{name}"), body);
    let body = serde_json::to_vec(&spec).unwrap();
    let (status, problem) = client::admin(&stage.edge.admin, put("test", body.clone())).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(problem["detail"].as_str().unwrap().contains("default_port"), "{problem}");
    assert_eq!(client::admin(&stage.edge.admin, put("other", body)).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(client::admin(&stage.edge.admin, put("test", b"{".to_vec())).await.0, StatusCode::BAD_REQUEST);
    spec.routes.clear();

    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&stage.edge.admin).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}
