//! Images that have a layer in common, on their way to one node at the same time.

use anyhow::{Result, ensure};
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::image::{self, Layer, architecture, digest};
use berth_tests::registry::Registry;
use berth_tests::scenario::{Outcome, count, scenario};

use super::{app, ask, config, image_config, noise, program, refusal, until_swept};

/// Bytes of the layer that they share: its fetching takes a moment.
const BYTES: usize = 4_000_000;
/// What a node's wire carries in a second.
const RATE: u64 = 20_000_000;

/// A layer that can only be unpacked onto others: it does not describe the directory that its file is in.
fn dependent(round: usize) -> Layer {
    let name = format!("shared-{round}");
    Layer::default().file(&format!("data/{name}"), 0o644, &noise(&name, BYTES))
}

/// An image of the program, a layer of its own and the shared one.
fn image_on(cluster: &Cluster, base: &str, round: usize) -> Result<String> {
    let below = Layer::default().directory("data").file(&format!("data/{base}"), 0o644, base.as_bytes());
    let directory = cluster.make_directory(&format!("image-{base}-{round}"))?;
    image::write(&directory, vec![program(cluster)?, below, dependent(round)], config(), architecture())
}

/// An image that says of other bytes that they are the shared layer.
async fn liar(cluster: &Cluster, registry: &Registry, round: usize) -> Result<String> {
    let shared = dependent(round).into_bytes()?;
    let (below, other) = (program(cluster)?.into_bytes()?, [&shared[..], &[0; 512]].concat());
    let config = image_config(&[digest(&below), digest(&shared)]);
    let tag = round.to_string();
    registry.put_image(("lies/shared", &tag), &[below, other], &config).await?;
    Ok(format!("berth:lies/shared:{tag}"))
}

#[test]
fn a6_images_that_share_a_layer_do_not_fail_each_other() -> Outcome {
    let (address, edge_options) = Registry::free_address()?;
    scenario(Setup { relays: true, edge_options, ..Setup::nodes(1) }, async |cluster| {
        let registry = Registry::of(cluster, address).await?;
        cluster.nodes()[0].relay()?.limit(RATE);
        for round in 0..count(3, 20) {
            let lie = app("lie", liar(cluster, &registry, round).await?);
            let (one, two) = (image_on(cluster, "one", round)?, image_on(cluster, "two", round)?);
            // The liar is first: the others may join what it has begun.
            for app in [&lie, &app("one", one), &app("two", two)] {
                let deployed = cluster.try_deploy(app, &["--wait-for", "none"]).await?;
                ensure!(deployed.status.success(), "{}", String::from_utf8_lossy(&deployed.stderr));
            }
            let object = round.to_string();
            let (one, two) = tokio::join!(ask(cluster, "one", &object), ask(cluster, "two", &object));
            one.and(two)?;
            refusal(&cluster.try_deploy(&lie, &["--wait-timeout", "10s"]).await?)?;
        }
        until_swept(cluster, 0).await
    })
}
