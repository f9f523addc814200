//! The `[[routes]]` sections: which paths go to which objects.

use super::MAX_ROUTES;
use super::container::ClassNames;
use super::report::{Report, Section, Value};
use super::values;
use crate::ids::{ClassName, ObjectName};
use crate::spec::{NameSource, PathPattern, RouteSpec};

const OBJECT: &str = "a parameter of the path such as \"{id}\", or a constant name such as \"main\"";

pub(super) fn read_all(
    report: &mut Report<'_>,
    root: &Section<'_, '_>,
    classes: &ClassNames<'_>,
) -> Option<Vec<RouteSpec>> {
    let sections = report.sections(root, "routes", "[[routes]]", MAX_ROUTES);
    let routes: Vec<_> = sections.iter().map(|section| read(report, section, classes)).collect();
    refuse_twins(report, &sections);
    routes.into_iter().collect()
}

fn read(report: &mut Report<'_>, section: &Section<'_, '_>, classes: &ClassNames<'_>) -> Option<RouteSpec> {
    report.refuse_unknown_keys(section, &["path", "class", "object", "port"]);
    let path = report.required(section, "path", "a path such as \"/container/{id}/*\"");
    let path = path.and_then(|value| pattern(report, value));
    let class = report.required(section, "class", "the class_name of a [[containers]] section");
    let class = class.and_then(|value| class_name(report, value, classes));
    let object = report.required(section, "object", OBJECT);
    let object = object.and_then(|value| name_source(report, value, path.as_ref()));
    let port = match section.get("port") {
        None => Some(None),
        Some(value) => values::number(report, value, 1..=u16::MAX).map(Some),
    };
    Some(RouteSpec { path: path?, class: class?, object: object?, port: port? })
}

fn pattern(report: &mut Report<'_>, value: &Value<'_>) -> Option<PathPattern> {
    let text = values::text(report, value, "a path such as \"/container/{id}/*\"")?;
    PathPattern::new(text)
        .map_err(|reason| {
            let expected = "expected a path such as \"/container/{id}\" or \"/files/*\"";
            report.wrong(value.span().start, format!("the path {text:?}: {reason}; {expected}"));
        })
        .ok()
}

fn class_name(report: &mut Report<'_>, value: &Value<'_>, classes: &ClassNames<'_>) -> Option<ClassName> {
    let text = values::text(report, value, "a class_name")?;
    match classes.check(text) {
        // A name that is wrong in itself was reported where it is declared.
        Ok(()) => text.parse().ok(),
        Err(message) => {
            report.wrong(value.span().start, message);
            None
        }
    }
}

fn name_source(report: &mut Report<'_>, value: &Value<'_>, path: Option<&PathPattern>) -> Option<NameSource> {
    let at = value.span().start;
    let text = values::text(report, value, OBJECT)?;
    if let Some(parameter) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        let in_path = path?.has_parameter(parameter);
        if !in_path {
            report.wrong(at, format!("the path has no parameter {text}; expected one of its own"));
        }
        return in_path.then(|| NameSource::PathParameter(parameter.to_owned()));
    }
    if text.contains(['{', '}']) {
        report.wrong(at, format!("{text:?} mixes a parameter with other text; expected {OBJECT}"));
        return None;
    }
    match ObjectName::new(text) {
        Ok(name) => Some(NameSource::Constant(name)),
        Err(reason) => {
            report.wrong(at, format!("the name {text:?} {reason}; expected {OBJECT}"));
            None
        }
    }
}

/// The second of two equal paths would never be reached.
fn refuse_twins(report: &mut Report<'_>, sections: &[Section<'_, '_>]) {
    let paths: Vec<_> = sections.iter().filter_map(|section| section.get("path")).collect();
    for (i, value) in paths.iter().enumerate() {
        let Some(text) = value.get_ref().as_str() else { continue };
        let first = paths[..i].iter().find(|earlier| earlier.get_ref().as_str() == Some(text));
        if let Some(first) = first {
            let line = report.position(first.span().start).line;
            let message =
                format!("the path {text:?} is routed already, in line {line}; expected another path");
            report.wrong(value.span().start, message);
        }
    }
}
