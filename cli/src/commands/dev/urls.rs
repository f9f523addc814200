//! The URLs of an app, to click on.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use berth_common::manifest::Manifest;

/// One line for each route: an example URL, and the route.
pub(crate) fn describe(manifest: &Manifest, listen: SocketAddr) -> Vec<String> {
    let reachable = reachable(listen);
    let routes = manifest.routes.iter().map(|route| {
        let path = route.path.to_string();
        format!("http://{reachable}{}    {path} -> {}", example(&path), route.class)
    });
    let mut lines: Vec<String> = routes.collect();
    if lines.is_empty() {
        lines.push(format!("http://{reachable}    {} has no routes: every path answers 404", manifest.name));
    }
    lines
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

/// A path that matches the pattern: each parameter is 1.
fn example(pattern: &str) -> String {
    let parts = pattern.split('/').map(|part| match part {
        "*" => "",
        part if part.starts_with('{') => "1",
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
    use super::*;

    #[test]
    fn examples_are_taken_by_their_patterns() {
        let cases = [("/container/{id}/*", "/container/1"), ("/*", "/"), ("/", "/"), ("/a/{b}/c", "/a/1/c")];
        for (pattern, path) in cases {
            assert_eq!(example(pattern), path);
            let parsed = berth_common::spec::PathPattern::new(pattern).unwrap();
            assert!(parsed.captures(path).is_some(), "{pattern} does not take {path}");
        }
    }

    #[test]
    fn everywhere_is_reached_on_loopback() {
        assert_eq!(reachable("0.0.0.0:80".parse().unwrap()).to_string(), "127.0.0.1:80");
        assert_eq!(reachable("[::]:80".parse().unwrap()).to_string(), "[::1]:80");
    }
}
