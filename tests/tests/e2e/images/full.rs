//! More than there is room for: a clear error, nothing partial is kept, and it works once there is room.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::isolated::Isolated;
use berth_tests::peer::{Manner, Peer};
use berth_tests::registry::Registry;
use berth_tests::scenario::{Outcome, scenario};
use berth_tests::wait;
use serde_json::json;

use super::{
    FETCHED_WITHIN, SWEPT_WITHIN, app, ask, expect_sound_blobs, image_of, noise, refusal, until_swept,
    uploads,
};

/// Limits of an edge, in bytes: of an image, and of all.
const IMAGE_LIMIT: usize = 8_000_000;
const IMAGES_LIMIT: u64 = 16_000_000;
/// Noise in an image, in bytes: with the program, of three million more or less, one is below the first limit, and three
/// that share the program are above the second.
const NOISE: usize = 4_700_000;
/// Small disks, with and without room for the image, in MiB; and the image, in bytes.
const SMALL_MIB: u32 = 96;
const LARGE_MIB: u32 = 400;
const LARGE_IMAGE: usize = 100 << 20;

fn limited() -> Result<(std::net::SocketAddr, Setup)> {
    let (address, mut edge_options) = Registry::free_address()?;
    edge_options.extend(["--image-limit".to_owned(), IMAGE_LIMIT.to_string()]);
    edge_options.extend(["--images-limit".to_owned(), IMAGES_LIMIT.to_string()]);
    Ok((address, Setup { edge_options, ..Setup::nodes(1) }))
}

/// Checks that there are only complete blobs, within the limit.
fn expect_nothing_half(cluster: &Cluster) -> Result<u64> {
    ensure!(uploads(cluster).is_empty(), "uploads are left: {:?}", uploads(cluster));
    let bytes = expect_sound_blobs(cluster)?;
    ensure!(bytes <= IMAGES_LIMIT, "{bytes} bytes are stored");
    Ok(bytes)
}

#[test]
fn a5_an_image_over_the_limit_is_refused_with_the_limit_and_nothing_is_kept() -> Outcome {
    let (address, setup) = limited()?;
    scenario(setup, async |cluster| {
        let tools = Isolated::prepare(&cluster.directory().join("tools"))?;
        let registry = Registry::of(cluster, address).await?;
        registry.log_in(&tools).await?;
        // The program's layer is there then: what is refused is all that others have left to send.
        cluster.deploy(&app("small", image_of(cluster, "small", &[("small", 1_000_000)])?)).await?;
        let large = image_of(cluster, "large", &[("large", IMAGE_LIMIT + 1_000_000)])?;
        let error = refusal(&cluster.try_deploy(&app("large", large.clone()), &[]).await?)?;
        ensure!(
            error.contains("8000000") || error.contains("8 MB") || error.contains("8.0 MB"),
            "the limit is not named: {error}"
        );
        let pushed = registry.push(&tools, &large, "large/app:1").await;
        let error = format!("{:#}", pushed.err().context("skopeo has pushed what is too large")?);
        println!("skopeo: {error}");
        // In parts that are each small enough.
        let half = IMAGE_LIMIT * 2 / 3;
        let parts = image_of(cluster, "parts", &[("left", half), ("right", half)])?;
        refusal(&cluster.try_deploy(&app("parts", parts), &[]).await?)?;
        // The edge may still be letting go of what skopeo sent last.
        wait::until("the refused uploads to be gone", SWEPT_WITHIN, async || expect_nothing_half(cluster))
            .await?;
        let apps = cluster.admin().get("/v1/apps").await?["apps"].to_string();
        ensure!(apps.contains("small") && !apps.contains("large") && !apps.contains("parts"), "{apps}");
        ask(cluster, "small", "x").await
    })
}

#[test]
fn a5_more_images_than_the_limit_allows_are_refused_until_some_are_removed() -> Outcome {
    let (_, setup) = limited()?;
    scenario(setup, async |cluster| {
        let image = |name: &str| image_of(cluster, name, &[(name, NOISE)]);
        cluster.deploy(&app("first", image("first")?)).await?;
        cluster.deploy(&app("second", image("second")?)).await?;
        let third = app("third", image("third")?);
        let error = refusal(&cluster.try_deploy(&third, &[]).await?)?;
        ensure!(error.contains("gc") || error.contains("delete"), "it is not said what to do: {error}");
        let before = expect_nothing_half(cluster)?;
        ask(cluster, "first", "x").await?;
        let again = cluster.try_deploy(&app("first", image("first")?), &[]).await?;
        ensure!(
            again.status.success(),
            "what is there is refused: {}",
            String::from_utf8_lossy(&again.stderr)
        );
        ensure!(expect_nothing_half(cluster)? == before, "the same image takes more room");
        Ok(())
    })
}

