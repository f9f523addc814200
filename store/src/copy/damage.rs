//! What of a store cannot be read, while the rest of it is: one damaged entry hides no other.

use anyhow::{Result, bail};

use crate::StoreError;

/// Damaged entries that are named; of further ones only the number is told, as a whole table may be damaged.
const NAMED: usize = 1_000;

/// What was damaged of a store.
#[derive(Debug, Default)]
pub struct Damage {
    /// Each with what it is of and the reason, up to so many.
    pub named: Vec<StoreError>,
    /// How many entries were damaged.
    pub count: u64,
    /// Whether the first one ends everything.
    ends: bool,
}

impl Damage {
    /// The first damaged entry ends the reading, with an error that says how to go on.
    pub(super) fn that_ends() -> Self {
        Self { ends: true, ..Self::default() }
    }

    /// Notes why an entry was not read. Whatever is not the damage of one entry is an error.
    pub(super) fn take(&mut self, error: StoreError) -> Result<()> {
        if !matches!(error, StoreError::Damaged { .. }) {
            return Err(error.into());
        }
        if self.ends {
            bail!(
                "{error}. Nothing was exported: `berth store verify` names all that is damaged, and an export with \
                 --without-damaged has everything else"
            );
        }
        self.count += 1;
        if self.named.len() < NAMED {
            self.named.push(error);
        }
        Ok(())
    }
}
