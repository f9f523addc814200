//! The table in ARCHITECTURE.md of what may import what. A row is a crate (or `crates`, for the crates themselves) and its
//! layers from the top down, with `→` between layers and `·` between the members of one.

use std::collections::BTreeMap;

/// The line before the table.
const TITLE: &str = "## What may import what";
/// What introduces the pairs that may import each other.
const PAIRS: &str = "Only these import each other:";

/// The page's table.
pub(crate) struct Page {
    /// By crate, its layers from the top down.
    pub(crate) layers: BTreeMap<String, Vec<Vec<String>>>,
    /// The pairs of modules that may import each other, with their crate's name in front.
    pub(crate) pairs: Vec<(String, String)>,
}

impl Page {
    pub(crate) fn read() -> Self {
        let text = std::fs::read_to_string(super::workspace().join("ARCHITECTURE.md")).unwrap();
        let (_, after) = text.split_once(TITLE).expect("ARCHITECTURE.md has the table's title");
        let section = after.split("\n## ").next().unwrap();
        let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
        Self { layers: rows.map(row).collect(), pairs: pairs(section) }
    }
}

fn row(row: &str) -> (String, Vec<Vec<String>>) {
    let (name, rest) = row.split_once("` |").expect("a row names its crate in backquotes");
    let layers = rest.trim_end_matches(['|', ' ']).split('→');
    let layer = |layer: &str| layer.split('·').map(|name| name.trim().to_owned()).collect();
    (name.to_owned(), layers.map(layer).collect())
}

fn pairs(section: &str) -> Vec<(String, String)> {
    let line = section.lines().find_map(|line| line.strip_prefix(PAIRS)).unwrap_or_default();
    let names: Vec<&str> = line.split('`').skip(1).step_by(2).collect();
    names.chunks(2).map(|pair| (pair[0].to_owned(), pair[1].to_owned())).collect()
}
