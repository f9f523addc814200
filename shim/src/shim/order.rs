//! What a shim is asked to do, as the agent has written it down.

use std::io;

use super::directory::Directory;
use crate::messages::{Assignment, ContainerConfig};

/// What to do for a container.
pub(super) struct Order {
    /// What to make it from.
    pub(super) config: ContainerConfig,
    /// Whose it is, where that is known.
    pub(super) assignment: Option<Assignment>,
}

impl Order {
    /// Takes what the agent has put in the shim's directory; `assigned`: the container is an instance's from the start.
    pub(super) fn take(directory: &Directory, assigned: bool) -> io::Result<Self> {
        let config = directory.take("shim.json")?;
        let assignment = if assigned { Some(directory.take("run.json")?) } else { None };
        Ok(Self { config, assignment })
    }
}
