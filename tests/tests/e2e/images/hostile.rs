//! Images that lie are refused with a reason by the first component that can know, and nothing outside the stores of
//! images is touched.

use anyhow::{Context, Result, ensure};
use berth_tests::client::Answer;
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::image::{self, INDEX, Layer, Layout, MANIFEST, TAR, TAR_GZIP, architecture, digest};
use berth_tests::registry::Registry;
use berth_tests::scenario::{Outcome, scenario};
use serde_json::{Value, json};

use super::{app, config, image_config, program, refusal, until_swept};

/// How deeply indexes are nested.
const NESTED: usize = 200;

/// The disk of a node, in MiB.
const NODE_MIB: u32 = 800;

/// A cluster with one node and a registry that anything may be sent to.
fn with_registry(steps: impl AsyncFnOnce(&mut Cluster, Registry) -> Result<()>) -> Outcome {
    let (address, edge_options) = Registry::free_address()?;
    scenario(Setup { edge_options, ..Setup::nodes(1) }, async |cluster| {
        let registry = Registry::of(cluster, address).await?;
        steps(cluster, registry).await
    })
}

fn expect_refused(what: &str, answer: &Answer, code: &str) -> Result<()> {
    let told = answer.status.is_client_error() && answer.text.contains(code);
    ensure!(told, "{what}: {}: {}", answer.status, answer.text);
    Ok(())
}

fn descriptor(kind: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": kind, "digest": digest(bytes), "size": bytes.len()})
}

#[test]
fn a6_the_registry_refuses_what_contradicts_itself() -> Outcome {
    with_registry(async |cluster, registry| {
        let layer = program(cluster)?.into_bytes()?;
        let other = registry.put_blob("lies/app", &digest(b"other"), &layer).await?;
        expect_refused("another digest", &other, "DIGEST_INVALID")?;
        registry.put_blob("lies/app", &digest(&layer), &layer).await?.success()?;
        let config = image_config(&[digest(&layer)]);
        registry.put_blob("lies/app", &digest(&config), &config).await?.success()?;
        let put = async |manifest: Value, kind: &str| {
            registry.put_manifest("lies/app", "1", kind, manifest.to_string().as_bytes()).await
        };
        let image = |layers: Value, config: Value| json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        let (layer_named, config_named) = (descriptor(TAR, &layer), descriptor(image::CONFIG, &config));
        let missing = descriptor(TAR, b"never sent");
        let answer = put(image(json!([missing]), config_named.clone()), MANIFEST).await?;
        expect_refused("a layer that is not there", &answer, "MANIFEST_BLOB_UNKNOWN")?;
        for size in [0, layer.len() - 1, layer.len() + 1] {
            let mut lie = layer_named.clone();
            lie["size"] = json!(size);
            let answer = put(image(json!([lie]), config_named.clone()), MANIFEST).await?;
            expect_refused("another size", &answer, "SIZE_INVALID")?;
        }
        let answer = put(image(json!([layer_named, layer_named]), config_named.clone()), MANIFEST).await?;
        ensure!(answer.status.is_success(), "a layer twice: {}", answer.text);
        let app = app("twice", "berth:lies/app:1".to_owned());
        let expected = refusal(&cluster.try_deploy(&app, &["--wait-timeout", "20s"]).await?)?;
        ensure!(expected.contains("lies/app"), "more layers than the configuration has: {expected}");
        nested(cluster, &registry).await?;
        let answer = put(
            json!({"schemaVersion": 1, "name": "x"}),
            "application/vnd.docker.distribution.manifest.v1+json",
        )
        .await?;
        expect_refused("a manifest of the first kind", &answer, "MANIFEST_INVALID")?;
        let many: Vec<Value> = (0..10_000).map(|_| layer_named.clone()).collect();
        let answer = put(image(json!(many), config_named), MANIFEST).await?;
        ensure!(answer.status.is_client_error(), "ten thousand layers: {}", answer.status);
        Ok(())
    })
}

