//! Which nodes have an image, and when: each fetches it once, before the version is current; nodes that join later
//! fetch it then.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::scenario::{Outcome, scenario};
use berth_tests::wait;
use tokio::task::JoinSet;

use super::{FETCHED_WITHIN, app, ask, image_of, refusal, unpacked};

/// Bytes of the large layers: enough to take a moment.
const BYTES: usize = 20_000_000;
/// Concurrent first requests, for both apps together.
const STARTS: usize = 20;
/// A wire so slow that its node holds nothing before the scenario is over, in bytes a second.
const CRAWL: u64 = 100_000;
/// How long a start may take of an image that its node holds.
const QUICK: Duration = Duration::from_secs(5);

/// Layers that a node's agent has fetched.
async fn fetched(cluster: &Cluster, node: usize) -> Result<f64> {
    cluster.nodes()[node].metric("berth_agent_layers_fetched_total").await
}

async fn until_unpacked(cluster: &Cluster, node: usize, name: &str) -> Result<()> {
    wait::until("a node to hold the image", FETCHED_WITHIN, async || {
        ensure!(!unpacked(cluster, node, name).is_empty(), "{name} is not there");
        Ok(())
    })
    .await
}

#[test]
fn a6_many_starts_of_images_that_share_layers_fetch_each_once_a_node() -> Outcome {
    scenario(Setup { monitored: true, ..Setup::nodes(2) }, async |cluster| {
        for (name, own) in [("one", "own-one"), ("two", "own-two")] {
            let image = image_of(cluster, name, &[("shared", BYTES), (own, BYTES / 4)])?;
            let output = cluster.try_deploy(&app(name, image), &["--wait-for", "none"]).await?;
            ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        let (client, mut starts) = (cluster.client(), JoinSet::new());
        for number in 0..STARTS {
            let name = if number % 2 == 0 { "one" } else { "two" };
            starts.spawn(async move { client.get(&format!("/{name}/{number}/instance")).await?.success() });
        }
        while let Some(started) = starts.join_next().await {
            started??;
        }
        for node in 0..2 {
            until_unpacked(cluster, node, "own-one").await?;
            until_unpacked(cluster, node, "own-two").await?;
            let layers = fetched(cluster, node).await?;
            // The program, the shared one, and one of each image.
            ensure!(layers == 4.0, "node {} has fetched {layers} layers instead of 4", node + 1);
        }
        Ok(())
    })
}

#[test]
fn a7_a_deployment_returns_when_every_node_holds_the_image() -> Outcome {
    scenario(Setup { monitored: true, ..Setup::nodes(2) }, async |cluster| {
        cluster.deploy(&app("ready", image_of(cluster, "ready", &[("data", BYTES)])?)).await?;
        for node in 0..2 {
            ensure!(unpacked(cluster, node, "data").len() == 1, "node {} does not hold it", node + 1);
        }
        let began = Instant::now();
        for object in 0..4 {
            ask(cluster, "ready", &object.to_string()).await?;
        }
        ensure!(began.elapsed() < QUICK, "four first requests took {:?}", began.elapsed());
        for node in 0..2 {
            let layers = fetched(cluster, node).await?;
            ensure!(layers == 2.0, "node {} has fetched {layers} layers instead of 2", node + 1);
        }
        Ok(())
    })
}

#[test]
fn a7_a_node_that_comes_later_fetches_what_is_deployed() -> Outcome {
    scenario(Setup::nodes(2), async |cluster| {
        cluster.end_agent(1)?;
        cluster.deploy(&app("later", image_of(cluster, "later", &[("data", BYTES)])?)).await?;
        ensure!(unpacked(cluster, 1, "data").is_empty(), "a node that is away holds it");
        cluster.start_agent(1)?;
        until_unpacked(cluster, 1, "data").await
    })
}

#[test]
fn a7_a_node_that_holds_the_image_is_preferred() -> Outcome {
    scenario(Setup { relays: true, ..Setup::nodes(2) }, async |cluster| {
        // The second node: if free room alone decided, both would get some.
        cluster.nodes()[0].relay()?.limit(CRAWL);
        let app = app("near", image_of(cluster, "near", &[("data", BYTES)])?);
        let output = cluster.try_deploy(&app, &["--wait-for", "1"]).await?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        for object in 0..6 {
            ask(cluster, "near", &object.to_string()).await?;
        }
        let objects = cluster.admin().objects().await?;
        let elsewhere: Vec<_> = objects
            .iter()
            .filter(|object| object.node.as_ref().is_none_or(|node| node.as_str() != "n2"))
            .collect();
        ensure!(objects.len() == 6 && elsewhere.is_empty(), "placed where the image is not: {elsewhere:?}");
        ensure!(unpacked(cluster, 0, "data").is_empty(), "the slow node holds it: this has shown nothing");
        Ok(())
    })
}

#[test]
fn a7_a_deployment_that_waits_in_vain_changes_nothing() -> Outcome {
    scenario(Setup::nodes(2), async |cluster| {
        cluster.deploy(&app("still", image_of(cluster, "old", &[("old", 1000)])?)).await?;
        let versions = cluster.admin().get("/v1/apps/still").await?;
        cluster.kill_agent(1)?;
        let app = app("still", image_of(cluster, "new", &[("new", BYTES)])?);
        let output = cluster.try_deploy(&app, &["--wait-for", "2", "--wait-timeout", "3s"]).await?;
        let error = refusal(&output)?;
        ensure!(error.contains("n2") || error.contains("1 of 2"), "it does not say who lacks it: {error}");
        ensure!(cluster.admin().get("/v1/apps/still").await? == versions, "the app was changed");
        ask(cluster, "still", "x").await?;
        ensure!(unpacked(cluster, 0, "old").len() == 1, "the version that is current lost its image");
        // Without the node that is away, or with it back, the same works.
        cluster.start_agent(1)?;
        cluster.until_connected().await?;
        cluster.deploy(&app).await?;
        ensure!(unpacked(cluster, 1, "new").len() == 1, "the node that came back does not hold it");
        Ok(())
    })
}
