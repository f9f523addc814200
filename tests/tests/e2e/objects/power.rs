//! Power cuts: the edge's state lies on a disk that forgets what was not synced. Acknowledged changes must exist
//! afterwards, and none partially.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use berth_tests::admin::Admin;
use berth_tests::app::App;
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::disk::{Disk, Loss, Mounted, Syncs};
use berth_tests::scenario::{Outcome, count, scenario};
use berth_tests::wait;
use fastrand::Rng;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::object_id;

/// How long an edge may take to answer.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest time from a start to the power cut after it, in milliseconds.
const MAX_UPTIME_MS: u64 = 500;
/// Power cuts of one disk, before the next one begins empty: making a store must survive them too.
const CUTS_PER_DISK: usize = 4;
/// Writers of small values; what they wait for becomes durable together.
const WRITERS: usize = 6;
/// Longest large value, in bytes: near the most that an object may keep.
const LARGE_BYTES: usize = 100_000;
/// Keys that a batch puts together.
const KEYS: [&str; 3] = ["left", "middle", "right"];
/// Names a seed to go on from, where a failed run has printed it.
const SEED: &str = "BERTH_SEED";

/// Numbers that writers count up, each under its name.
#[derive(Debug, Default)]
struct Ledger {
    /// The last number that was acknowledged.
    counts: BTreeMap<String, u64>,
    /// Tokens that were made.
    tokens: Vec<String>,
    /// Whether a batch that was not acknowledged may be there in part.
    halves: bool,
}

/// What one writer did: how far it came under its name, and the tokens that it made.
struct Written {
    name: String,
    acknowledged: u64,
    tokens: Vec<String>,
}

/// Writes one number after the other until the edge does not answer any more.
async fn count_up<F: Future<Output = Result<Option<String>>>>(
    name: String,
    from: u64,
    mut write: impl FnMut(u64) -> F,
) -> Written {
    let mut written = Written { name, acknowledged: from, tokens: Vec::new() };
    while let Ok(token) = write(written.acknowledged + 1).await {
        written.acknowledged += 1;
        written.tokens.extend(token);
    }
    written
}

fn kv_path(object: &str) -> Result<String> {
    Ok(format!("/v1/containers/{}/kv", object_id(object)?))
}

/// A value that contains its number, of a length that depends on it.
fn value_of(number: u64, longest: usize) -> Value {
    let length = Rng::with_seed(number).usize(..longest);
    json!(format!("{number} {}", "x".repeat(length)))
}

fn number_in(value: &Value) -> Result<u64> {
    let text = value.as_str().context("a value is no text")?;
    Ok(text.split(' ').next().unwrap_or_default().parse()?)
}

async fn put(admin: &Admin, path: &str, value: &Value) -> Result<Option<String>> {
    let (status, answer) = admin.put(path, value).await?;
    ensure!(status.is_success(), "{status} {answer}");
    Ok(None)
}

async fn post(admin: &Admin, path: &str, body: &Value) -> Result<Value> {
    let (status, answer) = admin.post(path, body).await?;
    ensure!(status.is_success(), "{status} {answer}");
    Ok(answer)
}

/// One put of a value under the writer's name.
async fn put_value(admin: &Admin, name: &str, number: u64, longest: usize) -> Result<Option<String>> {
    put(admin, &format!("{}/value", kv_path(name)?), &value_of(number, longest)).await
}

/// A batch of many keys with the same number as their value.
async fn put_batch(admin: &Admin, name: &str, number: u64) -> Result<Option<String>> {
    let puts: Vec<Value> =
        KEYS.map(|key| json!({ "key": key, "value": value_of(number, LARGE_BYTES / 4).to_string() })).into();
    post(admin, &kv_path(name)?, &json!({ "put": puts, "delete": ["never"] })).await.map(|_| None)
}

async fn make_token(admin: &Admin, number: u64) -> Result<Option<String>> {
    let made = post(admin, "/v1/tokens", &json!({ "name": format!("t{number}"), "scope": "read" })).await?;
    Ok(made["id"].as_str().map(str::to_owned))
}

impl Ledger {
    fn last(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or_default()
    }

