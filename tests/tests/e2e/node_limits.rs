//! Apps that use as much as they can get are held to their limits: the node and other containers keep answering.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use berth_api::containers::ContainerState;
use berth_common::outcome::ExitReason;
use berth_tests::app::App;
use berth_tests::cgroup;
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::machine;
use berth_tests::programs::PROBE;
use berth_tests::scenario::{Outcome, scenario};
use berth_tests::wait;

/// How long the end of an instance may take to be known.
const END_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a neighbour may take to answer during a bomb, on a busy machine.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

fn app() -> App {
    App { program: PROBE, memory: "128MiB", ..App::default() }
}

/// Drops a bomb in one instance; a neighbour must answer during it and afterwards.
async fn bomb(cluster: &mut Cluster, name: &str, count: usize) -> Result<String> {
    let client = cluster.client();
    client.get("/container/neighbour").await?.success()?;
    client.get("/container/bomb").await?.success()?;
    let path = format!("/container/bomb/bomb/{name}/{count}");
    let mut answer = Box::pin(client.get(&path));
    let text = loop {
        let neighbour = tokio::time::timeout(ANSWER_TIMEOUT, client.get("/container/neighbour"));
        tokio::select! {
            answer = &mut answer => break answer?.text,
            calm = neighbour => { calm.context("the neighbour does not answer")??.success()?; }
        }
    };
    let calm = tokio::time::timeout(ANSWER_TIMEOUT, client.get("/container/neighbour")).await;
    calm.context("the neighbour does not answer afterwards")??.success()?;
    Ok(text)
}

#[test]
fn out_of_memory_ends_only_that_instance_and_is_reported_as_such() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&app()).await?;
        bomb(cluster, "memory", 4096).await?;
        let admin = cluster.admin();
        wait::until("the instance to have ended", END_TIMEOUT, async || {
            let object = admin.object("bomb").await?;
            let reason = object.exit.as_ref().map(|exit| exit.reason);
            ensure!(reason == Some(ExitReason::Oom), "{object:?}");
            Ok(())
        })
        .await?;
        let neighbour = admin.object("neighbour").await?;
        ensure!(neighbour.generation.0 == 1 && neighbour.state == ContainerState::Healthy, "{neighbour:?}");
        // The next request starts it anew.
        cluster.client().get("/container/bomb").await?.success().map(drop)
    })
}

#[test]
fn a_fork_bomb_is_stopped_by_the_limit_of_processes() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        // The kernel's own memory for a thousand processes counts as the instance's.
        cluster.deploy(&App { memory: "512MiB", ..app() }).await?;
        let reply = bomb(cluster, "fork", 5000).await?;
        let (count, errno) = reply.split_once(' ').with_context(|| reply.clone())?;
        ensure!(errno == "EAGAIN" && (500..1024).contains(&count.parse::<u32>()?), "{reply}");
        Ok(())
    })
}

#[test]
fn descriptors_are_limited_for_each_process() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&app()).await?;
        let reply = bomb(cluster, "files", 200_000).await?;
        ensure!(reply.ends_with("EMFILE"), "{reply}");
        Ok(())
    })
}

#[test]
fn one_instance_cannot_take_the_inotify_instances_of_another() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&app()).await?;
        let reply = bomb(cluster, "inotify", 100_000).await?;
        ensure!(reply == "64 EMFILE", "{reply}");
        let neighbour = cluster.client().get("/container/neighbour/probe/inotify").await?.success()?.text;
        ensure!(neighbour == "ok", "the neighbour has none left: {neighbour}");
        Ok(())
    })
}

#[test]
fn what_waits_in_sockets_is_limited_with_the_memory() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App { memory: "64MiB", ..app() }).await?;
        // 900 sockets take some 150 MiB if nothing limits them.
        let kept: usize = bomb(cluster, "datagrams", 900).await?.parse()?;
        ensure!(kept > 1 << 20, "only {kept} bytes waited: the bomb is too small");
        ensure!(kept < 64 << 20, "{kept} bytes waited in the sockets of an instance with 64 MiB");
        Ok(())
    })
}

