//! Draining a node: no new instances, running ones are stopped, and it stays drained until it is undone.

use std::collections::BTreeMap;
use std::process::Output;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use berth_common::outcome::ExitReason;
use berth_tests::app::App;
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::scenario::{Outcome, scenario};
use berth_tests::wait;

/// How long the edge may take to hear of something.
const SEEN_WITHIN: Duration = Duration::from_secs(5);

/// Runs a command of the agent's program on a node.
async fn on_node(cluster: &Cluster, index: usize, words: &[&str]) -> Result<Output> {
    let mut command = cluster.command("berth-agent");
    command.args(words).arg("--state").arg(&cluster.nodes()[index].state);
    let output = tokio::task::spawn_blocking(move || command.output()).await?.context("run berth-agent")?;
    Ok(output)
}

async fn drained(cluster: &Cluster, index: usize, words: &[&str]) -> Result<String> {
    let output = on_node(cluster, index, &[&["drain"], words].concat()).await?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{stdout}{}", String::from_utf8_lossy(&output.stderr));
    Ok(stdout)
}

#[test]
fn a_drained_node_is_empty_and_others_take_its_work() -> Outcome {
    scenario(Setup::nodes(2), async |cluster| {
        cluster.deploy(&App { more: "spread = \"node\"", ..App::default() }).await?;
        let client = cluster.client();
        for name in ["1", "2", "3", "4"] {
            client.get(&format!("/container/{name}")).await?.success()?;
        }
        let promised = drained(cluster, 0, &["--dry-run"]).await?;
        ensure!(promised.contains("2 instances would be ended"), "{promised}");
        let stdout = drained(cluster, 0, &[]).await?;
        ensure!(stdout.contains("the node is empty"), "{stdout}");
        ensure!(cluster.instance_groups(0).is_empty() && cluster.held(0).is_empty(), "something is left");
        for name in ["1", "2", "3", "4", "5"] {
            client.get(&format!("/container/{name}")).await?.success()?;
            let node = cluster.admin().object(name).await?.node;
            ensure!(node.as_ref().is_some_and(|node| node.as_str() == "n2"), "{name} is on {node:?}");
        }
        Ok(())
    })
}

#[test]
fn a_drain_is_reported_as_the_reason_and_lasts_over_a_restart() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App::default()).await?;
        let client = cluster.client();
        client.get("/container/1").await?.success()?;
        drained(cluster, 0, &[]).await?;
        let object = wait::until("the end to be told", SEEN_WITHIN, async || {
            let object = cluster.admin().object("1").await?;
            ensure!(object.instance.is_none(), "{object:?}");
            Ok(object)
        })
        .await?;
        let exit = object.exit.context("it does not say how it ended")?;
        ensure!((exit.reason, exit.code) == (ExitReason::Drained, Some(0)), "{exit:?}");
        cluster.end_agent(0)?;
        cluster.start_agent(0)?;
        cluster.until_connected().await?;
        let refused = client.get("/container/1").await?;
        ensure!(refused.status.as_u16() == 503, "answered {}: {}", refused.status, refused.text);
        let undone = on_node(cluster, 0, &["undrain"]).await?;
        ensure!(undone.status.success(), "{}", String::from_utf8_lossy(&undone.stderr));
        wait::until("the node to be used again", SEEN_WITHIN, async || {
            client.get("/container/1").await?.success().map(drop)
        })
        .await
    })
}

#[test]
fn an_app_that_ignores_sigterm_is_killed_after_the_grace() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        let app = App { env: BTreeMap::from([("IGNORE_TERM", "1")]), ..App::default() };
        cluster.deploy(&app).await?;
        cluster.client().get("/container/1").await?.success()?;
        let began = std::time::Instant::now();
        drained(cluster, 0, &["--grace", "2s"]).await?;
        ensure!(began.elapsed() >= Duration::from_secs(2), "it was killed after {:?}", began.elapsed());
        ensure!(cluster.instance_groups(0).is_empty(), "something is left");
        Ok(())
    })
}
