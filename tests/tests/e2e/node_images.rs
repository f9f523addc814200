//! Malicious images: they run harmlessly, or are refused with a reason. Nothing of the node is touched.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use berth_tests::app::App;
use berth_tests::client::Answer;
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::image::{self, Layer, architecture};
use berth_tests::programs::PROBE;
use berth_tests::scenario::{Outcome, scenario};
use hyper::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tar::EntryType;

/// The content of the file that hostile images try to overwrite.
const CANARY: &str = "the node's own";

/// The layer with the probe at `/app/probe`.
fn program(cluster: &Cluster) -> Result<Layer> {
    let bytes = fs::read(cluster.program(PROBE)).context("read the probe")?;
    Ok(Layer::default().directory("app").file("app/probe", 0o755, &bytes))
}

/// Deploys an image of the program and these layers above it, and sends its first request. If the image is refused
/// before that, the reason is returned as a response.
async fn start(cluster: &Cluster, name: &'static str, layers: Vec<Layer>, config: Value) -> Result<Answer> {
    start_on(cluster, name, layers, config, architecture()).await
}

async fn start_on(
    cluster: &Cluster,
    name: &'static str,
    layers: Vec<Layer>,
    config: Value,
    architecture: &str,
) -> Result<Answer> {
    let layers = [program(cluster)?].into_iter().chain(layers).collect();
    let mut whole = json!({"Entrypoint": ["/app/probe"]});
    if let (Some(whole), Value::Object(config)) = (whole.as_object_mut(), config) {
        whole.extend(config);
    }
    let directory = cluster.make_directory(&format!("image-{name}"))?;
    let image = image::write(&directory, layers, whole, architecture)?;
    let app =
        App { program: PROBE, image: Some(image), name, prefix: name, memory: "256MiB", ..App::default() };
    let output = cluster.try_deploy(&app, &["--wait-timeout", "20s"]).await?;
    if output.status.success() {
        return cluster.client().get(&format!("/{name}/x")).await;
    }
    let (status, headers) = (StatusCode::INTERNAL_SERVER_ERROR, HeaderMap::new());
    Ok(Answer { status, headers, text: String::from_utf8_lossy(&output.stderr).into_owned() })
}

fn canary(cluster: &Cluster) -> Result<PathBuf> {
    let path = cluster.make_directory("canary")?.join("file");
    fs::write(&path, CANARY)?;
    Ok(path)
}

fn expect_untouched(canary: &Path) -> Result<()> {
    ensure!(fs::read_to_string(canary)? == CANARY, "a file of the node was changed");
    let siblings = fs::read_dir(canary.parent().context("it has a directory")?)?.count();
    ensure!(siblings == 1, "something was made beside a file of the node");
    Ok(())
}

/// Fails unless it runs, or the response has the reason why it does not.
fn expect_success_or_reason(name: &str, answer: &Answer) -> Result<()> {
    let refused = answer.status.as_u16() == 500 && answer.text.len() > 20;
    ensure!(answer.status.is_success() || refused, "{name}: {}: {}", answer.status, answer.text);
    Ok(())
}

#[test]
fn links_at_mount_targets_lead_nowhere() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        let canary = canary(cluster)?;
        let target = canary.display().to_string();
        let directory = canary.parent().context("it has a directory")?.display().to_string();
        let up = format!("../../../../../..{target}");
        let cases: [(&'static str, Vec<Layer>); 9] = [
            ("resolv", vec![Layer::default().directory("etc").symlink("etc/resolv.conf", &target)]),
            ("hosts", vec![Layer::default().directory("etc").symlink("etc/hosts", &up)]),
            ("etc", vec![Layer::default().symlink("etc", &directory)]),
            ("proc", vec![Layer::default().symlink("proc", &directory)]),
            ("sys", vec![Layer::default().symlink("sys", "/app")]),
            ("dev", vec![Layer::default().symlink("dev", &directory)]),
            (
                "shm",
                vec![
                    Layer::default()
                        .directory("dev")
                        .symlink("dev/shm", &directory)
                        .symlink("dev/pts", "/proc"),
                ],
            ),
            (
                "null",
                vec![Layer::default().directory("dev").symlink("dev/null", "/proc/sys/kernel/core_pattern")],
            ),
            (
                "console",
                vec![Layer::default().directory("dev").symlink("dev/console", "/proc/sysrq-trigger")],
            ),
        ];
        for (name, layers) in cases {
            let answer = start(cluster, name, layers, json!({})).await?;
            expect_success_or_reason(name, &answer)?;
            expect_untouched(&canary)?;
            if answer.status.is_success() {
                expect_protected(cluster, name).await?;
            }
        }
        Ok(())
    })
}

