//! Large bodies, through daemons that keep little in memory.

use std::convert::Infallible;

use anyhow::{Context, Result, ensure};
use berth_tests::app::App;
use berth_tests::client::Client;
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::host;
use berth_tests::scenario::{Outcome, scenario};
use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::Method;
use hyper::body::Frame;
use serde_json::Value;
use sha2::{Digest, Sha256};

const MIB: u64 = 1 << 20;
/// Length of each body.
const BODY_BYTES: u64 = 512 * MIB;
/// Most resident memory that edge and agent may each ever have.
const MEMORY_LIMIT_BYTES: u64 = 64 * MIB;
/// Repetitions of the pattern in a chunk.
const CHUNK_PERIODS: usize = 256;

/// The pattern of examples/hello: the byte at offset `i` is `i mod 251`.
fn pattern_chunk() -> Bytes {
    (0..251).collect::<Vec<u8>>().repeat(CHUNK_PERIODS).into()
}

/// What `BODY_BYTES` of the pattern are made of.
fn pattern() -> impl Iterator<Item = Bytes> {
    let chunk = pattern_chunk();
    let mut left = usize::try_from(BODY_BYTES).unwrap_or(usize::MAX);
    std::iter::from_fn(move || {
        let length = left.min(chunk.len());
        left -= length;
        (length > 0).then(|| chunk.slice(..length))
    })
}

fn pattern_checksum() -> String {
    let mut hash = Sha256::new();
    pattern().for_each(|chunk| hash.update(&chunk));
    hex::encode(hash.finalize())
}

#[test]
fn half_a_gibibyte_each_way_is_whole_and_takes_little_memory() -> Outcome {
    // At the default log level: the cost of debug logs for each request is not measured.
    scenario(Setup { log: "info", ..Setup::nodes(1) }, async |cluster| {
        cluster.deploy(&App { vcpu: 2.0, ..App::default() }).await?;
        let expected = pattern_checksum();
        download(&cluster.client(), &expected).await?;
        expect_little_memory(cluster, "after the download")?;
        upload(&cluster.client(), &expected).await?;
        expect_little_memory(cluster, "after the upload")
    })
}

async fn download(client: &Client, expected: &str) -> Result<()> {
    let path = format!("/container/bulk/bytes/{BODY_BYTES}");
    let mut response = client.send(Method::GET, &path, Empty::new().boxed()).await?;
    let (mut hash, mut length) = (Sha256::new(), 0);
    while let Some(frame) = response.body_mut().frame().await {
        let frame = frame.with_context(|| format!("the download broke off after {length} bytes"))?;
        let data = frame.into_data().unwrap_or_default();
        length += data.len() as u64;
        hash.update(&data);
    }
    let checksum = hex::encode(hash.finalize());
    ensure!(length == BODY_BYTES, "{length} bytes came of {BODY_BYTES}");
    ensure!(checksum == expected, "the download is damaged: {checksum}, not {expected}");
    Ok(())
}

async fn upload(client: &Client, expected: &str) -> Result<()> {
    let frames = pattern().map(|chunk| Ok::<_, Infallible>(Frame::data(chunk)));
    let body = StreamBody::new(stream::iter(frames)).boxed();
    let answer = client.exchange(Method::PUT, "/container/bulk/sink", body).await?.success()?;
    let reported: Value = serde_json::from_str(&answer.text)?;
    ensure!(reported["bytes"] == BODY_BYTES, "{reported}");
    ensure!(reported["sha256"] == expected, "the upload is damaged: {reported}, not {expected}");
    Ok(())
}

fn expect_little_memory(cluster: &Cluster, when: &str) -> Result<()> {
    for daemon in [cluster.edge()?, cluster.agent(0)?] {
        let peak = host::peak_memory(daemon.pid())?;
        println!("{when}: {} had at most {} MiB", daemon.name(), peak / MIB);
        ensure!(peak < MEMORY_LIMIT_BYTES, "{when}, {} had up to {} MiB", daemon.name(), peak / MIB);
    }
    Ok(())
}
