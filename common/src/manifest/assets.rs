//! The `[assets]` section: static files that the edge serves itself.

use super::report::{Report, Value, nearest};
use super::values::optional;
use super::{AssetsManifest, route, values};
use crate::spec::NotFound;

const HANDLINGS: [(&str, NotFound); 3] = [
    ("none", NotFound::None),
    ("404-page", NotFound::Page),
    ("single-page-application", NotFound::SinglePage),
];

pub(super) fn read(report: &mut Report<'_>, value: &Value<'_>) -> Option<AssetsManifest> {
    let section = report.section(value, "[assets]")?;
    report.refuse_unknown_keys(&section, &["directory", "hosts", "not_found_handling"]);
    let expected = "the directory of the files, such as directory = \"./public\"";
    let directory = report.required(&section, "directory", expected);
    let directory = directory.and_then(|value| directory_of(report, value, expected));
    let hosts = optional(section.get("hosts"), |value| route::hosts(report, value));
    let not_found = optional(section.get("not_found_handling"), |value| handling(report, value));
    Some(AssetsManifest {
        directory: directory?.into(),
        hosts: hosts?.unwrap_or_default(),
        not_found: not_found?.unwrap_or_default(),
    })
}

fn directory_of<'t>(report: &mut Report<'_>, value: &'t Value<'_>, expected: &str) -> Option<&'t str> {
    let text = values::text(report, value, expected)?;
    let sound = !text.is_empty() && !text.contains('\0');
    if !sound {
        report.wrong(value.span().start, format!("{text:?} is not a path; expected {expected}"));
    }
    sound.then_some(text)
}

fn handling(report: &mut Report<'_>, value: &Value<'_>) -> Option<NotFound> {
    let name = values::text(report, value, "a name")?;
    let known = HANDLINGS.iter().find(|(known, _)| *known == name);
    if known.is_none() {
        let names = HANDLINGS.map(|(name, _)| name);
        let hint = nearest(name, &names).map(|near| format!("did you mean {near:?}?"));
        let hint = hint.unwrap_or_else(|| format!("expected one of {}", names.join(", ")));
        report.wrong(value.span().start, format!("there is no not_found_handling {name:?}; {hint}"));
    }
    known.map(|(_, handling)| *handling)
}