    /// Has everybody write until the edge is gone.
    async fn write(&mut self, cluster: &mut Cluster, uptime: Duration) -> Result<()> {
        let (admin, mut writers) = (cluster.admin(), tokio::task::JoinSet::new());
        for index in 0..WRITERS {
            let (admin, name) = (admin.clone(), format!("small-{index}"));
            let from = self.last(&name);
            let write = move |name: String, admin: Admin| {
                move |number| {
                    let (admin, name) = (admin.clone(), name.clone());
                    async move { put_value(&admin, &name, number, 64).await }
                }
            };
            writers.spawn(count_up(name.clone(), from, write(name, admin)));
        }
        let (own, from) = (admin.clone(), self.last("large"));
        writers.spawn(count_up("large".to_owned(), from, move |number| {
            let admin = own.clone();
            async move { put_value(&admin, "large", number, LARGE_BYTES).await }
        }));
        let (own, from) = (admin.clone(), self.last("batch"));
        writers.spawn(count_up("batch".to_owned(), from, move |number| {
            let admin = own.clone();
            async move { put_batch(&admin, "batch", number).await }
        }));
        let (own, from) = (admin.clone(), self.last("token"));
        writers.spawn(count_up("token".to_owned(), from, move |number| {
            let admin = own.clone();
            async move { make_token(&admin, number).await }
        }));
        self.deploy_until_gone(cluster, uptime).await?;
        while let Some(written) = writers.join_next().await {
            let Written { name, acknowledged, tokens } = written?;
            self.counts.insert(name, acknowledged);
            self.tokens.extend(tokens);
        }
        Ok(())
    }

    /// Deploys apps, each with a page of its own, and cuts the edge off in the middle.
    async fn deploy_until_gone(&mut self, cluster: &mut Cluster, uptime: Duration) -> Result<()> {
        let deploying = async {
            loop {
                let number = self.last("page") + 1;
                deploy(cluster, number).await?;
                self.counts.insert("page".to_owned(), number);
            }
        };
        // The command is ended with the edge: it would wait for the next one.
        tokio::select! {
            () = tokio::time::sleep(uptime) => {}
            failed = deploying => return failed,
        }
        cluster.kill_edge()
    }

    /// Fails if anything is missing that was acknowledged, or there in part. What is there counts from now on.
    async fn check(&mut self, cluster: &Cluster) -> Result<()> {
        let admin = cluster.admin();
        for index in 0..WRITERS {
            self.found(&format!("small-{index}"), value(&admin, &format!("small-{index}"), "value").await?)?;
        }
        self.found("large", value(&admin, "large", "value").await?)?;
        self.check_batch(&admin).await?;
        let page = page(cluster).await?;
        self.found("page", page)?;
        check_images(cluster, page)?;
        let tokens = admin.get("/v1/tokens").await?["tokens"].to_string();
        let missing = self.tokens.iter().find(|token| !tokens.contains(token.as_str()));
        ensure!(missing.is_none(), "the token {missing:?} is gone");
        Ok(())
    }

    async fn check_batch(&mut self, admin: &Admin) -> Result<()> {
        let mut found = Vec::new();
        for key in KEYS {
            found.push(value(admin, "batch", key).await?);
        }
        ensure!(self.halves || found.iter().all(|number| *number == found[0]), "half a batch: {found:?}");
        let acknowledged = self.last("batch");
        for number in &found {
            self.found("batch", *number)?;
            self.counts.insert("batch".to_owned(), acknowledged);
        }
        self.found("batch", found[0])
    }

    fn found(&mut self, name: &str, found: u64) -> Result<()> {
        let acknowledged = self.counts.entry(name.to_owned()).or_default();
        ensure!(
            found == *acknowledged || found == *acknowledged + 1,
            "{name}: {acknowledged} was acknowledged, {found} is there"
        );
        *acknowledged = found;
        Ok(())
    }
}

/// The number in an object's value; 0 without one.
async fn value(admin: &Admin, object: &str, key: &str) -> Result<u64> {
    let path = kv_path(object)?;
    let keys = admin.get(&path).await?["keys"].to_string();
    if !keys.contains(&format!("\"{key}\"")) {
        return Ok(0);
    }
    number_in(&admin.get(&format!("{path}/{key}")).await?)
}

