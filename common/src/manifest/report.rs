//! Collects the problems of a file with their positions, and gives access to its tables. Knows nothing of their
//! meaning.

use std::fmt;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

/// Most problems shown of one file: more would not help.
const MAX_PROBLEMS: usize = 100;

/// A position in a file. Counted from 1; columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Its position.
    pub position: Position,
    /// What is wrong, and what is expected.
    pub message: String,
}

/// All problems of one file, displayed one per line as `file:line:column: what is wrong; what is expected`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    file: PathBuf,
    found: Vec<Problem>,
}

impl Problems {
    /// Without problems.
    pub fn new(file: &Path) -> Self {
        Self { file: file.to_owned(), found: Vec::new() }
    }

    /// Adds one, in the order of positions.
    pub fn add(&mut self, position: Position, message: impl Into<String>) {
        let problem = Problem { position, message: message.into() };
        let index = self.found.partition_point(|other| *other <= problem);
        self.found.insert(index, problem);
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The problems in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.found.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.found.iter().take(MAX_PROBLEMS).enumerate() {
            let Position { line, column } = problem.position;
            let end = if i == 0 { "" } else { "\n" };
            write!(f, "{end}{}:{line}:{column}: {}", self.file.display(), problem.message)?;
        }
        match self.found.len().checked_sub(MAX_PROBLEMS) {
            Some(more) if more > 0 => write!(f, "\n{}: and {more} more", self.file.display()),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for Problems {}

/// One table of the file.
#[derive(Clone, Copy)]
pub(super) struct Section<'t, 'i> {
    /// Its name in messages.
    pub(super) name: &'static str,
    pub(super) table: &'t DeTable<'i>,
    /// Its offset in the text, where missing keys are reported.
    pub(super) at: usize,
}

/// A value with its span.
pub(super) type Value<'i> = Spanned<DeValue<'i>>;

impl<'t, 'i> Section<'t, 'i> {
    pub(super) fn get(&self, key: &str) -> Option<&'t Value<'i>> {
        self.table.get(key)
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (&'t Spanned<DeString<'i>>, &'t Value<'i>)> {
        self.table.iter()
    }
}

/// The problems found so far in one text.
pub(super) struct Report<'s> {
    text: &'s str,
    line_starts: Vec<usize>,
    found: Vec<Found>,
}

struct Found {
    problem: Problem,
    /// A missing or misplaced key: a line with a syntax error elsewhere may be the cause.
    doubtful: bool,
}

impl<'s> Report<'s> {
    pub(super) fn new(text: &'s str) -> Self {
        let after_breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(i, _)| i + 1);
        Self { text, line_starts: std::iter::once(0).chain(after_breaks).collect(), found: Vec::new() }
    }

    pub(super) fn position(&self, offset: usize) -> Position {
        let line = self.line_starts.partition_point(|start| *start <= offset).max(1);
        let start = self.line_starts[line - 1];
        let before = self.text.get(start..offset.min(self.text.len())).unwrap_or_default();
        Position { line, column: before.chars().count() + 1 }
    }

    pub(super) fn wrong(&mut self, offset: usize, message: impl Into<String>) {
        self.push(offset, message.into(), false);
    }

    pub(super) fn missing(&mut self, section: &Section<'_, '_>, key: &str, expected: &str) {
        self.push(section.at, format!("{key} is missing in {}; expected {expected}", section.name), true);
    }

    fn push(&mut self, offset: usize, message: String, doubtful: bool) {
        let problem = Problem { position: self.position(offset), message };
        self.found.push(Found { problem, doubtful });
    }

    pub(super) fn required<'t, 'i>(
        &mut self,
        section: &Section<'t, 'i>,
        key: &str,
        expected: &str,
    ) -> Option<&'t Value<'i>> {
        let value = section.get(key);
        if value.is_none() {
            self.missing(section, key, expected);
        }
        value
    }

    pub(super) fn refuse_unknown_keys(&mut self, section: &Section<'_, '_>, known: &[&str]) {
        for (key, _) in section.entries().filter(|(key, _)| !known.contains(&key.get_ref().as_ref())) {
            let hint = nearest(key.get_ref(), known).map_or_else(
                || format!("known are {}", known.join(", ")),
                |near| format!("did you mean `{near}`?"),
            );
            let message = format!("`{}` is not a key of {}; {hint}", key.get_ref(), section.name);
            self.push(key.span().start, message, section.at == 0);
        }
    }

    /// The tables of an array such as `[[containers]]`; empty if there is no such key.
    pub(super) fn sections<'t, 'i>(
        &mut self,
        root: &Section<'t, 'i>,
        key: &str,
        name: &'static str,
        limit: usize,
    ) -> Vec<Section<'t, 'i>> {
        let Some(value) = root.get(key) else { return Vec::new() };
        let Some(array) = value.get_ref().as_array() else {
            self.wrong(value.span().start, format!("`{key}` must be sections written as {name}"));
            return Vec::new();
        };
        if array.len() > limit {
            self.wrong(
                value.span().start,
                format!("{} sections {name}; at most {limit} are allowed", array.len()),
            );
        }
        array.iter().take(limit).filter_map(|item| self.section(item, name)).collect()
    }

    pub(super) fn section<'t, 'i>(
        &mut self,
        value: &'t Value<'i>,
        name: &'static str,
    ) -> Option<Section<'t, 'i>> {
        let at = value.span().start;
        match value.get_ref().as_table() {
            Some(table) => Some(Section { name, table, at }),
            None => {
                self.wrong(at, format!("expected the section {name}, found {}", kind(value)));
                None
            }
        }
    }

    /// Adds the parser's syntax errors. If there are any, drops our problems that such a line may have caused.
    pub(super) fn syntax(&mut self, errors: &[toml::de::Error]) {
        let syntax_errors: Vec<(usize, String)> = errors
            .iter()
            .map(|error| (error.span().map_or(0, |span| span.start), error.message().replace('\n', "; ")))
            .collect();
        let lines: Vec<usize> = syntax_errors.iter().map(|(offset, _)| self.position(*offset).line).collect();
        if !lines.is_empty() {
            self.found.retain(|found| !found.doubtful && !lines.contains(&found.problem.position.line));
        }
        for (offset, message) in syntax_errors {
            self.wrong(offset, message);
        }
    }

    pub(super) fn into_problems(self, file: &Path) -> Problems {
        let mut problems = Problems::new(file);
        for found in self.found {
            problems.add(found.problem.position, found.problem.message);
        }
        problems
    }
}

/// The kind of a value, for messages.
pub(super) fn kind(value: &Value<'_>) -> &'static str {
    match value.get_ref() {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// The known word that was most likely meant, if one is similar.
pub fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let allowed = (word.chars().count() / 3).max(1);
    let longer = || known.iter().copied().find(|candidate| word.len() >= 3 && candidate.starts_with(word));
    known
        .iter()
        .map(|candidate| {
            (strsim::damerau_levenshtein(&word.to_lowercase(), &candidate.to_lowercase()), *candidate)
        })
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
        .or_else(longer)
}
