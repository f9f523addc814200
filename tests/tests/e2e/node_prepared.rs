//! Prepared containers: taken by the next instance, never stale, and removed where room is needed.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use berth_tests::app::App;
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::machine;
use berth_tests::programs::PROBE;
use berth_tests::scenario::{Outcome, scenario};
use berth_tests::wait;

/// How long the prepared containers may take to be made: each takes a tenth of a second, one after the other.
const FILL_TIMEOUT: Duration = Duration::from_secs(15);

/// Directories in each other: enough that their removal takes a second or two.
const LEVELS: usize = 40_000;

fn app() -> App {
    App { more: "prepared = 2", ..App::default() }
}

/// The cgroups of the prepared containers, once there are so many.
async fn held(cluster: &Cluster, count: usize) -> Result<Vec<String>> {
    wait::until(&format!("{count} containers to be held"), FILL_TIMEOUT, async || {
        let held = cluster.held(0);
        ensure!(held.len() == count, "held: {held:?}");
        Ok(held)
    })
    .await
}

#[test]
fn an_instance_takes_a_prepared_container_with_its_own_id_and_name() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&app()).await?;
        let waiting = held(cluster, 2).await?;
        let client = cluster.client();
        let instance = client.get("/container/1/env/BERTH_DEPLOYMENT_ID").await?.success()?.text;
        let groups = cluster.instance_groups(0);
        ensure!(groups.iter().all(|group| waiting.contains(group)), "{groups:?} was not among {waiting:?}");
        let known = cluster.admin().object("1").await?.instance.context("it has no instance")?.to_string();
        ensure!(instance == known, "it was told {instance}, and is {known}");
        let names = client.get("/container/1/names").await?.success()?.text;
        ensure!(names.matches(&instance[..12]).count() == 3, "its names: {names}");
        held(cluster, 2).await.map(drop)
    })
}

#[test]
fn a_prepared_container_of_an_older_version_is_never_used() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        let colour = |colour| App { env: BTreeMap::from([("COLOUR", colour)]), ..app() };
        cluster.deploy(&colour("red")).await?;
        let old = held(cluster, 2).await?;
        cluster.deploy(&colour("blue")).await?;
        let value = cluster.client().get("/container/1/env/COLOUR").await?.success()?.text;
        ensure!(value == "blue", "it was told {value}");
        wait::until("the old ones to be replaced", FILL_TIMEOUT, async || {
            let held = cluster.held(0);
            ensure!(held.len() == 2 && !held.iter().any(|group| old.contains(group)), "held: {held:?}");
            Ok(())
        })
        .await
    })
}

#[test]
fn a_start_succeeds_although_its_prepared_container_was_killed() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&app()).await?;
        held(cluster, 2).await?;
        cluster.kill_shims(0)?;
        cluster.client().get("/container/1").await?.success()?;
        held(cluster, 2).await.map(drop)
    })
}

#[test]
fn prepared_containers_end_with_their_agent_and_the_next_agent_makes_new_ones() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&app()).await?;
        held(cluster, 2).await?;
        cluster.kill_agent(0)?;
        held(cluster, 0).await?;
        cluster.start_agent(0)?;
        held(cluster, 2).await.map(drop)
    })
}

/// Waits until the node has told the edge how many of its slots instances and prepared containers have.
async fn until_slots(cluster: &Cluster, expected: (u32, u32)) -> Result<()> {
    wait::until("the node to tell of its slots", FILL_TIMEOUT, async || {
        let nodes = cluster.admin().nodes().await?;
        let room = nodes.first().and_then(|node| node.room.as_ref()).context("it tells nothing")?;
        let slots = room.slots.first().context("it has no slots")?;
        ensure!((slots.used, slots.prepared, slots.count) == (expected.0, expected.1, 2), "{room:?}");
        Ok(())
    })
    .await
}

#[test]
fn a_start_waits_for_a_slot_that_is_just_being_wiped() -> Outcome {
    if !machine::is_root() {
        println!("not root: cannot make disk slots");
        return Ok(());
    }
    scenario(Setup { disk_slots: Some("1x2GB"), ..Setup::nodes(1) }, async |cluster| {
        let more = "prepared = 0\nstart_timeout = \"30s\"";
        let probe = App { program: PROBE, disk: "2GB", memory: "512MiB", more, ..App::default() };
        cluster.deploy(&probe).await?;
        let (client, admin) = (cluster.client(), cluster.admin());
        // One in the other, which takes seconds to be removed.
        client.get(&format!("/container/deep/bomb/levels/{LEVELS}")).await?.success()?;
        let id = admin.object("deep").await?.id;
        admin.post(&format!("/v1/containers/{id}/destroy"), &serde_json::Value::Null).await?;
        wait::until("the instance to end", FILL_TIMEOUT, async || {
            let object = admin.object("deep").await?;
            ensure!(object.instance.is_none(), "{object:?}");
            Ok(())
        })
        .await?;
        client.get("/container/next").await?.success().map(drop)
    })
}

#[test]
fn prepared_containers_end_when_a_start_needs_their_disk() -> Outcome {
    if !machine::is_root() {
        println!("not root: cannot make disk slots");
        return Ok(());
    }
    scenario(Setup { disk_slots: Some("2x64MiB"), ..Setup::nodes(1) }, async |cluster| {
        // Each has a slot that is larger than its class needs.
        cluster.deploy(&App { disk: "48MiB", ..app() }).await?;
        held(cluster, 2).await?;
        until_slots(cluster, (0, 2)).await?;
        let other =
            App { name: "other", prefix: "other", disk: "64MiB", more: "prepared = 0", ..App::default() };
        cluster.deploy(&other).await?;
        let client = cluster.client();
        client.get("/other/1").await?.success()?;
        client.get("/other/2").await?.success()?;
        held(cluster, 0).await?;
        until_slots(cluster, (2, 0)).await?;
        let refused = client.get("/other/3").await?;
        ensure!(refused.status.as_u16() == 503, "answered {}: {}", refused.status, refused.text);
        Ok(())
    })
}
