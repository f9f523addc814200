//! A tunnel stream: reads its header, finds the instance, connects to the port, answers, and hands both to `splice`.

use std::rc::Rc;

use berth_common::ids::EdgeId;
use berth_common::wire::STREAM_TUNNEL;
use berth_common::wire::tunnel::{HEADER_BYTES, TunnelAnswer, TunnelHeader};
use quinn::{RecvStream, SendStream};
use tokio::net::TcpStream;

use crate::agent::Agent;
use crate::instances::Reach;
use crate::ports::ConnectError;
use crate::runtime::{Container, Runtime};
use crate::splice::{Account, Cut, splice};
use crate::stream::{Breach, StreamEnd};

/// Reads the rest of the header, whose first byte has been read.
pub(crate) async fn read_header(recv: &mut RecvStream) -> Result<TunnelHeader, StreamEnd> {
    let mut header = [0; HEADER_BYTES];
    header[0] = STREAM_TUNNEL;
    recv.read_exact(&mut header[1..]).await?;
    TunnelHeader::decode(&header).map_err(|error| Breach::Protocol(error.to_string()).into())
}

/// Serves one stream to its end.
pub(crate) async fn serve<R: Runtime + 'static>(
    agent: &Rc<Agent<R>>,
    edge: &EdgeId,
    header: TunnelHeader,
    mut send: SendStream,
    recv: RecvStream,
) -> Result<(), StreamEnd> {
    let carried = match agent.instances.reach(edge, &header) {
        Ok(_) if agent.terms.is_over(edge) => Err(TunnelAnswer::Lapsed),
        Ok(reach) => carry(agent, &reach, &header, &mut send, recv).await?,
        Err(answer) => Err(answer),
    };
    let Err(answer) = carried else { return Ok(()) };
    agent.counts.tunnels_refused.count();
    refuse(send, &header, answer).await
}

/// Connects and carries bytes to the end, within the shares of the instance. The inner error is for the edge.
async fn carry<R: Runtime + 'static>(
    agent: &Agent<R>,
    reach: &Reach<R::Container>,
    header: &TunnelHeader,
    send: &mut SendStream,
    recv: RecvStream,
) -> Result<Result<(), TunnelAnswer>, StreamEnd> {
    let Some(_room) = agent.tunnels.open(&reach.tenant) else { return Ok(Err(TunnelAnswer::Share)) };
    let tcp = match connect(reach, header).await {
        Ok(tcp) => tcp,
        Err(answer) => return Ok(Err(answer)),
    };
    agent.counts.tunnels.count();
    send.write_all(&[TunnelAnswer::Connected as u8]).await?;
    let account = Account {
        traffic: [reach.sockets.traffic(), &agent.counts.traffic],
        tunnels: &agent.tunnels,
        tenant: &reach.tenant,
    };
    if let Err(cut) = splice(tcp, send, recv, &reach.ended, &account).await {
        tracing::debug!(instance = %header.instance, port = header.port, %cut, "tunnel cut");
        if cut == Cut::Unread {
            agent.counts.tunnels_unread.count();
        }
    }
    Ok(Ok(()))
}

async fn connect<C: Container + 'static>(
    reach: &Reach<C>,
    header: &TunnelHeader,
) -> Result<TcpStream, TunnelAnswer> {
    let connected = tokio::select! {
        connected = reach.sockets.connect(header.port) => connected,
        () = reach.ended.cancelled() => return Err(TunnelAnswer::NoInstance),
    };
    let tcp = connected.map_err(|error| {
        if let ConnectError::NoSocket(error) = &error {
            tracing::warn!(instance = %header.instance, %error, "no socket inside the instance");
        }
        TunnelAnswer::from(&error)
    })?;
    // Disables Nagle's algorithm, which delays small writes. Fails only if the connection has ended already.
    let _ = tcp.set_nodelay(true);
    Ok(tcp)
}

async fn refuse(mut send: SendStream, header: &TunnelHeader, answer: TunnelAnswer) -> Result<(), StreamEnd> {
    tracing::debug!(instance = %header.instance, port = header.port, %answer, "tunnel refused");
    send.write_all(&[answer as u8]).await?;
    // Fails only if the stream has ended already.
    let _ = send.finish();
    Ok(())
}
