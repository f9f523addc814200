//! Hooks, callbacks and crons: `[containers.hooks]`, `[containers.callbacks.NAME]` and `[triggers]`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::str::FromStr;

use super::ClassManifest;
use super::classes::ClassNames;
use super::environment::environment;
use super::report::{Report, Section, Value, kind, nearest};
use super::values::{self, optional};
use crate::cron::Cron;
use crate::ids::{CallbackName, ClassName, ObjectName};
use crate::spec::{
    Action, Callbacks, CronSpec, HookKind, HooksSpec, MAX_CALLBACKS, MAX_CRONS, RequestAction,
};

/// The keys of an action.
const ACTION_KEYS: [&str; 7] = ["path", "method", "body", "port", "start", "env", "hook"];
const CRON_KEYS: [&str; 10] =
    ["cron", "class", "object", "path", "method", "body", "port", "start", "env", "hook"];
const ACTION: &str = "one of path = \"/run\", start = true, hook = true";
const CRON: &str =
    "an expression such as \"*/5 * * * *\", or { cron = \"*/5 * * * *\", class = \"Job\", path = \"/run\" }";
/// The object of a cron that names none.
const CRON_OBJECT: &str = "cron";

pub(super) fn hooks(report: &mut Report<'_>, value: &Value<'_>) -> Option<HooksSpec> {
    let section = report.section(value, "[containers.hooks]")?;
    report.refuse_unknown_keys(&section, &["url", "secret", "events"]);
    let url =
        report.required(&section, "url", "where events are posted, such as \"https://example.com/hooks\"");
    let url = url.and_then(|value| values::text(report, value, "an address"));
    let secret = report.required(&section, "secret", "the name of the secret that events are signed with");
    let secret = secret.and_then(|value| values::text(report, value, "the name of a secret"));
    let events = optional(section.get("events"), |value| events(report, value));
    let hooks = HooksSpec {
        url: url?.to_owned(),
        secret: secret?.to_owned(),
        events: events?.unwrap_or_else(|| BTreeSet::from(HookKind::USUAL)),
    };
    refuse(report, &section, hooks.fault()).then_some(hooks)
}

fn events(report: &mut Report<'_>, value: &Value<'_>) -> Option<BTreeSet<HookKind>> {
    let Some(items) = value.get_ref().as_array() else {
        let expected = "a list such as [\"start\", \"stop\"]";
        report.wrong(value.span().start, format!("found {}; expected {expected}", kind(value)));
        return None;
    };
    // Collected first, so that all problems are reported.
    let found: Vec<_> = items.iter().map(|item| event(report, item)).collect();
    found.into_iter().collect()
}

fn event(report: &mut Report<'_>, value: &Value<'_>) -> Option<HookKind> {
    let name = values::text(report, value, "each event")?;
    let known = HookKind::NAMES.iter().find(|(known, _)| *known == name);
    if known.is_none() {
        let names = HookKind::NAMES.map(|(name, _)| name);
        let hint = nearest(name, &names).map(|near| format!("did you mean {near:?}?"));
        let hint = hint.unwrap_or_else(|| format!("expected some of {}", names.join(", ")));
        report.wrong(value.span().start, format!("{name:?} is no event; {hint}"));
    }
    known.map(|(_, kind)| *kind)
}

pub(super) fn callbacks(report: &mut Report<'_>, value: &Value<'_>, has_hooks: bool) -> Option<Callbacks> {
    let section = report.section(value, "[containers.callbacks]")?;
    let mut callbacks = BTreeMap::new();
    let mut sound = true;
    for (name, value) in section.entries() {
        let parsed = name_of::<CallbackName>(report, name.span().start, name.get_ref());
        let action = callback(report, value, has_hooks);
        match parsed.zip(action) {
            Some((name, action)) => drop(callbacks.insert(name, action)),
            None => sound = false,
        }
    }
    if callbacks.len() > MAX_CALLBACKS {
        report
            .wrong(section.at, format!("{} callbacks; at most {MAX_CALLBACKS} are allowed", callbacks.len()));
        return None;
    }
    sound.then_some(callbacks)
}

fn callback(report: &mut Report<'_>, value: &Value<'_>, has_hooks: bool) -> Option<Action> {
    let section = report.section(value, "[containers.callbacks]")?;
    report.refuse_unknown_keys(&section, &ACTION_KEYS);
    let action = action(report, &section)?;
    if action == Action::Hook && !has_hooks {
        report.wrong(
            section.at,
            "hook = true tells the class's hook; expected also a section [containers.hooks]",
        );
        return None;
    }
    Some(action)
}

fn name_of<N: FromStr<Err: Display>>(report: &mut Report<'_>, at: usize, text: &str) -> Option<N> {
    let parsed = text.parse();
    parsed.map_err(|reason| report.wrong(at, format!("the name {text:?} {reason}"))).ok()
}

