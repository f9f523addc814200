//! Lists of operations on objects, each made from its seed: what both runtimes make of them must be the same, to the last value
//! and in the same order. `generate` makes lists, `shrink` makes the shortest that still differs.

pub mod generate;
mod shrink;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::header::HOST;
use serde_json::{Value, json};
use tokio::time::timeout;

use self::generate::List;
use super::compare::{Difference, compare_values};
use super::drive::{Target, send};
use super::{case, directory};
use crate::scenario::is_soak;
use crate::workerd::{self, Workerd};

/// Lists whose results are kept, so that they can be checked without workerd. They must fit into a file that can be read in a diff.
pub const KEPT: u64 = 200;
/// Lists when both runtimes are there.
pub const ALL: u64 = 2_000;
/// Lists at once.
const AT_ONCE: usize = 16;
/// How long a list may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The host of the interpreter.
const HOST_NAME: &str = "interpreter.test";

/// How many lists a scenario carries out.
pub fn count() -> u64 {
    if is_soak() { ALL } else { KEPT }
}

/// The project that carries out lists.
pub fn project() -> PathBuf {
    directory().join("interpreter")
}

/// Has the lists of these seeds carried out.
pub async fn run(target: &Target, seeds: Range<u64>) -> Result<BTreeMap<u64, Value>> {
    let runs = seeds.map(|seed| async move { Ok((seed, carry_out(target, &List::of(seed)).await?)) });
    stream::iter(runs).buffer_unordered(AT_ONCE).try_collect().await
}

/// Has workerd carry out the lists of these seeds.
pub async fn on_workerd(seeds: Range<u64>) -> Result<BTreeMap<u64, Value>> {
    let mut server = Workerd::start(&workerd::program().await?, &project()).await?;
    let truth = run(&target(server.address), seeds).await;
    server.kill().await?;
    truth
}

/// The interpreter, on the server at an address.
pub fn target(address: SocketAddr) -> Target {
    Target { address, host: HOST_NAME.to_owned(), origin: String::new() }
}

/// What comes of a list, on objects that nothing has used before.
async fn carry_out(target: &Target, list: &List) -> Result<Value> {
    static USES: AtomicU64 = AtomicU64::new(0);
    let mut list = list.to_json();
    let (one, text) = (USES.fetch_add(1, Ordering::Relaxed), list.to_string());
    // Names do not tell in results: an object's is its own only as far as lists say.
    let mut own = text;
    for name in generate::OBJECTS {
        own = own.replace(&format!("\"{name}\""), &format!("\"{name}-{one}\""));
    }
    list = serde_json::from_str(&own)?;
    let asked = timeout(PATIENCE, ask(target, &list)).await;
    asked.unwrap_or_else(|_| Ok(json!({"failed": "no answer"})))
}

async fn ask(target: &Target, list: &Value) -> Result<Value> {
    let request =
        Request::post("/").header(HOST, &target.host).body(Full::new(Bytes::from(list.to_string())))?;
    let response = send(target.address, request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    if !status.is_success() {
        return Ok(json!({"failed": status.as_u16()}));
    }
    serde_json::from_slice(&body).context("the interpreter's answer")
}

/// The first difference of each list that differs.
pub fn differing(truth: &BTreeMap<u64, Value>, ours: &BTreeMap<u64, Value>) -> Vec<(u64, Difference)> {
    let first = |(seed, truth): (&u64, &Value)| {
        let found = compare_values(&format!("list {seed}"), truth, ours.get(seed)?);
        found.into_iter().next().map(|difference| (*seed, difference))
    };
    truth.iter().filter_map(first).collect()
}

/// A list that differs, in words.
pub fn told((seed, difference): &(u64, Difference)) -> String {
    format!("{difference}\n{}", List::of(*seed))
}

/// The same, after it was made as short as it can be with both runtimes there.
pub async fn told_short(workerd: &Target, berth: &Target, seed: u64) -> Result<String> {
    let differs = async |list: &List| {
        let (truth, ours) = tokio::try_join!(carry_out(workerd, list), carry_out(berth, list))?;
        Ok(compare_values(&format!("list {seed}, made shorter"), &truth, &ours).into_iter().next())
    };
    let (list, difference) = shrink::shortest(List::of(seed), differs).await?;
    Ok(difference
        .map_or(format!("list {seed}: it does not always differ"), |found| format!("{found}\n{list}")))
}

/// Results as they are kept.
pub fn read() -> Result<BTreeMap<u64, Value>> {
    let kept: BTreeMap<u64, Value> = serde_json::from_value(case::json_file(&file())?["lists"].take())?;
    ensure!(!kept.is_empty(), "no lists are kept: just differential");
    Ok(kept)
}

/// Keeps the results of the first lists, one a line.
pub fn write(by: &str, results: &BTreeMap<u64, Value>) -> Result<()> {
    let lines: Vec<String> = results
        .iter()
        .take(usize::try_from(KEPT)?)
        .map(|(seed, result)| format!("\"{seed}\": {result}"))
        .collect();
    let text = format!("{{\"by\": {},\n\"lists\": {{\n{}\n}}}}\n", Value::from(by), lines.join(",\n"));
    Ok(fs::write(file(), text)?)
}

fn file() -> PathBuf {
    directory().join("lists.json")
}
