//! WebSockets of honest scripts, without a proxy.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{DuplexStream, duplex};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_util::sync::CancellationToken;

use crate::script::{Body, Plug, ScriptBody, frames};
use crate::stage::{app, processes, settings, stage_with, until};

/// Answers with what it was told.
const ECHO: &str = "const id = host.wsNew();
    host.wsOpen(id, {
        message: (data) => host.wsSend(id, typeof data === 'string' ? 'you said ' + data : data),
        close: (code, reason) => { console.log('closed', code); host.wsClose(id, code, reason); },
        error: () => console.log('lost'),
    }, host.wsPlace());
    return { status: 101, webSocket: id };";

/// A client that takes the socket of an answer.
async fn taken(response: http::Response<ScriptBody>) -> WebSocketStream<DuplexStream> {
    assert_eq!(response.status(), 101);
    let plug = response.extensions().get::<Plug>().unwrap().clone();
    let (near, far) = duplex(1 << 10);
    let (sender, messages) = frames::incoming();
    plug.connect(messages);
    let outgoing = Body::new(response.into_body());
    tokio::spawn(async move {
        frames::carry(Box::new(near), Role::Server, outgoing, sender, &CancellationToken::new()).await;
    });
    WebSocketStream::from_raw_socket(far, Role::Client, None).await
}

async fn close_of(client: &mut WebSocketStream<DuplexStream>) -> u16 {
    match client.next().await.unwrap().unwrap() {
        Message::Close(frame) => frame.map_or(1005, |frame| frame.code.into()),
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn sockets_keep_their_process_and_end_with_their_version() {
    let mut quick = settings();
    (quick.idle, quick.last_calls) = (Duration::from_millis(300), Duration::from_millis(100));
    let stage = stage_with(quick);
    let code = app("a", ECHO);
    let mut client = taken(stage.call(&code, "/").await.unwrap()).await;
    for message in ["x".to_owned(), "y".repeat(300_000)] {
        client.send(Message::text(message.clone())).await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), Message::text(format!("you said {message}")));
    }
    // Longer than a process without calls goes on.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    client.send(Message::binary(vec![1])).await.unwrap();
    assert_eq!(client.next().await.unwrap().unwrap(), Message::binary(vec![1]));
    client.close(None).await.unwrap();
    assert_eq!(close_of(&mut client).await, 1005);
    stage.logged("closed 1005").await;
    until(|| processes().is_empty()).await;

    let mut client = taken(stage.call(&code, "/").await.unwrap()).await;
    stage.host.retire(&code.key);
    assert_eq!(close_of(&mut client).await, 1001);
    until(|| processes().is_empty()).await;
}

pub(crate) async fn a_socket_that_nobody_takes_is_lost() {
    let stage = crate::stage::stage();
    let code = app("a", ECHO);
    drop(stage.call(&code, "/").await.unwrap());
    stage.logged("lost").await;
    // One that breaks off is lost, too, and many leave nothing behind that would keep others out.
    for _ in 0..1100 {
        drop(taken(stage.call(&code, "/").await.unwrap()).await);
    }
    assert_eq!(stage.text(&code, "/good").await, "good");
}
