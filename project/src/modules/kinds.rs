//! What a file is as a module: by the rules of the configuration, else by its extension.

use std::path::Path;

use crate::config::{Build, RuleKind};

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A program, which is compiled.
    Program(Program),
    Json,
    Text,
    Data,
    Wasm,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) language: Language,
    /// None where the syntax decides.
    pub(super) format: Option<Format>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Language {
    /// With JSX.
    JavaScript,
    TypeScript,
    /// With JSX.
    Tsx,
}

/// How a program imports and exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    EsModule,
    CommonJs,
}

/// Rules that come after those of the configuration.
const DEFAULTS: [(&str, RuleKind); 4] =
    [(".txt", RuleKind::Text), (".html", RuleKind::Text), (".sql", RuleKind::Text), (".bin", RuleKind::Data)];

/// What a file is. None if nothing says so.
pub(super) fn kind(file: &Path, name: &str, build: &Build) -> Option<Kind> {
    let extension = file.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let rule = build.rules.iter().find(|rule| rule.globs.iter().any(|glob| matches(glob, name)));
    let by_default = || DEFAULTS.iter().find(|(end, _)| name.ends_with(end)).map(|(_, kind)| *kind);
    match rule.map(|rule| rule.kind).or_else(by_default) {
        Some(RuleKind::Text) => return Some(Kind::Text),
        Some(RuleKind::Data) => return Some(Kind::Data),
        Some(RuleKind::Wasm) => return Some(Kind::Wasm),
        Some(RuleKind::EsModule) => return program(extension, Some(Format::EsModule)),
        Some(RuleKind::CommonJs) => return program(extension, Some(Format::CommonJs)),
        None => {}
    }
    match extension {
        "json" => Some(Kind::Json),
        "wasm" => Some(Kind::Wasm),
        "mjs" | "mts" => program(extension, Some(Format::EsModule)),
        "cjs" | "cts" => program(extension, Some(Format::CommonJs)),
        "js" | "jsx" | "ts" | "tsx" => program(extension, None),
        _ => None,
    }
}

fn program(extension: &str, format: Option<Format>) -> Option<Kind> {
    let language = match extension {
        "ts" | "mts" | "cts" => Language::TypeScript,
        "tsx" => Language::Tsx,
        _ => Language::JavaScript,
    };
    Some(Kind::Program(Program { language, format }))
}

/// Whether a pattern matches all of a name: `**` any directories, `*` any part of a name, `?` one character.
fn matches(glob: &str, name: &str) -> bool {
    let glob = glob.strip_prefix("./").unwrap_or(glob);
    let (globs, names): (Vec<&str>, Vec<&str>) = (glob.split('/').collect(), name.split('/').collect());
    wildcards(
        &globs,
        &names,
        |part| *part == "**",
        |part, name| {
            let (part, name): (Vec<char>, Vec<char>) = (part.chars().collect(), name.chars().collect());
            wildcards(&part, &name, |c| *c == '*', |c, found| *c == '?' || c == found)
        },
    )
}

/// Matches with wildcards for any number of items, in time of at most the product of the lengths.
fn wildcards<T>(pattern: &[T], text: &[T], any: impl Fn(&T) -> bool, same: impl Fn(&T, &T) -> bool) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while t < text.len() {
        if p < pattern.len() && any(&pattern[p]) {
            back = Some((p, t));
            p += 1;
        } else if p < pattern.len() && same(&pattern[p], &text[t]) {
            (p, t) = (p + 1, t + 1);
        } else if let Some((at, taken)) = back {
            back = Some((at, taken + 1));
            (p, t) = (at + 1, taken + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(any)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        for (glob, name, expected) in [
            ("**/*.md", "a.md", true),
            ("**/*.md", "src/b/a.md", true),
            ("*.md", "src/a.md", false),
            ("src/**/x?.txt", "src/x1.txt", true),
            ("src/**/x?.txt", "src/a/b/x12.txt", false),
            ("./src/*", "src/a", true),
            ("**", "a/b/c", true),
            ("a", "ab", false),
        ] {
            assert_eq!(matches(glob, name), expected, "{glob} {name}");
        }
        let slow = "*a".repeat(100);
        assert!(!matches(&slow, &"a".repeat(4096).replace("aaaaaaaa", "aaaaaaab").replace('a', "b")));
    }

    #[test]
    fn rules_come_before_extensions() {
        let rule = crate::config::Rule { kind: RuleKind::Text, globs: vec!["**/*.js".to_owned()] };
        let build = Build { rules: vec![rule], ..Build::default() };
        assert_eq!(kind(Path::new("a.js"), "a.js", &build), Some(Kind::Text));
        let build = Build::default();
        assert_eq!(kind(Path::new("a.css"), "a.css", &build), None);
        assert_eq!(kind(Path::new("a.html"), "a.html", &build), Some(Kind::Text));
        assert_eq!(kind(Path::new("a.wasm"), "a.wasm", &build), Some(Kind::Wasm));
        let module = Program { language: Language::TypeScript, format: Some(Format::EsModule) };
        assert_eq!(kind(Path::new("a.mts"), "a.mts", &build), Some(Kind::Program(module)));
    }
}
