//! What the OCI distribution specification requires of a registry and others test it for; and uploads that outlive the
//! edge.

use anyhow::{Context, Result, ensure};
use berth_tests::client::Answer;
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::image::{CONFIG, MANIFEST, TAR, architecture};
use berth_tests::registry::Registry;
use berth_tests::scenario::{Outcome, scenario};
use hyper::Method;
use hyper::header::{LOCATION, RANGE};
use serde_json::{Value, json};
use sha2::{Digest, Sha512};

use super::{app, ask, config, expect_sound_blobs, noise, program, refusal, uploads};

const NONDISTRIBUTABLE: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";

fn with_registry(steps: impl AsyncFnOnce(&mut Cluster, Registry) -> Result<()>) -> Outcome {
    let (address, edge_options) = Registry::free_address()?;
    scenario(Setup { edge_options, ..Setup::nodes(1) }, async |cluster| {
        let registry = Registry::of(cluster, address).await?;
        steps(cluster, registry).await
    })
}

fn sha512(bytes: &[u8]) -> String {
    format!("sha512:{}", hex::encode(Sha512::digest(bytes)))
}

fn expect(what: &str, answer: &Answer, status: u16) -> Result<()> {
    ensure!(
        answer.status.as_u16() == status,
        "{what}: {} instead of {status}: {}",
        answer.status,
        answer.text
    );
    Ok(())
}

fn header<'a>(answer: &'a Answer, name: &str) -> Result<&'a str> {
    Ok(answer.headers.get(name).with_context(|| format!("no {name}"))?.to_str()?)
}

/// Begins an upload, and returns its path.
async fn begin(registry: &Registry) -> Result<String> {
    let begun = registry.send(Method::POST, "/v2/r/a/blobs/uploads/", None, &[]).await?;
    expect("begin an upload", &begun, 202)?;
    let location = header(&begun, LOCATION.as_str())?;
    Ok(location[location.find("/v2/").context("a path of the registry")?..].to_owned())
}

async fn put_by_sha512(registry: &Registry, bytes: &[u8], kind: &str) -> Result<Value> {
    let digest = sha512(bytes);
    registry.put_blob("r/a", &digest, bytes).await?.success()?;
    Ok(json!({"mediaType": kind, "digest": digest, "size": bytes.len()}))
}

#[test]
fn a4_content_is_named_by_sha512_where_it_is_pushed_so() -> Outcome {
    with_registry(async |cluster, registry| {
        for bytes in [&b"content"[..], b""] {
            let digest = sha512(bytes);
            let path = format!("/v2/r/a/blobs/{digest}");
            expect("before it is there", &registry.send(Method::HEAD, &path, None, &[]).await?, 404)?;
            let whole = format!("/v2/r/a/blobs/uploads/?digest={digest}");
            let wrong = registry.send(Method::POST, &whole, None, b"other").await?;
            expect("other content", &wrong, 400)?;
            ensure!(wrong.text.contains("DIGEST_INVALID"), "{}", wrong.text);
            let put = registry.send(Method::POST, &whole, None, bytes).await?;
            expect("in one request", &put, 201)?;
            ensure!(header(&put, "docker-content-digest")? == digest, "{:?}", put.headers);
            let got = registry.send(Method::GET, &path, None, &[]).await?;
            ensure!(
                got.text.as_bytes() == bytes && header(&got, "docker-content-digest")? == digest,
                "{}",
                got.text
            );
            expect("delete it", &registry.send(Method::DELETE, &path, None, &[]).await?, 202)?;
        }
        // An image all of whose parts are named so runs.
        let layer = program(cluster)?.into_bytes()?;
        let settings = json!({"architecture": architecture(), "os": "linux", "config": config(),
            "rootfs": {"type": "layers", "diff_ids": [sha512(&layer)]}});
        let settings = put_by_sha512(&registry, settings.to_string().as_bytes(), CONFIG).await?;
        let layers = [put_by_sha512(&registry, &layer, TAR).await?];
        let manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": settings, "layers": layers});
        let manifest = manifest.to_string().into_bytes();
        let digest = sha512(&manifest);
        let path = format!("/v2/r/a/manifests/{digest}?tag=one&tag=two");
        let put = registry.send(Method::PUT, &path, Some(MANIFEST), &manifest).await?;
        expect("a manifest with two tags", &put, 201)?;
        let tags: Vec<_> = put.headers.get_all("oci-tag").iter().collect();
        ensure!(tags == ["one", "two"], "{tags:?}");
        for tag in ["one", "two", &digest] {
            let got = registry.send(Method::GET, &format!("/v2/r/a/manifests/{tag}"), None, &[]).await?;
            ensure!(header(&got, "docker-content-digest")? == digest, "{tag}: {:?}", got.headers);
        }
        cluster.deploy(&app("long", "berth:r/a:two".to_owned())).await?;
        ask(cluster, "long", "x").await
    })
}