/// The action that the keys of a section describe.
fn action(report: &mut Report<'_>, section: &Section<'_, '_>) -> Option<Action> {
    let hook = optional(section.get("hook"), |value| values::boolean(report, value));
    let start = optional(section.get("start"), |value| values::boolean(report, value));
    let env = optional(section.get("env"), |value| environment(report, value, "env"));
    let path = optional(section.get("path"), |value| values::text(report, value, "a path"));
    let method = optional(section.get("method"), |value| values::text(report, value, "a method"));
    let body = optional(section.get("body"), |value| values::text(report, value, "a body"));
    let port = optional(section.get("port"), |value| values::number(report, value, 1..=u16::MAX));
    let (hook, start, env) = (hook?.unwrap_or(false), start?, env?);
    let (path, method, body, port) = (path?, method?, body?, port?);
    let starts = start.unwrap_or(env.is_some());
    let of_request = method.is_some() || body.is_some() || port.is_some();
    let action = match (path, starts, hook) {
        (Some(path), false, false) if env.is_none() => Action::Request(RequestAction {
            method: method.unwrap_or("POST").to_owned(),
            path: path.to_owned(),
            body: body.map(str::to_owned),
            port,
        }),
        (None, true, false) if !of_request => Action::Start { env: env.unwrap_or_default() },
        (None, false, true) if !of_request && env.is_none() => Action::Hook,
        _ => {
            let rest = "method, body and port go with path, env goes with start";
            report.wrong(section.at, format!("it must say what is done; expected {ACTION} ({rest})"));
            return None;
        }
    };
    refuse(report, section, action.fault()).then_some(action)
}

/// Reports a fault at its key. True if there is none.
fn refuse(report: &mut Report<'_>, section: &Section<'_, '_>, fault: Option<(&'static str, String)>) -> bool {
    let Some((key, fault)) = fault else { return true };
    let at = section.get(key).map_or(section.at, |value| value.span().start);
    report.wrong(at, format!("{key} {fault}"));
    false
}

pub(super) fn crons(
    report: &mut Report<'_>,
    value: &Value<'_>,
    known: &ClassNames<'_>,
    classes: Option<&[ClassManifest]>,
) -> Option<Vec<CronSpec>> {
    let section = report.section(value, "[triggers]")?;
    report.refuse_unknown_keys(&section, &["crons"]);
    let Some(value) = section.get("crons") else { return Some(Vec::new()) };
    let Some(items) = value.get_ref().as_array().filter(|items| items.len() <= MAX_CRONS) else {
        report.wrong(value.span().start, format!("expected a list of at most {MAX_CRONS}, each {CRON}"));
        return None;
    };
    let crons: Vec<_> = items.iter().map(|item| cron(report, item, known, classes)).collect();
    crons.into_iter().collect()
}

fn cron(
    report: &mut Report<'_>,
    value: &Value<'_>,
    known: &ClassNames<'_>,
    classes: Option<&[ClassManifest]>,
) -> Option<CronSpec> {
    let at = value.span().start;
    if value.get_ref().as_str().is_some() {
        let cron = expression(report, value);
        let class = only_class(report, at, known);
        let object = ObjectName::new(CRON_OBJECT).ok()?;
        return Some(CronSpec {
            cron: cron?,
            class: class?,
            object,
            action: Action::Start { env: BTreeMap::new() },
        });
    }
    let section = report.section(value, "crons")?;
    report.refuse_unknown_keys(&section, &CRON_KEYS);
    let cron = report.required(&section, "cron", "an expression such as \"*/5 * * * *\"");
    let cron = cron.and_then(|value| expression(report, value));
    let class = match section.get("class") {
        Some(value) => class_name(report, value, known),
        None => only_class(report, at, known),
    };
    let object = match section.get("object") {
        Some(value) => object_name(report, value),
        None => ObjectName::new(CRON_OBJECT).ok(),
    };
    let action = action(report, &section);
    let (cron, class, object, action) = (cron?, class?, object?, action?);
    if matches!(&action, Action::Request(request) if request.port.is_none()) && known.is_without_port(&class)
    {
        report.wrong(at, format!("the class {class} has no default_port; expected a port here or there"));
        return None;
    }
    let declared = classes.and_then(|classes| classes.iter().find(|declared| declared.name == class));
    if action == Action::Hook && declared.is_some_and(|declared| declared.hooks.is_none()) {
        report.wrong(
            at,
            format!("hook = true tells the hook of {class}; expected there a section [containers.hooks]"),
        );
        return None;
    }
    Some(CronSpec { cron, class, object, action })
}

fn expression(report: &mut Report<'_>, value: &Value<'_>) -> Option<Cron> {
    let text = values::text(report, value, "an expression such as \"*/5 * * * *\"")?;
    Cron::new(text).map_err(|error| report.wrong(value.span().start, format!("{text:?} {error}"))).ok()
}

fn object_name(report: &mut Report<'_>, value: &Value<'_>) -> Option<ObjectName> {
    let text = values::text(report, value, "the name of an object")?;
    name_of(report, value.span().start, text)
}

fn class_name(report: &mut Report<'_>, value: &Value<'_>, known: &ClassNames<'_>) -> Option<ClassName> {
    let text = values::text(report, value, "the class_name of a [[containers]] section")?;
    if let Err(fault) = known.check(text) {
        report.wrong(value.span().start, fault);
        return None;
    }
    text.parse().ok()
}

fn only_class(report: &mut Report<'_>, at: usize, known: &ClassNames<'_>) -> Option<ClassName> {
    let only = known.only().and_then(|name| name.parse().ok());
    if only.is_none() {
        report.wrong(at, format!("a cron must name its class unless there is only one; expected {CRON}"));
    }
    only
}
