//! `berth connect` and `berth port-forward`: bytes to and from a port of an object's container.

use std::io::{self, Read};
use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use berth_common::ids::ObjectId;
use tokio::io::{AsyncWriteExt, copy, copy_bidirectional, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::admin::Admin;
use crate::args::{Connect, PortForward, Ports};
use crate::{ids, output};

/// Bytes of standard input that are read at once.
const INPUT_BYTES: usize = 16 << 10;
/// So many of these are read ahead while the container does not read.
const INPUT_READ_AHEAD: usize = 4;
/// Most connections that are forwarded at once; more wait.
const MAX_FORWARDED: usize = 128;

pub(crate) async fn connect(args: &Connect) -> Result<()> {
    let admin = args.admin.edge()?;
    let object = ids::object(&admin, &args.object).await?;
    let stream = admin.connect(object, args.port).await?;
    let (mut from, mut to) = split(stream);
    let mut input = standard_input();
    let up = async {
        // How it went shows in what comes back: a container that reads no more may still send its answer.
        let sent = async {
            while let Some(bytes) = input.recv().await {
                to.write_all(&bytes?).await?;
            }
            to.shutdown().await
        };
        let _: io::Result<()> = sent.await;
        std::future::pending().await
    };
    let down = async {
        let mut stdout = tokio::io::stdout();
        copy(&mut from, &mut stdout).await?;
        stdout.flush().await
    };
    let ended: io::Result<()> = tokio::select! {
        never = up => never,
        ended = down => ended,
    };
    ended.with_context(|| format!("the connection to {} broke", args.object))
}

/// Standard input, read by a thread of its own: it cannot be cancelled, and the command ends without waiting for it.
fn standard_input() -> mpsc::Receiver<io::Result<Vec<u8>>> {
    let (sender, receiver) = mpsc::channel(INPUT_READ_AHEAD);
    std::thread::spawn(move || {
        let mut buffer = vec![0; INPUT_BYTES];
        loop {
            let read = io::stdin().read(&mut buffer).map(|length| buffer[..length].to_vec());
            if read.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::Interrupted) {
                continue;
            }
            if read.as_ref().is_ok_and(Vec::is_empty) || sender.blocking_send(read).is_err() {
                return;
            }
        }
    });
    receiver
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
