//! One `[[containers]]` section: a class.

use std::collections::BTreeSet;
use std::time::Duration;

use toml::de::DeValue;

use super::environment::environment;
use super::report::{Report, Section, Value, kind, nearest};
use super::secrets;
use super::source::{IMAGE_EXPECTED, image_source};
use super::values::{self, Bounds, optional};
use super::{ClassManifest, DeclaredImage, placement, trigger};
use crate::ids::ClassName;
use crate::spec::{
    Capability, MAX_REQUIRED_PORTS, NODE_LOSS_BOUNDS, Resources, StartBoost, TimeOrNever, WAKE_GRACE,
    path_fault,
};

const KEYS: [&str; 29] = [
    "class_name",
    "image",
    "instance_type",
    "disk_in_memory",
    "start_boost",
    "max_instances",
    "prepared",
    "regions",
    "labels",
    "spread",
    "on_node_gone",
    "node_loss",
    "manual_start",
    "default_port",
    "required_ports",
    "ping_endpoint",
    "sleep_after",
    "entrypoint",
    "init",
    "enable_internet",
    "capabilities",
    "start_timeout",
    "port_timeout",
    "stop_grace",
    "wake_grace",
    "env",
    "secrets",
    "hooks",
    "callbacks",
];

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The `sleep_after` of a class that names none.
pub const SLEEP_AFTER: Duration = MINUTE.saturating_mul(10);
/// The `start_timeout` of a class that names none.
pub const START_TIMEOUT: Duration = SECOND.saturating_mul(8);
/// The `port_timeout` of a class that names none.
pub const PORT_TIMEOUT: Duration = SECOND.saturating_mul(20);
/// The `stop_grace` of a class that names none: the reference's.
pub const STOP_GRACE: Duration = MINUTE.saturating_mul(15);

/// At least a tenth of a second, since an instance should not sleep between two requests of one page.
const SLEEP_AFTER_BOUNDS: Bounds = MILLISECOND.saturating_mul(100)..=DAY.saturating_mul(30);
/// Clients do not wait longer than an hour for a first byte.
const TIMEOUT_BOUNDS: Bounds = MILLISECOND.saturating_mul(100)..=HOUR;
/// A boost is for the start: an app that takes longer than a minute needs a larger type.
const BOOST_BOUNDS: Bounds = MILLISECOND..=MINUTE;
/// Zero kills at once; a drain of the node may wait for the longest.
const STOP_GRACE_BOUNDS: Bounds = Duration::ZERO..=DAY;

/// Most instances of one class.
pub const MAX_INSTANCES: u32 = 1_000_000;
/// Containers that each node keeps prepared unless the class says otherwise: one, so that the next start is quick.
pub const PREPARED: u32 = 1;
/// Most prepared containers per node: each takes a few megabytes and a disk, and a burst uses up any number.
pub const MAX_PREPARED: u32 = 64;
/// Most virtual CPUs of one instance, in sixteenths: more than common machines have.
pub const MAX_CPU_SIXTEENTHS: u32 = 16 * 256;
/// Least and most memory of one instance, in bytes. With less no container can start.
pub const MEMORY_BYTES: std::ops::RangeInclusive<u64> = (8 << 20)..=(1 << 40);
/// Least and most disk of one instance, in bytes.
pub const DISK_BYTES: std::ops::RangeInclusive<u64> = (1 << 20)..=(16 << 40);
/// Most bytes of an entrypoint with its arguments.
const MAX_ENTRYPOINT_BYTES: usize = 64 * 1024;

/// The valid parts of a section.
pub(super) struct Parsed {
    pub(super) class: Option<ClassManifest>,
    /// Set even if the rest is wrong, so that the caller can check the image.
    pub(super) image: Option<DeclaredImage>,
}

pub(super) fn read(report: &mut Report<'_>, section: &Section<'_, '_>) -> Parsed {
    report.refuse_unknown_keys(section, &KEYS);
    let image = image(report, section);
    let class = read_class(report, section, image.clone());
    Parsed { class, image }
}

