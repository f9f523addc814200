//! Which files are tests, of which family, and which scripts belong to one.

use std::io;
use std::path::{Component, Path};

/// The families, each a directory.
const FAMILIES: &[&str] = &[
    "url",
    "dom/abort",
    "dom/events",
    "encoding",
    "fetch/api/headers",
    "fetch/api/body",
    "fetch/api/request",
    "fetch/api/response",
    "streams",
];

/// Files in whose place others stand here: they ask for what only browsers have.
const INSTEAD: &[(&str, &str)] = &[("common/sab.js", include_str!("sab.js"))];

/// What the tests' server would put into `.sub.` files.
const SUBSTITUTES: &[(&str, &str)] = &[
    ("{{host}}", "web-platform.test"),
    ("{{ports[http][0]}}", "8000"),
    ("{{ports[http][1]}}", "8001"),
    ("{{ports[https][0]}}", "8443"),
    ("{{ports[https][1]}}", "8444"),
    ("{{domains[www]}}", "www.web-platform.test"),
    ("{{domains[www1]}}", "www1.web-platform.test"),
    ("{{domains[www2]}}", "www2.web-platform.test"),
    ("{{hosts[alt][]}}", "not-web-platform.test"),
    ("{{hosts[alt][www2]}}", "www2.not-web-platform.test"),
];

/// A test file and what is run with it.
pub(crate) struct Case {
    /// Its path in the checkout.
    pub(crate) path: String,
    /// Name and text of each script, in their order.
    pub(crate) scripts: Vec<(String, String)>,
}

/// The family of a file.
pub(crate) fn family(path: &str) -> Option<&'static str> {
    let within = |family: &&&str| path.strip_prefix(**family).is_some_and(|rest| rest.starts_with('/'));
    FAMILIES.iter().find(within).copied()
}

/// The paths of all tests of the families that are there, in order.
pub(crate) fn tests(dir: &Path) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for family in FAMILIES {
        walk(dir, family, &mut found)?;
    }
    found.sort_by_key(|path| {
        (FAMILIES.iter().position(|family| Some(*family) == self::family(path)), path.clone())
    });
    Ok(found)
}

fn walk(dir: &Path, path: &str, found: &mut Vec<String>) -> io::Result<()> {
    let entries = match std::fs::read_dir(dir.join(path)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = format!("{path}/{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            walk(dir, &name, found)?;
        } else if is_test(&name) {
            found.push(name);
        }
    }
    Ok(())
}

/// Those that need no page of their own, and those made for a page that may do without one.
fn is_test(name: &str) -> bool {
    [".any.js", ".window.js", "cloned-any.js"].iter().any(|end| name.ends_with(end))
}

/// A file with the scripts that it asks for.
pub(crate) fn case(dir: &Path, path: &str) -> io::Result<Case> {
    let own = text(dir, path)?;
    let mut scripts = vec![script(dir, "resources/testharness.js")?];
    for line in own.lines().take_while(|line| line.starts_with("//") || line.trim().is_empty()) {
        if let Some(wanted) = line.strip_prefix("// META: script=") {
            scripts.push(script(dir, &beside(path, wanted.trim()))?);
        }
    }
    scripts.push((path.to_owned(), own));
    Ok(Case { path: path.to_owned(), scripts })
}

fn script(dir: &Path, path: &str) -> io::Result<(String, String)> {
    let instead = INSTEAD.iter().find(|(name, _)| *name == path);
    Ok((path.to_owned(), instead.map_or_else(|| text(dir, path), |(_, text)| Ok((*text).to_owned()))?))
}

/// A path as it stands in a file: from the root of the checkout, or from that file's directory.
fn beside(path: &str, wanted: &str) -> String {
    if let Some(absolute) = wanted.strip_prefix('/') {
        return absolute.to_owned();
    }
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    for part in wanted.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn text(dir: &Path, path: &str) -> io::Result<String> {
    let bytes = bytes(dir, path)?;
    let mut text = String::from_utf8_lossy(&bytes).into_owned();
    if path.contains(".sub.") {
        SUBSTITUTES.iter().for_each(|(what, with)| text = text.replace(what, with));
    }
    Ok(text)
}

/// A file of the checkout.
pub(crate) fn bytes(dir: &Path, path: &str) -> io::Result<Vec<u8>> {
    let path = Path::new(path);
    if path.components().any(|part| !matches!(part, Component::Normal(_))) {
        return Err(io::Error::new(io::ErrorKind::NotFound, "not in the checkout"));
    }
    std::fs::read(dir.join(path))
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}