/// Indexes in indexes, very deep: the specification allows them, so they are stored, and cannot be run.
async fn nested(cluster: &Cluster, registry: &Registry) -> Result<()> {
    let index = |named: &[Value]| json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": named});
    let put = async |index: &[u8]| registry.put_manifest("lies/nested", "1", INDEX, index).await;
    let nothing = index(&[descriptor(MANIFEST, b"never sent")]).to_string().into_bytes();
    let answer = put(&nothing).await?;
    ensure!(answer.status.is_client_error(), "an index of nothing: {}", answer.text);
    let mut inner = index(&[]).to_string().into_bytes();
    for depth in 0..NESTED {
        let answer = put(&inner).await?;
        if !answer.status.is_success() {
            println!("an index {depth} deep: {}: {}", answer.status, answer.text);
            ensure!(answer.status.is_client_error(), "{depth} deep: {}: {}", answer.status, answer.text);
            return Ok(());
        }
        inner = index(&[descriptor(INDEX, &inner)]).to_string().into_bytes();
    }
    let app = app("nested", "berth:lies/nested:1".to_owned());
    let expected = refusal(&cluster.try_deploy(&app, &["--wait-timeout", "20s"]).await?)?;
    println!("an index {NESTED} deep: {expected}");
    ensure!(!cluster.edge()?.log().contains("panicked"), "the edge panicked");
    Ok(())
}

/// A layer that only its unpacker can know to be wrong.
struct Lie {
    name: &'static str,
    bytes: Vec<u8>,
    /// Its `diff_id` in the configuration.
    diff_id: String,
    /// A part of the error message.
    expected: &'static str,
}

fn lies(cluster: &Cluster) -> Result<Vec<Lie>> {
    // Different from any layer that the node has, or it would not be fetched.
    let honest = program(cluster)?.file("honest", 0o644, b"but for what is done to it").into_bytes()?;
    let zipped = gzip(&honest)?;
    let mut broken = zipped.clone();
    let middle = broken.len() / 2;
    broken[middle] ^= 0xff;
    let plain = |name, bytes: Vec<u8>, expected| {
        let diff_id = digest(&bytes);
        Lie { name, bytes, diff_id, expected }
    };
    let zipped_lie = |name, bytes, expected| Lie { name, bytes, diff_id: digest(&honest), expected };
    Ok(vec![
        Lie { diff_id: digest(b"another"), ..plain("other-diff", honest.clone(), "digest") },
        zipped_lie("broken", broken, ""),
        zipped_lie("short", zipped[..zipped.len() - 100].to_vec(), ""),
        zipped_lie("bomb", zeros(20 << 30)?, "bytes"),
        zipped_lie("many", entries(1_100_000)?, "entries"),
        plain("no-archive", b"this is no archive".repeat(100), ""),
        plain("cut-archive", honest[..2000].to_vec(), ""),
    ])
}

#[test]
fn a6_an_image_of_a_few_megabytes_does_not_fill_a_nodes_disk() -> Outcome {
    scenario(Setup { node_disk_mib: Some(NODE_MIB), ..Setup::nodes(1) }, async |cluster| {
        let layout = Layout::create(&cluster.make_directory("image-bomb")?)?;
        let bytes = zeros(2 << 30)?;
        ensure!(bytes.len() < 16 << 20, "it has {} bytes before it is unpacked", bytes.len());
        let layer = layout.blob(TAR_GZIP, &bytes)?;
        let diff_ids = vec![json!(digest(b"never reached"))];
        let image = layout.image_of(&[layer], diff_ids, &config(), architecture())?;
        let app = app("bomb", layout.finish(&image)?);
        let error = refusal(&cluster.try_deploy(&app, &["--wait-timeout", "20s"]).await?)?;
        ensure!(error.contains("unpacking stopped"), "{error}");
        cluster.expect_all_alive()
    })
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let mut gzip =
        Command::new("gzip").args(["-nc", "-1"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut stdin = gzip.stdin.take().context("gzip has an input")?;
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&bytes));
    let output = gzip.wait_with_output()?;
    writer.join().map_err(|_| anyhow::anyhow!("writing to gzip panicked"))??;
    Ok(output.stdout)
}

