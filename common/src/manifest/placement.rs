//! Where the instances of a class may be: `regions`, `labels` and `spread` of `[[containers]]`.

use std::collections::{BTreeMap, BTreeSet};

use super::report::{Report, Section, Value, kind};
use super::values::{self, optional};
use crate::spec::{MAX_LABELS, OnNodeGone, PlacementSpec, Spread, label_fault, region_fault};

/// Most regions of a class.
const MAX_REGIONS: usize = 32;

/// Reads every key before it returns `None` for any.
pub(super) fn read(report: &mut Report<'_>, section: &Section<'_, '_>) -> Option<PlacementSpec> {
    let regions = optional(section.get("regions"), |value| regions(report, value));
    let labels = optional(section.get("labels"), |value| labels(report, value));
    let spread = optional(section.get("spread"), |value| spread(report, value));
    Some(PlacementSpec {
        regions: regions?.unwrap_or_default(),
        labels: labels?.unwrap_or_default(),
        spread: spread?,
    })
}

fn regions(report: &mut Report<'_>, value: &Value<'_>) -> Option<BTreeSet<String>> {
    let expected = "names of regions such as regions = [\"eu\"]";
    let Some(items) = value.get_ref().as_array() else {
        report.wrong(value.span().start, format!("found {}; expected {expected}", kind(value)));
        return None;
    };
    let named = |item| {
        let text = values::text(report, item, "the name of a region")?;
        is_sound(report, item, text, region_fault(text)).then(|| text.to_owned())
    };
    let named: Vec<_> = items.iter().map(named).collect();
    let named: BTreeSet<String> = named.into_iter().collect::<Option<_>>()?;
    if named.is_empty() || named.len() > MAX_REGIONS {
        let message = format!("{} regions; expected 1 to {MAX_REGIONS}, or no key for all", named.len());
        report.wrong(value.span().start, message);
        return None;
    }
    Some(named)
}

fn labels(report: &mut Report<'_>, value: &Value<'_>) -> Option<BTreeMap<String, String>> {
    let section = report.section(value, "labels")?;
    let read: Vec<_> = section
        .entries()
        .map(|(name, value)| {
            let key = name.get_ref().to_string();
            if let Some(fault) = label_fault(&key) {
                report.wrong(name.span().start, format!("the label {key:?} {fault}"));
                return None;
            }
            let text = values::text(report, value, "a label's value")?;
            is_sound(report, value, text, label_fault(text)).then(|| (key, text.to_owned()))
        })
        .collect();
    let labels: BTreeMap<String, String> = read.into_iter().collect::<Option<_>>()?;
    if labels.len() > MAX_LABELS {
        report.wrong(value.span().start, format!("{} labels; expected at most {MAX_LABELS}", labels.len()));
        return None;
    }
    Some(labels)
}

fn is_sound(report: &mut Report<'_>, value: &Value<'_>, text: &str, fault: Option<String>) -> bool {
    if let Some(fault) = &fault {
        report.wrong(value.span().start, format!("{text:?} {fault}"));
    }
    fault.is_none()
}

fn spread(report: &mut Report<'_>, value: &Value<'_>) -> Option<Spread> {
    let expected = "spread = \"node\" or spread = \"region\"";
    match values::text(report, value, expected)? {
        "node" => Some(Spread::Node),
        "region" => Some(Spread::Region),
        other => {
            report.wrong(
                value.span().start,
                format!("{other:?} is nothing to spread over; expected {expected}"),
            );
            None
        }
    }
}

pub(super) fn on_node_gone(report: &mut Report<'_>, value: &Value<'_>) -> Option<OnNodeGone> {
    let expected = "on_node_gone = \"restart\" or on_node_gone = \"on_demand\"";
    match values::text(report, value, expected)? {
        "restart" => Some(OnNodeGone::Restart),
        "on_demand" => Some(OnNodeGone::OnDemand),
        other => {
            report.wrong(value.span().start, format!("{other:?} is unknown; expected {expected}"));
            None
        }
    }
}