/// The protection of every container applies to this one.
async fn expect_protected(cluster: &Cluster, name: &str) -> Result<()> {
    for (probe, expected) in [
        ("write-core-pattern", "EACCES"),
        ("read-interrupts", "ENODATA"),
        ("write-sys", "EROFS"),
        ("mount-tmpfs", "EPERM"),
        ("host-processes", "ESRCH"),
    ] {
        let reply = cluster.client().get(&format!("/{name}/x/probe/{probe}")).await?.success()?.text;
        ensure!(
            reply == expected,
            "in an image with a link at {name}, {probe} tells {reply}, not {expected}"
        );
    }
    Ok(())
}

#[test]
fn layers_do_not_reach_out_of_themselves() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        let canary = canary(cluster)?;
        let target = canary.display().to_string();
        let escaped = format!("{}/escaped", canary.parent().context("it has a directory")?.display());
        let (deep, long) = ("d/".repeat(2_000), "d/".repeat(3_000));
        let cases: [(&'static str, Vec<Layer>); 11] = [
            ("up", vec![Layer::default().file(&format!("../../../../../..{escaped}"), 0o644, b"x")]),
            ("absolute", vec![Layer::default().file(&escaped, 0o644, b"x")]),
            (
                "through",
                vec![Layer::default().symlink("out", "/").file(&format!("out{escaped}"), 0o644, b"x")],
            ),
            ("overwrite", vec![Layer::default().symlink("out", &target).file("out", 0o644, b"x")]),
            ("hardlink", vec![Layer::default().hardlink("passwd", &target)]),
            ("hardlink-up", vec![Layer::default().hardlink("passwd", &format!("../../../../../..{target}"))]),
            ("whiteout-up", vec![Layer::default().file(".wh...", 0o644, b"")]),
            (
                "whiteout",
                vec![Layer::default().file(".wh.", 0o644, b""), Layer::default().file(".wh..", 0o644, b"")],
            ),
            ("opaque", vec![Layer::default().symlink("out", "/").file("out/.wh..wh..opq", 0o644, b"")]),
            ("deep", vec![Layer::default().file(&format!("{deep}file"), 0o644, b"x")]),
            ("long", vec![Layer::default().file(&format!("{long}file"), 0o644, b"x")]),
        ];
        for (name, layers) in cases {
            let answer = start(cluster, name, layers, json!({})).await?;
            expect_success_or_reason(name, &answer)?;
            expect_untouched(&canary)?;
        }
        Ok(())
    })
}

#[test]
fn devices_are_left_out_and_setuid_gains_nothing() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        let layer = Layer::default()
            .special(EntryType::Char, "kmem")
            .special(EntryType::Block, "disk")
            .special(EntryType::Fifo, "fifo")
            .file("app/gain", 0o4755, &fs::read(cluster.program(PROBE))?);
        let config = json!({"User": "1000:1000", "Entrypoint": ["/app/gain"]});
        start(cluster, "special", vec![layer], config).await?.success()?;
        for (probe, expected) in [("setuid", "EPERM"), ("mount-tmpfs", "EPERM")] {
            let reply = cluster.client().get(&format!("/special/x/probe/{probe}")).await?.success()?.text;
            ensure!(reply == expected, "{probe} tells {reply}, not {expected}");
        }
        Ok(())
    })
}

