//! One connection of an edge, from its handshake to its end.
//!
//! ```text
//!  connected ──Hello, in time, by its certificate's holder, newest of its shard──▶ serving ──▶ closed
//!      └───────────────────────anything else───────────────────────────────────────────────────▶ ▲
//!                            a breach · a newer session · edge or agent closes · silence ────────┘
//! ```
//!
//! Each stream is served in its own task.
//!
//! What fails, and what happens then:
//! * No Hello in time, a wrong certificate or an older session: the connection is closed with the reason.
//! * The peer breaks the protocol on any stream: its connection is closed; other connections are not affected.
//! * The peer reads its updates too slowly: its connection is closed (`SLOW`); it connects again and gets all states
//!   anew.
//! * A stream's first bytes do not arrive in time: only the stream is reset.
//! * The edge is silent: the idle timeout ends the connection. Its instances run on.
//! * A newer session of the shard connects: this one is closed, and its pending starts are refused.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use berth_certs::{Identity, Role};
use berth_common::image::Architecture;
use berth_common::wire::call::{Answer, Call, Hello, Welcome};
use berth_common::wire::frame::{self, FrameError};
use berth_common::wire::images::Deliver;
use berth_common::wire::tunnel::TunnelHeader;
use berth_common::wire::{STREAM_CALL, STREAM_TUNNEL, close};
use berth_protocol::node::HelloError;
use quinn::{Connection, RecvStream, SendStream, VarInt};
use rustls::pki_types::CertificateDer;
use tokio::sync::Semaphore;

use crate::agent::Agent;
use crate::connected::Connected;
use crate::deliver::{self, Offer};
use crate::runtime::Runtime;
use crate::sessions::Session;
use crate::stream::{Breach, StreamEnd, answer};
use crate::{calls, tunnel};

/// How long an edge may take to introduce itself.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the first message of a stream may take.
const STREAM_TIMEOUT: Duration = Duration::from_secs(10);
/// Calls that are read at once on one connection: each may take the memory of a whole frame.
const CALLS_READ_AT_ONCE: usize = 16;
/// The shard number of connections for images: no shard has it, because shards are numbered from 0.
const DELIVERY_SHARD: u16 = u16::MAX;
/// Readers of logs at once on one connection: each may have as many files open as the node has logs.
const MAX_LOG_READERS: usize = 16;

/// Serves a connection to its end.
pub(crate) async fn serve<R: Runtime + 'static>(agent: Rc<Agent<R>>, connection: Connection) {
    let remote = connection.remote_address();
    let introduced = tokio::time::timeout(HELLO_TIMEOUT, introduce(&agent, &connection)).await;
    let silent = || Breach::Protocol(format!("no Hello within {} s", HELLO_TIMEOUT.as_secs()));
    match introduced.unwrap_or_else(|_| Err(silent().into())) {
        Ok(Introduced::Shard(session)) => serve_streams(agent, session, connection).await,
        Ok(Introduced::Images(offer)) => serve_images(agent, offer, connection).await,
        Err(StreamEnd::Breach(breach)) => close(&connection, &breach),
        Err(StreamEnd::Gone) => tracing::debug!(%remote, "a connection ended before its Hello"),
    }
}

fn close(connection: &Connection, breach: &Breach) {
    // Several streams may find the same fault: only the first one closes and logs.
    if connection.close_reason().is_none() {
        tracing::warn!(remote = %connection.remote_address(), %breach, "closing a connection");
        connection.close(VarInt::from_u32(breach.code()), breach.to_string().as_bytes());
    }
}

/// The purpose of a connection.
enum Introduced {
    Shard(Session),
    Images(Offer),
}

/// Reads and answers the first call, which decides the purpose of the connection.
async fn introduce<R: Runtime + 'static>(
    agent: &Agent<R>,
    connection: &Connection,
) -> Result<Introduced, StreamEnd> {
    let identity = identify(connection)?;
    let (mut send, mut recv) = connection.accept_bi().await.map_err(|_| StreamEnd::Gone)?;
    let mut kind = [0];
    recv.read_exact(&mut kind).await?;
    let call = if kind == [STREAM_CALL] { frame::read::<Call>(&mut recv).await? } else { None };
    let hello = match call {
        Some(Call::Hello(hello)) => hello,
        Some(Call::Deliver(deliver)) => {
            let session = enter(agent, &identity, &of_delivery(deliver))?;
            frame::write(&mut send, &Answer::Done).await?;
            return Ok(Introduced::Images(Offer { session, send, recv }));
        }
        _ => return Err(Breach::Protocol("the first stream must carry Hello".to_owned()).into()),
    };
    let session = enter(agent, &identity, &hello)?;
    tracing::info!(edge = %hello.edge, shard = hello.shard, epoch = hello.epoch.0, session = hello.session,
        version = %hello.version.escape_debug(), remote = %connection.remote_address(), "edge connected");
    let welcome = Welcome {
        node: agent.node.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        capacity: agent.instances.capacity(),
        disk: agent.runtime.disks(),
        draining: agent.instances.is_draining(),
        region: agent.region.clone(),
        architecture: Some(Architecture::HERE),
        kept_for_ms: agent.runtime.kept_for().and_then(|kept| u64::try_from(kept.as_millis()).ok()),
    };
    answer(&mut send, &Answer::Welcome(welcome)).await?;
    Ok(Introduced::Shard(session))
}

