//! Disks: fresh at every start, held to their size, and gone afterwards.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use berth_common::outcome::ExitReason;
use berth_tests::app::App;
use berth_tests::cgroup;
use berth_tests::client::{Answer, Client};
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::machine;
use berth_tests::programs::PROBE;
use berth_tests::scenario::{Outcome, scenario};
use berth_tests::slots;
use berth_tests::wait;

const MIB: usize = 1 << 20;
/// How long a slot may take to be free again.
const FREE_TIMEOUT: Duration = Duration::from_secs(5);
/// The same for one in which an instance has made as many directories as it could, each in the one before.
const DEEP_FREE_TIMEOUT: Duration = Duration::from_secs(10);
/// How deep: far beyond the descriptors of a process, and about as many directories as the slot has inodes.
const LEVELS: usize = 100_000;

fn with_slots(slots: &'static str, steps: impl AsyncFnOnce(&mut Cluster) -> Result<()>) -> Outcome {
    if !machine::is_root() {
        println!("not root: cannot make disk slots");
        return Ok(());
    }
    scenario(Setup { disk_slots: Some(slots), ..Setup::nodes(1) }, steps)
}

fn app() -> App {
    App { disk: "64MiB", ..App::default() }
}

async fn fill(client: &Client, name: &str, bytes: usize) -> Result<Answer> {
    client.get(&format!("/container/{name}/fill/{bytes}")).await
}

#[test]
fn a_full_disk_affects_only_its_instance() -> Outcome {
    with_slots("2x64MiB", async |cluster| {
        cluster.deploy(&app()).await?;
        let client = cluster.client();
        client.get("/container/calm").await?.success()?;
        // Counted by files: free space on the host's disk depends on everything else that runs.
        let before = slots::disk_used(&cluster.nodes()[0].state)?;
        let answer = fill(&client, "bomb", 200 * MIB).await?;
        ensure!(!answer.status.is_success(), "200 MiB were written to a disk of 64 MiB");
        ensure!(answer.text.contains("No space left"), "it failed for another reason: {}", answer.text);
        let taken = slots::disk_used(&cluster.nodes()[0].state)?.saturating_sub(before);
        ensure!(taken < 50 << 20, "the node's disk shrank by {taken} bytes");
        // Both instances keep working, and the other has room.
        client.get("/container/bomb").await?.success()?;
        fill(&client, "calm", 16 * MIB).await?.success().map(drop)
    })
}

#[test]
fn a_disk_has_room_for_its_whole_size() -> Outcome {
    with_slots("1x64MiB", async |cluster| {
        cluster.deploy(&app()).await?;
        fill(&cluster.client(), "whole", 63 * MIB).await?.success().map(drop)
    })
}

#[test]
fn slots_run_out_and_come_back_empty() -> Outcome {
    with_slots("2x64MiB", async |cluster| {
        cluster.deploy(&App { sleep_after: "1s", ..app() }).await?;
        let client = cluster.client();
        fill(&client, "1", MIB).await?.success()?;
        client.get("/container/2").await?.success()?;
        let refused = client.get("/container/3").await?;
        ensure!(refused.status.as_u16() == 503, "answered {}: {}", refused.status, refused.text);
        ensure!(refused.text.contains("disk slots of 67108864 bytes"), "{}", refused.text);
        wait::until("a slot to be free", FREE_TIMEOUT, async || {
            client.get("/container/3").await?.success().map(drop)
        })
        .await?;
        let found = client.get("/container/3/file").await?;
        ensure!(found.status.as_u16() == 404, "the disk was not fresh: {}", found.status);
        Ok(())
    })
}

#[test]
fn a_slot_as_deep_as_it_gets_is_free_again() -> Outcome {
    with_slots("1x2GB", async |cluster| {
        cluster.deploy(&App { program: PROBE, disk: "2GB", memory: "512MiB", ..App::default() }).await?;
        let client = cluster.client();
        let made = client.get(&format!("/container/deep/bomb/levels/{LEVELS}")).await?.success()?.text;
        ensure!(made == format!("{LEVELS} ok"), "{made}");
        let id = cluster.admin().object("deep").await?.id;
        cluster.admin().post(&format!("/v1/containers/{id}/destroy"), &serde_json::Value::Null).await?;
        let ended = Instant::now();
        wait::until("the slot to be free", DEEP_FREE_TIMEOUT, async || {
            client.get("/container/next").await?.success().map(drop)
        })
        .await?;
        // Not by the container any more, which has ended, nor by what serves requests.
        let cpu = cgroup::cpu_time(&cluster.nodes()[0].cgroup().join("helpers"))?;
        ensure!(!cpu.is_zero(), "the disk was wiped outside the group of helpers");
        println!("free after {} ms, {} ms of CPU", ended.elapsed().as_millis(), cpu.as_millis());
        Ok(())
    })
}

/// Some file below a directory.
fn some_file(directory: &Path) -> Result<PathBuf> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_file() {
            return Ok(path);
        }
        if let Ok(found) = some_file(&path) {
            return Ok(found);
        }
    }
    bail!("no file in {}", directory.display())
}

