//! The node itself: its name and location, which its containers get as variables, and the memory of its machine.

use berth_common::ids::NodeId;

/// The node's name and location.
#[derive(Debug, Clone)]
pub struct Site {
    /// The node's name.
    pub node: NodeId,
    /// Its country, in two letters.
    pub country: String,
    /// Its region.
    pub region: String,
    /// Its location.
    pub location: String,
}

impl Site {
    /// The environment variables of every container on the node; the names are without prefix.
    pub(crate) fn variables(&self) -> [(&'static str, &str); 4] {
        [
            ("COUNTRY_A2", &self.country),
            ("LOCATION", &self.location),
            ("NODE_ID", self.node.as_str()),
            ("REGION", &self.region),
        ]
    }
}

/// One of the sizes in the text of `/proc/meminfo`, in bytes.
pub(crate) fn memory_of(what: &str, meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':'))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_memory_is_read() {
        assert_eq!(memory_of("MemTotal", "MemTotal:       16384 kB\nMemFree: 1 kB\n"), Some(16 << 20));
        assert_eq!(memory_of("MemTotal", "MemFree: 1 kB\n"), None);
    }
}
