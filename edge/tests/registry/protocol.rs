//! Pushes, pulls, lists and deletions, as in the distribution specification.

use berth_common::image::Digest;
use serde_json::{Value, json};

use super::{push, set_up};
use crate::support::image::{INDEX, Image, MANIFEST, descriptor};

#[tokio::test]
async fn an_image_is_pushed_in_one_go_and_pulled_as_it_was() {
    let setup = set_up().await;
    let (client, image) = (&setup.client, Image::tiny());
    assert_eq!(client.get("/v2/").await.header("docker-distribution-api-version"), "registry/2.0");
    push(client, "a/b", "v1", &image).await;

    for reference in ["v1".to_owned(), image.digest().to_string()] {
        let path = format!("/v2/a/b/manifests/{reference}");
        let (head, got) = (client.head(&path).await, client.get(&path).await);
        assert_eq!((head.status, got.status, &got.body[..]), (200, 200, &image.manifest[..]));
        for answer in [head, got] {
            assert_eq!(answer.header("content-type"), MANIFEST);
            assert_eq!(answer.header("content-length"), image.manifest.len().to_string());
            assert_eq!(answer.header("docker-content-digest"), image.digest().to_string());
        }
    }
    let path = format!("/v2/a/b/blobs/{}", Digest::of(&image.config));
    assert_eq!(client.get(&path).await.body[..], image.config[..]);
    let head = client.head(&path).await;
    assert_eq!((head.status, head.header("content-length")), (200, &*image.config.len().to_string()));
    let part = client.send("GET", &path, &[("range", "bytes=1-3")], "").await;
    assert_eq!((part.status, &part.body[..]), (206, &image.config[1..4]));
    assert_eq!(part.header("content-range"), format!("bytes 1-3/{}", image.config.len()));
    assert_eq!(client.send("GET", &path, &[("range", "bytes=9999-")], "").await.status, 416);
}

#[tokio::test]
async fn an_upload_goes_on_over_several_requests_and_is_refused_out_of_order() {
    let setup = set_up().await;
    let client = &setup.client;
    let begun = client.send("POST", "/v2/r/blobs/uploads/", &[], "").await;
    assert_eq!((begun.status, begun.header("range")), (202, "0-0"));
    let upload_path = begun.header("location").to_owned();

    let piece = client.send("PATCH", &upload_path, &[("content-range", "0-4")], "hello").await;
    assert_eq!((piece.status, piece.header("range")), (202, "0-4"));
    let again = client.send("PATCH", &upload_path, &[("content-range", "0-4")], "hello").await;
    assert_eq!(
        (again.status, again.header("range"), again.code()),
        (416, "0-4", "BLOB_UPLOAD_INVALID".into())
    );
    let status = client.get(&upload_path).await;
    assert_eq!((status.status, status.header("range")), (204, "0-4"));
    assert_eq!(client.send("PATCH", &upload_path, &[], " wor").await.header("range"), "0-8");
    let elsewhere = upload_path.replace("/r/", "/other/");
    assert_eq!(client.get(&elsewhere).await.code(), "BLOB_UPLOAD_UNKNOWN");

    let digest = Digest::of(b"hello world");
    let end = format!("{upload_path}?digest={digest}");
    let done = client.send("PUT", &end, &[("content-range", "9-10")], "ld").await;
    assert_eq!((done.status, done.header("docker-content-digest")), (201, &*digest.to_string()));
    assert_eq!(client.get(done.header("location")).await.text(), "hello world");
    // Most clients send a blob in one piece, and an empty request at its end.
    let begun = client.send("POST", "/v2/r/blobs/uploads/", &[], "").await.header("location").to_owned();
    assert_eq!(client.send("PATCH", &begun, &[], "hello").await.status, 202);
    let end = format!("{begun}?digest={}", Digest::of(b"hello"));
    assert_eq!(client.send("PUT", &end, &[], "").await.status, 201);
    // The empty blob is valid too.
    let begun = client.send("POST", "/v2/r/blobs/uploads/", &[], "").await.header("location").to_owned();
    let end = format!("{begun}?digest={}", Digest::of(b""));
    assert_eq!(client.send("PUT", &end, &[], "").await.status, 201);
    assert_eq!(client.get(&upload_path).await.status, 404);
}

