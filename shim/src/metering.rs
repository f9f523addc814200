//! Measures the usage of an instance, and saves it so that it survives a crash of the process that measures it.
//!
//! ```text
//! shim   ── the app runs ─▶ started.json        ── its first process is reaped ─▶ exit.json, with the outcome
//! agent  ── regularly ────▶ seen.json           (tunnel bytes, which only the agent knows; and a sign of life)
//! sweep  ── dead shim ────▶ exit.json, estimated from the two
//! ```
//!
//! A life is measured on `CLOCK_BOOTTIME`, which includes suspension. The time of day is recorded once, at its start.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use berth_common::metering::{Metered, steps};
use berth_common::outcome::Outcome;
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::state_files::{read_json, write_json_fast};

/// The start of an instance's app.
const STARTED: &str = "started.json";
/// The usage as last saved by the agent.
const SEEN: &str = "seen.json";
/// A random id that the kernel makes at each boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// How an instance ended, and its usage if its app was started: `exit.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// Its usage without the bytes of tunnels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metered: Option<Metered>,
}

impl From<Outcome> for Ended {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, metered: None }
    }
}

impl Ended {
    /// Adds what the agent knows: the bytes of tunnels, and its region.
    #[must_use]
    pub fn with(mut self, carried: Carried, region: Option<&str>) -> Self {
        if let Some(metered) = &mut self.metered {
            metered.region = region.map(str::to_owned);
            metered.received_bytes = metered.received_bytes.saturating_add(carried.received_bytes);
            metered.sent_bytes = metered.sent_bytes.saturating_add(carried.sent_bytes);
        }
        self
    }
}

/// Bytes of tunnels to and from the app.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// To the app.
    pub received_bytes: u64,
    /// From it.
    pub sent_bytes: u64,
}

/// The usage of a running instance as saved by the agent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Seen {
    /// Bytes of tunnels, of all agents so far.
    pub carried: Carried,
    /// CPU time since the start of its app, in microseconds.
    pub cpu_us: u64,
    /// Received from the internet, in bytes.
    pub received_bytes: u64,
    /// Sent to the internet, in bytes.
    pub sent_bytes: u64,
}

impl Seen {
    /// Reads the file in an instance's directory; zeros if it is missing.
    pub fn read(directory: &Path) -> Self {
        read_json(&directory.join(SEEN)).ok().flatten().unwrap_or_default()
    }

    /// Writes it without syncing: it may be lost in a crash of the machine.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        write_json_fast(&directory.join(SEEN), self)
    }
}

/// The start of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Started {
    /// In milliseconds since 1970.
    started_ms: u64,
    /// On `CLOCK_BOOTTIME`.
    uptime: Duration,
    /// The boot id.
    boot: String,
    /// CPU time used to make the container, which does not count, in microseconds.
    cpu_us: u64,
}

impl Started {
    fn now(cpu_us: u64) -> Self {
        Self { started_ms: wall_ms(SystemTime::now()), uptime: uptime(), boot: boot(), cpu_us }
    }
}

/// Measures the life of one instance, in its shim.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    started: Option<Started>,
    /// When its first process was reaped, on `CLOCK_BOOTTIME`.
    ended: Option<Duration>,
    /// Bytes to and from the internet, cached because they cannot be read after the network is gone.
    traffic: (u64, u64),
}

impl Meter {
    /// Records the start of the app, also in the instance's directory in case this process dies.
    pub(crate) fn start(&mut self, directory: &Path, cpu_us: u64) -> io::Result<()> {
        let started = self.started.insert(Started::now(cpu_us));
        write_json_fast(&directory.join(STARTED), started)
    }

    /// Records the end of its first process. Only the first call counts.
    pub(crate) fn end(&mut self) {
        self.ended.get_or_insert_with(uptime);
    }

    /// Updates the counters of the network; the maximum is kept.
    pub(crate) fn network(&mut self, (received, sent): (u64, u64)) -> (u64, u64) {
        self.traffic = (self.traffic.0.max(received), self.traffic.1.max(sent));
        self.traffic
    }

    /// CPU time since the app's start, from the total of its cgroup.
    pub(crate) fn cpu_us(&self, total_us: u64) -> u64 {
        self.started.as_ref().map_or(total_us, |started| total_us.saturating_sub(started.cpu_us))
    }

    /// When the app was started, in milliseconds since 1970, and its lifetime in steps, if it was started.
    pub(crate) fn life(&self) -> Option<(u64, u64)> {
        let started = self.started.as_ref()?;
        let end = self.ended.unwrap_or_else(uptime);
        Some((started.started_ms, steps(end.saturating_sub(started.uptime))))
    }

