//! What programs do here beside what they do on workerd, whose answers are kept in `tests/differential`.

use anyhow::ensure;
use berth_tests::differential::berth;
use berth_tests::differential::case::Case;
use berth_tests::differential::compare::accepted;
use berth_tests::scenario::{Outcome, scenario};

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
