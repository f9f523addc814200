//! The clock that terms of nodes are counted on, and the rules of terms (`berth_protocol`), which are pure.

use std::time::Duration;

use berth_common::wire::term::BootId;
use nix::time::{ClockId, clock_gettime};

pub(crate) use berth_protocol::edge::{NodeTerm, RENEW_EVERY};

/// Now, in milliseconds of `CLOCK_BOOTTIME`.
pub(crate) fn boot_ms() -> u64 {
    // This clock exists on every Linux that Berth supports.
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from);
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// The boot of this machine; none if the kernel does not say.
pub(crate) fn boot_id() -> Option<BootId> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    text.trim().to_owned().try_into().ok()
}
