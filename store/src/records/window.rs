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
    /// That of a process that ends now. `given_before_ms`: until when earlier ones have given terms, which may last although this one
    /// gives shorter ones.
    pub fn from(boot: BootId, now_ms: u64, length_ms: u64, given_before_ms: u64) -> Self {
        let until_ms = now_ms.saturating_add(length_ms).max(given_before_ms);
        Self { boot, until_ms, length_ms: until_ms.saturating_sub(now_ms) }
    }

    /// Until when a process that starts now has to reckon with it, on its own clock.
    pub fn until_ms(&self, boot: Option<BootId>, now_ms: u64) -> u64 {
        if boot == Some(self.boot) { self.until_ms } else { now_ms.saturating_add(self.length_ms) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_earlier_processes_gave_is_not_forgotten() {
        let boot = BootId::from_bytes([1; 16]);
        assert_eq!(
            Window::from(boot, 1_000, 5_000, 6_000),
            Window { boot, until_ms: 6_000, length_ms: 5_000 }
        );
        assert_eq!(
            Window::from(boot, 1_000, 5_000, 9_000),
            Window { boot, until_ms: 9_000, length_ms: 8_000 }
        );
    }

    #[test]
    fn after_a_boot_the_whole_length_counts() {
        let (boot, other) = (BootId::from_bytes([1; 16]), BootId::from_bytes([2; 16]));
        let window = Window { boot, until_ms: 500_000, length_ms: 120_000 };
        assert_eq!(window.until_ms(Some(boot), 390_000), 500_000);
        assert_eq!(window.until_ms(Some(other), 1_000), 121_000);
        assert_eq!(window.until_ms(None, 1_000), 121_000);
    }
}