#[test]
fn a_class_gets_the_capabilities_that_it_asks_for_and_no_others() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        let app = App { program: PROBE, more: "capabilities = [\"setuid\"]", ..App::default() };
        cluster.deploy(&app).await?;
        for (probe, expected) in [("setuid", "ok"), ("socket-raw", "EPERM"), ("mount-tmpfs", "EPERM")] {
            let reply = cluster.client().get(&format!("/container/x/probe/{probe}")).await?.success()?.text;
            ensure!(reply == expected, "{probe} tells {reply}, not {expected}");
        }
        Ok(())
    })
}

#[test]
fn what_cannot_be_run_is_refused_with_its_reason() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        let config = |entrypoint: &str| json!({"Entrypoint": [entrypoint]});
        let cases = [
            ("missing", config("/nowhere"), "/nowhere"),
            ("directory", config("/app"), "/app"),
            ("plain", config("/plain"), "/plain"),
            ("interpreter", config("/script"), "/script"),
            ("nobody", json!({"User": "nobody-there"}), "nobody-there"),
            ("large-user", json!({"User": "70000"}), "70000"),
            ("group", json!({"User": "0:no-group"}), "no-group"),
            ("none", json!({"Entrypoint": []}), "entrypoint"),
        ];
        for (name, config, expected) in cases {
            let layer = Layer::default().directory("etc").file("etc/passwd", 0o644, b"root:x:0:0::/:\n");
            let layers = vec![layer.file("plain", 0o644, b"x").file("script", 0o755, b"#!/bin/nothing\n")];
            let answer = start(cluster, name, layers, config).await?;
            ensure!(answer.status.as_u16() == 500, "{name}: {}: {}", answer.status, answer.text);
            ensure!(answer.text.contains(expected), "{name} does not say {expected:?}: {}", answer.text);
        }
        let foreign = if architecture() == "amd64" { "arm64" } else { "amd64" };
        let answer = start_on(cluster, "foreign", Vec::new(), json!({}), foreign).await?;
        ensure!(answer.status.is_server_error() && answer.text.contains(foreign), "{}", answer.text);
        Ok(())
    })
}

#[test]
fn a_damaged_image_is_reported_with_its_digest() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        start(cluster, "sound", Vec::new(), json!({})).await?.success()?;
        for (name, change) in [("changed", true), ("gone", false)] {
            // One more layer, which is damaged before the node fetches it.
            let layer = Layer::default().file(name, 0o644, name.as_bytes());
            let layers = vec![program(cluster)?, layer];
            let directory = cluster.make_directory(&format!("image-{name}"))?;
            let config = json!({"Entrypoint": ["/app/probe"]});
            let image = image::write(&directory, layers, config, architecture())?;
            let app = App { program: PROBE, image: Some(image), name, prefix: name, ..App::default() };
            cluster.end_agent(0)?;
            let output = cluster.try_deploy(&app, &["--wait-for", "none"]).await?;
            ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let damaged = damage_layer(&cluster.directory().join("edge/images/blobs"), name, change)?;
            cluster.start_agent(0)?;
            cluster.until_connected().await?;
            let answer = cluster.client().get(&format!("/{name}/x")).await?;
            let named = answer.status.as_u16() == 500 && answer.text.contains(&damaged);
            ensure!(named, "{name}: {}: {}", answer.status, answer.text);
        }
        Ok(())
    })
}

/// Changes or removes the layer with this in it, and returns its digest.
fn damage_layer(blobs: &Path, content: &str, change: bool) -> Result<String> {
    for blob in fs::read_dir(blobs)?.flatten() {
        let bytes = fs::read(blob.path())?;
        let is_layer = bytes.len() < 10_000 && !bytes.starts_with(b"{");
        if is_layer && bytes.windows(content.len()).any(|part| part == content.as_bytes()) {
            fs::remove_file(blob.path())?;
            if change {
                fs::write(blob.path(), [b"x".as_slice(), &bytes[1..]].concat())?;
            }
            return Ok(format!("sha256:{}", blob.file_name().to_string_lossy()));
        }
    }
    anyhow::bail!("no layer to damage in {}", blobs.display())
}
