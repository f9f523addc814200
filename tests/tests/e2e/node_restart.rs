//! A node that is used and killed again and again: its reports are true, and nothing is left over.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use berth_api::containers::ContainerState;
use berth_common::outcome::ExitReason;
use berth_tests::app::App;
use berth_tests::client::Client;
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::scenario::{Outcome, count, scenario};
use berth_tests::{host, wait};
use tokio::task::JoinSet;

/// How long everything may take to be cleaned up.
const CLEAN_WITHIN: Duration = Duration::from_secs(20);
/// Longest pause before an agent is killed: as long as a start and a stop take together.
const LONGEST_PAUSE_MS: u64 = 120;

/// What a node has, counted: all of it grows with instances, and must shrink with them.
#[derive(Debug, PartialEq, Eq)]
struct Count {
    processes: usize,
    groups: usize,
    directories: usize,
    mounts: usize,
    agent_descriptors: usize,
    supervisor_descriptors: usize,
}

impl Count {
    fn of(cluster: &Cluster) -> Result<Self> {
        let (agent, supervisor) = (cluster.agent(0)?.pid(), cluster.supervisor(0)?.pid());
        Ok(Self {
            processes: host::children(supervisor).len(),
            groups: cluster.instance_groups(0).len(),
            directories: cluster.instance_directories(0)?.len(),
            mounts: host::mounts_below(cluster.directory())?.len(),
            agent_descriptors: host::descriptors(agent)?,
            supervisor_descriptors: host::descriptors(supervisor)?,
        })
    }
}

/// The app of the counts, which never sleeps by itself, and without prepared containers.
fn app() -> App {
    App { more: "prepared = 0", ..App::default() }
}

/// The count, once it is the same twice: the shim pool has been filled up, connections have been closed.
async fn settled(cluster: &Cluster) -> Result<Count> {
    let mut last = Count::of(cluster)?;
    wait::until("the node to be still", CLEAN_WITHIN, async || {
        tokio::time::sleep(Duration::from_millis(700)).await;
        let now = Count::of(cluster)?;
        let still = now == last;
        last = now;
        ensure!(still, "it changes still: {last:?}");
        Count::of(cluster)
    })
    .await
}

async fn exit(client: &Client, name: &str) -> Result<()> {
    client.get(&format!("/container/{name}/exit/0")).await?.success().map(drop)
}

#[test]
fn starts_and_stops_leave_nothing() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&app()).await?;
        let client = cluster.client();
        exit(&client, "first").await?;
        let before = settled(cluster).await?;
        for number in 0..count(20, 200) {
            exit(&client, &format!("row-{number}")).await?;
        }
        let mut at_once = JoinSet::new();
        for number in 0..count(10, 40) {
            at_once.spawn(async move { exit(&client, &format!("once-{number}")).await });
        }
        while let Some(done) = at_once.join_next().await {
            done??;
        }
        wait::until("everything to be as before", CLEAN_WITHIN, async || {
            let now = Count::of(cluster)?;
            ensure!(now == before, "before: {before:?}, now: {now:?}");
            Ok(())
        })
        .await
    })
}

#[test]
fn an_agent_killed_at_any_moment_reports_the_true_state_afterwards() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App::default()).await?;
        let client = cluster.client();
        for round in 0..count(6, 30) {
            let (starts, stops) =
                (format!("/container/starts-{round}"), format!("/container/stops-{round}/exit/7"));
            client.get(&format!("/container/stops-{round}")).await?.success()?;
            let asked = tokio::spawn(async move {
                // It does not matter here whether they succeed.
                let _ = tokio::join!(client.get(&starts), client.get(&stops));
            });
            // Another moment each time, spread over the whole range.
            let pause = (u64::try_from(round)? * 37) % LONGEST_PAUSE_MS;
            tokio::time::sleep(Duration::from_millis(pause)).await;
            cluster.kill_agent(0)?;
            cluster.start_agent(0)?;
            asked.await?;
            wait::until("the node to be back", CLEAN_WITHIN, async || {
                exit(&client, &format!("after-{round}")).await
            })
            .await?;
            wait::until("the node's word to be true", CLEAN_WITHIN, async || expect_truth(cluster).await)
                .await?;
        }
        Ok(())
    })
}

/// Checks that the edge and the node have the same instances.
async fn expect_truth(cluster: &Cluster) -> Result<()> {
    let objects = cluster.admin().objects().await?;
    ensure!(
        objects
            .iter()
            .all(|object| !matches!(object.state, ContainerState::Running | ContainerState::Stopping)),
        "{objects:?}"
    );
    let known: BTreeSet<String> =
        objects.into_iter().filter_map(|object| object.instance).map(|id| id.to_string()).collect();
    let directories = cluster.instance_directories(0)?;
    let name = |path: &String| path.rsplit('/').next().unwrap_or_default().to_owned();
    let there: BTreeSet<String> = directories.iter().map(name).collect();
    ensure!(known == there, "the edge knows {known:?}, on the node are {there:?}");
    let groups = cluster.instance_groups(0);
    ensure!(groups.len() == there.len(), "there are the groups {groups:?} for {there:?}");
    Ok(())
}

#[test]
fn with_their_supervisor_instances_end_and_are_reported_as_lost() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App::default()).await?;
        let client = cluster.client();
        client.get("/container/1").await?.success()?;
        cluster.kill_supervisor(0)?;
        let object = wait::until("the end to be told", CLEAN_WITHIN, async || {
            let object = cluster.admin().object("1").await?;
            ensure!(object.instance.is_none(), "{object:?}");
            Ok(object)
        })
        .await?;
        let reason = object.exit.context("it does not say how it ended")?.reason;
        ensure!(reason == ExitReason::RuntimeLost, "{reason:?}");
        ensure!(cluster.instance_processes(0).is_empty(), "it runs on, with nobody to look after it");
        cluster.restart_supervisor(0)?;
        wait::until("instances to start again", CLEAN_WITHIN, async || {
            client.get("/container/1").await?.success().map(drop)
        })
        .await
    })
}

#[test]
fn a_new_program_takes_over_from_the_one_before() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App::default()).await?;
        let client = cluster.client();
        let first = client.get("/container/1").await?.success()?.instance()?;
        cluster.end_agent(0)?;
        cluster.upgrade_agent(0)?;
        cluster.until_connected().await?;
        let again = client.get("/container/1").await?.success()?.instance()?;
        ensure!(again == first, "the instance was not taken over");
        client.get("/container/2").await?.success().map(drop)
    })
}
