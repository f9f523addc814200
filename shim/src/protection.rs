//! The layers of protection around a container, by name, so that tests can show what each is good for: an attack that a
//! layer stops must succeed without it.
//!
//! Only builds with debug assertions, such as tests are, can switch a layer off. In all others every layer is on,
//! whatever a configuration says.

use serde::{Deserialize, Serialize};

/// One layer. Namespaces and limits of the cgroup are not among them: without them nothing could be started, or what
/// an attack does without them is known.
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
    /// Those that are off, a bit each.
    off: u32,
}

impl Protection {
    /// All but these. In a build without debug assertions, all.
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
