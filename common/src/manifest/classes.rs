//! The names of the classes that a file declares, which routes and crons refer to. Knows nothing else of the classes.

use super::report::{Position, Report, Section, nearest};
use crate::ids::ClassName;

/// The classes that a file declares.
pub(super) struct ClassNames<'t> {
    names: Vec<(&'t str, Position)>,
    /// Classes without a default port.
    without_port: Vec<&'t str>,
}

impl<'t> ClassNames<'t> {
    /// Takes the names of all sections, also of invalid ones, and reports duplicates.
    pub(super) fn collect(report: &mut Report<'_>, sections: &[Section<'t, '_>]) -> Self {
        let mut names: Vec<(&str, Position)> = Vec::new();
        for value in sections.iter().filter_map(|section| section.get("class_name")) {
            let Some(name) = value.get_ref().as_str() else { continue };
            let at = report.position(value.span().start);
            match names.iter().find(|(known, _)| *known == name) {
                Some((_, first)) => report.wrong(
                    value.span().start,
                    format!(
                        "the class {name:?} is there already, in line {}; expected another class_name",
                        first.line
                    ),
                ),
                None => names.push((name, at)),
            }
        }
        let portless = sections.iter().filter(|section| section.get("default_port").is_none());
        let without_port =
            portless.filter_map(|section| section.get("class_name")?.get_ref().as_str()).collect();
        Self { names, without_port }
    }

    /// Whether requests to the class must name their port.
    pub(super) fn is_without_port(&self, name: &ClassName) -> bool {
        self.without_port.contains(&name.as_str())
    }

    /// The class, if the file declares only one.
    pub(super) fn only(&self) -> Option<&'t str> {
        match self.names.as_slice() {
            [(name, _)] => Some(name),
            _ => None,
        }
    }

    /// Whether a class is declared; if not, the message to report.
    pub(super) fn check(&self, name: &str) -> Result<(), String> {
        let known: Vec<&str> = self.names.iter().map(|(name, _)| *name).collect();
        if known.contains(&name) {
            return Ok(());
        }
        let hint = match nearest(name, &known) {
            Some(near) => format!("did you mean {near:?}?"),
            None if known.is_empty() => "expected such a section".to_owned(),
            None => format!("expected one of the class_names in this file: {}", known.join(", ")),
        };
        Err(format!("no [[containers]] section has the class_name {name:?}; {hint}"))
    }
}