/// Deploys an app whose one page, and that page's directory, contain this number.
async fn deploy(cluster: &Cluster, number: u64) -> Result<()> {
    let public = cluster.make_directory("public")?;
    std::fs::write(cluster.make_directory("public/deep")?.join("page.txt"), number.to_string())?;
    let more = format!("[assets]\ndirectory = {:?}\n", public.display().to_string());
    let app = App::default();
    let directory = cluster.make_directory("app-power")?;
    let manifest = app.manifest(&cluster.program(app.program)) + &more;
    std::fs::write(directory.join("berth.toml"), manifest)?;
    let mut command = tokio::process::Command::from(cluster.command("berth"));
    command.args(["deploy", "--allow-unplaceable", "--wait-for", "none"]).arg(&directory);
    command.env("BERTH_ADMIN_SOCKET", cluster.admin().socket()).kill_on_drop(true);
    let output = command.output().await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// The number on the deployed page; 0 without one.
async fn page(cluster: &Cluster) -> Result<u64> {
    if cluster.admin().get("/v1/apps").await?["apps"] == json!([]) {
        return Ok(0);
    }
    let page = cluster.client().get("/deep/page.txt").await?;
    ensure!(page.status == 200, "the page of a deployed app is gone: {page:?}");
    page.text.parse().with_context(|| format!("the page says {:?}", page.text))
}

/// Every image of a deployed app is there and whole.
fn check_images(cluster: &Cluster, deployed: u64) -> Result<()> {
    let mut whole = 0;
    let blobs = cluster.directory().join("edge/images/blobs");
    for blob in std::fs::read_dir(&blobs).into_iter().flatten() {
        let path = blob?.path();
        let digest = hex::encode(Sha256::digest(std::fs::read(&path)?));
        ensure!(path.ends_with(digest), "{} is damaged", path.display());
        whole += 1;
    }
    // A manifest, a configuration, a layer.
    ensure!(deployed == 0 || whole >= 3, "the image of a deployed app is gone: {whole} blobs are there");
    Ok(())
}

/// The edge's state directory on a disk that can lose its power.
struct Powered {
    disk: Disk,
    mounted: Option<Mounted>,
    since: Instant,
}

impl Powered {
    fn new(cluster: &Cluster, syncs: Syncs) -> Result<Self> {
        let disk = Disk::new(syncs);
        let mounted = Some(disk.mount(&state(cluster))?);
        Ok(Self { disk, mounted, since: Instant::now() })
    }

    /// Cuts the power after the edge was killed.
    fn cut(&mut self, cluster: &Cluster, loss: Loss) -> Result<()> {
        self.mounted.take().context("it is mounted")?.unmount()?;
        let lost = self.disk.cut(loss);
        println!("power cut after {:.1?}, {loss:?}: {lost:?} were not synced", self.since.elapsed());
        self.since = Instant::now();
        self.mounted = Some(self.disk.mount(&state(cluster))?);
        Ok(())
    }
}

fn state(cluster: &Cluster) -> std::path::PathBuf {
    cluster.directory().join("edge")
}

async fn start(cluster: &mut Cluster) -> Result<()> {
    cluster.start_edge()?;
    let admin = cluster.admin();
    let answered =
        wait::until("the edge to answer", START_TIMEOUT, async || admin.get("/v1/health").await.map(drop));
    answered.await?;
    cluster.expect_all_alive()
}

fn verify(mut command: Command, state: &Path) -> Result<()> {
    if !state.join("store/db").exists() {
        return Ok(());
    }
    let output = command.args(["store", "verify", "--state"]).arg(state).output()?;
    ensure!(output.status.success(), "berth-edge store verify: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Kinds of power cuts, one of which is drawn each time.
type Losses = &'static [fn(&mut Rng) -> Loss];

fn nothing_is_left(_: &mut Rng) -> Loss {
    Loss::Everything
}

fn something_is_left(chance: &mut Rng) -> Loss {
    Loss::Some(chance.u64(..))
}

fn draw(losses: Losses, chance: &mut Rng) -> Loss {
    losses[chance.usize(..losses.len())](chance)
}

/// One life of the edge and the power cut at its end.
async fn one_cut(
    cluster: &mut Cluster,
    powered: &mut Powered,
    ledger: &mut Ledger,
    chance: &mut Rng,
    losses: Losses,
) -> Result<()> {
    if chance.u8(..3) == 0 {
        // Once more while it opens its store.
        cluster.start_edge()?;
        tokio::time::sleep(Duration::from_millis(chance.u64(..60))).await;
        cluster.kill_edge()?;
        powered.cut(cluster, draw(losses, chance))?;
    }
    if chance.bool() {
        verify(cluster.command("berth-edge"), &state(cluster))?;
    }
    start(cluster).await?;
    ledger.check(cluster).await?;
    ledger.write(cluster, Duration::from_millis(chance.u64(..MAX_UPTIME_MS))).await?;
    powered.cut(cluster, draw(losses, chance))
}

async fn cut_again_and_again(
    cluster: &mut Cluster,
    rounds: usize,
    chance: &mut Rng,
    losses: Losses,
    halves: bool,
) -> Result<()> {
    let mut written = 0;
    for _ in 0..rounds.div_ceil(CUTS_PER_DISK) {
        let (mut powered, mut ledger) =
            (Powered::new(cluster, Syncs::Kept)?, Ledger { halves, ..Ledger::default() });
        for _ in 0..CUTS_PER_DISK {
            one_cut(cluster, &mut powered, &mut ledger, chance, losses).await?;
        }
        verify(cluster.command("berth-edge"), &state(cluster))?;
        start(cluster).await?;
        ledger.check(cluster).await?;
        cluster.kill_edge()?;
        written += ledger.counts.values().sum::<u64>();
    }
    println!("{written} writes were acknowledged");
    ensure!(written > 20 * rounds as u64, "too little was written");
    Ok(())
}

/// Leaves the cluster without an edge, so that nothing of it uses the disk.
async fn without_edge(
    cluster: &mut Cluster,
    steps: impl AsyncFnOnce(&mut Cluster) -> Result<()>,
) -> Result<()> {
    // Containers have no part in it; and an agent takes no edge whose epochs begin anew.
    cluster.kill_agent(0)?;
    cluster.kill_edge()?;
    let outcome = steps(cluster).await;
    if outcome.is_err() {
        cluster.show_logs();
    }
    // Fails where it is killed already.
    let _ = cluster.kill_edge();
    outcome
}

fn power_cuts(halves: bool, losses: Losses) -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        let seed =
            std::env::var(SEED).ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
        println!("{SEED}={seed}");
        let mut chance = Rng::with_seed(seed);
        let cut = without_edge(cluster, async |cluster| {
            cut_again_and_again(cluster, count(10, 100), &mut chance, losses, halves).await
        });
        cut.await.with_context(|| format!("{SEED}={seed}"))
    })
}

