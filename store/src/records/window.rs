//! Until when an edge that has ended in good order has let its instances go on.

use berth_common::wire::term::BootId;
use serde::{Deserialize, Serialize};

/// The longest term that an ending process has given to any node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// The boot of the edge's machine.
    pub boot: BootId,
    /// Until when, in milliseconds of `CLOCK_BOOTTIME` there.
    pub until_ms: u64,
    /// How long that was when it was written, in milliseconds: for a process that starts in another boot.
    pub length_ms: u64,
}

impl Window {
    /// Until when a process that starts now has to reckon with it, on its own clock.
    pub fn until_ms(&self, boot: Option<BootId>, now_ms: u64) -> u64 {
        if boot == Some(self.boot) { self.until_ms } else { now_ms.saturating_add(self.length_ms) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_boot_the_whole_length_counts() {
        let (boot, other) = (BootId::from_bytes([1; 16]), BootId::from_bytes([2; 16]));
        let window = Window { boot, until_ms: 500_000, length_ms: 120_000 };
        assert_eq!(window.until_ms(Some(boot), 390_000), 500_000);
        assert_eq!(window.until_ms(Some(other), 1_000), 121_000);
        assert_eq!(window.until_ms(None, 1_000), 121_000);
    }
}
