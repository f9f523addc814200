//! Clients that go in the middle of everything leave nothing behind: neither in the script process nor in the edge.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::scenario::{Outcome, count, scenario};
use berth_tests::wait::until;
use futures_util::future::try_join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{PATIENCE, deploy};

/// Clients at once.
const CLIENTS: usize = 32;
/// What the script process may have more than after the first requests, in bytes: an allocator keeps some of what it had.
const SLACK_BYTES: u64 = 24 << 20;
/// Descriptors that the edge may have more: connections that are being closed.
const SLACK_FILES: usize = 8;

/// What a client may go in the middle of.
const SOURCE: &str = "export default { async fetch(request) {
    const what = new URL(request.url).pathname.split('/').pop();
    if (what === 'wait') await scheduler.wait(1e7);
    if (what === 'read') return new Response(await request.text());
    if (what === 'x') return new Response('program /program/x');
    const pull = async (controller) => { controller.enqueue(new Uint8Array(4096)); await scheduler.wait(1); };
    const body = new ReadableStream({ pull });
    if (what === 'piped') return new Response(body.pipeThrough(new IdentityTransformStream()));
    return new Response(body);
} };";

/// One request, and away: the connection is reset.
async fn go(edge: SocketAddr, number: usize) -> Result<()> {
    let mut stream = TcpStream::connect(edge).await?;
    let request = match number % 4 {
        0 => "GET /program/wait HTTP/1.1\r\nhost: x\r\n\r\n",
        1 => "POST /program/read HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n1234",
        2 => "GET /program/stream HTTP/1.1\r\nhost: x\r\n\r\n",
        _ => "GET /program/piped HTTP/1.1\r\nhost: x\r\n\r\n",
    };
    stream.write_all(request.as_bytes()).await?;
    if number % 4 > 1 {
        let read = stream.read(&mut [0; 1024]).await?;
        ensure!(read > 0, "no answer");
    } else {
        tokio::task::yield_now().await;
    }
    socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO))?;
    Ok(())
}

async fn go_often(cluster: &Cluster, requests: usize) -> Result<()> {
    let edge = cluster.address();
    let client = async |first: usize| {
        for number in (first..requests).step_by(CLIENTS) {
            go(edge, number / CLIENTS).await?;
        }
        anyhow::Ok(())
    };
    try_join_all((0..CLIENTS).map(client)).await.map(drop)
}

fn resident_bytes(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    Ok(line.trim().trim_end_matches("kB").trim().parse::<u64>()? << 10)
}

fn files(cluster: &Cluster) -> Result<usize> {
    Ok(std::fs::read_dir(format!("/proc/{}/fd", cluster.edge()?.pid()))?.count())
}

#[test]
fn clients_that_go_leave_nothing_behind() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        deploy(cluster, SOURCE).await?;
        go_often(cluster, 400).await?;
        let process = cluster.script_process()?;
        let (memory, open) = (resident_bytes(process)?, files(cluster)?);
        go_often(cluster, count(4_000, 100_000)).await?;
        let back = async || {
            let (now, open_now) = (resident_bytes(process)?, files(cluster)?);
            ensure!(now <= memory + SLACK_BYTES, "{now} bytes in memory after {memory}");
            ensure!(open_now <= open + SLACK_FILES, "{open_now} open files after {open}");
            Ok(())
        };
        until("memory and files as before", PATIENCE, back).await?;
        // It is the same process, and has answered throughout.
        ensure!(cluster.script_process()? == process);
        let answer = cluster.client().get("/program/x").await?.success()?;
        ensure!(answer.text == "program /program/x", "{answer:?}");
        Ok(())
    })
}
