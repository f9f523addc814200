//! Clients with very many connections that carry no request: everybody else is served all the same, and the edge's
//! memory stays small.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use berth_tests::app::App;
use berth_tests::client::Client;
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::metrics::Page;
use berth_tests::registry::Registry;
use berth_tests::scenario::{Outcome, scenario};
use berth_tests::websocket::Socket;
use berth_tests::{host, ports, wait};

/// How long anybody else may wait for an answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Most memory that one client may cost the edge.
const MEMORY_BYTES: u64 = 64 << 20;
/// Bytes of a head that never ends: what the edge must keep of it.
const HALF_HEAD_BYTES: usize = 16 * 1024;

/// Sends the beginning of a head on each; those that the edge has closed already do not take it.
fn send_half_a_head(streams: &[TcpStream]) {
    let head = format!("GET /container/1 HTTP/1.1\r\nhost: h\r\nx: {}", "y".repeat(HALF_HEAD_BYTES));
    for mut stream in streams {
        let _ = stream.set_nonblocking(true);
        let _ = stream.write(head.as_bytes());
    }
}

/// Connections of a listener, by the edge's metrics.
async fn connections(cluster: &Cluster, listener: &str) -> Result<f64> {
    let text = cluster.admin().text("/v1/metrics").await?;
    Page::read(&text)?.sum("berth_edge_connections", &[("listener", listener)])
}

async fn within_patience<T>(what: &str, act: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(PATIENCE, act).await.with_context(|| format!("{what}: no answer"))?
}

#[test]
fn half_sent_heads_of_one_client_cost_little_and_keep_nobody_out() -> Outcome {
    // One shard, so that in earlier versions so many connections were all that it took.
    scenario(Setup { crowd: Some(2), shards: Some(1), ..Setup::nodes(1) }, async |cluster| {
        cluster.deploy(&App::default()).await?;
        cluster.client().get("/container/1").await?.success()?;
        let (edge, port) = (cluster.edge()?.pid(), cluster.address().port());
        let before = host::resident_memory(edge)?;
        let crowd = cluster.crowd()?;
        let mut streams = Vec::new();
        for _ in 0..18 {
            let more = crowd.connect(0, port, 500)?;
            send_half_a_head(&more);
            streams.extend(more);
        }
        within_patience("a client on loopback", cluster.client().get("/container/1")).await?.success()?;
        let other = crowd.connect(1, port, 1)?.remove(0);
        let answer = within_patience("another client", Client::over(other, "/container/1", &[])).await?;
        ensure!(answer.status == 200, "{answer:?}");
        let grown = host::peak_memory(edge)?.saturating_sub(before);
        ensure!(grown < MEMORY_BYTES, "one client has cost the edge {grown} bytes");
        wait::until("the half-sent heads to be over", PATIENCE * 2, async || {
            let left = connections(cluster, "clients").await?;
            ensure!(left < 10.0, "{left} connections are left");
            Ok(())
        })
        .await?;
        drop(streams);
        cluster.expect_all_alive()
    })
}

#[test]
fn websockets_count_as_connections_until_they_end() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App::default()).await?;
        let mut sockets = Vec::new();
        for _ in 0..3 {
            sockets.push(Socket::open(&cluster.client(), "/container/1/ws").await?);
        }
        ensure!(connections(cluster, "clients").await? >= 3.0, "they are not counted");
        drop(sockets);
        wait::until("their end", PATIENCE, async || {
            let left = connections(cluster, "clients").await?;
            ensure!(left == 0.0, "{left} connections are left");
            Ok(())
        })
        .await
    })
}

/// A certificate for localhost that is its own authority, in a directory that the edge reads.
fn certificate(directory: &Path) -> Result<[String; 2]> {
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    fs::write(directory.join("tls.pem"), made.cert.pem())?;
    fs::write(directory.join("tls.key"), made.signing_key.serialize_pem())?;
    Ok(["tls.pem", "tls.key"].map(|name| directory.join(name).display().to_string()))
}

#[test]
fn strangers_keep_no_bearer_of_a_token_out_of_the_admin_api() -> Outcome {
    let directory = tempfile::tempdir().context("a directory")?;
    let [cert, key] = certificate(directory.path())?;
    let port = ports::free_address()?.port();
    let edge_options =
        ["--admin-listen", &format!("0.0.0.0:{port}"), "--admin-cert", &cert, "--admin-key", &key];
    let edge_options = edge_options.map(str::to_owned).to_vec();
    scenario(Setup { edge_options, crowd: Some(1), ..Setup::nodes(1) }, async |cluster| {
        let token = berth_tests::registry::token(&cluster.admin(), "read").await?;
        let before = host::resident_memory(cluster.edge()?.pid())?;
        let strangers = cluster.crowd()?.connect(0, port, 2000)?;
        // Those on loopback may be a proxy, which no limit by address is for.
        let local: Vec<_> =
            (0..600).map(|_| TcpStream::connect(("127.0.0.1", port))).collect::<std::io::Result<_>>()?;
        let mut command = cluster.command("berth");
        command.arg("nodes").env("BERTH_ADMIN_URL", format!("https://localhost:{port}"));
        command.env("BERTH_ADMIN_CA", &cert).env("BERTH_ADMIN_TOKEN", &token);
        let asked = tokio::task::spawn_blocking(move || command.output());
        let output = within_patience("the bearer of a token", async { Ok(asked.await??) }).await?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        ensure!(connections(cluster, "admin").await? <= 128.0, "strangers have more than their part");
        let grown = host::peak_memory(cluster.edge()?.pid())?.saturating_sub(before);
        ensure!(grown < MEMORY_BYTES, "strangers have cost the edge {grown} bytes");
        drop((strangers, local));
        cluster.expect_all_alive()
    })
}

#[test]
fn strangers_keep_no_bearer_of_a_token_out_of_the_registry() -> Outcome {
    let (address, edge_options) = Registry::free_address()?;
    scenario(Setup { edge_options, ..Setup::nodes(1) }, async |cluster| {
        let registry = Registry::of(cluster, address).await?;
        let silent: Vec<_> = (0..600).map(|_| TcpStream::connect(address)).collect::<std::io::Result<_>>()?;
        send_half_a_head(&silent);
        let put = registry.put_blob("a/b", "sha256:00", b"x");
        let answer = within_patience("the bearer of a token", put).await?;
        ensure!(answer.status == 400, "{answer:?}");
        ensure!(connections(cluster, "registry").await? <= 64.0, "strangers have more than their part");
        drop(silent);
        cluster.expect_all_alive()
    })
}
