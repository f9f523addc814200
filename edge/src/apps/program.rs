//! Validates the program of an app: what its types do not rule out, what this version does not run, and whether its code can be
//! loaded.

use std::collections::BTreeMap;

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
    let is_first = |class: &ClassName| program.object_classes.values().any(|first| first == class);
    let unused = containers.keys().filter(|class| {
        program.classes.iter().any(|exported| exported == class.as_str()) && !is_first(class)
    });
    let unused = unused.map(|class| {
        let message = format!(
            "the program exports `{class}`, but it is no first name of a class of its Durable Objects: its \
             containers would belong to none of them"
        );
        Fault { field: format!("classes.{class}"), message }
    });
    wrong.chain(unused).collect()
}

/// What becomes of a program's code when it is loaded, if that fails.
pub(super) async fn fault_of_load(
    programs: &Programs,
    app: &AppName,
    program: &Program,
    containers: &BTreeMap<ClassName, ClassSpec>,
) -> Option<Fault> {
    let (error, text) = programs.try_out(app, program, containers).await.err()?;
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
    fn containers_are_those_of_the_first_names_of_classes_of_objects() {
        let text = r#"{"entry": "a", "modules": [], "compatibility_date": "2026-01-31", "classes": ["C", "D"],
            "object_classes": {"D": "First"}}"#;
        let class = berth_store::fixtures::class();
        let containers =
            ["C", "First", "Other"].map(|name| (name.parse().unwrap(), class.clone())).into_iter().collect();
        let found = faults(&serde_json::from_str(text).unwrap(), &containers);
        let found: Vec<String> = found.iter().map(|fault| fault.to_string()).collect();
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0] == "program.entry: is none of the modules" && found[1].starts_with("classes.C: "));
    }
}
