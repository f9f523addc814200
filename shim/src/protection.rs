//! The layers of protection around a container, by name, so that tests can show what each prevents: an attack that a
//! layer stops must succeed without it.
//!
//! Only builds with debug assertions can switch a layer off. In all others every layer is on, whatever the
//! configuration.

use serde::{Deserialize, Serialize};

/// One layer. Namespaces and cgroup limits are not included: containers cannot start without namespaces, and the effect
/// of missing limits is obvious.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// The filter of system calls.
    Seccomp,
    /// No capabilities but those that the class asked for.
    Capabilities,
    /// No privileges are gained by running a program.
    NoNewPrivileges,
    /// Files of /proc and /sys that are covered.
    MaskedPaths,
    /// Files of /proc that are read-only.
    ReadOnlyPaths,
    /// The read-only /sys.
    ReadOnlySys,
    /// Bounds on what the kernel counts for each user.
    UserCounters,
    /// The rules in the network namespace.
    Firewall,
}

/// Which layers are on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protection {
    /// Bit set of the layers that are off.
    off: u32,
}

impl Protection {
    /// All layers except these. In a build without debug assertions, all.
    pub fn without(off: &[Layer]) -> Self {
        let off = off.iter().fold(0, |bits, layer| bits | 1 << *layer as u32);
        if cfg!(debug_assertions) { Self { off } } else { Self::default() }
    }

    /// Whether a layer is on.
    pub fn has(self, layer: Layer) -> bool {
        !cfg!(debug_assertions) || self.off & (1 << layer as u32) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_on_but_those_that_are_named() {
        assert!(Protection::default().has(Layer::Seccomp));
        let layers = Protection::without(&[Layer::Firewall, Layer::MaskedPaths]);
        assert!(
            !layers.has(Layer::Firewall) && !layers.has(Layer::MaskedPaths) && layers.has(Layer::Seccomp)
        );
    }
}
