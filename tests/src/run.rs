//! The directory of this process's clusters: copies of the programs that the daemons' user can execute, wherever the
//! checkout is; and the removal of the leftovers of earlier runs that were killed.
//!
//! ```text
//!  /var/lib/berth/test/PID-START/bin/        copies of the programs
//!  /var/lib/berth/test/PID-START/SCENARIO/   state of one cluster
//!  cgroup /berth/PID-START-SCENARIO-NODE
//! ```

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use anyhow::{Context, Result};
use berth_cluster::leftovers;

use crate::machine::{self, Machine};
use crate::programs::{self, Programs};
use crate::{cgroup, disk, host, slots, world};

/// Where the copies of the programs are.
const PROGRAMS: &str = "bin";

static CURRENT: Mutex<Weak<Run>> = Mutex::new(Weak::new());

/// This process's directory, for as long as a cluster needs it.
#[derive(Debug)]
pub struct Run {
    name: String,
    directory: PathBuf,
    machine: Machine,
}

impl Run {
    /// The run of this process; made, after a sweep, at the first call.
    pub fn current() -> Result<Arc<Self>> {
        let programs = Programs::get()?;
        let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(run) = current.upgrade() {
            return Ok(run);
        }
        let run = Arc::new(Self::begin(programs)?);
        *current = Arc::downgrade(&run);
        Ok(run)
    }

    fn begin(built: &Programs) -> Result<Self> {
        let machine = Machine::prepare(&built.path("berth-agent"))?;
        sweep_dead_runs(&machine)?;
        let own = std::process::id();
        let name = format!("{own}-{}", host::started_at(own).context("this process has no start time")?);
        let directory = machine.state().join(&name);
        let programs = directory.join(PROGRAMS);
        machine.make_directory(&directory)?;
        machine.make_directory(&programs)?;
        for program in programs::ALL {
            copy(&built.path(program), &programs.join(program))?;
        }
        // Last: its end waits for the lock that is held while it is made.
        Ok(Self { name, directory, machine })
    }

    /// `PID-START`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the clusters' directories are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Who runs the daemons.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Where the copies of the programs are.
    pub fn programs(&self) -> PathBuf {
        self.directory.join(PROGRAMS)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have begun the next one since the last cluster ended: it has the same directory.
        if current.strong_count() > 0 {
            return;
        }
        if let Err(error) = machine::remove_directory(&self.directory) {
            eprintln!("cleaning up after the tests: {error:#}");
        }
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("copy {} to {}", from.display(), to.display()))?;
    Ok(fs::set_permissions(to, fs::Permissions::from_mode(0o755))?)
}

/// Removes the leftovers of runs whose process is gone. Their daemons have ended by themselves, unless something is
/// wrong.
fn sweep_dead_runs(machine: &Machine) -> Result<()> {
    for entry in fs::read_dir(machine.state()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| is_dead(name)) else { continue };
        eprintln!("sweeping up after the dead run {name}");
        sweep(machine, name, &entry.path()).with_context(|| format!("sweep up after the dead run {name}"))?;
    }
    Ok(())
}

fn is_dead(name: &str) -> bool {
    let parts =
        name.split_once('-').and_then(|(pid, start)| Some((pid.parse().ok()?, start.parse::<u64>().ok()?)));
    parts.is_some_and(|(pid, start)| host::started_at(pid) != Some(start))
}

fn sweep(machine: &Machine, name: &str, directory: &Path) -> Result<()> {
    let groups = cgroup::beginning_with(machine.cgroup(), &format!("{name}-"));
    // What runs from a dead run's programs or in its cgroups.
    let left = || {
        let contained = groups.iter().flat_map(|group| cgroup::processes(group));
        let contained = contained.filter_map(|pid| u32::try_from(pid).ok());
        host::processes_running(directory).into_iter().chain(contained).collect()
    };
    leftovers::sweep(left, Duration::ZERO);
    groups.iter().try_for_each(|group| cgroup::remove(group))?;
    slots::sweep(directory)?;
    disk::sweep(directory)?;
    world::sweep(&format!("berth-{name}-"))?;
    machine::remove_directory(directory)
}
