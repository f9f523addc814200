//! The `[observability]` section: how the output of the app's containers is kept.

use super::report::{Report, Value};
use super::values::{self, optional};
use crate::spec::{LOG_BYTES, LOG_RETENTION, LogSpec};

pub(super) fn read(report: &mut Report<'_>, value: &Value<'_>) -> Option<LogSpec> {
    let section = report.section(value, "[observability]")?;
    report.refuse_unknown_keys(&section, &["enabled", "log_retention", "log_size"]);
    let usual = LogSpec::default();
    let enabled = optional(section.get("enabled"), |value| values::boolean(report, value));
    let retention =
        optional(section.get("log_retention"), |value| values::duration(report, value, &LOG_RETENTION));
    let bytes = optional(section.get("log_size"), |value| values::size(report, value, LOG_BYTES));
    Some(LogSpec {
        enabled: enabled?.unwrap_or(usual.enabled),
        retention: retention?.unwrap_or(usual.retention),
        bytes: bytes?.unwrap_or(usual.bytes),
    })
}
