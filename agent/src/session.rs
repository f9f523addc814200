//! One connection of an edge, from its handshake to its end.
//!
//! ```text
//!  connected ──Hello, in time, by its certificate's holder, newest of its shard──▶ serving calls ───▶ closed
//!      ├───────Attach, with the key of a session whose connection lives──────────▶ serving tunnels ─▶ ▲
//!      └───────────────────────anything else────────────────────────────────────────────────────────▶ ▲
//!              a breach · a newer session · edge or agent closes · silence · the end of its session ──┘
//! ```
//!
//! Each stream is served in its own task. A session has two connections, so that tenants, whose bytes flow on the one,
//! can never delay the edge's calls on the other.
//!
//! What fails, and what happens then:
//! * No Hello in time, a wrong certificate or an older session: the connection is closed with the reason.
//! * The peer breaks the protocol on any stream: its connection is closed; other connections are not affected.
//! * The peer reads its updates too slowly: its connection is closed (`SLOW`); it connects again and gets all states
//!   anew.
//! * A stream's first bytes do not arrive in time: only the stream is reset.
//! * The edge is silent: the idle timeout ends the connection. Its instances run on.
//! * A newer session of the shard connects: this one is closed, and its pending starts are refused.
//! * A session's connection is lost: its data connection is closed. Without its data connection the session goes on, until
//!   the edge ends it or attaches another.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use berth_certs::{Identity, Role};
use berth_common::ids::EdgeId;
use berth_common::image::Architecture;
use berth_common::wire::attach::Attach;
use berth_common::wire::call::{Answer, Call, Hello, Welcome};
use berth_common::wire::frame::{self, FrameError};
use berth_common::wire::images::Deliver;
use berth_common::wire::tunnel::TunnelHeader;
use berth_common::wire::{STREAM_CALL, STREAM_TUNNEL, close};
use berth_protocol::node::{HelloError, SessionId};
use quinn::{Connection, RecvStream, SendStream, VarInt};
use rustls::pki_types::CertificateDer;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::agent::Agent;
use crate::connected::{Carries, Connected};
use crate::deliver::{self, Offer};
use crate::runtime::Runtime;
use crate::sessions::Session;
use crate::stream::{Breach, StreamEnd, answer};
use crate::{calls, endpoint, tunnel};

/// How long an edge may take to introduce itself.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the first message of a stream may take.
const STREAM_TIMEOUT: Duration = Duration::from_secs(10);
/// Calls that are served at once on one connection: more than an edge makes. One above that is reset.
const MAX_CALLS: usize = 128;
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
        Ok(Introduced::Edge(session, carries)) => serve_streams(agent, session, carries, connection).await,
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
    Edge(Session, Carries),
    Images(Offer),
}

/// Reads and answers the first call, which decides the purpose of the connection.
async fn introduce<R: Runtime + 'static>(
    agent: &Agent<R>,
    connection: &Connection,
) -> Result<Introduced, StreamEnd> {
    let peer = identify(connection)?;
    let (mut send, mut recv) = connection.accept_bi().await.map_err(|_| StreamEnd::Gone)?;
    let mut kind = [0];
    recv.read_exact(&mut kind).await?;
    let call = if kind == [STREAM_CALL] { frame::read::<Call>(&mut recv).await? } else { None };
    let hello = match call {
        Some(Call::Hello(hello)) => hello,
        Some(Call::Deliver(deliver)) => {
            let session = enter(agent, &peer, &of_delivery(deliver))?;
            frame::write(&mut send, &Answer::Done).await?;
            return Ok(Introduced::Images(Offer { session, send, recv }));
        }
        Some(Call::Attach(attach)) => {
            let session = add_data(agent, &peer, &attach)?;
            answer(&mut send, &Answer::Done).await?;
            return Ok(Introduced::Edge(session, Carries::Data));
        }
        _ => return Err(Breach::Protocol("the first stream must carry Hello".to_owned()).into()),
    };
    let session = enter(agent, &peer, &hello)?;
    tracing::info!(edge = %hello.edge, shard = hello.shard, epoch = hello.epoch.0, session = hello.session,
        version = %hello.version.escape_debug(), remote = %connection.remote_address(), "edge connected");
    let welcome = Welcome {
        node: agent.node.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        capacity: agent.instances.capacity(),
        disk: agent.runtime.disks(),
        draining: agent.instances.is_draining(),
        region: agent.region.clone(),
        labels: agent.labels.clone(),
        architecture: Some(Architecture::HERE),
        attach: hello.attach.then_some(session.key),
        stamp: agent.terms.stamp(),
        starts_at_once: Some(agent.starts_at_once),
        kept_for_ms: agent.runtime.kept_for().and_then(|kept| u64::try_from(kept.as_millis()).ok()),
    };
    answer(&mut send, &Answer::Welcome(welcome)).await?;
    Ok(Introduced::Edge(session, if hello.attach { Carries::Calls } else { Carries::Both }))
}

/// The session of a data connection.
fn add_data<R: Runtime>(agent: &Agent<R>, peer: &Peer, attach: &Attach) -> Result<Session, Breach> {
    check_name(&peer.identity, &attach.edge)?;
    let session = agent.sessions.attach(attach).ok_or_else(|| {
        Breach::Superseded("the session that this connection is for is not the current one".to_owned())
    })?;
    tracing::debug!(edge = %attach.edge, shard = attach.shard, session = attach.session, "data connection attached");
    Ok(session)
}

