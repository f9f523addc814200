//! Sets a part of a URL. A value that cannot be leaves it as it is.

use super::parse::{
    parse_file_host, parse_host, parse_port, segments, set_query, split_port, split_scheme, without_breaks,
};
use super::percent::{Set, encode};
use super::record::{Path, Record, default_port, is_special};

pub(super) fn set(url: &mut Record, part: &str, value: &str) {
    match part {
        "protocol" => set_scheme(url, &without_breaks(value)),
        "username" if url.can_have_credentials() => url.username = encode(value, Set::UserInfo),
        "password" if url.can_have_credentials() => url.password = encode(value, Set::UserInfo),
        "host" => set_host(url, &without_breaks(value), true),
        "hostname" => set_host(url, &without_breaks(value), false),
        "port" if url.can_have_credentials() => set_port(url, value),
        "pathname" => set_path(url, &without_breaks(value)),
        "search" if value.is_empty() => url.query = None,
        "search" => {
            let query = without_breaks(value);
            set_query(url, query.strip_prefix('?').unwrap_or(&query));
        }
        "hash" if value.is_empty() => url.fragment = None,
        "hash" => {
            let hash = without_breaks(value);
            url.fragment = Some(encode(hash.strip_prefix('#').unwrap_or(&hash), Set::Fragment));
        }
        _ => {}
    }
}

fn set_scheme(url: &mut Record, value: &str) {
    let value = format!("{value}:");
    let Some((scheme, _)) = split_scheme(&value) else { return };
    let to_file = scheme == "file" && (url.has_credentials() || url.port.is_some());
    let from_file = url.scheme == "file" && url.host.as_ref().is_none_or(String::is_empty);
    if is_special(&scheme) != url.is_special() || to_file || from_file {
        return;
    }
    url.scheme = scheme;
    if url.port == default_port(&url.scheme) {
        url.port = None;
    }
}

fn set_host(url: &mut Record, value: &str, with_port: bool) {
    let special = url.is_special();
    if url.is_opaque() {
        return;
    }
    let end = value.find(|c| matches!(c, '/' | '?' | '#') || (special && c == '\\'));
    let value = &value[..end.unwrap_or(value.len())];
    if url.scheme == "file" {
        if let Some(host) = parse_file_host(value) {
            url.host = Some(host);
        }
        return;
    }
    let (host, port) = split_port(value);
    let needed = special || port.is_some() || url.has_credentials() || url.port.is_some();
    if (host.is_empty() && needed) || (port.is_some() && !with_port) {
        return;
    }
    let Some(host) = parse_host(host, special) else { return };
    url.host = Some(host);
    if let Some(port) = port.and_then(parse_port) {
        url.set_port(port);
    }
}

fn set_port(url: &mut Record, value: &str) {
    if value.is_empty() {
        url.port = None;
    } else if let Some(port) = parse_port(&without_breaks(value)) {
        url.set_port(port);
    }
}

fn set_path(url: &mut Record, value: &str) {
    if url.is_opaque() {
        return;
    }
    url.path = Path::default();
    let special = url.is_special();
    if value.is_empty() && !special {
        if url.host.is_none() {
            url.push(String::new());
        }
        return;
    }
    let behind = value.strip_prefix('/').or_else(|| value.strip_prefix('\\').filter(|_| special));
    segments(url, behind.unwrap_or(value));
}
