//! Validates the program of an app: what its types do not rule out, what this version does not run, and whether its code can be
//! loaded.

use std::collections::{BTreeMap, BTreeSet};

use berth_common::ids::{AppName, ClassName};
use berth_common::spec::{ClassSpec, Program};

use super::Fault;
use crate::programs::{CodeError, ProgramError, Programs};

/// Longest text of an error that code was loaded with, in characters: a script chooses it.
const MAX_TEXT: usize = 2_000;

/// What is wrong with a program, apart from its code.
pub(super) fn faults(program: &Program, containers: &BTreeMap<ClassName, ClassSpec>) -> Vec<Fault> {
    let wrong = program.faults().into_iter();
    let wrong = wrong.map(|(field, message)| Fault { field: format!("program.{field}"), message });
    let classes: BTreeSet<&str> = program
        .classes
        .iter()
        .map(String::as_str)
        .chain(program.object_classes.keys().map(ClassName::as_str))
        .collect();
    let with_container =
        classes.into_iter().filter(|class| containers.keys().any(|own| own.as_str() == *class));
    let not_run = with_container.map(|class| {
        let message =
            format!("`{class}`: classes that have a container are not run by this version of Berth");
        Fault { field: "program.classes".to_owned(), message }
    });
    wrong.chain(not_run).collect()
}

/// What becomes of a program's code when it is loaded, if that fails.
pub(super) async fn fault_of_load(programs: &Programs, app: &AppName, program: &Program) -> Option<Fault> {
    let (error, text) = programs.try_out(app, program).await.err()?;
    let field = match &error {
        ProgramError::Code(CodeError::Missing { .. }) => "program.modules",
        ProgramError::NoClass(_) => "program.object_classes",
        _ => "program",
    };
    let end = text.char_indices().nth(MAX_TEXT).map_or(text.len(), |(end, _)| end);
    Some(Fault { field: field.to_owned(), message: text[..end].to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_run_is_refused_by_name_with_all_that_is_wrong() {
        let text =
            r#"{"entry": "a", "modules": [], "compatibility_date": "2026-01-31", "classes": ["C", "D"]}"#;
        let class = berth_store::fixtures::class();
        let containers = BTreeMap::from([("C".parse().unwrap(), class)]);
        let found = faults(&serde_json::from_str(text).unwrap(), &containers);
        let found: Vec<String> = found.iter().map(Fault::to_string).collect();
        let expected = [
            "program.entry: is none of the modules",
            "program.classes: `C`: classes that have a container are not run by this version of Berth",
        ];
        assert_eq!(found, expected);
    }
}
