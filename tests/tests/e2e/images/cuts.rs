//! A pull over a connection that is cut again and again is resumed.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::scenario::{Outcome, count, scenario};
use berth_tests::wait;
use fastrand::Rng;

use super::{FETCHED_WITHIN, app, ask, expect_unpacked, image_of, until_swept};

/// The layers of noise that are pulled: 300 MB in all, a large one and some beside it.
const LAYERS: [(&str, usize); 4] =
    [("large", 150_000_000), ("half", 75_000_000), ("quarter", 50_000_000), ("small", 25_000_000)];
/// What the wire carries in a second, in bytes: all of it takes long enough to be cut everywhere.
const RATE: u64 = 30_000_000;
/// How often it is cut.
const CUTS: usize = 20;
/// Longest time between two cuts, in milliseconds.
const BETWEEN_MS: u64 = 700;
/// Bytes that one cut may cost: those in flight, and those received and not yet written.
const LOST_BYTES: f64 = 1_048_576.0;
/// Longer than the idle timeout of both sides.
const LONG: Duration = Duration::from_secs(12);

/// How the wire is cut.
#[derive(Debug)]
enum Cut {
    /// The edge is killed, and started again.
    Edge,
    /// No packet passes for a while, which the connection survives.
    Short(Duration),
    /// No packet passes for so long that both ends close the connection.
    Long,
}

impl Cut {
    fn draw(chance: &mut Rng, number: usize, long: usize) -> Self {
        match chance.u8(..4) {
            _ if number < long => Self::Long,
            0 => Self::Short(Duration::from_millis(chance.u64(50..1500))),
            _ => Self::Edge,
        }
    }

    async fn make(&self, cluster: &mut Cluster) -> Result<()> {
        match self {
            Self::Edge => {
                cluster.kill_edge()?;
                cluster.start_edge()?;
                cluster.until_connected().await
            }
            Self::Short(pause) => silence(cluster, *pause).await,
            Self::Long => silence(cluster, LONG).await,
        }
    }
}

async fn silence(cluster: &Cluster, pause: Duration) -> Result<()> {
    let relay = cluster.nodes()[0].relay()?;
    relay.cut(true);
    tokio::time::sleep(pause).await;
    relay.cut(false);
    Ok(())
}

/// The bytes of all blobs in a layout.
fn size_of(layout: &str) -> Result<u64> {
    let blobs = Path::new(layout.trim_start_matches("oci:")).join("blobs/sha256");
    fs::read_dir(blobs)?.map(|blob| Ok(blob?.metadata()?.len())).sum()
}

async fn fetched(cluster: &Cluster) -> Result<f64> {
    cluster.nodes()[0].metric("berth_agent_image_fetched_bytes_total").await
}

#[test]
fn a6_a_pull_that_is_cut_again_and_again_is_resumed() -> Outcome {
    scenario(Setup { relays: true, monitored: true, ..Setup::nodes(1) }, async |cluster| {
        let image = image_of(cluster, "cut", &LAYERS)?;
        let size = size_of(&image)? as f64;
        cluster.nodes()[0].relay()?.limit(RATE);
        let deployed = cluster.try_deploy(&app("cut", image), &["--wait-for", "none"]).await?;
        ensure!(deployed.status.success(), "{}", String::from_utf8_lossy(&deployed.stderr));
        let mut chance = Rng::new();
        for number in 0..CUTS {
            tokio::time::sleep(Duration::from_millis(chance.u64(..BETWEEN_MS))).await;
            let (cut, so_far) = (Cut::draw(&mut chance, number, count(1, CUTS / 2)), fetched(cluster).await?);
            println!("cut {number} at {:.0} MB: {cut:?}", so_far / 1e6);
            ensure!(so_far < size, "it was fetched before cut {number}: the wire is too fast for this test");
            cut.make(cluster).await?;
        }
        let client = cluster.client();
        wait::until("the image to run", FETCHED_WITHIN, async || {
            client.get("/cut/x/instance").await?.success().map(drop)
        })
        .await?;
        check(cluster, size).await
    })
}

async fn check(cluster: &Cluster, size: f64) -> Result<()> {
    for (name, bytes) in LAYERS {
        expect_unpacked(cluster, 0, name, bytes)?;
    }
    let node = &cluster.nodes()[0];
    let (fetched, layers) = (fetched(cluster).await?, node.metric("berth_agent_layers_fetched_total").await?);
    println!("{:.1} MB were fetched for an image of {:.1} MB", fetched / 1e6, size / 1e6);
    let most = size + CUTS as f64 * LOST_BYTES;
    ensure!(fetched >= size && fetched <= most, "{fetched} bytes were fetched for {size} and {CUTS} cuts");
    let expected = (LAYERS.len() + 1) as f64;
    ensure!(layers == expected, "{layers} layers were fetched instead of {expected}");
    until_swept(cluster, 0).await?;
    ask(cluster, "cut", "another").await.context("after all cuts")
}
