//! The usage of an instance over its whole life, as measured by its node.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The resolution of lifetimes, in milliseconds.
pub const STEP_MS: u64 = 10;

/// The usage of an instance that ran, from the start of its app to the end of its first process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metered {
    /// When the app was started, in milliseconds since 1970. Durations are not computed from it: this clock may jump.
    pub started_ms: u64,
    /// How long it lived, in steps of 10 ms, on the boot-time clock, which counts suspension and never jumps.
    pub lived_cs: u64,
    /// CPU time, in microseconds.
    #[serde(default)]
    pub cpu_us: u64,
    /// Received from the internet and through the tunnel, in bytes.
    #[serde(default)]
    pub received_bytes: u64,
    /// Sent to the internet and through the tunnel, in bytes.
    #[serde(default)]
    pub sent_bytes: u64,
    /// The region of its node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The end is an estimate, because its shim was gone by then.
    #[serde(default)]
    pub estimated: bool,
}

impl Metered {
    /// An estimated life of this length, without other usage.
    pub fn estimate(started_ms: u64, lived: Duration) -> Self {
        Self {
            started_ms,
            lived_cs: steps(lived),
            cpu_us: 0,
            received_bytes: 0,
            sent_bytes: 0,
            region: None,
            estimated: true,
        }
    }
}

/// A duration in steps of 10 ms, rounded.
pub fn steps(length: Duration) -> u64 {
    u64::try_from((length.as_micros() + 5_000) / 10_000).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_the_nearest() {
        for (us, expected) in
            [(0, 0), (4_999, 0), (5_000, 1), (14_999, 1), (15_000, 2), (3_600_000_000, 360_000)]
        {
            assert_eq!(steps(Duration::from_micros(us)), expected, "{us} us");
        }
        assert_eq!(steps(Duration::MAX), u64::MAX);
    }

    #[test]
    fn fields_of_other_versions_are_bridged() {
        let text = r#"{"started_ms":5,"lived_cs":7,"colour":"red"}"#;
        let metered: Metered = serde_json::from_str(text).unwrap();
        assert_eq!((metered.started_ms, metered.lived_cs, metered.estimated), (5, 7, false));
    }
}
