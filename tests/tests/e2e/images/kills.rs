//! Agents and edges that are killed while images are pushed, fetched, unpacked and removed: incomplete data is never
//! used, and never stays.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use berth_tests::app::App;
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::image::{self, Layer, architecture, digest};
use berth_tests::registry::Registry;
use berth_tests::scenario::{Outcome, count, scenario};
use berth_tests::{machine, wait};
use fastrand::Rng;
use serde_json::json;

use super::{
    FETCHED_WITHIN, app, config, entries, expect_sound_blobs, expect_unpacked, image_of, noise, program,
    until_swept,
};

/// Bytes of a layer, and what a node's wire carries in a second: a pull takes about a second.
const LAYER_BYTES: usize = 16_000_000;
const RATE: u64 = 40_000_000;
/// Files of an image that takes longer to unpack than to fetch.
const FILES: usize = 6_000;
/// Longest time until a daemon is killed, in milliseconds: a little more than the operation takes.
const PULL_MS: u64 = 1_200;
const PUSH_MS: u64 = 300;

/// Names that are different in each round.
fn of(kind: &str, round: usize) -> String {
    format!("{kind}-{round}")
}

/// An image of two layers of noise; or one of many small files.
fn round_image(cluster: &Cluster, round: usize) -> Result<(String, bool)> {
    if round.is_multiple_of(2) {
        let (first, second) = (of("first", round), of("second", round));
        let payloads = [(first.as_str(), LAYER_BYTES), (&second, LAYER_BYTES)];
        return Ok((image_of(cluster, &of("round", round), &payloads)?, true));
    }
    let mut layer = Layer::default().directory("data").directory("data/files");
    for file in 0..FILES {
        let content = noise(&format!("{round}-{file}"), 700);
        layer = layer.file(&format!("data/files/{file}"), 0o644, &content);
    }
    let layer = layer.file(&format!("data/{}", of("last", round)), 0o644, b"last");
    let directory = cluster.make_directory(&format!("image-{}", of("round", round)))?;
    let layers = vec![program(cluster)?, layer];
    Ok((image::write(&directory, layers, config(), architecture())?, false))
}

/// Kills the edge or the agent, and starts it again.
async fn kill(cluster: &mut Cluster, edge: bool) -> Result<()> {
    if edge {
        cluster.kill_edge()?;
        cluster.start_edge()?;
    } else {
        cluster.kill_agent(0)?;
        cluster.start_agent(0)?;
    }
    cluster.until_connected().await
}

/// Checks that the object of this round runs in the end, from a complete image.
async fn until_running(cluster: &Cluster, app: &str, round: usize) -> Result<()> {
    let (client, path) = (cluster.client(), format!("/{app}/{round}/instance"));
    let runs = wait::until("the image to run", FETCHED_WITHIN, async || {
        client.get(&path).await?.success().map(drop)
    });
    runs.await.with_context(|| format!("round {round}"))
}

#[test]
fn a6_daemons_that_are_killed_while_an_image_is_fetched_and_unpacked_lose_nothing() -> Outcome {
    scenario(Setup { relays: true, ..Setup::nodes(1) }, async |cluster| {
        cluster.nodes()[0].relay()?.limit(RATE);
        let mut chance = Rng::new();
        for round in 0..count(6, 60) {
            let (image, noisy) = round_image(cluster, round)?;
            let deployed = cluster.try_deploy(&app("pulled", image), &["--wait-for", "none"]).await?;
            ensure!(deployed.status.success(), "{}", String::from_utf8_lossy(&deployed.stderr));
            for _ in 0..chance.u8(1..3) {
                tokio::time::sleep(Duration::from_millis(chance.u64(..PULL_MS))).await;
                kill(cluster, chance.u8(..3) == 0).await?;
            }
            until_running(cluster, "pulled", round).await?;
            if noisy {
                expect_unpacked(cluster, 0, &of("first", round), LAYER_BYTES)?;
                expect_unpacked(cluster, 0, &of("second", round), LAYER_BYTES)?;
            } else {
                expect_files(cluster, round)?;
            }
            until_swept(cluster, 0).await.with_context(|| format!("round {round}"))?;
        }
        Ok(())
    })
}

/// Checks that every small file exists, with its content.
fn expect_files(cluster: &Cluster, round: usize) -> Result<()> {
    let last = super::unpacked(cluster, 0, &of("last", round)).pop().context("the layer is not there")?;
    let files = last.parent().context("it has a directory")?.join("files");
    for file in 0..FILES {
        let found = std::fs::read(files.join(file.to_string())).with_context(|| format!("file {file}"))?;
        ensure!(found == noise(&format!("{round}-{file}"), 700), "file {file} is damaged");
    }
    Ok(())
}

/// `berth deploy` as a process that keeps running while daemons are killed.
fn begin_deploy(cluster: &Cluster, app: &App) -> Result<Child> {
    let directory = cluster.make_directory(&format!("app-{}", app.name))?;
    std::fs::write(directory.join("berth.toml"), app.manifest(&cluster.program(app.program)))?;
    let mut command: Command = cluster.command("berth");
    command.arg("deploy").arg(directory).env("BERTH_ADMIN_SOCKET", cluster.admin().socket());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().context("run berth deploy")
}

async fn end_of(child: Child) -> Result<Output> {
    let ended = tokio::task::spawn_blocking(move || child.wait_with_output());
    Ok(tokio::time::timeout(FETCHED_WITHIN, ended).await.context("berth deploy did not end")???)
}