/// Reads every field before it returns `None` for any, so that all problems are reported.
fn read_class(
    report: &mut Report<'_>,
    section: &Section<'_, '_>,
    image: Option<DeclaredImage>,
) -> Option<ClassManifest> {
    let name = report
        .required(section, "class_name", "a name such as class_name = \"Hello\"")
        .and_then(|value| values::name::<ClassName>(report, value));
    let default_port = section.get("default_port");
    let default_port = optional(default_port, |value| values::number(report, value, 1..=u16::MAX));
    let max_instances = section.get("max_instances");
    let max_instances = optional(max_instances, |value| values::number(report, value, 1..=MAX_INSTANCES));
    let prepared = optional(section.get("prepared"), |value| values::number(report, value, 0..=MAX_PREPARED));
    let entrypoint = optional(section.get("entrypoint"), |value| entrypoint(report, value));
    let env = optional(section.get("env"), |value| environment(report, value, "[containers.env]"));
    let secrets = optional(section.get("secrets"), |value| secrets::read(report, value, section.get("env")));
    let resources = optional(section.get("instance_type"), |value| instance_type(report, value));
    let disk_in_memory = section.get("disk_in_memory");
    let disk_in_memory = optional(disk_in_memory, |value| values::boolean(report, value));
    let start_boost = optional(section.get("start_boost"), |value| start_boost(report, value));
    refuse_large_boost(report, section.get("start_boost"), start_boost, resources);
    let enable_internet = section.get("enable_internet");
    let enable_internet = optional(enable_internet, |value| values::boolean(report, value));
    let init = optional(section.get("init"), |value| values::boolean(report, value));
    let placement = placement::read(report, section);
    let on_node_gone = optional(section.get("on_node_gone"), |value| placement::on_node_gone(report, value));
    let node_loss =
        optional(section.get("node_loss"), |value| values::time_or_never(report, value, &NODE_LOSS_BOUNDS));
    let manual_start = optional(section.get("manual_start"), |value| values::boolean(report, value));
    let capabilities = optional(section.get("capabilities"), |value| capabilities(report, value));
    let required_ports = optional(section.get("required_ports"), |value| ports(report, value));
    let ping_endpoint = optional(section.get("ping_endpoint"), |value| ping_endpoint(report, value));
    refuse_ports_without_default(report, section);
    let hooks = optional(section.get("hooks"), |value| trigger::hooks(report, value));
    let has_hooks = section.get("hooks").is_some();
    let callbacks = section.get("callbacks");
    let callbacks = optional(callbacks, |value| trigger::callbacks(report, value, has_hooks));
    let durations = durations(report, section)?;
    Some(ClassManifest {
        name: name?,
        image: image?,
        entrypoint: entrypoint?,
        env: env?.unwrap_or_default(),
        secrets: secrets?.unwrap_or_default(),
        resources: Resources {
            disk_in_memory: disk_in_memory?.unwrap_or(false),
            ..resources?.or_else(|| Resources::of_type("lite"))?
        },
        start_boost: start_boost?.unwrap_or_else(|| Some(StartBoost::default())),
        max_instances: max_instances?,
        prepared: prepared?.unwrap_or(PREPARED),
        placement: placement?,
        on_node_gone: on_node_gone?.unwrap_or_default(),
        node_loss: node_loss?,
        manual_start: manual_start?.unwrap_or(false),
        default_port: default_port?,
        sleep_after: durations.sleep_after,
        start_timeout: durations.start_timeout,
        port_timeout: durations.port_timeout,
        stop_grace: durations.stop_grace,
        wake_grace: durations.wake_grace,
        enable_internet: enable_internet?.unwrap_or(true),
        capabilities: capabilities?.unwrap_or_default(),
        init: init?.unwrap_or(true),
        required_ports: required_ports?.unwrap_or_default(),
        ping_endpoint: ping_endpoint?,
        hooks: hooks?,
        callbacks: callbacks?.unwrap_or_default(),
    })
}

/// How long things of a class may take.
struct Durations {
    sleep_after: TimeOrNever,
    start_timeout: Duration,
    port_timeout: Duration,
    stop_grace: Duration,
    wake_grace: Duration,
}

/// Reads all of them before it returns `None` for any.
fn durations(report: &mut Report<'_>, section: &Section<'_, '_>) -> Option<Durations> {
    let mut duration = |key, default, bounds: &Bounds| {
        let value = section.get(key);
        optional(value, |value| values::duration(report, value, bounds)).map(|found| found.unwrap_or(default))
    };
    let start_timeout = duration("start_timeout", START_TIMEOUT, &TIMEOUT_BOUNDS);
    let port_timeout = duration("port_timeout", PORT_TIMEOUT, &TIMEOUT_BOUNDS);
    let stop_grace = duration("stop_grace", STOP_GRACE, &STOP_GRACE_BOUNDS);
    let wake_grace = duration("wake_grace", WAKE_GRACE, &STOP_GRACE_BOUNDS);
    let sleep_after = optional(section.get("sleep_after"), |value| {
        values::time_or_never(report, value, &SLEEP_AFTER_BOUNDS)
    });
    Some(Durations {
        sleep_after: sleep_after?.unwrap_or(SLEEP_AFTER.into()),
        start_timeout: start_timeout?,
        port_timeout: port_timeout?,
        stop_grace: stop_grace?,
        wake_grace: wake_grace?,
    })
}

