//! WebSockets of programs: to their clients, from servers, from objects wherever they are; their ends, whoever brings them about.

use std::time::Duration;

use berth_common::spec::AppSpec;
use futures_util::{SinkExt, StreamExt};
use http::StatusCode;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Response;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use super::{Setup, programmed, set_up};
use crate::support::app::App;
use crate::support::soon;

type Socket = WebSocketStream<TcpStream>;

impl Setup {
    /// Opens a WebSocket to an app.
    async fn open(&self, app: &str, path: &str) -> (Socket, Response) {
        let mut request = format!("ws://{app}.example{path}").into_client_request().unwrap();
        if path == "/x" {
            request.headers_mut().insert("sec-websocket-protocol", "chat".parse().unwrap());
        }
        let stream = TcpStream::connect(self.edge.address).await.unwrap();
        soon("a socket", tokio_tungstenite::client_async(request, stream)).await.unwrap()
    }
}

async fn say(socket: &mut Socket, text: &str) {
    soon("a message's way", socket.send(Message::text(text))).await.unwrap();
}

async fn hear(socket: &mut Socket) -> Message {
    soon("a message", socket.next()).await.expect("it is open").unwrap()
}

/// Code and reason of the close that comes next.
async fn closed(socket: &mut Socket) -> (u16, String) {
    match hear(socket).await {
        Message::Close(Some(frame)) => (frame.code.into(), frame.reason.to_string()),
        Message::Close(None) => (1005, String::new()),
        other => panic!("{other:?}"),
    }
}

fn code(code: u16, reason: &str) -> Option<CloseFrame> {
    Some(CloseFrame { code: code.into(), reason: reason.to_owned().into() })
}

const ECHO: &str = "export default { async fetch(request) {
    const { pathname } = new URL(request.url);
    const [client, server] = Object.values(new WebSocketPair());
    server.binaryType = 'arraybuffer';
    server.accept();
    server.addEventListener('close', (e) => console.log('closed', e.code, e.reason, e.wasClean));
    server.addEventListener('message', (e) => {
        if (e.data === 'close') return server.close();
        if (e.data === 'close 4002') return server.close(4002, 'enough');
        if (e.data === 'throw') throw new Error('it does not work');
        server.send(e.data);
    });
    return new Response(null, { status: 101, webSocket: client, headers: { 'x-own': pathname, ...(pathname === '/x' ? { 'sec-websocket-protocol': 'chat' } : {}), 'sec-websocket-accept': 'mine', 'connection': 'close' } });
} };";

#[tokio::test]
async fn a_program_talks_with_its_clients_and_closes_keep_their_codes() {
    let setup = set_up().await;
    setup.deploy_one("a", ECHO).await;
    let (mut socket, response) = setup.open("a", "/x").await;
    assert_eq!(
        (&response.headers()["x-own"], &response.headers()["sec-websocket-protocol"]),
        (&"/x".parse().unwrap(), &"chat".parse().unwrap())
    );
    // As long as one may be.
    for message in [Message::text("héllo"), Message::binary(vec![5; 1 << 20]), Message::binary(Vec::new())] {
        socket.send(message.clone()).await.unwrap();
        assert_eq!(hear(&mut socket).await, message);
    }
    socket.close(code(4001, "bye")).await.unwrap();
    assert_eq!(closed(&mut socket).await, (4001, "bye".to_owned()));
    setup.logged("a", "closed 4001 bye true").await;

    for (said, expected) in [("close", (1005, "")), ("close 4002", (4002, "enough")), ("throw", (1011, ""))] {
        let (mut socket, _) = setup.open("a", "/").await;
        say(&mut socket, said).await;
        assert_eq!(closed(&mut socket).await, (expected.0, expected.1.to_owned()), "{said}");
        assert!(soon("the end", socket.next()).await.is_none());
    }
    setup.logged("a", "closed 4002 enough true").await;
    setup.logged("a", "it does not work").await;
    let (mut socket, _) = setup.open("a", "/").await;
    socket.send(Message::binary(vec![0; (1 << 20) + 1])).await.unwrap();
    assert_eq!(closed(&mut socket).await.0, 1009);
    let (socket, _) = setup.open("a", "/").await;
    drop(socket);
    setup.logged("a", "closed 1006 WebSocket disconnected without sending Close frame. false").await;

    // Who has not asked for one gets none.
    let (status, text) = setup.ask("a", "/").await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "{text}");
    setup.logged("a", "did not contain the header \"Upgrade: websocket\"").await;
}

