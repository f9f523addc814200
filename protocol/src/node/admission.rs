//! Whether an instance may start: checks of the request itself, of the object's other instances, and of the node's
//! room.

use std::collections::BTreeMap;

use berth_common::ids::{EdgeId, InstanceId};
use berth_common::spec::{MAX_ENV_BYTES, MAX_REQUIRED_PORTS, Resources, path_fault};
use berth_common::wire::call::{Capacity, Refusal, RefusalCode, Start};

use super::entry::Entry;

/// Most instances in the table, including ended ones that their owners have not forgotten yet.
const MAX_RECORDS: usize = 4096;

/// The result of an admitted request to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It may be entered, once the caller has reserved what else it needs.
    New,
    /// It was admitted before: nothing is left to do.
    Known,
}

pub(super) fn refuse<T>(code: RefusalCode, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { code, message: message.into() })
}

pub(super) fn not_owner<T>(instance: InstanceId) -> Result<T, Refusal> {
    refuse(RefusalCode::NotOwner, format!("the instance {instance} belongs to another edge"))
}

/// A repeated start, as after a lost answer, changes nothing.
pub(super) fn same_start(known: &Entry, owner: &EdgeId, start: &Start) -> Result<Admission, Refusal> {
    if known.owner != *owner {
        return not_owner(start.instance);
    }
    if known.object != start.object.id() || known.generation != start.generation {
        return refuse(RefusalCode::Invalid, "the instance's id is in use for another object or generation");
    }
    Ok(Admission::Known)
}

/// Refuses what no node can run.
pub(super) fn check_start(start: &Start) -> Result<(), Refusal> {
    let env_bytes: usize = start.recipe.env.iter().map(|(name, value)| name.len() + value.len()).sum();
    let ping_fault = start.ping_endpoint.as_deref().and_then(path_fault);
    let problem = if start.ready_port == Some(0) || start.required_ports.contains(&0) {
        "port 0 can never be ready"
    } else if start.required_ports.len() > MAX_REQUIRED_PORTS {
        "too many ports are required"
    } else if ping_fault.is_some() {
        "the ping endpoint is not a path"
    } else if start.recipe.resources.memory_bytes == 0 || start.recipe.resources.cpu_sixteenths == 0 {
        "an instance without memory or CPU cannot run"
    } else if env_bytes > MAX_ENV_BYTES {
        "the environment is too large"
    } else {
        return Ok(());
    };
    refuse(RefusalCode::Invalid, problem)
}

/// An object never has two instances here, and never an older one after a newer one.
pub(super) fn check_object(
    entries: &BTreeMap<InstanceId, Entry>,
    owner: &EdgeId,
    start: &Start,
) -> Result<(), Refusal> {
    let object = start.object.id();
    let mut others = entries.values().filter(|e| e.object == object && e.owner == *owner);
    if others.any(|other| other.generation >= start.generation) {
        return refuse(RefusalCode::Stale, "the node has had a newer instance of the object");
    }
    let mut others = entries.values().filter(|e| e.object == object && e.owner == *owner);
    if others.any(Entry::is_alive) {
        return refuse(
            RefusalCode::Invalid,
            "an older instance of the object still runs on the node: stop it first",
        );
    }
    Ok(())
}

/// Refuses if living instances and the new one together would exceed the node's capacity.
pub(super) fn check_capacity(
    entries: &BTreeMap<InstanceId, Entry>,
    limit: Capacity,
    wanted: &Resources,
) -> Result<(), Refusal> {
    if entries.len() >= MAX_RECORDS {
        let text = "too many ended instances wait on the node for their owners to take note of them";
        return refuse(RefusalCode::Capacity, text);
    }
    let (mut instances, mut memory, mut cpu) = (1_usize, wanted.memory_bytes, wanted.cpu_sixteenths);
    for entry in entries.values().filter(|e| e.is_alive()) {
        instances += 1;
        memory = memory.saturating_add(entry.resources.memory_bytes);
        cpu = cpu.saturating_add(entry.resources.cpu_sixteenths);
    }
    let text = if instances > usize::try_from(limit.instances).unwrap_or(usize::MAX) {
        format!("the node holds {} instances at most", limit.instances)
    } else if memory > limit.memory_bytes {
        format!("{memory} bytes of memory would be taken; the node has {}", limit.memory_bytes)
    } else if cpu > limit.cpu_sixteenths {
        format!("{cpu}/16 virtual CPUs would be taken; the node has {}/16", limit.cpu_sixteenths)
    } else {
        return Ok(());
    };
    refuse(RefusalCode::Capacity, text)
}
