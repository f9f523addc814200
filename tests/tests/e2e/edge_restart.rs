//! An edge that is restarted or reloaded in good order: clients notice as little as can be.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use berth_tests::app::App;
use berth_tests::client::Client;
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::scenario::{Outcome, scenario};
use berth_tests::wait;
use berth_tests::websocket::Socket;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;

/// Pause between two requests.
const PAUSE: Duration = Duration::from_millis(3);
/// The close code "service restart" (RFC 6455 §7.4.1 and its registry).
const RESTART_CODE: u16 = 1012;
/// How long a reload may take to be told.
const PATIENCE: Duration = Duration::from_secs(20);

/// Sends requests, one after the other, each over a connection of its own, until told to stop.
struct Requests {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    task: JoinHandle<Result<()>>,
}

impl Requests {
    fn begin(client: Client) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&answered));
        let task = tokio::spawn(async move {
            while !stopped.load(Ordering::Relaxed) {
                client.get("/container/1/instance").await?.success()?;
                count.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(PAUSE).await;
            }
            Ok(())
        });
        Self { stop, answered, task }
    }

    /// Waits until more were answered.
    async fn more(&self) -> Result<()> {
        let before = self.answered.load(Ordering::Relaxed);
        wait::until("more requests to be answered", PATIENCE, async || {
            ensure!(
                self.answered.load(Ordering::Relaxed) > before + 5 || self.task.is_finished(),
                "none was"
            );
            Ok(())
        })
        .await
    }

    async fn end(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await?
    }
}

/// Restarts the edge in this way while requests come and a WebSocket is open.
async fn restart(cluster: &mut Cluster, how: impl AsyncFnOnce(&mut Cluster) -> Result<()>) -> Result<()> {
    let client = cluster.client();
    let mut socket = Socket::open(&client, "/container/1/ws").await?;
    socket.echo(Message::text("before")).await?;
    let requests = Requests::begin(client);
    requests.more().await?;
    let closed = tokio::spawn(async move { socket.closed().await });
    how(cluster).await?;
    requests.more().await?;
    requests.end().await?;
    let code = closed.await??;
    ensure!(code == RESTART_CODE, "the WebSocket was closed with {code}");
    Ok(())
}

#[test]
fn no_connection_is_refused_while_an_edge_is_restarted_under_a_kept_socket() -> Outcome {
    scenario(Setup { kept_socket: true, ..Setup::nodes(1) }, async |cluster| {
        cluster.deploy(&App::default()).await?;
        restart(cluster, async |cluster| cluster.restart_edge().await).await
    })
}

#[test]
fn an_edge_takes_over_from_another_and_one_that_is_hung_up_on_reads_its_certificate_again() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App::default()).await?;
        let client = cluster.client();
        let mut socket = Socket::open(&client, "/container/1/ws").await?;
        socket.echo(Message::text("before")).await?;
        let edge = Pid::from_raw(i32::try_from(cluster.edge()?.pid())?);
        kill(edge, Signal::SIGHUP)?;
        wait::until("the certificate to be read again", PATIENCE, async || {
            ensure!(cluster.edge()?.log().contains("certificate read again"), "it is not");
            Ok(())
        })
        .await?;
        socket.echo(Message::text("after")).await?;
        let closed = tokio::spawn(async move { socket.closed().await });
        cluster.take_over_edge().await?;
        client.get("/container/1").await?.success()?;
        let code = closed.await??;
        ensure!(code == RESTART_CODE, "the WebSocket was closed with {code}");
        Ok(())
    })
}
