//! Reads URLs as the URL standard does: its states are functions here, each of which takes what is left of the text.

use std::borrow::Cow;

use url::Host;

use super::percent::{Set, encode};
use super::record::{Path, Record, is_drive, is_special};

/// A URL, alone or from where the base is.
pub(super) fn parse(text: &str, base: Option<&Record>) -> Option<Record> {
    let text = text.trim_matches(|c: char| c <= ' ');
    let text = &*without_breaks(text);
    match split_scheme(text) {
        Some((scheme, rest)) => absolute(scheme, rest, base),
        None => without_scheme(text, base?),
    }
}

/// Tabs and line breaks do not count anywhere.
pub(super) fn without_breaks(text: &str) -> Cow<'_, str> {
    let breaks = ['\t', '\n', '\r'];
    if text.contains(breaks) { Cow::Owned(text.replace(breaks, "")) } else { Cow::Borrowed(text) }
}

/// What stands before the first colon, if it can be a scheme, in lower case, and what stands behind.
pub(super) fn split_scheme(text: &str) -> Option<(String, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let mut bytes = scheme.bytes();
    let begins = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic());
    let goes_on = bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
    (begins && goes_on).then(|| (scheme.to_ascii_lowercase(), rest))
}

fn absolute(scheme: String, rest: &str, base: Option<&Record>) -> Option<Record> {
    if scheme == "file" {
        return file(rest, base.filter(|base| base.scheme == "file" && !base.is_opaque()));
    }
    if is_special(&scheme) {
        if let Some(base) = base.filter(|base| base.scheme == scheme)
            && !rest.starts_with("//")
        {
            return relative(rest, base);
        }
        return authority(Record { scheme, ..Record::default() }, skip_slashes(rest));
    }
    let mut url = Record { scheme, ..Record::default() };
    if let Some(rest) = rest.strip_prefix("//") {
        return authority(url, rest);
    }
    if let Some(rest) = rest.strip_prefix('/') {
        path(&mut url, rest);
    } else {
        opaque(&mut url, rest);
    }
    Some(url)
}

fn without_scheme(text: &str, base: &Record) -> Option<Record> {
    if base.is_opaque() {
        let fragment = encode(text.strip_prefix('#')?, Set::Fragment);
        return Some(Record { fragment: Some(fragment), ..base.clone() });
    }
    if base.scheme == "file" { file(text, Some(base)) } else { relative(text, base) }
}

fn skip_slashes(text: &str) -> &str {
    text.trim_start_matches(['/', '\\'])
}

/// What is behind one slash; in special URLs also behind a backslash.
fn behind_slash(text: &str, special: bool) -> Option<&str> {
    text.strip_prefix('/').or_else(|| text.strip_prefix('\\').filter(|_| special))
}

fn relative(text: &str, base: &Record) -> Option<Record> {
    let special = base.is_special();
    if let Some(rest) = behind_slash(text, special) {
        if let Some(rest) = behind_slash(rest, special) {
            let url = Record { scheme: base.scheme.clone(), ..Record::default() };
            return authority(url, if special { skip_slashes(rest) } else { rest });
        }
        let mut url = Record { path: Path::default(), query: None, fragment: None, ..base.clone() };
        path(&mut url, rest);
        return Some(url);
    }
    let mut url = Record { fragment: None, ..base.clone() };
    beside(&mut url, text);
    Some(url)
}

/// What is no path from the root: it goes on from the base, which the URL is so far.
fn beside(url: &mut Record, text: &str) {
    if text.is_empty() || text.starts_with(['?', '#']) {
        return query(url, text);
    }
    url.query = None;
    url.shorten();
    path(url, text);
}

/// Query and fragment, with their marks.
fn query(url: &mut Record, text: &str) {
    let (text, fragment) =
        text.split_once('#').map_or((text, None), |(text, fragment)| (text, Some(fragment)));
    if let Some(query) = text.strip_prefix('?') {
        set_query(url, query);
    }
    if let Some(fragment) = fragment {
        url.fragment = Some(encode(fragment, Set::Fragment));
    }
}

pub(super) fn set_query(url: &mut Record, query: &str) {
    let set = if url.is_special() { Set::SpecialQuery } else { Set::Query };
    url.query = Some(encode(query, set));
}

/// Where the host, with what stands around it, ends.
fn authority_end(text: &str, special: bool) -> usize {
    text.find(|c| matches!(c, '/' | '?' | '#') || (special && c == '\\')).unwrap_or(text.len())
}

fn authority(mut url: Record, text: &str) -> Option<Record> {
    let (authority, rest) = text.split_at(authority_end(text, url.is_special()));
    let host = match authority.rsplit_once('@') {
        None => authority,
        Some((_, "")) => return None,
        Some((credentials, host)) => {
            let (username, password) = credentials.split_once(':').unwrap_or((credentials, ""));
            url.username = encode(username, Set::UserInfo);
            url.password = encode(password, Set::UserInfo);
            host
        }
    };
    let (host, port) = split_port(host);
    if host.is_empty() && (url.is_special() || port.is_some()) {
        return None;
    }
    url.host = Some(parse_host(host, url.is_special())?);
    if let Some(port) = port.filter(|port| !port.is_empty()) {
        url.set_port(parse_port(port).filter(|_| port.bytes().all(|byte| byte.is_ascii_digit()))?);
    }
    path_start(&mut url, rest);
    Some(url)
}

