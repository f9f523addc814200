//! What programs do here beside what they do on workerd, whose answers are kept in `tests/differential`.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use berth_tests::cluster::Cluster;
use berth_tests::differential::case::Case;
use berth_tests::differential::compare::accepted;
use berth_tests::differential::{berth, fuzz};
use berth_tests::scenario::{Outcome, is_soak, scenario};
use serde_json::Value;

#[test]
fn programs_do_as_on_workerd() -> Outcome {
    scenario(berth::setup(), async |cluster| {
        let (cases, accepted) = (Case::all(None)?, accepted()?);
        let strange = accepted.iter().find(|one| !cases.iter().any(|case| case.name == one.case));
        ensure!(strange.is_none(), "there is no such case: {strange:?}");
        let faults = berth::run(cluster, &cases, &accepted).await?;
        ensure!(
            faults.is_empty(),
            "{} of {} cases differ:\n{}",
            faults.len(),
            cases.len(),
            faults.join("\n\n")
        );
        Ok(())
    })
}

#[test]
fn lists_of_operations_come_to_the_same_as_on_workerd() -> Outcome {
    scenario(berth::setup(), async |cluster| lists(cluster).await)
}

async fn lists(cluster: &Cluster) -> Result<()> {
    berth::deploy(cluster, "interpreter", &fuzz::project()).await?;
    let truth = truth().await?;
    let ours = fuzz::run(&fuzz::target(cluster.address()), 0..fuzz::count()).await?;
    ensure!(truth.keys().eq(ours.keys()), "{} lists are kept", truth.len());
    let differing: Vec<String> = fuzz::differing(&truth, &ours).iter().map(fuzz::told).collect();
    ensure!(differing.is_empty(), "{} lists differ:\n{}", differing.len(), differing.join("\n\n"));
    Ok(())
}

/// What workerd makes of the lists: what is kept, or in a soak, as there are too many to keep, what it says now.
async fn truth() -> Result<BTreeMap<u64, Value>> {
    if is_soak() { fuzz::on_workerd(0..fuzz::count()).await } else { fuzz::read() }
}
