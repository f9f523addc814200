//! An edge that knows a million objects, each with an alarm that is not due: how soon it answers after a restart, how
//! much memory it takes then, how long it takes to look up one that sleeps, as it says itself (`server-timing`),
//! without HTTP; and how many values a second become durable through its API, compared with redis. And how late alarms
//! are run. `bench-store [OBJECTS]`.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use berth_common::ids::ObjectKey;
use berth_tests::bench::redis::Redis;
use berth_tests::bench::report::Report;
use berth_tests::bench::samples::Samples;
use berth_tests::bench::{alarms, commits};
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::{host, wait};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use sha2::{Digest, Sha256};
use tokio::net::UnixStream;

/// Objects that the edge knows.
const OBJECTS: usize = 1_000_000;
/// Restarts that are timed.
const RESTARTS: usize = 5;
/// Objects that are looked up, spread over all of them.
const LOOKUPS: usize = 20_000;
/// Clients that put values at once, and how long a value is, in bytes.
const CLIENTS: usize = 64;
const VALUE_BYTES: usize = 100;
/// Turns of Berth and redis, and how long one takes.
const TURNS: usize = 5;
const TURN: Duration = Duration::from_secs(4);
/// Values that redis is given in a turn: about as long.
const REDIS_PUTS: usize = 40_000;
/// When the alarms of all objects are due, in milliseconds since 1970: in many years.
const ALARMS_MS: u64 = 9_999_999_999_999;
/// Alarms that go off.
const ALARMS: usize = 100;
/// How long a restart may take before this gives up.
const RESTART_TIMEOUT: Duration = Duration::from_secs(120);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let count = std::env::args().nth(1).map_or(Ok(OBJECTS), |word| word.parse());
    let count = count.context("bench-store [OBJECTS]")?;
    ensure!(count > 0, "bench-store [OBJECTS]: at least one");
    let mut cluster = Cluster::start(Setup { log: "warn", shards: None, ..Setup::nodes(1) }).await?;
    let measured = measure(&mut cluster, count).await;
    let ended = cluster.end();
    let report = measured?;
    ended?;
    report.finish()
}

async fn measure(cluster: &mut Cluster, count: usize) -> Result<Report> {
    fill(cluster, count)?;
    let mut restarts = Samples::default();
    // The first one finds nothing in the caches, and is not counted.
    for round in 0..=RESTARTS {
        if round > 0 {
            cluster.kill_edge()?;
        }
        let took = restart(cluster, count).await?;
        println!("restart {round}: {took:.2?}");
        if round > 0 {
            restarts.add_ms(took);
        }
    }
    let lookups = look_up(cluster, count).await?;
    let mut report = Report::new("store");
    let resident = host::resident_memory(cluster.edge()?.pid())? as f64 / f64::from(1 << 20);
    report.value("objects", count as f64);
    report.value("restart_s", restarts.median() / 1e3);
    report.value("resident_mib", resident);
    report.value("lookup_p50_us", lookups.median() * 1e3);
    report.value("lookup_p99_us", lookups.at(99) * 1e3);
    commit(cluster, &mut report).await?;
    let (set, late) = alarms::measure(cluster, ALARMS).await?;
    report.value("alarm_set_p50_ms", set.median());
    report.value("alarm_late_p50_ms", late.median());
    report.value("alarm_late_p99_ms", late.at(99));
    Ok(report)
}

/// How many values a second become durable through the API, by turns with redis on the same disk.
async fn commit(cluster: &Cluster, report: &mut Report) -> Result<()> {
    let directory = cluster.make_directory("redis")?;
    let redis = Redis::start(&directory)?;
    let (mut berth, mut peer) = (Samples::default(), Samples::default());
    let (mut latencies, mut of_peer) = (Samples::default(), Samples::default());
    for turn in 0..TURNS {
        let path_of = move |client: usize, number: usize| {
            let object = format!("{client:032x}");
            format!("/v1/containers/{object}/kv/turn-{turn}-key-{number}")
        };
        let socket = cluster.admin().socket().to_owned();
        let commits = commits::measure(&socket, CLIENTS, VALUE_BYTES, TURN, path_of).await?;
        let of_redis = redis.measure(CLIENTS, VALUE_BYTES, REDIS_PUTS)?;
        println!("commits/s, turn {turn}: {:.0}, redis {:.0}", commits.per_second, of_redis.per_second);
        berth.add(commits.per_second);
        peer.add(of_redis.per_second);
        latencies.extend(&commits.latencies);
        of_peer.add(of_redis.p50_ms);
    }
    report.value("kv_commits_per_s", berth.median());
    report.value("kv_commit_p50_ms", latencies.median());
    report.value("kv_commit_p99_ms", latencies.at(99));
    report.value("redis_commits_per_s", peer.median());
    report.value("redis_commit_p50_ms", of_peer.median());
    report.ratio("kv_commits_per_s", berth.median(), peer.median());
    report.remark(format!(
        "durable puts of {VALUE_BYTES} bytes by {CLIENTS} clients that wait for each: over HTTP here, and beside it \
         redis-benchmark with `appendfsync always`; clients and servers share the machine"
    ));
    Ok(())
}

