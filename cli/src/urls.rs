//! Where an app is reached: for each route a URL that answers, or where that takes more than a URL, a `curl` that does.
//! Knows nothing of edges but their address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use berth_common::manifest::Manifest;
use berth_common::spec::{NameSource, RouteSpec};
use berth_project::Route;

/// The object that examples ask for.
const EXAMPLE: &str = "1";

/// The URL of an edge that listens there, on this host; without a host it is on this machine.
pub(crate) fn base(listen: SocketAddr, host: Option<&str>) -> String {
    match host {
        Some(host) if host.contains(':') => format!("http://[{host}]:{}", listen.port()),
        Some(host) => format!("http://{host}:{}", listen.port()),
        None => format!("http://{}", reachable(listen)),
    }
}

/// An address that listens everywhere is reached on loopback.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// One line for each route: an example, and the route.
pub(crate) fn describe(manifest: &Manifest, base: &str) -> Vec<String> {
    let mut lines: Vec<String> = manifest
        .routes
        .iter()
        .map(|route| format!("{}    {} -> {}", example(route, base), route.path, route.class))
        .collect();
    if manifest.assets.is_some() {
        lines.insert(0, format!("{base}/    static files"));
    }
    if lines.is_empty() {
        lines.push(format!("{base}    {} has no routes: every path answers 404", manifest.name));
    }
    lines
}

/// The same without the routes, for programs.
pub(crate) fn of(manifest: &Manifest, base: &str) -> Vec<String> {
    manifest.routes.iter().map(|route| url(route, base)).collect()
}

/// Where a Workers project is reached: for each of its routes, or everywhere. A URL, or a command where that takes more.
pub(crate) fn describe_worker(routes: &[Route], base: &str) -> Vec<String> {
    let place = |(route, url): (&Route, String)| match route.hosts.first() {
        Some(host) => format!("curl -H 'host: {}' {url}", host_of(&host.to_string())),
        None => url,
    };
    match routes {
        [] => of_worker(routes, base),
        routes => routes.iter().zip(of_worker(routes, base)).map(place).collect(),
    }
}

/// The URLs of a Workers project.
pub(crate) fn of_worker(routes: &[Route], base: &str) -> Vec<String> {
    if routes.is_empty() {
        return vec![format!("{base}/")];
    }
    routes.iter().map(|route| format!("{base}{}", route.path.trim_end_matches('*'))).collect()
}

/// A URL, or a command where the route asks for more than that.
fn example(route: &RouteSpec, base: &str) -> String {
    let mut options = String::new();
    if let Some(method) =
        route.methods.first().filter(|_| !route.methods.iter().any(|method| method == "GET"))
    {
        options.push_str(&format!("-X {method} "));
    }
    if let Some(host) = route.hosts.first() {
        options.push_str(&format!("-H 'host: {}' ", host_of(&host.to_string())));
    }
    match &route.object {
        NameSource::Header(name) => options.push_str(&format!("-H '{name}: {EXAMPLE}' ")),
        NameSource::Cookie(name) => options.push_str(&format!("-b {name}={EXAMPLE} ")),
        _ => {}
    }
    let url = url(route, base);
    match options.as_str() {
        "" => url,
        options if url.contains('?') => format!("curl {options}'{url}'"),
        options => format!("curl {options}{url}"),
    }
}

fn url(route: &RouteSpec, base: &str) -> String {
    let query = match &route.object {
        NameSource::Query(name) => format!("?{name}={EXAMPLE}"),
        _ => String::new(),
    };
    format!("{base}{}{query}", path(&route.path.to_string()))
}

/// A host that the pattern takes: its first label may stand for any.
fn host_of(pattern: &str) -> String {
    match pattern.split_once('.') {
        Some((first, rest)) if first == "*" || first.starts_with('{') => format!("{EXAMPLE}.{rest}"),
        _ => pattern.to_owned(),
    }
}

/// A path that the pattern takes: each parameter is the example.
fn path(pattern: &str) -> String {
    let parts = pattern.split('/').map(|part| match part {
        "*" => "",
        part if part.starts_with('{') => EXAMPLE,
        part => part,
    });
    let path = parts.collect::<Vec<_>>().join("/");
    if pattern.ends_with("/*") { path.trim_end_matches('/').to_owned() + trailing(pattern) } else { path }
}

/// `/*` alone leaves only the root.
fn trailing(pattern: &str) -> &'static str {
    if pattern == "/*" { "/" } else { "" }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn examples_are_taken_by_their_patterns() {
        let cases = [("/container/{id}/*", "/container/1"), ("/*", "/"), ("/", "/"), ("/a/{b}/c", "/a/1/c")];
        for (pattern, example) in cases {
            assert_eq!(path(pattern), example);
            let parsed = berth_common::spec::PathPattern::new(pattern).unwrap();
            assert!(parsed.captures(example).is_some(), "{pattern} does not take {example}");
        }
    }

    #[test]
    fn what_a_route_asks_for_is_in_its_example() {
        let app = "name = \"a\"\n[[containers]]\nclass_name = \"A\"\nimage = \"./a\"\ndefault_port = 80\nenable_internet = false\n";
        let routes = [
            ("path = \"/x/{id}/*\"\nobject = \"{id}\"", "http://e:1/x/1"),
            (
                "path = \"/*\"\nhosts = [\"{room}.example.com\"]\nobject = \"{room}\"",
                "curl -H 'host: 1.example.com' http://e:1/",
            ),
            ("path = \"/q\"\nobject = { query = \"name\" }", "http://e:1/q?name=1"),
            ("path = \"/h\"\nobject = { header = \"x-id\" }", "curl -H 'x-id: 1' http://e:1/h"),
            (
                "path = \"/c\"\nmethods = [\"POST\"]\nobject = { cookie = \"id\" }",
                "curl -X POST -b id=1 http://e:1/c",
            ),
        ];
        let text: String =
            routes.iter().map(|(route, _)| format!("[[routes]]\nclass = \"A\"\n{route}\n")).collect();
        let manifest = Manifest::parse(Path::new("berth.toml"), &format!("{app}{text}"));
        let manifest = manifest.unwrap_or_else(|problems| panic!("{problems}"));
        for (route, (_, expected)) in manifest.routes.iter().zip(routes) {
            assert!(
                example(route, "http://e:1").eq_ignore_ascii_case(expected),
                "{}",
                example(route, "http://e:1")
            );
        }
    }

    #[test]
    fn everywhere_is_reached_on_loopback() {
        assert_eq!(base("0.0.0.0:80".parse().unwrap(), None), "http://127.0.0.1:80");
        assert_eq!(base("[::]:80".parse().unwrap(), None), "http://[::1]:80");
        assert_eq!(base("0.0.0.0:80".parse().unwrap(), Some("edge.example")), "http://edge.example:80");
        assert_eq!(base("0.0.0.0:80".parse().unwrap(), Some("fd00::1")), "http://[fd00::1]:80");
    }
}