#[test]
fn c11_a_power_cut_loses_nothing_that_was_acknowledged_and_leaves_no_half_of_a_batch() -> Outcome {
    power_cuts(false, &[nothing_is_left])
}

#[test]
fn c11_a_power_cut_that_leaves_some_pages_loses_nothing_that_was_acknowledged() -> Outcome {
    power_cuts(true, &[nothing_is_left, something_is_left])
}

#[test]
fn c11_a_power_cut_that_leaves_some_pages_leaves_no_half_of_a_batch() -> Outcome {
    power_cuts(false, &[something_is_left])
}

/// Checks the test itself: a disk whose sync does nothing loses acknowledged data, and this test notices it.
#[test]
fn c11_a_disk_that_does_not_sync_does_lose_what_was_acknowledged() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        without_edge(cluster, async |cluster| {
            let mut powered = Powered::new(cluster, Syncs::Ignored)?;
            let mut ledger = Ledger::default();
            start(cluster).await?;
            ledger.write(cluster, Duration::from_millis(MAX_UPTIME_MS)).await?;
            ensure!(ledger.counts.values().any(|count| *count > 0), "nothing was written");
            powered.cut(cluster, Loss::Everything)?;
            start(cluster).await?;
            match ledger.check(cluster).await {
                Err(error) if error.to_string().contains("was acknowledged") => Ok(()),
                other => bail!("nothing was lost: {other:?}"),
            }
        })
        .await
    })
}