fn key(index: usize) -> Result<ObjectKey> {
    let name = format!("object-{index}").parse()?;
    Ok(ObjectKey { app: "bench".parse()?, class: "Sleeper".parse()?, name })
}

/// Gives the edge a store with so many objects.
fn fill(cluster: &mut Cluster, count: usize) -> Result<()> {
    cluster.kill_edge()?;
    let export = cluster.directory().join("export.jsonl");
    write_export(&export, count)?;
    println!("importing {count} objects ...");
    let mut command = cluster.command("berth-edge");
    command.args(["store", "import", "--replace", "--state"]).arg(cluster.directory().join("edge"));
    let status = command.arg("--input").arg(&export).status().context("berth-edge store import")?;
    ensure!(status.success(), "berth-edge store import: {status}");
    fs::remove_file(export)?;
    Ok(())
}

fn write_export(path: &Path, count: usize) -> Result<()> {
    let mut to = BufWriter::new(File::create(path)?);
    let mut digest = Sha256::new();
    writeln!(to, "{{\"berth_store\":3,\"epoch\":1}}")?;
    for index in 0..count {
        let line = format!(
            "{{\"object\":{{\"key\":{},\"generation\":1,\"state\":{{\"stopped\":{{\"outcome\":{{\"reason\":\"idle\",\
             \"code\":0}}}}}},\"last_change_ms\":1700000000000}}}}\n",
            serde_json::to_string(&key(index)?)?
        );
        let alarm = format!(
            "{{\"schedule\":{{\"id\":\"{:032x}\",\"key\":{},\"what\":{{\"callback\":\"alarm\"}},\
             \"scheduled_ms\":{ALARMS_MS},\"due_ms\":{ALARMS_MS}}}}}\n",
            0,
            serde_json::to_string(&key(index)?)?
        );
        for line in [line, alarm] {
            digest.update(&line);
            to.write_all(line.as_bytes())?;
        }
    }
    let sum: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let lines = 2 * count;
    writeln!(to, "{{\"lines\":{lines},\"sha256\":\"{sum}\"}}")?;
    Ok(to.flush()?)
}

/// The time from the start of the process to its first answer about an object.
async fn restart(cluster: &mut Cluster, count: usize) -> Result<Duration> {
    let path = format!("/v1/containers/{}", key(count / 2)?.id());
    let began = Instant::now();
    cluster.start_edge()?;
    let admin = cluster.admin();
    wait::until("the edge to answer", RESTART_TIMEOUT, async || admin.get(&path).await.map(drop)).await?;
    Ok(began.elapsed())
}

/// How long the edge takes to look up objects that sleep, one after the other.
async fn look_up(cluster: &Cluster, count: usize) -> Result<Samples> {
    let stream = UnixStream::connect(cluster.admin().socket()).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let mut samples = Samples::default();
    for number in 0..LOOKUPS {
        // A stride that is no divisor meets all parts of the store.
        let index = number * 7_919 % count;
        samples.add_ms(look_up_one(&mut sender, index).await?);
    }
    Ok(samples)
}

async fn look_up_one(sender: &mut SendRequest<Empty<Bytes>>, index: usize) -> Result<Duration> {
    let path = format!("/v1/containers/{}", key(index)?.id());
    let request = Request::get(path).header("host", "localhost").body(Empty::new())?;
    sender.ready().await?;
    let response = sender.send_request(request).await?;
    ensure!(response.status().is_success(), "object {index}: {}", response.status());
    let timing = response.headers().get("server-timing").context("no server-timing")?.to_str()?.to_owned();
    response.into_body().collect().await?;
    let ms: f64 = timing.rsplit_once("dur=").context("no duration")?.1.parse()?;
    Ok(Duration::from_secs_f64(ms / 1e3))
}
