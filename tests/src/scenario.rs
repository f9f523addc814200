//! How a scenario runs: in a cluster of its own, in bounded time, with the daemons' logs shown when it fails, and with
//! a check afterwards whether anything is left.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Error, Result};

use crate::cluster::{Cluster, Setup};

/// How long a scenario may take: far more than the longest one on a busy machine.
const LIMIT: Duration = Duration::from_secs(150);
/// The same with full counts.
const SOAK_LIMIT: Duration = Duration::from_secs(1800);

/// Whether counts are full ones (`BERTH_SOAK=1`), which takes long, or small ones.
pub fn is_soak() -> bool {
    std::env::var_os("BERTH_SOAK").is_some_and(|value| value == "1")
}

/// A count: the first one, or the full one in a soak.
pub fn count(small: usize, full: usize) -> usize {
    if is_soak() { full } else { small }
}

/// How a scenario went.
pub type Outcome = Result<(), Failure>;

/// Why a scenario failed, as text: the backtrace of the test says less, and is not shown.
pub struct Failure(Error);

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.0)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

/// Runs a scenario in a new cluster.
pub fn scenario(setup: Setup, steps: impl AsyncFnOnce(&mut Cluster) -> Result<()>) -> Outcome {
    Ok(run(setup, steps)?)
}

fn run(setup: Setup, steps: impl AsyncFnOnce(&mut Cluster) -> Result<()>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut cluster = runtime.block_on(Cluster::start(setup))?;
    let outcome = runtime.block_on(async { tokio::time::timeout(limit(), steps(&mut cluster)).await });
    // With the runtime end all connections of the clients.
    drop(runtime);
    let outcome = outcome.with_context(|| format!("the scenario did not end within {:?}", limit()));
    if outcome.is_err() || outcome.as_ref().is_ok_and(Result::is_err) {
        cluster.show_logs();
    }
    let ended = cluster.end();
    outcome??;
    ended
}

fn limit() -> Duration {
    if is_soak() { SOAK_LIMIT } else { LIMIT }
}