/// An archive of one file of so many zeros, compressed: its pieces are the same again and again.
fn zeros(bytes: u64) -> Result<Vec<u8>> {
    const PIECE: u64 = 64 << 20;
    let mut header = tar::Header::new_gnu();
    header.set_path("zeros")?;
    header.set_size(bytes);
    header.set_mode(0o644);
    header.set_cksum();
    // Members of gzip one after the other are one stream.
    let piece = gzip(&vec![0; usize::try_from(PIECE)?])?;
    let pieces = usize::try_from(bytes / PIECE)?;
    Ok([gzip(header.as_bytes())?, piece.repeat(pieces), gzip(&[0; 1024])?].concat())
}

/// An archive of so many entries, compressed: of devices, which the node reads and skips.
fn entries(count: usize) -> Result<Vec<u8>> {
    let mut archive = Vec::with_capacity(count * 512);
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Char);
    header.set_mode(0o644);
    header.set_size(0);
    for number in 0..count {
        header.set_path(format!("f{number}"))?;
        header.set_cksum();
        archive.extend_from_slice(header.as_bytes());
    }
    archive.extend_from_slice(&[0; 1024]);
    gzip(&archive)
}

#[test]
fn a6_layers_that_lie_are_refused_by_the_node_with_a_reason() -> Outcome {
    with_registry(async |cluster, registry| {
        cluster.deploy(&app("sound", super::image_of(cluster, "sound", &[])?)).await?;
        for Lie { name, bytes, diff_id, expected } in lies(cluster)? {
            // `berth deploy` would find most of it in a layout.
            registry.put_image(("lies/app", name), &[bytes], &image_config(&[diff_id])).await?;
            let app = app(name, format!("berth:lies/app:{name}"));
            let reason = refusal(&cluster.try_deploy(&app, &["--wait-timeout", "60s"]).await?);
            let reason = reason.with_context(|| name.to_owned())?;
            println!("{name}: {reason}");
            ensure!(reason.contains(expected), "{name} does not speak of {expected}: {reason}");
            super::ask(cluster, "sound", name).await.with_context(|| format!("after {name}"))?;
        }
        cluster.expect_all_alive()?;
        until_swept(cluster, 0).await
    })
}

#[test]
fn a6_links_in_the_way_of_other_layers_lead_nowhere() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        let canary = cluster.make_directory("canary")?;
        std::fs::write(canary.join("file"), "the node's own")?;
        let (target, up) =
            (canary.display().to_string(), format!("../../../../../../../..{}", canary.display()));
        let link = |to: &str| Layer::default().symlink("out", to);
        let cases: [(&'static str, Vec<Layer>); 5] = [
            ("link-over", vec![link(&target), Layer::default().file("out/file", 0o644, b"x")]),
            ("link-up", vec![link(&up), Layer::default().file("out/file", 0o644, b"x")]),
            ("link-white", vec![link(&target), Layer::default().file("out/.wh.file", 0o644, b"")]),
            ("link-opaque", vec![link(&target), Layer::default().file("out/.wh..wh..opq", 0o644, b"")]),
            ("link-hard", vec![link(&target), Layer::default().hardlink("out/file", "out/file")]),
        ];
        for (name, layers) in cases {
            let directory = cluster.make_directory(&format!("image-{name}"))?;
            let layers = std::iter::once(program(cluster)?).chain(layers).collect();
            let image = image::write(&directory, layers, config(), architecture())?;
            let output = cluster.try_deploy(&app(name, image), &["--wait-timeout", "30s"]).await?;
            if output.status.success() {
                super::ask(cluster, name, "x").await?;
            } else {
                println!("{name}: {}", refusal(&output)?);
            }
            let left = std::fs::read_to_string(canary.join("file"))?;
            ensure!(left == "the node's own", "{name}: a file of the node was changed");
            ensure!(
                std::fs::read_dir(&canary)?.count() == 1,
                "{name}: something was made beside a file of the node"
            );
        }
        until_swept(cluster, 0).await
    })
}
