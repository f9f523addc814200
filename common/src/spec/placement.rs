//! Where the instances of a class may be, and how they spread.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Most labels of a node, and of a class.
pub const MAX_LABELS: usize = 32;
/// Longest name and value of a label, in bytes: names, and nothing that people read.
const LABEL_BYTES: usize = 63;
/// Longest name of a region, in bytes.
const REGION_BYTES: usize = 64;

/// Why a text is no name of a region, if it is none.
pub fn region_fault(text: &str) -> Option<String> {
    let sound = (1..=REGION_BYTES).contains(&text.len()) && !text.chars().any(char::is_control);
    (!sound).then(|| format!("is no region; expected 1 to {REGION_BYTES} bytes of text"))
}

/// Why a text is no name or value of a label, if it is none.
pub fn label_fault(text: &str) -> Option<String> {
    let known = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    let sound = (1..=LABEL_BYTES).contains(&text.len()) && text.chars().all(known);
    (!sound)
        .then(|| format!("is no label; expected 1 to {LABEL_BYTES} letters, digits, `-`, `_`, `.` and `/`"))
}

/// A label as people write it: `key=value`.
pub fn parse_label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE, such as gpu=a100")?;
    match [key, value].into_iter().find_map(|part| Some((part, label_fault(part)?))) {
        Some((part, fault)) => Err(format!("{part:?} {fault}")),
        None => Ok((key.to_owned(), value.to_owned())),
    }
}

/// Where the instances of a class may be.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PlacementSpec {
    /// The regions, if not all.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub regions: BTreeSet<String>,
    /// What their nodes must be labelled with.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What they spread over, if they are to. Else they go where most room is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<Spread>,
}

/// What the instances of a class spread over: those are taken first that have the fewest of them.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spread {
    /// Nodes.
    Node,
    /// Regions.
    Region,
}

/// What becomes of an instance whose node is lost, or drained.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnNodeGone {
    /// Its object has another one when it is asked for.
    #[default]
    OnDemand,
    /// Its object has another one elsewhere at once, or as soon as there is room.
    Restart,
}

impl OnNodeGone {
    /// Whether nothing is said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl PlacementSpec {
    /// Whether nothing is said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_short_and_plain() {
        assert_eq!(parse_label("gpu=a100"), Ok(("gpu".to_owned(), "a100".to_owned())));
        assert_eq!(parse_label("example.org/rack=7"), Ok(("example.org/rack".to_owned(), "7".to_owned())));
        for bad in ["gpu", "=a", "gpu=", "gpu=a b", "gpu=a=b", "g\u{fc}=1"] {
            assert!(parse_label(bad).is_err(), "{bad}");
        }
        assert!(label_fault(&"a".repeat(63)).is_none() && label_fault(&"a".repeat(64)).is_some());
    }
}
