//! A QUIC peer that dials an agent as an edge does, with any certificate, and can send any bytes.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use berth_certs::{Credentials, SERVER_NAME, client_config};
use berth_common::ids::{EdgeId, Epoch, NodeId};
use berth_common::wire::call::{Answer, Call, Hello};
use berth_common::wire::{STREAM_CALL, frame};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, ConnectionError, Endpoint, RecvStream, SendStream};

/// How long an agent may take to answer, or to close the connection.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// A connection to an agent.
#[derive(Debug)]
pub struct Rogue {
    connection: Connection,
    _endpoint: Endpoint,
}

impl Rogue {
    /// Dials with the certificate of this role and name.
    pub async fn dial(authority: &Path, role: &str, name: &str, node: &str, at: SocketAddr) -> Result<Self> {
        let file = |ending| authority.join(format!("{role}-{name}.{ending}"));
        let credentials = Credentials::load(&authority.join("ca.pem"), &file("pem"), &file("key"))?;
        let tls = client_config(&credentials, &NodeId::new(node)?);
        let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
        let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into())?;
        let connecting = endpoint.connect_with(config, at, SERVER_NAME)?;
        let connection = tokio::time::timeout(ANSWER_TIMEOUT, connecting).await.context("no answer")??;
        Ok(Self { connection, _endpoint: endpoint })
    }

    /// Opens a stream and sends bytes on it.
    pub async fn send(&self, bytes: &[u8]) -> Result<(SendStream, RecvStream)> {
        let (mut send, receive) = self.connection.open_bi().await?;
        send.write_all(bytes).await?;
        Ok((send, receive))
    }

    /// Makes one call and returns its first answer.
    pub async fn call(&self, call: &Call) -> Result<Answer> {
        let (_send, mut receive) = self.send(&call_bytes(call)?).await?;
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, frame::read(&mut receive)).await;
        answer.context("no answer")??.context("the stream ended without an answer")
    }

    /// Introduces itself as an edge.
    pub async fn hello(&self, edge: &str) -> Result<Answer> {
        let (edge, epoch) = (EdgeId::new(edge)?, Epoch(1));
        self.call(&Call::Hello(Hello {
            edge,
            epoch,
            shard: 0,
            session: 1,
            version: "test".into(),
            attach: false,
        }))
        .await
    }

    /// Waits for the agent to close the connection, and returns its code.
    pub async fn closed(&self) -> Result<u64> {
        let reason = tokio::time::timeout(ANSWER_TIMEOUT, self.connection.closed()).await;
        match reason.context("the agent did not close the connection")? {
            ConnectionError::ApplicationClosed(close) => Ok(close.error_code.into_inner()),
            other => bail!("the connection ended without a code of the protocol: {other}"),
        }
    }

    /// Waits for the agent to end the connection, with any code.
    pub async fn ended(&self) -> Result<ConnectionError> {
        let reason = tokio::time::timeout(ANSWER_TIMEOUT, self.connection.closed()).await;
        reason.context("the agent did not end the connection")
    }
}

/// A call as the bytes of its stream.
pub fn call_bytes(call: &Call) -> Result<Vec<u8>> {
    let mut bytes = vec![STREAM_CALL];
    bytes.extend(frame::encode(call)?);
    Ok(bytes)
}
