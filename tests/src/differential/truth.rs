//! What a case is held against: what workerd made of each step and wrote to its console, recorded and kept.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::case::Case;

/// What became of a case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Truth {
    /// What gave it: the version of workerd, or `by hand`.
    pub by: String,
    /// What came of each step.
    pub steps: Vec<Value>,
    /// The lines that the program wrote to its console.
    pub console: Vec<String>,
}

impl Truth {
    /// That of a case, as it was kept.
    pub fn read(case: &Case) -> Result<Self> {
        let text = fs::read_to_string(case.truth_file()).with_context(|| {
            format!("{}: no truth was recorded: just differential {}", case.name, case.name)
        })?;
        let truth: Self =
            serde_json::from_str(&text).with_context(|| format!("{}: truth.json", case.name))?;
        let by_hand = truth.by == "by hand";
        ensure!(by_hand == case.drive.by_hand.is_some(), "{}: who wrote its truth?", case.name);
        Ok(truth)
    }

    /// Keeps it, one step a line.
    pub fn write(&self, case: &Case) -> Result<()> {
        let lines = |values: Vec<String>| {
            let lines: Vec<String> = values.iter().map(|value| format!("\n  {value}")).collect();
            lines.join(",")
        };
        let steps = self.steps.iter().map(Value::to_string).collect();
        let console = self.console.iter().map(|line| Value::from(line.as_str()).to_string()).collect();
        let by = Value::from(self.by.as_str());
        let text = format!(
            "{{\n\"by\": {by},\n\"steps\": [{}\n],\n\"console\": [{}\n]\n}}\n",
            lines(steps),
            lines(console)
        );
        Ok(fs::write(case.truth_file(), text)?)
    }
}
