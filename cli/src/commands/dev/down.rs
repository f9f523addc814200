//! `berth dev down`: ends what runs, and cleans up after processes that were killed.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use berth_cluster::daemons::ENDS_WITHIN;
use berth_cluster::owner::is_root;
use berth_cluster::state_dir::{Lock, Locked, StateDir};
use berth_cluster::{cgroup, machine};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::home;
use super::location::Location;
use crate::args::DevDown;
use crate::output;

/// How often to poll whether a `berth dev` has ended: a file lock gives no notification.
const INTERVAL: Duration = Duration::from_millis(20);

pub(super) async fn run(args: &DevDown) -> Result<()> {
    let location = Location::of(&args.at)?;
    if !location.state.path().exists() {
        return Ok(output::line("nothing is there")?);
    }
    if args.dry_run {
        return show_plan(&location, args.purge);
    }
    let lock = take_over(&location.state).await?;
    home::sweep(&location.state);
    output::line("nothing runs")?;
    if args.purge {
        purge(&location)?;
        output::line(format_args!("removed the state in {}", location.state.path().display()))?;
    }
    drop(lock);
    Ok(())
}

fn show_plan(location: &Location, purge: bool) -> Result<()> {
    match location.state.lock()? {
        Locked::By(Some(holder)) => {
            output::line(format_args!("`berth dev` (process {holder}) would end, and every container"))?;
        }
        Locked::By(None) => output::line("`berth dev` would end, and every container")?,
        Locked::Taken(_) => output::line("nothing runs, but for what a killed `berth dev` may have left")?,
    }
    if purge {
        output::line(format_args!("would be removed: {}", location.state.path().display()))?;
    }
    Ok(())
}

/// Ends the `berth dev` that runs there, and takes its lock.
async fn take_over(state: &StateDir) -> Result<Lock> {
    for (signal, patience) in [(Signal::SIGTERM, ENDS_WITHIN), (Signal::SIGKILL, INTERVAL * 50)] {
        let mut announced = None;
        let deadline = tokio::time::Instant::now() + patience;
        while tokio::time::Instant::now() < deadline {
            match state.lock()? {
                Locked::Taken(lock) => return Ok(lock),
                Locked::By(Some(holder)) if announced != Some(holder) => {
                    // One that ends at this moment releases the lock.
                    let _ = kill(Pid::from_raw(holder), signal);
                    announced = Some(holder);
                }
                Locked::By(_) => {}
            }
            tokio::time::sleep(INTERVAL).await;
        }
        output::note!("warning: after {signal}, `berth dev` did not end within {patience:?}");
    }
    bail!("{} is still held", state.path().join("lock").display())
}

/// Only what `berth dev` has made.
fn purge(location: &Location) -> Result<()> {
    let agent = location.state.program("berth-agent");
    for node in home::nodes_in(&location.state) {
        if is_root() && agent.exists() {
            machine::remove_disk_slots(&agent, &node)?;
        }
    }
    let groups = cgroup::beginning_with(Path::new(machine::CGROUP), &format!("{}-", location.name));
    groups.iter().filter(|_| is_root()).try_for_each(|group| cgroup::remove(group))?;
    location.remove().context("cannot remove the state")
}
