//! Versions of apps: deployed and taken back under load, in the right order, and across kills.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use berth_tests::app::App;
use berth_tests::client::Client;
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::scenario::{Outcome, count, scenario};
use berth_tests::wait;
use serde_json::Value;
use tokio::task::JoinSet;

use super::PATIENCE;

/// Clients that ask all the time.
const CLIENTS: usize = 4;

fn version(mark: &'static str) -> App {
    App { env: BTreeMap::from([("MARK", mark)]), ..App::default() }
}

async fn berth(cluster: &Cluster, words: &[&str]) -> Result<String> {
    let output = cluster.berth(words).await?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{words:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    Ok(text)
}

async fn mark(client: Client, name: &str) -> Result<String> {
    Ok(client.get(&format!("/container/{name}/env/MARK")).await?.success()?.text.trim().to_owned())
}

#[test]
fn e_versions_are_kept_and_can_be_rolled_back_to() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        let client = cluster.client();
        cluster.deploy(&version("one")).await?;
        ensure!(mark(client, "x").await? == "one");
        cluster.deploy(&version("two")).await?;
        ensure!(mark(client, "x").await? == "one", "an instance that runs was changed");
        ensure!(mark(client, "y").await? == "two", "a new one is of an old version");
        let foreseen = berth(cluster, &["rollback", "hello", "--dry-run"]).await?;
        ensure!(foreseen.contains("from version 2 to version 1"), "{foreseen}");
        let text = berth(cluster, &["rollback", "hello", "--now"]).await?;
        ensure!(text.contains("version 1") && text.contains("told to end: 1"), "{text}");
        wait::until("the object to be of the first version", PATIENCE, async || {
            let mark = mark(client, "y").await?;
            ensure!(mark == "one", "{mark}");
            Ok(())
        })
        .await?;
        let versions = berth(cluster, &["versions", "hello", "--json"]).await?;
        let versions: Value = serde_json::from_str(&versions).context("not JSON")?;
        ensure!(versions["versions"][1]["current"] == true, "{versions}");

        // A deploy that expects another version changes nothing.
        let output = cluster.berth(&["rollback", "hello", "--to", "2", "--expect", "2"]).await?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success() && text.contains("current version is 1"), "{text}");
        for _ in 0..10 {
            cluster.deploy(&version("more")).await?;
        }
        let kept = cluster.admin().get("/v1/apps/hello/versions").await?;
        let numbers: Vec<u64> =
            kept["versions"].as_array().into_iter().flatten().filter_map(|v| v["version"].as_u64()).collect();
        ensure!(numbers == (3..=12).rev().collect::<Vec<_>>(), "{numbers:?}");
        Ok(())
    })
}

#[test]
fn e_deploys_and_rollbacks_under_load_fail_no_request() -> Outcome {
    scenario(Setup::nodes(2), async |cluster| {
        cluster.deploy(&version("one")).await?;
        let (stop, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            let (client, stop, answers) = (cluster.client(), Arc::clone(&stop), Arc::clone(&answers));
            clients.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let answer = client.get(&format!("/container/load-{number}/env/MARK")).await?;
                    if !answer.status.is_success() {
                        bail!("{}: {}", answer.status, answer.text);
                    }
                    answers.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            });
        }
        for round in 0..count(4, 40) {
            let before = answers.load(Ordering::Relaxed);
            cluster.deploy(&version(if round % 2 == 0 { "two" } else { "one" })).await?;
            berth(cluster, &["rollback", "hello"]).await?;
            wait::until("more answers", Duration::from_secs(20), async || {
                ensure!(answers.load(Ordering::Relaxed) > before + 50, "too few");
                Ok(())
            })
            .await?;
        }
        stop.store(true, Ordering::Relaxed);
        while let Some(ended) = clients.join_next().await {
            ended.map_err(anyhow::Error::from)?.context("a request failed")?;
        }
        Ok(())
    })
}

#[test]
fn a_killed_edge_has_every_version_that_it_acknowledged_and_nothing_by_halves() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        let mut acknowledged = 0;
        let mut started = Vec::new();
        for round in 0..count(10, 100) {
            let (client, admin) = (cluster.client(), cluster.admin());
            cluster.deploy(&version("x")).await?;
            let spec = admin.get("/v1/apps/hello").await?["spec"].clone();
            acknowledged = admin.get("/v1/apps/hello").await?["version"].as_u64().context("no version")?;
            // While deploys and starts go on, the edge is killed.
            let newest = Arc::new(AtomicU64::new(0));
            let noted = Arc::clone(&newest);
            let deploying = tokio::spawn(async move {
                loop {
                    let Ok((status, answer)) = admin.put("/v1/apps/hello?force=true", &spec).await else {
                        return;
                    };
                    if status.is_success() {
                        noted.fetch_max(answer["version"].as_u64().unwrap_or(0), Ordering::Relaxed);
                    }
                }
            });
            let starting = tokio::spawn(async move {
                let mut answered = Vec::new();
                for number in 0..1_000 {
                    let name = format!("r{round}-{number}");
                    match client
                        .get(&format!("/container/{name}"))
                        .await
                        .and_then(|answer| answer.success()?.instance())
                    {
                        Ok(instance) => answered.push((name, instance)),
                        Err(_) => return answered,
                    }
                }
                answered
            });
            tokio::time::sleep(Duration::from_millis(120 + 37 * (round as u64 % 10))).await;
            cluster.kill_edge()?;
            deploying.await.map_err(anyhow::Error::from)?;
            let answered = starting.await.map_err(anyhow::Error::from)?;
            cluster.start_edge()?;
            cluster.until_connected().await?;
            let found = cluster.admin().get("/v1/apps/hello/versions").await?;
            let current = found["versions"][0]["version"].as_u64().context("no version")?;
            let newest_reported = newest.load(Ordering::Relaxed);
            ensure!(
                current >= acknowledged.max(newest_reported),
                "version {newest_reported} was acknowledged, {current} is there"
            );
            ensure!(found["versions"][0]["current"] == true, "{found}");
            for (name, instance) in &answered {
                let again =
                    cluster.client().get(&format!("/container/{name}")).await?.success()?.instance()?;
                ensure!(again == *instance, "{name} had {instance}, and has {again}");
            }
            // Room for the next round.
            for (name, _) in answered.iter() {
                super::order(cluster, name, "destroy", &Value::Null).await?;
            }
            started.extend(answered);
        }
        ensure!(acknowledged > 0 && !started.is_empty(), "nothing was tried");
        Ok(())
    })
}
