//! Cases on Berth: all on one edge, each deployed from its directory with `berth deploy`, as a user does.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::stream::{self, StreamExt};
use serde_json::Value;
use tokio::time::sleep;

use super::case::{Case, Step, Timing};
use super::compare::{Accepted, faults};
use super::drive::{Target, drive};
use super::origin::Origin;
use super::truth::Truth;
use crate::cluster::{Cluster, Setup};
use crate::programs::HELLO;

/// Cases at once: they mostly wait, for timers and for the disk.
const AT_ONCE: usize = 6;
/// How long lines of a console may be on their way, and a pause between looks.
const LINES_WITHIN: Duration = Duration::from_secs(5);
const LINES_PAUSE: Duration = Duration::from_millis(50);
/// Files of a case that are none of its program's.
const OURS: [&str; 2] = ["drive.json", "truth.json"];
/// What is in lines about what a program did not catch, of which workerd writes none to its output: the number that the client was
/// told, or the word before it.
const FAILED: &str = " (error ";
const UNCAUGHT: &str = "Uncaught ";

/// A cluster for cases: one node, as some have containers. Programs may reach this machine, where `Origin` is.
pub fn setup() -> Setup {
    let edge_options = ["--allow-hooks-to", "127.0.0.0/8"].map(str::to_owned).to_vec();
    Setup { log: "error", edge_options, ..Setup::nodes(1) }
}

/// Runs cases and says what is wrong with each.
pub async fn run(cluster: &mut Cluster, cases: &[Case], accepted: &[Accepted]) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    let (alone, together): (Vec<_>, Vec<_>) =
        cases.iter().partition(|case| case.drive.timing == Timing::Alone);
    let shared = &*cluster;
    let runs = together.into_iter().map(async |case| (case, beside_others(shared, case).await));
    let outcomes: Vec<_> = stream::iter(runs).buffer_unordered(AT_ONCE).collect().await;
    for (case, outcome) in outcomes {
        faults.extend(judged(case, outcome, accepted));
    }
    for case in alone {
        let outcome = run_alone(cluster, case).await;
        faults.extend(judged(case, outcome, accepted));
    }
    faults.sort();
    Ok(faults)
}

fn judged(case: &Case, outcome: Result<Truth>, accepted: &[Accepted]) -> Option<String> {
    let judged = outcome.and_then(|ours| Ok(faults(&case.name, &Truth::read(case)?, &ours, accepted)));
    match judged {
        Ok(faults) if faults.is_empty() => None,
        Ok(faults) => Some(format!("{}:\n{}", case.name, faults.join("\n"))),
        Err(error) => Some(format!("{}: {error:#}", case.name)),
    }
}

async fn beside_others(cluster: &Cluster, case: &Case) -> Result<Truth> {
    deploy(cluster, &case.name, &case.directory).await?;
    let origin = Origin::start().await?;
    let steps = drive(&target(cluster, case, &origin), &case.drive.steps).await?;
    finish(cluster, case, steps).await
}

async fn run_alone(cluster: &mut Cluster, case: &Case) -> Result<Truth> {
    deploy(cluster, &case.name, &case.directory).await?;
    let (origin, mut outcomes) = (Origin::start().await?, Vec::new());
    for steps in case.drive.steps.chunk_by(|_, next| !matches!(next, Step::Restart { .. })) {
        if matches!(steps.first(), Some(Step::Restart { .. })) {
            cluster.kill_edge()?;
            cluster.start_edge()?;
            cluster.until_connected().await?;
        }
        outcomes.extend(drive(&target(cluster, case, &origin), steps).await?);
    }
    finish(cluster, case, outcomes).await
}

fn target(cluster: &Cluster, case: &Case, origin: &Origin) -> Target {
    Target { address: cluster.address(), host: case.host(), origin: origin.url() }
}

/// Deploys the project in a directory. It is copied: whoever runs the daemons may not read the checkout.
pub async fn deploy(cluster: &Cluster, name: &str, project: &Path) -> Result<()> {
    let directory = cluster.make_directory(&format!("case-{name}"))?;
    copy(project, &directory)?;
    if directory.join("package.json").exists() {
        install(&directory).await?;
        fs::copy(cluster.program(HELLO), directory.join(HELLO)).context("copy the program of containers")?;
    }
    let path = directory.to_string_lossy();
    let output = cluster.berth(&["deploy", &path, "--force", "--allow-unplaceable"]).await?;
    ensure!(output.status.success(), "berth deploy: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// Installs the packages that a case imports.
async fn install(directory: &Path) -> Result<()> {
    let mut npm = tokio::process::Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock"]);
    let output = npm.current_dir(directory).output().await.context("a case imports packages: run npm")?;
    ensure!(output.status.success(), "npm install: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (name, to) = (entry.file_name(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            fs::create_dir_all(&to)?;
            copy(&entry.path(), &to)?;
        } else if !OURS.iter().any(|ours| name == *ours) {
            fs::copy(entry.path(), &to).with_context(|| format!("copy {}", entry.path().display()))?;
        }
    }
    Ok(())
}

/// What came of a case, with the lines of its console, for which as many are waited for as there are to be.
async fn finish(cluster: &Cluster, case: &Case, steps: Vec<Value>) -> Result<Truth> {
    // An edge that was killed has no lines of before.
    let restarts = case.drive.timing == Timing::Alone;
    let expected = Truth::read(case).map_or(0, |truth| truth.console.len());
    let console = if restarts { Vec::new() } else { console(cluster, &case.name, expected).await? };
    Ok(Truth { by: "berth".to_owned(), steps, console })
}

/// The lines of a program's console, for as many of which is waited.
async fn console(cluster: &Cluster, app: &str, expected: usize) -> Result<Vec<String>> {
    let mut left = LINES_WITHIN;
    loop {
        let console = lines(cluster, app).await?;
        if console.len() >= expected || left.is_zero() {
            return Ok(console);
        }
        sleep(LINES_PAUSE).await;
        left = left.saturating_sub(LINES_PAUSE);
    }
}

/// The lines that a program wrote itself.
async fn lines(cluster: &Cluster, app: &str) -> Result<Vec<String>> {
    let text = cluster.admin().text(&format!("/v1/apps/{app}/logs")).await?;
    let mut found = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let line: Value = serde_json::from_str(line)?;
        let text = line["text"].as_str().context("a line without a text")?;
        let of_container = !line["class"].is_null();
        if !of_container && line["stream"] != "berth" && !text.contains(FAILED) && !text.starts_with(UNCAUGHT)
        {
            // Several at once where one was written with line breaks.
            found.extend(text.split('\n').map(str::to_owned));
        }
    }
    Ok(found)
}
