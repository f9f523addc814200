//! The `[[routes]]` sections: which requests go to which objects.

use toml::de::DeValue;

use super::MAX_ROUTES;
use super::classes::ClassNames;
use super::report::{Report, Section, Value};
use super::values;
use crate::ids::{ClassName, ObjectName};
use crate::spec::{HostPattern, MAX_INTERCHANGEABLE, NameSource, PathPattern, RouteSpec, path_fault};

const OBJECT: &str = "a parameter of the path or host such as \"{id}\", or a constant name such as \"main\"";
const SOURCE: &str = "one of { header = \"x-user\" }, { cookie = \"user\" }, { query = \"user\" }, { random = 3 }, { least_loaded = 3 }";
/// Most hosts and most methods of one route.
const MAX_ITEMS: usize = 64;
/// Longest method, in bytes: longer than any registered one.
const MAX_METHOD_BYTES: usize = 32;

pub(super) fn read_all(
    report: &mut Report<'_>,
    root: &Section<'_, '_>,
    classes: &ClassNames<'_>,
) -> Option<Vec<RouteSpec>> {
    let sections = report.sections(root, "routes", "[[routes]]", MAX_ROUTES);
    let routes: Vec<_> = sections.iter().map(|section| read(report, section, classes)).collect();
    let (taken, routes): (Vec<_>, Vec<_>) = routes.into_iter().unzip();
    refuse_twins(report, &sections, &taken);
    routes.into_iter().collect()
}

/// Which requests a route matches: its hosts, methods and path.
type Taken = (Vec<HostPattern>, Vec<String>, PathPattern);

/// The matcher of a route (set even if the rest is wrong), and the route.
fn read(
    report: &mut Report<'_>,
    section: &Section<'_, '_>,
    classes: &ClassNames<'_>,
) -> (Option<Taken>, Option<RouteSpec>) {
    report.refuse_unknown_keys(section, &["hosts", "methods", "path", "class", "object", "port", "rewrite"]);
    let hosts = section.get("hosts").map_or(Some(Vec::new()), |value| hosts(report, value));
    let methods =
        section.get("methods").map_or(Some(Vec::new()), |value| list(report, value, METHODS, method));
    let path = report.required(section, "path", "a path such as \"/container/{id}/*\"");
    let path = path.and_then(|value| pattern(report, value));
    let class = report.required(section, "class", "the class_name of a [[containers]] section");
    let class = class.and_then(|value| class_name(report, value, classes));
    let object = report.required(section, "object", OBJECT);
    let object = object.and_then(|value| name_source(report, value, path.as_ref(), hosts.as_deref()));
    let port = match section.get("port") {
        None => Some(None),
        Some(value) => values::number(report, value, 1..=u16::MAX).map(Some),
    };
    if let Some(class) = class.as_ref().filter(|class| classes.is_without_port(class))
        && section.get("port").is_none()
    {
        report.wrong(
            section.at,
            format!("the class {class} has no default_port; expected a port here or there"),
        );
    }
    let rewrite = match section.get("rewrite") {
        None => Some(None),
        Some(value) => rewrite(report, value, path.as_ref()).map(Some),
    };
    let taken = hosts.zip(methods).zip(path).map(|((hosts, methods), path)| (hosts, methods, path));
    let route = || {
        let (hosts, methods, path) = taken.clone()?;
        Some(RouteSpec {
            hosts,
            methods,
            path,
            class: class?,
            object: object?,
            port: port?,
            rewrite: rewrite?,
        })
    };
    let route = route();
    (taken, route)
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

/// The replacement for the part of the path before `/*`.
fn rewrite(report: &mut Report<'_>, value: &Value<'_>, path: Option<&PathPattern>) -> Option<String> {
    let expected = "a path such as \"/\", for a route whose path ends with `/*`";
    let text = values::text(report, value, expected)?;
    let fault = path_fault(text).or_else(|| {
        path.is_some_and(|path| !path.is_prefix()).then_some("only goes with a path that ends with `/*`")
    });
    if let Some(fault) = fault {
        report.wrong(value.span().start, format!("{text:?} {fault}; expected {expected}"));
    }
    fault.is_none().then(|| text.to_owned())
}

fn class_name(report: &mut Report<'_>, value: &Value<'_>, classes: &ClassNames<'_>) -> Option<ClassName> {
    let text = values::text(report, value, "a class_name")?;
    match classes.check(text) {
        // An invalid name was reported at its declaration.
        Ok(()) => text.parse().ok(),
        Err(message) => {
            report.wrong(value.span().start, message);
            None
        }
    }
}

const HOSTS: &str = "a list of hosts such as [\"example.com\", \"*.example.com\"]";
const METHODS: &str = "a list of methods such as [\"GET\", \"HEAD\"]";

fn list<T>(
    report: &mut Report<'_>,
    value: &Value<'_>,
    expected: &str,
    read: fn(&mut Report<'_>, &Value<'_>) -> Option<T>,
) -> Option<Vec<T>> {
    let items = value.get_ref().as_array().map(|items| items.iter().collect::<Vec<_>>());
    let Some(items) = items.filter(|items| (1..=MAX_ITEMS).contains(&items.len())) else {
        report.wrong(value.span().start, format!("expected {expected}, with 1 to {MAX_ITEMS} items"));
        return None;
    };
    // Collected first, so that all problems are reported.
    let read: Vec<_> = items.into_iter().map(|item| read(report, item)).collect();
    read.into_iter().collect()
}

/// Patterns of hosts.
pub(super) fn hosts(report: &mut Report<'_>, value: &Value<'_>) -> Option<Vec<HostPattern>> {
    list(report, value, HOSTS, host)
}

fn host(report: &mut Report<'_>, value: &Value<'_>) -> Option<HostPattern> {
    let text = values::text(report, value, "a host")?;
    HostPattern::new(text)
        .map_err(|reason| {
            let expected = "expected \"example.com\", \"*.example.com\" or \"{room}.example.com\"";
            report.wrong(value.span().start, format!("{reason}; {expected}"));
        })
        .ok()
}

fn method(report: &mut Report<'_>, value: &Value<'_>) -> Option<String> {
    let text = values::text(report, value, "a method")?;
    let sound = (1..=MAX_METHOD_BYTES).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_uppercase() || c == '-');
    if !sound {
        report.wrong(value.span().start, format!("{text:?} is no method; expected one such as \"GET\""));
    }
    sound.then(|| text.to_owned())
}

