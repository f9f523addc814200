//! Records what workerd makes of the cases in `tests/differential`, and shows where Berth differs: `differential [CASE]`. `lists` is
//! the case of the lists of operations; of those, as many as there are without workerd are kept.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Result;
use berth_tests::cluster::Cluster;
use berth_tests::differential::case::{Case, Step};
use berth_tests::differential::compare::accepted;
use berth_tests::differential::drive::{Target, drive};
use berth_tests::differential::origin::Origin;
use berth_tests::differential::truth::Truth;
use berth_tests::differential::{berth, fuzz};
use berth_tests::workerd::{self, Workerd};
use serde_json::Value;

/// The word for the lists of operations.
const LISTS: &str = "lists";
/// Most lists that are shown.
const SHOWN: usize = 10;

fn main() -> Result<ExitCode> {
    let only = std::env::args().nth(1).filter(|word| !word.is_empty());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let faults = runtime.block_on(compare(only.as_deref()))?;
    for fault in &faults {
        println!("{fault}\n");
    }
    if !faults.is_empty() {
        println!("Berth differs in {} of them", faults.len());
        return Ok(ExitCode::FAILURE);
    }
    println!("nothing differs but what may");
    Ok(ExitCode::SUCCESS)
}

async fn compare(only: Option<&str>) -> Result<Vec<String>> {
    let program = workerd::program().await?;
    let cases = if only == Some(LISTS) { Vec::new() } else { Case::all(only)? };
    for case in cases.iter().filter(|case| case.drive.by_hand.is_none()) {
        let mut server = Workerd::start(&program, &case.directory).await?;
        record(&mut server, case).await?.write(case)?;
        server.kill().await?;
    }
    let mut cluster = Cluster::start(berth::setup()).await?;
    let faults = on_berth(&mut cluster, &cases, only).await;
    drop(cluster.end());
    faults
}

async fn record(server: &mut Workerd, case: &Case) -> Result<Truth> {
    let origin = Origin::start().await?;
    let target = Target { address: server.address, host: case.host(), origin: origin.url() };
    let mut outcomes = Vec::new();
    for steps in case.drive.steps.chunk_by(|_, next| !matches!(next, Step::Restart { .. })) {
        if matches!(steps.first(), Some(Step::Restart { .. })) {
            server.restart().await?;
        }
        outcomes.extend(drive(&target, steps).await?);
    }
    let restarts = case.drive.steps.iter().any(|step| matches!(step, Step::Restart { .. }));
    let console = if restarts { Vec::new() } else { server.console()? };
    Ok(Truth { by: format!("workerd {}", workerd::VERSION), steps: outcomes, console })
}

async fn on_berth(cluster: &mut Cluster, cases: &[Case], only: Option<&str>) -> Result<Vec<String>> {
    let mut faults = berth::run(cluster, cases, &accepted()?).await?;
    println!("{} of {} cases differ in what is not accepted", faults.len(), cases.len());
    if only.is_none_or(|only| only == LISTS) {
        faults.extend(lists(cluster).await?);
    }
    Ok(faults)
}

/// All lists on both runtimes; those that differ are made shorter.
async fn lists(cluster: &Cluster) -> Result<Vec<String>> {
    let mut server = Workerd::start(&workerd::program().await?, &fuzz::project()).await?;
    let workerd = fuzz::target(server.address);
    let truth = fuzz::run(&workerd, 0..fuzz::ALL).await?;
    fuzz::write(&format!("workerd {}", workerd::VERSION), &truth)?;
    berth::deploy(cluster, "interpreter", &fuzz::project()).await?;
    let berth = fuzz::target(cluster.address());
    let began = std::time::Instant::now();
    let ours: BTreeMap<u64, Value> = fuzz::run(&berth, 0..fuzz::ALL).await?;
    let differing = fuzz::differing(&truth, &ours);
    println!("{} of {} lists differ ({:?} on Berth)", differing.len(), truth.len(), began.elapsed());
    let mut told = Vec::new();
    for (seed, _) in differing.iter().take(SHOWN) {
        told.push(fuzz::told_short(&workerd, &berth, *seed).await?);
    }
    server.kill().await?;
    Ok(told)
}
