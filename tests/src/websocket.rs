//! WebSockets through the edge.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::client::Client;

/// How long a message may take to come.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(20);

/// An open WebSocket.
#[derive(Debug)]
pub struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// The instance at the other end.
    pub instance: String,
}

impl Socket {
    /// Opens one.
    pub async fn open(client: &Client, path: &str) -> Result<Self> {
        let url = format!("ws://{}{path}", client.address());
        let (stream, response) = tokio_tungstenite::connect_async(url).await.context("open a WebSocket")?;
        let instance = response.headers().get("x-instance").context("no instance answered")?;
        Ok(Self { instance: instance.to_str()?.to_owned(), stream })
    }

    /// Sends a message and expects the same back.
    pub async fn echo(&mut self, message: Message) -> Result<()> {
        self.stream.send(message.clone()).await?;
        let back = self.next().await?.context("the WebSocket ended")?;
        let (sent, came) = (message.len(), back.len());
        ensure!(back == message, "the echo of {sent} bytes has {came} bytes or others");
        Ok(())
    }

    /// The next message, or nothing where the WebSocket has ended.
    pub async fn next(&mut self) -> Result<Option<Message>> {
        let message = tokio::time::timeout(MESSAGE_TIMEOUT, self.stream.next()).await;
        Ok(message.context("no message came")?.transpose()?)
    }

    /// Closes with a code and returns the code that is answered.
    pub async fn close(&mut self, code: u16) -> Result<u16> {
        let frame = CloseFrame { code: CloseCode::from(code), reason: "bye".into() };
        self.stream.close(Some(frame)).await?;
        self.closed().await
    }

    /// The code with which the other side closes.
    pub async fn closed(&mut self) -> Result<u16> {
        match self.next().await? {
            Some(Message::Close(Some(frame))) => Ok(frame.code.into()),
            other => bail!("expected a close with a code, not {other:?}"),
        }
    }
}
