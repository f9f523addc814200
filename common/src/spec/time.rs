//! Times after which something is done, if ever.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A time after which something is done, or that it never is. As JSON: milliseconds, or `"never"`.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TimeOrNever {
    /// After this time, in milliseconds.
    Ms(u64),
    /// Never.
    Never(Never),
}

/// The word for it.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Never {
    /// The only one.
    Never,
}

/// How long after its node was last heard of an instance counts as lost, at the most. At least two terms: none may run there
/// any more by then. At most as long as anything of a class may take.
pub const NODE_LOSS_BOUNDS: RangeInclusive<Duration> =
    Duration::from_secs(30)..=Duration::from_secs(30 * 24 * 3600);

impl TimeOrNever {
    /// Never.
    pub const NEVER: Self = Self::Never(Never::Never);

    /// The time, if there is one.
    pub fn time(self) -> Option<Duration> {
        match self {
            Self::Ms(ms) => Some(Duration::from_millis(ms)),
            Self::Never(_) => None,
        }
    }
}

impl From<Duration> for TimeOrNever {
    fn from(time: Duration) -> Self {
        Self::Ms(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for TimeOrNever {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.time() {
            Some(time) => humantime::format_duration(time).fmt(f),
            None => f.write_str("never"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_milliseconds_and_never_is_a_word() {
        for (time, text) in
            [(TimeOrNever::from(Duration::from_secs(2)), "2000"), (TimeOrNever::NEVER, "\"never\"")]
        {
            assert_eq!(serde_json::to_string(&time).unwrap(), text);
            assert_eq!(serde_json::from_str::<TimeOrNever>(text).unwrap(), time);
        }
        for bad in ["\"ever\"", "-1", "null", "1.5"] {
            assert!(serde_json::from_str::<TimeOrNever>(bad).is_err(), "{bad}");
        }
    }
}
