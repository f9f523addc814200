//! Terms: who is not heard of is paused, whatever of the node or the edge still runs; and goes on where it was once it is.

use std::time::Duration;

use anyhow::{Result, ensure};
use berth_tests::app::App;
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::scenario::{Outcome, scenario};
use berth_tests::{cgroup, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long after the last word of an edge everything must be paused: a term, and much for a busy machine.
const PAUSED_WITHIN: Duration = Duration::from_secs(40);
/// How long it may take to go on: to connect, to account, to resume.
const RESUMED_WITHIN: Duration = Duration::from_secs(30);

/// Signals a process by its number.
fn signal(pid: u32, signal: Signal) -> Result<()> {
    Ok(kill(Pid::from_raw(i32::try_from(pid)?), signal)?)
}

/// Whether all of a node's instances are paused, and how many they are.
fn paused(cluster: &Cluster, index: usize) -> (bool, usize) {
    let groups = cluster.instance_groups(index);
    let group = |name: &String| cluster.nodes()[index].cgroup().join(name);
    (groups.iter().all(|name| cgroup::is_frozen(&group(name))), groups.len())
}

async fn until_paused(cluster: &Cluster, index: usize) -> Result<()> {
    wait::until("the instance to be paused", PAUSED_WITHIN, async || {
        ensure!(paused(cluster, index) == (true, 1), "paused: {:?}", paused(cluster, index));
        Ok(())
    })
    .await
}

/// The same instance answers again, without having been restarted.
async fn until_goes_on(cluster: &Cluster, before: (&str, &str)) -> Result<()> {
    wait::until("the instance to go on", RESUMED_WITHIN, async || {
        let now = who(cluster).await?;
        ensure!((now.0.as_str(), now.1.as_str()) == before, "{now:?} answers, and not {before:?}");
        Ok(())
    })
    .await
}

/// The instance that answers, and its first process.
async fn who(cluster: &Cluster) -> Result<(String, String)> {
    let answer = cluster.client().get("/container/1/instance").await?.success()?;
    let boot = answer.headers.get("x-boot").and_then(|boot| boot.to_str().ok()).unwrap_or_default();
    Ok((answer.instance()?, boot.to_owned()))
}

/// One node with an instance that serves. Something happens, it is paused; that is undone, and it goes on.
fn pauses_and_goes_on(
    happens: impl AsyncFnOnce(&mut Cluster) -> Result<()>,
    undone: impl AsyncFnOnce(&mut Cluster) -> Result<()>,
) -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App { more: "prepared = 0", ..App::default() }).await?;
        let before = who(cluster).await?;
        // Longer than a term: it is renewed.
        tokio::time::sleep(Duration::from_secs(18)).await;
        ensure!(paused(cluster, 0) == (false, 1) && who(cluster).await? == before, "it does not serve on");
        happens(cluster).await?;
        until_paused(cluster, 0).await?;
        undone(cluster).await?;
        until_goes_on(cluster, (&before.0, &before.1)).await
    })
}

#[test]
fn an_instance_pauses_while_its_agent_is_stopped() -> Outcome {
    pauses_and_goes_on(
        async |cluster| signal(cluster.agent(0)?.pid(), Signal::SIGSTOP),
        async |cluster| signal(cluster.agent(0)?.pid(), Signal::SIGCONT),
    )
}

#[test]
fn an_instance_pauses_while_its_agent_is_gone_and_the_next_agent_does_not_wake_it_by_itself() -> Outcome {
    pauses_and_goes_on(
        async |cluster| cluster.kill_agent(0),
        async |cluster| {
            cluster.kill_edge()?;
            cluster.start_agent(0)?;
            tokio::time::sleep(Duration::from_secs(2)).await;
            ensure!(paused(cluster, 0) == (true, 1), "nobody has asked for it");
            cluster.start_edge()
        },
    )
}

#[test]
fn a_shim_pauses_its_instance_while_the_supervisor_is_stopped_too() -> Outcome {
    pauses_and_goes_on(
        async |cluster| {
            signal(cluster.agent(0)?.pid(), Signal::SIGSTOP)?;
            signal(cluster.supervisor(0)?.pid(), Signal::SIGSTOP)
        },
        async |cluster| {
            signal(cluster.supervisor(0)?.pid(), Signal::SIGCONT)?;
            signal(cluster.agent(0)?.pid(), Signal::SIGCONT)
        },
    )
}

#[test]
fn the_supervisor_pauses_an_instance_whose_shim_is_stopped() -> Outcome {
    pauses_and_goes_on(
        async |cluster| {
            cluster.signal_shims(0, Signal::SIGSTOP)?;
            signal(cluster.agent(0)?.pid(), Signal::SIGSTOP)
        },
        async |cluster| {
            cluster.signal_shims(0, Signal::SIGCONT)?;
            signal(cluster.agent(0)?.pid(), Signal::SIGCONT)
        },
    )
}

#[test]
fn instances_pause_while_their_edge_is_gone() -> Outcome {
    pauses_and_goes_on(async |cluster| cluster.kill_edge(), async |cluster| cluster.start_edge())
}
