//! What is wrong with a project, and what is worth saying of one that is not: each with file, line and column. Knows
//! nothing of what the files mean.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use berth_common::manifest::Position;
use berth_common::shown::shown;

/// Most problems, and most remarks, that are kept of one project: more would not help, and hostile input has millions.
const MAX_KEPT: usize = 100;
/// Longest piece of a user's text within a message, in characters.
const MAX_QUOTED_CHARS: usize = 200;

/// One problem or remark.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file, relative to the project's directory.
    pub file: PathBuf,
    /// Where in it. None where it is about all of the file.
    pub position: Option<Position>,
    /// What is wrong, and what is expected.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", shown(&self.file.to_string_lossy()))?;
        if let Some(Position { line, column }) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", shown(&self.message))
    }
}

/// How much a remark matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Something is done differently from what the text may let one think.
    Note,
    /// Something is most likely a mistake.
    Warning,
}

/// What is worth saying of a project that can be used.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remark {
    /// How much it matters.
    pub weight: Weight,
    /// What it is, and where.
    pub about: Problem,
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let weight = match self.weight {
            Weight::Note => "note",
            Weight::Warning => "warning",
        };
        write!(f, "{weight}: {}", self.about)
    }
}

/// Why a project cannot be used: all reasons at once, in the order of files and lines, displayed one a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The problems.
    pub problems: Vec<Problem>,
    /// How many more there are than are kept.
    pub more: usize,
    /// What is worth saying besides.
    pub remarks: Vec<Remark>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            let end = if i == 0 { "" } else { "\n" };
            write!(f, "{end}{problem}")?;
        }
        if self.more > 0 { write!(f, "\nand {} more", self.more) } else { Ok(()) }
    }
}

impl std::error::Error for Refused {}

/// A file's name and text, and where its lines begin.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// Relative to the project's directory.
    pub(crate) file: PathBuf,
    pub(crate) text: Arc<str>,
    line_starts: Arc<[usize]>,
}

impl Source {
    pub(crate) fn new(file: &Path, text: Arc<str>) -> Self {
        let after_breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(i, _)| i + 1);
        let line_starts = std::iter::once(0).chain(after_breaks).collect();
        Self { file: file.to_owned(), text, line_starts }
    }

    /// The line and column of an offset in bytes.
    pub(crate) fn position(&self, offset: usize) -> Position {
        let line = self.line_starts.partition_point(|start| *start <= offset).max(1);
        let start = self.line_starts[line - 1];
        let mut end = offset.min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        let before = self.text.get(start..end).unwrap_or_default();
        Position { line, column: before.chars().count() + 1 }
    }

    pub(crate) fn problem(&self, offset: usize, message: impl Into<String>) -> Problem {
        let (file, position) = (self.file.clone(), Some(self.position(offset)));
        Problem { file, position, message: message.into() }
    }
}

/// What was found so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    problems: Vec<Problem>,
    remarks: Vec<Remark>,
    more: usize,
}

impl Report {
    pub(crate) fn add(&mut self, problem: Problem) {
        if self.problems.contains(&problem) {
            return;
        }
        if self.problems.len() < MAX_KEPT {
            self.problems.push(problem);
        } else {
            self.more += 1;
        }
    }

    pub(crate) fn wrong(&mut self, source: &Source, offset: usize, message: impl Into<String>) {
        if self.problems.len() < MAX_KEPT {
            self.add(source.problem(offset, message));
        } else {
            self.more += 1;
        }
    }

    pub(crate) fn remark(&mut self, weight: Weight, about: Problem) {
        let remark = Remark { weight, about };
        if self.remarks.len() < MAX_KEPT && !self.remarks.contains(&remark) {
            self.remarks.push(remark);
        }
    }

    pub(crate) fn warn(&mut self, source: &Source, offset: usize, message: impl Into<String>) {
        if !self.is_full() {
            self.remark(Weight::Warning, source.problem(offset, message));
        }
    }

    pub(crate) fn note(&mut self, source: &Source, offset: usize, message: impl Into<String>) {
        if !self.is_full() {
            self.remark(Weight::Note, source.problem(offset, message));
        }
    }

    /// Whether further remarks are not kept: then it is not worth the work to make them.
    pub(crate) fn is_full(&self) -> bool {
        self.remarks.len() >= MAX_KEPT
    }

    /// Whether further problems are only counted: then it is not worth the work to say much of them.
    pub(crate) fn is_overfull(&self) -> bool {
        self.problems.len() >= MAX_KEPT
    }

    pub(crate) fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    /// The remarks, or all reasons why not.
    pub(crate) fn finish(mut self) -> Result<Vec<Remark>, Refused> {
        self.problems.sort();
        self.remarks.sort_by(|a, b| a.about.cmp(&b.about));
        if self.problems.is_empty() {
            return Ok(self.remarks);
        }
        Err(Refused { problems: self.problems, more: self.more, remarks: self.remarks })
    }
}

/// A user's text in quotes, cut where it is long.
pub(crate) fn quoted(text: &str) -> String {
    match text.char_indices().nth(MAX_QUOTED_CHARS) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", &text[..end]),
    }
}

/// A user's name for something, in back quotes, cut where it is long.
pub(crate) fn named(text: &str) -> String {
    match text.char_indices().nth(MAX_QUOTED_CHARS) {
        None => format!("`{text}`"),
        Some((end, _)) => format!("`{}…`", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_from_one_and_never_fail() {
        let source = Source::new(Path::new("a"), "ü = 1\n\nb".into());
        let at = |offset| (source.position(offset).line, source.position(offset).column);
        assert_eq!(
            [at(0), at(1), at(2), at(6), at(7), at(8), at(999)],
            [(1, 1), (1, 1), (1, 2), (1, 6), (2, 1), (3, 1), (3, 2)]
        );
    }

    #[test]
    fn problems_are_bounded_sorted_and_told_once() {
        let source = Source::new(Path::new("a"), "x\n".repeat(300).into());
        let mut report = Report::default();
        for line in (0..250).rev().chain([5]) {
            report.wrong(&source, line * 2, format!("is wrong {}", "\u{1b}"));
        }
        let refused = report.finish().unwrap_err();
        assert_eq!((refused.problems.len(), refused.more), (MAX_KEPT, 151));
        let text = refused.to_string();
        assert!(text.starts_with("a:151:1: is wrong \\u{1b}\na:152:1: "), "{text}");
        assert!(text.ends_with("\nand 151 more"), "{text}");
    }
}