#[test]
fn a_slot_that_cannot_be_wiped_is_told_of_and_made_anew_by_root() -> Outcome {
    with_slots("1x64MiB", async |cluster| {
        cluster.deploy(&App { more: "prepared = 0", ..app() }).await?;
        let client = cluster.client();
        fill(&client, "first", MIB).await?.success()?;
        let slot = cluster.slots(0)?.pop().context("no slot")?;
        // Not even the namespace's root can remove it now.
        let stuck = some_file(&slot.join("disk/upper"))?;
        let done = Command::new("chattr").arg("+i").arg(&stuck).status().context("run chattr")?;
        ensure!(done.success(), "chattr +i {}: {done}", stuck.display());
        let id = cluster.admin().object("first").await?.id;
        cluster.admin().post(&format!("/v1/containers/{id}/destroy"), &serde_json::Value::Null).await?;
        wait::until("the slot to be found broken", FREE_TIMEOUT, async || {
            ensure!(slot.join("broken").exists(), "it has no mark");
            Ok(())
        })
        .await?;
        let refused = client.get("/container/second").await?;
        ensure!(refused.status.as_u16() == 503, "answered {}: {}", refused.status, refused.text);
        cluster.end_agent(0)?;
        cluster.start_agent(0)?;
        cluster.until_connected().await?;
        wait::until("the edge to be told", FREE_TIMEOUT, async || {
            let disk = cluster.admin().nodes().await?.pop().and_then(|node| node.disk);
            ensure!(disk.as_ref().is_some_and(|disk| disk.broken == 1), "{disk:?}");
            Ok(())
        })
        .await?;
        let state = cluster.nodes()[0].state.clone();
        let owner = berth_cluster::Owner::of_this_process()?;
        slots::make(&cluster.program("berth-agent"), owner.user(), &state, "1x64MiB")?;
        ensure!(!slot.join("broken").exists() && !slot.join("disk").exists(), "the slot was not made anew");
        wait::until("the slot to serve again", FREE_TIMEOUT, async || {
            client.get("/container/second").await?.success().map(drop)
        })
        .await
    })
}

#[test]
fn what_a_killed_shim_and_a_killed_agent_leave_is_wiped() -> Outcome {
    with_slots("1x64MiB", async |cluster| {
        cluster.deploy(&app()).await?;
        let client = cluster.client();
        fill(&client, "first", MIB).await?.success()?;
        let slot = cluster.slots(0)?.pop().context("no slot")?;
        ensure!(slot.join("disk").exists(), "the instance does not use the slot");
        cluster.kill_agent(0)?;
        ensure!(cluster.kill_shims(0)? > 0, "there was no shim");
        wait::until("the supervisor to sweep", FREE_TIMEOUT, async || {
            ensure!(!slot.join("disk").exists(), "the slot is not empty");
            Ok(())
        })
        .await?;
        cluster.start_agent(0)?;
        cluster.until_connected().await?;
        wait::until("the slot to serve again", FREE_TIMEOUT, async || {
            client.get("/container/second").await?.success().map(drop)
        })
        .await
    })
}

#[test]
fn a_disk_in_memory_is_limited_and_counts_as_memory() -> Outcome {
    let enforced = Setup { agent_options: vec!["--disk-limit", "enforced"], ..Setup::nodes(1) };
    scenario(enforced, async |cluster| {
        let app = App { more: "disk_in_memory = true", disk: "16MiB", ..App::default() };
        cluster.deploy(&app).await?;
        let client = cluster.client();
        fill(&client, "small", 8 * MIB).await?.success()?;
        let answer = fill(&client, "small", 32 * MIB).await?;
        ensure!(answer.text.contains("No space left"), "{}: {}", answer.status, answer.text);
        client.get("/container/small").await?.success()?;
        // A disk larger than the instance's memory: writing to it ends the instance for lack of memory.
        let large = App { name: "large", prefix: "large", disk: "1GB", memory: "64MiB", ..app };
        cluster.deploy(&large).await?;
        let answer = client.get(&format!("/large/x/fill/{}", 100 * MIB)).await?;
        ensure!(!answer.status.is_success(), "100 MiB were written to a disk in 64 MiB of memory");
        wait::until("the instance to have ended", FREE_TIMEOUT, async || {
            let ended = cluster.admin().object("x").await?;
            let reason = ended.exit.as_ref().map(|exit| exit.reason);
            ensure!(reason == Some(ExitReason::Oom), "{ended:?}");
            Ok(())
        })
        .await?;
        Ok(())
    })
}

#[test]
fn a_node_that_cannot_limit_disks_reports_it() -> Outcome {
    let enforced = Setup { agent_options: vec!["--disk-limit", "enforced"], ..Setup::nodes(1) };
    scenario(enforced, async |cluster| {
        cluster.deploy(&app()).await?;
        let refused = cluster.client().get("/container/1").await?;
        ensure!(refused.status.as_u16() == 503, "answered {}: {}", refused.status, refused.text);
        for way_out in ["prepare --disk-slots", "--disk-limit unenforced"] {
            ensure!(refused.text.contains(way_out), "{}", refused.text);
        }
        let log = cluster.agent(0)?.log();
        ensure!(
            log.contains("--disk-slots") && log.contains("--disk-limit unenforced"),
            "the log names no way out"
        );
        Ok(())
    })
}

#[test]
fn a_slot_that_is_not_mounted_is_not_used() -> Outcome {
    with_slots("2x64MiB", async |cluster| {
        let slots = cluster.slots(0)?;
        cluster.end_agent(0)?;
        nix::mount::umount(&slots[0])?;
        cluster.start_agent(0)?;
        cluster.until_connected().await?;
        cluster.deploy(&app()).await?;
        cluster.client().get("/container/1").await?.success()?;
        let refused = cluster.client().get("/container/2").await?;
        ensure!(refused.status.as_u16() == 503, "answered {}: {}", refused.status, refused.text);
        ensure!(cluster.agent(0)?.log().contains("this disk slot is not used"), "the log does not say so");
        Ok(())
    })
}