/// An edge has one connection for images, which is treated as that of one more shard.
fn of_delivery(deliver: Deliver) -> Hello {
    let Deliver { edge, epoch, session, version } = deliver;
    Hello { edge, epoch, shard: DELIVERY_SHARD, session, version }
}

async fn serve_images<R: Runtime>(agent: Rc<Agent<R>>, offer: Offer, connection: Connection) {
    tracing::info!(edge = %offer.session.edge, remote = %connection.remote_address(), "edge connected for images");
    if let Err(StreamEnd::Breach(breach)) = deliver::serve(&agent.images, offer, &connection).await {
        close(&connection, &breach);
    }
}

/// The identity in the peer's certificate. The handshake has verified that our CA signed it.
fn identify(connection: &Connection) -> Result<Identity, Breach> {
    let shown =
        connection.peer_identity().and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
    let leaf = shown.as_deref().and_then(|chain| chain.first());
    let leaf = leaf.ok_or_else(|| Breach::Forbidden("no certificate was shown".to_owned()))?;
    berth_certs::peer_identity(leaf).map_err(|error| Breach::Forbidden(error.to_string()))
}

fn enter<R: Runtime>(agent: &Agent<R>, identity: &Identity, hello: &Hello) -> Result<Session, Breach> {
    if identity.role != Role::Edge || identity.name != hello.edge.as_str() {
        return Err(Breach::Forbidden(format!(
            "the certificate is that of {identity}, not of edge {}",
            hello.edge
        )));
    }
    agent.sessions.enter(hello).map_err(|error| match error {
        HelloError::Old => Breach::Superseded(error.to_string()),
        HelloError::Shards => Breach::Protocol(error.to_string()),
    })
}

async fn serve_streams<R: Runtime + 'static>(agent: Rc<Agent<R>>, session: Session, connection: Connection) {
    let counting = Rc::clone(&agent);
    let _counted = counting.counts.connected(&session.edge);
    let connected = Rc::new(Connected {
        agent,
        session,
        watching: Cell::new(false),
        log_readers: Semaphore::new(MAX_LOG_READERS),
        reading: Semaphore::new(CALLS_READ_AT_ONCE),
        connection,
    });
    loop {
        let accepted = tokio::select! {
            accepted = connected.connection.accept_bi() => accepted,
            () = connected.session.superseded() => {
                let text = "a newer session of this edge's shard has taken over";
                return close(&connected.connection, &Breach::Superseded(text.to_owned()));
            }
        };
        match accepted {
            Ok((send, recv)) => {
                let task = serve_stream(Rc::clone(&connected), send, recv);
                connected.agent.lifecycle.spawn_local(task);
            }
            Err(reason) => {
                tracing::info!(edge = %connected.session.edge, %reason, "edge disconnected");
                return;
            }
        }
    }
}

/// The purpose of a stream.
enum Purpose {
    Call(Result<Call, FrameError>),
    Tunnel(TunnelHeader),
}

async fn serve_stream<R: Runtime + 'static>(
    connected: Rc<Connected<R>>,
    mut send: SendStream,
    mut recv: RecvStream,
) {
    let served = match tokio::time::timeout(STREAM_TIMEOUT, purpose(&connected.reading, &mut recv)).await {
        Ok(Ok(Purpose::Call(call))) => calls::serve(&connected, call, send).await,
        Ok(Ok(Purpose::Tunnel(header))) => {
            tunnel::serve(&connected.agent, &connected.session.edge, header, send, recv).await
        }
        Ok(Err(end)) => Err(end),
        Err(_) => {
            // Packet loss may be the cause, so this is no breach: only the stream is reset.
            let _ = send.reset(VarInt::from_u32(close::PROTOCOL));
            let _ = recv.stop(VarInt::from_u32(close::PROTOCOL));
            return;
        }
    };
    if let Err(StreamEnd::Breach(breach)) = served {
        close(&connected.connection, &breach);
    }
}

async fn purpose(reading: &Semaphore, recv: &mut RecvStream) -> Result<Purpose, StreamEnd> {
    let mut kind = [0];
    recv.read_exact(&mut kind).await?;
    match kind[0] {
        STREAM_CALL => read_call(reading, recv).await.map(Purpose::Call),
        STREAM_TUNNEL => tunnel::read_header(recv).await.map(Purpose::Tunnel),
        kind => Err(Breach::Protocol(format!("stream kind {kind:#04x} is not known")).into()),
    }
}

/// Reads a call. A well-formed one of an unknown kind, as from a newer version, is answered with a refusal.
async fn read_call(
    reading: &Semaphore,
    recv: &mut RecvStream,
) -> Result<Result<Call, FrameError>, StreamEnd> {
    let _turn = reading.acquire().await.map_err(|_| StreamEnd::Gone)?;
    match frame::read(recv).await {
        Ok(Some(call)) => Ok(Ok(call)),
        Ok(None) => Err(FrameError::Truncated.into()),
        Err(FrameError::Body(error)) if error.is_data() => Ok(Err(FrameError::Body(error))),
        Err(error) => Err(error.into()),
    }
}
