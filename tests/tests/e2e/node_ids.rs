//! Host ids: each container has users of its own on the host, so that what the kernel counts for a user is no budget that
//! containers share; the image's files belong to the right ones all the same.

use std::collections::HashSet;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use berth_tests::app::App;
use berth_tests::client::Client;
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::machine;
use berth_tests::programs::PROBE;
use berth_tests::scenario::{Outcome, scenario};
use berth_tests::slots;
use berth_tests::wait;

/// Host ids of a container.
const CONTAINER_IDS: u32 = 65_536;
/// How long what an instance leaves may be there.
const GONE_WITHIN: Duration = Duration::from_secs(10);
/// More descriptors than a user may have in flight.
const MANY: usize = 5000;

fn with_ranges(steps: impl AsyncFnOnce(&mut Cluster) -> Result<()>) -> Outcome {
    if !machine::is_root() {
        println!("not root: cannot make ranges of ids");
        return Ok(());
    }
    scenario(Setup { disk_slots: Some("3x64MiB"), ..Setup::nodes(1) }, steps)
}

fn app() -> App {
    App { program: PROBE, disk: "64MiB", more: "capabilities = [\"chown\"]", ..App::default() }
}

/// The ranges of host uids that the instances' processes belong to, by their first.
fn ranges(cluster: &Cluster) -> Result<HashSet<u32>> {
    let mut found = HashSet::new();
    for pid in cluster.instance_processes(0) {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find(|line| line.starts_with("Uid:")).context("no line Uid")?;
        let uid: u32 = line.split_whitespace().nth(1).context("no uid")?.parse()?;
        // The app is root inside: its uid is the range's first.
        found.insert(uid);
    }
    Ok(found)
}

async fn look(client: &Client, name: &str, what: &str) -> Result<String> {
    Ok(client.get(&format!("/container/{name}/look/{what}")).await?.success()?.text)
}

#[test]
fn each_container_has_host_users_of_its_own() -> Outcome {
    with_ranges(async |cluster| {
        cluster.deploy(&app()).await?;
        for name in ["a", "b", "c"] {
            cluster.client().get(&format!("/container/{name}")).await?.success()?;
        }
        let firsts = ranges(cluster)?;
        ensure!(firsts.len() == 3, "three containers have the host uids {firsts:?}");
        let apart = |a: &u32| firsts.iter().all(|b| a == b || a.abs_diff(*b) >= CONTAINER_IDS);
        ensure!(firsts.iter().all(apart), "the ranges overlap: {firsts:?}");
        Ok(())
    })
}

#[test]
fn files_of_the_image_belong_to_root_can_be_written_and_given_away() -> Outcome {
    with_ranges(async |cluster| {
        cluster.deploy(&app()).await?;
        let client = cluster.client();
        for name in ["a", "b"] {
            let program = look(&client, name, "link?/proc/self/exe").await?;
            let program = program.strip_prefix("ok ").context("no program")?;
            let steps = [
                (format!("owner?{program}"), "ok 0 0"),
                // It runs, so it cannot be written to; its directory is copied up instead.
                ("put?/etc/new".to_owned(), "ok"),
                ("owner?/etc/new".to_owned(), "ok 0 0"),
                (format!("chown?{program}"), "ok"),
                (format!("owner?{program}"), "ok 1234 2345"),
            ];
            for (step, expected) in steps {
                let found = look(&client, name, &step).await?;
                ensure!(found == expected, "{name}: {step}: {found}");
            }
        }
        Ok(())
    })
}

#[test]
fn descriptors_in_flight_of_one_container_are_not_counted_for_another() -> Outcome {
    with_ranges(async |cluster| {
        cluster.deploy(&app()).await?;
        let client = cluster.client();
        client.get("/container/neighbour").await?.success()?;
        let all = client.get(&format!("/container/bomb/bomb/in-flight/{MANY}")).await?.success()?.text;
        ensure!(all.ends_with("ETOOMANYREFS"), "the bomb got {all}");
        let few = client.get("/container/neighbour/bomb/in-flight/100").await?.success()?.text;
        ensure!(few == "100 ok", "the neighbour got {few}");
        Ok(())
    })
}

#[test]
fn without_limits_on_disks_containers_have_ranges_too_and_leave_nothing() -> Outcome {
    if !machine::is_root() {
        println!("not root: cannot make ranges of ids");
        return Ok(());
    }
    let agent_options = vec!["--disk-limit", "unenforced"];
    let setup = Setup { disk_slots: Some("1x64MiB"), agent_options, ..Setup::nodes(1) };
    scenario(setup, async |cluster| {
        cluster.deploy(&App { more: "prepared = 0", ..app() }).await?;
        for name in ["a", "b"] {
            ensure!(look(&cluster.client(), name, "put?/etc/new").await? == "ok", "{name} wrote nothing");
        }
        ensure!(ranges(cluster)?.len() == 2, "they share a range");
        // One ends by itself; what the other leaves is swept.
        let id = cluster.admin().object("a").await?.id;
        cluster.admin().post(&format!("/v1/containers/{id}/destroy"), &serde_json::Value::Null).await?;
        wait::until("the first to be gone", GONE_WITHIN, async || {
            let left = cluster.instance_directories(0)?;
            ensure!(left.len() == 1, "{left:?}");
            Ok(())
        })
        .await?;
        cluster.kill_shims(0)?;
        wait::until("the second to be gone", GONE_WITHIN, async || {
            let left = cluster.instance_directories(0)?;
            ensure!(left.is_empty(), "{left:?}");
            Ok(())
        })
        .await?;
        look(&cluster.client(), "b", "owner?/").await.map(drop)
    })
}

#[test]
fn a_range_whose_layers_are_not_mounted_is_not_used() -> Outcome {
    with_ranges(async |cluster| {
        let mounts = slots::ranges_of(&cluster.nodes()[0].state.canonicalize()?)?;
        ensure!(mounts.len() > 3, "there are {} ranges", mounts.len());
        cluster.end_agent(0)?;
        for mount in &mounts[1..] {
            nix::mount::umount(mount)?;
        }
        cluster.start_agent(0)?;
        cluster.until_connected().await?;
        cluster.deploy(&app()).await?;
        let refused = cluster.client().get("/container/a").await?;
        let log = cluster.agent(0)?.log();
        // The pool may have taken the only range that is left.
        ensure!(refused.status.as_u16() == 503 || ranges(cluster)?.len() == 1, "{}", refused.text);
        ensure!(log.contains("this range of ids is not used"), "the log does not say so");
        Ok(())
    })
}