/// Host and port, at the first colon that is not within brackets.
pub(super) fn split_port(text: &str) -> (&str, Option<&str>) {
    let mut within = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'[' => within = true,
            b']' => within = false,
            b':' if !within => return (&text[..at], Some(&text[at + 1..])),
            _ => {}
        }
    }
    (text, None)
}

/// The port that the digits at the beginning are.
pub(super) fn parse_port(text: &str) -> Option<u16> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].trim_start_matches('0').parse().ok().or_else(|| {
        let zero = end > 0 && text[..end].bytes().all(|byte| byte == b'0');
        zero.then_some(0)
    })
}

/// A host as it is written.
pub(super) fn parse_host(text: &str, special: bool) -> Option<String> {
    if text.is_empty() {
        return (!special).then(String::new);
    }
    let host = if special { Host::parse(text) } else { Host::parse_opaque(text) }.ok()?;
    let nested = matches!(&host, Host::Domain(domain) if special && is_nested(domain));
    (!nested).then(|| host.to_string())
}

/// Whether a label stands for one that itself looks like standing for another.
fn is_nested(domain: &str) -> bool {
    let mut labels = domain.split('.').filter(|label| label.starts_with("xn--xn--"));
    labels.any(|label| url::quirks::domain_to_unicode(label).starts_with("xn--"))
}

/// A path with what follows, behind a host.
fn path_start(url: &mut Record, text: &str) {
    if url.is_special() {
        path(url, behind_slash(text, true).unwrap_or(text));
    } else if text.is_empty() || text.starts_with(['?', '#']) {
        query(url, text);
    } else {
        path(url, text.strip_prefix('/').unwrap_or(text));
    }
}

/// A path behind its first slash, and query and fragment.
fn path(url: &mut Record, text: &str) {
    let (path, rest) = text.split_at(text.find(['?', '#']).unwrap_or(text.len()));
    segments(url, path);
    query(url, rest);
}

/// A path behind its first slash.
pub(super) fn segments(url: &mut Record, mut text: &str) {
    let special = url.is_special();
    loop {
        let end = text.find(|c| c == '/' || (special && c == '\\'));
        let segment = &text[..end.unwrap_or(text.len())];
        let last = end.is_none();
        match dots(segment) {
            2 => {
                url.shorten();
                if last {
                    url.push(String::new());
                }
            }
            1 if last => url.push(String::new()),
            1 => {}
            _ => push_segment(url, segment),
        }
        let Some(end) = end else { return };
        text = &text[end + 1..];
    }
}

/// How many dots a segment means; 0 if it is another.
fn dots(segment: &str) -> usize {
    if !segment.starts_with(['.', '%']) {
        return 0;
    }
    let lower = segment.to_ascii_lowercase();
    match lower.as_str() {
        "." | "%2e" => 1,
        ".." | ".%2e" | "%2e." | "%2e%2e" => 2,
        _ => 0,
    }
}

fn push_segment(url: &mut Record, segment: &str) {
    let first = matches!(&url.path, Path::Segments(segments) if segments.is_empty());
    if url.scheme == "file" && first && is_drive(segment, false) {
        return url.push(format!("{}:", &segment[..1]));
    }
    url.push(encode(segment, Set::Path));
}

fn opaque(url: &mut Record, text: &str) {
    let (path, rest) = text.split_at(text.find(['?', '#']).unwrap_or(text.len()));
    let path = match path.strip_suffix(' ') {
        // It would be lost once what follows is taken away.
        Some(path) if !rest.is_empty() => format!("{}%20", encode(path, Set::Control)),
        _ => encode(path, Set::Control),
    };
    url.path = Path::Opaque(path);
    query(url, rest);
}

fn file(text: &str, base: Option<&Record>) -> Option<Record> {
    let mut url = Record { scheme: "file".to_owned(), host: Some(String::new()), ..Record::default() };
    if let Some(rest) = behind_slash(text, true) {
        if let Some(rest) = behind_slash(rest, true) {
            return file_host(url, rest);
        }
        from_root(&mut url, rest, base);
        path(&mut url, rest);
        return Some(url);
    }
    let Some(base) = base else {
        path(&mut url, text);
        return Some(url);
    };
    url = Record { fragment: None, ..base.clone() };
    if begins_with_drive(text) {
        url.path = Path::default();
        url.query = None;
        path(&mut url, text);
    } else {
        beside(&mut url, text);
    }
    Some(url)
}

/// The host and the drive that a path from the root has from the base.
fn from_root(url: &mut Record, rest: &str, base: Option<&Record>) {
    let Some(base) = base else { return };
    url.host.clone_from(&base.host);
    if let Path::Segments(segments) = &base.path
        && let Some(drive) = segments.first().filter(|first| is_drive(first, true))
        && !begins_with_drive(rest)
    {
        url.push(drive.clone());
    }
}

fn begins_with_drive(text: &str) -> bool {
    text.get(..2).is_some_and(|start| is_drive(start, false))
        && text[2..].chars().next().is_none_or(|c| matches!(c, '/' | '\\' | '?' | '#'))
}

fn file_host(mut url: Record, text: &str) -> Option<Record> {
    let (host, rest) = text.split_at(authority_end(text, true));
    if is_drive(host, false) {
        path(&mut url, text);
        return Some(url);
    }
    url.host = Some(parse_file_host(host)?);
    path_start(&mut url, rest);
    Some(url)
}

/// The host of a file: this machine is none.
pub(super) fn parse_file_host(text: &str) -> Option<String> {
    if text.is_empty() {
        return Some(String::new());
    }
    let host = parse_host(text, true)?;
    Some(if host == "localhost" { String::new() } else { host })
}
