//! Tests of pulls.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;
use crate::images::ImageError;
use crate::web::WebError;

#[tokio::test]
async fn existing_blobs_are_not_pulled_again() {
    let image = Image::new("amd64", &[layer(1, 3_000_000), layer(2, 10), layer(2, 10)]);
    let served = image.clone();
    let fake = Fake::start(move |asked| served.answer(asked)).await;
    let stage = Stage::new(&[&fake]);
    let from = format!("{}/a/b:v1", fake.address);
    let moved = stage.pull(&from).await.unwrap();
    assert_eq!(moved.digest, image.digest());
    assert_eq!(moved.repository, format!("127.0.0.1_{}/a/b", fake.address.port()));
    let named = format!("{}:v1", moved.repository).parse().unwrap();
    assert_eq!(stage.images.resolve(&named).await.unwrap(), Some(image.digest()));
    let asked = fake.asked().len();
    assert_eq!(asked, 4, "{:?}", fake.asked());
    stage.pull(&from).await.unwrap();
    assert_eq!(fake.asked().len(), asked + 1, "only the manifest is asked for again");
    // A copy that was cut off on the disk is noticed, and made again.
    let cut = stage.directory.path().join(format!("images/blobs/{}", Digest::of(&layer(1, 3_000_000)).hex()));
    std::fs::File::options().write(true).open(&cut).unwrap().set_len(1_000_000).unwrap();
    stage.pull(&from).await.unwrap();
    assert_eq!((fake.asked().len(), std::fs::metadata(&cut).unwrap().len()), (asked + 3, 3_000_000));
    assert_eq!(stage.remote.downloads.count(), 0);
}

#[tokio::test]
async fn only_runnable_images_of_an_index_are_pulled_and_the_index_is_unchanged() {
    let amd64 = Image::new("amd64", &[layer(1, 100)]);
    let arm64 = Image::new("arm64", &[layer(2, 100)]);
    let list = Image::list(&[("amd64", amd64.clone()), ("arm64", arm64.clone())], &["s390x", "unknown"]);
    let served = list.clone();
    let fake = Fake::start(move |asked| served.answer(asked)).await;
    let stage = Stage::new(&[&fake]);
    let from = format!("{}/a:v1", fake.address);
    assert_eq!(stage.pull(&from).await.unwrap().digest, list.digest());
    assert!(stage.has(&amd64.digest()) && stage.has(&arm64.digest()));
    let info = stage.images.describe(&list.digest()).await.unwrap().unwrap();
    assert_eq!(info.architectures.len(), 2);

    let stage = Stage::new(&[&fake]);
    let one = Pull { platform: Some(berth_common::image::Architecture::Arm64), ..wanted(&from) };
    let moved = stage.remote.pull(one, &Progress::default()).await.unwrap();
    assert_eq!(moved.digest, arm64.digest());
    assert!(!stage.has(&amd64.digest()));

    let foreign = Image::list(&[], &["s390x", "riscv64"]);
    let fake = Fake::start(move |asked| foreign.answer(asked)).await;
    let error = Stage::new(&[&fake]).pull(&format!("{}/a:v1", fake.address)).await.unwrap_err();
    assert!(error.to_string().contains("linux/s390x, linux/riscv64"), "{error}");
}

#[tokio::test]
async fn an_interrupted_download_is_resumed() {
    let bytes = layer(1, 2_000_000);
    let image = Image::new("amd64", std::slice::from_ref(&bytes));
    let (served, cuts) = (image.clone(), AtomicUsize::new(0));
    let fake = Fake::start(move |asked| {
        let mut answer = served.answer(asked);
        if answer.body.len() == 2_000_000 {
            let from = asked.header("range").map_or(0, |range| {
                range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap()
            });
            let rest = answer.body.split_off(from);
            let cut = (cuts.fetch_add(1, Ordering::SeqCst) < 2).then_some(600_000);
            let status = if from > 0 { 206 } else { 200 };
            answer = Answer { cut, ..Answer::of(status, rest) };
            if from > 0 {
                answer = answer.header("content-range", format!("bytes {from}-1999999/2000000"));
            }
        }
        answer
    })
    .await;
    let stage = Stage::new(&[&fake]);
    stage.pull(&format!("{}/a:v1", fake.address)).await.unwrap();
    let digest = Digest::of(&bytes);
    let ranges: Vec<_> =
        fake.asked().iter().filter_map(|asked| asked.header("range").map(str::to_owned)).collect();
    assert_eq!(ranges, ["bytes=600000-", "bytes=1200000-"]);
    assert_eq!(stage.images.content().read(&digest, 2_000_000).unwrap().unwrap(), bytes);
}

