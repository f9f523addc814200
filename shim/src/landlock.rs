//! Restricts a process to its own files with Landlock, if the kernel has it. Defence in depth for processes that read
//! untrusted input; nothing depends on it.

use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus,
    path_beneath_rules,
};

use crate::sys;

/// The newest ABI version whose rights are requested; older kernels enforce those that they know.
const VERSION: ABI = ABI::V5;

/// The kernel's ABI version, if it has Landlock.
pub fn version() -> Option<i32> {
    sys::landlock_version().ok()
}

/// The files that a process keeps access to.
pub(crate) struct Files<'a> {
    /// Everything below these.
    pub(crate) own: &'a [&'a Path],
    /// Reading and running what is below these.
    pub(crate) read: &'a [&'a Path],
}

/// Restricts this process, and all that it starts, to these files. Returns whether the kernel enforces it. Missing
/// paths are skipped.
pub(crate) fn keep_to(files: &Files<'_>) -> Result<bool, RulesetError> {
    let all = AccessFs::from_all(VERSION);
    let rules = Ruleset::default().handle_access(all)?.create()?;
    let rules = rules.add_rules(path_beneath_rules(files.own, all))?;
    let rules = rules.add_rules(path_beneath_rules(files.read, AccessFs::from_read(VERSION)))?;
    let status = rules.restrict_self()?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}