#[test]
fn a4_what_makers_distribute_themselves_need_not_be_there_and_what_is_malformed_is_told() -> Outcome {
    with_registry(async |cluster, registry| {
        let layer = program(cluster)?.into_bytes()?;
        registry.put_image(("r/a", "whole"), std::slice::from_ref(&layer), &super::image_config(&[])).await?;
        let whole = registry.send(Method::GET, "/v2/r/a/manifests/whole", None, &[]).await?.text;
        let mut manifest: Value = serde_json::from_str(&whole)?;
        let theirs = json!({"mediaType": NONDISTRIBUTABLE, "digest": sha512(b"theirs"), "size": 6});
        manifest["layers"].as_array_mut().context("a list")?.push(theirs);
        let answer =
            registry.put_manifest("r/a", "theirs", MANIFEST, manifest.to_string().as_bytes()).await?;
        expect("a layer of its maker", &answer, 201)?;
        let error = refusal(&cluster.try_deploy(&app("theirs", "berth:r/a:theirs".to_owned()), &[]).await?)?;
        ensure!(error.contains("may only be fetched from its maker"), "{error}");
        for bad in [
            "sha256:00",
            "sha512:00",
            &format!("sha256:{}", "g".repeat(64)),
            "md5:d41d8cd98f00b204e9800998ecf8427e",
        ] {
            for path in [
                format!("GET /v2/r/a/blobs/{bad}"),
                format!("GET /v2/r/a/manifests/{bad}"),
                format!("PUT /v2/r/a/manifests/{bad}"),
                format!("GET /v2/r/a/referrers/{bad}"),
                format!("POST /v2/r/a/blobs/uploads/?digest={bad}"),
                format!("POST /v2/r/a/blobs/uploads/?mount={bad}&from=r/b"),
                format!("PUT {}?digest={bad}", begin(&registry).await?),
            ] {
                let (method, path) = path.split_once(' ').context("a method")?;
                let answer = registry.send(method.parse()?, path, None, &[]).await?;
                expect(&format!("{method} {path}"), &answer, 400)?;
                ensure!(answer.text.contains("DIGEST_INVALID"), "{path}: {}", answer.text);
            }
        }
        let upload = begin(&registry).await?;
        let cancel = async || registry.send(Method::DELETE, &upload, None, &[]).await;
        expect("cancel an upload", &cancel().await?, 204)?;
        expect("cancel it again", &cancel().await?, 404)?;
        expect("go on with it", &registry.send(Method::PATCH, &upload, None, b"x").await?, 404)
    })
}

#[test]
fn a4_an_upload_goes_on_after_the_edge_was_killed_and_after_it_was_restarted() -> Outcome {
    with_registry(async |cluster, registry| {
        let bytes = noise("upload", 3_000_000);
        let upload = begin(&registry).await?;
        for (number, part) in bytes.chunks(1_000_000).enumerate() {
            expect("a part", &registry.send(Method::PATCH, &upload, None, part).await?, 202)?;
            if number == 0 {
                cluster.kill_edge()?;
                cluster.start_edge()?;
            } else {
                cluster.start_edge_again().await?;
            }
            cluster.until_connected().await?;
            let there = registry.send(Method::GET, &upload, None, &[]).await?;
            expect("ask how far it is", &there, 204)?;
            let range = format!("0-{}", (number + 1) * 1_000_000 - 1);
            ensure!(header(&there, RANGE.as_str())? == range, "{:?}", there.headers);
        }
        let end = format!("{upload}?digest={}", berth_tests::image::digest(&bytes));
        expect("the end", &registry.send(Method::PUT, &end, None, &[]).await?, 201)?;
        ensure!(expect_sound_blobs(cluster)? == 3_000_000, "another size");
        ensure!(uploads(cluster).is_empty(), "left: {:?}", uploads(cluster));
        Ok(())
    })
}