    /// Its usage if it ran, from the total of its cgroup.
    pub(crate) fn metered(&self, total_us: u64) -> Option<Metered> {
        let (started_ms, lived_cs) = self.life()?;
        let (received_bytes, sent_bytes) = self.traffic;
        let cpu_us = self.cpu_us(total_us);
        Some(Metered {
            started_ms,
            lived_cs,
            cpu_us,
            received_bytes,
            sent_bytes,
            region: None,
            estimated: false,
        })
    }
}

/// The estimated usage of an instance whose shim is gone, if it ran. Its end is now, or after a reboot the time of its
/// last saved usage. `total_us`: the CPU time of its cgroup, if it still exists.
pub fn estimate(directory: &Path, total_us: Option<u64>) -> Option<Metered> {
    let started: Started = read_json(&directory.join(STARTED)).ok().flatten()?;
    let seen = Seen::read(directory);
    let lived = if started.boot == boot() {
        uptime().saturating_sub(started.uptime)
    } else {
        Duration::from_millis(last_sign_ms(directory).saturating_sub(started.started_ms))
    };
    let cpu_us = total_us.map_or(0, |total| total.saturating_sub(started.cpu_us)).max(seen.cpu_us);
    let Seen { received_bytes, sent_bytes, .. } = seen;
    Some(Metered { cpu_us, received_bytes, sent_bytes, ..Metered::estimate(started.started_ms, lived) })
}

/// When one of the two files was last written, in milliseconds since 1970.
fn last_sign_ms(directory: &Path) -> u64 {
    let written = |name| fs::metadata(directory.join(name)).and_then(|file| file.modified());
    [STARTED, SEEN].into_iter().filter_map(|name| written(name).ok()).map(wall_ms).max().unwrap_or_default()
}

/// For how long no file of this directory was lost: since it was made, or since the boot, because a crash may have lost
/// files that were not synced.
pub fn kept_for(directory: &Path) -> Option<Duration> {
    let made = fs::metadata(directory).and_then(|directory| directory.created()).ok();
    let age = made.and_then(|made| made.elapsed().ok());
    Some(age.map_or_else(uptime, |age| age.min(uptime())))
}

/// `CLOCK_BOOTTIME`.
fn uptime() -> Duration {
    // This clock exists on every Linux that Berth supports.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

fn boot() -> String {
    fs::read_to_string(BOOT_ID).unwrap_or_default().trim().to_owned()
}

fn wall_ms(at: SystemTime) -> u64 {
    u64::try_from(at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_an_end_is_read_by_older_and_newer_agents() {
        let metered = Metered { cpu_us: 5, estimated: false, ..Metered::estimate(7, Duration::from_secs(1)) };
        let ended = Ended { outcome: Outcome::exited(3), metered: Some(metered) };
        let text = serde_json::to_string(&ended).unwrap();
        assert_eq!(serde_json::from_str::<Ended>(&text).unwrap(), ended);
        assert_eq!(serde_json::from_str::<Outcome>(&text).unwrap(), ended.outcome, "an older agent");
        let older = serde_json::to_string(&ended.outcome).unwrap();
        assert_eq!(serde_json::from_str::<Ended>(&older).unwrap(), Outcome::exited(3).into());
    }

    #[test]
    fn a_life_is_measured_from_its_start_to_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let mut meter = Meter::default();
        assert_eq!(meter.metered(9), None, "what never ran has no life");
        meter.start(directory.path(), 40).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        meter.end();
        let lived = meter.metered(0).unwrap().lived_cs;
        std::thread::sleep(Duration::from_millis(30));
        meter.end();
        meter.network((10, 20));
        meter.network((0, 0));
        let metered = meter.metered(100).unwrap();
        assert_eq!((metered.lived_cs, metered.cpu_us), (lived, 60));
        assert_eq!((metered.received_bytes, metered.sent_bytes), (10, 20));
        assert!(lived >= 5, "{lived}");
    }

    #[test]
    fn what_nobody_saw_the_end_of_is_estimated() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        assert_eq!(estimate(path, Some(1)), None, "it never ran");
        Meter::default().start(path, 40).unwrap();
        let seen = Seen { cpu_us: 70, sent_bytes: 3, ..Seen::default() };
        seen.write(path).unwrap();
        let now = estimate(path, Some(90)).unwrap();
        assert_eq!((now.cpu_us, now.sent_bytes, now.estimated), (70, 3, true));
        assert_eq!(estimate(path, Some(900)).unwrap().cpu_us, 860);

        // Before an earlier start of the machine (files have a coarser clock): until the last sign of life, and not a
        // moment longer.
        let hour = Duration::from_secs(3600);
        let started = Started {
            started_ms: wall_ms(SystemTime::now() - hour),
            uptime: hour * 1_000_000,
            boot: "another".to_owned(),
            cpu_us: 0,
        };
        write_json_fast(&path.join(STARTED), &started).unwrap();
        let lived = estimate(path, None).unwrap().lived_cs;
        assert!((359_990..360_500).contains(&lived), "{lived}");
    }
}
