//! Single values: names, numbers within bounds, durations, sizes. Each reports a wrong value and returns `None`.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use toml::de::{DeFloat, DeInteger, DeValue};

use super::report::{Report, Value, kind};
use crate::spec::TimeOrNever;

/// Shortest and longest allowed duration.
pub(super) type Bounds = RangeInclusive<Duration>;

pub(super) fn text<'t>(report: &mut Report<'_>, value: &'t Value<'_>, expected: &str) -> Option<&'t str> {
    let text = value.get_ref().as_str();
    if text.is_none() {
        report.wrong(value.span().start, format!("found {}; expected {expected} in quotes", kind(value)));
    }
    text
}

/// A name of one of the kinds in `ids`.
pub(super) fn name<N>(report: &mut Report<'_>, value: &Value<'_>) -> Option<N>
where
    N: FromStr<Err: Display>,
{
    let text = text(report, value, "a name")?;
    match text.parse() {
        Ok(name) => Some(name),
        Err(reason) => {
            let rule = "expected up to 63 letters, digits, `-`, `_` and `.`, the first a letter or digit";
            report.wrong(value.span().start, format!("the name {text:?} {reason}; {rule}"));
            None
        }
    }
}

pub(super) fn boolean(report: &mut Report<'_>, value: &Value<'_>) -> Option<bool> {
    let found = value.get_ref().as_bool();
    if found.is_none() {
        report.wrong(value.span().start, format!("found {}; expected true or false", kind(value)));
    }
    found
}

/// A whole number within bounds.
pub(super) fn number<N>(report: &mut Report<'_>, value: &Value<'_>, bounds: RangeInclusive<N>) -> Option<N>
where
    N: TryFrom<i128> + PartialOrd + Display,
{
    let expected = format!("a whole number from {} to {}", bounds.start(), bounds.end());
    let Some(integer) = value.get_ref().as_integer() else {
        report.wrong(value.span().start, format!("found {}; expected {expected}", kind(value)));
        return None;
    };
    let found = whole(integer).and_then(|n| N::try_from(n).ok()).filter(|n| bounds.contains(n));
    if found.is_none() {
        report
            .wrong(value.span().start, format!("{} is out of range; expected {expected}", integer.as_str()));
    }
    found
}

/// A duration, or "never".
pub(super) fn time_or_never(
    report: &mut Report<'_>,
    value: &Value<'_>,
    bounds: &Bounds,
) -> Option<TimeOrNever> {
    match value.get_ref() {
        DeValue::String(text) if text == "never" => Some(TimeOrNever::NEVER),
        _ => duration(report, value, bounds).map(Into::into),
    }
}

/// A duration: a number of seconds, or a text such as "30s".
pub(super) fn duration(report: &mut Report<'_>, value: &Value<'_>, bounds: &Bounds) -> Option<Duration> {
    let expected = "expected a number of seconds or a text such as \"30s\", \"5m\" or \"1h\"";
    let found = match value.get_ref() {
        DeValue::Integer(n) => whole(n).and_then(|n| u64::try_from(n).ok()).map(Duration::from_secs),
        DeValue::Float(n) => float(n).and_then(|n| Duration::try_from_secs_f64(n).ok()),
        DeValue::String(text) => humantime::parse_duration(text).ok(),
        _ => {
            report.wrong(value.span().start, format!("found {}; {expected}", kind(value)));
            return None;
        }
    };
    let Some(found) = found else {
        report.wrong(value.span().start, format!("{} is not a duration; {expected}", shown(value)));
        return None;
    };
    within(report, value, found, bounds)
}

fn within(report: &mut Report<'_>, value: &Value<'_>, found: Duration, bounds: &Bounds) -> Option<Duration> {
    if bounds.contains(&found) {
        return Some(found);
    }
    let (least, most) = (*bounds.start(), *bounds.end());
    let (found, least, most) = (
        humantime::format_duration(found),
        humantime::format_duration(least),
        humantime::format_duration(most),
    );
    report.wrong(value.span().start, format!("{found} is out of range; expected from {least} to {most}"));
    None
}

/// A size in bytes, as a text such as "512MiB".
pub(super) fn size(report: &mut Report<'_>, value: &Value<'_>, bounds: RangeInclusive<u64>) -> Option<u64> {
    let expected = "a size such as \"512MiB\" or \"2GB\"";
    let text = text(report, value, expected)?;
    // A bare number would parse as bytes, which is most likely a mistake.
    let has_unit = text.ends_with(|c: char| c.is_ascii_alphabetic());
    let Some(size) = text.parse::<ByteSize>().ok().filter(|_| has_unit) else {
        report.wrong(value.span().start, format!("{text:?} is not a size; expected {expected}"));
        return None;
    };
    if bounds.contains(&size.as_u64()) {
        return Some(size.as_u64());
    }
    let (least, most) = (ByteSize(*bounds.start()).display().iec(), ByteSize(*bounds.end()).display().iec());
    report.wrong(value.span().start, format!("{text:?} is out of range; expected from {least} to {most}"));
    None
}

/// A number of virtual CPUs, in sixteenths.
pub(super) fn sixteenths(report: &mut Report<'_>, value: &Value<'_>, most: u32) -> Option<u32> {
    let expected = format!("expected a multiple of 1/16 (0.0625) up to {}", most / 16);
    let number = match value.get_ref() {
        DeValue::Integer(n) => n.as_str().parse::<f64>().ok().filter(|_| n.radix() == 10),
        DeValue::Float(n) => float(n),
        _ => {
            report.wrong(value.span().start, format!("found {}; {expected}", kind(value)));
            return None;
        }
    };
    let found = number.and_then(|n| in_sixteenths(n, most));
    if found.is_none() {
        report.wrong(value.span().start, format!("{} vCPU cannot be given; {expected}", shown(value)));
    }
    found
}

/// A number in sixteenths, if it is a whole number of them.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it was just found to be in range"
)]
fn in_sixteenths(number: f64, most: u32) -> Option<u32> {
    let sixteenths = number * 16.0;
    let sound = sixteenths.fract() == 0.0 && (1.0..=f64::from(most)).contains(&sixteenths);
    sound.then_some(sixteenths as u32)
}

fn whole(integer: &DeInteger<'_>) -> Option<i128> {
    i128::from_str_radix(integer.as_str(), integer.radix()).ok()
}

fn float(float: &DeFloat<'_>) -> Option<f64> {
    float.as_str().parse().ok()
}

/// A value as written in the file.
fn shown(value: &Value<'_>) -> String {
    match value.get_ref() {
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(n) => n.as_str().to_owned(),
        DeValue::Float(n) => n.as_str().to_owned(),
        _ => kind(value).to_owned(),
    }
}

/// Reads a key that may be absent: `Some(None)` if it is, `None` if its value is wrong.
pub(super) fn optional<'t, 'i: 't, T>(
    value: Option<&'t Value<'i>>,
    read: impl FnOnce(&'t Value<'i>) -> Option<T>,
) -> Option<Option<T>> {
    match value {
        None => Some(None),
        Some(value) => read(value).map(Some),
    }
}
