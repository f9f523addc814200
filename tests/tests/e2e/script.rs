//! Apps whose requests a program answers, in a process of its own beside everything else.

mod containers;
mod hooks;
mod kills;
mod leaks;

use std::time::Duration;

use anyhow::{Result, ensure};
use berth_common::image::Digest;
use berth_tests::app::App;
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::scenario::{Outcome, scenario};
use berth_tests::wait::until;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// Longest wait for anything: far longer than it takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

const SOURCE: &str = "export default { async fetch(request, env) {
    const { pathname } = new URL(request.url);
    if (pathname === '/program/loop') for (;;);
    if (pathname === '/program/wait') { console.log('waits'); await scheduler.wait(1e6); }
    return new Response(`${env.NAME} ${pathname}`);
} };";

/// An app whose program has all below `/program/`.
fn spec(source: &str) -> Value {
    let digest = Digest::of(source.as_bytes()).to_string();
    json!({"name": "programmed", "classes": {}, "routes": [], "program": {
        "entry": "index.js", "modules": [{"name": "index.js", "digest": digest}],
        "compatibility_date": "2026-01-31", "vars": {"NAME": {"text": "program"}},
        "routes": [{"path": "/program/*"}], "limits": {"cpu_ms": 500},
    }})
}

pub(crate) async fn deploy(cluster: &Cluster, source: &str) -> Result<()> {
    let admin = cluster.admin();
    let path = format!("/v1/files/{}", Digest::of(source.as_bytes()));
    let (status, answer) = admin.put_bytes(&path, source.to_owned()).await?;
    ensure!(status.is_success(), "{status}: {answer}");
    let (status, answer) = admin.put("/v1/apps/programmed", &spec(source)).await?;
    ensure!(status.is_success(), "{status}: {answer}");
    Ok(())
}

async fn expect_answers(cluster: &Cluster) -> Result<()> {
    let answer = cluster.client().get("/program/x").await?.success()?;
    ensure!(answer.text == "program /program/x", "{answer:?}");
    cluster.client().get("/container/a").await?.success()?;
    Ok(())
}

/// Kills the script process in one round, and in the next the edge, which is started again.
pub(crate) async fn kill_by_turns(cluster: &mut Cluster, round: usize) -> Result<()> {
    if round.is_multiple_of(2) {
        return Ok(kill(Pid::from_raw(cluster.script_process()?.try_into()?), Signal::SIGKILL)?);
    }
    cluster.kill_edge()?;
    cluster.start_edge()?;
    cluster.until_connected().await
}

#[test]
fn a_program_answers_beside_containers_whatever_is_killed() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App::default()).await?;
        deploy(cluster, SOURCE).await?;
        expect_answers(cluster).await?;
        // A loop is over when its time is, and meanwhile containers answer.
        let client = cluster.client();
        let (looped, beside) = tokio::join!(client.get("/program/loop"), client.get("/container/a"));
        let looped = looped?;
        ensure!(looped.status.is_server_error(), "{looped:?}");
        beside?.success()?;
        expect_answers(cluster).await?;
        // Its process is killed in the middle of a request.
        let process = cluster.script_process()?;
        let waits = client.get("/program/wait");
        let kills = async {
            let waits = async || {
                let log = cluster.admin().text("/v1/apps/programmed/logs").await?;
                ensure!(log.contains("waits"), "{log}");
                Ok(())
            };
            until("a request that waits", PATIENCE, waits).await?;
            kill(Pid::from_raw(process.try_into()?), Signal::SIGKILL)?;
            anyhow::Ok(())
        };
        let (waited, killed) = tokio::join!(waits, kills);
        killed?;
        let waited = waited?;
        ensure!(waited.status == 503, "{waited:?}");
        expect_answers(cluster).await?;
        ensure!(cluster.script_process()? != process);
        // The edge is killed: its script process goes with it, and code is read again.
        let process = cluster.script_process()?;
        cluster.kill_edge()?;
        let gone = async || {
            ensure!(!std::path::Path::new(&format!("/proc/{process}")).exists(), "it is there");
            Ok(())
        };
        until("the end of the script process", PATIENCE, gone).await?;
        cluster.start_edge()?;
        cluster.until_connected().await?;
        expect_answers(cluster).await?;
        // What cannot be loaded changes nothing.
        let (broken, admin) = ("export default {\n  fetch( {\n};", cluster.admin());
        admin.put_bytes(&format!("/v1/files/{}", Digest::of(broken.as_bytes())), broken).await?;
        let (status, answer) = admin.put("/v1/apps/programmed", &spec(broken)).await?;
        ensure!(status == 422 && answer.to_string().contains("index.js:"), "{status}: {answer}");
        expect_answers(cluster).await
    })
}
