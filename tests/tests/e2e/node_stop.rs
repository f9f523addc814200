//! How instances end, and that nothing is left of them.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use berth_common::ids::InstanceId;
use berth_common::outcome::ExitReason;
use berth_common::wire::call::{Answer, AskUsage, Call, Forget, Stop};
use berth_tests::app::App;
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::programs::PROBE;
use berth_tests::rogue::Rogue;
use berth_tests::scenario::{Outcome, scenario};
use berth_tests::{host, wait};
use nix::sys::signal::Signal;

/// How long after an instance's end everything of it must be gone.
const GONE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long an instance may take to fall asleep and end.
const SLEEP_TIMEOUT: Duration = Duration::from_secs(10);

fn app() -> App {
    App { program: PROBE, sleep_after: "1s", more: "stop_grace = \"1s\"", ..App::default() }
}

/// Waits until the object's instance has ended, and returns how.
async fn ended(cluster: &Cluster, name: &str) -> Result<berth_common::outcome::Outcome> {
    let admin = cluster.admin();
    wait::until("the instance to have ended", SLEEP_TIMEOUT, async || {
        let object = admin.object(name).await?;
        ensure!(object.instance.is_none(), "{object:?}");
        object.exit.clone().context("it tells no end")
    })
    .await
}

/// Processes, cgroups and mounts of a node's instances.
fn remains(cluster: &Cluster) -> Result<Vec<String>> {
    let processes = cluster.instance_processes(0).into_iter().map(host::command_line);
    let mounts = host::mounts_below(cluster.directory())?.into_iter().map(|path| path.display().to_string());
    let directories = cluster.instance_directories(0)?.into_iter();
    Ok(processes.chain(mounts).chain(directories).chain(cluster.instance_groups(0)).collect())
}

async fn expect_nothing_left(cluster: &Cluster) -> Result<()> {
    wait::until("all of the instance to be gone", GONE_TIMEOUT, async || {
        let left = remains(cluster)?;
        ensure!(left.is_empty(), "left: {left:?}");
        Ok(())
    })
    .await
}

#[test]
fn an_app_that_honours_sigterm_exits_with_its_own_code() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&app()).await?;
        cluster.client().get("/container/polite").await?.success()?;
        let outcome = ended(cluster, "polite").await?;
        ensure!(outcome.code == Some(0) && outcome.reason == ExitReason::Idle, "{outcome:?}");
        expect_nothing_left(cluster).await
    })
}

#[test]
fn a_first_process_that_ignores_sigterm_is_killed_after_the_grace() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App { env: BTreeMap::from([("IGNORE_SIGTERM", "1")]), ..app() }).await?;
        cluster.client().get("/container/stubborn").await?.success()?;
        let outcome = ended(cluster, "stubborn").await?;
        ensure!(outcome.signal == Some(9) && outcome.reason == ExitReason::Idle, "{outcome:?}");
        expect_nothing_left(cluster).await
    })
}

#[test]
fn children_that_were_left_behind_are_gone_with_the_instance() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&app()).await?;
        let reply = cluster.client().get("/container/parent/bomb/orphans/20").await?.success()?.text;
        ensure!(reply == "20 ok", "{reply}");
        ensure!(cluster.instance_processes(0).len() >= 20, "the children are not there");
        ended(cluster, "parent").await?;
        expect_nothing_left(cluster).await
    })
}

