//! The `[start_rate]` section: how many objects that have never run requests may start.

use super::report::{Report, Value, kind};
use super::values::{self, optional};
use crate::spec::{RATE, Rate, StartRates};

pub(super) fn read(report: &mut Report<'_>, value: &Value<'_>) -> Option<StartRates> {
    let section = report.section(value, "[start_rate]")?;
    report.refuse_unknown_keys(&section, &["per_address", "per_class", "per_app"]);
    let usual = StartRates::default();
    let mut of = |key| optional(section.get(key), |value| rate(report, value));
    let (address, class, app) = (of("per_address"), of("per_class"), of("per_app"));
    Some(StartRates {
        per_address: address?.unwrap_or(usual.per_address),
        per_class: class?.unwrap_or(usual.per_class),
        per_app: app?.unwrap_or(usual.per_app),
    })
}

/// A rate, or none where it is off.
fn rate(report: &mut Report<'_>, value: &Value<'_>) -> Option<Option<Rate>> {
    let expected = "expected { per_minute = 60, burst = 120 } or \"off\"";
    match value.get_ref().as_str() {
        Some("off") => return Some(None),
        Some(other) => {
            report.wrong(value.span().start, format!("{other:?} is no rate; {expected}"));
            return None;
        }
        None if value.get_ref().as_table().is_none() => {
            report.wrong(value.span().start, format!("found {}; {expected}", kind(value)));
            return None;
        }
        None => {}
    }
    let section = report.section(value, "a rate")?;
    report.refuse_unknown_keys(&section, &["per_minute", "burst"]);
    let per_minute = report.required(&section, "per_minute", "a number, such as per_minute = 60");
    let per_minute = per_minute.and_then(|value| values::number(report, value, RATE));
    let burst = optional(section.get("burst"), |value| values::number(report, value, RATE));
    let (per_minute, burst) = (per_minute?, burst?);
    // Twice as many at once, as the default has it.
    let burst = burst.unwrap_or_else(|| per_minute.saturating_mul(2).min(*RATE.end()));
    Some(Some(Rate { per_minute, burst }))
}