/// Keys about ports need a default port.
fn refuse_ports_without_default(report: &mut Report<'_>, section: &Section<'_, '_>) {
    if section.get("default_port").is_some() {
        return;
    }
    for key in ["required_ports", "ping_endpoint"] {
        if let Some(value) = section.get(key) {
            report
                .wrong(value.span().start, format!("{key} only goes with a default_port; expected also one"));
        }
    }
}

fn image(report: &mut Report<'_>, section: &Section<'_, '_>) -> Option<DeclaredImage> {
    let value = report.required(section, "image", IMAGE_EXPECTED)?;
    let text = values::text(report, value, IMAGE_EXPECTED)?;
    let source = match image_source(text) {
        Ok(source) => source,
        Err(fault) => {
            report.wrong(value.span().start, format!("{text:?} {fault}; expected {IMAGE_EXPECTED}"));
            return None;
        }
    };
    let has_entrypoint = section.get("entrypoint").is_some();
    Some(DeclaredImage { source, position: report.position(value.span().start), has_entrypoint })
}

/// `false`, `true`, or a table.
fn start_boost(report: &mut Report<'_>, value: &Value<'_>) -> Option<Option<StartBoost>> {
    match value.get_ref() {
        DeValue::Boolean(on) => Some(on.then(StartBoost::default)),
        DeValue::Table(_) => custom_boost(report, value).map(Some),
        _ => {
            let expected = "true, false, or { vcpu = 1, at_most = \"10s\" }";
            report.wrong(value.span().start, format!("found {}; expected {expected}", kind(value)));
            None
        }
    }
}

/// A boost is bounded by what the container has afterwards.
fn refuse_large_boost(
    report: &mut Report<'_>,
    value: Option<&Value<'_>>,
    boost: Option<Option<Option<StartBoost>>>,
    resources: Option<Option<Resources>>,
) {
    let resources = resources.map(|resources| resources.or_else(|| Resources::of_type("lite")));
    if let (Some(value), Some(Some(Some(boost))), Some(Some(resources))) = (value, boost, resources)
        && let Some(fault) = boost.fault(&resources)
    {
        report.wrong(value.span().start, format!("start_boost: {fault}"));
    }
}

fn custom_boost(report: &mut Report<'_>, value: &Value<'_>) -> Option<StartBoost> {
    let section = report.section(value, "start_boost")?;
    report.refuse_unknown_keys(&section, &["vcpu", "at_most"]);
    let vcpu = report.required(&section, "vcpu", "a number such as vcpu = 1");
    let vcpu = vcpu.and_then(|value| values::sixteenths(report, value, MAX_CPU_SIXTEENTHS));
    let at_most = report.required(&section, "at_most", "a duration such as at_most = \"10s\"");
    let at_most = at_most.and_then(|value| values::duration(report, value, &BOOST_BOUNDS));
    Some(StartBoost { cpu_sixteenths: vcpu?, at_most: at_most? })
}

/// Ports that must take connections before requests are sent.
fn ports(report: &mut Report<'_>, value: &Value<'_>) -> Option<Vec<u16>> {
    let items = value.get_ref().as_array().map(|items| items.iter().collect::<Vec<_>>());
    let Some(items) = items.filter(|items| items.len() <= MAX_REQUIRED_PORTS) else {
        let expected =
            format!("expected a list such as [8081, 9000], with {MAX_REQUIRED_PORTS} ports at most");
        report.wrong(value.span().start, expected);
        return None;
    };
    // Collected first, so that all problems are reported.
    let ports: Vec<_> = items.into_iter().map(|item| values::number(report, item, 1..=u16::MAX)).collect();
    ports.into_iter().collect()
}

/// The path of the request that checks whether the app is ready.
fn ping_endpoint(report: &mut Report<'_>, value: &Value<'_>) -> Option<String> {
    let expected = "a path such as \"/healthz\"";
    let text = values::text(report, value, expected)?;
    let fault = path_fault(text);
    if let Some(fault) = fault {
        report.wrong(value.span().start, format!("the path {text:?} {fault}; expected {expected}"));
    }
    fault.is_none().then(|| text.to_owned())
}

