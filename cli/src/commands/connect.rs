//! `berth connect` and `berth port-forward`: bytes to and from a port of an object's container.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use berth_common::ids::ObjectId;
use tokio::io::{AsyncWriteExt, copy, copy_bidirectional, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::admin::Admin;
use crate::args::{Connect, PortForward, Ports};
use crate::{ids, output};

/// Most connections that are forwarded at once; more wait.
const MAX_FORWARDED: usize = 128;

pub(crate) async fn connect(args: &Connect) -> Result<()> {
    let admin = args.admin.edge()?;
    let object = ids::object(&admin, &args.object).await?;
    let stream = admin.connect(object, args.port).await?;
    let (mut from, mut to) = split(stream);
    let up = async {
        // How it went shows in what comes back: a container that reads no more may still send its answer.
        if copy(&mut tokio::io::stdin(), &mut to).await.is_ok() {
            let _ = to.shutdown().await;
        }
        std::future::pending().await
    };
    let down = async {
        let mut stdout = tokio::io::stdout();
        copy(&mut from, &mut stdout).await?;
        stdout.flush().await
    };
    let ended: std::io::Result<()> = tokio::select! {
        never = up => never,
        ended = down => ended,
    };
    // Standard input is read by a thread that cannot be cancelled: exit without waiting for it.
    match ended {
        Ok(()) => std::process::exit(0),
        Err(error) => Err(error).with_context(|| format!("the connection to {} broke", args.object)),
    }
}

pub(crate) async fn forward(args: &PortForward) -> Result<()> {
    let admin = args.admin.edge()?;
    let object = ids::object(&admin, &args.object).await?;
    let Ports { local, container } = args.ports;
    let listen = args.listen.unwrap_or((Ipv4Addr::LOCALHOST, local).into());
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("cannot listen on {listen}; 0:{container} takes any port that is free"))?;
    output::line(format_args!("{} leads to port {container} of {}", listener.local_addr()?, args.object))?;
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < MAX_FORWARDED => {
                let (stream, _) = accepted?;
                connections.spawn(carry(admin.clone(), object, container, stream));
            }
            Some(_) = connections.join_next() => {}
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}

async fn carry(admin: Admin, object: ObjectId, port: u16, mut client: TcpStream) {
    let carried = async {
        let mut stream = admin.connect(object, Some(port)).await?;
        copy_bidirectional(&mut client, &mut stream).await?;
        anyhow::Ok(())
    };
    if let Err(error) = carried.await {
        output::note!("berth port-forward: {error:#}");
    }
}