#[tokio::test]
async fn a_download_without_range_support_starts_over() {
    let image = Image::new("amd64", &[layer(1, 2_000_000)]);
    let (served, cuts) = (image.clone(), AtomicUsize::new(0));
    let fake = Fake::start(move |asked| {
        let answer = served.answer(asked);
        let large = answer.body.len() == 2_000_000;
        let cut = (large && cuts.fetch_add(1, Ordering::SeqCst) == 0).then_some(1_500_000);
        Answer { cut, ..answer }
    })
    .await;
    Stage::new(&[&fake]).pull(&format!("{}/a:v1", fake.address)).await.unwrap();
}

#[tokio::test]
async fn a_cancelled_pull_is_resumed_by_the_next_one() {
    let image = Image::new("amd64", &[layer(1, 4_000_000)]);
    let served = image.clone();
    let fake = Fake::start(move |asked| {
        let mut answer = served.answer(asked);
        match asked.header("range") {
            Some(range) => {
                let from: usize = range[6..range.len() - 1].parse().unwrap();
                let rest = answer.body.split_off(from);
                Answer::of(206, rest).header("content-range", format!("bytes {from}-3999999/4000000"))
            }
            None if answer.body.len() == 4_000_000 => {
                Answer { trickle: Some((1_000_000, Duration::from_millis(400))), ..answer }
            }
            None => answer,
        }
    })
    .await;
    let stage = Stage::new(&[&fake]);
    let from = format!("{}/a:v1", fake.address);
    let given_up = tokio::time::timeout(Duration::from_millis(900), stage.pull(&from)).await;
    assert!(given_up.is_err());
    assert!(!stage.has(&image.digest()), "nothing is in the catalogue");
    stage.pull(&from).await.unwrap();
    assert!(fake.asked().iter().any(|asked| asked.header("range").is_some()), "{:?}", fake.asked());
}

/// A registry with a layer of 4 MB, which cuts the first download of it in the middle and answers ranges.
async fn cut_once(image: Image, bytes: Vec<u8>) -> Fake {
    let cuts = AtomicUsize::new(0);
    Fake::start(move |asked| {
        let answer = image.answer(asked);
        if answer.body != bytes {
            return answer;
        }
        let Some(range) = asked.header("range") else {
            let first = cuts.fetch_add(1, Ordering::SeqCst) == 0;
            // Then it is silent, until whoever asked is gone.
            let trickle = first.then_some((2_000_000, Duration::from_secs(30)));
            return Answer { trickle, ..answer };
        };
        let from: usize = range[6..range.len() - 1].parse().unwrap();
        Answer::of(206, &bytes[from..]).header("content-range", format!("bytes {from}-3999999/4000000"))
    })
    .await
}