#[test]
fn a5_an_image_of_another_registry_is_pulled_within_the_limits() -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("a runtime")?;
    let peer = runtime.block_on(Peer::start(Manner::default()))?;
    let (_, mut setup) = limited()?;
    setup.edge_options.extend(["--allow-registries-on".to_owned(), "127.0.0.1/32".to_owned()]);
    setup.edge_options.extend(["--plain-registry".to_owned(), peer.address.to_string()]);
    scenario(setup, async |cluster| {
        let pull = async |tag: &str, layers: &[Vec<u8>]| {
            peer.put_image("limits/app", tag, layers).await?;
            let order = json!({ "reference": format!("{}/limits/app:{tag}", peer.address), "tag": true });
            let mut lines = cluster.admin().post_lines("/v1/images/pull", &order).await?;
            lines.pop().context("the answer is empty")
        };
        let half = IMAGE_LIMIT * 2 / 3;
        for (tag, sizes) in [("large", vec![IMAGE_LIMIT + 1_000_000]), ("parts", vec![half, half])] {
            let layers: Vec<_> =
                sizes.iter().enumerate().map(|(n, size)| noise(&format!("{tag}{n}"), *size)).collect();
            let last = pull(tag, &layers).await?;
            let error = last["error"].to_string();
            ensure!(
                error.contains("8000000") || error.contains("8 MB"),
                "{tag}: the limit is not named: {last}"
            );
            expect_nothing_half(cluster)?;
        }
        let last = pull("small", &[noise("small", 1_000_000)]).await?;
        ensure!(last["done"]["digest"].is_string(), "{last}");
        Ok(())
    })
}

#[test]
fn a5_an_edge_whose_disk_is_full_reports_it_and_accepts_images_again_when_it_is_not() -> Outcome {
    let setup = Setup { edge_disk_mib: Some(SMALL_MIB), ..Setup::nodes(1) };
    scenario(setup, async |cluster| {
        let app = app("large", image_of(cluster, "large", &[("large", LARGE_IMAGE)])?);
        let error = refusal(&cluster.try_deploy(&app, &[]).await?)?;
        ensure!(
            error.contains("space") || error.contains("full"),
            "it does not say that the disk is full: {error}"
        );
        ensure!(uploads(cluster).is_empty(), "uploads are left: {:?}", uploads(cluster));
        cluster.expect_all_alive()?;
        cluster.edge_disk()?.resize(LARGE_MIB)?;
        cluster.deploy(&app).await.context("once there is room")?;
        ask(cluster, "large", "x").await
    })
}

#[test]
fn a6_a_node_whose_disk_is_full_reports_it_and_recovers_when_it_is_not() -> Outcome {
    let setup = Setup { node_disk_mib: Some(SMALL_MIB), ..Setup::nodes(1) };
    scenario(setup, async |cluster| {
        let app = app("large", image_of(cluster, "large", &[("large", LARGE_IMAGE)])?);
        let error = refusal(&cluster.try_deploy(&app, &["--wait-timeout", "20s"]).await?)?;
        ensure!(
            error.contains("space") || error.contains("full") || error.contains("room"),
            "it does not say what is full: {error}"
        );
        ensure!(error.contains("n1"), "it does not say which node: {error}");
        cluster.expect_all_alive()?;
        // Fetched parts are kept while the image is wanted, and removed otherwise.
        cluster.deploy(&super::app("small", image_of(cluster, "small", &[("small", 1_000_000)])?)).await?;
        ask(cluster, "small", "x").await?;
        cluster.nodes()[0].disk()?.resize(LARGE_MIB)?;
        wait::until("the node to take the image", FETCHED_WITHIN, async || cluster.deploy(&app).await)
            .await?;
        ask(cluster, "large", "x").await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
        until_swept(cluster, 0).await
    })
}
