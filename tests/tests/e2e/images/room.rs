//! A node whose disk fills up removes unused images, and no others.

use std::time::Duration;

use anyhow::{Result, ensure};
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::scenario::{Outcome, scenario};
use berth_tests::wait;
use nix::sys::statvfs::statvfs;

use super::{app, ask, image_of, unpacked, until_swept};

/// The node's disk, and its marks.
const DISK_MIB: u32 = 400;
const OPTIONS: [&str; 4] = ["--image-high-water", "60", "--image-low-water", "45"];
const HIGH: u64 = 60;
/// Bytes of each image: a tenth of the disk.
const BYTES: usize = 40 << 20;
/// How long removing may take.
const ROOM_WITHIN: Duration = Duration::from_secs(20);
/// Images that come and go.
const PASSING: [&str; 7] = ["p0", "p1", "p2", "p3", "p4", "p5", "p6"];

fn used_percent(cluster: &Cluster) -> Result<u64> {
    let disk = statvfs(&cluster.nodes()[0].state)?;
    Ok(100 * (disk.blocks() - disk.blocks_available()) / disk.blocks())
}

async fn delete(cluster: &Cluster, app: &str) -> Result<()> {
    let (status, answer) = cluster.admin().delete(&format!("/v1/apps/{app}")).await?;
    ensure!(status.is_success(), "{status}: {answer}");
    Ok(())
}

fn is_there(cluster: &Cluster, name: &str) -> bool {
    !unpacked(cluster, 0, name).is_empty()
}

#[test]
fn a6_a_node_makes_room_with_what_was_used_least_recently_and_never_with_what_is_needed() -> Outcome {
    let setup = Setup {
        node_disk_mib: Some(DISK_MIB),
        agent_options: OPTIONS.to_vec(),
        monitored: true,
        ..Setup::nodes(1)
    };
    scenario(setup, async |cluster| {
        // One is wanted, one only runs: its app has been deployed with another image.
        cluster.deploy(&app("wanted", image_of(cluster, "wanted", &[("wanted", BYTES)])?)).await?;
        cluster.deploy(&app("running", image_of(cluster, "running", &[("running", BYTES)])?)).await?;
        ask(cluster, "running", "old").await?;
        for name in PASSING {
            cluster.deploy(&app(name, image_of(cluster, name, &[(name, BYTES)])?)).await?;
            ask(cluster, name, "x").await?;
            delete(cluster, name).await?;
            // The first one is used again, and so is not the oldest any more.
            if name == "p2" {
                cluster.deploy(&app("p0", image_of(cluster, "p0", &[("p0", BYTES)])?)).await?;
                ask(cluster, "p0", "again").await?;
                delete(cluster, "p0").await?;
            }
            println!("after {name}: {} %, {:?}", used_percent(cluster)?, held(cluster));
            let first_gone = held(cluster).iter().filter(|held| ["p0", "p1", "p2"].contains(held)).count();
            ensure!(
                first_gone == 3 || first_gone == 0 || is_there(cluster, "p0"),
                "one was removed before others that were used less recently: {:?}",
                held(cluster)
            );
            // The order of use is known from the times of files.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        wait::until("room to be made", ROOM_WITHIN, async || {
            let used = used_percent(cluster)?;
            ensure!(used < HIGH, "{used} % of the disk are used");
            Ok(())
        })
        .await?;
        ensure!(!is_there(cluster, "p1"), "the oldest image is still there: {:?}", held(cluster));
        ensure!(is_there(cluster, "p6"), "the newest image is gone: {:?}", held(cluster));
        ensure!(is_there(cluster, "wanted") && is_there(cluster, "running"), "one that is needed is gone");
        ask(cluster, "running", "old").await?;
        ask(cluster, "wanted", "x").await?;
        let evicted = cluster.nodes()[0].metric("berth_agent_layers_evicted_total").await?;
        ensure!(evicted >= 2.0, "{evicted} layers were removed");
        until_swept(cluster, 0).await
    })
}

fn held(cluster: &Cluster) -> Vec<&'static str> {
    let names = ["wanted", "running"].into_iter().chain(PASSING);
    names.filter(|name| is_there(cluster, name)).collect()
}
