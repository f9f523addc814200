//! The `[limits]` section: the limits of all live instances of the app together.

use super::report::{Report, Value};
use super::values::{self, optional};
use crate::spec::AppLimits;

/// Most virtual CPUs of an app, in sixteenths: more than the fleets have that Berth is made for.
const MAX_CPU_SIXTEENTHS: u32 = 16 * 1_000_000;
/// Least and most memory and disk of an app, in bytes.
const BYTES: std::ops::RangeInclusive<u64> = (1 << 20)..=(1 << 50);

pub(super) fn read(report: &mut Report<'_>, value: &Value<'_>) -> Option<AppLimits> {
    let section = report.section(value, "[limits]")?;
    report.refuse_unknown_keys(&section, &["memory", "vcpu", "disk"]);
    let usual = AppLimits::default();
    let memory = optional(section.get("memory"), |value| values::size(report, value, BYTES));
    let disk = optional(section.get("disk"), |value| values::size(report, value, BYTES));
    let vcpu = optional(section.get("vcpu"), |value| values::sixteenths(report, value, MAX_CPU_SIXTEENTHS));
    Some(AppLimits {
        memory_bytes: memory?.unwrap_or(usual.memory_bytes),
        cpu_sixteenths: vcpu?.unwrap_or(usual.cpu_sixteenths),
        disk_bytes: disk?.unwrap_or(usual.disk_bytes),
    })
}