#[test]
fn a4_a_push_goes_on_after_its_edge_was_killed() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        let mut chance = Rng::new();
        for round in 0..count(6, 60) {
            let (first, second) = (of("first", round), of("second", round));
            let payloads = [(first.as_str(), LAYER_BYTES), (&second, LAYER_BYTES)];
            let app = app("pushed", image_of(cluster, &of("round", round), &payloads)?);
            let deploy = begin_deploy(cluster, &app)?;
            tokio::time::sleep(Duration::from_millis(chance.u64(..PUSH_MS))).await;
            kill(cluster, true).await?;
            let output = end_of(deploy).await?;
            // On a busy machine the edge may be away for longer than the push waits; then it is given up.
            println!("round {round}: {}", String::from_utf8_lossy(&output.stderr).trim());
            expect_sound_blobs(cluster).with_context(|| format!("round {round}"))?;
            cluster.deploy(&app).await.with_context(|| format!("again in round {round}"))?;
            until_running(cluster, "pushed", round).await?;
            expect_unpacked(cluster, 0, &first, LAYER_BYTES)?;
        }
        Ok(())
    })
}

/// Room for two images, the program and an instance; a third one drives the first out.
const DISK_MIB: u32 = 220;

#[test]
fn a6_an_agent_that_is_killed_while_it_makes_room_leaves_no_half_of_a_layer() -> Outcome {
    let agent_options = vec!["--image-high-water", "45", "--image-low-water", "25"];
    let setup = Setup { node_disk_mib: Some(DISK_MIB), agent_options, ..Setup::nodes(1) };
    scenario(setup, async |cluster| {
        let mut chance = Rng::new();
        for round in 0..count(8, 60) {
            let name = of("room", round);
            let image = image_of(cluster, &name, &[(&name, 2 * LAYER_BYTES)])?;
            cluster.deploy(&app("room", image)).await.with_context(|| format!("round {round}"))?;
            until_running(cluster, "room", round).await?;
            let (status, answer) = cluster.admin().delete("/v1/apps/room").await?;
            ensure!(status.is_success(), "{status}: {answer}");
            tokio::time::sleep(Duration::from_millis(chance.u64(..PULL_MS))).await;
            kill(cluster, false).await?;
            until_swept(cluster, 0).await.with_context(|| format!("round {round}"))?;
            for old in 0..=round {
                let name = of("room", old);
                if !super::unpacked(cluster, 0, &name).is_empty() {
                    expect_unpacked(cluster, 0, &name, 2 * LAYER_BYTES)?;
                }
            }
        }
        Ok(())
    })
}

/// Unused blobs in each round; and the longest time in milliseconds until the edge that removes them is killed.
const ORPHANS: usize = 100;
const COLLECT_MS: u64 = 15;
/// Older than anything that a push may still count on.
const LONG_AGO: Duration = Duration::from_secs(3 * 3600);

fn blobs(cluster: &Cluster) -> Vec<PathBuf> {
    entries(&cluster.directory().join("edge/images/blobs"))
}

/// Blobs of no image; and all blobs, also those of images, with old times, as if unused for long.
async fn leave_orphans(cluster: &Cluster, registry: &Registry, round: usize) -> Result<()> {
    for number in 0..ORPHANS {
        let bytes = noise(&format!("{round}-{number}"), 10_000);
        registry.put_blob("orphans/app", &digest(&bytes), &bytes).await?.success()?;
    }
    for blob in blobs(cluster) {
        File::open(blob)?.set_modified(SystemTime::now() - LONG_AGO)?;
    }
    Ok(())
}

#[test]
fn a6_an_edge_that_is_killed_while_it_removes_unused_images_keeps_used_ones() -> Outcome {
    let (address, edge_options) = Registry::free_address()?;
    scenario(Setup { edge_options, ..Setup::nodes(1) }, async |cluster| {
        cluster.deploy(&app("needed", image_of(cluster, "needed", &[("needed", 100_000)])?)).await?;
        let (needed, mut chance, mut removed) = (blobs(cluster), Rng::new(), 0);
        for round in 0..count(4, 40) {
            let registry = Registry::of(cluster, address).await?;
            leave_orphans(cluster, &registry, round).await?;
            let before = blobs(cluster).len();
            let admin = cluster.admin();
            let collection = tokio::spawn(async move { admin.post("/v1/images/gc", &json!({})).await });
            tokio::time::sleep(Duration::from_millis(chance.u64(..COLLECT_MS))).await;
            kill(cluster, true).await?;
            // It was done, or cut off.
            let _ = collection.await?;
            removed += before - blobs(cluster).len();
            expect_sound_blobs(cluster)?;
            let lost: Vec<_> = needed.iter().filter(|blob| !blob.exists()).collect();
            ensure!(lost.is_empty(), "round {round}: what an app needs was removed: {lost:?}");
        }
        println!("{removed} blobs were removed by edges that were killed");
        leave_orphans(cluster, &Registry::of(cluster, address).await?, 0).await?;
        let (status, answer) = cluster.admin().post("/v1/images/gc", &json!({})).await?;
        ensure!(status.is_success() && blobs(cluster).len() == needed.len(), "{status}: {answer}");
        let state = cluster.nodes()[0].state.clone();
        cluster.end_agent(0)?;
        ["images", "layers"].iter().try_for_each(|part| machine::remove_directory(&state.join(part)))?;
        cluster.start_agent(0)?;
        cluster.until_connected().await?;
        until_running(cluster, "needed", 0).await
    })
}