fn capabilities(report: &mut Report<'_>, value: &Value<'_>) -> Option<BTreeSet<Capability>> {
    let Some(items) = value.get_ref().as_array() else {
        let expected = "a list of names such as [\"setuid\", \"setgid\"]";
        report.wrong(value.span().start, format!("found {}; expected {expected}", kind(value)));
        return None;
    };
    // Collected first, so that all problems are reported.
    let found: Vec<_> = items.iter().map(|item| capability(report, item)).collect();
    found.into_iter().collect()
}

fn capability(report: &mut Report<'_>, value: &Value<'_>) -> Option<Capability> {
    let name = values::text(report, value, "each capability")?;
    let capability = Capability::of_name(name);
    if capability.is_none() {
        let known = Capability::NAMES.map(|(name, _)| name);
        let hint = nearest(name, &known).map(|near| format!("did you mean {near:?}?"));
        let hint = hint.unwrap_or_else(|| format!("expected some of {}", known.join(", ")));
        report.wrong(value.span().start, format!("{name:?} is no capability that a class can have; {hint}"));
    }
    capability
}

fn instance_type(report: &mut Report<'_>, value: &Value<'_>) -> Option<Resources> {
    match value.get_ref() {
        DeValue::String(name) => named_type(report, value, name),
        DeValue::Table(_) => custom_type(report, value),
        _ => {
            let expected =
                "a type's name such as \"lite\", or { vcpu = 0.25, memory = \"512MiB\", disk = \"1GB\" }";
            report.wrong(value.span().start, format!("found {}; expected {expected}", kind(value)));
            None
        }
    }
}

fn named_type(report: &mut Report<'_>, value: &Value<'_>, name: &str) -> Option<Resources> {
    let resources = Resources::of_type(name);
    if resources.is_none() {
        let known = Resources::TYPES.map(|(name, _)| name);
        let hint = nearest(name, &known).map(|near| format!("did you mean {near:?}?"));
        let hint = hint.unwrap_or_else(|| format!("expected one of {}", known.join(", ")));
        report.wrong(value.span().start, format!("there is no instance type {name:?}; {hint}"));
    }
    resources
}

fn custom_type(report: &mut Report<'_>, value: &Value<'_>) -> Option<Resources> {
    let section = report.section(value, "instance_type")?;
    report.refuse_unknown_keys(&section, &["vcpu", "memory", "disk"]);
    let vcpu = report.required(&section, "vcpu", "a number such as vcpu = 0.25");
    let vcpu = vcpu.and_then(|value| values::sixteenths(report, value, MAX_CPU_SIXTEENTHS));
    let memory = report.required(&section, "memory", "a size such as memory = \"512MiB\"");
    let memory = memory.and_then(|value| values::size(report, value, MEMORY_BYTES));
    let disk = report.required(&section, "disk", "a size such as disk = \"1GB\"");
    let disk = disk.and_then(|value| values::size(report, value, DISK_BYTES));
    Some(Resources { cpu_sixteenths: vcpu?, memory_bytes: memory?, disk_bytes: disk?, disk_in_memory: false })
}

fn entrypoint(report: &mut Report<'_>, value: &Value<'_>) -> Option<Vec<String>> {
    let at = value.span().start;
    let expected = "a list of texts such as [\"/app/hello\", \"--verbose\"]";
    let Some(items) = value.get_ref().as_array() else {
        report.wrong(at, format!("found {}; expected {expected}", kind(value)));
        return None;
    };
    let words: Vec<_> = items.iter().map(|item| values::text(report, item, "each word")).collect();
    let words: Vec<String> = words.into_iter().map(|word| word.map(str::to_owned)).collect::<Option<_>>()?;
    if words.first().is_none_or(String::is_empty) {
        report.wrong(at, format!("names no program; expected {expected}"));
        return None;
    }
    if words.iter().any(|word| word.contains('\0')) {
        report.wrong(at, "holds a zero byte, which no argument can; expected none");
        return None;
    }
    let bytes: usize = words.iter().map(String::len).sum();
    if bytes > MAX_ENTRYPOINT_BYTES {
        report.wrong(at, format!("is {bytes} bytes long; expected at most {MAX_ENTRYPOINT_BYTES}"));
        return None;
    }
    Some(words)
}
