//! Limits, concurrency and interruptions of the registry.

use std::time::Duration;

use berth_common::image::Digest;
use http::StatusCode;
use serde_json::json;
use tokio::io::AsyncWriteExt;

use super::client::Client;
use super::{push, set_up, set_up_with};
use crate::support::client as plain;
use crate::support::image::{Image, REPOSITORY};

/// The bytes of a distinct layer.
fn bytes(seed: u8, length: usize) -> Vec<u8> {
    (0..length).map(|n| u8::try_from(n % 251).unwrap() ^ seed).collect()
}

/// Makes everything look as if it was not accessed for long.
fn age(setup: &super::Setup) {
    for entry in std::fs::read_dir(setup.site.state("images/blobs")).unwrap() {
        let file = std::fs::File::open(entry.unwrap().path()).unwrap();
        file.set_modified(std::time::SystemTime::now() - Duration::from_secs(2 * 60 * 60)).unwrap();
    }
}

async fn collect(setup: &super::Setup) -> serde_json::Value {
    let request = plain::request("POST", "/v1/images/gc", "{}");
    let (status, answer) = plain::admin(&setup.edge.admin, request).await;
    assert_eq!(status, StatusCode::OK);
    answer
}

#[tokio::test]
async fn a_large_layer_takes_little_memory_both_ways() {
    let setup = set_up().await;
    let image = Image::of(bytes(1, 120 << 20));
    push(&setup.client, "large", "v1", &image).await;
    let got = setup.client.get(&format!("/v2/large/blobs/{}", Digest::of(&image.layer))).await;
    assert!(got.body[..] == image.layer[..]);
    let peak = setup.edge.peak_memory_kib();
    assert!(peak < 64 * 1024, "{peak} KiB");
}

#[tokio::test]
async fn too_large_and_too_many_images_are_refused_with_advice() {
    let setup = set_up_with(&["--image-limit", "6MB", "--images-limit", "8MB"]).await;
    let client = &setup.client;
    let post = async |bytes: Vec<u8>| {
        let path = format!("/v2/r/blobs/uploads/?digest={}", Digest::of(&bytes));
        client.send("POST", &path, &[], bytes).await
    };
    let large = post(bytes(1, 7 << 20)).await;
    assert_eq!((large.status, large.code()), (413, "SIZE_INVALID".to_owned()));
    assert_eq!(post(bytes(2, 5 << 20)).await.status, 201);
    let full = post(bytes(3, 5 << 20)).await;
    assert_eq!((full.status, full.code()), (403, "DENIED".to_owned()));
    assert!(full.text().contains("berth images gc"), "{}", full.text());
    assert_eq!(std::fs::read_dir(setup.site.state("images/uploads")).unwrap().count(), 0);
    push(client, "r", "v1", &Image::tiny()).await;
}

#[tokio::test]
async fn concurrent_pushes_and_collections_of_shared_layers_work() {
    let setup = set_up().await;
    let shared = bytes(9, 3 << 20);
    let work = (0..8_u8).map(|n| {
        let (client, shared): (Client, Vec<u8>) = (setup.client.clone(), shared.clone());
        async move {
            let mut image = Image::of(shared);
            image.manifest.push(b' ');
            image.manifest.resize(image.manifest.len() + usize::from(n), b' ');
            push(&client, &format!("r{n}"), "v1", &image).await;
            image.digest()
        }
    });
    let collections = async {
        for _ in 0..10 {
            collect(&setup).await;
        }
    };
    let (digests, ()) = tokio::join!(futures_util::future::join_all(work), collections);
    age(&setup);
    let swept = collect(&setup).await;
    assert_eq!((&swept["blobs"], &swept["manifests"]), (&json!([]), &json!([])));
    for (n, digest) in digests.iter().enumerate() {
        assert_eq!(setup.client.get(&format!("/v2/r{n}/manifests/{digest}")).await.status, 200);
    }
    let path = format!("/v2/r0/blobs/{}", Digest::of(&shared));
    assert!(setup.client.get(&path).await.body[..] == shared[..]);
}

#[tokio::test]
async fn a_kill_during_a_push_leaves_only_complete_images() {
    let mut setup = set_up().await;
    let image = Image::of(bytes(4, 1 << 20));
    push(&setup.client, "r", "v1", &image).await;
    let mut stream = tokio::net::TcpStream::connect(setup.edge.registry).await.unwrap();
    let head = format!(
        "POST /v2/r/blobs/uploads/?digest={} HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {}\r\ncontent-length: 9000000\r\n\r\n",
        Digest::of(b"x"),
        setup.client.token
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&bytes(5, 4 << 20)).await.unwrap();
    let uploads = setup.site.state("images/uploads");
    let half = async {
        while std::fs::read_dir(&uploads).unwrap().all(|file| file.unwrap().metadata().unwrap().len() == 0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    crate::support::soon("half a blob", half).await;
    setup.edge.kill().await;
    assert_eq!(std::fs::read_dir(&uploads).unwrap().count(), 1);

    setup.edge = setup.site.start().await;
    setup.client.address = setup.edge.registry;
    assert_eq!(std::fs::read_dir(&uploads).unwrap().count(), 0);
    assert_eq!(setup.client.get("/v2/r/manifests/v1").await.body[..], image.manifest[..]);
    let path = format!("/v2/r/blobs/{}", Digest::of(&image.layer));
    assert!(setup.client.get(&path).await.body[..] == image.layer[..]);
    push(&setup.client, "r", "v2", &Image::of(bytes(5, 4 << 20))).await;
}

#[tokio::test]
async fn an_image_that_an_app_uses_is_not_deleted_and_one_that_is_not_there_is_not_deployed() {
    let setup = set_up().await;
    let spec = serde_json::to_vec(&crate::support::edge::app(|_| {})).unwrap();
    let deploy = plain::request("PUT", "/v1/apps/test", spec);
    let (status, problem) = plain::admin(&setup.edge.admin, deploy).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(problem["errors"][0]["field"], "classes.C.image.digest");

    setup.edge.deploy(|_| {}).await;
    let app = setup.edge.look("/v1/apps/test").await;
    assert_eq!(app["spec"]["classes"]["C"]["image"]["architectures"], json!(["amd64"]));
    let path = format!("/v2/{REPOSITORY}/manifests/latest");
    let refused = setup.client.delete(&path).await;
    assert_eq!(refused.status, 409);
    assert!(refused.text().contains("version 1 of the app test"), "{}", refused.text());
    let listed = setup.edge.look("/v1/images").await;
    assert_eq!(listed["images"][0]["used_by"], json!([{"app": "test", "version": 1, "current": true}]));

    let by_force = format!("/v1/images?repository={REPOSITORY}&digest={}", Image::tiny().digest());
    let (status, problem) = plain::admin(&setup.edge.admin, plain::request("DELETE", &by_force, "")).await;
    assert_eq!(status, StatusCode::CONFLICT, "{problem}");
    let by_force = plain::request("DELETE", &format!("{by_force}&force=true"), "");
    let forced = plain::stream_admin(&setup.edge.admin, by_force).await;
    assert_eq!(forced.response.status(), StatusCode::NO_CONTENT);
    age(&setup);
    assert_eq!(collect(&setup).await["blobs"], json!([]), "the app needs them still");
    assert_eq!(
        setup.edge.look(&format!("/v1/images/{}", Image::tiny().digest())).await["used_by"][0]["app"],
        "test"
    );
}