/// Pulls until so much of a blob has arrived, as an edge that ends in the middle.
async fn pull_until(stage: &Stage, from: &str, bytes: u64) {
    let arrived = async {
        while stage.images.content().usage().bytes < bytes {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! { done = stage.pull(from) => panic!("it is through: {done:?}"), () = arrived => {} }
}

#[tokio::test]
async fn the_next_edge_goes_on_with_a_download_and_notices_if_it_is_damaged() {
    for damaged in [false, true] {
        let bytes = layer(1, 4_000_000);
        let image = Image::new("amd64", std::slice::from_ref(&bytes));
        let fake = cut_once(image.clone(), bytes.clone()).await;
        let stage = Stage::new(&[&fake]);
        let from = format!("{}/a:v1", fake.address);
        pull_until(&stage, &from, 1_500_000).await;
        let unfinished = format!("images/uploads/pull-{}", Digest::of(&bytes).hex());
        let stage = stage.again(&[&fake]);
        let path = stage.directory.path().join(unfinished);
        let length = std::fs::metadata(&path).unwrap().len();
        if damaged {
            // As after a crash of the machine: the length is on the disk, and the bytes are not.
            std::fs::write(&path, vec![0; usize::try_from(length).unwrap()]).unwrap();
        }
        stage.pull(&from).await.unwrap();
        assert_eq!(stage.images.content().read(&Digest::of(&bytes), 4_000_000).unwrap().unwrap(), bytes);
        let asked = fake.asked();
        let ranges: Vec<_> = asked.iter().filter_map(|asked| asked.header("range")).collect();
        assert_eq!(ranges, [format!("bytes={length}-")]);
        let whole = fake.count(&Digest::of(&bytes).to_string()) - ranges.len();
        assert_eq!(whole, if damaged { 2 } else { 1 }, "damaged: {damaged}");
        assert!(!path.exists());
    }
}

#[tokio::test]
async fn two_pulls_share_one_download() {
    let bytes = layer(1, 3_000_000);
    let (one, two) = (
        Image::new("amd64", std::slice::from_ref(&bytes)),
        Image::new("arm64", std::slice::from_ref(&bytes)),
    );
    let fake = Fake::start(move |asked| {
        let image = if asked.path.contains("/one/") { &one } else { &two };
        Answer { trickle: Some((500_000, Duration::from_millis(20))), ..image.answer(asked) }
    })
    .await;
    let stage = Stage::new(&[&fake]);
    let (first, second) = (format!("{}/one/x:v1", fake.address), format!("{}/two/x:v1", fake.address));
    let (first, second) = tokio::join!(stage.pull(&first), stage.pull(&second));
    assert!(first.unwrap().digest != second.unwrap().digest);
    assert_eq!(fake.count(&Digest::of(&bytes).to_string()), 1);
}

#[tokio::test]
async fn content_with_a_wrong_digest_is_refused_and_not_kept() {
    let bytes = layer(1, 1_000);
    let image = Image::new("amd64", std::slice::from_ref(&bytes));
    let digest = Digest::of(&bytes);
    let served = image.clone();
    let fake = Fake::start(move |asked| {
        let mut answer = served.answer(asked);
        if asked.path.contains("/blobs/") && answer.body.len() == 1_000 {
            answer.body[500] ^= 1;
        }
        answer
    })
    .await;
    let stage = Stage::new(&[&fake]);
    let error = stage.pull(&format!("{}/a:v1", fake.address)).await.unwrap_err();
    assert!(matches!(error, RemoteError::Digest { expected, .. } if expected == digest), "{error}");
    assert!(!stage.has(&digest) && !stage.has(&image.digest()));
    assert_eq!(fake.count(&digest.to_string()), 1, "a lie is not asked for again");

    let other = Image::new("amd64", &[layer(9, 10)]);
    let (asked_for, served) = (image.digest(), other.manifests[&other.digest()].clone());
    let fake = Fake::start(move |_| Answer::of(200, served.clone())).await;
    let error = Stage::new(&[&fake]).pull(&format!("{}/a@{asked_for}", fake.address)).await.unwrap_err();
    assert!(matches!(error, RemoteError::Digest { expected, .. } if expected == asked_for), "{error}");
}

#[tokio::test]
async fn too_large_images_are_refused_before_the_download() {
    // A blob that is longer than its manifest says.
    let image = Image::new("amd64", &[layer(1, 1_000)]);
    let served = image.clone();
    let fake = Fake::start(move |asked| {
        let mut answer = served.answer(asked);
        if asked.path.contains("/blobs/") {
            answer.body.extend([0; 100]);
        }
        answer
    })
    .await;
    let error = Stage::new(&[&fake]).pull(&format!("{}/a:v1", fake.address)).await.unwrap_err();
    assert!(matches!(error, RemoteError::Overlong { .. }), "{error}");

    // A manifest without an end.
    let fake = Fake::start(|_| Answer::of(200, vec![b' '; 5 << 20])).await;
    let error = Stage::new(&[&fake]).pull(&format!("{}/a:v1", fake.address)).await.unwrap_err();
    assert!(matches!(error, RemoteError::Overlong { .. }), "{error}");

    // An image over the limit.
    let large = layer(1, usize::try_from(IMAGE_LIMIT).unwrap() + 1);
    let digest = Digest::of(&large);
    let image = Image::new("amd64", &[large]);
    let fake = Fake::start(move |asked| image.answer(asked)).await;
    let error = Stage::new(&[&fake]).pull(&format!("{}/a:v1", fake.address)).await.unwrap_err();
    assert!(matches!(error, RemoteError::Image(ImageError::TooLarge { .. })), "{error}");
    assert_eq!(fake.count(&digest.to_string()), 0);
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_is_too_slow_fails_the_pull() {
    let image = Image::new("amd64", &[layer(1, 1_000_000)]);
    let fake = Fake::start(move |asked| {
        let answer = image.answer(asked);
        let large = answer.body.len() == 1_000_000;
        Answer { trickle: large.then_some((1, Duration::from_secs(20))), ..answer }
    })
    .await;
    let error = Stage::new(&[&fake]).pull(&format!("{}/a:v1", fake.address)).await.unwrap_err();
    assert!(matches!(error, RemoteError::TooSlow { .. } | RemoteError::TooLong(_)), "{error}");

    let fake = Fake::start(|_| Answer {
        trickle: Some((1, Duration::from_secs(20))),
        ..Answer::of(200, " ".repeat(100))
    })
    .await;
    let error = Stage::new(&[&fake]).pull(&format!("{}/a:v1", fake.address)).await.unwrap_err();
    assert!(matches!(error, RemoteError::TimedOut(_)), "{error}");
}

#[tokio::test]
async fn transient_errors_are_retried() {
    let image = Image::new("amd64", &[layer(1, 10)]);
    let failures = AtomicUsize::new(0);
    let fake = Fake::start(move |asked| match failures.fetch_add(1, Ordering::SeqCst) {
        0 => Answer::of(503, ""),
        2 => Answer::of(429, "").header("retry-after", "1"),
        _ => image.answer(asked),
    })
    .await;
    Stage::new(&[&fake]).pull(&format!("{}/a:v1", fake.address)).await.unwrap();

    let fake = Fake::start(|_| Answer::of(404, r#"{"errors":[{"message":"unknown"}]}"#)).await;
    let error = Stage::new(&[&fake]).pull(&format!("{}/a:v1", fake.address)).await.unwrap_err();
    assert!(matches!(error, RemoteError::Missing(_)), "{error}");
    assert_eq!(fake.asked().len(), 1);
}

#[tokio::test]
async fn redirects_are_followed_only_to_permitted_addresses() {
    let image = Image::new("amd64", &[layer(1, 10)]);
    let served = image.clone();
    let storage = Fake::start(move |asked| served.answer(asked)).await;
    let there = storage.address;
    let redirecting = move |image: Image, to: String| {
        move |asked: &Asked| match asked.path.contains("/blobs/") {
            true => Answer::of(307, "").header("location", format!("{to}{}", asked.path)),
            false => image.answer(asked),
        }
    };
    let fake = Fake::start(redirecting(image.clone(), format!("http://{there}"))).await;
    Stage::new(&[&fake]).pull(&format!("{}/a:v1", fake.address)).await.unwrap();
    assert_eq!(storage.asked().len(), 2);

    for (to, public) in
        [("https://169.254.169.254", false), ("http://10.0.0.1", false), ("http://1.1.1.1", true)]
    {
        let fake = Fake::start(redirecting(image.clone(), to.to_owned())).await;
        let error = Stage::new(&[&fake]).pull(&format!("{}/a:v1", fake.address)).await.unwrap_err();
        match error {
            RemoteError::Web(WebError::Forbidden { .. }) => assert!(!public, "{to}"),
            RemoteError::Web(WebError::Plain { .. }) => assert!(public, "{to}"),
            error => panic!("{to}: {error}"),
        }
    }
    let fake = Fake::start(|asked| Answer::of(302, "").header("location", asked.path.clone())).await;
    let error = Stage::new(&[&fake]).pull(&format!("{}/a:v1", fake.address)).await.unwrap_err();
    assert!(matches!(error, RemoteError::TooManyRedirects(_)), "{error}");
}

#[tokio::test]
async fn tls_is_required_except_for_named_registries_at_permitted_addresses() {
    let fake = Fake::start(|_| Answer::of(200, "")).await;
    let error = Stage::new(&[]).pull(&format!("{}/a:v1", fake.address)).await.unwrap_err();
    assert!(matches!(error, RemoteError::Web(WebError::Tls { .. })), "{error}");
    let error = Stage::new(&[]).pull("127.0.0.2:5000/a:v1").await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, RemoteError::Web(WebError::Forbidden { .. })), "{text}");
    assert!(text.contains("--allow-registries-on"), "{text}");
}
