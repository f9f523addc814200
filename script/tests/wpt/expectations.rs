//! What is expected of the tests, from a plain text:
//!
//! ```text
//! [PATH of a file; * stands for any text]
//! fail: why these fail
//!     the name of a test; * stands for any text
//! out: why these say nothing about Berth, whatever comes of them
//!     the name of a test
//! ```
//!
//! `out` without names leaves the whole file out. A line that begins with `#` is a remark.

use std::fmt;

/// All that is expected.
pub(crate) struct Expectations(Vec<Entry>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Fail,
    Out,
}

/// One reason, and what it is the reason for.
struct Entry {
    path: String,
    kind: Kind,
    reason: String,
    names: Vec<String>,
}

/// What is expected of one file.
pub(crate) struct OfFile<'a>(Vec<&'a Entry>);

/// What is expected of one test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected<'a> {
    Pass,
    Fail(&'a str),
    LeftOut,
}

/// A line of the text that means nothing.
#[derive(Debug)]
pub(crate) struct Unclear {
    line: usize,
    why: &'static str,
}

impl fmt::Display for Unclear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.why)
    }
}

impl Expectations {
    pub(crate) fn read(text: &str) -> Result<Self, Unclear> {
        let (mut entries, mut path) = (Vec::new(), None);
        for (at, line) in text.lines().enumerate() {
            let unclear = |why| Unclear { line: at + 1, why };
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(named) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                path = Some(named.to_owned());
            } else if line.starts_with(' ') {
                let entry: &mut Entry = entries.last_mut().ok_or(unclear("a name without a reason"))?;
                entry.names.push(line.trim().to_owned());
            } else {
                let path = path.clone().ok_or(unclear("a reason without a file"))?;
                entries
                    .push(Entry::new(path, line).ok_or(unclear("neither `fail: REASON` nor `out: REASON`"))?);
            }
        }
        Ok(Self(entries))
    }

    pub(crate) fn of(&self, path: &str) -> OfFile<'_> {
        OfFile(self.0.iter().filter(|entry| matches(&entry.path, path)).collect())
    }
}

impl Entry {
    fn new(path: String, line: &str) -> Option<Self> {
        let (kind, reason) = line.split_once(':')?;
        let kind = match kind {
            "fail" => Kind::Fail,
            "out" => Kind::Out,
            _ => return None,
        };
        let reason = reason.trim().to_owned();
        (!reason.is_empty()).then_some(Self { path, kind, reason, names: Vec::new() })
    }

    fn is_about(&self, name: &str) -> bool {
        self.names.iter().any(|pattern| matches(pattern, name.trim()))
    }
}

impl<'a> OfFile<'a> {
    /// Why the whole file is left out, if it is.
    pub(crate) fn is_left_out(&self) -> Option<&'a str> {
        let entry = self.0.iter().find(|entry| entry.kind == Kind::Out && entry.names.is_empty());
        entry.map(|entry| entry.reason.as_str())
    }

    /// What is expected of a test; the first entry that names it counts.
    pub(crate) fn of(&self, name: &str) -> Expected<'a> {
        match self.0.iter().find(|entry| entry.is_about(name)) {
            None => Expected::Pass,
            Some(entry) if entry.kind == Kind::Out => Expected::LeftOut,
            Some(entry) => Expected::Fail(&entry.reason),
        }
    }

    /// The names that none of these tests has.
    pub(crate) fn unused(&self, names: &[&str]) -> Vec<&'a str> {
        let all = self.0.iter().flat_map(|entry| &entry.names).map(String::as_str);
        all.filter(|pattern| !names.iter().any(|name| matches(pattern, name.trim()))).collect()
    }
}

/// Whether a text is as the pattern says.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}