/// A room that says to all what one says; a worker that passes sockets on, or opens and copies them.
const ROOM: &str = r#"
import { DurableObject } from 'cloudflare:workers';
export class Room extends DurableObject {
    sockets = new Set();
    async fetch(request) {
        const url = new URL(request.url).searchParams.get('url');
        if (url !== null) return fetch(url, request);
        const [client, server] = Object.values(new WebSocketPair());
        server.accept();
        this.sockets.add(server);
        server.addEventListener('message', async (e) => {
            const count = ((await this.ctx.storage.get('count')) ?? 0) + 1;
            this.ctx.storage.put('count', count);
            for (const socket of this.sockets) socket.send(`${count} ${e.data}`);
        });
        server.addEventListener('close', (e) => { this.sockets.delete(server); server.close(e.code, e.reason); });
        return new Response(null, { status: 101, webSocket: client });
    }
}
export default { async fetch(request, env) {
    const url = new URL(request.url);
    const room = env.ROOMS.getByName(url.pathname);
    const response = await room.fetch(request);
    if (!url.searchParams.has('copies') || response.webSocket === null) return response;
    const [client, server] = Object.values(new WebSocketPair());
    const upstream = response.webSocket;
    upstream.accept();
    server.accept();
    for (const [from, to] of [[server, upstream], [upstream, server]]) {
        from.addEventListener('message', async (e) => { to.send(e.data instanceof Blob ? await e.data.arrayBuffer() : e.data); });
        from.addEventListener('close', (e) => { console.log('closed', e.code); try { if (e.code === 1005) to.close(); else to.close(e.code, e.reason); } catch {} });
    }
    return new Response(null, { status: 101, webSocket: client });
} };"#;

fn rooms() -> AppSpec {
    let more = json!({"classes": ["Room"], "object_classes": {"Room": "Room"}, "durable_objects": {"ROOMS": "Room"}});
    let mut app = programmed("room", &[("index.js", ROOM)], more);
    let builtin = json!({ "builtin": "cloudflare:workers" });
    let entry = &mut app.program.as_mut().unwrap().modules[0];
    entry.imports.insert("cloudflare:workers".to_owned(), serde_json::from_value(builtin).unwrap());
    app
}

async fn deploy_rooms(setup: &Setup) {
    setup.send(&[("index.js", ROOM)]).await;
    let (status, answer) = setup.put(&rooms()).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
}

#[tokio::test]
async fn a_room_hears_all_its_clients_wherever_it_is() {
    let setup = set_up().await;
    deploy_rooms(&setup).await;
    // Names whose objects are on all threads, and clients who come in at any.
    for name in ["/a", "/b", "/c", "/d?copies", "/e?copies", "/f?copies"] {
        let (mut one, _) = setup.open("room", name).await;
        let (mut two, _) = setup.open("room", name).await;
        say(&mut one, "hello").await;
        for socket in [&mut one, &mut two] {
            assert_eq!(hear(socket).await, Message::text("1 hello"), "{name}");
        }
        one.close(code(4000, "done")).await.unwrap();
        assert_eq!(closed(&mut one).await, (4000, "done".to_owned()));
        // What it has said before its end has been heard; the room goes on.
        let said = async {
            loop {
                say(&mut two, "again").await;
                if hear(&mut two).await == Message::text("4 again") {
                    return;
                }
            }
        };
        soon("the room's answers", said).await;
    }
}