fn name_source(
    report: &mut Report<'_>,
    value: &Value<'_>,
    path: Option<&PathPattern>,
    hosts: Option<&[HostPattern]>,
) -> Option<NameSource> {
    if matches!(value.get_ref(), DeValue::Table(_)) {
        return source_in_request(report, value);
    }
    let at = value.span().start;
    let text = values::text(report, value, OBJECT)?;
    if let Some(parameter) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        let (path, hosts) = (path?, hosts?);
        if path.has_parameter(parameter) {
            return Some(NameSource::PathParameter(parameter.to_owned()));
        }
        if !hosts.is_empty() && hosts.iter().all(|host| host.has_parameter(parameter)) {
            return Some(NameSource::HostParameter(parameter.to_owned()));
        }
        report.wrong(
            at,
            format!("the path has no parameter {text}, nor has each of the hosts; expected one of its own"),
        );
        return None;
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

fn source_in_request(report: &mut Report<'_>, value: &Value<'_>) -> Option<NameSource> {
    let section = report.section(value, "object")?;
    report.refuse_unknown_keys(&section, &["header", "cookie", "query", "random", "least_loaded"]);
    let entries: Vec<_> = section.entries().collect();
    let [(key, value)] = &entries[..] else {
        report.wrong(section.at, format!("has {} keys; expected {SOURCE}", entries.len()));
        return None;
    };
    match key.get_ref().as_ref() {
        "random" => return values::number(report, value, 1..=MAX_INTERCHANGEABLE).map(NameSource::Random),
        "least_loaded" => {
            return values::number(report, value, 1..=MAX_INTERCHANGEABLE).map(NameSource::LeastLoaded);
        }
        _ => {}
    }
    let text = values::text(report, value, "a name")?;
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let query = key.get_ref() == "query";
    if text.is_empty() || !(query || text.chars().all(token)) {
        report.wrong(value.span().start, format!("{text:?} names no {}; expected {SOURCE}", key.get_ref()));
        return None;
    }
    match key.get_ref().as_ref() {
        "header" => Some(NameSource::Header(text.to_ascii_lowercase())),
        "cookie" => Some(NameSource::Cookie(text.to_owned())),
        "query" => Some(NameSource::Query(text.to_owned())),
        // Reported as an unknown key.
        _ => None,
    }
}

/// Reports a route with the same matcher as an earlier one: it would never be reached.
fn refuse_twins(report: &mut Report<'_>, sections: &[Section<'_, '_>], taken: &[Option<Taken>]) {
    for (i, own) in taken.iter().enumerate() {
        let twin = taken[..i].iter().position(|earlier| earlier.is_some() && earlier == own);
        let (Some(twin), Some(value)) = (twin, sections[i].get("path")) else { continue };
        let first = sections[twin].get("path").map_or(0, |first| first.span().start);
        let line = report.position(first).line;
        let path = value.get_ref().as_str().unwrap_or_default();
        let message = format!("the path {path:?} is routed already, in line {line}; expected another path");
        report.wrong(value.span().start, message);
    }
}
