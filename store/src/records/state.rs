//! What the objects of programs keep: keys with values, and the pages of their databases.

use berth_common::ids::{ObjectId, ObjectKey};
use serde::{Deserialize, Serialize};

/// An object that keeps something. Its parts are values of their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateHead {
    /// The object: its name is its id, in hexadecimal digits.
    pub key: ObjectKey,
    /// The name that its id was made of, if it was made of one.
    #[serde(default)]
    pub name: Option<String>,
    /// How many pages its database has.
    #[serde(default)]
    pub page_count: u32,
    /// What all that it keeps takes up, in bytes, as it is counted.
    #[serde(default)]
    pub bytes: u64,
}

/// All that an object keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredState {
    /// The object.
    pub head: StateHead,
    /// Its values, in the order of their keys.
    pub values: Vec<(String, Vec<u8>)>,
    /// The pages of its database, in their order.
    pub pages: Vec<(u32, Vec<u8>)>,
}

/// A change of what an object keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateChange {
    /// The object.
    pub object: ObjectId,
    /// What it is from now on; None where it keeps nothing any more.
    pub head: Option<StateHead>,
    /// Whether all values that were there go, before anything else.
    pub clear: bool,
    /// Keys with their new values; without one, the key goes.
    pub values: Vec<(String, Option<Vec<u8>>)>,
    /// Pages with their new content. Those beyond the head's count go.
    pub pages: Vec<(u32, Vec<u8>)>,
}

impl StateChange {
    /// All that an object keeps, where it kept nothing.
    pub fn whole(StoredState { head, values, pages }: StoredState) -> Self {
        let values = values.into_iter().map(|(key, value)| (key, Some(value))).collect();
        Self { object: head.key.id(), head: Some(head), clear: true, values, pages }
    }

    /// The removal of all that an object keeps.
    pub fn gone(object: ObjectId) -> Self {
        Self { object, head: None, clear: true, values: Vec::new(), pages: Vec::new() }
    }

    /// About how many bytes it has.
    pub fn bytes(&self) -> usize {
        let values = self
            .values
            .iter()
            .map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len))
            .sum::<usize>();
        values + self.pages.iter().map(|(_, page)| page.len()).sum::<usize>()
    }
}