#[tokio::test]
async fn a_servers_socket_is_passed_on_unseen_or_opened() {
    let (setup, server) = (set_up().await, App::start().await);
    deploy_rooms(&setup).await;
    for name in ["/a", "/b", "/c", "/d"] {
        let passed = format!("{name}?url=http://{}/c/x/ws", server.address);
        let (mut socket, _) = setup.open("room", &passed).await;
        // Longer than a script could hear.
        let long = Message::binary(vec![7; 3 << 20]);
        for message in [Message::text("hello"), long] {
            socket.send(message.clone()).await.unwrap();
            assert_eq!(hear(&mut socket).await, message, "{name}");
        }
        socket.close(code(4000, "x")).await.unwrap();
        assert_eq!(closed(&mut socket).await, (4000, "x".to_owned()));

        let (mut socket, _) = setup.open("room", &format!("{passed}&copies")).await;
        for message in [Message::text("hello"), Message::binary(vec![7; 200_000])] {
            socket.send(message.clone()).await.unwrap();
            assert_eq!(hear(&mut socket).await, message, "{name}");
        }
        socket.close(code(4001, "y")).await.unwrap();
        assert_eq!(closed(&mut socket).await, (4001, "y".to_owned()));
        setup.logged("room", "closed 4001").await;
    }
    // One that is none.
    let (status, text) = setup.ask("room", &format!("/a?url=http://{}/c/x/plain", server.address)).await;
    assert_eq!((status, text.as_str()), (StatusCode::OK, "hello /c/x/plain"));
}

#[tokio::test]
async fn a_client_that_floods_is_held_back_until_the_program_reads() {
    let setup = set_up().await;
    let source = "export default { async fetch(request, env, ctx) {
        const [client, server] = Object.values(new WebSocketPair());
        let count = 0;
        server.addEventListener('message', (e) => { if (e.data === 'end') server.send(String(count)); else count += e.data.length; });
        ctx.waitUntil(scheduler.wait(5000).then(() => server.accept()));
        return new Response(null, { status: 101, webSocket: client });
    } };";
    setup.deploy_one("a", source).await;
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", setup.edge.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
    };
    let before = resident();
    let (mut socket, _) = setup.open("a", "/").await;
    let message = "x".repeat(1 << 16);
    let mut sent = 0;
    let stalled = loop {
        // One that was begun goes on later: it lies in the socket's buffer.
        let sending = socket.send(Message::text(message.clone()));
        let stalled = tokio::time::timeout(Duration::from_secs(2), sending).await.is_err();
        sent += message.len();
        if stalled || sent > 256 << 20 {
            break stalled;
        }
    };
    assert!(stalled, "{sent} bytes were taken that nobody reads");
    let grown = resident().saturating_sub(before);
    assert!(grown < 48 << 20, "{grown} bytes");
    say(&mut socket, "end").await;
    assert_eq!(hear(&mut socket).await, Message::text(sent.to_string()));
}

#[tokio::test]
async fn sockets_of_a_process_that_is_killed_are_closed_and_others_go_on() {
    let setup = set_up().await;
    setup.deploy_one("a", ECHO).await;
    deploy_rooms(&setup).await;
    let (mut killed, _) = setup.open("a", "/").await;
    say(&mut killed, "x").await;
    assert_eq!(hear(&mut killed).await, Message::text("x"));
    let [process] = setup.processes()[..] else { panic!("one process") };
    let (mut other, _) = setup.open("room", "/a").await;
    kill(Pid::from_raw(process), Signal::SIGKILL).unwrap();
    assert_eq!(closed(&mut killed).await, (1011, String::new()));
    say(&mut other, "y").await;
    assert_eq!(hear(&mut other).await, Message::text("1 y"));
    // The edge stops.
    let ends = async { closed(&mut other).await };
    let ((code, _), _) = tokio::join!(ends, setup.edge.terminate());
    assert_eq!(code, 1001);
}
