//! Environment variables: `[vars]`, `[containers.env]` and the `env` of actions.

use std::collections::BTreeMap;

use super::report::{Report, Value};
use super::values;
use crate::spec::MAX_ENV_BYTES;

pub(super) fn environment(
    report: &mut Report<'_>,
    value: &Value<'_>,
    name: &'static str,
) -> Option<BTreeMap<String, String>> {
    let section = report.section(value, name)?;
    let read: Vec<_> = section
        .entries()
        .map(|(name, value)| {
            let name_is_good = variable_name(report, name.span().start, name.get_ref());
            let text = variable_value(report, name.get_ref(), value)?;
            name_is_good.then(|| (name.get_ref().to_string(), text.to_owned()))
        })
        .collect();
    let env: BTreeMap<String, String> = read.into_iter().collect::<Option<_>>()?;
    let bytes: usize = env.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > MAX_ENV_BYTES {
        report.wrong(
            section.at,
            format!("the environment takes {bytes} bytes; expected at most {MAX_ENV_BYTES} for all names and values"),
        );
        return None;
    }
    Some(env)
}

fn variable_name(report: &mut Report<'_>, at: usize, name: &str) -> bool {
    let good = !name.is_empty() && !name.contains(['=', '\0']);
    if !good {
        report.wrong(
            at,
            format!("{name:?} cannot name a variable; expected a name without `=` and zero bytes"),
        );
    }
    good
}

/// Never shows the value: it may be a secret.
fn variable_value<'t>(report: &mut Report<'_>, name: &str, value: &'t Value<'_>) -> Option<&'t str> {
    let text = values::text(report, value, "the value")?;
    if text.contains('\0') {
        report.wrong(value.span().start, format!("the value of {name} holds a zero byte; expected none"));
        return None;
    }
    Some(text)
}
