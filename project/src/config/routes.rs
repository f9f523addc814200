//! `route` and `routes`: the hosts and paths whose requests are the app's.

use berth_common::spec::HostPattern;

use super::environment::{Found, View};
use super::section::Reading;
use crate::report::quoted;
use crate::value::{Node, Value};

/// Most routes.
const MAX_ROUTES: usize = 1024;

/// Which requests are the app's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// As it is written.
    pub pattern: String,
    /// The hosts. All where there are none.
    pub hosts: Vec<HostPattern>,
    /// The path; one that ends in `*` takes all that begin so.
    pub path: String,
}

pub(super) fn read(reading: &mut Reading<'_>, view: &View<'_>) -> Vec<Route> {
    let (one, many) = (view.given("route"), view.given("routes"));
    if let (Some(one), Some(_)) = (&one, &many) {
        reading
            .wrong(one.node.at, format!("{} and `routes` are both there; expected one of the two", one.path));
    }
    let mut routes = Vec::new();
    if let Some(Found { node, path }) = one {
        routes.extend(route(reading, node, &path));
    }
    if let Some(Found { node, path }) = many {
        let items = reading.list(node, &path, MAX_ROUTES).iter();
        routes.extend(items.filter_map(|item| route(reading, item, &path)));
    }
    routes
}

fn route(reading: &mut Reading<'_>, node: &Node, path: &str) -> Option<Route> {
    if let Value::Text(pattern) = &node.value {
        return parsed(reading, pattern, false, node.at, path);
    }
    if node.as_table().is_none() {
        let expected = "expected a pattern such as \"example.com/*\", or { \"pattern\": … }";
        reading.wrong(node.at, format!("{path}: found {}; {expected}", node.kind()));
        return None;
    }
    let section = reading.section(node, path)?;
    reading.unknown_keys(
        &section,
        &["pattern", "zone_id", "zone_name", "custom_domain", "enabled", "previews_enabled"],
    );
    let custom = section.get("custom_domain");
    let custom =
        custom.and_then(|node| reading.boolean(node, &section.key("custom_domain"))).unwrap_or(false);
    let pattern = reading.required(&section, "pattern", "a pattern such as \"example.com/*\"")?;
    let text = reading.text(pattern, &section.key("pattern"))?;
    parsed(reading, text, custom, pattern.at, &section.key("pattern"))
}

fn parsed(reading: &mut Reading<'_>, pattern: &str, custom: bool, at: usize, path: &str) -> Option<Route> {
    match split(pattern, custom) {
        Ok(route) => Some(route),
        Err(fault) => {
            reading.wrong(at, format!("{path}: {} {fault}", quoted(pattern)));
            None
        }
    }
}

fn split(pattern: &str, custom: bool) -> Result<Route, String> {
    let rest =
        pattern.strip_prefix("https://").or_else(|| pattern.strip_prefix("http://")).unwrap_or(pattern);
    let (host, path) = rest.find('/').map_or((rest, None), |slash| (&rest[..slash], Some(&rest[slash..])));
    if custom && (path.is_some() || host.contains('*')) {
        return Err("is a custom domain, which has neither a path nor `*`; expected a host alone".to_owned());
    }
    let path = if custom { "/*" } else { path.unwrap_or("/") };
    if path.contains(['?', '#']) || path[..path.len() - 1].contains('*') {
        return Err("cannot be matched; expected a path whose only `*` is at its end".to_owned());
    }
    let host_fault = |error| format!("cannot be matched: {error}");
    let hosts = match host {
        "*" => Vec::new(),
        _ => match host.strip_prefix('*') {
            // Without a dot it stands for the host itself, too.
            Some(rest) if !rest.starts_with('.') => vec![rest.to_owned(), format!("*.{rest}")],
            _ => vec![host.to_owned()],
        },
    };
    let hosts =
        hosts.iter().map(|host| HostPattern::new(host).map_err(host_fault)).collect::<Result<_, _>>()?;
    Ok(Route { pattern: pattern.to_owned(), hosts, path: path.to_owned() })
}
