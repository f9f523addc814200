//! A WebSocket of a case, from its handshake to its end.

use std::time::Duration;

use anyhow::Result;
use futures_util::{SinkExt, StreamExt};
use hyper::header::{HeaderName, HeaderValue};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::case::{Act, SocketStep};
use super::drive::{Target, headers, shown, titled};

/// How long a message may take to come.
const PATIENCE: Duration = Duration::from_secs(10);

/// Opens a WebSocket, carries out what is to be done with it, and returns what came.
pub(super) async fn talk(target: &Target, step: &SocketStep) -> Value {
    let outcome = opened(target, step).await;
    titled(step.title(), outcome.unwrap_or_else(|_| json!({"failed": "the connection broke"})))
}

async fn opened(target: &Target, step: &SocketStep) -> Result<Value> {
    let mut request = format!("ws://{}{}", target.host, step.socket).into_client_request()?;
    for (name, value) in &step.headers {
        request.headers_mut().insert(name.parse::<HeaderName>()?, HeaderValue::from_str(value)?);
    }
    let stream = TcpStream::connect(target.address).await?;
    match tokio_tungstenite::client_async(request, stream).await {
        Ok((mut socket, answer)) => {
            let mut events = Vec::new();
            for act in &step.acts {
                // What cannot be sent after the end is no outcome: the end was told.
                if carry_out(&mut socket, act, &mut events).await.is_err() {
                    break;
                }
            }
            Ok(json!({"status": 101, "headers": headers(answer.headers()), "events": events}))
        }
        Err(Error::Http(answer)) => {
            let (head, body) = answer.into_parts();
            let body = shown(&head.headers, &body.unwrap_or_default());
            Ok(json!({"status": head.status.as_u16(), "headers": headers(&head.headers), "body": body}))
        }
        Err(error) => Err(error.into()),
    }
}

async fn carry_out(
    socket: &mut WebSocketStream<TcpStream>,
    act: &Act,
    events: &mut Vec<Value>,
) -> Result<()> {
    match act {
        Act::Send(text) => socket.send(Message::text(text.as_str())).await?,
        Act::SendBytes(bytes) => socket.send(Message::binary(bytes.clone())).await?,
        Act::Close(code, reason) => {
            let frame = CloseFrame { code: (*code).into(), reason: reason.as_str().into() };
            socket.close(Some(frame)).await?;
        }
        Act::CloseSilently => socket.close(None).await?,
        Act::WaitMs(ms) => tokio::time::sleep(Duration::from_millis(*ms)).await,
        Act::Receive(count) => {
            for _ in 0..*count {
                let Some(event) = received(socket).await else { break };
                events.push(event);
            }
        }
    }
    Ok(())
}

/// The next message or the close; nothing once it has ended.
async fn received(socket: &mut WebSocketStream<TcpStream>) -> Option<Value> {
    loop {
        let Ok(next) = timeout(PATIENCE, socket.next()).await else { return Some("nothing comes".into()) };
        return Some(match next? {
            Ok(Message::Text(text)) => text.as_str().into(),
            Ok(Message::Binary(bytes)) => json!({"bytes": bytes.to_vec()}),
            Ok(Message::Close(None)) => json!({"close": null}),
            Ok(Message::Close(Some(frame))) => {
                json!({"close": [u16::from(frame.code), frame.reason.as_str()]})
            }
            Ok(_) => continue,
            Err(_) => "the connection broke".into(),
        });
    }
}
