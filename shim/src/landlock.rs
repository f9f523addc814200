//! Keeps a process to its own files, where the kernel can (Landlock). One layer more around what reads hostile input;
//! nothing depends on it.

use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus,
    path_beneath_rules,
};

use crate::sys;

/// The newest version whose rights are all asked for; older kernels give what they have.
const VERSION: ABI = ABI::V5;

/// The version that the kernel has, if any.
pub fn version() -> Option<i32> {
    sys::landlock_version().ok()
}

/// What a process may still do with files.
pub(crate) struct Files<'a> {
    /// Everything below these.
    pub(crate) own: &'a [&'a Path],
    /// Reading and running what is below these.
    pub(crate) read: &'a [&'a Path],
}

/// From now on this process, and all that it starts, can open and change nothing else. Tells whether the kernel sees to
/// it. What is not there needs no right.
pub(crate) fn keep_to(files: &Files<'_>) -> Result<bool, RulesetError> {
    let all = AccessFs::from_all(VERSION);
    let rules = Ruleset::default().handle_access(all)?.create()?;
    let rules = rules.add_rules(path_beneath_rules(files.own, all))?;
    let rules = rules.add_rules(path_beneath_rules(files.read, AccessFs::from_read(VERSION)))?;
    let status = rules.restrict_self()?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}