#[test]
fn an_order_to_end_that_comes_together_with_the_start_is_carried_out() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App { more: "prepared = 0", ..app() }).await?;
        // Until a shim waits: it reads what comes while it is held up at once.
        cluster.client().get("/container/first").await?.success()?;
        ended(cluster, "first").await?;
        expect_nothing_left(cluster).await?;
        wait::until("a shim that waits", SLEEP_TIMEOUT, async || {
            ensure!(!cluster.shims(0)?.is_empty(), "there is none");
            Ok(())
        })
        .await?;
        cluster.signal_shims(0, Signal::SIGSTOP)?;
        let said = async |what: &str| {
            wait::until(what, SLEEP_TIMEOUT, async || {
                let log = cluster.agent(0)?.log();
                ensure!(log.contains(what), "the node has not heard of it: {log}");
                Ok(())
            })
            .await
        };
        let end = async {
            said("object=hello/Hello/both").await?;
            let destroyed = cluster.berth(&["containers", "destroy", "hello/Hello/both"]).await?;
            said("signal=9 grace_ms=0").await?;
            cluster.signal_shims(0, Signal::SIGCONT)?;
            anyhow::Ok(destroyed)
        };
        let start = ["containers", "start", "hello/Hello/both"];
        let (_started, destroyed) = tokio::join!(cluster.berth(&start), end);
        let destroyed = destroyed?;
        ensure!(destroyed.status.success(), "{destroyed:?}");
        let outcome = ended(cluster, "both").await?;
        ensure!(outcome.reason == ExitReason::Destroyed, "{outcome:?}");
        expect_nothing_left(cluster).await
    })
}

/// A fake edge, which sends the node orders that the real one never sends.
async fn own_edge(cluster: &Cluster) -> Result<Rogue> {
    cluster.issue("edge", "own")?;
    let edge = Rogue::dial(&cluster.authority(), "edge", "own", "n1", cluster.nodes()[0].address).await?;
    ensure!(matches!(edge.hello("own").await?, Answer::Welcome(_)), "the agent does not welcome an edge");
    Ok(edge)
}

/// Has the node start an instance of the app that was deployed, and waits until it takes CPU time.
async fn start(cluster: &Cluster, edge: &Rogue) -> Result<InstanceId> {
    let apps = cluster.admin().get("/v1/apps").await?;
    let image = &apps["apps"][0]["spec"]["classes"]["Hello"]["image"];
    let instance = InstanceId::random();
    let start = serde_json::json!({
        "instance": instance, "object": {"app": "own", "class": "Hello", "name": "1"}, "generation": 1,
        "term_ms": 60_000, "image": image, "env": {"IGNORE_SIGTERM": "1"}, "enable_internet": false, "ready_port": 8080,
        "resources": {"cpu_sixteenths": 16, "memory_bytes": 128 << 20, "disk_bytes": 1 << 30},
    });
    let answer = edge.call(&Call::Start(Box::new(serde_json::from_value(start)?))).await?;
    ensure!(matches!(answer, Answer::Accepted), "{answer:?}");
    wait::until("the instance to run", SLEEP_TIMEOUT, async || {
        let log = cluster.nodes()[0].state.join(format!("logs/{instance}.log"));
        ensure!(std::fs::read_to_string(log)?.contains("listening"), "it has said nothing yet");
        Ok(())
    })
    .await?;
    let answer = edge.call(&Call::Usage(AskUsage { instance })).await?;
    let used = matches!(&answer, Answer::Usage(usage) if usage.cpu_us > 0 && usage.memory_bytes > 0);
    ensure!(used, "{answer:?}");
    Ok(instance)
}

#[test]
fn a_destroyed_instance_is_gone_at_once_however_long_its_grace() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&app()).await?;
        let edge = own_edge(cluster).await?;
        let instance = start(cluster, &edge).await?;
        ensure!(!cluster.instance_processes(0).is_empty(), "no process runs");
        // It ignores the request to end; destroyed it is gone, although its grace is an hour.
        edge.call(&Call::Stop(Stop { instance, signal: 15, grace_ms: 3_600_000 })).await?;
        edge.call(&Call::Stop(Stop { instance, signal: 9, grace_ms: 3_600_000 })).await?;
        wait::until("its processes to be gone", GONE_TIMEOUT, async || {
            let left = cluster.instance_processes(0);
            ensure!(left.is_empty() && cluster.instance_groups(0).is_empty(), "left: {left:?}");
            Ok(())
        })
        .await?;
        // Refused until the node has taken note of the end, which comes a moment after it.
        wait::until("the instance to be forgotten", GONE_TIMEOUT, async || {
            let answer = edge.call(&Call::Forget(Forget { instances: vec![instance] })).await?;
            ensure!(answer == Answer::Done, "{answer:?}");
            Ok(())
        })
        .await?;
        expect_nothing_left(cluster).await
    })
}
