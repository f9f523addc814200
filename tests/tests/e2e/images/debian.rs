//! An image as distributions make them, with everything in it that an unpacker may get wrong: it runs, and it is what
//! podman shows of it.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use berth_tests::app::App;
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::debian::{layout, script};
use berth_tests::isolated::Isolated;
use berth_tests::registry::Registry;
use berth_tests::scenario::{Outcome, scenario};
use serde_json::Value;

/// How many differences are shown: the first ones are enough to see what is wrong.
const SHOWN: usize = 20;
/// The user that the image's configuration names, and its groups: its own, `users` and `games`.
const UID: u64 = 1000;
const GROUPS: [u64; 3] = [60, 100, 1000];

/// The image under both configurations.
async fn push(cluster: &Cluster, registry: &Registry, layout: &Path) -> Result<Isolated> {
    let tools = Isolated::prepare(&cluster.directory().join("tools"))?;
    registry.log_in(&tools).await?;
    for tag in ["app", "root"] {
        let from = format!("oci:{}:{tag}", layout.display());
        registry.push(&tools, &from, &format!("debian/node:{tag}")).await?;
    }
    Ok(tools)
}

fn app(name: &'static str, more: &'static str) -> App {
    let image = Some(format!("berth:debian/node:{name}"));
    App { image, name, prefix: name, more, memory: "256MiB", disk: "1GB", ..App::default() }
}

async fn answer(cluster: &Cluster, path: &str) -> Result<String> {
    Ok(cluster.client().get(path).await?.success().with_context(|| path.to_owned())?.text)
}

#[test]
fn a6_debian_with_node_runs_as_its_user_and_is_file_for_file_what_podman_shows() -> Outcome {
    // Made before the scenario begins: that takes a minute, the first time.
    let (layout, (address, edge_options)) = (layout()?, Registry::free_address()?);
    scenario(Setup { edge_options, ..Setup::nodes(1) }, async |cluster| {
        let registry = Registry::of(cluster, address).await?;
        let tools = push(cluster, &registry, &layout).await?;
        cluster.deploy(&app("app", "")).await?;
        runs_as_its_user(cluster).await?;
        setuid_gains_nothing(cluster).await?;
        // Who lists everything must be able to enter every directory.
        cluster.deploy(&app("root", "capabilities = [\"dac_override\"]")).await?;
        let ours = answer(cluster, "/root/x/list").await?;
        expect_equal(&ours, &shown_by_podman(&tools, &registry).await?)
    })
}

async fn runs_as_its_user(cluster: &Cluster) -> Result<()> {
    let own: Value = serde_json::from_str(&answer(cluster, "/app/x/self").await?)?;
    let groups: BTreeSet<u64> =
        own["groups"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
    ensure!(own["uid"] == UID && own["gid"] == UID, "it runs as another: {own}");
    ensure!(groups == BTreeSet::from(GROUPS), "it is in other groups: {own}");
    ensure!(own["directory"] == "/srv" && own["home"] == "/srv", "it is at home elsewhere: {own}");
    ensure!(own["greeting"] == "hello from Debian", "its environment is another: {own}");
    let kept = answer(cluster, "/app/x/attributes").await?;
    ensure!(kept == "kept", "an attribute of a file is {kept:?}");
    Ok(())
}

/// Programs with set-user-id bits or file capabilities: in a container they give no rights.
async fn setuid_gains_nothing(cluster: &Cluster) -> Result<()> {
    for program in ["setuid", "setgid", "capable"] {
        let reply = answer(cluster, &format!("/app/x/{program}")).await?;
        let plain = reply.starts_with("uid=1000(app) gid=1000(app) ")
            && !reply.contains("euid")
            && !reply.contains("egid");
        ensure!(plain, "{program} gains something: {reply}");
    }
    Ok(())
}

/// The list of the same image's files, where podman mounts it.
async fn shown_by_podman(tools: &Isolated, registry: &Registry) -> Result<String> {
    let image = registry.image("debian/node:root");
    tools.run(&["podman", "pull", "--quiet", "--tls-verify=false", &image]).await?;
    let list = format!("cd \"$(podman image mount {image})\" && sh {}", script("list").display());
    tools.run(&["sh", "-c", &list]).await
}

fn expect_equal(ours: &str, theirs: &str) -> Result<()> {
    let [ours, theirs]: [BTreeSet<&str>; 2] =
        [ours, theirs].map(|list| list.lines().map(str::trim_end).collect());
    ensure!(theirs.len() > 5000, "podman shows {} files only", theirs.len());
    let (more, less) = (ours.difference(&theirs), theirs.difference(&ours));
    let different: Vec<String> =
        more.map(|line| format!("+ {line}")).chain(less.map(|line| format!("- {line}"))).collect();
    let first = different.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("\n");
    ensure!(
        different.is_empty(),
        "{} of {} files differ (+ Berth's, - podman's):\n{first}",
        different.len(),
        theirs.len()
    );
    Ok(())
}
