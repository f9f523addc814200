//! Typed access to a table: each reader reports a wrong value, with where it is and what is expected, and gives nothing.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use berth_common::manifest::nearest;

use crate::report::{Report, Source, named, quoted};
use crate::value::{Entry, Node, Table, Value};

/// The file that is read, and what was found in it.
pub(super) struct Reading<'r> {
    pub(super) source: &'r Source,
    pub(super) report: &'r mut Report,
}

/// A table with the path that leads to it, for messages.
#[derive(Clone)]
pub(super) struct Section<'t> {
    pub(super) path: String,
    pub(super) table: &'t Table,
    pub(super) at: usize,
}

impl<'t> Section<'t> {
    pub(super) fn get(&self, key: &str) -> Option<&'t Node> {
        self.table.get(key)
    }

    /// The full name of one of its keys.
    pub(super) fn key(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

impl Reading<'_> {
    pub(super) fn wrong(&mut self, at: usize, message: impl Into<String>) {
        self.report.wrong(self.source, at, message);
    }

    pub(super) fn warn(&mut self, at: usize, message: impl Into<String>) {
        self.report.warn(self.source, at, message);
    }

    pub(super) fn note(&mut self, at: usize, message: impl Into<String>) {
        self.report.note(self.source, at, message);
    }

    pub(super) fn section<'t>(&mut self, node: &'t Node, path: &str) -> Option<Section<'t>> {
        let table = node.as_table();
        if table.is_none() {
            self.wrong(node.at, format!("{path}: found {}; expected a table", node.kind()));
        }
        table.map(|table| Section { path: path.to_owned(), table, at: node.at })
    }

    pub(super) fn list<'t>(&mut self, node: &'t Node, path: &str, most: usize) -> &'t [Node] {
        match &node.value {
            Value::List(items) if items.len() <= most => items,
            Value::List(items) => {
                self.wrong(node.at, format!("{path} has {} entries; expected at most {most}", items.len()));
                &items[..most]
            }
            _ => {
                self.wrong(node.at, format!("{path}: found {}; expected a list", node.kind()));
                &[]
            }
        }
    }

    /// The tables of a list.
    pub(super) fn sections<'t>(&mut self, node: &'t Node, path: &str, most: usize) -> Vec<Section<'t>> {
        let items = self.list(node, path, most);
        items.iter().filter_map(|item| self.section(item, path)).collect()
    }

    pub(super) fn text<'t>(&mut self, node: &'t Node, path: &str) -> Option<&'t str> {
        let text = node.as_text();
        if text.is_none() {
            self.wrong(node.at, format!("{path}: found {}; expected a text in quotes", node.kind()));
        }
        text
    }

    pub(super) fn texts(&mut self, node: &Node, path: &str, most: usize) -> Vec<(String, usize)> {
        let items = self.list(node, path, most);
        items.iter().filter_map(|item| Some((self.text(item, path)?.to_owned(), item.at))).collect()
    }

    pub(super) fn boolean(&mut self, node: &Node, path: &str) -> Option<bool> {
        if let Value::Boolean(value) = node.value {
            return Some(value);
        }
        self.wrong(node.at, format!("{path}: found {}; expected true or false", node.kind()));
        None
    }

    /// A whole number within bounds.
    pub(super) fn whole(&mut self, node: &Node, path: &str, bounds: RangeInclusive<u64>) -> Option<u64> {
        let expected = format!("expected a whole number from {} to {}", bounds.start(), bounds.end());
        let Value::Number(number) = &node.value else {
            self.wrong(node.at, format!("{path}: found {}; {expected}", node.kind()));
            return None;
        };
        let found = number.as_u64().filter(|whole| bounds.contains(whole));
        if found.is_none() {
            self.wrong(node.at, format!("{path}: {number} is out of range; {expected}"));
        }
        found
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&mut self, node: &Node, path: &str, known: &[(&str, T)]) -> Option<T> {
        let text = self.text(node, path)?;
        let found = known.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning);
        if found.is_none() {
            let words: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
            let hint = hint(text, &words);
            self.wrong(node.at, format!("{path}: there is no {}; {hint}", quoted(text)));
        }
        found
    }

    /// A text that is parsed.
    pub(super) fn parsed<T>(&mut self, node: &Node, path: &str, rule: &str) -> Option<T>
    where
        T: FromStr<Err: Display>,
    {
        let text = self.text(node, path)?;
        let parsed = text.parse();
        match parsed {
            Ok(value) => Some(value),
            Err(error) => {
                self.wrong(node.at, format!("{path}: {} {error}; {rule}", quoted(text)));
                None
            }
        }
    }

    pub(super) fn required<'t>(
        &mut self,
        section: &Section<'t>,
        key: &str,
        example: &str,
    ) -> Option<&'t Node> {
        let node = section.get(key);
        if node.is_none() {
            self.wrong(section.at, format!("{} is missing; expected {example}", section.key(key)));
        }
        node
    }

    /// Warns of keys that mean nothing to anybody.
    pub(super) fn unknown_keys(&mut self, section: &Section<'_>, known: &[&str]) {
        for Entry { key, at, .. } in &section.table.entries {
            if !known.contains(&key.as_str()) && !self.report.is_full() {
                let message =
                    format!("{} is not a known key; {}", named(&section.key(key)), hint(key, known));
                self.warn(*at, message);
            }
        }
    }
}

/// The known word that is most likely meant, or all of them.
pub(super) fn hint(word: &str, known: &[&str]) -> String {
    /// Longer words are not compared: that takes time by their length.
    const MAX_COMPARED_BYTES: usize = 64;
    let near = if word.len() <= MAX_COMPARED_BYTES { nearest(word, known) } else { None };
    near.map_or_else(|| format!("known are {}", known.join(", ")), |near| format!("did you mean `{near}`?"))
}
