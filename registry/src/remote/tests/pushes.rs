//! Tests of pushes and copies.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// A registry that accepts everything, and records the paths in order.
async fn taking(there: Vec<Digest>, mounts: bool) -> Fake {
    Fake::start(move |asked| {
        let known = there.iter().any(|digest| asked.path.ends_with(&digest.to_string()));
        match asked.method.as_str() {
            "HEAD" => Answer::of(if known { 200 } else { 404 }, ""),
            "POST" if mounts && asked.path.contains("mount=") => Answer::of(201, ""),
            "POST" => Answer::of(202, "").header("location", "/upload/7?state=x"),
            "PUT" => Answer::of(201, ""),
            _ => Answer::of(404, ""),
        }
    })
    .await
}

/// A stage with an image that was pulled.
async fn filled(image: Image, taking: &Fake) -> (Stage, Fake) {
    let source = Fake::start(move |asked| image.answer(asked)).await;
    let stage = Stage::new(&[&source, taking]);
    run(&stage, &format!("{}/x:v1", source.address), "berth:here:v1").await.unwrap();
    (stage, source)
}

async fn run(stage: &Stage, from: &str, to: &str) -> Result<Moved, RemoteError> {
    stage.remote.copy(copy(from, to), &Progress::default()).await
}

fn copy(from: &str, to: &str) -> Copy {
    Copy { from: from.parse().unwrap(), to: to.parse().unwrap(), from_login: None, to_login: None }
}

fn puts(fake: &Fake) -> Vec<String> {
    fake.asked().into_iter().filter(|asked| asked.method == "PUT").map(|asked| asked.path).collect()
}

#[tokio::test]
async fn only_missing_blobs_are_sent_and_the_manifest_comes_last() {
    let (known, new) = (layer(1, 700_000), layer(2, 900_000));
    let image = Image::new("amd64", &[known.clone(), new.clone()]);
    let target = taking(vec![Digest::of(&known)], false).await;
    let (stage, _source) = filled(image.clone(), &target).await;
    let to = format!("{}/y/z:v2", target.address);
    let progress = Progress::default();
    let moved = stage.remote.copy(copy("berth:here:v1", &to), &progress).await.unwrap();
    assert_eq!(moved.repository, format!("{}/y/z", target.address));
    assert_eq!(moved.digest, image.digest());
    let puts = puts(&target);
    assert_eq!(puts.len(), 3, "{puts:?}");
    let digest = |bytes: &[u8]| Digest::of(bytes).to_string().replace(':', "%3A");
    assert!(
        puts.iter().any(|path| *path == format!("/upload/7?state=x&digest={}", digest(&new))),
        "{puts:?}"
    );
    assert!(!puts.iter().any(|path| path.ends_with(&digest(&known))), "{puts:?}");
    assert_eq!(puts[2], "/v2/y/z/manifests/v2");
    let steps = serde_json::to_string(&progress.take()).unwrap();
    assert!(steps.contains(r#""done":900000,"total":900000"#), "{steps}");
}

#[tokio::test]
async fn an_index_is_pushed_with_its_existing_images_children_first() {
    let child = Image::new("amd64", &[layer(1, 10)]);
    let list = Image::list(&[("amd64", child.clone())], &["s390x"]);
    let target = taking(Vec::new(), false).await;
    let (stage, _source) = filled(list.clone(), &target).await;
    let moved = run(&stage, "berth:here:v1", &format!("{}/y:v2", target.address)).await.unwrap();
    assert_ne!(moved.digest, list.digest(), "it is a shorter list");
    let puts = puts(&target);
    assert_eq!(puts[puts.len() - 2], format!("/v2/y/manifests/{}", child.digest()));
    assert_eq!(puts[puts.len() - 1], "/v2/y/manifests/v2");
}

#[tokio::test]
async fn blobs_that_the_registry_has_elsewhere_are_mounted() {
    let image = Image::new("amd64", &[layer(1, 10)]);
    let target = taking(Vec::new(), true).await;
    let (stage, _source) = filled(image, &target).await;
    let known = format!("berth:127.0.0.1_{}/other:v1", target.address.port());
    run(&stage, "berth:here:v1", &known).await.unwrap();
    run(&stage, &known, &format!("{}/y:v2", target.address)).await.unwrap();
    assert_eq!(puts(&target), ["/v2/y/manifests/v2"]);
    let mounts = target.asked().into_iter().filter(|asked| asked.path.ends_with("&from=other")).count();
    assert_eq!(mounts, 2);
}

#[tokio::test]
async fn concurrent_requests_all_answer_their_challenges() {
    let image = Image::new("amd64", &[layer(1, 10), layer(2, 10)]);
    let target = Fake::start(|asked| match (asked.header("authorization"), asked.method.as_str()) {
        (None, _) => Answer::of(401, "").header("www-authenticate", "Basic realm=\"x\""),
        (_, "HEAD") => Answer::of(200, ""),
        _ => Answer::of(201, ""),
    })
    .await;
    let (stage, _source) = filled(image, &target).await;
    let login =
        Login { username: "me".to_owned(), password: berth_common::secret::Secret::new("x".to_owned()) };
    let push = Copy { to_login: Some(login), ..copy("berth:here:v1", &format!("{}/y", target.address)) };
    stage.remote.copy(push, &Progress::default()).await.unwrap();
}

#[tokio::test]
async fn a_failed_upload_is_retried_and_a_refused_one_is_not() {
    let image = Image::new("amd64", &[layer(1, 10)]);
    let failures = AtomicUsize::new(0);
    let target = Fake::start(move |asked| match asked.method.as_str() {
        "POST" => Answer::of(202, "").header("location", "/upload/7"),
        "PUT" if failures.fetch_add(1, Ordering::SeqCst) == 0 => Answer::of(500, ""),
        "PUT" => Answer::of(201, ""),
        _ => Answer::of(404, ""),
    })
    .await;
    let (stage, _source) = filled(image.clone(), &target).await;
    run(&stage, "berth:here:v1", &format!("{}/y", target.address)).await.unwrap();

    let posts = Mutex::new(0);
    let target = Fake::start(move |asked| {
        *posts.lock().unwrap() += 1;
        match asked.method.as_str() {
            "POST" => Answer::of(403, r#"{"errors":[{"message":"read only"}]}"#),
            _ => Answer::of(404, ""),
        }
    })
    .await;
    let (stage, _source) = filled(image, &target).await;
    let error = run(&stage, "berth:here:v1", &format!("{}/y", target.address)).await.unwrap_err();
    assert!(error.to_string().contains("403") && error.to_string().contains("read only"), "{error}");
}

#[tokio::test]
async fn uploads_do_not_follow_to_forbidden_addresses() {
    let image = Image::new("amd64", &[layer(1, 10)]);
    let target = Fake::start(|asked| match asked.method.as_str() {
        "POST" => Answer::of(202, "").header("location", "http://10.1.2.3/upload"),
        _ => Answer::of(404, ""),
    })
    .await;
    let (stage, _source) = filled(image, &target).await;
    let error = run(&stage, "berth:here:v1", &format!("{}/y", target.address)).await;
    assert!(matches!(error, Err(RemoteError::Web(_))));
}

#[tokio::test]
async fn a_missing_image_cannot_be_copied() {
    let target = taking(Vec::new(), false).await;
    let stage = Stage::new(&[&target]);
    let error = run(&stage, "berth:no:v1", &format!("{}/y", target.address)).await;
    assert!(matches!(error, Err(RemoteError::NotHere(_))));
}