#[test]
fn all_containers_together_leave_processes_to_the_machine() -> Outcome {
    if !machine::is_root() {
        println!("not root: cannot delegate a group");
        return Ok(());
    }
    scenario(Setup::nodes(1), async |cluster| {
        let delegated = cluster.nodes()[0].cgroup().parent().context("a node's group is in another")?;
        let limits = cgroup::directories(delegated);
        let mut limits = limits.iter().filter_map(|group| fs::read_to_string(group.join("pids.max")).ok());
        let limit: u64 = limits.next().context("no limit of processes")?.trim().parse()?;
        let most: u64 = fs::read_to_string("/proc/sys/kernel/threads-max")?.trim().parse()?;
        ensure!(limit > 0 && limit <= most / 4 * 3, "{limit} of {most}");
        Ok(())
    })
}

#[test]
fn terminals_are_limited_to_a_share_of_the_nodes() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&app()).await?;
        let reply = bomb(cluster, "terminals", 100).await?;
        ensure!(reply == "12 ENOSPC", "{reply}");
        let neighbour = cluster.client().get("/container/neighbour/bomb/terminals/5").await?.success()?.text;
        ensure!(neighbour == "5 ok", "the neighbour has no terminals left: {neighbour}");
        Ok(())
    })
}

#[test]
fn an_app_ends_before_the_machines_own_and_ignores_no_signal() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&app()).await?;
        let client = cluster.client();
        let look = async |what: &str| client.get(&format!("/container/a/look/{what}")).await?.success();
        let score = look("read?/proc/1/oom_score_adj").await?.text;
        ensure!(score == "ok 500", "the app's score is {score}");
        // Bit 13 is the probe's own, as of every program in Rust: SIGPIPE.
        let ignored = look("status?SigIgn").await?.text;
        ensure!(ignored == "ok 0000000000001000", "the app was started with these ignored: {ignored}");
        Ok(())
    })
}

#[test]
fn a_flood_of_output_is_dropped_and_blocks_no_other() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&app()).await?;
        let began = Instant::now();
        bomb(cluster, "flood", 64).await?;
        ensure!(began.elapsed() < Duration::from_secs(30), "64 MiB of output took {:?}", began.elapsed());
        let logs = cluster.instance_logs(0)?;
        let bytes: usize = logs.iter().map(String::len).sum();
        ensure!(bytes < 20 << 20, "the logs hold {bytes} bytes");
        Ok(())
    })
}

#[test]
fn a_sixteenth_of_a_cpu_is_a_sixteenth() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App { vcpu: 0.0625, more: "start_boost = false", ..app() }).await?;
        let client = cluster.client();
        client.get("/container/hog").await?.success()?;
        let mut spinning = Box::pin(client.get("/container/hog/bomb/spin/8"));
        // Skips the start, and the CPU budget that may have accumulated until now.
        let pause = tokio::time::sleep(Duration::from_secs(1));
        tokio::select! { answer = &mut spinning => { answer?; } () = pause => {} }
        let (before, began) = (cluster.cpu_of_instances(0)?, Instant::now());
        let pause = tokio::time::sleep(Duration::from_secs(5));
        tokio::select! { answer = &mut spinning => { answer?; } () = pause => {} }
        let used = cluster.cpu_of_instances(0)?.saturating_sub(before);
        let share = used.as_secs_f64() / began.elapsed().as_secs_f64();
        ensure!((0.05..0.075).contains(&share), "it got {share:.4} of a CPU, not 0.0625");
        Ok(())
    })
}

#[test]
fn a_small_type_is_boosted_until_its_port_answers() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        // Two spinning threads: a whole CPU at first, and its own sixteenth once the port has answered.
        cluster.deploy(&App { vcpu: 0.0625, ..app() }).await?;
        let client = cluster.client();
        client.get("/container/hog").await?.success()?;
        let (before, began) = (cluster.cpu_of_instances(0)?, Instant::now());
        client.get("/container/hog/bomb/spin/4").await?.success()?;
        let used = cluster.cpu_of_instances(0)?.saturating_sub(before);
        let share = used.as_secs_f64() / began.elapsed().as_secs_f64();
        ensure!(share < 0.1, "it got {share:.4} of a CPU after its port had answered");
        Ok(())
    })
}
