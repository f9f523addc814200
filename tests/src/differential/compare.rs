//! What differs between a truth and what came of the same steps, and which of it is accepted.

use std::fmt;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

use super::truth::Truth;
use super::{case, directory};

/// The name under which the console's lines are compared.
const CONSOLE: &str = "console";

/// A place where two values differ.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The step.
    pub step: String,
    /// Where in its outcome, as a JSON pointer.
    pub at: String,
    /// What is there by the truth.
    pub truth: Option<Value>,
    /// What is there.
    pub berth: Option<Value>,
}

/// One that is accepted: an entry of `differences.json`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accepted {
    /// The case.
    pub case: String,
    /// Its step, or `console`.
    pub step: String,
    /// Where in its outcome, as a JSON pointer.
    pub at: String,
    /// What Berth has there; left out, Berth has nothing there.
    pub berth: Option<Value>,
    /// Why it may differ.
    pub reason: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = |value: &Option<Value>| value.as_ref().map_or("nothing".to_owned(), Value::to_string);
        writeln!(f, "  {} {}", self.step, self.at)?;
        writeln!(f, "    - workerd: {}", value(&self.truth))?;
        write!(f, "    + berth:   {}", value(&self.berth))
    }
}

/// The differences that are accepted.
pub fn accepted() -> Result<Vec<Accepted>> {
    let file = directory().join("differences.json");
    serde_json::from_value(case::json_file(&file)?).with_context(|| file.display().to_string())
}

/// What is wrong with a case: differences that are not accepted, and accepted ones that are none.
pub fn faults(case: &str, truth: &Truth, ours: &Truth, accepted: &[Accepted]) -> Vec<String> {
    let mut of_case: Vec<&Accepted> = accepted.iter().filter(|one| one.case == case).collect();
    let mut faults = Vec::new();
    for found in differences(truth, ours) {
        let known = of_case
            .iter()
            .position(|one| one.step == found.step && one.at == found.at && one.berth == found.berth);
        match known {
            Some(index) => drop(of_case.swap_remove(index)),
            None => faults.push(found.to_string()),
        }
    }
    faults.extend(of_case.iter().map(|one| {
        format!("  {} {}\n    accepted, but it does not differ so: {}", one.step, one.at, one.reason)
    }));
    faults
}

/// All differences between two outcomes of the same steps.
pub fn differences(truth: &Truth, ours: &Truth) -> Vec<Difference> {
    let mut found = Vec::new();
    for index in 0..truth.steps.len().max(ours.steps.len()) {
        let (one, other) = (truth.steps.get(index), ours.steps.get(index));
        let title = one.or(other).and_then(|outcome| outcome["step"].as_str()).unwrap_or("a step");
        compare(title, "", one, other, &mut found);
    }
    let lines = |truth: &Truth| Value::from(truth.console.clone());
    compare(CONSOLE, "", Some(&lines(truth)), Some(&lines(ours)), &mut found);
    found
}

/// All differences between two values.
pub fn compare_values(step: &str, truth: &Value, ours: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare(step, "", Some(truth), Some(ours), &mut found);
    found
}

fn compare(step: &str, at: &str, one: Option<&Value>, other: Option<&Value>, found: &mut Vec<Difference>) {
    match (one, other) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
            keys.sort_unstable();
            keys.dedup();
            for key in keys {
                compare(step, &format!("{at}/{key}"), a.get(key), b.get(key), found);
            }
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            for index in 0..a.len().max(b.len()) {
                compare(step, &format!("{at}/{index}"), a.get(index), b.get(index), found);
            }
        }
        (one, other) if one == other => {}
        (one, other) => found.push(Difference {
            step: step.to_owned(),
            at: at.to_owned(),
            truth: one.cloned(),
            berth: other.cloned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn truth(steps: &Value, console: &[&str]) -> Truth {
        let console = console.iter().map(|line| (*line).to_owned()).collect();
        Truth { by: "a test".to_owned(), steps: steps.as_array().unwrap().clone(), console }
    }

    #[test]
    fn a_difference_is_found_where_it_is_and_accepted_only_as_it_is() {
        let one = truth(&json!([{"step": "GET /", "status": 200, "body": {"a": [1, 2]}}]), &["x"]);
        let other = truth(&json!([{"step": "GET /", "status": 200, "body": {"a": [1, 3]}}]), &["x", "y"]);
        assert!(faults("c", &one, &one, &[]).is_empty());
        let found = differences(&one, &other);
        let places: Vec<_> = found.iter().map(|one| (one.step.as_str(), one.at.as_str())).collect();
        assert_eq!(places, [("GET /", "/body/a/1"), ("console", "/1")]);
        let entry = |berth: Value, at: &str, step: &str| Accepted {
            case: "c".to_owned(),
            step: step.to_owned(),
            at: at.to_owned(),
            berth: Some(berth),
            reason: "so it is".to_owned(),
        };
        let both = [entry(json!(3), "/body/a/1", "GET /"), entry(json!("y"), "/1", "console")];
        assert!(faults("c", &one, &other, &both).is_empty());
        // Another value is another difference, and what no longer differs is not to be accepted.
        assert_eq!(faults("c", &one, &other, &[entry(json!(4), "/body/a/1", "GET /")]).len(), 3);
        assert_eq!(faults("c", &one, &one, &both).len(), 2);
        assert!(faults("d", &one, &one, &both).is_empty());
    }
}