#[tokio::test]
async fn an_upload_that_is_cut_off_goes_on_where_it_was() {
    use tokio::io::AsyncWriteExt;
    let setup = set_up().await;
    let client = &setup.client;
    let location = client.send("POST", "/v2/r/blobs/uploads/", &[], "").await.header("location").to_owned();
    let mut stream = tokio::net::TcpStream::connect(client.address).await.unwrap();
    let head = format!(
        "PATCH {location} HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {}\r\ncontent-length: 1000000\r\n\r\n",
        client.token
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&[7; 300_000]).await.unwrap();
    drop(stream);
    let mut length = 0;
    while length == 0 {
        let status = client.get(&location).await;
        // The edge may still be writing what it has received.
        if status.status == 204 {
            length = status.header("range").trim_start_matches("0-").parse::<usize>().unwrap();
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let there = length + 1;
    assert!(there <= 300_000);
    let rest = vec![7; 1_000_000 - there];
    let range = format!("{there}-999999");
    let end = format!("{location}?digest={}", Digest::of(&[7; 1_000_000]));
    assert_eq!(client.send("PUT", &end, &[("content-range", &range)], rest).await.status, 201);
}

#[tokio::test]
async fn uploads_are_cancelled_and_wrong_digests_refused() {
    let setup = set_up().await;
    let client = &setup.client;
    let location = client.send("POST", "/v2/r/blobs/uploads/", &[], "").await.header("location").to_owned();
    assert_eq!(client.delete(&location).await.status, 204);
    assert_eq!(client.delete(&location).await.code(), "BLOB_UPLOAD_UNKNOWN");
    let other = format!("/v2/r/blobs/uploads/?digest={}", Digest::of(b"other"));
    assert_eq!(client.send("POST", &other, &[], "this").await.code(), "DIGEST_INVALID");
    let senseless = client.send("POST", "/v2/r/blobs/uploads/?digest=md5:0", &[], "this").await;
    assert_eq!((senseless.status, senseless.code()), (400, "DIGEST_INVALID".into()));
    let left = std::fs::read_dir(setup.site.state("images/uploads")).unwrap().count();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn a_blob_that_is_there_is_mounted_and_another_begins_an_upload() {
    let setup = set_up().await;
    let (client, image) = (&setup.client, Image::tiny());
    push(client, "one", "v1", &image).await;
    let digest = Digest::of(&image.layer);
    let mounted =
        client.send("POST", &format!("/v2/two/blobs/uploads/?mount={digest}&from=one"), &[], "").await;
    assert_eq!((mounted.status, mounted.header("location")), (201, &*format!("/v2/two/blobs/{digest}")));
    let other = format!("/v2/two/blobs/uploads/?mount={}&from=one", Digest::of(b"none"));
    assert_eq!(client.send("POST", &other, &[], "").await.status, 202);
}

#[tokio::test]
async fn errors_have_their_codes() {
    let setup = set_up().await;
    let (client, image) = (&setup.client, Image::tiny());
    let digest = image.digest();
    for (method, path, status, code) in [
        ("GET", "/v2/UPPER/tags/list".to_owned(), 400, "NAME_INVALID"),
        ("GET", "/v2/r/tags/list".to_owned(), 404, "NAME_UNKNOWN"),
        ("GET", "/v2/r/manifests/v1".to_owned(), 404, "MANIFEST_UNKNOWN"),
        ("GET", "/v2/r/manifests/.bad".to_owned(), 404, "MANIFEST_UNKNOWN"),
        ("DELETE", "/v2/r/manifests/v1".to_owned(), 404, "MANIFEST_UNKNOWN"),
        ("GET", format!("/v2/r/blobs/{digest}"), 404, "BLOB_UNKNOWN"),
        ("GET", "/v2/r/blobs/sha256:zz".to_owned(), 400, "DIGEST_INVALID"),
        ("GET", "/v2/r/blobs/uploads/x".to_owned(), 404, "BLOB_UPLOAD_UNKNOWN"),
        ("PUT", "/v2/r/manifests/.bad".to_owned(), 400, "TAG_INVALID"),
        ("PUT", "/v2/r/tags/list".to_owned(), 405, "UNSUPPORTED"),
        ("GET", "/v2/nothing".to_owned(), 404, "UNSUPPORTED"),
        ("GET", "/v2/_catalog?n=x".to_owned(), 400, "PAGINATION_NUMBER_INVALID"),
    ] {
        let answer = client.send(method, &path, &[], "").await;
        assert_eq!((answer.status, answer.code()), (status, code.to_owned()), "{method} {path}");
    }
    let put = async |bytes: &[u8]| client.send("PUT", "/v2/r/manifests/v1", &[], bytes.to_vec()).await.code();
    assert_eq!(put(&image.manifest).await, "MANIFEST_BLOB_UNKNOWN");
    assert_eq!(put(b"{}").await, "MANIFEST_INVALID");
    let kind = [("content-type", INDEX)];
    push(client, "r", "v1", &image).await;
    let other_kind = client.send("PUT", "/v2/r/manifests/v1", &kind, image.manifest.clone()).await;
    assert_eq!(other_kind.code(), "MANIFEST_INVALID");
    let other = format!("/v2/r/manifests/{}", Digest::of(b"other"));
    assert_eq!(client.send("PUT", &other, &[], image.manifest.clone()).await.code(), "DIGEST_INVALID");
    let large = client.send("PUT", "/v2/r/manifests/v1", &[], vec![b' '; 5 << 20]).await;
    assert_eq!(large.status, 413);
}

#[tokio::test]
async fn lists_come_in_pages() {
    let setup = set_up().await;
    let (client, image) = (&setup.client, Image::tiny());
    for tag in ["v3", "v1", "v2"] {
        push(client, "a", tag, &image).await;
    }
    push(client, "a/b", "x", &image).await;
    push(client, "c", "x", &image).await;
    assert_eq!(client.get("/v2/a/tags/list").await.json(), json!({"name": "a", "tags": ["v1", "v2", "v3"]}));
    let first = client.get("/v2/a/tags/list?n=2").await;
    assert_eq!(first.json()["tags"], json!(["v1", "v2"]));
    assert_eq!(first.header("link"), "</v2/a/tags/list?n=2&last=v2>; rel=\"next\"");
    let second = client.get("/v2/a/tags/list?n=2&last=v2").await;
    assert_eq!((second.json()["tags"].clone(), second.header("link")), (json!(["v3"]), ""));
    assert_eq!(client.get("/v2/a/tags/list?n=0").await.json()["tags"], json!([]));
    let catalog = client.get("/v2/_catalog?n=2").await;
    assert_eq!(catalog.json()["repositories"], json!(["a", "a/b"]));
    assert_eq!(catalog.header("link"), "</v2/_catalog?n=2&last=a/b>; rel=\"next\"");
    assert_eq!(client.get("/v2/_catalog?n=2&last=a/b").await.json()["repositories"], json!(["c"]));
}

#[tokio::test]
async fn manifests_about_another_are_listed_with_it() {
    let setup = set_up().await;
    let (client, image) = (&setup.client, Image::tiny());
    let path = format!("/v2/r/referrers/{}", image.digest());
    let empty = client.get(&path).await;
    assert_eq!((empty.status, empty.header("content-type")), (200, INDEX));
    assert_eq!(empty.json()["manifests"], json!([]));

    push(client, "r", "v1", &image).await;
    let mut digests = Vec::new();
    for kind in ["application/a", "application/b"] {
        let mut about: Value = serde_json::from_slice(&image.manifest).unwrap();
        about["subject"] = descriptor(MANIFEST, &image.manifest);
        about["artifactType"] = json!(kind);
        about["annotations"] = json!({"by": "test"});
        let bytes = about.to_string().into_bytes();
        let digest = Digest::of(&bytes).to_string();
        let put = client.send("PUT", &format!("/v2/r/manifests/{digest}"), &[], bytes).await;
        assert_eq!((put.status, put.header("oci-subject")), (201, &*image.digest().to_string()));
        digests.push(digest);
    }
    assert_eq!(client.get(&path).await.json()["manifests"].as_array().unwrap().len(), 2);
    let filtered = client.get(&format!("{path}?artifactType=application/b")).await;
    assert_eq!(filtered.header("oci-filters-applied"), "artifactType");
    let found = &filtered.json()["manifests"];
    assert_eq!(found.as_array().unwrap().len(), 1);
    assert_eq!((&found[0]["digest"], &found[0]["annotations"]["by"]), (&json!(digests[1]), &json!("test")));
}

#[tokio::test]
async fn images_are_deleted_but_not_parts_of_an_image() {
    let setup = set_up().await;
    let (client, image) = (&setup.client, Image::tiny());
    push(client, "r", "v1", &image).await;
    push(client, "r", "v2", &image).await;
    let layer = format!("/v2/r/blobs/{}", Digest::of(&image.layer));
    assert_eq!(client.delete(&layer).await.status, 409);
    assert_eq!(client.delete("/v2/r/manifests/v1").await.status, 202);
    assert_eq!(client.get("/v2/r/manifests/v1").await.status, 404);
    assert_eq!(client.get("/v2/r/manifests/v2").await.status, 200);
    assert_eq!(client.delete(&format!("/v2/r/manifests/{}", image.digest())).await.status, 202);
    assert_eq!(client.get("/v2/r/manifests/v2").await.status, 404);
    assert_eq!(client.delete(&layer).await.status, 202);
    assert_eq!(client.get(&layer).await.status, 404);
}

#[tokio::test]
async fn an_index_needs_its_manifests_and_is_listed_with_its_architectures() {
    let setup = set_up().await;
    let (client, image) = (&setup.client, Image::tiny());
    let mut part = descriptor(MANIFEST, &image.manifest);
    part["platform"] = json!({"os": "linux", "architecture": "amd64"});
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [part]}).to_string();
    let put = async || client.send("PUT", "/v2/r/manifests/multi", &[], index.clone()).await;
    assert_eq!(put().await.code(), "MANIFEST_BLOB_UNKNOWN");
    push(client, "r", "amd64", &image).await;
    assert_eq!(put().await.status, 201);
    let listed = setup.edge.look("/v1/images?limit=1").await;
    let rest = format!("/v1/images?cursor={}", listed["next_cursor"].as_str().unwrap());
    let rest = setup.edge.look(&rest).await;
    let tags = [&listed, &rest].map(|page| page["images"][0]["tags"][0].as_str().unwrap().to_owned());
    assert!(tags.contains(&"multi".to_owned()) && tags.contains(&"amd64".to_owned()), "{tags:?}");
    assert_eq!(listed["images"][0]["architectures"], json!(["amd64"]));
    let shown = setup.edge.look(&format!("/v1/images/{}", Digest::of(index.as_bytes()))).await;
    assert_eq!(shown["images"][0]["layers"][0]["digest"], json!(Digest::of(&image.layer)));
}
