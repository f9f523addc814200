//! The order of a shim, read from the files that the agent has written.

use std::io;

use super::agents::AgentId;
use super::directory::Directory;
use crate::messages::{Assignment, ContainerConfig, ShimCall};

/// The order to make a container.
pub(super) struct Order {
    /// The container's configuration.
    pub(super) config: ContainerConfig,
    /// Its instance, if already assigned.
    pub(super) assignment: Option<Assignment>,
    /// What came together with it, such as the end of an instance that nobody waits for any more.
    pub(super) after: Vec<(AgentId, ShimCall)>,
}

impl Order {
    /// Reads and removes the files in the shim's directory. `assigned`: the container is an instance's from the start.
    pub(super) fn take(directory: &Directory, assigned: bool) -> io::Result<Self> {
        let config = directory.take("shim.json")?;
        let assignment = if assigned { Some(directory.take("run.json")?) } else { None };
        Ok(Self { config, assignment, after: Vec::new() })
    }
}
