//! Images for several platforms: a node takes the one that it can run, and reports it if there is none.

use anyhow::{Result, ensure};
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::image::{Layer, Layout, architecture};
use berth_tests::scenario::{Outcome, scenario};
use serde_json::Value;

use super::{app, ask, config, payload, program, refusal, unpacked};

fn foreign() -> &'static str {
    if architecture() == "amd64" { "arm64" } else { "amd64" }
}

/// An image for this machine's kind, and one for the other kind, which cannot run here.
fn both(cluster: &Cluster, layout: &Layout) -> Result<[Value; 2]> {
    let ours = vec![program(cluster)?, payload("ours", 100_000)];
    let theirs = vec![
        Layer::default().directory("app").file("app/hello", 0o755, b"of another machine"),
        payload("theirs", 100_000),
    ];
    Ok([layout.image(ours, &config(), architecture())?, layout.image(theirs, &config(), foreign())?])
}

#[test]
fn a8_of_an_index_a_node_takes_what_it_can_run() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        let layout = Layout::create(&cluster.make_directory("image-both")?)?;
        let [ours, theirs] = both(cluster, &layout)?;
        let index = layout.index(&[theirs, ours])?;
        cluster.deploy(&app("both", layout.finish(&index)?)).await?;
        ask(cluster, "both", "x").await?;
        ensure!(unpacked(cluster, 0, "theirs").is_empty(), "the node has fetched what it cannot run");
        Ok(())
    })
}

#[test]
fn a8_an_image_that_no_node_can_run_is_refused_with_its_kind() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        let layout = Layout::create(&cluster.make_directory("image-foreign")?)?;
        let [_, theirs] = both(cluster, &layout)?;
        let app = app("foreign", layout.finish(&theirs)?);
        let output = cluster.try_deploy(&app, &["--wait-timeout", "5s"]).await?;
        let error = if output.status.success() {
            // Nodes for it may be added later; until then requests are refused.
            let answer = cluster.client().get("/foreign/x").await?;
            ensure!(answer.status.is_server_error(), "it runs: {}", answer.text);
            answer.text
        } else {
            refusal(&output)?
        };
        ensure!(error.contains(foreign()), "it is not said what it is made for: {error}");
        ensure!(unpacked(cluster, 0, "theirs").is_empty(), "the node has fetched what it cannot run");
        Ok(())
    })
}
