//! What came of all files, against what was expected.

use std::collections::BTreeMap;
use std::io;

use crate::expectations::{Expected, OfFile};
use crate::runner::{Status, Subtest};

/// How many tests of a family came to what.
#[derive(Default, Clone, Copy)]
struct Counts {
    passed: usize,
    failed: usize,
    left_out: usize,
}

/// What came of all files.
#[derive(Default)]
pub(crate) struct Report {
    families: BTreeMap<&'static str, Counts>,
    /// Each unexpected failure and pass, as it is shown.
    unexpected: Vec<String>,
    /// What failed as expected, with the reason.
    expected: Vec<String>,
    /// What was left out, with the reason; and what the expectations name that is not there.
    notes: Vec<String>,
}

impl Report {
    pub(crate) fn left_out(&mut self, family: &'static str, path: &str, reason: &str) {
        self.families.entry(family).or_default().left_out += 1;
        self.notes.push(format!("{path} is left out: {reason}"));
    }

    pub(crate) fn unreadable(&mut self, family: &'static str, path: &str, error: &io::Error) {
        self.families.entry(family).or_default().failed += 1;
        self.unexpected.push(format!("{path} cannot be run: {error}"));
    }

    pub(crate) fn add(
        &mut self,
        family: &'static str,
        path: &str,
        expected: &OfFile<'_>,
        subtests: Vec<Subtest>,
    ) {
        let names: Vec<&str> = subtests.iter().map(|subtest| subtest.name.as_str()).collect();
        for name in expected.unused(&names) {
            self.notes.push(format!("{path} has no test «{name}»"));
        }
        for subtest in &subtests {
            self.one(family, path, expected.of(&subtest.name), subtest);
        }
    }

    fn one(&mut self, family: &'static str, path: &str, expected: Expected<'_>, subtest: &Subtest) {
        let counts = self.families.entry(family).or_default();
        let Subtest { name, status, message } = subtest;
        let ended = if *status == Status::TimedOut { "did not end" } else { "failed" };
        match (expected, status) {
            (Expected::LeftOut, _) | (_, Status::NotMeant) => counts.left_out += 1,
            (Expected::Pass, Status::Passed) => counts.passed += 1,
            (Expected::Fail(reason), Status::Passed) => {
                counts.passed += 1;
                self.unexpected.push(format!("{path}: «{name}» passed, which was not expected: {reason}"));
            }
            (Expected::Pass, _) => {
                counts.failed += 1;
                self.unexpected.push(format!("{path}: «{name}» {ended}: {message}"));
            }
            (Expected::Fail(reason), _) => {
                counts.failed += 1;
                self.expected.push(format!("{path}: «{name}» {ended}, as expected ({reason}): {message}"));
            }
        }
    }

    pub(crate) fn is_as_expected(&self) -> bool {
        self.unexpected.is_empty()
    }

    pub(crate) fn print(&self, verbose: bool) {
        if verbose {
            self.expected.iter().for_each(|line| println!("{line}"));
        }
        self.notes.iter().for_each(|line| println!("{line}"));
        self.unexpected.iter().for_each(|line| println!("{line}"));
        println!("\n{:<20} {:>8} {:>8} {:>9}", "family", "passed", "failed", "left out");
        for (family, counts) in &self.families {
            println!("{family:<20} {:>8} {:>8} {:>9}", counts.passed, counts.failed, counts.left_out);
        }
        println!("\n{} not as expected", self.unexpected.len());
    }

    pub(crate) fn json(&self) -> String {
        let families: Vec<String> = self
            .families
            .iter()
            .map(|(family, Counts { passed, failed, left_out })| {
                format!(
                    "{}: {{\"passed\": {passed}, \"failed\": {failed}, \"left_out\": {left_out}}}",
                    quoted(family)
                )
            })
            .collect();
        let list = |lines: &[String]| {
            let lines: Vec<String> = lines.iter().map(|line| quoted(line)).collect();
            format!("[{}]", lines.join(", "))
        };
        let (unexpected, expected, notes) = (list(&self.unexpected), list(&self.expected), list(&self.notes));
        format!(
            "{{\"families\": {{{}}}, \"unexpected\": {unexpected}, \"expected\": {expected}, \"notes\": {notes}}}\n",
            families.join(", ")
        )
    }
}

/// As JSON has strings. There are no control characters: the driver has shown them in another way.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