/// An edge has one connection for images, which is treated as that of one more shard.
fn of_delivery(deliver: Deliver) -> Hello {
    let Deliver { edge, epoch, session, version } = deliver;
    Hello { edge, epoch, shard: DELIVERY_SHARD, session, version, attach: false }
}

async fn serve_images<R: Runtime>(agent: Rc<Agent<R>>, offer: Offer, connection: Connection) {
    tracing::info!(edge = %offer.session.edge, remote = %connection.remote_address(), "edge connected for images");
    if let Err(StreamEnd::Breach(breach)) = deliver::serve(&agent.images, offer, &connection).await {
        close(&connection, &breach);
    }
}

/// What the peer's certificate says.
struct Peer {
    identity: Identity,
    /// When it was issued, in seconds since 1970.
    issued_s: i64,
}

/// What the peer's certificate says. The handshake has verified that our CA signed it.
fn identify(connection: &Connection) -> Result<Peer, Breach> {
    let shown =
        connection.peer_identity().and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
    let leaf = shown.as_deref().and_then(|chain| chain.first());
    let leaf = leaf.ok_or_else(|| Breach::Forbidden("no certificate was shown".to_owned()))?;
    let read = berth_certs::peer_identity(leaf)
        .and_then(|identity| Ok(Peer { identity, issued_s: berth_certs::issued_at_s(leaf)? }));
    read.map_err(|error| Breach::Forbidden(error.to_string()))
}

fn check_name(identity: &Identity, edge: &EdgeId) -> Result<(), Breach> {
    if identity.role != Role::Edge || identity.name != edge.as_str() {
        return Err(Breach::Forbidden(format!("the certificate is that of {identity}, not of edge {edge}")));
    }
    Ok(())
}

fn enter<R: Runtime>(agent: &Agent<R>, peer: &Peer, hello: &Hello) -> Result<Session, Breach> {
    check_name(&peer.identity, &hello.edge)?;
    let id = SessionId::of(hello);
    let checked = agent.terms.check_session(&id, peer.issued_s);
    let entered = checked.and_then(|()| agent.sessions.enter(hello, peer.issued_s));
    let session = entered.map_err(|error| match error {
        HelloError::Old | HelloError::OldCertificate => Breach::Superseded(error.to_string()),
        HelloError::Shards => Breach::Protocol(error.to_string()),
    })?;
    agent.terms.note_session(&id, peer.issued_s);
    Ok(session)
}

async fn serve_streams<R: Runtime + 'static>(
    agent: Rc<Agent<R>>,
    session: Session,
    carries: Carries,
    connection: Connection,
) {
    if carries != Carries::Calls {
        endpoint::widen(&connection);
    }
    let counting = Rc::clone(&agent);
    let _counted = counting.counts.connected(&session.edge);
    let connected = Rc::new(Connected {
        agent,
        session,
        carries,
        watching: Cell::new(false),
        log_readers: Semaphore::new(MAX_LOG_READERS),
        calls: Semaphore::new(MAX_CALLS),
        reading: Semaphore::new(CALLS_READ_AT_ONCE),
        connection,
    });
    accept_streams(&connected).await;
    connected.session.end();
}

/// Serves the streams that the edge opens, until the connection ends.
async fn accept_streams<R: Runtime + 'static>(connected: &Rc<Connected<R>>) {
    loop {
        let accepted = tokio::select! {
            accepted = connected.connection.accept_bi() => accepted,
            () = connected.session.superseded() => {
                let text = match connected.carries {
                    Carries::Data => "the session is over, or has another data connection",
                    Carries::Calls | Carries::Both => "a newer session of this edge's shard has taken over",
                };
                return close(&connected.connection, &Breach::Superseded(text.to_owned()));
            }
        };
        match accepted {
            Ok((send, recv)) => {
                let task = serve_stream(Rc::clone(connected), send, recv);
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
enum Purpose<'a> {
    /// A call, with its turn among those that are served at once.
    Call(Result<Call, FrameError>, SemaphorePermit<'a>),
    Tunnel(TunnelHeader),
}

async fn serve_stream<R: Runtime + 'static>(
    connected: Rc<Connected<R>>,
    mut send: SendStream,
    mut recv: RecvStream,
) {
    let served = match tokio::time::timeout(STREAM_TIMEOUT, purpose(&connected, &mut recv)).await {
        Ok(Ok(Purpose::Call(call, _turn))) => calls::serve(&connected, call, send).await,
        Ok(Ok(Purpose::Tunnel(_))) if connected.carries == Carries::Calls => {
            Err(Breach::Protocol("tunnels belong on the data connection".to_owned()).into())
        }
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

async fn purpose<'a, R: Runtime>(
    connected: &'a Connected<R>,
    recv: &mut RecvStream,
) -> Result<Purpose<'a>, StreamEnd> {
    let mut kind = [0];
    recv.read_exact(&mut kind).await?;
    match kind[0] {
        STREAM_CALL => {
            let turn = connected.calls.try_acquire().map_err(|_| StreamEnd::Gone)?;
            read_call(&connected.reading, recv).await.map(|call| Purpose::Call(call, turn))
        }
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
