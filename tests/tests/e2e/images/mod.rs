//! Images from end to end: pushed by common clients, fetched and unpacked by nodes, and both under broken connections,
//! full disks and false data.

mod clients;
mod cuts;
mod debian;
mod full;
mod holders;
mod hostile;
mod kills;
mod pax;
mod peer;
mod platforms;
mod requirements;
mod room;
mod shared;
mod taken;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use berth_tests::app::App;
use berth_tests::cluster::Cluster;
use berth_tests::image::{self, Layer, architecture, digest};
use berth_tests::programs::HELLO;
use berth_tests::wait;
use fastrand::Rng;
use serde_json::{Value, json};

/// How long an image may take to come to a node, on a busy machine.
const FETCHED_WITHIN: Duration = Duration::from_secs(60);
/// How long the leftovers of a killed daemon may stay.
const SWEPT_WITHIN: Duration = Duration::from_secs(20);

/// What runs in the images of these scenarios.
fn config() -> Value {
    json!({"Entrypoint": ["/app/hello"]})
}

/// The configuration of an image whose layers have these digests before compression.
fn image_config(diff_ids: &[String]) -> Vec<u8> {
    let config = json!({"architecture": architecture(), "os": "linux", "config": config(),
        "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    config.to_string().into_bytes()
}

/// The layer with the program that answers.
fn program(cluster: &Cluster) -> Result<Layer> {
    let bytes = fs::read(cluster.program(HELLO)).context("read the example")?;
    Ok(Layer::default().directory("app").file("app/hello", 0o755, &bytes))
}

/// Incompressible bytes, the same for the same name.
fn noise(name: &str, bytes: usize) -> Vec<u8> {
    let seed = name.bytes().fold(bytes as u64, |seed, byte| seed.wrapping_mul(131).wrapping_add(byte.into()));
    let mut noise = vec![0; bytes];
    Rng::with_seed(seed).fill(&mut noise);
    noise
}

/// A layer with a file of noise, `data/NAME`.
fn payload(name: &str, bytes: usize) -> Layer {
    Layer::default().directory("data").file(&format!("data/{name}"), 0o644, &noise(name, bytes))
}

/// An image of the program and layers of noise, in a layout that `berth.toml` can name.
fn image_of(cluster: &Cluster, name: &str, payloads: &[(&str, usize)]) -> Result<String> {
    let noise = payloads.iter().map(|(name, bytes)| payload(name, *bytes));
    let layers = std::iter::once(program(cluster)?).chain(noise).collect();
    let directory = cluster.make_directory(&format!("image-{name}"))?;
    image::write(&directory, layers, config(), architecture())
}

/// An app of an image, with paths of its own.
fn app(name: &'static str, image: String) -> App {
    App { image: Some(image), name, prefix: name, ..App::default() }
}

/// The error message of a deployment that must fail.
fn refusal(output: &Output) -> Result<String> {
    let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    ensure!(!output.status.success(), "it was deployed, and should not have been: {stderr}");
    ensure!(stderr.len() > 20 && !stderr.contains("panicked"), "that is no reason: {stderr:?}");
    Ok(stderr)
}

/// The files of this name among a node's unpacked layers.
fn unpacked(cluster: &Cluster, node: usize, name: &str) -> Vec<PathBuf> {
    let layers = cluster.nodes()[node].state.join("layers");
    let whole = entries(&layers).into_iter().filter(|layer| !is_leftover(layer));
    whole.map(|layer| layer.join("fs/data").join(name)).filter(|file| file.exists()).collect()
}

/// Checks that a node has unpacked this noise once, correctly.
fn expect_unpacked(cluster: &Cluster, node: usize, name: &str, bytes: usize) -> Result<()> {
    let files = unpacked(cluster, node, name);
    ensure!(files.len() == 1, "{name} is there {} times: {files:?}", files.len());
    let found = fs::read(&files[0])?;
    ensure!(digest(&found) == digest(&noise(name, bytes)), "{} is damaged", files[0].display());
    Ok(())
}

/// Partial images that are left on a node.
fn leftovers(cluster: &Cluster, node: usize) -> Vec<PathBuf> {
    let state = &cluster.nodes()[node].state;
    let [images, documents, spool, layers] =
        ["images", "images/documents", "images/spool", "layers"].map(|name| entries(&state.join(name)));
    let halves = images.into_iter().chain(documents).chain(layers).filter(|path| is_leftover(path));
    spool.into_iter().chain(halves).collect()
}

/// Whether something was not finished, or is being removed.
fn is_leftover(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.contains("partial") || name.starts_with("removed-") || name.starts_with(".tmp")
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Waits until a node has no partial images.
async fn until_swept(cluster: &Cluster, node: usize) -> Result<()> {
    wait::until("a node to be swept", SWEPT_WITHIN, async || {
        let left = leftovers(cluster, node);
        ensure!(left.is_empty(), "left behind: {left:?}");
        Ok(())
    })
    .await
}

/// The edge's unfinished uploads.
fn uploads(cluster: &Cluster) -> Vec<PathBuf> {
    entries(&cluster.directory().join("edge/images/uploads"))
}

/// Checks that every blob of the edge has the digest that is its name. Returns how many bytes they are.
fn expect_sound_blobs(cluster: &Cluster) -> Result<u64> {
    let mut bytes = 0;
    for blob in entries(&cluster.directory().join("edge/images/blobs")) {
        let content = fs::read(&blob)?;
        let name = blob.file_name().unwrap_or_default().to_string_lossy().into_owned();
        ensure!(digest(&content) == format!("sha256:{name}"), "{} is damaged", blob.display());
        bytes += content.len() as u64;
    }
    Ok(bytes)
}

/// The first request of an app's object, which must succeed.
async fn ask(cluster: &Cluster, app: &str, object: &str) -> Result<()> {
    let answer = cluster.client().get(&format!("/{app}/{object}/instance")).await?;
    answer.success().with_context(|| format!("the first request of {app}/{object}"))?;
    Ok(())
}
