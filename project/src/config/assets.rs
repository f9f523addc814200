//! `assets`: static files, and which requests they answer.

use std::path::PathBuf;

use berth_common::manifest::Position;

use super::environment::{Found, View};
use super::section::Reading;
use super::values::{Names, relative_path};
use crate::report::quoted;
use crate::value::{Node, Value};

/// Most patterns of `run_worker_first`: the reference's bound.
const MAX_PATTERNS: usize = 100;
/// Longest pattern, in bytes: the reference's bound.
const MAX_PATTERN_BYTES: usize = 100;

/// Static files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assets {
    /// Where they are, relative to the project's directory.
    pub directory: PathBuf,
    /// Where the configuration names the directory.
    pub position: Position,
    /// Their name in `env`.
    pub binding: Option<String>,
    /// How paths of pages are written.
    pub html_handling: HtmlHandling,
    /// What requests get that name no file.
    pub not_found_handling: NotFoundHandling,
    /// Which requests the program gets before the files.
    pub run_worker_first: RunWorkerFirst,
}

/// How paths of pages are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HtmlHandling {
    /// A slash at the end where the page is the index of a directory.
    #[default]
    AutoTrailingSlash,
    /// A slash at the end.
    ForceTrailingSlash,
    /// None.
    DropTrailingSlash,
    /// As the files are named.
    None,
}

/// What requests get that name no file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NotFoundHandling {
    /// The program's answer, or 404.
    #[default]
    None,
    /// `index.html`, with the status 200.
    SinglePageApplication,
    /// The nearest `404.html`, with the status 404.
    NotFoundPage,
}

/// Which requests the program gets before the files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum RunWorkerFirst {
    /// None.
    #[default]
    Never,
    /// All.
    Always,
    /// Those that match a pattern, but for those that match one with `!` before it.
    Paths(Vec<String>),
}

const HTML: [(&str, HtmlHandling); 4] = [
    ("auto-trailing-slash", HtmlHandling::AutoTrailingSlash),
    ("force-trailing-slash", HtmlHandling::ForceTrailingSlash),
    ("drop-trailing-slash", HtmlHandling::DropTrailingSlash),
    ("none", HtmlHandling::None),
];
const NOT_FOUND: [(&str, NotFoundHandling); 3] = [
    ("none", NotFoundHandling::None),
    ("single-page-application", NotFoundHandling::SinglePageApplication),
    ("404-page", NotFoundHandling::NotFoundPage),
];

pub(super) fn read(reading: &mut Reading<'_>, view: &View<'_>, names: &mut Names) -> Option<Assets> {
    let Found { node, path } = view.given("assets")?;
    let section = reading.section(node, &path)?;
    let known = ["directory", "binding", "html_handling", "not_found_handling", "run_worker_first"];
    reading.unknown_keys(&section, &known);
    let directory = reading.required(&section, "directory", "the files' directory, such as \"./public\"");
    let directory = directory.and_then(|node| {
        let path = section.key("directory");
        let text = reading.text(node, &path)?;
        Some((relative_path(reading, text, node.at, &path)?, node.at))
    });
    let binding = section.get("binding").and_then(|node| binding(reading, view, node, names));
    let html = section.get("html_handling");
    let html = html.and_then(|node| reading.word(node, &section.key("html_handling"), &HTML));
    let not_found = section.get("not_found_handling");
    let not_found =
        not_found.and_then(|node| reading.word(node, &section.key("not_found_handling"), &NOT_FOUND));
    let first = section.get("run_worker_first");
    let first = first.and_then(|node| worker_first(reading, view, node, &section.key("run_worker_first")));
    let (directory, at) = directory?;
    Some(Assets {
        directory,
        position: reading.source.position(at),
        binding,
        html_handling: html.unwrap_or_default(),
        not_found_handling: not_found.unwrap_or_default(),
        run_worker_first: first.unwrap_or_default(),
    })
}

fn binding(reading: &mut Reading<'_>, view: &View<'_>, node: &Node, names: &mut Names) -> Option<String> {
    let name = reading.text(node, "assets.binding")?;
    if view.given("main").is_none() {
        reading.wrong(node.at, "assets.binding: there is no program that could use it; expected also `main`");
    }
    names.take(reading, name, node.at, "assets.binding").then(|| name.to_owned())
}

fn worker_first(
    reading: &mut Reading<'_>,
    view: &View<'_>,
    node: &Node,
    path: &str,
) -> Option<RunWorkerFirst> {
    let first = match &node.value {
        Value::Boolean(all) => {
            if *all {
                RunWorkerFirst::Always
            } else {
                RunWorkerFirst::Never
            }
        }
        Value::List(_) => RunWorkerFirst::Paths(patterns(reading, node, path)),
        _ => {
            let expected = "true, false, or a list of paths such as [\"/api/*\"]";
            reading.wrong(node.at, format!("{path}: found {}; expected {expected}", node.kind()));
            return None;
        }
    };
    if first != RunWorkerFirst::Never && view.given("main").is_none() {
        reading
            .wrong(node.at, format!("{path}: there is no program that could be first; expected also `main`"));
    }
    Some(first)
}

fn patterns(reading: &mut Reading<'_>, node: &Node, path: &str) -> Vec<String> {
    let patterns = reading.texts(node, path, MAX_PATTERNS);
    for (pattern, at) in &patterns {
        if !pattern.starts_with('/') && !pattern.starts_with("!/") {
            reading.wrong(
                *at,
                format!("{path}: {} is no path; expected it to begin with `/` or `!/`", quoted(pattern)),
            );
        } else if pattern.len() > MAX_PATTERN_BYTES {
            reading
                .wrong(*at, format!("{path}: {} is longer than {MAX_PATTERN_BYTES} bytes", quoted(pattern)));
        }
    }
    if !patterns.is_empty() && patterns.iter().all(|(pattern, _)| pattern.starts_with('!')) {
        reading.wrong(
            node.at,
            format!("{path}: all paths are taken out, and none is in; expected also one without `!`"),
        );
    }
    patterns.into_iter().map(|(pattern, _)| pattern).collect()
}
